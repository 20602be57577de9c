"""OTLP as the stock encoder writes it, whatever it cannot write repaired, in requests that keep to their size."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
import zlib
from collections.abc import Mapping
from enum import Enum, IntEnum
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from otel_langfuse.encode import _gzip
from otel_langfuse.encode.otlp import Compression, requests, to_json, to_protobuf
from otel_langfuse.errors import DropReason
from otel_langfuse.model import Request, Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.spans import from_otlp, from_otlp_json, from_sdk

SDK = tuple(map(int, version("opentelemetry-sdk").split(".")[:2]))
TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def span(name: str = "s", attributes: Mapping[str, Any] | None = None, **more: Any) -> Span:
    made = Span(TRACE, SPAN, None, name, 1, 2, attributes or {}, RESOURCE, SCOPE)
    return made._replace(**more)


RESOURCE = Resource({"service.name": "shop"}, "https://r.example/1")
SCOPE = Scope("scope", "1")


def read(payload: bytes) -> Any:
    return ExportTraceServiceRequest.FromString(payload)


def only(payload: bytes) -> Any:
    """The one span of a request."""
    (found,) = [made for entry in read(payload).resource_spans for group in entry.scope_spans for made in group.spans]
    return found


def of_value(value: Any) -> Any:
    """What becomes of one attribute's value, as OTLP."""
    return only(to_protobuf([span(attributes={"k": value})])).attributes[0].value


def made(spans: list[Span], limit: int = 10**9, compression: Compression = "none") -> tuple[list[Request], list[Any]]:
    return requests(spans, url="http://127.0.0.1/v1/traces", headers={}, max_request_bytes=limit, compression=compression)


# -- as the stock encoder

VALUES = {
    "str": "x",
    "unicode": "雪 \U0001f600",
    "empty": "",
    "true": True,
    "false": False,
    "int": -5,
    "zero": 0,
    "big": 2**63 - 1,
    "least": -(2**63),
    "float": 0.1,
    "inf": math.inf,
    "none": None,
    "bytes": b"\x00\xff",
    "list": ["a", "b"],
    "tuple": (1, 2),
    "floats": (0.5, -0.5),
    "bools": (True, False),
    "empty list": (),
    "mixed": ("a", 1, None),
    "nested": ((1,), ("a", ())),
    "map": {"a": 1, "b": {"c": [True]}},
    "empty map": {},
}


def sdk_span(i: int, resource: SdkResource, scope: InstrumentationScope, **more: Any) -> ReadableSpan:
    context = SpanContext(i + 1, i + 2, is_remote=False, trace_state=TraceState([("vendor", str(i))]) if i % 2 else None)
    fields: dict[str, Any] = {"start_time": 1_700_000_000_000_000_000 + i, "end_time": 1_700_000_000_000_000_999, **more}
    return ReadableSpan(f"span {i}", context, resource=resource, instrumentation_scope=scope, **fields)


def stock_spans() -> list[ReadableSpan]:
    resources = SdkResource({"service.name": "a", "n": 1}, "https://r.example/1"), SdkResource({})
    scopes = InstrumentationScope("one", "1.0"), InstrumentationScope("two"), InstrumentationScope("")
    parents = (None, SpanContext(1, 7, is_remote=True), SpanContext(1, 8, is_remote=False))
    statuses = (Status(StatusCode.OK), Status(StatusCode.ERROR, "why"), Status(StatusCode.ERROR), Status(StatusCode.UNSET))
    values = VALUES if SDK >= (1, 40) else {key: value for key, value in VALUES.items() if oldest_can_take(value)}
    link = Link(SpanContext(5, 6, is_remote=True), {"l": 1})
    return [
        sdk_span(
            i,
            resources[i % 2],
            scopes[i % 3],
            parent=parents[i % 3],
            kind=list(SpanKind)[i % 5],
            status=statuses[i % 4],
            attributes=dict(list(values.items())[: i * 3]),
            events=[Event("e", {"k": "v"}, 5 + j) for j in range(i % 3)],
            links=[link] * (i % 2),
        )
        for i in range(12)
    ]


def oldest_can_take(value: Any) -> bool:
    inner = value if isinstance(value, (list, tuple)) else (value,)
    return all(isinstance(item, (str, bool, int, float)) for item in inner)


def test_what_is_written_is_message_for_message_what_the_stock_encoder_writes() -> None:
    stock = stock_spans()
    spans, drops = from_sdk(stock)
    assert not drops
    assert read(to_protobuf(spans)) == encode_spans(stock)


