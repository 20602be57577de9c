"""OTLP as JSON over HTTP: the same spans as in protobuf, in requests that keep to their size."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor
from otel_langfuse.encode.otlp import requests, to_protobuf
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request, Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.prepare import items_of
from otel_langfuse.spans import from_otlp
from servers import Server, provider_with, sdk_spans, status, when
from test_encode_otlp import EXACT, PARENT, RESOURCE, SCOPE, SPAN, TRACE, VALUES, span

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


def made(spans: list[Span], limit: int = 10**9, compression: Any = "none") -> tuple[list[Request], list[Drop]]:
    url = "http://127.0.0.1/v1/traces"
    return requests(spans, url=url, headers={}, max_request_bytes=limit, compression=compression, protocol="http/json")


def read(body: bytes) -> ExportTraceServiceRequest:
    """By protobuf's own reader of JSON, which refuses fields that it does not know; only its ids are in base64, not in hex."""

    def with_base64(value: Any) -> Any:
        if isinstance(value, list):
            return [with_base64(item) for item in value]
        if not isinstance(value, dict):
            return value
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode() if key in ids else with_base64(item)
            for key, item in value.items()
        }

    return json_format.ParseDict(with_base64(json.loads(body)), ExportTraceServiceRequest())


def names(body: bytes) -> list[str]:
    return [one.name for one in from_otlp(body)]


def rich(attributes: Mapping[str, Any]) -> Span:
    return span("rich", attributes)._replace(
        parent_span_id=PARENT,
        kind=3,
        status_code=2,
        status_message="why",
        events=(SpanEvent("e", 7, attributes, 1),),
        links=(SpanLink(TRACE, SPAN, "a=b", attributes, 2, 768),),
        trace_state="c=d",
        flags=257,
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
    )


def test_it_is_json_and_says_so() -> None:
    (request,), drops = made([span("a"), span("b")], compression="gzip")
    assert not drops
    assert request.headers == {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert names(gzip.decompress(request.body)) == ["a", "b"]
    (request,), _ = made([span("a")])
    assert request.headers == {"Content-Type": "application/json"}
    assert names(request.body) == ["a"]


def test_no_spans_are_no_request() -> None:
    assert made([]) == ([], [])


def test_it_is_what_protobuf_says_by_protobufs_own_reader() -> None:
    other = Resource({"service.name": "other"}), Scope("two", None, {"k": 1}, "u", 5)
    spans = [rich(VALUES), span("b", resource=other[0]), span("c", scope=other[1]), span("d")]
    (request,), _ = made(spans)
    assert read(request.body) == ExportTraceServiceRequest.FromString(to_protobuf(spans))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=3), EXACT, max_size=4))
def test_whatever_values_a_span_has_it_is_the_same_in_both(attributes: dict[str, Any]) -> None:
    spans = [rich(attributes), span("b")]
    (request,), drops = made(spans)
    assert not drops
    assert read(request.body) == ExportTraceServiceRequest.FromString(to_protobuf(spans))


@pytest.mark.parametrize("size", [1, 700, 4000])
def test_each_request_keeps_to_the_limit_and_none_is_smaller_than_need_be(size: int) -> None:
    resources = [Resource({"service.name": f"r{i}"}) for i in range(3)]
    scopes = [Scope(f"s{i}" * 20, "1") for i in range(2)]
    spans = [span(f"n{i}", {"text": "ä" * size}, resource=resources[i % 3], scope=scopes[i % 2]) for i in range(40)]
    limit = 20_000
    made_requests, drops = made(spans, limit)
    assert not drops
    assert [item.name for request in made_requests for item in request.items] == [one.name for one in spans]
    for request in made_requests:
        assert len(request.body) <= limit
        assert sorted(names(request.body)) == sorted(item.name for item in request.items)
    sizes = [len(request.body) for request in made_requests]
    assert all(one + other > limit for one, other in itertools.pairwise(sizes)), sizes


def test_the_limit_holds_to_the_byte() -> None:
    spans = [span("a"), span("b", resource=Resource()), span("c", scope=Scope()), span("d")]
    (whole,), _ = made(spans)
    for limit in range(len(whole.body) - 200, len(whole.body) + 50):
        assert all(len(request.body) <= limit for request in made(spans, limit)[0])
    assert len(made(spans, len(whole.body) - 1)[0]) == 2


def test_a_span_that_is_larger_than_the_limit_stands_alone() -> None:
    made_requests, drops = made([span("a"), span("giant", {"x": "y" * 5000}), span("c"), span("d")], 2000)
    assert not drops
    assert [[item.name for item in request.items] for request in made_requests] == [["a"], ["giant"], ["c", "d"]]


