//! Builds the example handlers.
