//! The HTTP cache in front of an upstream that does what the test says.

mod coding;
mod disk;
mod edits;
mod exchanges;
mod fills;
mod filters;
mod handler_purges;
mod handlers;
mod hostile;
mod interim;
mod keys;
mod lasting;
mod operation;
pub(crate) mod origin;
mod passing;
mod purge;
mod replicate;
mod replicate_guests;
mod replicate_pace;
mod routes;
mod secure;
mod selection;
mod shield;
mod suite;
mod trouble;
mod upstream_http2;
mod whole;
