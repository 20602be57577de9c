"""Spans -> OTLP requests: protobuf over HTTP, JSON over HTTP, or gRPC. Pure.

Message for message what the stock encoder makes, at a quarter of its cost: that one builds each message from keyword
arguments, which copies it once for every message around it, and hashes the resource, as JSON, for each span. Here
messages are added in place, and each resource and scope is written once.

What the stock encoder cannot take costs nothing here, or only the span that has it: text that is not Unicode is
repaired, an integer beyond 64 bits is sent as its decimal text, an unknown object or what is nested too deeply as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans

from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request, Span

from ._gzip import gzip
from ._otlp_json import packs, span_json, to_json
from ._protobuf import NoIdError, put_resource, put_scope, put_span
from ._repair import repaired

__all__ = ["GRPC_PATH", "Compression", "Protocol", "requests", "to_json", "to_protobuf"]

Compression: TypeAlias = Literal["gzip", "none"]
Protocol: TypeAlias = Literal["http/protobuf", "http/json", "grpc"]

GRPC_PATH: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
"""The method's path: what stands in the URL of a gRPC request after the host."""

_CONTENT_TYPES: Final[Mapping[Protocol, str]] = {
    "http/protobuf": "application/x-protobuf",
    "http/json": "application/json",
    "grpc": "application/grpc",
}
_ENCODING: Final[Mapping[Protocol, str]] = {
    "http/protobuf": "Content-Encoding",
    "http/json": "Content-Encoding",
    "grpc": "grpc-encoding",  # it is the transport that compresses then, as the message's frame says whether it is
}

_FRAME_BYTES = 6
"""At most what a tag and a length add to a message of up to 2 GiB."""


class _Encoded(NamedTuple):
    """A request, the spans that are in it, and its ``ScopeSpans`` by the identity of resource and scope."""

    request: ExportTraceServiceRequest
    sent: list[Span]
    groups: dict[tuple[int, int], tuple[ResourceSpans, ScopeSpans]]


def requests(
    spans: Sequence[Span],
    *,
    url: str,
    headers: Mapping[str, str],
    max_request_bytes: int,
    compression: Compression = "gzip",
    protocol: Protocol = "http/protobuf",
) -> tuple[list[Request], list[Drop]]:
    """Encode spans as OTLP requests (https://opentelemetry.io/docs/specs/otlp/).

    Args:
        spans: Within a request, those of one ``Resource`` object, then those of one ``Scope`` object, stand together.
        url: The whole URL, with its path.
        headers: Sent with each request; Content-Type and Content-Encoding are ours to say.
        max_request_bytes: The limit of a body before compression. A single span that is larger is sent alone: whether
            it is too large is for the server to say (413).
        compression: ``gzip`` or ``none``.
        protocol: ``http/protobuf``, ``http/json`` or ``grpc``. With gRPC the body is the bare message, and a header
            ``grpc-encoding`` asks the transport to compress it.

    Returns:
        The requests, whose ``items`` are their spans, and one ``Drop`` (unreadable) for each span that has no OTLP
        form, because an id is not hex of 16 or 8 bytes.
    """
    drops: list[Drop] = []
    headers = {name: value for name, value in headers.items() if name.lower() not in _OURS}
    headers["Content-Type"] = _CONTENT_TYPES[protocol]
    if compression == "gzip":
        headers[_ENCODING[protocol]] = "gzip"
    compressed = compression == "gzip" and protocol != "grpc"

    def request(items: list[Span], body: bytes) -> Request:
        return Request("otlp", url, headers, gzip(body) if compressed else body, items)

    bodies = _json_bodies if protocol == "http/json" else _protobuf_bodies
    return [request(items, body) for items, body in bodies(spans, max_request_bytes, drops)], drops


_OURS: Final = frozenset({"content-type", "content-encoding", "grpc-encoding"})


