"""``OTEL_EXPORTER_OTLP_*``: honoured for collectors as the stock exporters honour it, and never anywhere near Langfuse."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as StockHttpExporter
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_langfuse import ConfigError, LangfuseIngestionExporter, LangfuseOTLPExporter, LangfuseSpanProcessor
from otel_langfuse.api import Api
from otel_langfuse.config import Config, otlp_variables
from otel_langfuse.errors import ApiError
from otel_langfuse.exporters import _otel_env
from otel_langfuse.exporters.entry_points import LangfuseIngestionTracesExporter, LangfuseTracesExporter
from otel_langfuse.scores import Scores
from servers import Server, multi_status, provider_with, sdk_spans, status, when

pytestmark = pytest.mark.usefixtures("every_span")

SUCCESS = SpanExportResult.SUCCESS
PREFIX = "OTEL_EXPORTER_OTLP_"


def collector(**variables: str) -> _otel_env.Collector:
    return _otel_env.collector(otlp_variables({PREFIX + name: text for name, text in variables.items()}))


# -- the rules ---------------------------------------------------------------------------------------------------------

ENDPOINTS: dict[str, tuple[dict[str, str], str]] = {
    "none": ({}, "http://localhost:4318/v1/traces"),
    "blank": ({"ENDPOINT": "  ", "TRACES_ENDPOINT": ""}, "http://localhost:4318/v1/traces"),
    "general": ({"ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
    "general with a slash": ({"ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
    "general with a path": ({"ENDPOINT": "https://c/otlp/"}, "https://c/otlp/v1/traces"),
    "for traces": ({"TRACES_ENDPOINT": "http://c/here"}, "http://c/here"),
    "for traces, with a slash": ({"TRACES_ENDPOINT": "http://c/"}, "http://c/"),
    "for traces, without a path": ({"TRACES_ENDPOINT": "http://c:4318"}, "http://c:4318"),
    "both": ({"ENDPOINT": "http://general", "TRACES_ENDPOINT": "http://c/specific"}, "http://c/specific"),
    "grpc, none": ({"PROTOCOL": "grpc"}, "http://localhost:4317"),
    "grpc, general": ({"PROTOCOL": "grpc", "ENDPOINT": "http://c:4317/"}, "http://c:4317"),
    "grpc, tls": ({"PROTOCOL": "grpc", "TRACES_ENDPOINT": "https://c:4317"}, "https://c:4317"),
    "grpc, no scheme": ({"PROTOCOL": "grpc", "ENDPOINT": "c:4317"}, "https://c:4317"),
    "grpc, no scheme, insecure": ({"PROTOCOL": "grpc", "ENDPOINT": "c:4317", "INSECURE": "True"}, "http://c:4317"),
    "grpc, a scheme says more": ({"PROTOCOL": "grpc", "ENDPOINT": "https://c:4317", "INSECURE": "true"}, "https://c:4317"),
    "insecure is for grpc": ({"ENDPOINT": "https://c", "INSECURE": "true"}, "https://c/v1/traces"),
}


@pytest.mark.parametrize("which", ENDPOINTS)
def test_the_endpoint(which: str) -> None:
    variables, endpoint = ENDPOINTS[which]
    assert collector(**variables).endpoint == endpoint


def test_what_is_for_traces_wins_and_replaces_whole() -> None:
    general = {
        "PROTOCOL": "grpc",
        "HEADERS": "a=1,b=2",
        "TIMEOUT": "7",
        "COMPRESSION": "none",
        "CERTIFICATE": __file__,
        "CLIENT_CERTIFICATE": __file__,
        "CLIENT_KEY": __file__,
    }
    found = collector(**general)
    assert found == ("http://localhost:4317", "grpc", {"a": "1", "b": "2"}, 7.0, "none", __file__, __file__, __file__)
    other = str(Path(__file__).with_name("servers.py"))
    specific = {
        "TRACES_PROTOCOL": "http/json",
        "TRACES_HEADERS": "c=3",
        "TRACES_TIMEOUT": "0.5",
        "TRACES_COMPRESSION": "gzip",
        "TRACES_CERTIFICATE": other,
        "TRACES_CLIENT_CERTIFICATE": other,
        "TRACES_CLIENT_KEY": other,
    }
    found = collector(**general, **specific)
    assert found == ("http://localhost:4318/v1/traces", "http/json", {"c": "3"}, 0.5, "gzip", other, other, other)


def test_where_nothing_is_said_it_is_as_the_specification_has_it() -> None:
    assert collector() == ("http://localhost:4318/v1/traces", "http/protobuf", {}, 10.0, None, None, None, None)


def test_headers_are_percent_decoded() -> None:
    text = "api-key=a%2Cb%3Dc, X-Name = Gr%C3%BC%C3%9Fe ,,authorization=Basic%20dTpw==,"
    assert collector(HEADERS=text).headers == {"api-key": "a,b=c", "X-Name": "Grüße", "authorization": "Basic dTpw=="}


BAD: dict[str, tuple[dict[str, str], str]] = {
    "ENDPOINT": ({"ENDPOINT": "localhost:4318"}, "http"),
    "TRACES_ENDPOINT": ({"ENDPOINT": "http://c", "TRACES_ENDPOINT": "ftp://c"}, "http"),
    "ENDPOINT ": ({"ENDPOINT": "http://user:SECRET@c"}, "without credentials"),
    "ENDPOINT  ": ({"PROTOCOL": "grpc", "ENDPOINT": "http://c:4318/v1/traces"}, "without a path"),
    "PROTOCOL": ({"PROTOCOL": "http"}, "http/protobuf or http/json or grpc"),
    "TRACES_PROTOCOL": ({"TRACES_PROTOCOL": "kafka"}, "http/protobuf or http/json or grpc"),
    "HEADERS": ({"HEADERS": "api-key SECRET"}, "name=value"),
    "TRACES_HEADERS": ({"TRACES_HEADERS": "=SECRET"}, "name=value"),
    "TIMEOUT": ({"TIMEOUT": "10s"}, "a number of seconds"),
    "TIMEOUT ": ({"TIMEOUT": "0"}, "a number of seconds"),
    "TIMEOUT  ": ({"TIMEOUT": "nan"}, "a number of seconds"),
    "COMPRESSION": ({"COMPRESSION": "deflate"}, "gzip or none; deflate is not supported"),
    "CERTIFICATE": ({"CERTIFICATE": "/nowhere/ca.pem"}, "the path of a PEM file"),
    "TRACES_CLIENT_KEY": ({"TRACES_CLIENT_KEY": "/nowhere/key.pem"}, "the path of a PEM file"),
    "INSECURE": ({"PROTOCOL": "grpc", "ENDPOINT": "c:4317", "INSECURE": "perhaps"}, "true or false"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_work_is_refused_by_its_variables_name(name: str) -> None:
    variables, expected = BAD[name]
    with pytest.raises(ConfigError, match=f"^{PREFIX}{name.strip()}=.*: expected .*{expected}") as raised:
        collector(**variables)
    assert "SECRET" not in str(raised.value)


def test_headers_that_cannot_be_sent_are_refused_without_being_shown() -> None:
    for text in ("x=a%0Ab-SECRET", "content-type=SECRET"):
        with pytest.raises(ConfigError) as raised:
            LangfuseOTLPExporter.for_collector({PREFIX + "HEADERS": text})
        assert "SECRET" not in str(raised.value)


# -- on the wire, beside the stock exporter ----------------------------------------------------------------------------


@pytest.mark.parametrize("specific", [False, True])
def test_a_collector_gets_from_us_what_it_gets_from_the_stock_exporter(specific: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as server, Server() as nobody:
        monkeypatch.setenv(PREFIX + "ENDPOINT", f"{nobody.url}/general" if specific else f"{server.url}/base")
        monkeypatch.setenv(PREFIX + "HEADERS", "x-general=1,authorization=Bearer%20general")
        monkeypatch.setenv(PREFIX + "COMPRESSION", "gzip")
        monkeypatch.setenv(PREFIX + "TIMEOUT", "3")
        if specific:
            monkeypatch.setenv(PREFIX + "TRACES_ENDPOINT", f"{server.url}/specific")
            monkeypatch.setenv(PREFIX + "TRACES_HEADERS", "x-team=a%20b%2Cc")
            monkeypatch.setenv(PREFIX + "TRACES_COMPRESSION", "none")
        spans = sdk_spans(["a"])
        assert StockHttpExporter().export(spans) is SUCCESS
        ours = LangfuseOTLPExporter.for_collector()
        assert ours.export(spans) is SUCCESS
        stock, mine = server.received
        assert not nobody.received
        assert mine.path == stock.path == ("/specific" if specific else "/base/v1/traces")
        assert mine.body == stock.body
        different = {"user-agent", "accept", "accept-encoding", "connection", "content-length", "host"}
        assert {k: v for k, v in mine.headers.items() if k not in different} == {
            k: v for k, v in stock.headers.items() if k not in different
        }


def test_the_timeout_is_in_seconds_and_holds() -> None:
    found = LangfuseOTLPExporter.for_collector({PREFIX + "TIMEOUT": "2500", PREFIX + "TRACES_TIMEOUT": "1.5"})
    assert found._timeout_s == 1.5


def test_json_goes_to_the_collector_that_asks_for_it() -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter.for_collector({PREFIX + "ENDPOINT": server.url, PREFIX + "PROTOCOL": "http/json"})
        assert exporter.export(sdk_spans(["a"])) is SUCCESS
        assert server.received[0].headers["content-type"] == "application/json"
        assert server.received[0].headers["content-encoding"] == "gzip", "compressed unless it says none"


def test_grpc_goes_to_the_collector_that_asks_for_it() -> None:
    pytest.importorskip("grpc")
    from grpc_servers import GrpcServer  # noqa: PLC0415 - needs grpc

    with GrpcServer() as server:
        variables = {"ENDPOINT": server.url, "PROTOCOL": "grpc", "HEADERS": "X-Team=a%20b"}
        exporter = LangfuseOTLPExporter.for_collector({PREFIX + name: text for name, text in variables.items()})
        assert exporter.export(sdk_spans(["a"])) is SUCCESS
        assert server.received[0].metadata["x-team"] == "a b"
        exporter.shutdown()


def test_a_collector_by_variables_may_have_a_dialect_and_a_spool(tmp_path: Path) -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter.for_collector(
            {PREFIX + "ENDPOINT": server.url, PREFIX + "COMPRESSION": "none"},
            dialect="openinference",
            dialect_only=True,
            spool_path=tmp_path / "spool.db",
            spool_mode="always",
        )
        assert exporter.keeps
        call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
        assert exporter.export(sdk_spans(["a"], **call)) is SUCCESS
        exporter.shutdown()
        assert (tmp_path / "spool.db").exists()
        assert b"openinference.span.kind" in server.received[0].body
        assert b"gen_ai.request.model" not in server.received[0].body


def test_a_setting_that_no_exporter_has_is_refused() -> None:
    with pytest.raises(TypeError, match="flush_at"):
        LangfuseOTLPExporter.for_collector({}, flush_at=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="spool_pth"):
        LangfuseOTLPExporter(endpoint="http://127.0.0.1:1/v1/traces", spool_pth="x")  # type: ignore[call-arg]


# -- nothing leaks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The environment of somebody who sends to another vendor, too, by every variable that there is."""
    with Server() as server:
        for part in ("", "TRACES_"):
            monkeypatch.setenv(f"{PREFIX}{part}ENDPOINT", server.url)
            monkeypatch.setenv(f"{PREFIX}{part}HEADERS", "x-honeycomb-team=HONEYKEY,authorization=Bearer%20HONEYKEY")
            monkeypatch.setenv(f"{PREFIX}{part}PROTOCOL", "grpc")
            monkeypatch.setenv(f"{PREFIX}{part}COMPRESSION", "deflate")
            monkeypatch.setenv(f"{PREFIX}{part}TIMEOUT", "0.001")
            monkeypatch.setenv(f"{PREFIX}{part}CERTIFICATE", "/nowhere/ca.pem")
            monkeypatch.setenv(f"{PREFIX}{part}CLIENT_CERTIFICATE", "/nowhere/client.pem")
        yield server


