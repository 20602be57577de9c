"""A Langfuse server on loopback, as far as its clients notice: what it took, read as its newest version does.

A span that is sent again, with the same ids and start, replaces the first (api.md 3.6). Scores are taken as arrays.
"""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from otel_langfuse.model import Observation
from otel_langfuse.spans import from_otlp
from otel_langfuse.translate import translate

PUBLIC, SECRET = "pk-lf-samples", "sk-lf-samples"


class LangfuseServer(ThreadingHTTPServer):
    """Takes spans, scores, prompts and datasets of one project."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows: dict[tuple[str, str, int | None], Observation] = {}
        self.requests: list[tuple[str, str]] = []
        self.scores: list[dict[str, Any]] = []
        self.prompts: dict[str, list[dict[str, Any]]] = {}
        self.datasets: dict[str, dict[str, Any]] = {}
        self.items: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.down = False
        self.queries: list[str] = []
        self.copies = 0
        """Spans, those that replaced one too."""

    def __enter__(self) -> LangfuseServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def observations(self) -> list[Observation]:
        """As they are stored, by their start."""
        return sorted(self.rows.values(), key=lambda one: one.start_time_unix_nano or 0)

    def one(self, name: str) -> Observation:
        """The observation of this name."""
        (found,) = [one for one in self.observations if one.name == name]
        return found

    def score(self, name: str) -> dict[str, Any]:
        """The score of this name."""
        (found,) = [one for one in self.scores if one["name"] == name]
        return found

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LangfuseServer

    def do_GET(self) -> None:
        self.handle_call(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.handle_call(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)

    def do_PATCH(self) -> None:
        self.do_POST()

    def handle_call(self, body: bytes | None) -> None:
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/api/public")
        self.server.requests.append((self.command, path))
        self.server.queries.append(parts.query)
        if self.server.down:
            self.answer(503, {"message": "Service Unavailable"})
        elif path == "/otel/v1/traces":
            self.take_spans(body or b"")
        else:
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            route = next(
                (route for route in _ROUTES if (self.command, path.split("/")[1 : 1 + len(route[1])]) == route[:2]), None
            )
            if route is None:
                self.answer(404, {"message": "no such route"})
            else:
                rest = [unquote(part) for part in path.split("/")[1 + len(route[1]) :]]
                self.answer(*route[2](self.server, rest, query, json.loads(body) if body else None))

    def take_spans(self, body: bytes) -> None:
        for span in from_otlp(body):
            self.server.copies += 1
            self.server.rows[span.trace_id, span.span_id, span.start_time_unix_nano] = translate(span)
        self.answer(200, {})

    def answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        pass


# -- routes: (server, rest of the path, query, body) -> status, document ---------------------------------------------------------


def _projects(server: LangfuseServer, *_: Any) -> tuple[int, Any]:
    return 200, {"data": [{"id": "project-1", "name": "samples"}]}


def _scores(server: LangfuseServer, rest: Any, query: Any, body: Any) -> tuple[int, Any]:
    server.scores += body if isinstance(body, list) else [body]
    return 202, {"message": "Accepted"}


def _get_prompt(server: LangfuseServer, rest: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
    label = query.get("label", "production")
    for prompt in reversed(server.prompts.get(rest[0], [])):
        if str(prompt["version"]) == query.get("version") or ("version" not in query and label in prompt["labels"]):
            return 200, prompt
    return 404, {"message": f"Prompt not found: '{rest[0]}' with label '{label}'", "error": "LangfuseNotFoundError"}


def _create_prompt(server: LangfuseServer, rest: Any, query: Any, body: dict[str, Any]) -> tuple[int, Any]:
    versions = server.prompts.setdefault(body["name"], [])
    for one in versions:
        one["labels"] = [label for label in one["labels"] if label not in {*body.get("labels", ()), "latest"}]
    made = {"type": "text", "config": {}, "tags": [], **body, "version": len(versions) + 1}
    made["labels"] = [*body.get("labels", ()), "latest"]
    versions.append(made)
    return 201, made


def _label_prompt(server: LangfuseServer, rest: list[str], query: Any, body: dict[str, Any]) -> tuple[int, Any]:
    name, _, version = rest
    found = [one for one in server.prompts.get(name, []) if one["version"] == int(version)]
    if not found:
        return 404, {"message": f"Prompt not found: '{name}' with version {version}"}
    for one in server.prompts[name]:
        one["labels"] = [label for label in one["labels"] if label not in body["newLabels"]]
    found[0]["labels"] += body["newLabels"]
    return 200, found[0]


def _create_dataset(server: LangfuseServer, rest: Any, query: Any, body: dict[str, Any]) -> tuple[int, Any]:
    server.datasets[body["name"]] = {"id": f"dataset-{len(server.datasets)}", "description": None, "metadata": None, **body}
    return 200, server.datasets[body["name"]]


def _get_dataset(server: LangfuseServer, rest: list[str], query: Any, body: Any) -> tuple[int, Any]:
    found = server.datasets.get(rest[0])
    return (404, {"message": "Dataset not found"}) if found is None else (200, found)


def _create_item(server: LangfuseServer, rest: Any, query: Any, body: dict[str, Any]) -> tuple[int, Any]:
    if body["datasetName"] not in server.datasets:
        return 404, {"message": "Dataset not found"}
    dataset = server.datasets[body["datasetName"]]
    item = {"id": f"item-{len(server.items)}", "status": "ACTIVE", "datasetId": dataset["id"], **body}
    server.items.append(item)
    return 200, item


def _get_items(server: LangfuseServer, rest: Any, query: dict[str, str], body: Any) -> tuple[int, Any]:
    page, limit = int(query["page"]), int(query["limit"])
    found = [item for item in server.items if item["datasetName"] == query["datasetName"]]
    pages = -(-len(found) // limit)
    meta = {"page": page, "limit": limit, "totalItems": len(found), "totalPages": pages}
    return 200, {"data": found[(page - 1) * limit : page * limit], "meta": meta}


def _create_run_item(server: LangfuseServer, rest: Any, query: Any, body: dict[str, Any]) -> tuple[int, Any]:
    known = {"runName", "runDescription", "metadata", "datasetItemId", "observationId", "traceId", "datasetVersion", "createdAt"}
    if unknown := set(body) - known:
        return 400, {"message": f"Invalid request data: {unknown}"}
    server.runs.append(body)
    return 200, {
        "id": f"run-item-{len(server.runs)}",
        "datasetRunId": f"run-{body['runName']}",
        "datasetRunName": body["runName"],
    }


_ROUTES: list[tuple[str, list[str], Callable[..., tuple[int, Any]]]] = [
    ("GET", ["projects"], _projects),
    ("POST", ["scores"], _scores),
    ("GET", ["v2", "prompts"], _get_prompt),
    ("POST", ["v2", "prompts"], _create_prompt),
    ("PATCH", ["v2", "prompts"], _label_prompt),
    ("GET", ["v2", "datasets"], _get_dataset),
    ("POST", ["v2", "datasets"], _create_dataset),
    ("POST", ["dataset-items"], _create_item),
    ("GET", ["dataset-items"], _get_items),
    ("POST", ["dataset-run-items"], _create_run_item),
]
