//! The HTTP cache in front of an upstream that does what the test says.

mod exchanges;
mod origin;
mod passing;
mod purge;
mod trouble;
