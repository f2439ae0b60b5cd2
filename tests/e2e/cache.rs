//! The HTTP cache in front of an upstream that does what the test says.

mod exchanges;
mod interim;
mod origin;
mod passing;
mod purge;
mod suite;
mod trouble;
