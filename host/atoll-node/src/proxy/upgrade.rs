//! Upgrades, such as to WebSocket: once both sides agree, bytes are copied both ways.

use crate::upstream::ResponseBody;
use axum::body::Body;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tracing::debug;

/// What a request names of the protocols that a route lets through.
fn allowed_of<'h>(headers: &'h HeaderMap, allowed: &[String]) -> impl Iterator<Item = &'h str> {
    let is_allowed = |name: &&str| allowed.iter().any(|other| other.eq_ignore_ascii_case(name));
    members(headers).filter(is_allowed)
}

fn members(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::UPGRADE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Whether a request asks for an upgrade that a route lets through.
pub(super) fn is_asked_for(headers: &HeaderMap, allowed: &[String]) -> bool {
    headers.contains_key(header::UPGRADE) && allowed_of(headers, allowed).next().is_some()
}

/// What a client wants to go on with.
#[derive(Debug)]
pub(super) struct Wanted {
    client: OnUpgrade,
    /// What the route lets through of what the client named, as a list.
    protocols: HeaderValue,
}

impl Wanted {
    /// `None` where the request asks for no upgrade, or for none to what the route `allows`: then it is
    /// answered without one (RFC 9110 section 7.8).
    pub(super) fn of(parts: &mut Parts, allowed: &[String]) -> Option<Wanted> {
        let protocols: Vec<&str> = allowed_of(&parts.headers, allowed).collect();
        let is_none = protocols.is_empty();
        let protocols = HeaderValue::try_from(protocols.join(", ")).ok().filter(|_| !is_none)?;
        let mut tokens = parts
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        tokens.find(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))?;
        let client = parts.extensions.remove::<OnUpgrade>()?;
        Some(Wanted { client, protocols })
    }

    /// Asks the upstream for it: the fields are those of a new connection.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocols.clone());
    }

    /// Whether a 101 goes on with something that was asked for.
    pub(super) fn is_answered(&self, headers: &HeaderMap) -> bool {
        let mut chosen = members(headers).peekable();
        let asked = self.protocols.to_str().unwrap_or_default();
        let is_asked = |name: &str| asked.split(", ").any(|other| other.eq_ignore_ascii_case(name));
        chosen.peek().is_some() && chosen.all(is_asked)
    }

    /// Joins both connections once the client has the answer.
    pub(super) fn join(self, response: &mut http::Response<ResponseBody>) -> Response {
        let upstream = hyper::upgrade::on(&mut *response);
        let client = self.client;
        tokio::spawn(async move {
            let (client, upstream) = match tokio::try_join!(client, upstream) {
                Ok(both) => both,
                Err(error) => return debug!(%error, "upgrade came to nothing"),
            };
            let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            if let Err(error) = copy_bidirectional(&mut client, &mut upstream).await {
                debug!(%error, "upgraded connection ended early");
            }
        });
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = response.headers().clone();
        answer
    }
}