def by_processor() -> None:
    processor = LangfuseSpanProcessor()
    provider_with(processor).get_tracer("t").start_span("a").end()
    assert processor.force_flush()
    processor.shutdown()


TO_LANGFUSE = {
    "exporter": lambda: LangfuseOTLPExporter().export(sdk_spans(["a"])),
    "json": lambda: LangfuseOTLPExporter(protocol="http/json").export(sdk_spans(["a"])),
    "ingestion": lambda: LangfuseIngestionExporter().export(sdk_spans(["a"])),
    "processor": by_processor,
    "entry point": lambda: LangfuseTracesExporter().export(sdk_spans(["a"])),
    "ingestion's entry point": lambda: LangfuseIngestionTracesExporter().export(sdk_spans(["a"])),
}


@pytest.mark.parametrize("door", TO_LANGFUSE)
def test_nothing_that_is_for_another_vendor_reaches_langfuse(door: str, vendor: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    otlp_or_ingestion = when(lambda got: got.path.endswith("/ingestion"), multi_status(lambda _: None), status(200))
    with Server(otlp_or_ingestion) as langfuse:
        monkeypatch.setenv("LANGFUSE_BASE_URL", langfuse.url)
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-SECRET")
        TO_LANGFUSE[door]()
        assert len(langfuse.taken) == 1
        assert "HONEYKEY" not in repr(langfuse.received)
        assert langfuse.received[0].headers["authorization"].startswith("Basic ")
        assert not vendor.received


def by_scores() -> None:
    scores = Scores(Config.from_env())
    scores.create("good", 1.0, trace_id="a" * 32)
    scores.flush(5.0)
    scores.shutdown(0.5)


def by_media() -> None:
    exporter = LangfuseOTLPExporter()
    exporter.export(sdk_spans(["a"], **{"input.value": "data:image/png;base64,iVBORw0KGgo" + "A" * 401 + "="}))
    exporter.shutdown()


def by_api() -> None:
    api = Api(Config.from_env())
    with contextlib.suppress(ApiError):
        api.call("POST", "/v2/prompts", {"name": "p"})
    api.close()


OTHER_DOORS = {"scores": by_scores, "media": by_media, "prompts and datasets": by_api}


@pytest.mark.parametrize("door", OTHER_DOORS)
def test_neither_does_it_by_scores_media_and_prompts(door: str, vendor: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(when(lambda got: got.path.endswith("/ingestion"), multi_status(lambda _: None), status(200))) as langfuse:
        use(langfuse, monkeypatch)
        OTHER_DOORS[door]()
        assert langfuse.received
        assert any(door.split(maxsplit=1)[0].rstrip("s") in received.path for received in langfuse.received) or door == "scores"
        assert "HONEYKEY" not in repr(langfuse.received)
        assert all(received.headers["authorization"].startswith("Basic ") for received in langfuse.received)
        assert not vendor.received


@pytest.mark.parametrize("code", [302, 307])
@pytest.mark.parametrize("door", [*(door for door in TO_LANGFUSE if door != "processor"), *OTHER_DOORS])
def test_no_door_follows_a_redirect_to_another_host(door: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as elsewhere, Server(status(code, Location=f"{elsewhere.url}/api/public/otel/v1/traces")) as langfuse:
        use(langfuse, monkeypatch)
        (TO_LANGFUSE | OTHER_DOORS)[door]()
        assert langfuse.received
        assert not elsewhere.received


def use(langfuse: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_BASE_URL", langfuse.url)
    monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-SECRET")


def test_nothing_that_is_for_langfuse_reaches_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as langfuse, Server() as server:
        monkeypatch.setenv("LANGFUSE_BASE_URL", langfuse.url)
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", "pk-lf-1")
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", "sk-lf-SECRET")
        monkeypatch.setenv(PREFIX + "ENDPOINT", server.url)
        LangfuseOTLPExporter.for_collector().export(sdk_spans(["a"]))
        LangfuseOTLPExporter(endpoint=server.url + "/v1/traces").export(sdk_spans(["b"]))
        assert server.names == ["a", "b"]
        for received in server.received:
            assert not [
                name for name in received.headers if "langfuse" in name.replace("user-agent", "") or name == "authorization"
            ]
            assert "lf-" not in repr(received)
        assert not langfuse.received
