//! One request of a handler of `wasi:http` 0.3: it returns its answer's head, and goes on with the body.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body;
use wasmtime::Store;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3::Request;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{Error, WasiHttpView};

use super::exchange::Asked;
use crate::host::Host;
use crate::instance::Guest;

/// How the request's body came over, for whoever sent it: nobody asks here.
pub(super) type Sent = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Runs the instance until the guest has returned and its answer's body has come to its end.
///
/// What the guest writes passes by the instance's own event loop, so that has to run for as long as
/// the client reads. Nothing here waits for a timer: while the guest computes, nobody looks at what
/// this waits for, so the caller has to bound the whole.
pub(super) async fn handle<H, B>(
    service: &Service,
    store: &mut Store<Guest<H>>,
    asked: Asked<B>,
) -> wasmtime::Result<()>
where
    H: Host,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    let Asked { request, place } = asked;
    let progress = Arc::clone(&place.progress);
    let call = async move |accessor: &Accessor<Guest<H>>| -> wasmtime::Result<()> {
        let (request, sent): (Request, Sent) = accessor.with(|mut store| {
            let (request, sent) = Request::from_http(store.get().http().hooks, request);
            (request, Box::pin(sent) as Sent)
        });
        let answer = match service.handle(accessor, request).await? {
            Ok(response) => Ok(accessor.with(|store| response.into_http(store, sent))?),
            Err(code) => Err(code),
        };
        if !place.put(answer) {
            return Ok(());
        }
        poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
        progress.note_return();
        progress.sent().await;
        Ok(())
    };
    store.run_concurrent(call).await?
}
