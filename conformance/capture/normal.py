"""Recorded spans without what differs from one recording to the next, so that a difference that is left means something.

Ids become digests of where a span stands (so that one span more does not change the others'), times become whole milliseconds in
their order, and in texts UUIDs, dates, ports, paths and addresses are replaced by others of their shape. What only tells of the
machine is left out of the resource.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from otel_langfuse.model import Resource, Scope, Span, SpanEvent

BASE_S = 1767225600
"""2026-01-01T00:00:00Z: when everything begins."""
TICK_NS = 1_000_000
DURATION = 0.25
PORT = 8080
LINE = 1

_DAY_S = 86_400
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_ISO = re.compile(r"\b(\d{4}-\d\d-\d\d)([T ])\d\d:\d\d:\d\d(\.\d+)?")
_EPOCH = re.compile(r"(?<![\w.])\d{10}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?(?![\w.])")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_TRACEBACK = re.compile(r"(Traceback \(most recent call last\):\n)(?:(?: .*)?\n)*(?=\S)")
_MEASURED = re.compile(r"duration|latency|ttft|tbt|time_to_first|time_per_output|elapsed|overhead_time|time_ms", re.IGNORECASE)
_MEASURED_INSIDE = re.compile(rf"""(["'][\w.-]*(?:{_MEASURED.pattern})[\w.-]*["']: )\d+\.\d+""", re.IGNORECASE)
_TOOK = re.compile(r"(\btook )\d+\.\d+s\b")
_LINES = frozenset({"code.lineno", "code.line.number"})  # of our programs, which may change
_OF_THE_MACHINE = ("process.", "host.", "os.", "service.instance.", "container.")


class Recorded(NamedTuple):
    """The circumstances of a recording: when it was (seconds since 1970), the server's port, and folders by what they become."""

    began_s: float
    port: int
    folders: Mapping[str, str]


def normal(spans: Sequence[Span], name: str, recorded: Recorded) -> list[Span]:
    """The spans in the order in which they ended, comparable with those of another recording.

    ``name`` (family and scenario) keeps ids of different cases apart. Spans of equal resources and scopes share them.
    """
    ordered = sorted(spans, key=lambda span: span.end_time_unix_nano or 0)
    ids, times = _ids(ordered, name), _times(ordered)
    texts = _Texts(ids, recorded)
    resources: dict[str, Resource] = {}
    scopes: dict[str, Scope] = {}
    result = []
    for span in ordered:
        attributes = {key: value for key, value in span.resource.attributes.items() if not key.startswith(_OF_THE_MACHINE)}
        if "telemetry.sdk.version" in attributes:
            attributes["telemetry.sdk.version"] = "1"
        resource = span.resource._replace(attributes=texts.attributes(attributes))
        scope = span.scope._replace(attributes=texts.attributes(span.scope.attributes))
        result.append(
            span._replace(
                trace_id=ids[span.trace_id],
                span_id=ids[span.span_id],
                parent_span_id=ids[span.parent_span_id] if span.parent_span_id else None,
                name=texts.text(span.name),
                start_time_unix_nano=times.get(span.start_time_unix_nano),
                end_time_unix_nano=times.get(span.end_time_unix_nano),
                attributes=texts.attributes(span.attributes),
                resource=resources.setdefault(repr(resource), resource),
                scope=scopes.setdefault(repr((resource, scope)), scope),
                status_message=None if span.status_message is None else texts.text(span.status_message),
                events=tuple(_event(event, times, texts) for event in span.events),
                links=tuple(
                    link._replace(trace_id=ids.get(link.trace_id, "0" * 32), span_id=ids.get(link.span_id, "0" * 16))
                    for link in span.links
                ),
            )
        )
    return result


def _event(event: SpanEvent, times: Mapping[int | None, int], texts: _Texts) -> SpanEvent:
    return event._replace(
        name=texts.text(event.name), time_unix_nano=times[event.time_unix_nano], attributes=texts.attributes(event.attributes)
    )


# -- ids and times -----------------------------------------------------------------------------------------------------


def _ids(spans: Sequence[Span], name: str) -> dict[str, str]:
    """Old id -> new id, of traces, spans, and parents that were not recorded."""
    by_start = sorted(spans, key=lambda span: span.start_time_unix_nano or 0)
    present = {span.span_id: span for span in spans}
    ids: dict[str, str] = {}
    taken: Counter[str] = Counter()

    def place(span: Span) -> str:
        """Where a span stands: the names from the top down to it."""
        path, above = [span.name], span.parent_span_id
        while above in present and len(path) < len(spans):
            path.append(present[above].name)
            above = present[above].parent_span_id
        return "/".join((name, *reversed(path)))

    for span in by_start:
        at = place(span)
        taken[at] += 1
        ids[span.span_id] = _digest(f"span {at} {taken[at]}", 16)
        if span.trace_id not in ids:
            ids[span.trace_id] = _digest(f"trace {at} {taken[at]}", 32)
        if span.parent_span_id and span.parent_span_id not in present:
            ids[span.parent_span_id] = _digest(f"parent of {at} {taken[at]}", 16)
    return ids


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _times(spans: Iterable[Span]) -> dict[int | None, int]:
    """Old time -> new time: one tick for each, in their order."""
    spans = tuple(spans)
    edges = {time for span in spans for time in (span.start_time_unix_nano, span.end_time_unix_nano) if time is not None}
    edges |= {event.time_unix_nano for span in spans for event in span.events}
    return {time: BASE_S * 10**9 + tick * TICK_NS for tick, time in enumerate(sorted(edges))}


# -- texts and numbers -------------------------------------------------------------------------------------------------


class _Texts:
    """Replaces what is volatile in values. The same UUID becomes the same UUID again."""

    def __init__(self, ids: Mapping[str, str], recorded: Recorded) -> None:
        self._ids = re.compile("|".join(map(re.escape, ids)) or r"\Z(?!)")
        self._new_ids = ids
        self._recorded = recorded
        self._folders = re.compile("|".join(map(re.escape, sorted(recorded.folders, key=len, reverse=True))) or r"\Z(?!)")
        self._host = re.compile(rf"\b(127\.0\.0\.1|localhost):{recorded.port}\b")
        self._uuids: dict[str, str] = {}

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes with harmless values, in their order."""
        return {
            key: LINE if key in _LINES else DURATION if _MEASURED.search(key) and isinstance(value, float) else self.value(value)
            for key, value in attributes.items()
        }

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if isinstance(value, Mapping):
            return self.attributes(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return PORT if value == self._recorded.port else self._time(value)
        return value

    def text(self, text: str) -> str:
        text = _TOOK.sub(rf"\g<1>{DURATION}s", _MEASURED_INSIDE.sub(rf"\g<1>{DURATION}", text))
        text = _TRACEBACK.sub(r"\1  ...\n", text)
        text = self._ids.sub(lambda found: self._new_ids[found[0]], text)
        text = self._folders.sub(lambda found: self._recorded.folders[found[0]], text)
        text = self._host.sub(rf"\1:{PORT}", text)
        text = _UUID.sub(self._uuid, text)
        text = _ISO.sub(self._date, text)
        text = _EPOCH.sub(lambda found: str(self._time(float(found[0]) if "." in found[0] else int(found[0]))), text)
        return _ADDRESS.sub("0x0", text)

    def _uuid(self, found: re.Match[str]) -> str:
        return self._uuids.setdefault(found[0].lower(), f"00000000-0000-4000-8000-{len(self._uuids) + 1:012}")

    def _date(self, found: re.Match[str]) -> str:
        """Dates of the recording; others are data."""
        try:
            day = datetime.fromisoformat(found[1]).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            return found[0]
        if abs(day - self._recorded.began_s) > 2 * _DAY_S:
            return found[0]
        return f"2026-01-01{found[2]}00:00:00{re.sub('[0-9]', '0', found[3] or '')}"

    def _time(self, number: float) -> float:
        """A time of the recording, in whichever unit, as the beginning of all times; other numbers as they are."""
        for unit in (1, 10**3, 10**6, 10**9):
            if abs(number / unit - self._recorded.began_s) < _DAY_S:
                return BASE_S * unit if isinstance(number, int) else float(BASE_S * unit)
        return number
