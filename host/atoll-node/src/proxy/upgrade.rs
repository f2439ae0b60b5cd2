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

/// What a client wants to go on with.
#[derive(Debug)]
pub(super) struct Wanted {
    client: OnUpgrade,
    protocol: HeaderValue,
}

impl Wanted {
    /// `None` where the request asks for no upgrade.
    pub(super) fn of(parts: &mut Parts) -> Option<Wanted> {
        let protocol = parts.headers.get(header::UPGRADE)?.clone();
        let mut tokens = parts
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
        tokens.find(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))?;
        let client = parts.extensions.remove::<OnUpgrade>()?;
        Some(Wanted { client, protocol })
    }

    /// Asks the upstream for it: the fields are those of a new connection.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
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
