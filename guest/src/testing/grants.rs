//! What the handler under test may do, written and refused as on a node.

use super::purges::{self, Named};
use crate::bindings::atoll::edge::cache::PurgeError;
use crate::bindings::atoll::edge::fetch;
use crate::bindings::atoll::edge::kv::Error;

/// Grants for keys, hosts and purges. What is not among them is denied.
#[derive(Debug)]
pub(super) struct Grants {
    keys: Vec<KeyGrant>,
    /// As they were written: `example.com`, `*.example.com`, `10.0.0.7:8000`.
    hosts: Vec<String>,
    purges: Vec<PurgeGrant>,
}

/// What may be purged: everything, or what the word names.
#[derive(Debug)]
struct PurgeGrant {
    /// `host`, `prefix`, `tag`; `None` for everything.
    of: Option<(&'static str, String)>,
}

#[derive(Debug)]
struct KeyGrant {
    bucket: String,
    prefix: String,
    reads: bool,
    writes: bool,
}

impl Grants {
    /// Reads grants as `atoll deploy` does. Panics at what is none.
    #[track_caller]
    pub(super) fn new(texts: &[&str]) -> Grants {
        let mut grants = Grants { keys: Vec::new(), hosts: Vec::new(), purges: Vec::new() };
        for text in texts {
            if let Some(purge) = text.strip_prefix("purge").and_then(parse_purge) {
                grants.purges.push(purge);
                continue;
            }
            match (text.strip_prefix("http:"), parse(text)) {
                (Some(host), _) if !host.is_empty() && !host.contains('/') => {
                    grants.hosts.push(host.to_ascii_lowercase());
                }
                (_, Some(key)) => grants.keys.push(key),
                _ => panic!(
                    "{text:?} is no grant: write kv:BUCKET=rw, kv:BUCKET/PREFIX=r (r, w or rw), \
                     http:example.com, http:*.example.com, http:10.0.0.7:8000, purge, \
                     purge:host=HOST, purge:prefix=HOST/PATH or purge:tag=TAG"
                ),
            }
        }
        grants
    }

    /// Whether a request may be sent there. `authority` is a host, perhaps with a port.
    pub(super) fn check_host(&self, scheme: &str, authority: &str) -> Result<(), fetch::Error> {
        // The usual port is not written in a grant.
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(usual).unwrap_or(authority).to_ascii_lowercase();
        let allows = |grant: &String| match grant.strip_prefix('*') {
            None => *grant == authority,
            Some(tail) => authority.len() > tail.len() && authority.ends_with(tail),
        };
        match self.hosts.iter().any(allows) {
            true => Ok(()),
            false => Err(fetch::Error::Denied(format!(
                "http:{authority} is not granted; deploy the handler with --grant http:{authority}"
            ))),
        }
    }

    /// Whether this may be purged.
    pub(super) fn check_purge(&self, named: &Named<'_>) -> Result<(), PurgeError> {
        if self.purges.iter().any(|grant| grant.allows(named)) {
            return Ok(());
        }
        let grant = match named.word {
            "all" => "purge".to_owned(),
            "url" | "prefix" => format!("purge:prefix={}", named.key),
            word => format!("purge:{word}={}", named.key),
        };
        let text = format!("{grant} is not granted; deploy the handler with --grant {grant}");
        Err(PurgeError::Denied(text))
    }

    pub(super) fn check_open(&self, bucket: &str) -> Result<(), Error> {
        match self.keys.iter().any(|grant| grant.bucket == bucket) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}=r is not granted"))),
        }
    }

    pub(super) fn reads(&self, bucket: &str, key: &str) -> bool {
        self.covering(bucket, key).any(|grant| grant.reads)
    }

    pub(super) fn check_read(&self, bucket: &str, key: &str) -> Result<(), Error> {
        match self.reads(bucket, key) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}/{key}=r is not granted"))),
        }
    }

    pub(super) fn check_write(&self, bucket: &str, key: &str) -> Result<(), Error> {
        match self.covering(bucket, key).any(|grant| grant.writes) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}/{key}=w is not granted"))),
        }
    }

    /// Denied where not one key with the prefix may be read.
    pub(super) fn check_list(&self, bucket: &str, prefix: &str) -> Result<(), Error> {
        let mut readable = self.keys.iter().filter(|grant| grant.bucket == bucket && grant.reads);
        let overlaps = |grant: &KeyGrant| {
            prefix.starts_with(&grant.prefix) || grant.prefix.starts_with(prefix)
        };
        match readable.any(overlaps) {
            true => Ok(()),
            false => Err(Error::Denied(format!("kv:{bucket}/{prefix}=r is not granted"))),
        }
    }

    fn covering<'a>(&'a self, bucket: &'a str, key: &'a str) -> impl Iterator<Item = &'a KeyGrant> {
        let keys = self.keys.iter();
        keys.filter(move |grant| grant.bucket == bucket && key.starts_with(&grant.prefix))
    }
}

impl PurgeGrant {
    fn allows(&self, named: &Named<'_>) -> bool {
        let Some((word, granted)) = &self.of else { return true };
        let key = named.key.as_str();
        let (host, path) = key.split_at(key.find('/').unwrap_or(key.len()));
        match (*word, named.word) {
            ("host", "host") => is_host(granted, key),
            ("host", "url" | "prefix") => is_host(granted, host),
            ("prefix", "url" | "prefix") if granted.starts_with('/') => path.starts_with(granted),
            ("prefix", "url" | "prefix") => key.starts_with(granted),
            ("tag", "tag") => match granted.strip_suffix('*') {
                Some(start) => key.starts_with(start),
                None => key == granted,
            },
            _ => false,
        }
    }
}

fn is_host(granted: &str, host: &str) -> bool {
    match granted.strip_prefix('*') {
        Some(below) => host.len() > below.len() && host.ends_with(below),
        None => host == granted,
    }
}

/// Reads what stands after `purge`.
fn parse_purge(rest: &str) -> Option<PurgeGrant> {
    if rest.is_empty() {
        return Some(PurgeGrant { of: None });
    }
    let (word, name) = rest.strip_prefix(':')?.split_once('=')?;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let of = match word {
        "host" if !name.contains('/') => ("host", purges::host_of(name)),
        "prefix" => ("prefix", purges::url_key(name)?),
        "tag" => ("tag", name.to_owned()),
        _ => return None,
    };
    Some(PurgeGrant { of: Some(of) })
}

fn parse(text: &str) -> Option<KeyGrant> {
    let (scope, access) = text.strip_prefix("kv:")?.rsplit_once('=')?;
    let (bucket, prefix) = scope.split_once('/').unwrap_or((scope, ""));
    let (reads, writes) = match access {
        "r" => (true, false),
        "w" => (false, true),
        "rw" => (true, true),
        _ => return None,
    };
    super::store::check_bucket(bucket).ok().filter(|()| !bucket.starts_with('_'))?;
    Some(KeyGrant { bucket: bucket.to_owned(), prefix: prefix.to_owned(), reads, writes })
}
