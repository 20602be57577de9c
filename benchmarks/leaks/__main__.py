"""How many secrets leave: ours beside the official SDK and logfire; ``make leaks``, or ``python -m benchmarks.leaks``."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.environments import python_of
from benchmarks.leaks.setups import SETUPS
from benchmarks.measure import ENVIRON
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SHOWN = 12


class Sink(ThreadingHTTPServer):
    """Takes everything, and keeps it as it was before it was compressed."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taker)
        self.bodies: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> int:
        """How many finished spans arrived; logfire also sends those that have begun."""
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in self.bodies if path.endswith("/traces")]
        found = [span for one in requests for part in one.resource_spans for scope in part.scope_spans for span in scope.spans]
        pending = {"logfire.span_type": "pending_span"}
        return sum(all(pending.get(each.key) != each.value.string_value for each in span.attributes) for span in found)


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Sink

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_compressed = self.headers.get("Content-Encoding") == "gzip"
        self.server.bodies.append((self.path, gzip.decompress(body) if is_compressed else body))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b'{"project_name": "leaks", "project_url": "http://127.0.0.1"}')

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


def leaks(setup: str) -> tuple[int, list[str], int]:
    """How many secrets there were, the places of those that leaked, and how many spans arrived."""
    peer = setup.partition(" ")[0]
    with Sink() as sink:
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        command = [python_of(peer), "-m", "benchmarks.leaks.setups", setup, sink.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRON, timeout=120)
        sink.shutdown()
    secrets: dict[str, str] = json.loads(done.stdout)
    wire = b"\n".join(body for _, body in sink.bodies)
    return len(secrets), [place for place, secret in secrets.items() if secret.encode() in wire], sink.spans()


def main() -> None:
    print("A secret of its own in every place of spans that can hold a text; those that are on the wire have leaked.\n")
    print("| set up as | leaked | of | spans that arrived | where |\n|---|--:|--:|--:|---|")
    for setup in SETUPS:
        count, places, spans = leaks(setup)
        where = ", ".join(places[:SHOWN]) + (f" and {len(places) - SHOWN} more" if len(places) > SHOWN else "")
        print(f"| {setup} | {len(places)} | {count} | {spans} | {where} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
