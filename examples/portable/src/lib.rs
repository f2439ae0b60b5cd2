//! Hello in the standard world `wasi:http/proxy`: the same component runs on any host of that world.

use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Portable;

wasip2::http::proxy::export!(Portable with_types_in wasip2);

impl wasip2::exports::http::incoming_handler::Guest for Portable {
    fn handle(_request: IncomingRequest, place: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("it is asked for once");
        ResponseOutparam::set(place, Ok(response));
        let stream = body.write().expect("it is asked for once");
        // Whoever asked may have gone: then there is nobody to tell.
        let _ = stream.blocking_write_and_flush(b"Hello, world!\n");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
