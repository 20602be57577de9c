"""A server on loopback that takes everything at once, and counts only when it is asked, after the measurement.

Run as a process of its own, so that none of its work is in a figure. It prints its port, and ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_taken: list[tuple[str, str, bytes]] = []


def _spans(path: str, encoding: str, body: bytes) -> int:
    """How many spans, or observations, a request carries; of metrics and the like none."""
    plain = zlib.decompress(body, 47) if encoding in ("gzip", "deflate") else body
    if path.endswith("/ingestion"):
        return sum(event["type"].endswith("-create") and event["type"] != "trace-create" for event in json.loads(plain)["batch"])
    if not path.endswith("/traces"):
        return 0
    request = ExportTraceServiceRequest.FromString(plain)
    return sum(len(group.spans) for entry in request.resource_spans for group in entry.scope_spans)


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _taken.append((self.path, self.headers.get("Content-Encoding", ""), body))
        if self.path.endswith("/ingestion"):
            self._answer(b'{"successes": [], "errors": []}', 207)
        else:
            self._answer(b"")

    def do_GET(self) -> None:
        """What was taken since the last time; to a peer that asks for something else, that its token is known."""
        if self.path not in ("", "/"):
            self._answer(b'{"project_name": "benchmark", "project_url": "http://127.0.0.1"}')
            return
        taken = _taken[:]
        _taken.clear()
        counts = {"spans": sum(_spans(*item) for item in taken), "bytes": sum(len(body) for _, _, body in taken)}
        self._answer(json.dumps({**counts, "requests": len(taken)}).encode())

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
