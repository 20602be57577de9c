"""Spans come from the SDK and from OTLP whole, and one that cannot be read costs only what it must."""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import math
from collections import UserDict
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from otel_langfuse.errors import DropReason
from otel_langfuse.model import Resource, Scope, Span
from otel_langfuse.spans import Unreadable, from_otlp, from_otlp_json, from_otlp_protobuf, from_sdk, to_sdk

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


class Collector(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def recorded(limits: SpanLimits | None = None) -> tuple[TracerProvider, list[ReadableSpan]]:
    provider = TracerProvider(resource=SdkResource({"service.name": "shop"}, "https://r.example/1"), span_limits=limits)
    collector = Collector()
    provider.add_span_processor(collector)
    return provider, collector.spans


@pytest.fixture
def everything() -> list[ReadableSpan]:
    """Spans that together have all that an SDK span can have."""
    provider, spans = recorded(SpanLimits(max_attributes=3, max_events=2, max_links=1, max_event_attributes=1))
    tracer = provider.get_tracer("scope", "1.2", "https://s.example/1", {"team": "a"})
    remote = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("a", "b"), ("d", "e")]))
    local = SpanContext(3, 4, is_remote=False)
    with tracer.start_as_current_span(
        "root",
        set_span_in_context(NonRecordingSpan(remote)),
        kind=SpanKind.SERVER,
        links=[Link(remote, {"x": 1}), Link(local, {"y": "z"})],
    ) as root:
        for i in range(5):
            root.set_attribute(f"k{i}", ["a", "b"])
            root.add_event(f"e{i}", {"one": 1.5, "two": True}, timestamp=1000 + i)
        with tracer.start_as_current_span("child", kind=SpanKind.CONSUMER, attributes={"n": 1, "f": 0.5, "b": False}) as child:
            child.set_status(Status(StatusCode.ERROR, "broken"))
    for kind in SpanKind:
        provider.get_tracer("other").start_span(f"kind {kind.name}", kind=kind, attributes={"empty": []}).end()
    tracer.start_span("fine", links=[Link(local)]).end()
    with tracer.start_as_current_span("said ok") as span:
        span.set_status(StatusCode.OK)
    return spans


# -- from_sdk


def test_an_sdk_span_is_read_with_all_that_it_has(everything: list[ReadableSpan]) -> None:
    spans, drops = from_sdk(everything)
    assert not drops
    root = next(span for span in spans if span.name == "root")
    assert root.trace_id == f"{1:032x}"
    assert root.parent_span_id == f"{2:016x}"
    assert root.flags == 0x300
    assert root.trace_state == "a=b,d=e"
    assert root.kind == 2
    assert root.attributes == {"k2": ("a", "b"), "k3": ("a", "b"), "k4": ("a", "b")}
    assert (root.dropped_attributes_count, root.dropped_events_count, root.dropped_links_count) == (2, 3, 1)
    assert [(event.name, event.time_unix_nano, event.dropped_attributes_count) for event in root.events] == [
        ("e3", 1003, 1),
        ("e4", 1004, 1),
    ]
    assert root.resource == Resource({"service.name": "shop"}, "https://r.example/1")
    assert root.scope == Scope("scope", "1.2", {"team": "a"}, "https://s.example/1")
    child = next(span for span in spans if span.name == "child")
    assert child.parent_span_id == root.span_id
    assert child.flags == 0x100
    assert (child.status_code, child.status_message) == (2, "broken")
    assert child.attributes == {"n": 1, "f": 0.5, "b": False}
    assert [span.kind for span in spans if span.name.startswith("kind")] == [1, 2, 3, 4, 5]
    assert spans[-1].status_code == 1


def test_spans_of_one_process_share_their_resource_and_those_of_equal_scopes_their_scope() -> None:
    resource = SdkResource({})
    scopes = [InstrumentationScope("same", "1") for _ in range(3)] + [InstrumentationScope("other", "")]
    made = [ReadableSpan("a", SpanContext(1, 2, False), resource=resource, instrumentation_scope=scope) for scope in scopes]
    spans, _ = from_sdk(made)
    assert len({id(span.resource) for span in spans}) == 1
    assert len({id(span.scope) for span in spans}) == 2
    assert spans[3].scope == Scope("other")  # and no version: protobuf would not send an empty one


