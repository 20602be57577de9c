"""The only two ways to make our ``Span``: from the SDK's spans and from OTLP. The SDK's types stop here. Pure.

``from_otlp`` reads a request as Langfuse's server does (mapping.md 1.1-1.5), so that what is translated from it can be
compared with what the server makes of the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from otel_langfuse.model import Span

from ._otlp_json import Unreadable, from_otlp_json
from ._sdk import IS_REMOTE, Reader, from_sdk, to_sdk, unreadable, with_attributes

__all__ = [
    "IS_REMOTE",
    "Reader",
    "Unreadable",
    "from_otlp",
    "from_otlp_json",
    "from_otlp_protobuf",
    "from_sdk",
    "load_protobuf",
    "to_sdk",
    "unreadable",
    "with_attributes",
]


def load_protobuf() -> None:
    """Loads protobuf, which takes half as long as all of ours. Who may need it on a worker calls this when it is made."""
    import_module("._otlp_protobuf", __package__)


def from_otlp_protobuf(payload: bytes) -> list[Span]:
    """Read OTLP as protobuf, where what has protobuf's default counts as absent, because it is on the wire.

    An empty name of a scope is None, a time of 0 is None, an empty array is ``()``. NaN and infinities stay floats.

    Raises:
        Unreadable: Not an ``ExportTraceServiceRequest``; a span without ids; an attribute without value.
    """
    from ._otlp_protobuf import read  # noqa: PLC0415 - see above

    return read(payload)


def from_otlp(payload: bytes | str | Mapping[str, Any]) -> list[Span]:
    """Read an ``ExportTraceServiceRequest``: OTLP/JSON (text, or parsed) or protobuf bytes; see the functions below.

    Bytes are told apart by their beginning: JSON is an object. (A protobuf request may begin like one, with a line feed
    and a brace; what then is no JSON is read as protobuf.)

    Raises:
        Unreadable: It is neither, or Langfuse's server would refuse it.
    """
    if not isinstance(payload, bytes):
        return from_otlp_json(payload)
    if payload.lstrip()[:1] != b"{":
        return from_otlp_protobuf(payload)
    try:
        return from_otlp_json(payload)
    except Unreadable as error:
        if payload[:1] != b"\n":
            raise
        try:
            return from_otlp_protobuf(payload)
        except Unreadable:
            raise error from None
