//! An HTTP exchange in the form that a guest sees: whole request in, whole response out.

use crate::listen::PeerAddress;
use crate::problem::Problem;
use crate::upload::{Gathered, Uploads};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode};
use std::collections::HashSet;

/// Largest request body that a handler is given, in bytes.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Fields that concern one connection alone (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A request whose body has arrived.
#[derive(Debug)]
pub(super) struct Exchange {
    parts: Parts,
    body: Gathered,
    client: Option<String>,
    authority: Option<Authority>,
}

/// Waits for the body of `request`, within bounds of size and time.
pub(super) async fn read(
    request: Request,
    authority: Option<Authority>,
    uploads: &Uploads,
) -> Result<Exchange, Problem> {
    let (parts, body) = request.into_parts();
    let body = uploads.gather(&parts.headers, body, REQUEST_BYTES_MAX).await?;
    let client = parts.extensions.get::<PeerAddress>().map(|peer| peer.0.ip().to_string());
    Ok(Exchange { parts, body, client, authority })
}

impl Exchange {
    /// The request's fields, without those of the connection.
    pub(super) fn headers(&self) -> Vec<(&str, &[u8])> {
        let headers = &self.parts.headers;
        let of_the_connection = of_the_connection(headers);
        let fields = headers.iter().filter(|(name, _)| !of_the_connection.contains(*name));
        fields.map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
    }

    /// The request in the form that a guest is lent.
    pub(super) fn lend<'a>(
        &'a self,
        headers: &'a [(&'a str, &'a [u8])],
    ) -> atoll_wasm::host::Request<'a> {
        atoll_wasm::host::Request {
            method: self.parts.method.as_str(),
            scheme: self.parts.uri.scheme_str().unwrap_or("http"),
            path: self.parts.uri.path(),
            query: self.parts.uri.query(),
            authority: self.authority.as_ref().map(Authority::as_str),
            headers,
            body: &self.body.bytes,
            client_address: self.client.as_deref(),
        }
    }
}

/// The fields that concern the connection alone, of those that are there.
pub(super) fn of_the_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    // Only those that are there, which are few: the list may be as long as a head may be.
    let named = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok());
    named.chain(HOP_BY_HOP).filter(|name| headers.contains_key(name)).collect()
}

/// A guest's answer as it goes out.
pub(super) fn respond(answer: atoll_wasm::host::Response) -> Result<Response, Problem> {
    let broken =
        || Problem::new(StatusCode::BAD_GATEWAY, "handler-bad-response", "the answer is not HTTP");
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(|_| broken())?;
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(name).map_err(|_| broken())?;
        let value = HeaderValue::try_from(value).map_err(|_| broken())?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_concerns_the_connection_alone_is_left_out() {
        let request = Request::builder()
            .header("connection", "close, X-Hop")
            .header("connection", ",\tx-other ,, bad token")
            .header("x-hop", "1")
            .header("x-other", "2")
            .header("te", "trailers")
            .header("x-stays", "3")
            .body(Body::empty())
            .expect("a request");
        let exchange = read(request, None, &Uploads::new(0)).await.expect("no body to wait for");
        assert_eq!(exchange.headers(), [("x-stays", &b"3"[..])]);
    }
}