def test_a_span_that_cannot_be_read_costs_only_itself(everything: list[ReadableSpan]) -> None:
    class Broken(ReadableSpan):
        @property
        def name(self) -> str:
            raise RuntimeError("secret content")

    without_context = ReadableSpan("no context")
    spans, drops = from_sdk([everything[0], Broken("x", SpanContext(1, 2, False)), without_context, everything[1]])
    assert [span.name for span in spans] == [everything[0].name, everything[1].name]
    assert [(drop.reason, drop.count) for drop in drops] == [(DropReason.UNREADABLE, 1)] * 2
    assert "secret" not in "".join(drop.detail for drop in drops)


@pytest.fixture
def slots() -> Iterator[Any]:
    """The module that reads slots, which forgets what it knows of classes before and after."""
    module = importlib.import_module("otel_langfuse.spans._slots")
    for is_over in (False, True):
        module._KEEPS.clear()
        module._slots_say_the_same.cache_clear()
        if not is_over:
            yield module


def test_the_sdks_slots_say_what_its_properties_do(everything: list[ReadableSpan], slots: Any) -> None:
    assert slots._slots_say_the_same()
    by_slots, _ = from_sdk(everything)
    assert {ReadableSpan: True} == slots._KEEPS
    slots._KEEPS[ReadableSpan] = False
    by_properties, _ = from_sdk(everything)
    assert by_slots == by_properties


@pytest.mark.parametrize("broken", ["_name", "_kind", "_parent", "_status", "_events", "_links", "_attributes", "_end_time"])
def test_where_a_slot_says_something_else_the_properties_are_read(
    broken: str, slots: Any, everything: list[ReadableSpan], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, _ = from_sdk(everything)
    slots._KEEPS.clear()
    slots._slots_say_the_same.cache_clear()
    names = slots._SLOTS.__reduce__()[1]
    other = ["_resource" if name.split(".")[0] == broken else name for name in names]
    monkeypatch.setattr(slots, "_SLOTS", attrgetter(*other))  # as if an SDK kept something else there
    assert not slots._slots_say_the_same()
    assert from_sdk(everything)[0] == before


def test_of_a_class_with_a_property_of_its_own_that_one_is_read() -> None:
    class Renamed(ReadableSpan):
        @property
        def name(self) -> str:
            return "other"

    one = Renamed("name", SpanContext(1, 2, False), resource=SdkResource({}))
    assert [span.name for span in from_sdk([one])[0]] == ["other"]


def test_attributes_that_the_caller_has_copied_are_taken_instead_of_the_spans(everything: list[ReadableSpan]) -> None:
    copies = [{"mine": i} for i in range(len(everything))]
    spans, _ = from_sdk(everything, copies)
    assert [span.attributes for span in spans] == copies
    with pytest.raises(ValueError, match="shorter"):
        from_sdk(everything, copies[:1])


def test_attributes_whose_copy_is_no_dict_become_one() -> None:
    span = ReadableSpan("a", SpanContext(1, 2, False), attributes=UserDict(k="v"))  # type: ignore[arg-type]
    assert type(from_sdk([span])[0][0].attributes) is dict


def test_a_span_of_plain_mappings_and_without_the_sdks_slots_is_read_through_its_properties() -> None:
    class Foreign:
        """The properties of a ReadableSpan and nothing else."""

        def __init__(self, span: ReadableSpan) -> None:
            for name in ("name", "parent", "kind", "status", "resource", "instrumentation_scope", "start_time", "end_time"):
                setattr(self, name, getattr(span, name))
            self.events, self.links = span.events, span.links
            self.dropped_attributes = self.dropped_events = self.dropped_links = 0
            self.attributes = Items(span.attributes or {})
            self.get_span_context = span.get_span_context

    class Items:
        """A mapping that has no copy()."""

        def __init__(self, values: Any) -> None:
            self._values = values

        def keys(self) -> Iterator[str]:
            return iter(self._values)

        def __getitem__(self, key: str) -> Any:
            return self._values[key]

    provider, recorded_spans = recorded()
    with provider.get_tracer("t").start_as_current_span(
        "a", attributes={"k": "v"}, links=[Link(SpanContext(1, 2, False))]
    ) as span:
        span.add_event("e")
    (read,), drops = from_sdk([Foreign(recorded_spans[0])])  # type: ignore[list-item]
    assert not drops
    assert read == from_sdk(recorded_spans)[0][0]
    assert len(read.events) == len(read.links) == 1


# -- to_sdk


def test_to_the_stock_encoder_what_was_read_is_the_same_span_again(everything: list[ReadableSpan]) -> None:
    made: dict[int, Any] = {}
    again = [to_sdk(span, made) for span in from_sdk(everything)[0]]
    stock = encode_spans(everything)
    assert encode_spans(again).SerializeToString() == stock.SerializeToString()
    assert [span.to_json() for span in again] == [span.to_json() for span in everything]


def test_spans_of_one_batch_get_one_sdk_resource_and_scope(everything: list[ReadableSpan]) -> None:
    made: dict[int, Any] = {}
    again = [to_sdk(span, made) for span in from_sdk(everything)[0]]
    assert len({id(span.resource) for span in again}) == 1
    assert len({id(span.instrumentation_scope) for span in again}) == 2


def test_what_exporters_ask_of_a_span_context_holds_for_a_span_made_again(everything: list[ReadableSpan]) -> None:
    for span in [to_sdk(span) for span in from_sdk(everything)[0]]:
        context = span.get_span_context()
        assert context is not None
        assert context.is_valid
        assert context.trace_flags.sampled
        assert not context.is_remote


# -- from_otlp: JSON


def request(span: dict[str, Any], **more: Any) -> dict[str, Any]:
    whole = {"traceId": TRACE, "spanId": SPAN, **span}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [whole], **more}]}]}


