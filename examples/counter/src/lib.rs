//! An example handler.
