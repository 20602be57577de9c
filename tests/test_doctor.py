"""The doctor finds what is wrong at a server that plays Langfuse's endpoints (api.md 0 to 3, 8), and says what to do about it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_langfuse.local.doctor import Collector, doctor, langfuse, probe
from otel_langfuse.store import Store
from servers import closed_port

PUBLIC, SECRET = "pk-lf-1234567890", "sk-lf-very-secret-0987"
KEYS = "Basic " + base64.b64encode(f"{PUBLIC}:{SECRET}".encode()).decode()
REJECTED = {
    "status": 400,
    "message": "Event type not accepted",
    "error": "Event type ... is not accepted by /api/public/ingestion",
}


class Langfuse(ThreadingHTTPServer):
    """What the doctor asks of a Langfuse server; the attributes say how it is."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        self.version = "4.16.0"
        self.write_mode = "legacy"
        self.skew_s = 0.0
        self.project = "shop"
        self.answers: dict[str, tuple[int, Any]] = {}
        """Path -> what is answered there instead."""
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, Mapping[str, str], bytes]] = []

    def __enter__(self) -> Langfuse:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> list[Any]:
        bodies = [body for _, path, _, body in self.asked if path.endswith("/otel/v1/traces")]
        requests = [ExportTraceServiceRequest.FromString(gzip.decompress(body)) for body in bodies]
        return [span for request in requests for part in request.resource_spans for s in part.scope_spans for span in s.spans]

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        self.asked.append((method, path, headers, body))
        if path in self.answers:
            return self.answers[path]
        if path == "/api/public/health":
            return 200, {"status": "OK", "version": self.version}
        if headers.get("authorization") != KEYS:
            return 401, {"message": "Invalid credentials. Confirm that you've configured the correct host."}
        if path == "/api/public/projects":
            return 200, {"data": [{"id": "p-1", "name": self.project}]}
        if path == "/api/public/otel/v1/traces" and method == "POST":
            return 200, {}
        if path == "/api/public/ingestion":
            ids = [event["id"] for event in json.loads(body)["batch"]]
            if self.write_mode == "events_only":
                return 207, {"successes": [], "errors": [{"id": one, **REJECTED} for one in ids]}
            return 207, {"successes": [{"id": one, "status": 201} for one in ids], "errors": []}
        return 404, {"message": "Not found"}

    def handle_error(self, request: Any, client_address: Any) -> None:  # a TLS greeting that fails is what we want to see
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Langfuse

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        code, document = self.server.answer(self.command, self.path, headers, body)
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response_only(code)
        self.send_header("Date", formatdate(time.time() + self.server.skew_s, usegmt=True))
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _do  # noqa: N815 - the names that the base class gives them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        pass


@pytest.fixture
def server() -> Iterator[Langfuse]:
    with Langfuse() as langfuse:
        yield langfuse


def environ(url: str, **more: str) -> dict[str, str]:
    return {
        "LANGFUSE_BASE_URL": url,
        "LANGFUSE_PUBLIC_KEY": PUBLIC,
        "LANGFUSE_SECRET_KEY": SECRET,
        "LANGFUSE_TIMEOUT": "2",
        **more,
    }