def one(span: dict[str, Any], **more: Any) -> Span:
    (read,) = from_otlp_json(json.dumps(request(span, **more)))
    return read


def value_of(value: Any) -> Any:
    return one({"attributes": [{"key": "k", "value": value}]}).attributes["k"]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"stringValue": ""}, ""),
        ({"doubleValue": 1}, 1.0),
        ({"doubleValue": "1.5"}, 1.5),
        ({"doubleValue": " 2e3 "}, 2000.0),
        ({"doubleValue": "NaN"}, "NaN"),
        ({"doubleValue": "Infinity"}, "Infinity"),
        ({"doubleValue": "1_0"}, "1_0"),
        ({"doubleValue": ""}, 0.0),
        ({"boolValue": False}, False),
        ({"intValue": "9007199254740993"}, 2**53 + 1),
        ({"intValue": 7}, 7),
        ({"intValue": {"low": -1, "high": 1}}, 2**33 - 1),
        ({"intValue": str(2**70)}, 2**70),
        ({"arrayValue": {"values": [{"intValue": "1"}, {"arrayValue": {"values": []}}]}}, [1, []]),
        ({"arrayValue": {"values": []}}, []),
        ({"arrayValue": {}}, ()),
        ({"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": True}}, {"key": "b"}]}}, {"a": True, "b": None}),
        ({"bytesValue": base64.b64encode(b"\x00\xff").decode()}, b"\x00\xff"),
        ({"bytesValue": "-_8="}, b"\xfb\xff"),
        ({}, None),
        ({"newValue": 1}, None),
    ],
)
def test_a_value_is_read_as_the_server_reads_it(sent: Any, read: Any) -> None:
    found = value_of(sent)
    assert found == read
    assert type(found) is type(read)


def test_an_int_that_is_no_number_is_nan() -> None:
    assert math.isnan(value_of({"intValue": "seven"}))


def test_of_two_attributes_with_one_key_the_last_counts_in_the_first_place() -> None:
    items = [("a", 1), ("b", 2), ("a", 3)]
    span = one({"attributes": [{"key": key, "value": {"intValue": str(value)}} for key, value in items]})
    assert list(span.attributes.items()) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("1700000000000000001", 1700000000000000001),
        (1700000000000000001, 1700000000000000001),
        (1.5e18, 1500000000000000000),
        ({"low": 5, "high": 1}, 2**32 + 5),
        ("yesterday", None),
        ("", None),
        (True, None),
        (None, None),
    ],
)
def test_a_time_is_a_number_a_decimal_string_or_unknown(sent: Any, read: int | None) -> None:
    assert one({"startTimeUnixNano": sent}).start_time_unix_nano == read


def test_ids_are_kept_as_they_are_and_an_empty_parent_is_none() -> None:
    span = one({"traceId": "Any Text", "spanId": {"type": "Buffer", "data": [0, 171]}, "parentSpanId": ""})
    assert (span.trace_id, span.span_id, span.parent_span_id) == ("Any Text", "00ab", None)
    assert one({"parentSpanId": PARENT}).parent_span_id == PARENT
    assert one({}).parent_span_id is None


def test_what_is_absent_is_none_and_what_is_empty_is_empty() -> None:
    assert one({}, scope={"name": ""}).scope == Scope("", None)
    assert one({}).scope == Scope()
    assert one({"status": {"message": ""}}).status_message == ""
    assert one({}).status_message is None
    assert one({"status": {"code": "STATUS_CODE_ERROR"}}).status_code == 0
    assert one({"status": {"code": 2}}).status_code == 2