@pytest.mark.skipif(SDK < (1, 40), reason="the oldest encoder forgets scopes' attributes")
def test_scopes_attributes_and_schema_are_written_as_the_stock_encoder_does() -> None:
    scope = InstrumentationScope("s", "1", "https://s.example/1", {"team": "a"})
    stock = [sdk_span(0, SdkResource({}), scope)]
    assert read(to_protobuf(from_sdk(stock)[0])) == encode_spans(stock)


def test_a_links_trace_state_is_sent_though_the_stock_encoder_forgets_it() -> None:
    link = SpanLink(TRACE, SPAN, "a=b", {"k": 1}, 2, 0x100)
    sent = only(to_protobuf([span(links=(link,))])).links[0]
    assert (sent.trace_state, sent.dropped_attributes_count, sent.flags) == ("a=b", 2, 0x100)
    assert sent.trace_id.hex() == TRACE


def test_resources_and_scopes_are_grouped_by_identity_and_written_once() -> None:
    other = Scope("other")
    whole = read(to_protobuf([span("a"), span("b", scope=other), span("c"), span("d", resource=Resource())]))
    groups = [[[made.name for made in group.spans] for group in entry.scope_spans] for entry in whole.resource_spans]
    assert groups == [[["a", "c"], ["b"]], [["d"]]]


def test_unknown_times_and_an_unknown_message_are_left_out() -> None:
    sent = only(to_protobuf([span(start_time_unix_nano=None, end_time_unix_nano=None)]))
    assert (sent.start_time_unix_nano, sent.end_time_unix_nano, sent.status.message) == (0, 0, "")


# -- what the stock encoder cannot write


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("half \ud83d", "half \ufffd"),
        ("\ud83d\ude00", "\U0001f600"),  # a pair is mended
        (2**63, str(2**63)),
        (-(2**70), str(-(2**70))),
        (10**400, str(10**400)),
        (complex(1, 2), "(1+2j)"),
    ],
)
def test_a_value_that_otlp_cannot_hold_is_sent_as_text(value: Any, text: str) -> None:
    assert of_value(value).string_value == text


def test_values_of_subclasses_are_sent_as_what_they_are() -> None:
    class Color(str, Enum):
        RED = "red"

    class Level(IntEnum):
        HIGH = 3

    class Ratio(float):
        pass

    assert of_value(Color.RED).string_value == "red"
    assert of_value(Level.HIGH).int_value == 3
    assert of_value(Ratio(0.5)).double_value == 0.5
    assert of_value(bytearray(b"ab")).bytes_value == b"ab"
    assert [item.int_value for item in of_value(range(3)).array_value.values] == [0, 1, 2]
    assert of_value(range(0)).HasField("array_value")


def test_values_inside_of_lists_and_maps_are_repaired_too() -> None:
    sent = of_value({"\ud800": ["\ud800", 2**64, {"k": None}]})
    pair = sent.kvlist_value.values[0]
    assert pair.key == "\ufffd"
    assert [item.string_value for item in pair.value.array_value.values[:2]] == ["\ufffd", str(2**64)]


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"k": value}, lambda value: ({"k": value},)])
def test_what_is_nested_deeper_than_parsers_read_ends_in_text_that_they_do_read(wrap: Any) -> None:
    value: Any = "core"
    for _ in range(100):
        value = wrap(value)
    assert b"core" in only(to_protobuf([span(attributes={"k": value})])).SerializeToString()
    endless: list[Any] = []
    endless.append(wrap(endless))
    neighbour = only(to_protobuf([span(events=(SpanEvent("e", 1, {"k": endless}),))]))
    assert b"nested too deeply" in neighbour.SerializeToString()
    assert from_otlp_json(to_json([span(attributes={"k": endless})]))


def test_everything_of_a_span_is_repaired_where_it_has_to_be() -> None:
    bad = "x\ud800"
    broken = span(
        bad,
        {bad: bad, 5: "five"},  # type: ignore[dict-item]
        status_code=2,
        status_message=bad,
        trace_state=bad,
        start_time_unix_nano=-1,
        end_time_unix_nano=2**70,
        kind=-3,
        flags=2**40,
        dropped_links_count=1,
        events=(SpanEvent(bad, -5, {bad: 1}, -1),),
        links=(SpanLink(TRACE, SPAN, bad, {bad: 1}, 0, 2**50), SpanLink("none", "", bad)),
    )
    sent = only(to_protobuf([broken]))
    fine = "x\ufffd"
    assert (sent.name, sent.status.message, sent.trace_state) == (fine, fine, fine)
    assert [item.key for item in sent.attributes] == [fine, "5"]
    assert (sent.start_time_unix_nano, sent.end_time_unix_nano, sent.kind, sent.flags) == (0, 2**64 - 1, 0, 2**32 - 1)
    assert (sent.events[0].name, sent.events[0].time_unix_nano, sent.events[0].attributes[0].key) == (fine, 0, fine)
    assert [link.trace_state for link in sent.links] == [fine]
    assert sent.dropped_links_count == 2  # the link that is none is counted as lost
    assert from_otlp_json(to_json([broken]))[0].name == fine


