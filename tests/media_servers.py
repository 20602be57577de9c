"""A Langfuse server as far as media and spans go, and its storage on another origin, on loopback; they check what they are sent.

As api.md 6 has it: POST /media announces, PUT to a presigned URL brings the content, PATCH says what came of it, and only then
GET shows it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_langfuse.media import CONTENT_TYPES

Fault = Callable[[Any], bool]
"""Of a handler: answers instead of the server. False: nothing was answered, the server is to do it."""


class Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        """Each request takes the next one, as long as there are any."""
        self.stopped = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def handle_any(self) -> None:
        self.raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            self.server.calls.append(Call(self.command, self.path, headers, self.raw))
            fault = self.server.faults.pop(0) if self.server.faults and self.can_fail() else None
        if fault is None or not fault(self):
            self.serve(headers)

    def can_fail(self) -> bool:
        return True

    def serve(self, headers: dict[str, str]) -> None:
        raise NotImplementedError

    def answer(self, status: int, body: Any = None, **headers: str) -> bool:
        encoded = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


for _method in ("POST", "PUT", "PATCH", "GET"):
    setattr(_Handler, f"do_{_method}", _Handler.handle_any)


def status(code: int, body: Any = None, **headers: str) -> Fault:
    return lambda handler: handler.answer(code, body, **headers)


def hang(handler: Any) -> bool:
    handler.server.stopped.wait(60)
    return True


def late(seconds: float) -> Fault:
    """Serves after a while."""
    return lambda handler: bool(handler.server.stopped.wait(seconds))


class _Api(_Handler):
    def can_fail(self) -> bool:
        return self.path.startswith("/api/public/media")

    def serve(self, headers: dict[str, str]) -> None:
        langfuse: Langfuse = self.server.langfuse
        if self.path == "/api/public/otel/v1/traces":
            body = gzip.decompress(self.raw) if headers.get("content-encoding") == "gzip" else self.raw
            langfuse.take_spans(body)
            self.answer(200)
        elif self.command == "PUT":
            self.answer(*langfuse.store(self.path.removeprefix("/storage"), headers, self.raw))
        elif headers.get("authorization") != langfuse.authorization:
            self.answer(401, {"message": "Invalid credentials"})
        elif self.command == "POST" and self.path == "/api/public/media":
            self.answer(*langfuse.announce(json.loads(self.raw)))
        elif self.command == "PATCH":
            self.answer(*langfuse.conclude(self.path.rpartition("/")[2], json.loads(self.raw)))
        elif self.command == "GET":
            self.answer(*langfuse.shown(self.path.rpartition("/")[2]))
        else:
            self.answer(404, {"message": "no such route"})


class _Storage(_Handler):
    def serve(self, headers: dict[str, str]) -> None:
        langfuse: Langfuse = self.server.langfuse
        if self.command == "GET":
            self.answer(200, langfuse.stored[self.path.partition("?")[0].strip("/")])
            return
        self.answer(*langfuse.store(self.path, headers, self.raw))


class Langfuse:
    """The two servers, and what they know."""

    def __init__(self) -> None:
        self.authorization = "Basic " + base64.b64encode(b"pk-lf-test:sk-lf-test-secret").decode()
        self.api = _Server(_Api)
        self.storage = _Server(_Storage)
        self.api.langfuse = self.storage.langfuse = self  # type: ignore[attr-defined]
        self.announced: dict[str, dict[str, Any]] = {}
        self.links: list[tuple[str, str, str | None, str]] = []  # media id, trace, observation, field
        self.signed: dict[str, str] = {}  # signature -> media id
        self.stored: dict[str, bytes] = {}
        self.concluded: dict[str, dict[str, Any]] = {}
        self.spans: list[Any] = []
        self.wire = b""
        self.is_one_origin = False  # the storage is a path of the API's server, as behind one proxy
        self.problems: list[str] = []
        self._numbers = itertools.count()

    def __enter__(self) -> Langfuse:
        for server in (self.api, self.storage):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.api, self.storage):
            server.stopped.set()
            server.shutdown()
            server.server_close()

    # -- what they do --------------------------------------------------------------------------------------------------

    def announce(self, body: dict[str, Any]) -> tuple[int, Any]:
        expected = {"traceId", "observationId", "field", "contentType", "contentLength", "sha256Hash"}
        wrong = (
            body.keys() != expected
            or body["field"] not in ("input", "output", "metadata")
            or body["contentType"] not in CONTENT_TYPES
            or not 0 < body["contentLength"] <= 1_000_000_000
            or len(body["sha256Hash"]) != 44
        )
        if wrong:
            self.problems.append(f"announced {body}")
            return 400, {"message": "Invalid request data", "error": []}
        media_id = body["sha256Hash"].replace("+", "-").replace("/", "_")[:22]
        self.announced[media_id] = body
        self.links.append((media_id, body["traceId"], body["observationId"], body["field"]))
        if self.concluded.get(media_id, {}).get("uploadHttpStatus") == 200:
            return 201, {"mediaId": media_id, "uploadUrl": None}
        signature = f"SIGNATURE{next(self._numbers)}"
        self.signed[signature] = media_id
        storage = f"{self.api.url}/storage" if self.is_one_origin else self.storage.url
        return 201, {"mediaId": media_id, "uploadUrl": f"{storage}/{media_id}?X-Amz-Signature={signature}"}

    def store(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        media_id, _, signature = path.strip("/").partition("?X-Amz-Signature=")
        announced = self.announced.get(media_id, {})
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        checks = {
            "authorization": "authorization" not in headers,
            "langfuse's headers": not any(name.startswith("x-langfuse") for name in headers),
            "signature": self.signed.get(signature) == media_id,
            "type": headers.get("content-type") == announced.get("contentType"),
            "length": len(body) == announced.get("contentLength"),
            "hash": digest == announced.get("sha256Hash") == headers.get("x-amz-checksum-sha256"),
            "azure": headers.get("x-ms-blob-type") == "BlockBlob",
        }
        if wrong := [name for name, right in checks.items() if not right]:
            self.problems.append(f"stored with wrong {wrong}")
            return 403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        self.stored[media_id] = body
        return 200, b""

    def conclude(self, media_id: str, body: dict[str, Any]) -> tuple[int, Any]:
        if media_id not in self.announced:
            return 404, {"message": f"Media asset {media_id} not found in project"}
        if body.keys() != {"uploadedAt", "uploadHttpStatus", "uploadHttpError", "uploadTimeMs"}:
            self.problems.append(f"concluded {body}")
            return 400, {"message": "Invalid request data"}
        self.concluded[media_id] = body
        return 200, {"message": "OK"}

    def shown(self, media_id: str) -> tuple[int, Any]:
        if self.concluded.get(media_id, {}).get("uploadHttpStatus") != 200:
            return 404, {"message": "Media not yet uploaded"}
        announced = self.announced[media_id]
        url = f"{self.storage.url}/{media_id}?X-Amz-Signature=read"
        return 200, {
            "mediaId": media_id,
            "contentType": announced["contentType"],
            "contentLength": announced["contentLength"],
            "uploadedAt": "2026-11-21T00:00:00Z",
            "url": url,
            "urlExpiry": "2026-11-21T01:00:00Z",
        }

    def take_spans(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.api.lock:
            self.wire += body
            self.spans += [span for part in request.resource_spans for scope in part.scope_spans for span in scope.spans]

    # -- what tests ask ------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        return {"public_key": "pk-lf-test", "secret_key": "sk-lf-test-secret", "base_url": self.api.url}

    def text(self, key: str, name: str | None = None) -> str:
        """The value of an attribute of the first span that has it."""
        for span in self.spans:
            if name is None or span.name == name:
                for attribute in span.attributes:
                    if attribute.key == key:
                        return str(attribute.value.string_value)
        raise KeyError(key)

    def dangling(self) -> list[str]:
        """References in spans to what GET does not show."""
        found = re.findall(rb"@@@langfuseMedia:type=[^|]+\|id=([^|]+)\|", self.wire)
        return [media_id.decode() for media_id in found if self.shown(media_id.decode())[0] != 200]

    def methods(self) -> Counter[str]:
        """Calls about media, of both servers."""
        calls = [call for call in (*self.api.calls, *self.storage.calls) if not call.path.startswith("/api/public/otel")]
        return Counter(call.method for call in calls)

    def wait_for(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.01)