def test_events_links_and_the_rest_of_a_span_are_read() -> None:
    span = one(
        {
            "name": "n",
            "kind": 3,
            "flags": 257,
            "traceState": "a=b",
            "droppedAttributesCount": 1,
            "droppedEventsCount": "2",
            "droppedLinksCount": 3,
            "events": [{"name": "e", "timeUnixNano": "5", "attributes": [{"key": "k", "value": {"stringValue": "v"}}]}],
            "links": [{"traceId": TRACE, "spanId": PARENT, "traceState": "c=d", "flags": 768, "droppedAttributesCount": 4}],
        },
        scope={"name": "s", "version": "1", "droppedAttributesCount": 5},
        schemaUrl="u",
    )
    assert (span.name, span.kind, span.flags, span.trace_state) == ("n", 3, 257, "a=b")
    assert (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count) == (1, 2, 3)
    assert span.events == (("e", 5, {"k": "v"}, 0),)
    assert span.links == ((TRACE, PARENT, "c=d", {}, 4, 768),)
    assert span.scope == Scope("s", "1", {}, "u", 5)


def test_each_entry_of_the_request_has_its_own_resource_and_scope_and_the_order_is_kept() -> None:
    def spans(*names: str) -> list[dict[str, str]]:
        return [{"traceId": TRACE, "spanId": SPAN, "name": name} for name in names]

    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]}
    entry = {"resource": resource, "scopeSpans": [{"spans": spans("a", "b")}, {"spans": spans("c")}]}
    read = from_otlp({"resourceSpans": [entry, {**entry, "scopeSpans": [{"spans": spans("d")}]}]})
    assert "".join(span.name for span in read) == "abcd"
    assert [read[0].resource is span.resource for span in read] == [True, True, True, False]
    assert [read[0].scope is span.scope for span in read] == [True, True, False, False]
    assert read[3].resource.attributes == {"service.name": "x"}


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "nonsense",
        "[]",
        "NaN",
        '{"resourceSpans": [], "else": NaN}',
        '{"resourceSpans": {}}',
        '{"resourceSpans": [null]}',
        '{"resourceSpans": [{"scopeSpans": 1}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": "x"}]}]}',
        '{"resourceSpans": [{"scopeSpans": [{"spans": [7]}]}]}',
        json.dumps(request({"traceId": ""})),
        json.dumps(request({"spanId": None})),
        json.dumps(request({"traceId": 5})),
        json.dumps(request({"attributes": {}})),
        json.dumps(request({"attributes": [{"key": "k"}]})),
        json.dumps(request({"attributes": [None]})),
        json.dumps(request({"attributes": [{"key": "k", "value": None}]})),
        json.dumps(request({"events": "x"})),
        json.dumps(request({"events": [None]})),
        json.dumps(request({"events": [{"attributes": [{"key": "k"}]}]})),
    ],
)
def test_what_the_server_would_refuse_is_refused_with_one_line_that_quotes_nothing(payload: str) -> None:
    with pytest.raises(Unreadable) as caught:
        from_otlp(payload)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert TRACE not in str(caught.value)


def test_an_empty_request_has_no_spans() -> None:
    assert from_otlp("{}") == from_otlp(b"{}") == from_otlp({}) == from_otlp(b"") == []


def test_json_that_javascript_takes_and_a_strict_reader_does_not_is_read() -> None:
    text = json.dumps(request({"name": "half \ud83d", "kind": 10**400}))
    assert from_otlp(text)[0].name == "half \ud83d"
    assert from_otlp(json.dumps(request({"name": "x"})).encode().replace(b"x", b"\xff"))[0].name == "\ufffd"


def test_numbers_beyond_all_sizes_are_read_or_refused_but_crash_nothing() -> None:
    surrogate = {"name": "\ud83d"}  # so that the standard library reads it, which keeps integers of any size
    for number in (10**400, -(10**400)):
        assert value_of({"intValue": 1}) == 1
        span = one({**surrogate, "startTimeUnixNano": number, "attributes": [{"key": "k", "value": {"doubleValue": number}}]})
        assert span.attributes["k"] in (math.inf, -math.inf)
    infinite = '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"a","spanId":"b","flags":1e999,"name":"\\ud83d"}]}]}]}'
    assert from_otlp(infinite)[0].flags == 0


