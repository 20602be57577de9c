"""Spans -> OTLP requests: protobuf over HTTP, JSON over HTTP, or gRPC. Pure.

Message for message what the stock encoder makes, at a tenth of its cost: that one builds each message from keyword
arguments, which copies it once for every message around it, and hashes the resource, as JSON, for each span. Here the
bytes are written at once, those of frequent attributes are remembered, and each resource and scope is written once.

What the stock encoder cannot take costs nothing here, or only the span that has it: text that is not Unicode is
repaired, an integer beyond 64 bits is sent as its decimal text, an unknown object or what is nested too deeply as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Final, Literal, TypeAlias, cast

from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request, Span

from . import _protobuf as protobuf
from ._gzip import gzip
from ._otlp_json import JSON, span_json, to_json
from ._packs import Form, packs
from ._quick import Quick, with_more
from ._repair import repaired
from ._shapes import NOT_WRITTEN, NOTHING, Glances, Written

__all__ = [
    "GRPC_PATH",
    "NOT_WRITTEN",
    "Compression",
    "Glances",
    "Protocol",
    "Quick",
    "Written",
    "requests",
    "to_json",
    "to_protobuf",
    "with_more",
]

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


def requests(
    spans: Sequence[Span],
    *,
    url: str,
    headers: Mapping[str, str],
    max_request_bytes: int,
    compression: Compression = "gzip",
    protocol: Protocol = "http/protobuf",
    written: Sequence[bytes | None] = (),
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
        written: ``Written.bodies`` of the spans; not for ``http/json``.

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

    def request(items: Sequence[Span], body: bytes) -> Request:
        return Request("otlp", url, headers, gzip(body) if compressed else body, items)

    if protocol == "http/json":
        kept, bodies = _encoded(spans, span_json, drops)
        form = JSON
    else:
        kept, bodies = _encoded(spans, _span_field, drops, _quickly(spans, written))
        form = _PROTOBUF
    return [request(items, body) for items, body in packs(kept, bodies, max_request_bytes, form)], drops


def _quickly(spans: Sequence[Span], written: Sequence[bytes | None]) -> Sequence[bytes | None]:
    """What is known of the spans' bytes, with those of which it was found quickly."""
    if not written:
        return _WRITING.written(spans).bodies
    if all(written):  # none of them is empty
        return written
    places = [place for place, body in enumerate(written) if body is None]
    made = list(written)
    for place, body in zip(places, _WRITING.written([spans[place] for place in places]).bodies, strict=False):
        made[place] = body
    return made


_WRITING: Final = Quick(NOTHING)

_OURS: Final = frozenset({"content-type", "content-encoding", "grpc-encoding"})


_PROTOBUF: Final = Form(protobuf.request, protobuf.resource_bytes, protobuf.scope_bytes)


def to_protobuf(spans: Iterable[Span]) -> bytes:
    """One ``ExportTraceServiceRequest``, as protobuf, with all of ``spans`` that have an OTLP form: see ``requests``."""
    return protobuf.request(*_encoded(list(spans), _span_field, []))


def _encoded(
    spans: Sequence[Span], encode: Callable[[Span], bytes], drops: list[Drop], written: Sequence[bytes | None] = ()
) -> tuple[Sequence[Span], Sequence[bytes]]:
    """The spans that have a form, and the form of each."""
    if written and all(written):
        return spans, cast("Sequence[bytes]", written)
    kept: list[Span] = []
    bodies: list[bytes] = []
    for span, known in zip(spans, written or repeat(None), strict=False):
        try:
            bodies.append(encode(span) if known is None else known)
            kept.append(span)
        except Exception as error:  # noqa: BLE001, PERF203 - whatever is wrong with one span costs its neighbours nothing
            drops.append(_unreadable(error))
    return kept, bodies


def _span_field(span: Span) -> bytes:
    """One span; if that fails, what can be repaired of it."""
    try:
        return protobuf.span_field(span)
    except Exception:  # noqa: BLE001 - whatever it is, what cannot be repaired fails again
        return protobuf.span_field(repaired(span))


def _unreadable(error: Exception) -> Drop:
    detail = str(error) if isinstance(error, protobuf.NoIdError) else f"{type(error).__name__} while encoding a span"
    return Drop(DropReason.UNREADABLE, 1, detail)