def test_a_resource_or_scope_that_has_to_be_repaired_costs_no_span() -> None:
    resource, scope = Resource({"k": "\ud800", "n": 2**65}, "\ud800"), Scope("\ud800", "\ud800", {"k": object}, "\ud800", -1)
    whole = read(to_protobuf([span("a", resource=resource, scope=scope), span("b", resource=resource, scope=scope)]))
    (entry,) = whole.resource_spans
    assert entry.resource.attributes[0].value.string_value == "\ufffd"
    assert entry.scope_spans[0].scope.name == "\ufffd"
    assert len(entry.scope_spans[0].spans) == 2


@pytest.mark.parametrize(
    "ids",
    [
        {"trace_id": "not hex at all, not at all, oh no"},
        {"trace_id": TRACE[:-2]},
        {"trace_id": TRACE[:8] + " " + TRACE[8:]},
        {"span_id": ""},
        {"span_id": SPAN + "00"},
        {"parent_span_id": "x"},
        {"span_id": None},
    ],
)
def test_a_span_whose_ids_otlp_cannot_hold_is_dropped_and_its_neighbours_are_sent(ids: dict[str, Any]) -> None:
    spans = [span("a"), span("bad")._replace(**ids), span("c", parent_span_id=PARENT)]
    (request,), drops = made(spans)
    assert [(drop.reason, drop.count) for drop in drops] == [(DropReason.UNREADABLE, 1)]
    assert "hex" in drops[0].detail
    assert request.items == [spans[0], spans[2]]
    assert [found.name for found in read(request.body).resource_spans[0].scope_spans[0].spans] == ["a", "c"]


def test_a_span_that_cannot_even_be_repaired_is_dropped_and_its_neighbours_are_sent() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("secret")

    (request,), drops = made([span("a"), span("b", {"k": Hostile()}), span("c")])
    assert [found.name for found in request.items] == ["a", "c"]
    assert [(drop.reason, drop.count, "secret" in drop.detail) for drop in drops] == [(DropReason.UNREADABLE, 1, False)]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3),
    max_leaves=8,
)
EXACT = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5) | st.binary(max_size=5) | st.just(()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.dictionaries(st.text(st.characters(), max_size=3), ANY, max_size=4))
def test_whatever_values_a_span_has_it_is_sent(attributes: dict[str, Any]) -> None:
    spans = [span("a", attributes), span("b")]
    (request,), drops = made(spans)
    assert not drops
    assert request.items == spans
    assert len(from_otlp(request.body)) == len(from_otlp(to_json(spans))) == 2


# -- OTLP/JSON


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.dictionaries(st.text(max_size=3), EXACT, max_size=4))
def test_json_that_is_read_again_is_the_same_span(attributes: dict[str, Any]) -> None:
    whole = Span(
        *(TRACE, SPAN, PARENT, "n", 1, 2**63, attributes, Resource(attributes, "r"), Scope("s", "", attributes, "u", 0)),
        kind=4,
        status_code=2,
        status_message="",
        events=(SpanEvent("e", 7, attributes, 1), SpanEvent("", 0)),
        links=(SpanLink(TRACE, SPAN, "a=b", attributes, 2, 768), SpanLink("", "")),
        trace_state="c=d",
        flags=257,
        dropped_attributes_count=1,
        dropped_events_count=2,
        dropped_links_count=3,
    )
    bare = whole._replace(**Span("Not Hex", "x", None, "", None, None, {}, whole.resource, whole.scope)._asdict())
    spans = [whole, bare, bare._replace(scope=Scope()), bare._replace(resource=Resource(), scope=Scope())]
    assert from_otlp_json(to_json(spans)) == spans


