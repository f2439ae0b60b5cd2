"""Counts the visits of each page, on every node together.

What can be imported is in wit/: kv, log, config, clock, random. `get-many` is `get_many`; a failed
call raises `componentize_py_types.Err`, whose `value` says why.
"""

import json

from wit_world import exports
from wit_world.imports import kv, log
from wit_world.imports.types import Request, Response


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: Request) -> Response:
        page = request.path
        with kv.Bucket.open("default") as bucket:
            visits = bucket.increment(f"visits:{page}", 1, None)
        log.log(log.Level.INFO, f"visit {visits} of {page}")
        body = json.dumps({"page": page, "visits": visits}, separators=(",", ":"))
        return Response(200, [("content-type", b"application/json")], body.encode())
