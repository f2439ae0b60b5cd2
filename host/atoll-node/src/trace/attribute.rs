//! The names of what is said of a span: OpenTelemetry's semantic conventions for HTTP where they
//! have one, and ours behind `atoll.`.

use crate::listen::host;
use axum::extract::Request;
use http::uri::{Authority, Scheme};
use http::{Method, Uri, Version};
use opentelemetry_proto::tonic::common::v1::any_value;

pub(crate) const CACHE_STATUS: &str = "atoll.cache.status";
pub(crate) const CLIENT_ADDRESS: &str = "client.address";
pub(crate) const ERROR_TYPE: &str = "error.type";
pub(crate) const FILTER_HOOK: &str = "atoll.filter.hook";
pub(crate) const HANDLER_CPU_MS: &str = "atoll.handler.cpu_ms";
pub(crate) const HANDLER_INSTANCE: &str = "atoll.handler.instance";
pub(crate) const HANDLER_NAME: &str = "atoll.handler.name";
pub(crate) const HANDLER_RELEASE: &str = "atoll.handler.release";
pub(crate) const HANDLER_VERSION: &str = "atoll.handler.version";
pub(crate) const METHOD: &str = "http.request.method";
const METHOD_ORIGINAL: &str = "http.request.method_original";
pub(crate) const PATH: &str = "url.path";
const PROTOCOL_VERSION: &str = "network.protocol.version";
const QUERY: &str = "url.query";
pub(crate) const RESEND_COUNT: &str = "http.request.resend_count";
pub(crate) const ROUTE: &str = "http.route";
const SCHEME: &str = "url.scheme";
const SERVER_ADDRESS: &str = "server.address";
const SERVER_PORT: &str = "server.port";
pub(crate) const SHIELD_NODE: &str = "atoll.shield.node";
pub(crate) const SHIELD_OUTCOME: &str = "atoll.shield.outcome";
pub(crate) const STATUS: &str = "http.response.status_code";
const URL: &str = "url.full";
const USER_AGENT: &str = "user_agent.original";

/// What is said under a name.
pub(crate) type Value = any_value::Value;

/// An attribute, as it is told.
pub(crate) type Attribute = (&'static str, Value);

/// Text as a value.
pub(crate) fn text(text: impl Into<String>) -> Value {
    Value::StringValue(text.into())
}

/// A number as a value. What does not fit, which nothing does, is the largest that does.
pub(crate) fn number(number: impl TryInto<i64>) -> Value {
    Value::IntValue(number.try_into().unwrap_or(i64::MAX))
}

/// What a span is called by, of a request with this method: one of the few that are known.
pub(crate) fn method_name(method: &Method) -> &str {
    if is_known(method) { method.as_str() } else { "HTTP" }
}

fn is_known(method: &Method) -> bool {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    KNOWN.contains(method)
}

fn of_method(method: &Method) -> Vec<Attribute> {
    if is_known(method) {
        return vec![(METHOD, text(method.as_str()))];
    }
    vec![(METHOD, text("_OTHER")), (METHOD_ORIGINAL, text(method.as_str()))]
}

fn of_server(scheme: &str, authority: &Authority) -> [Attribute; 2] {
    let default_port = if scheme == "https" { 443 } else { 80 };
    let port = authority.port_u16().unwrap_or(default_port);
    let name = authority.host().trim_matches(['[', ']']);
    [(SERVER_ADDRESS, text(name)), (SERVER_PORT, number(port))]
}

/// Of a request that has come in.
pub(crate) fn of_incoming(request: &Request) -> Vec<Attribute> {
    let mut attributes = of_method(request.method());
    let uri = request.uri();
    // The node ends no TLS itself.
    let scheme = uri.scheme_str().unwrap_or("http");
    attributes.push((SCHEME, text(scheme)));
    attributes.push((PATH, text(uri.path())));
    attributes.extend(uri.query().map(|query| (QUERY, text(query))));
    if let Some(authority) = host::asked_for(request).ok().flatten() {
        attributes.extend(of_server(scheme, &authority));
    }
    let version = match request.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    attributes.push((PROTOCOL_VERSION, text(version)));
    if let Some(agent) = request.headers().get(http::header::USER_AGENT) {
        attributes.push((USER_AGENT, text(String::from_utf8_lossy(agent.as_bytes()))));
    }
    attributes
}

/// Of a request that is about to go out to `uri`, which is absolute.
pub(crate) fn of_outgoing(method: &Method, uri: &Uri) -> Vec<Attribute> {
    let mut attributes = of_method(method);
    attributes.push((URL, text(uri.to_string())));
    if let Some(authority) = uri.authority() {
        let scheme = uri.scheme().map_or("http", Scheme::as_str);
        attributes.extend(of_server(scheme, authority));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn shown(attributes: &[Attribute]) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        attributes.iter().map(|(name, value)| format!("{name}={}", text(value))).collect()
    }

    #[test]
    fn a_request_that_comes_in_is_told_of_in_the_words_of_the_conventions() {
        let request = Request::builder()
            .method("BREW")
            .uri("/pot?milk=1")
            .header("host", "[::1]:8080")
            .header("user-agent", "test")
            .body(Body::empty())
            .expect("a request");
        let want = [
            "http.request.method=_OTHER",
            "http.request.method_original=BREW",
            "url.scheme=http",
            "url.path=/pot",
            "url.query=milk=1",
            "server.address=::1",
            "server.port=8080",
            "network.protocol.version=1.1",
            "user_agent.original=test",
        ];
        assert_eq!(shown(&of_incoming(&request)), want);
        assert_eq!(method_name(request.method()), "HTTP");
    }

    #[test]
    fn a_request_that_goes_out_names_its_server_and_port() {
        let uri = Uri::from_static("https://api.example/v1?q=1");
        let want = [
            "http.request.method=GET",
            "url.full=https://api.example/v1?q=1",
            "server.address=api.example",
            "server.port=443",
        ];
        assert_eq!(shown(&of_outgoing(&Method::GET, &uri)), want);
    }
}
