//! What went wrong with an HTTP request, in the form of RFC 9457.
//!
//! Every door that speaks HTTP answers with it. `type` is `about:blank`, so `title` is the phrase
//! of the status; programs tell problems apart by `code`, people read `detail`.

use crate::journal::Unsettled;
use atoll_core::permission::Refusal;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use std::borrow::Cow;

/// When to try again what the state of a node stands in the way of, in seconds: somebody has to see
/// to it.
const STATE_RETRY_S: u16 = 5;

/// An error answer.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// `code` is stable and in kebab case; `detail` says what to do about it.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Problem {
        Problem { status, code, detail: detail.into(), headers: Vec::new() }
    }

    /// 400.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 405. `allow` lists the methods that would do.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Problem {
        let detail = format!("this path takes {allow}");
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
            .with_header(header::ALLOW, HeaderValue::from_static(allow))
    }

    /// 503 for something that is worth another try after `retry_after_s` seconds.
    pub(crate) fn busy(
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
        retry_after_s: u16,
    ) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(retry_after_s))
    }

    /// The same with one more header.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// The status, for an answer of another form.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The code, for an answer of another form.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence for people, for an answer of another form.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let detail = refusal.to_string();
        match refusal {
            Refusal::ReadOnly => Problem::new(StatusCode::FORBIDDEN, "read-only-replica", detail),
            Refusal::Skewed => Problem::busy("clock-skew", detail, STATE_RETRY_S),
            Refusal::Superseded => Problem::busy("superseded", detail, STATE_RETRY_S),
            Refusal::NoQuorum => Problem::busy("no-quorum", detail, 1),
        }
    }
}

impl From<Unsettled> for Problem {
    fn from(unsettled: Unsettled) -> Problem {
        Problem::busy("not-saved", unsettled.to_string(), 1)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.extend(self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_has_the_members_of_rfc_9457_and_a_code() {
        let response = Problem::busy("upload-budget", "wait a \"little\"", 3).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "3");
        let body = axum::body::to_bytes(response.into_body(), 4_096).await.expect("a whole body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let want = serde_json::json!({
            "type": "about:blank", "title": "Service Unavailable", "status": 503,
            "detail": "wait a \"little\"", "code": "upload-budget",
        });
        assert_eq!(body, want);
    }
}
