//! The HTTP cache in front of an upstream that does what the test says.

mod coding;
mod edits;
mod exchanges;
mod filters;
mod handlers;
mod hostile;
mod interim;
mod keys;
mod operation;
mod origin;
mod passing;
mod purge;
mod routes;
mod secure;
mod suite;
mod trouble;
