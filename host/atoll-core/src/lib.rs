//! The decisions of an Atoll node. No sockets, files, clocks or tasks: time and dice are arguments.
#![forbid(unsafe_code)]
