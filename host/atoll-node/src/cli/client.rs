//! How commands talk to a node: its API over plain HTTP, and errors that say what to do.

use anyhow::{Context, anyhow, bail};
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use std::io::Read;
use std::time::Duration;
use ureq::{Agent, Body, SendBody, http};

/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for the head of an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// The same where the node has to compile first: an interpreter takes half a minute of every
/// processor, and deployments take turns.
pub(super) const COMPILE_WAIT: Duration = Duration::from_secs(600);
/// Longest answer other than a value that is read into memory, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What a path or a query may hold unescaped. A dot is escaped: `..` would be taken for a step up.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// Where the node is.
#[derive(Args, Clone, Debug)]
pub(super) struct ClientArgs {
    /// Address of the node's API, HOST:PORT or a URL
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "ATOLL_API_URL",
        default_value = "http://127.0.0.1:8081"
    )]
    api: String,
    /// Token of the node's API; better given by variable than by flag
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "ATOLL_API_TOKEN",
        hide_env_values = true
    )]
    token: Option<crate::config::Secret>,
}

/// A client of one node.
pub(super) struct Client {
    agent: Agent,
    base: String,
    token: Option<crate::config::Secret>,
}

/// A request before it is sent.
pub(super) struct Ask<'a> {
    pub(super) method: http::Method,
    /// From the first `/` on, escaped.
    pub(super) path: String,
    pub(super) headers: &'a [(&'static str, &'a str)],
    /// Longest wait for the head of the answer.
    pub(super) wait: Duration,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: http::Method, path: impl Into<String>) -> Ask<'a> {
        Ask { method, path: path.into(), headers: &[], wait: ANSWER_WAIT }
    }
}

/// What a node says of an error (RFC 9457).
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    code: String,
}

/// A refusal, before it is told.
pub(super) struct Refusal {
    status: u16,
    /// Stable; empty where what answered is no node.
    pub(super) code: String,
    detail: String,
}

impl ClientArgs {
    /// A client, if the address is one.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        if self.api.starts_with("https://") {
            bail!("--api {}: a node's API speaks plain HTTP; write HOST:PORT", self.api);
        }
        let address = self.api.strip_prefix("http://").unwrap_or(&self.api).trim_end_matches('/');
        let is_address = !address.contains(['/', '?', '#', '@'])
            && address.parse::<http::uri::Authority>().is_ok();
        if !is_address {
            bail!("--api {:?} is no address of a node; write HOST:PORT", self.api);
        }
        let base = format!("http://{address}");
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_WAIT))
            .user_agent(concat!("atoll/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Client { agent: config.into(), base, token: self.token.clone() })
    }
}

impl Client {
    /// The same for another node, HOST:PORT.
    pub(super) fn at(&self, address: &str) -> Client {
        let (agent, token) = (self.agent.clone(), self.token.clone());
        Client { agent, base: format!("http://{address}"), token }
    }

    /// Sends a request and returns the answer, whatever its status.
    pub(super) fn send(
        &self,
        ask: Ask<'_>,
        body: SendBody<'_>,
    ) -> anyhow::Result<http::Response<Body>> {
        let url = format!("{}{}", self.base, ask.path);
        let mut request = http::Request::builder().method(ask.method).uri(url);
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        let request = request.body(body).context("the request cannot be written down")?;
        let request = self.agent.configure_request(request);
        let request = request.timeout_recv_response(Some(ask.wait)).build();
        self.agent.run(request).map_err(|error| self.explain(error))
    }

    /// Sends a request without a body; an error status is an error.
    pub(super) fn fetch(&self, ask: Ask<'_>) -> anyhow::Result<http::Response<Body>> {
        accepted(self.send(ask, SendBody::none())?)
    }

    fn explain(&self, error: ureq::Error) -> anyhow::Error {
        let base = &self.base;
        match error {
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                anyhow!("no node answers at {base}; start one with: atoll serve")
            }
            ureq::Error::ConnectionFailed => {
                anyhow!("no node answers at {base}; start one with: atoll serve")
            }
            ureq::Error::HostNotFound => {
                anyhow!("{base} names no host that can be found; say where the node is with --api")
            }
            ureq::Error::Timeout(_) => {
                anyhow!("the node at {base} does not answer in time; try again, or see its log")
            }
            other => anyhow!(other).context(format!("the node at {base} could not be asked")),
        }
    }
}

/// The answer, or what the node says is wrong.
pub(super) fn accepted(answer: http::Response<Body>) -> anyhow::Result<http::Response<Body>> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(Refusal::of(answer).into_error())
}

impl Refusal {
    /// What an answer with an error status says.
    pub(super) fn of(answer: http::Response<Body>) -> Refusal {
        let status = answer.status().as_u16();
        let text = text(answer).unwrap_or_default();
        match serde_json::from_str::<Problem>(&text) {
            Ok(Problem { code, detail }) => Refusal { status, code, detail },
            Err(_) => {
                let detail = "what answers there is no node of this version; check --api";
                Refusal { status, code: String::new(), detail: detail.to_owned() }
            }
        }
    }

    /// The one line that says what to do.
    pub(super) fn into_error(self) -> anyhow::Error {
        let Refusal { status, code, detail } = self;
        match (status, code.as_str()) {
            (401, _) => anyhow!("{detail} (--token, or the variable ATOLL_API_TOKEN)"),
            (_, "no-route") => {
                anyhow!("what answers there is a gateway; --api is the API's address, port 8081")
            }
            _ => anyhow!("{detail} (status {status})"),
        }
    }
}

/// The whole body of an answer, as text.
pub(super) fn text(answer: http::Response<Body>) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut body = answer.into_body().into_reader().take(ANSWER_BYTES_MAX);
    body.read_to_string(&mut text).context("the answer was cut short")?;
    Ok(text)
}

/// Bytes as they stand in a path or a query.
pub(super) fn escape(bytes: &[u8]) -> String {
    percent_encode(bytes, UNRESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(api: &str, want: &str) {
        let error = ClientArgs { api: api.to_owned(), token: None }.client().err();
        let text = format!("{:#}", error.expect("should be refused"));
        assert!(text.contains(want), "{text}");
    }

    #[test]
    fn an_address_that_is_none_is_explained() {
        check_refused("https://127.0.0.1", "plain HTTP");
        for bad in ["", "http://", "http://a b", "http://a/b", "ftp://a", "a/b"] {
            check_refused(bad, "write HOST:PORT");
        }
        let bare = ClientArgs { api: "127.0.0.1:8081".to_owned(), token: None };
        assert_eq!(bare.client().expect("an address").base, "http://127.0.0.1:8081");
    }

    #[test]
    fn a_node_that_is_not_there_is_explained() {
        // Bound for as long as this takes, so that nobody else listens there.
        let port = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let port = port.expect("a socket");
        port.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = port.local_addr().expect("it is bound").as_socket().expect("an address");
        let api = format!("http://{address}");
        let client = ClientArgs { api: api.clone(), token: None }.client().expect("an address");
        let error = client.fetch(Ask::new(http::Method::GET, "/")).expect_err("nobody answers");
        let want = format!("no node answers at {api}; start one with: atoll serve");
        assert_eq!(error.to_string(), want);
    }
}
