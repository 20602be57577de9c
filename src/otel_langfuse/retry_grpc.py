"""What a gRPC answer means to the client that sent a request: one table of status codes, and what servers add to them. Pure.

The transport answers as gRPC does on the wire: with the headers ``grpc-status``, ``grpc-message`` and the trailers, of which
those that end in ``-bin`` are base64; and with the HTTP status that means the same. ``retry.decide`` goes by that status
unless this table knows better.

Sources: https://opentelemetry.io/docs/specs/otlp/#failures (which codes are retryable); google/rpc/code.proto (the HTTP
status of each); protocol.md 5 for what the stock exporter gets wrong: it sends again what can never pass.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from .errors import DropReason

STATUS: Final = "grpc-status"
MESSAGE: Final = "grpc-message"
DETAILS: Final = "grpc-status-details-bin"
"""A ``google.rpc.Status``, whose details may hold a ``RetryInfo``: the form of the specification."""

RETRY_INFO: Final = "google.rpc.retryinfo-bin"
"""A ``RetryInfo`` by itself, as some servers send it."""

RESOURCE_EXHAUSTED: Final = 8

_TOO_LARGE: Final = re.compile(
    r"larger than max"  # gRPC's C core and Go
    r"|exceeds maximum size"  # Java
    r"|message length too large"  # Rust's tonic, with OUT_OF_RANGE
    r"|http2 header with status: 413",  # a proxy in between; the C core makes UNKNOWN of it
    re.IGNORECASE,
)


class Row(NamedTuple):
    """A status code. ``action`` is None where the HTTP status already says what to do (see ``retry``)."""

    name: str
    http_status: int
    action: Literal["wait", "split", "give up"] | None = None
    reason: DropReason = DropReason.REJECTED


CODES: Final[Mapping[int, Row]] = {
    0: Row("OK", 200),
    1: Row("CANCELLED", 499, "wait", DropReason.SEND_FAILED),
    2: Row("UNKNOWN", 500),  # what a server in Python says when it stumbled
    3: Row("INVALID_ARGUMENT", 400),
    4: Row("DEADLINE_EXCEEDED", 504),
    5: Row("NOT_FOUND", 404),
    6: Row("ALREADY_EXISTS", 409),
    7: Row("PERMISSION_DENIED", 403),
    8: Row("RESOURCE_EXHAUSTED", 429, "give up", DropReason.SEND_FAILED),  # "wait" with a RetryInfo
    9: Row("FAILED_PRECONDITION", 400, "give up"),
    10: Row("ABORTED", 409, "wait", DropReason.SEND_FAILED),
    11: Row("OUT_OF_RANGE", 400, "split", DropReason.TOO_LARGE),
    12: Row("UNIMPLEMENTED", 501, "give up"),
    13: Row("INTERNAL", 500, "split"),  # what the OpenTelemetry Collector says of an error that is permanent
    14: Row("UNAVAILABLE", 503),
    15: Row("DATA_LOSS", 500, "wait", DropReason.SEND_FAILED),
    16: Row("UNAUTHENTICATED", 401),
}

ADVICE: Final[Mapping[int, str]] = {
    5: "check endpoint=: no OTLP trace service is there",
    7: "check headers=",
    12: "check endpoint=: no OTLP trace service is there; for gRPC the port is mostly 4317",
    16: "check headers=",
}


def http_status(code: int) -> int:
    """The HTTP status that means the same as a gRPC status code."""
    return CODES.get(code, CODES[2]).http_status


def row(headers: Mapping[str, str]) -> Row | None:
    """The row for an answer; None if it is not one of gRPC. What it says of its size and of waiting is in the row."""
    text = headers.get(STATUS)
    if text is None:
        return None
    code = int(text) if text.isdecimal() else 2
    found = CODES.get(code, CODES[2])
    if code and _TOO_LARGE.search(headers.get(MESSAGE, "")):
        return found._replace(action="split", reason=DropReason.TOO_LARGE)
    if code == RESOURCE_EXHAUSTED and retry_delay_s(headers) is not None:
        return found._replace(action="wait")
    return found


def advice(headers: Mapping[str, str]) -> str:
    """What to do about a status that time will not change; empty for all others."""
    text = headers.get(STATUS, "")
    return ADVICE.get(int(text), "") if text.isdecimal() else ""


def retry_delay_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that a ``RetryInfo`` asks for, in either of its two places; None without one, or if it cannot be read."""
    places = ((DETAILS, _in_details), (RETRY_INFO, _alone))
    found = (read(_bytes(headers[name])) for name, read in places if name in headers)
    return next((seconds for seconds in found if seconds is not None), None)


def _in_details(data: bytes) -> float | None:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - these come with gRPC, and only it needs them
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    info = error_details_pb2.RetryInfo()
    try:
        if any(detail.Unpack(info) for detail in status_pb2.Status.FromString(data).details):
            return _seconds(info)
    except DecodeError:
        pass
    return None


def _alone(data: bytes) -> float | None:
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - as above
    from google.rpc import error_details_pb2  # noqa: PLC0415

    try:
        return _seconds(error_details_pb2.RetryInfo.FromString(data)) if data else None
    except DecodeError:
        return None


def _bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4))
    except ValueError:
        return b""


def _seconds(info: Any) -> float:
    return max(float(info.retry_delay.seconds) + float(info.retry_delay.nanos) / 1e9, 0.0)
