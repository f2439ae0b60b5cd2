//! What HEAD gets, and what it leaves behind.
