"""A model server on loopback that answers what a test says: for shapes that the one of ``conformance/capture`` does not have."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ScriptedModel(ThreadingHTTPServer):
    """``answer``: a JSON object; or a list of them, which are streamed; where one is None, the connection breaks."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Any) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def scripted(answer: Any) -> Iterator[ScriptedModel]:
    server = ScriptedModel(answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()


class _Answering(BaseHTTPRequestHandler):
    server: ScriptedModel

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = self.server.answer
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if isinstance(answer, list) else "application/json")
        if not isinstance(answer, list):
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())
            return
        if None in answer:
            self.send_header("Content-Length", "1000000")  # which never come
        self.end_headers()
        for part in answer:
            if part is None:
                return
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())
            self.wfile.flush()
            self.server.go_on.wait(20)
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        pass
