//! The RESP door: existing Redis clients.