def examine(variables: Mapping[str, str], collector: Collector | None = None, **options: Any) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON; both reports are free of secrets."""
    code, text = report(variables, collector, as_json=True, **options)
    return code, json.loads(text)


def report(variables: Mapping[str, str], collector: Collector | None = None, **options: Any) -> tuple[int, str]:
    out = io.StringIO()
    code = doctor(variables, {}, out, collector=collector, **options)
    text = out.getvalue()
    assert SECRET not in text
    assert KEYS.split()[1] not in text
    return code, text


def statuses(document: dict[str, Any]) -> dict[str, str]:
    return {finding["check"]: finding["status"] for finding in document["findings"]}


def finding(document: dict[str, Any], check: str) -> dict[str, str]:
    (found,) = [finding for finding in document["findings"] if finding["check"] == check]
    return found


# -- Langfuse ----------------------------------------------------------------------------------------------------------


def test_all_is_well(server: Langfuse) -> None:
    code, document = examine(environ(server.url))
    assert code == 0
    assert document["ok"]
    assert statuses(document) == {
        "settings": "ok",
        "name": "ok",
        "connection": "ok",
        "TLS": "skip",
        "server": "ok",
        "clock": "ok",
        "credentials": "ok",
        "write mode": "ok",
        "test observation": "ok",
    }
    assert finding(document, "server")["detail"] == "Langfuse 4.16.0"
    assert "'shop'" in finding(document, "credentials")["detail"]
    (span,) = server.spans
    assert span.name == "otel-langfuse doctor"
    link = f"{server.url}/project/p-1/traces/{span.trace_id.hex()}"
    assert finding(document, "test observation")["detail"] == f"accepted: {link}"
    assert [path for _, path, _, _ in server.asked] == [
        "/api/public/health",
        "/api/public/projects",
        "/api/public/ingestion",
        "/api/public/otel/v1/traces",
    ]
    assert "authorization" not in server.asked[0][2], "who needs no keys gets none"


def test_each_setting_is_told_with_its_source_and_no_secret(server: Langfuse) -> None:
    out = io.StringIO()
    variables = environ(server.url, OTEL_BSP_SCHEDULE_DELAY="2000", LANGFUSE_HOST="http://other")
    assert doctor(variables, {"timeout": 1.5}, out, as_json=True) == 0
    settings = {one["name"]: (one["value"], one["source"]) for one in json.loads(out.getvalue())["settings"]}
    assert settings == {
        "public_key": ("pk-lf-12...", "LANGFUSE_PUBLIC_KEY"),
        "secret_key": ("***", "LANGFUSE_SECRET_KEY"),
        "base_url": (server.url, "LANGFUSE_BASE_URL"),
        "flush_interval": ("2.0", "OTEL_BSP_SCHEDULE_DELAY"),
        "timeout": ("1.5", "--timeout"),
    }


def test_the_report_for_people_says_the_same_line_by_line(server: Langfuse) -> None:
    code, text = report(environ(server.url))
    assert code == 0
    assert f"otel-langfuse doctor: {server.url}\n" in text
    assert "  secret_key  ***  (LANGFUSE_SECRET_KEY)\n" in text
    assert "  ok    server            Langfuse 4.16.0\n" in text
    code, text = report(environ(server.url, LANGFUSE_SECRET_KEY="wrong"))
    assert code == 1
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  fail  credentials"))
    assert lines[at + 1].lstrip().startswith("-> check LANGFUSE_PUBLIC_KEY")


def test_without_a_test_observation_nothing_is_sent(server: Langfuse) -> None:
    code, document = examine(environ(server.url), sends=False)
    assert code == 0
    assert statuses(document)["test observation"] == "skip"
    assert server.spans == []


def test_a_spool_is_left_alone(server: Langfuse, tmp_path: Path) -> None:
    server.answers["/api/public/otel/v1/traces"] = (503, {})
    spool = tmp_path / "spool.db"
    code, document = examine(environ(server.url, LANGFUSE_SPOOL_PATH=str(spool), LANGFUSE_SPOOL_MODE="always"))
    assert code == 1
    assert finding(document, "test observation")["status"] == "fail"
    assert not spool.exists()


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LANGFUSE_TIMEOUT": "soon"}, "LANGFUSE_TIMEOUT='soon'"),
        ({"LANGFUSE_SECRET_KEY": ""}, "set LANGFUSE_SECRET_KEY"),
        ({"LANGFUSE_PUBLIC_KEY": SECRET, "LANGFUSE_SECRET_KEY": PUBLIC}, "swapped"),
        ({"LANGFUSE_SECRET_KEY": f'"{SECRET}"'}, "quotation marks"),
        ({"LANGFUSE_SECRET_KEY": "sk-lf:1"}, "colon"),
        ({"LANGFUSE_SPOOL_PATH": "/nowhere/spool.db"}, "spool_path"),
        ({"LANGFUSE_CERTIFICATE": "/nowhere/ca.pem"}, "certificate_file='/nowhere/ca.pem'"),
    ],
)
def test_settings_that_cannot_work_fail(variables: dict[str, str], words: str, server: Langfuse) -> None:
    out = io.StringIO()
    assert doctor(environ(server.url, **variables), {}, out, as_json=True) == 1
    assert SECRET not in out.getvalue()
    failed = [one for one in json.loads(out.getvalue())["findings"] if one["status"] == "fail"]
    assert [one["check"] for one in failed] == ["settings"]
    assert words in failed[0]["detail"]
    assert failed[0]["remedy"]
    assert server.spans == []
    assert all("authorization" not in headers for _, _, headers, _ in server.asked)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LANGFUSE_TRACING_ENABLED": "false"}, "LANGFUSE_TRACING_ENABLED"),
        ({"LANGFUSE_SAMPLE_RATE": "0"}, "LANGFUSE_SAMPLE_RATE"),
        ({"OTEL_SDK_DISABLED": "true"}, "OTEL_SDK_DISABLED"),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, "OTEL_TRACES_SAMPLER"),
    ],
)
def test_settings_by_which_an_application_sends_nothing_are_warned_of(
    variables: dict[str, str], words: str, server: Langfuse
) -> None:
    code, document = examine(environ(server.url, **variables))
    assert code == 0
    (warned,) = [one for one in document["findings"] if one["status"] == "warn"]
    assert words in warned["detail"]
    assert warned["remedy"]


def test_keys_over_plain_http_are_warned_of() -> None:
    code, document = examine(environ("http://langfuse.invalid"))
    assert code == 1
    assert [one["status"] for one in document["findings"]] == ["ok", "warn", "fail"]
    assert "unencrypted" in document["findings"][1]["detail"]
    assert "cannot be resolved" in finding(document, "name")["detail"]


# -- network -----------------------------------------------------------------------------------------------------------


def test_a_wrong_port() -> None:
    with closed_port() as url:
        code, document = examine(environ(url))
    assert code == 1
    assert statuses(document) == {"settings": "ok", "name": "ok", "connection": "fail"}
    assert "nothing listens there: check the port of LANGFUSE_BASE_URL" in finding(document, "connection")["remedy"]


def test_a_server_that_never_answers() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        begin = time.monotonic()
        code, document = examine(environ(f"http://127.0.0.1:{sock.getsockname()[1]}", LANGFUSE_TIMEOUT="0.3"))
        assert time.monotonic() - begin < 3
    assert code == 1
    assert finding(document, "server")["status"] == "fail"
    assert "no answer within 0.3 s" in finding(document, "server")["detail"]


def test_through_a_proxy_its_address_is_told_and_its_login_is_not(server: Langfuse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:hidden@127.0.0.1:{server.server_address[1]}")
    monkeypatch.delenv("HTTP_PROXY", raising=False)
    server.answers["http://langfuse.invalid/api/public/health"] = (200, {"status": "OK", "version": "4.0.0"})
    code, text = report(environ("http://langfuse.invalid"))
    assert code == 1, "this proxy has no more to say"
    assert f"requests go through 127.0.0.1:{server.server_address[1]}" in text
    assert "Langfuse 4.0.0" in text
    assert "hidden" not in text


# -- TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    folder = tmp_path_factory.mktemp("tls")
    for name, days, host in (
        ("good", "90", "IP:127.0.0.1"),
        ("soon", "3", "IP:127.0.0.1"),
        ("other", "90", "DNS:langfuse.example"),
    ):
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=x",
        ]
        command += ["-days", days, "-addext", f"subjectAltName={host}"]
        command += ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
        subprocess.run(command, capture_output=True, check=True, timeout=30)
    return folder


def secured(server: Langfuse, certificates: Path, name: str) -> Langfuse:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.scheme = "https"
    return server


def test_a_certificate_that_nobody_vouches_for(certificates: Path) -> None:
    with secured(Langfuse(), certificates, "good") as server:
        code, document = examine(environ(server.url))
        assert code == 1
        assert statuses(document)["TLS"] == "fail"
        assert "self-signed" in finding(document, "TLS")["detail"].replace("self signed", "self-signed")
        assert "LANGFUSE_CERTIFICATE" in finding(document, "TLS")["remedy"]
        assert server.asked == []


def test_a_certificate_that_is_named_is_trusted(certificates: Path) -> None:
    with secured(Langfuse(), certificates, "good") as server:
        code, document = examine(environ(server.url, LANGFUSE_CERTIFICATE=str(certificates / "good.pem")))
        assert code == 0, document
        assert "trusted until" in finding(document, "TLS")["detail"]
        assert len(server.spans) == 1


def test_a_certificate_that_soon_ends(certificates: Path) -> None:
    with secured(Langfuse(), certificates, "soon") as server:
        code, document = examine(environ(server.url, LANGFUSE_CERTIFICATE=str(certificates / "soon.pem")))
        assert code == 0, document
        assert finding(document, "TLS")["status"] == "warn"
        assert "renew" in finding(document, "TLS")["remedy"]


def test_a_certificate_of_another_host(certificates: Path) -> None:
    with secured(Langfuse(), certificates, "other") as server:
        code, document = examine(environ(server.url, LANGFUSE_CERTIFICATE=str(certificates / "other.pem")))
        assert code == 1
        assert finding(document, "TLS")["remedy"] == "LANGFUSE_BASE_URL must name the server as its certificate does"


def test_https_where_plain_http_is_spoken(server: Langfuse) -> None:
    server.scheme = "https"
    code, document = examine(environ(server.url))
    assert code == 1
    assert "http://" in finding(document, "TLS")["remedy"]


# -- server, clock, keys, write mode -----------------------------------------------------------------------------------


def test_a_redirect_names_the_address_to_set(server: Langfuse) -> None:
    server.answers["/api/public/health"] = (302, b"")
    server.headers["Location"] = "https://user:pw@langfuse.example/base/api/public/health?x=1"
    code, document = examine(environ(server.url))
    assert code == 1
    assert finding(document, "server")["detail"].startswith("HTTP 302")
    assert finding(document, "server")["remedy"] == "set LANGFUSE_BASE_URL to https://langfuse.example/base"
    assert len(server.asked) == 1, "it is not followed, and nothing else is asked"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {"message": "Not found"}), "no Langfuse server answers"),
        ((200, b"<html>nginx</html>"), "no Langfuse server answers"),
        ((200, {"version": 4}), "no Langfuse server answers"),
        ((502, b"<html>bad gateway</html>"), "HTTP 502"),
        ((503, {"status": "Database not available", "version": "4.16.0"}), "not healthy"),
    ],
)
def test_a_server_that_is_not_langfuse_or_not_well(answer: tuple[int, Any], words: str, server: Langfuse) -> None:
    server.answers["/api/public/health"] = answer
    code, document = examine(environ(server.url))
    assert code == 1
    assert words in finding(document, "server")["detail"]
    assert finding(document, "server")["remedy"]
    assert statuses(document)["test observation"] == "skip"
    assert len(server.asked) == 1, "no key is shown to a stranger"


def test_a_server_too_old_for_otlp(server: Langfuse) -> None:
    server.version = "2.95.1"
    server.answers["/api/public/otel/v1/traces"] = (404, b"")
    code, document = examine(environ(server.url))
    assert code == 1
    assert "LangfuseIngestionExporter" in finding(document, "server")["remedy"]
    assert statuses(document)["write mode"] == "skip"
    assert not any(path.endswith("/ingestion") for _, path, _, _ in server.asked), "there the question would leave a trace"
    assert statuses(document)["test observation"] == "fail"


@pytest.mark.parametrize(("skew_s", "words"), [(-3600.0, "3,600 s ahead of"), (90.0, "behind")])
def test_a_clock_that_is_wrong(skew_s: float, words: str, server: Langfuse) -> None:
    server.skew_s = skew_s
    code, document = examine(environ(server.url))
    assert code == 0
    assert finding(document, "clock")["status"] == "warn"
    assert words in finding(document, "clock")["detail"].replace("3,601", "3,600").replace("3,599", "3,600")
    assert "NTP" in finding(document, "clock")["remedy"]


@pytest.mark.parametrize(
    ("date", "status"),
    [
        ("Sat, 21 Nov 2026 00:00:00 GMT", "ok"),
        ("Sat, 21 Nov 2026 00:00:07 GMT", "warn"),
        ("Fri, 20 Nov 2026 23:59:52 GMT", "warn"),
        ("tomorrow", "skip"),
        ("", "skip"),
    ],
)
def test_the_clock_is_read_to_the_second(date: str, status: str) -> None:
    midnight = 1795219200.0
    assert langfuse.clock({"date": date}, midnight).status == status


def test_wrong_keys(server: Langfuse) -> None:
    code, document = examine(environ(server.url, LANGFUSE_SECRET_KEY="sk-lf-wrong"))
    assert code == 1
    found = finding(document, "credentials")
    assert found["detail"].startswith("refused with HTTP 401: Invalid credentials.")
    assert "LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY" in found["remedy"]
    assert server.spans == []


def test_keys_of_an_organization(server: Langfuse) -> None:
    server.answers["/api/public/projects"] = (403, {"message": "Invalid API key. Are you using an organization key?"})
    code, document = examine(environ(server.url))
    assert code == 1
    assert finding(document, "credentials")["remedy"] == "use the keys of a project, not of an organization"


def test_keys_without_a_project(server: Langfuse) -> None:
    server.answers["/api/public/projects"] = (200, {"data": []})
    code, document = examine(environ(server.url))
    assert code == 1
    assert finding(document, "credentials")["status"] == "fail"


@pytest.mark.parametrize(
    ("prepare", "status", "words"),
    [
        ({"write_mode": "events_only"}, "ok", "events_only"),
        ({"write_mode": "legacy"}, "ok", "and by LangfuseIngestionExporter"),
        ({"answers": {"/api/public/ingestion": (404, {})}}, "ok", "there is no ingestion API"),
        ({"answers": {"/api/public/ingestion": (500, b"oops")}}, "warn", "it cannot be told: HTTP 500"),
        (
            {"answers": {"/api/public/ingestion": (403, {"message": "Ingestion suspended: Usage threshold exceeded."})}},
            "fail",
            "Ingestion suspended",
        ),
    ],
)
def test_what_the_server_takes(prepare: dict[str, Any], status: str, words: str, server: Langfuse) -> None:
    for name, value in prepare.items():
        setattr(server, name, value)
    code, document = examine(environ(server.url))
    assert finding(document, "write mode")["status"] == status
    assert words in finding(document, "write mode")["detail"]
    assert code == (1 if status == "fail" else 0)
    bodies = [json.loads(body) for _, path, _, body in server.asked if path.endswith("/ingestion")]
    assert [event["body"] for body in bodies for event in body["batch"]] == [{}], "an event without an id: nothing is kept of it"


def test_a_test_observation_that_is_refused(server: Langfuse) -> None:
    server.answers["/api/public/otel/v1/traces"] = (413, b"too large")
    code, document = examine(environ(server.url))
    assert code == 1
    assert "HTTP 413" in finding(document, "test observation")["detail"]


def test_what_a_server_says_cannot_act_on_the_terminal(server: Langfuse) -> None:
    server.project = "\x1b[2J\x1b]0;owned\x07\nok    fake"
    server.version = "4.0.0\x1b[31m"
    code, text = report(environ(server.url))
    assert code == 0
    assert not {"\x1b", "\x07"} & set(text)
    assert not any(line.startswith("ok    fake") for line in text.splitlines())


# -- collectors and local files ----------------------------------------------------------------------------------------


def test_a_collector_gets_a_test_observation_and_no_key_of_langfuses(server: Langfuse) -> None:
    server.answers["/v1/traces"] = (200, {})
    collector = Collector(f"{server.url}/v1/traces", "http/protobuf", {"x-key": "collectors-own"})
    server.skew_s = 100
    code, document = examine(environ("https://langfuse.invalid"), collector)
    assert code == 0, document
    assert statuses(document) == {
        "settings": "ok",
        "name": "ok",
        "connection": "ok",
        "TLS": "skip",
        "clock": "warn",
        "test observation": "ok",
    }
    assert document["destination"] == f"{server.url}/v1/traces"
    (post,) = [headers for method, _, headers, _ in server.asked if method == "POST"]
    assert post["x-key"] == "collectors-own"
    assert "collectors-own" not in json.dumps(document)
    assert not any("authorization" in headers for _, _, headers, _ in server.asked)
    assert probe.ENVIRONMENT in str(ExportTraceServiceRequest.FromString(gzip.decompress(server.asked[-1][3])))


def test_a_collector_that_speaks_grpc() -> None:
    grpc_servers = pytest.importorskip("grpc_servers", reason="grpcio is not installed")
    with grpc_servers.GrpcServer() as collector:
        code, document = examine({}, Collector(collector.url, "grpc", {}))
        assert code == 0, document
        assert statuses(document) == {
            "settings": "ok",
            "name": "ok",
            "connection": "ok",
            "TLS": "skip",
            "test observation": "ok",
        }
        assert [call.names for call in collector.taken] == [["otel-langfuse doctor"]]


def test_a_collector_at_another_path(server: Langfuse) -> None:
    code, document = examine(environ(server.url), Collector(f"{server.url}/wrong", "http/protobuf", {}))
    assert code == 1
    assert "/v1/traces" in finding(document, "test observation")["remedy"]


def test_an_endpoint_that_is_none_fails_without_showing_its_login() -> None:
    out = io.StringIO()
    code = doctor({}, {}, out, collector=Collector("http://user:pw@127.0.0.1:1/v1/traces", "http/protobuf", {}))
    assert code == 1
    assert "endpoint=...: expected" in out.getvalue()
    assert "pw" not in out.getvalue()


def test_a_local_store_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    code, document = examine({"LANGFUSE_BASE_URL": f"sqlite:///{path}"})
    assert code == 0
    assert statuses(document) == {"settings": "ok", "file": "ok", "test observation": "ok"}
    store = Store(path, create=False)
    (trace,) = store.traces()
    assert trace.environment == probe.ENVIRONMENT
    store.close()


def test_a_local_store_that_cannot_be(tmp_path: Path) -> None:
    code, document = examine({"LANGFUSE_BASE_URL": f"sqlite:///{tmp_path}/nowhere/traces.db"})
    assert code == 1
    assert "is no directory" in finding(document, "file")["detail"]
    (tmp_path / "text.db").write_text("this is no database, but a text that is long enough to be taken for one" * 20)
    code, document = examine({"LANGFUSE_BASE_URL": f"sqlite:///{tmp_path}/text.db"})
    assert code == 1
    assert statuses(document) == {"settings": "ok", "file": "ok", "test observation": "fail"}


# -- the command -------------------------------------------------------------------------------------------------------


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otel_langfuse", "doctor", *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_exits_with_1_if_something_fails_and_says_nothing_on_standard_error(server: Langfuse) -> None:
    done = run("--json", **environ(server.url))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["ok"] is True
    done = run("--json", "--no-send", **environ(server.url, LANGFUSE_SECRET_KEY="sk-wrong"))
    assert (done.returncode, done.stderr) == (1, "")
    done = run("--endpoint", f"{server.url}/v1/traces", "--header", "a=b", **environ("https://langfuse.invalid"))
    assert (done.returncode, done.stderr) == (1, "")
    assert server.asked[-1][2]["a"] == "b"


@pytest.mark.parametrize("arguments", [("--header", "a=b"), ("--endpoint", "http://x", "--header", "ab"), ("--grpc",)])
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).returncode == 2