@pytest.mark.parametrize(
    "wrong", [{"trace_id": "not hex"}, {"trace_id": TRACE[:-2]}, {"span_id": ""}, {"parent_span_id": "x"}, {"span_id": None}]
)
def test_a_span_whose_ids_otlp_cannot_hold_is_dropped_and_its_neighbours_are_sent(wrong: dict[str, Any]) -> None:
    (request,), drops = made([span("a"), span("bad")._replace(**wrong), span("c")])
    assert [(drop.reason, drop.count, "hex" in drop.detail) for drop in drops] == [(DropReason.UNREADABLE, 1, True)]
    assert names(request.body) == [item.name for item in request.items] == ["a", "c"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "\ud800"},
        {"name": 7},
        {"start_time_unix_nano": -1},
        {"end_time_unix_nano": 2**64},
        {"kind": -1},
        {"flags": 2**32},
        {"events": (SpanEvent("e", -5),)},
        {"links": (SpanLink("", ""),)},
        {"attributes": {"k": object, "n": 2**70, "s": {1, 2}}},
        {"status_message": 7},
        {"dropped_links_count": -1},
        {"scope": Scope("s", None, {}, "", -1)},
    ],
)
def test_what_otlp_cannot_hold_is_repaired_so_that_no_server_refuses_the_request(wrong: dict[str, Any]) -> None:
    spans = [span("a"), span("b")._replace(**wrong), span("c")]
    (request,), drops = made(spans)
    assert not drops
    assert len(request.items) == 3
    (original,) = read(request.body).resource_spans
    assert original == ExportTraceServiceRequest.FromString(to_protobuf(spans)).resource_spans[0]


def test_a_span_that_cannot_even_be_repaired_is_dropped_and_its_neighbours_are_sent() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("secret")

    (request,), drops = made([span("a"), span("b", {"k": Hostile()}), span("c")])
    assert names(request.body) == ["a", "c"]
    assert [(drop.reason, "secret" in drop.detail) for drop in drops] == [(DropReason.UNREADABLE, False)]


def test_resources_and_scopes_that_compare_equal_but_are_not_one_are_kept_apart_as_in_protobuf() -> None:
    spans = [span("a", resource=RESOURCE), span("b", resource=Resource(*RESOURCE)), span("c", scope=Scope(*SCOPE))]
    (request,), _ = made(spans)
    assert len(json.loads(request.body)["resourceSpans"]) == 2


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_request_of_any_protocol_can_be_read_back_as_the_spool_does(protocol: Any, compression: Any) -> None:
    spans = [rich({"k": "v", "n": 7}), span("b")]
    (request,), _ = requests(
        spans, url="http://h/p", headers={}, max_request_bytes=10**9, compression=compression, protocol=protocol
    )
    assert [one._replace(scope=SCOPE) for one in items_of(request)] == spans


# -- at the exporter's door --------------------------------------------------------------------------------------------


def test_it_goes_to_langfuse_with_its_keys_and_to_a_collector_without() -> None:
    with Server() as langfuse, Server() as collector:
        keys = {"public_key": "pk-lf-1", "secret_key": "sk-lf-SECRET", "base_url": langfuse.url}
        assert LangfuseOTLPExporter(protocol="http/json", **keys).export(sdk_spans(["a"])) is SUCCESS
        endpoint = collector.url + "/v1/traces"
        assert LangfuseOTLPExporter(endpoint=endpoint, protocol="http/json").export(sdk_spans(["a"])) is SUCCESS
        for received, path in ((langfuse.received[0], "/api/public/otel/v1/traces"), (collector.received[0], "/v1/traces")):
            assert received.path == path
            assert received.headers["content-type"] == "application/json"
            assert received.headers["content-encoding"] == "gzip"
            assert names(received.body) == ["a"]
        assert langfuse.received[0].headers["authorization"].startswith("Basic ")
        assert "authorization" not in collector.received[0].headers


def test_what_is_too_large_is_sent_in_halves_and_partial_success_is_counted() -> None:
    small = when(
        lambda received: len(received.body) > 20_000, status(413), status(200, b'{"partialSuccess":{"rejectedSpans":"1"}}')
    )
    with Server(small) as server:
        exporter = LangfuseOTLPExporter(endpoint=server.url, protocol="http/json")
        assert exporter.export(sdk_spans([f"s{i}" for i in range(8)], text="x" * 5000)) is FAILURE
        taken = [name for received in server.taken for name in names(received.body)]
        assert sorted(taken) == [f"s{i}" for i in range(8)]
        assert exporter.stats()[:5] == (8, 8 - len(server.taken), 0, {"rejected": len(server.taken)}, 0)


def test_one_span_that_the_server_cannot_take_costs_its_neighbours_nothing() -> None:
    with Server(when(lambda received: b'"bad"' in received.body, status(400), status(200))) as server:
        exporter = LangfuseOTLPExporter(endpoint=server.url, protocol="http/json")
        exporter.export(sdk_spans(["a", "bad", "c", "d"]))
        assert sorted(name for received in server.taken for name in names(received.body)) == ["a", "c", "d"]
        assert exporter.stats().dropped == {"rejected": 1}


def test_masked_spans_leave_masked() -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(endpoint=server.url, protocol="http/json")
        processor = LangfuseSpanProcessor(exporter, mask=lambda data: data.replace("SECRET", "***"))
        provider_with(processor).get_tracer("t").start_span("SECRET", attributes={"k": "SECRET"}).end()
        assert processor.force_flush()
        processor.shutdown()
        assert b"SECRET" not in server.received[0].body
        assert names(server.received[0].body) == ["***"]
