//! What a handler may do beside computing: its grants. What is not granted is denied.

use crate::key::BucketName;
use crate::limits::PATTERN_BYTES_MAX;
use crate::secret;
use std::fmt;
use std::str::FromStr;

pub mod purge;

use purge::PurgeGrant;

/// Something that a handler may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `kv:BUCKET[/PREFIX]=r|w|rw`: keys of a bucket.
    Kv(KvGrant),
    /// `http:HOST[:PORT]`: requests to a host.
    Http(HttpGrant),
    /// `secret:NAME`: reading a secret.
    Secret(String),
    /// `purge`, `purge:host=HOST`, `purge:prefix=URL`, `purge:tag=TAG`: taking back what caches hold.
    Purge(PurgeGrant),
}

/// Some keys of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvGrant {
    /// The bucket.
    pub bucket: BucketName,
    /// Keys start with it; empty for all.
    pub prefix: String,
    /// What may be done there.
    pub access: Access,
}

/// Reading, writing, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Get, list, watch.
    Read,
    /// Set and delete.
    Write,
    /// All of it.
    ReadWrite,
}

/// A host that requests may be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGrant {
    /// Lower case; with a leading dot, all names below it.
    host: String,
    /// `None`: 80 for `http`, 443 for `https`.
    port: Option<u16>,
}

/// Why text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no grant: write kv:BUCKET=rw, kv:BUCKET/PREFIX=r (r, w or rw), http:example.com, \
     http:*.example.com, http:10.0.0.7:8000, secret:NAME, purge, purge:host=HOST, \
     purge:prefix=HOST/PATH or purge:tag=TAG"
)]
pub struct GrantError(pub String);

impl Access {
    /// Whether reading is part of it.
    pub fn reads(self) -> bool {
        self != Access::Write
    }

    /// Whether writing is part of it.
    pub fn writes(self) -> bool {
        self != Access::Read
    }
}

impl HttpGrant {
    /// Whether a request to `host` (without its port) is allowed. `default_port` is that of the
    /// request's scheme.
    pub fn allows(&self, host: &str, port: u16, default_port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let fits = match self.host.strip_prefix('.') {
            None => host.eq_ignore_ascii_case(&self.host),
            Some(_) => {
                let start = host.len().checked_sub(self.host.len()).filter(|&start| start > 0);
                let tail = start.and_then(|start| host.get(start..));
                tail.is_some_and(|tail| tail.eq_ignore_ascii_case(&self.host))
            }
        };
        fits && port == self.port.unwrap_or(default_port)
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Grant, GrantError> {
        let parsed = match text.split_once(':') {
            _ if text.len() > PATTERN_BYTES_MAX => None,
            _ if text.starts_with("purge") => {
                text.strip_prefix("purge").and_then(PurgeGrant::parse).map(Grant::Purge)
            }
            Some(("kv", rest)) => parse_kv(rest).map(Grant::Kv),
            Some(("http", rest)) => parse_http(rest).map(Grant::Http),
            Some(("secret", name)) => {
                secret::check_name(name).ok().map(|()| Grant::Secret(name.to_owned()))
            }
            _ => None,
        };
        parsed.ok_or_else(|| GrantError(text.to_owned()))
    }
}

fn parse_kv(text: &str) -> Option<KvGrant> {
    let (scope, access) = text.rsplit_once('=')?;
    let (bucket, prefix) = scope.split_once('/').unwrap_or((scope, ""));
    let bucket = BucketName::new(bucket).ok().filter(|bucket| !bucket.is_internal())?;
    let access = match access {
        "r" => Access::Read,
        "w" => Access::Write,
        "rw" => Access::ReadWrite,
        _ => return None,
    };
    Some(KvGrant { bucket, prefix: prefix.to_owned(), access })
}

fn parse_http(text: &str) -> Option<HttpGrant> {
    // The colons of an IPv6 address stand in brackets.
    let bracket = text.find(']').map_or(0, |end| end + 1);
    let (host, port) = match text[bracket..].rfind(':') {
        None => (text, None),
        Some(colon) => {
            let (host, port) = text.split_at(bracket + colon);
            (host, Some(port[1..].parse().ok().filter(|&port| port > 0)?))
        }
    };
    let below = host.strip_prefix('*');
    let name = below.map_or(Some(host), |below| below.strip_prefix('.'))?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_address = name.starts_with('[')
        && name.ends_with(']')
        && name[1..name.len() - 1].parse::<core::net::Ipv6Addr>().is_ok();
    let is_name = !name.is_empty()
        && name.bytes().all(allowed)
        && !name.starts_with('.')
        && !name.ends_with('.');
    if !(is_name || (is_address && below.is_none())) {
        return None;
    }
    Some(HttpGrant { host: below.unwrap_or(host).to_ascii_lowercase(), port })
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::Kv(grant) => grant.fmt(f),
            Grant::Http(grant) => grant.fmt(f),
            Grant::Secret(name) => write!(f, "secret:{name}"),
            Grant::Purge(grant) => grant.fmt(f),
        }
    }
}

impl fmt::Display for KvGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "r",
            Access::Write => "w",
            Access::ReadWrite => "rw",
        };
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "kv:{}{slash}{}={access}", self.bucket, self.prefix)
    }
}

impl fmt::Display for HttpGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.host.starts_with('.') { "*" } else { "" };
        write!(f, "http:{star}{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_reads_back() {
        for text in [
            "kv:default=rw",
            "kv:a/b/=r",
            "kv:1=w",
            "kv:a/x=y=r",
            "http:example.com",
            "http:*.example.com:8443",
            "http:10.0.0.7:8000",
            "http:[::1]:80",
            "secret:stripe-key",
        ] {
            let grant: Grant = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(grant.to_string(), text);
        }
        let Ok(Grant::Kv(grant)) = "kv:a/b/=r".parse() else { panic!("a grant") };
        assert!(grant.access.reads() && !grant.access.writes());
        assert_eq!(grant.prefix, "b/");
    }

    #[test]
    fn what_is_no_grant_is_refused() {
        for text in [
            "kv:_sys=rw",
            "kv:a",
            "kv:a=x",
            "fs:/=rw",
            "http:",
            "http:*",
            "http:*.",
            "http:a:0",
            "http:a:65536",
            "http:a/b",
            "http:user@a",
            "http:[::1",
            "http:*.[::1]",
            "http:.a",
            "secret:",
            "secret:A",
            "secret:a/b",
        ] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }

    #[track_caller]
    fn check(grant: &str, host: &str, port: u16, want: bool) {
        let Ok(Grant::Http(grant)) = grant.parse() else { panic!("{grant} is a grant") };
        assert_eq!(grant.allows(host, port, 443), want, "{grant} {host}:{port}");
    }

    #[test]
    fn a_host_is_exactly_what_was_granted() {
        check("http:example.com", "EXAMPLE.com.", 443, true);
        check("http:example.com", "example.com", 80, false);
        check("http:example.com:80", "example.com", 80, true);
        check("http:example.com", "example.com.evil.org", 443, false);
        check("http:example.com", "a.example.com", 443, false);
        check("http:*.example.com", "a.b.example.com", 443, true);
        check("http:*.example.com", "example.com", 443, false);
        check("http:*.example.com", ".example.com", 443, false);
        check("http:*.example.com", "notexample.com", 443, false);
        check("http:[::1]", "[::1]", 443, true);
    }
}