def test_json_is_written_as_otlp_says() -> None:
    values = {"i": 2**53 + 1, "b": b"\x00", "n": math.nan, "p": math.inf, "m": -math.inf, "e": (), "l": [1.5], "big": 2**64}
    (entry,) = json.loads(to_json([span(attributes=values, kind=3, status_code=2, parent_span_id=PARENT)]))["resourceSpans"]
    (sent,) = entry["scopeSpans"][0]["spans"]
    assert sent == {
        "traceId": TRACE,
        "spanId": SPAN,
        "parentSpanId": PARENT,
        "name": "s",
        "kind": 3,
        "startTimeUnixNano": "1",
        "endTimeUnixNano": "2",
        "attributes": [
            {"key": "i", "value": {"intValue": "9007199254740993"}},
            {"key": "b", "value": {"bytesValue": "AA=="}},
            {"key": "n", "value": {"doubleValue": "NaN"}},
            {"key": "p", "value": {"doubleValue": "Infinity"}},
            {"key": "m", "value": {"doubleValue": "-Infinity"}},
            {"key": "e", "value": {"arrayValue": {}}},
            {"key": "l", "value": {"arrayValue": {"values": [{"doubleValue": 1.5}]}}},
            {"key": "big", "value": {"stringValue": str(2**64)}},
        ],
        "status": {"code": 2},
    }
    assert entry["schemaUrl"] == "https://r.example/1"
    assert entry["scopeSpans"][0]["scope"] == {"name": "scope", "version": "1"}


def test_protobuf_and_json_of_stock_spans_are_read_as_the_same() -> None:
    spans = [found for found in from_sdk(stock_spans())[0] if found.scope.name]

    def plain(found: Span) -> Span:
        return found._replace(resource=Resource(), scope=Scope(), attributes={**found.attributes, "inf": 0})

    one, other = from_otlp(to_json(spans)), from_otlp(to_protobuf(spans))
    assert list(map(plain, one)) == list(map(plain, other))


# -- requests


def sized(count: int, size: int = 1000) -> list[Span]:
    return [span(f"{i}", {"k": "x" * size}) for i in range(count)]


def test_a_batch_within_the_limit_is_one_request_with_everything_that_it_needs() -> None:
    spans = sized(3)
    found, drops = requests(
        spans, url="https://h/p", headers={"X-A": "b", "content-type": "text/plain"}, max_request_bytes=10**6, compression="none"
    )
    assert found == [
        Request("otlp", "https://h/p", {"X-A": "b", "Content-Type": "application/x-protobuf"}, to_protobuf(spans), spans)
    ]
    assert not drops


@pytest.mark.parametrize("limit", [1, 1500, 2500, 5000, 12_345, 60_000])
@pytest.mark.parametrize("scopes", [1, 3])
def test_requests_keep_to_the_limit_and_together_hold_every_span_in_order(limit: int, scopes: int) -> None:
    parts = [Scope(f"scope {i}", "1" * 400) for i in range(scopes)]
    spans = [found._replace(scope=parts[i % scopes]) for i, found in enumerate(sized(50))]
    found, drops = made(spans, limit)
    assert not drops
    assert [each for request in found for each in request.items] == spans
    assert all(len(request.body) <= limit or len(request.items) == 1 for request in found)
    assert all(request.body == to_protobuf(request.items) for request in found)
    for request, following in itertools.pairwise(found):  # and as few as they can be: the next span has no room
        assert len(to_protobuf([*request.items, following.items[0]])) > limit * 0.95


def test_a_span_larger_than_a_request_is_sent_alone_between_its_neighbours() -> None:
    spans = [*sized(2, 10), *sized(1, 100_000), *sized(2, 10)]
    found, drops = made(spans, 2000)
    assert [len(request.items) for request in found] == [2, 1, 2]
    assert not drops


def test_no_span_is_no_request() -> None:
    assert made([]) == ([], [])
    requests_made, drops = made([span(trace_id="x")])
    assert (requests_made, len(drops)) == ([], 1)


# -- gzip


def test_bodies_are_gzip_and_equal_for_equal_spans() -> None:
    spans = sized(100)
    (request,), _ = made(spans, compression="gzip")
    assert request.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(request.body) == to_protobuf(spans)
    assert len(request.body) < len(to_protobuf(spans)) / 5
    assert request.body == made(spans, compression="gzip")[0][0].body
    assert request.body[:4] == b"\x1f\x8b\x08\x00"


@pytest.fixture
def without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.usefixtures("without_isal")
def test_where_there_is_no_isal_zlibs_fastest_level_does_it() -> None:
    found = _gzip._best()
    body = b"some text " * 1000
    assert found(body)[10:-8] == zlib.compress(body, 1)[2:-4]  # between gzip's and zlib's own heads and checksums
    assert gzip.decompress(found(body)) == body
    assert gzip.decompress(found(b"")) == b""
