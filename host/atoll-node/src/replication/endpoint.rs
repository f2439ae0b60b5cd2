//! Where a peer is said to be: `HOST:PORT`, or `dns:NAME:PORT` for all addresses behind a name.

use std::fmt;
use std::str::FromStr;

/// Longest host name, in bytes, as DNS has it.
const HOST_BYTES_MAX: usize = 253;

/// A configured peer, as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    reach: Reach,
}

/// How many nodes a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    /// One: the first of its addresses that answers.
    One,
    /// One behind each of its addresses, which are looked up again as they change.
    All,
}

/// What is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    /// No port, or one that is no number from 1 to 65535.
    #[error("{0:?} is no peer; write HOST:PORT, or dns:NAME:PORT for all addresses of a name")]
    Form(String),
    /// A host that cannot be one.
    #[error("{0:?} is no host name or address")]
    Host(String),
}

impl Endpoint {
    /// The one node at `host`, a name or an address with or without brackets.
    pub(crate) fn new(host: &str, port: u16) -> Result<Endpoint, EndpointError> {
        Endpoint::with_reach(host, port, Reach::One)
    }

    fn with_reach(host: &str, port: u16, reach: Reach) -> Result<Endpoint, EndpointError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let fits = (1..=HOST_BYTES_MAX).contains(&bare.len());
        let is_clean =
            bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte));
        if !fits || !is_clean {
            return Err(EndpointError::Host(excerpt(host)));
        }
        if port == 0 {
            return Err(EndpointError::Form(excerpt(&format!("{host}:{port}"))));
        }
        // Names mean the same in any case, so two spellings are one peer.
        Ok(Endpoint { host: bare.to_ascii_lowercase(), port, reach })
    }

    /// A name or an address, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// 1 to 65535.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How many nodes it stands for.
    pub(crate) fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether it stands for every address behind its name.
    pub(crate) fn reaches_all(&self) -> bool {
        self.reach == Reach::All
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let (reach, rest) = match text.strip_prefix("dns:") {
            Some(rest) => (Reach::All, rest),
            None => (Reach::One, text),
        };
        let form = || EndpointError::Form(excerpt(text));
        let (host, port) = rest.rsplit_once(':').ok_or_else(form)?;
        // Without brackets the last group of a bare IPv6 address would be taken for the port.
        if host.contains(':') && !host.starts_with('[') {
            return Err(form());
        }
        let port = port.parse().map_err(|_| form())?;
        Endpoint::with_reach(host, port, reach)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.reach == Reach::All { "dns:" } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}{open}{}{close}:{}", self.host, self.port)
    }
}

/// What was written, short enough for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let shown = match text.parse::<Endpoint>() {
            Ok(endpoint) => {
                let again: Endpoint =
                    endpoint.to_string().parse().expect("what it prints, it reads");
                assert_eq!(again, endpoint);
                format!("{} {} {:?}", endpoint.host(), endpoint.port(), endpoint.reach())
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, want);
    }

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        check("10.0.0.7:7400", "10.0.0.7 7400 One");
        check("Node-2.Example.org:7400", "node-2.example.org 7400 One");
        check("[::1]:7400", "::1 7400 One");
        check("[fe80::1%eth0]:7400", "fe80::1%eth0 7400 One");
        check("dns:app.internal:7400", "app.internal 7400 All");
        check("dns:[::1]:7400", "::1 7400 All");
    }

    #[test]
    fn what_is_no_endpoint_is_answered_with_what_to_write() {
        let form = |text: &str| {
            format!(
                "{text:?} is no peer; write HOST:PORT, or dns:NAME:PORT for all addresses of a name"
            )
        };
        for text in ["7400", "host", "host:", "host:0", "host:65536", "host:-1", "::1", "dns:app"] {
            check(text, &form(text));
        }
        check(":7400", "\"\" is no host name or address");
        check("http://host:7400", &form("http://host:7400"));
        check("a b:7400", "\"a b\" is no host name or address");
        check(
            &format!("{}:1", "x".repeat(254)),
            &format!("{:?} is no host name or address", "x".repeat(128)),
        );
    }

    #[test]
    fn a_bare_address_needs_no_brackets_where_the_port_is_apart() {
        let endpoint = Endpoint::new("::1", 7400).expect("an address");
        assert_eq!(endpoint, Endpoint::new("[::1]", 7400).expect("the same"));
        assert_eq!(endpoint.to_string(), "[::1]:7400");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,300}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }
}
