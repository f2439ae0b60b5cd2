//! What an upstream's interim responses are for: the client, and a body that waits to be asked for.

use super::body::Watched;
use crate::listen::interim::Interim;
use atoll_core::http_cache::fields;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode, header};
use tokio_util::sync::CancellationToken;

/// Who is told of the interim responses to a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Hints {
    client: Option<Interim>,
    asked_for: Option<CancellationToken>,
}

impl Hints {
    /// Takes the way to the client out of a request.
    pub(super) fn of(request: &mut Request<Body>) -> Hints {
        let client = request.extensions_mut().remove::<Interim>();
        let holds_body = request.headers().contains_key(header::EXPECT);
        Hints { client, asked_for: holds_body.then(CancellationToken::new) }
    }

    /// The body, which waits until it is asked for where that is wanted.
    pub(super) fn hold(&self, body: Watched) -> Watched {
        match &self.asked_for {
            Some(asked_for) => body.held(asked_for.clone()),
            None => body,
        }
    }

    /// Has hyper's client tell of them, which does so over HTTP/1.1 alone.
    pub(super) fn listen(&self, request: &mut Request<Watched>) {
        if self.client.is_some() || self.asked_for.is_some() {
            let hints = self.clone();
            hyper::ext::on_informational(request, move |response| {
                hints.take(response.status(), response.headers());
            });
        }
    }

    /// Passes one on to the client, where there is a way, and lets a body go that waits for 100.
    pub(super) fn take(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE {
            // To tell the client so is the gateway's part: it does when its body is read.
            if let Some(asked_for) = &self.asked_for {
                asked_for.cancel();
            }
        } else if let Some(client) = &self.client {
            let mut headers = headers.clone();
            fields::remove_of_the_connection(&mut headers);
            client.send(status, &headers);
        }
    }
}
