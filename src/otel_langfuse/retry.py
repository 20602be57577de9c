"""What an answer means: done, wait, split or give up. Pure: the clock and the jitter are handed in.

Sources: protocol.md 5, https://opentelemetry.io/docs/specs/otlp/#otlphttp-response for OTLP; api.md 1.4-1.6, 2.8, 3.2 for
Langfuse. Unlike the stock exporters: only 2xx is success; 408 and every 5xx are retried, because Langfuse's OTLP route answers
500 when its storage hiccups; what is too large or holds one bad item is split instead of lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import orjson

from . import retry_grpc
from .errors import DropReason
from .model import Request, Response

FIRST_WAIT_S: Final = 0.5
MAX_WAIT_S: Final = 10.0
"""So long at most, so that spans arrive soon after an outage has ended; one small question in ten seconds is no burden."""
MAX_RETRY_AFTER_S: Final = 300.0
"""A ``Retry-After`` of more than this is cut to it: no server may park an application's spans for days."""

REFUSED_WAIT_S: Final = 60.0
"""After a 401 or 403 (wrong keys, an ingestion that is suspended) only time and somebody's hand help: what is queued is kept,
as long as its bounds hold it, and tried again this rarely."""

MAX_UNREADABLE: Final = 3
"""How often a request is sent again whose answer says that its items fared differently, but not how."""

MAX_SERVER_ERRORS: Final = 8
"""How often a 500 is waited for (half a minute) before the request is split: it may be one span that the server stumbles over,
and that must not hold up all others for ever. That one is dropped only when it is known to be to blame: a server that is down
for everything answers 500 as well."""

_MAX_DETAIL: Final = 200


class Done(NamedTuple):
    """The destination took the request, except for ``rejected`` of its items, it does not say which.

    ``detail`` is what it says about that; without rejected items it is advice.
    """

    rejected: int = 0
    detail: str = ""


class Partly(NamedTuple):
    """The destination took the request, except for these items: ``again`` may be sent again after ``seconds``."""

    again: Sequence[Any]
    rejected: Sequence[Any]
    seconds: float
    detail: str


class Wait(NamedTuple):
    """To be sent again, as it is, after ``seconds``. If there is no time for that, its items are dropped for ``reason``.

    ``asked``: the destination has said so, so that there is no reason to try sooner.
    """

    seconds: float
    detail: str
    reason: DropReason = DropReason.SEND_FAILED
    asked: bool = False


class Split(NamedTuple):
    """To be sent again in halves. A single item is dropped for ``reason``."""

    reason: DropReason
    detail: str


class GiveUp(NamedTuple):
    """Not to be sent again."""

    reason: DropReason
    detail: str


Decision: TypeAlias = "Done | Partly | Wait | Split | GiveUp"
_Action: TypeAlias = Literal["wait", "split", "give up"]

# -- the tables --------------------------------------------------------------------------------------------------------

_ACTIONS: Final[Mapping[int, tuple[_Action, DropReason]]] = {
    400: ("split", DropReason.REJECTED),  # Langfuse refuses a whole export for one bad span (api.md 3.2)
    401: ("wait", DropReason.REJECTED),  # for as long as REFUSED_WAIT_S
    403: ("wait", DropReason.REJECTED),  # likewise; also for as long as ingestion is suspended (api.md 1.4)
    408: ("wait", DropReason.SEND_FAILED),
    413: ("split", DropReason.TOO_LARGE),
    429: ("wait", DropReason.SEND_FAILED),
}
"""Status -> what to do, and why an item is dropped if that ends with it. Others: 5xx wait, the rest give up."""

_LANGFUSE_ADVICE: Final[Mapping[int, str]] = {
    401: "check LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, and that they belong to LANGFUSE_BASE_URL",
    403: "check that LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY are of a project, and its plan's limits",
    404: "check LANGFUSE_BASE_URL: there is no such route",
    405: "check LANGFUSE_BASE_URL: there is no such route",
}
_COLLECTOR_ADVICE: Final[Mapping[int, str]] = {
    401: "check headers=",
    403: "check headers=",
    404: "check endpoint=: it is the whole URL, for most collectors with the path /v1/traces",
    405: "check endpoint=: it is the whole URL, for most collectors with the path /v1/traces",
    415: "check endpoint=: it does not take OTLP as protobuf",
}
_REDIRECT_ADVICE: Final = "redirects are not followed: set the final address"