def _json_bodies(spans: Sequence[Span], max_bytes: int, drops: list[Drop]) -> Iterator[tuple[list[Span], bytes]]:
    made: list[tuple[Span, bytes]] = []
    for span in spans:
        try:
            made.append((span, span_json(span)))
        except Exception as error:  # noqa: BLE001, PERF203 - whatever is wrong with one span costs its neighbours nothing
            drops.append(_unreadable(error))
    return packs(made, max_bytes)


def _protobuf_bodies(spans: Sequence[Span], max_bytes: int, drops: list[Drop]) -> Iterator[tuple[list[Span], bytes]]:
    whole = _encode(spans, drops)
    body = whole.request.SerializeToString()
    if len(body) <= max_bytes or len(whole.sent) < 2:
        return iter([(whole.sent, body)] if whole.sent else [])
    lists = list(_packs(whole, max_bytes))
    del whole, body  # they may be large, and what follows is as large again
    return ((pack, to_protobuf(pack)) for pack in lists)


def to_protobuf(spans: Iterable[Span]) -> bytes:
    """One ``ExportTraceServiceRequest``, as protobuf, with all of ``spans`` that have an OTLP form: see ``requests``."""
    return _encode(spans, []).request.SerializeToString()


def _encode(spans: Iterable[Span], drops: list[Drop]) -> _Encoded:
    request = ExportTraceServiceRequest()
    sent: list[Span] = []
    groups: dict[tuple[int, int], tuple[ResourceSpans, ScopeSpans]] = {}
    resources: dict[int, ResourceSpans] = {}
    for span in spans:
        key = id(span.resource), id(span.scope)
        group = groups.get(key)
        if group is None:
            resource_spans = resources.get(key[0])
            if resource_spans is None:
                resource_spans = resources[key[0]] = request.resource_spans.add()
                put_resource(resource_spans, span.resource)
            group = groups[key] = resource_spans, resource_spans.scope_spans.add()
            put_scope(group[1], span.scope)
        if _add(group[1], span, drops):
            sent.append(span)
    return _Encoded(request, sent, groups)


def _add(group: ScopeSpans, span: Span, drops: list[Drop]) -> bool:
    """Write the span; if that fails, what can be repaired of it; if that fails too, drop it."""
    try:
        put_span(group.spans.add(), span)
    except Exception:  # noqa: BLE001 - whatever is wrong with one span costs its neighbours nothing
        del group.spans[-1]
    else:
        return True
    try:
        put_span(group.spans.add(), repaired(span))
    except Exception as error:  # noqa: BLE001 - as above
        del group.spans[-1]
        drops.append(_unreadable(error))
        return False
    return True


def _unreadable(error: Exception) -> Drop:
    detail = str(error) if isinstance(error, NoIdError) else f"{type(error).__name__} while encoding a span"
    return Drop(DropReason.UNREADABLE, 1, detail)


def _packs(whole: _Encoded, max_bytes: int) -> Iterator[list[Span]]:
    """Split what was encoded into as few lists as keep the order and the limit, from the exact size of each message."""
    messages = {key: iter(group.spans) for key, (_, group) in whole.groups.items()}
    pack: list[Span] = []
    inside: set[Any] = set()
    total = 0
    for span in whole.sent:
        key = id(span.resource), id(span.scope)
        span_bytes = next(messages[key]).ByteSize() + _FRAME_BYTES
        more = span_bytes + _bytes_around(key, whole, inside)
        if pack and total + more > max_bytes:
            yield pack
            pack, inside, total = [], set(), 0
            more = span_bytes + _bytes_around(key, whole, inside)
        pack.append(span)
        inside.update((key, key[0]))
        total += more
    yield pack


def _bytes_around(key: tuple[int, int], whole: _Encoded, inside: set[Any]) -> int:
    """At most what a span's scope and resource add to a request, as far as they are not ``inside`` of it already."""
    if key in inside:
        return 0
    resource_spans, scope_spans = whole.groups[key]
    added = scope_spans.scope.ByteSize() + len(scope_spans.schema_url.encode()) + 3 * _FRAME_BYTES
    if key[0] not in inside:
        added += resource_spans.resource.ByteSize() + len(resource_spans.schema_url.encode()) + 3 * _FRAME_BYTES
    return added
