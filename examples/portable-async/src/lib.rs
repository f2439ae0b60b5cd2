//! Hello in the standard world `wasi:http/service`, of WASI 0.3: the same component runs on any host of
//! that world.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::spawn_local;
use wasip3::{wit_future, wit_stream};

struct PortableAsync;

wasip3::http::service::export!(PortableAsync);

impl wasip3::exports::http::handler::Guest for PortableAsync {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let (mut to, body) = wit_stream::new();
        let (end, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(body), trailers);
        // The body is written while it is read, after the head has left.
        spawn_local(async move {
            to.write_all(b"Hello, world!\n".to_vec()).await;
            drop(to);
            // Whoever asked may have gone: then there is nobody to tell.
            let _ = end.write(Ok(None)).await;
        });
        Ok(response)
    }
}