EVENTS_ONLY: Final = "Event type not accepted"
"""The message of an entry by which a newer server refuses an observation (api.md 0)."""

EVENTS_ONLY_ADVICE: Final = (
    "this Langfuse server takes observations by OTLP only: use LangfuseOTLPExporter, which is the default, "
    "instead of LangfuseIngestionExporter"
)


# -- decisions ---------------------------------------------------------------------------------------------------------


def decide(request: Request, response: Response, *, attempt: int, now: float, jitter: float, to_blame: bool = True) -> Decision:
    """What to do after ``response``.

    Args:
        request: what was sent.
        response: what came back, or the error that prevented that.
        attempt: how often this request was sent before, from 0.
        now: seconds since 1970, for ``Retry-After`` dates.
        jitter: a random number from 0.0 to 1.0.
        to_blame: whether a single item at which the server fails is to blame for that, and not the server.
    """
    status = response.status
    if status is None:
        return Wait(backoff_s(attempt, jitter), response.error or "no answer")
    if 200 <= status < 300:
        if request.endpoint == "ingestion":
            return _entries(request, response, attempt, jitter)
        return _partial_success(response, len(request.items))
    action, reason = _action(response, status)
    detail = _detail(request, response, status)
    if status == 500 and attempt >= MAX_SERVER_ERRORS and (to_blame or len(request.items) > 1):
        return Split(DropReason.SEND_FAILED, detail)
    if action == "wait":
        asked = asked_s(response, now)
        return Wait(_wait_s(asked, reason, attempt, jitter), detail, reason, asked is not None)
    return Split(reason, detail) if action == "split" else GiveUp(reason, detail)


def _action(response: Response, status: int) -> tuple[_Action, DropReason]:
    grpc = retry_grpc.row(response.headers)
    if grpc is not None and grpc.action is not None:
        return grpc.action, grpc.reason
    if status in _ACTIONS:
        return _ACTIONS[status]
    return ("wait", DropReason.SEND_FAILED) if status >= 500 else ("give up", DropReason.REJECTED)


def asked_s(response: Response, now: float) -> float | None:
    """Seconds that the destination asks us to wait, by ``Retry-After`` or by gRPC's ``RetryInfo``; None if it does not."""
    if retry_grpc.STATUS in response.headers:
        return retry_grpc.retry_delay_s(response.headers) or None
    return retry_after_s(response.headers.get("retry-after", ""), now)


def _wait_s(asked: float | None, reason: DropReason, attempt: int, jitter: float) -> float:
    if reason is DropReason.REJECTED:
        return max(asked or 0.0, REFUSED_WAIT_S) * (1 + 0.1 * jitter)
    backoff = backoff_s(attempt, jitter)
    if asked is None:
        return backoff
    return max(min(asked, MAX_RETRY_AFTER_S) * (1 + 0.1 * jitter), min(backoff, 1.0) if attempt else 0.0)


def backoff_s(attempt: int, jitter: float) -> float:
    """Seconds to wait after the attempt of this number: doubling from ``FIRST_WAIT_S`` to ``MAX_WAIT_S``; half of it at least."""
    return float(min(FIRST_WAIT_S * 2 ** min(attempt, 16), MAX_WAIT_S) * (0.5 + 0.5 * jitter))


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HTTP_DATE: Final = re.compile(r"\w{3}, (\d{2}) (\w{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT", re.ASCII)


