//! The hosts that a handler under test can reach: functions of the test.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use super::with_node;
use crate::bindings::atoll::edge::fetch as raw;
use crate::fetch;

// The bounds of a node.
const FETCHES_MAX: u32 = 64;
const FETCH_BYTES_MAX: usize = 8 << 20;
const FETCH_MANY_BYTES_MAX: usize = 32 << 20;

type Upstream = Rc<dyn Fn(&fetch::Outgoing) -> fetch::Incoming>;

/// Hosts by scheme and authority, and what the present request may still ask of them.
#[derive(Default)]
pub(super) struct Upstreams {
    by_origin: BTreeMap<String, Upstream>,
    sent: u32,
}

impl Upstreams {
    pub(super) fn add(
        &mut self,
        origin: &str,
        answer: impl Fn(&fetch::Outgoing) -> fetch::Incoming + 'static,
    ) {
        self.by_origin.insert(origin.trim_end_matches('/').to_owned(), Rc::new(answer));
    }

    /// Another request of the handler begins.
    pub(super) fn begin(&mut self) {
        self.sent = 0;
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.by_origin.keys()).finish()
    }
}

/// Splits `https://host:8443/path` before the path.
fn origin(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let is_known = matches!(scheme, "http" | "https") && !authority.is_empty();
    is_known.then(|| (scheme, authority, &url[..scheme.len() + 3 + end]))
}

/// `atoll:edge/fetch.send`.
pub(crate) fn send(request: &raw::Outgoing) -> Result<raw::Incoming, raw::Error> {
    let not_absolute = "the URL is not absolute: write http://HOST/PATH or https://HOST/PATH";
    let (scheme, authority, origin) =
        origin(&request.url).ok_or_else(|| raw::Error::Invalid(not_absolute.to_owned()))?;
    let upstream = with_node(|node| {
        node.upstreams.sent += 1;
        if node.upstreams.sent > FETCHES_MAX {
            return Err(raw::Error::TooMany("too many requests are under way".to_owned()));
        }
        node.grants.check_host(scheme, authority)?;
        let upstream = node.upstreams.by_origin.get(origin).cloned();
        upstream.ok_or_else(|| raw::Error::HostNotFound(format!("the test has no {origin}")))
    })?;
    // Not while the node is taken: the test's function may use it.
    let answer = upstream(&fetch::Outgoing::of_raw(request.clone())).into_raw();
    if answer.body.len() > FETCH_BYTES_MAX {
        let text = format!("the answer's body has more than {FETCH_BYTES_MAX} bytes");
        return Err(raw::Error::TooLarge(text));
    }
    Ok(answer)
}

/// `atoll:edge/fetch.send-many`. Here one answers after the other.
pub(crate) fn send_many(requests: &[raw::Outgoing]) -> Vec<Result<raw::Incoming, raw::Error>> {
    if requests.len() > FETCHES_MAX as usize {
        let refused = || Err(raw::Error::TooMany(format!("more than {FETCHES_MAX} at once")));
        return requests.iter().map(|_| refused()).collect();
    }
    let mut left = FETCH_MANY_BYTES_MAX;
    let answers = requests.iter().map(|request| {
        let answer = send(request)?;
        left = left.checked_sub(answer.body.len()).ok_or_else(|| {
            let text = format!("the bodies together have more than {FETCH_MANY_BYTES_MAX} bytes");
            raw::Error::TooLarge(text)
        })?;
        Ok(answer)
    });
    answers.collect()
}
