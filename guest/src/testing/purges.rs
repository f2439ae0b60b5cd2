//! What a handler under test has purged, checked as on a node.

use super::with_node;
use crate::bindings::atoll::edge::cache::{PurgeError, PurgeScope, PurgeStrength};

// The bounds of a node.
const PURGES_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 8 << 10;

/// The purges of a node, and how many more names the present request may purge.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// `hard tag news`.
    pub(super) done: Vec<String>,
    names: usize,
}

impl Purges {
    /// Another request of the handler begins.
    pub(super) fn begin(&mut self) {
        self.names = 0;
    }
}

/// A name as a node compares it: the key of a URL, a host in lower case.
pub(super) struct Named<'a> {
    pub(super) word: &'static str,
    pub(super) written: &'a str,
    pub(super) key: String,
}

/// `atoll:edge/cache.purge`.
pub(crate) fn purge(scopes: &[PurgeScope], strength: PurgeStrength) -> Result<(), PurgeError> {
    with_node(|node| {
        if node.purges.names + scopes.len() > PURGES_MAX {
            let text = format!("one call may purge {PURGES_MAX} names, not more");
            return Err(PurgeError::TooMany(text));
        }
        node.purges.names += scopes.len();
        if scopes.is_empty() {
            let text = "it names nothing that is to be purged";
            return Err(PurgeError::Invalid(text.to_owned()));
        }
        let named: Result<Vec<Named<'_>>, _> = scopes
            .iter()
            .map(|scope| {
                let named = named(scope)?;
                node.grants.check_purge(&named)?;
                Ok(named)
            })
            .collect();
        let strength = if strength == PurgeStrength::Soft { "soft" } else { "hard" };
        for Named { word, written, .. } in named? {
            if (strength, word) == ("hard", "tag") {
                node.store.purge(written);
            }
            node.purges.done.push(format!("{strength} {word} {written}").trim_end().to_owned());
        }
        Ok(())
    })
}

fn named(scope: &PurgeScope) -> Result<Named<'_>, PurgeError> {
    let (word, written) = match scope {
        PurgeScope::Url(name) => ("url", name.as_str()),
        PurgeScope::Prefix(name) => ("prefix", name.as_str()),
        PurgeScope::Tag(name) => ("tag", name.as_str()),
        PurgeScope::Host(name) => ("host", name.as_str()),
        PurgeScope::All => return Ok(Named { word: "all", written: "", key: String::new() }),
    };
    let key = match word {
        "url" | "prefix" => url_key(written),
        "host" => Some(host_of(written)),
        _ => Some(written.to_owned()),
    };
    let no_url = || {
        let wanted = "write http://HOST/PATH, or /PATH for every host";
        PurgeError::Invalid(format!("{written:?} is no URL: {wanted}"))
    };
    let key = key.ok_or_else(no_url)?;
    if !(1..=NAME_BYTES_MAX).contains(&key.len()) {
        let bounds = format!("a purge names at most {NAME_BYTES_MAX} bytes, and at least one");
        return Err(PurgeError::Invalid(format!("{word} {written:?}: {bounds}")));
    }
    Ok(Named { word, written, key })
}

/// `host/path?query`; the host is empty where the path is one of every host.
pub(super) fn url_key(url: &str) -> Option<String> {
    let url = url.split('#').next().unwrap_or_default();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| {
        url.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
    });
    let rest = &url[scheme.map_or(0, str::len)..];
    let (host, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_fine = rest.bytes().all(|byte| byte.is_ascii_graphic())
        && !host.contains('@')
        && (!host.is_empty() || after.starts_with('/'));
    let slash = if after.starts_with('/') { "" } else { "/" };
    is_fine.then(|| format!("{}{slash}{after}", host_of(host)))
}

pub(super) fn host_of(authority: &str) -> String {
    let host = authority.strip_suffix(":80").or(authority.strip_suffix(":443"));
    host.unwrap_or(authority).to_ascii_lowercase()
}