def retry_after_s(value: str, now: float) -> float | None:
    """Seconds that a ``Retry-After`` header asks for: a number, or an HTTP date (RFC 9110 10.2.3, 5.6.7).

    None for what is neither. Not by ``strptime``, which reads the names of days and months in the process's language.
    """
    value = value.strip()
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    date = _HTTP_DATE.fullmatch(value)
    if date is None or date[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(date[i]) for i in (1, 3, 4, 5, 6))
    try:
        at = datetime(year, _MONTHS.index(date[2]) + 1, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    return max(at.timestamp() - now, 0.0)


# -- OTLP --------------------------------------------------------------------------------------------------------------


def _partial_success(response: Response, sent: int) -> Done:
    """Reads ``partial_success``. A body that cannot be read is no reason to doubt a 2xx: Langfuse answers with JSON."""
    body = response.body
    if not body:
        return Done()
    if (answer := _json(body) if b"{" in body[:16] else None) is not None:  # where protobuf has a message, that may hold a brace
        partial = _get(answer, "partialSuccess", "partial_success")
        rejected, message = _get(partial, "rejectedSpans", "rejected_spans"), _get(partial, "errorMessage", "error_message")
    else:
        # Langfuse answers with JSON; an exporter to others has loaded them when it was made (``spans.load_protobuf``).
        from google.protobuf.message import DecodeError  # noqa: PLC0415
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse  # noqa: PLC0415

        try:
            read = ExportTraceServiceResponse.FromString(body).partial_success
        except DecodeError:
            return Done()
        rejected, message = read.rejected_spans, read.error_message
    try:
        count = int(rejected or 0)
    except (ValueError, TypeError):
        count = 0
    return Done(min(max(count, 0), sent), one_line(message) if isinstance(message, str) else "")


# -- ingestion ---------------------------------------------------------------------------------------------------------


def _entries(request: Request, response: Response, attempt: int, jitter: float) -> Decision:
    """Reads a 207 entry by entry (api.md 2.8). Events that it does not name were taken, unless entries lack their ids."""
    answer = _json(response.body)
    errors = answer.get("errors") if isinstance(answer, dict) else None
    if not isinstance(errors, list):
        if response.status != 207:
            return Done()
        detail = "HTTP 207 with an answer that cannot be read"
        if attempt >= MAX_UNREADABLE:
            return GiveUp(DropReason.SEND_FAILED, detail)
        return Wait(backoff_s(attempt, jitter), detail)
    if not errors:
        return Done()
    refused = {str(entry.get("id")): entry for entry in errors if isinstance(entry, dict)}
    again: list[Any] = []
    rejected: list[Any] = []
    for item in request.items:
        entry = refused.get(item.id)
        if entry is not None:
            (again if _for_now(entry.get("status")) and attempt < MAX_SERVER_ERRORS else rejected).append(item)
    unnamed = len(errors) - len(again) - len(rejected)
    if unnamed > 0:
        taken = {str(_get(entry, "id")) for entry in answer.get("successes") or ()}
        left = [item for item in request.items if item.id not in refused and item.id not in taken]
        rejected.extend(left[:unnamed])
    if not again and not rejected:
        return Done()
    return Partly(again, rejected, backoff_s(attempt, jitter), _entries_detail(errors))


def _for_now(status: Any) -> bool:
    return isinstance(status, int) and (status >= 500 or status in (408, 429))


def _entries_detail(errors: Sequence[Any]) -> str:
    first = next((entry for entry in errors if isinstance(entry, dict)), {})
    if any(_get(entry, "message") == EVENTS_ONLY for entry in errors):
        return EVENTS_ONLY_ADVICE
    said = " ".join(str(first[key]) for key in ("message", "error") if isinstance(first.get(key), str))
    return one_line(f"ingestion event refused with {first.get('status')}: {said}")


# -- what the other side says ------------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """The text as one short line that a terminal can show: printable characters only, cut."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_DETAIL]).split())
    return shown if len(shown) <= _MAX_DETAIL else shown[: _MAX_DETAIL - 3] + "..."


def _detail(request: Request, response: Response, status: int) -> str:
    grpc = retry_grpc.row(response.headers)
    if grpc is not None:
        hint, said = retry_grpc.advice(response.headers), one_line(response.headers.get(retry_grpc.MESSAGE, ""))
        return one_line(f"gRPC {grpc.name}{hint and f': {hint}'}{said and f' (it says: {said})'}")
    advice = _LANGFUSE_ADVICE if "x-langfuse-sdk-name" in request.headers else _COLLECTOR_ADVICE
    hint = _REDIRECT_ADVICE if 300 <= status < 400 else advice.get(status, "")
    answer = _json(response.body)
    message = _get(answer, "message", "error")
    said = message if isinstance(message, str) else response.body[:1000].decode("utf-8", "replace")
    if said.lstrip().startswith("<"):  # a proxy's page
        said = ""
    return one_line(f"HTTP {status}{hint and f': {hint}'}{said and f' (it says: {one_line(said)})'}")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _get(value: Any, *names: str) -> Any:
    if isinstance(value, dict):
        return next((value[name] for name in names if name in value), None)
    return None
