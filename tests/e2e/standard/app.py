"""A standard handler in Python: what it does is in its path, as in handler.js."""

import json
import sys
from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import atomics, batch, store, types
from wit_world.imports.monotonic_clock import subscribe_duration
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingBody, OutgoingBody, OutgoingResponse


def pieces(request):
    """The request's body, as it comes."""
    body = request.consume()
    with body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(16 * 1024)
            except Err as error:
                assert isinstance(error.value, StreamError_Closed), error
                break
    IncomingBody.finish(body)


def key_value(request, method, key, query):
    bucket = store.open(query.get("bucket", ["default"])[0])
    if method == "Put":
        bucket.set(key, b"".join(pieces(request)))
        return 200, [b"set\n"]
    if method == "Post":
        return 200, [b"%d\n" % atomics.increment(bucket, key, int(b"".join(pieces(request))))]
    if method == "Delete":
        bucket.delete(key)
        return 200, [b"deleted\n"]
    value = bucket.get(key)
    return (404, [b"no such key\n"]) if value is None else (200, [value])


def many():
    bucket = store.open("default")
    batch.set_many(bucket, [("m:1", b"one"), ("m:2", b"two")])
    pairs = batch.get_many(bucket, ["m:1", "m:none", "m:2"])
    listed = sorted(key for key in bucket.list_keys(None).keys if key.startswith("m:"))
    pairs = [pair and [pair[0], pair[1].decode()] for pair in pairs]
    return json.dumps({"pairs": pairs, "listed": listed}).encode()


def five_pieces():
    for number in range(5):
        subscribe_duration(100_000_000).block()
        yield b"piece %d\n" % number


def echo(request, method):
    headers = {name: value.decode() for name, value in request.headers().entries()}
    body = b"".join(pieces(request)).decode()
    answer = {"method": method, "url": request.path_with_query(), "headers": headers, "body": body}
    return json.dumps(answer).encode()


def handle(request):
    """Returns the status of the answer and its pieces."""
    url = urlsplit(request.path_with_query())
    path, method = "/" + url.path.split("/", 2)[2], type(request.method()).__name__.split("_")[1]
    if path == "/hello":
        return 200, [b"hello from Python\n"]
    if path == "/echo":
        return 200, [echo(request, method)]
    if path == "/stream":
        return 200, five_pieces()
    if path == "/pipe":
        return 200, pieces(request)
    if path == "/many":
        return 200, [many()]
    if path == "/log":
        print("said on stdout")
        print("said on stderr", file=sys.stderr)
        return 200, [b"logged\n"]
    if path == "/loop":
        while True:
            pass
    if path.startswith("/kv/"):
        return key_value(request, method, path[4:], parse_qs(url.query))
    return 404, [b"no such path\n"]


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        try:
            status, answer = handle(request)
        except Err as error:
            status, answer = 500, [repr(error.value).encode()]
        response = OutgoingResponse(Fields.from_list([]))
        response.set_status_code(status)
        body = response.body()
        types.ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            for piece in answer:
                for start in range(0, len(piece), 4096):
                    stream.blocking_write_and_flush(piece[start : start + 4096])
        OutgoingBody.finish(body, None)