def test_a_value_that_is_nested_without_end_is_refused() -> None:
    deep: dict[str, Any] = {"stringValue": "x"}
    for _ in range(5000):
        deep = {"arrayValue": {"values": [deep]}}
    with pytest.raises(Unreadable):
        from_otlp(request({"attributes": [{"key": "k", "value": deep}]}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "stringValue",
    "doubleValue",
    "boolValue",
    "arrayValue",
    "intValue",
    "kvlistValue",
    "bytesValue",
    "values",
    "key",
    "value",
)
FIELDS = (
    *("traceId", "spanId", "parentSpanId", "name", "kind", "flags", "startTimeUnixNano", "attributes", "events", "links"),
    *("status", "traceState", "droppedAttributesCount"),
)
ODD_VALUES = st.recursive(
    JSON, lambda inner: st.dictionaries(st.sampled_from(KEYS), inner | st.lists(inner, max_size=2)), max_leaves=5
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(FIELDS), ODD_VALUES, max_size=6), st.lists(ODD_VALUES, max_size=3))
def test_whatever_is_sent_it_is_read_or_refused(fields: dict[str, Any], values: list[Any]) -> None:
    attributes = {"attributes": [{"key": "k", "value": value} for value in values]}
    for payload in (request(fields), request({**attributes, **fields}), {"resourceSpans": values}):
        with contextlib.suppress(Unreadable):
            from_otlp(payload)


# -- from_otlp: protobuf


def protobuf(span: Any = None) -> tuple[ExportTraceServiceRequest, Any]:
    whole = ExportTraceServiceRequest()
    made = whole.resource_spans.add().scope_spans.add().spans.add()
    made.trace_id, made.span_id = bytes.fromhex(TRACE), bytes.fromhex(SPAN)
    return whole, made


def test_protobuf_and_json_of_the_same_spans_are_the_same(everything: list[ReadableSpan]) -> None:
    ours, _ = from_sdk(everything)
    read = {span.span_id: span for span in from_otlp(encode_spans(everything).SerializeToString())}

    def listed(value: Any) -> Any:
        return list(value) if type(value) is tuple and value else value

    assert len(read) == len(ours)
    for span in ours:
        links = tuple(link._replace(trace_state="") for link in span.links)  # which the stock encoder forgets
        attributes = {key: listed(value) for key, value in span.attributes.items()}
        found = read[span.span_id]
        assert found.scope[:2] == span.scope[:2]  # the oldest encoder forgets the rest of it
        assert found == span._replace(attributes=attributes, links=links, scope=found.scope)


def test_protobufs_defaults_are_absent() -> None:
    whole, _ = protobuf()
    (span,) = from_otlp(whole.SerializeToString())
    assert span == Span(TRACE, SPAN, None, "", None, None, {}, Resource(), Scope(), kind=0)


def test_protobuf_values_keep_their_types() -> None:
    whole, span = protobuf()
    big = 2**62 + 1
    for key, name, value in [
        ("i", "int_value", big),
        ("n", "double_value", math.inf),
        ("b", "bytes_value", b"\x00"),
        ("t", "bool_value", True),
        ("s", "string_value", ""),
    ]:
        setattr(span.attributes.add(key=key).value, name, value)
    span.attributes.add(key="none").value.SetInParent()
    span.attributes.add(key="empty").value.array_value.SetInParent()
    span.attributes.add(key="list").value.array_value.values.add().int_value = 1
    span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.string_value = "v"
    (read,) = from_otlp_protobuf(whole.SerializeToString())
    assert read.attributes == {
        "i": big,
        "n": math.inf,
        "b": b"\x00",
        "t": True,
        "s": "",
        "none": None,
        "empty": (),
        "list": [1],
        "map": {"k": "v"},
    }


def test_protobuf_that_the_server_would_refuse_is_refused() -> None:
    whole, span = protobuf()
    span.attributes.add(key="k")
    without_value = whole.SerializeToString()
    span.ClearField("attributes")
    span.span_id = b""
    for payload in (without_value, whole.SerializeToString(), b"\xff\xff", b"garbage"):
        with pytest.raises(Unreadable):
            from_otlp(payload)


def test_protobuf_that_begins_like_json_is_still_protobuf() -> None:
    whole, span = protobuf()
    while whole.resource_spans[0].ByteSize() != ord("{"):  # its length is what stands behind the first byte, a line feed
        span.name += "x"
    payload = whole.SerializeToString()
    assert payload[:2] == b"\n{"
    assert from_otlp(payload)[0].name == span.name
    with pytest.raises(Unreadable, match="not JSON"):
        from_otlp(b"\n{ this is meant as JSON")


def test_reading_the_same_spans_again_and_again_keeps_nothing(everything: Sequence[ReadableSpan]) -> None:
    first, second = from_sdk(everything)[0], from_sdk(everything)[0]
    assert first == second
    assert first[0].resource is not second[0].resource
