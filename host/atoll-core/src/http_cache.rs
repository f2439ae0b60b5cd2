//! What a shared HTTP cache may store and serve, and when it has to ask: RFC 9111 and its neighbours.
//!
//! Decides on heads alone: no bodies, no storage, no clock. What each sentence of RFC 9111 came to is
//! a table, in `requirements`.

pub mod coding;
pub mod control;
pub mod date;
pub mod directive;
pub mod fields;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod keys;
pub mod partial;
pub mod passage;
pub mod precondition;
pub mod purge;
pub mod report;
pub mod reuse;
pub mod sharing;
pub mod storing;
pub mod tags;
pub mod targeted;
pub mod validation;
pub mod vary;
pub mod words;

#[cfg(test)]
mod requirements;

/// Fields as tests write them.
#[cfg(test)]
fn headers(fields: &[(&str, &str)]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in fields {
        let name = http::HeaderName::try_from(*name).expect("a name");
        headers.append(name, http::HeaderValue::from_str(value).expect("a value"));
    }
    headers
}
