"""What is too large for its destination is made smaller: its largest values are cut, and say so. Pure.

A cut text keeps its beginning and ends with ``...<cut: 19.9 MB of 20.0 MB left out>``. All texts that are cut are cut to the
same length, so that what is small stays whole. Where that is not enough (a list of a million numbers, a hundred thousand span
events) the largest attributes are replaced as wholes, by ``<cut: 19.9 MB left out>``, and span events, links and the last
attributes are left out and counted, as OpenTelemetry counts those that an SDK left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from otel_langfuse.model import Attributes, Json, Span

MIN_TEXT_BYTES: Final = 1024
"""No text is cut to less, so ids never are: below that it is attributes and span events that are left out."""

_VALUE_BYTES: Final = 12
"""What a value, its key and their frames take beside texts, about, in protobuf and in JSON."""

_MARK_BYTES: Final = 64
_MAX_DEPTH: Final = 64
_UNITS: Final = {"MB": 1_000_000, "kB": 1_000, "B": 1}
_MARK: Final = re.compile(r"\.\.\.<cut: [\d.]+ [kM]?B of (\d+(?:\.\d)?) ([kM]?B) left out>\Z", re.ASCII)
_IO: Final = ("input", "output", "metadata", "modelParameters", "statusMessage", "name")
"""What of an ingestion event's body may be replaced as a whole."""


def cut_to(span: Span, max_bytes: int) -> Span:
    """The span with so much cut off its largest values that it has about ``max_bytes`` bytes when it is encoded.

    Names, ids, times and what is shared with other spans (resource and scope) stay, so the result may still be larger:
    the caller measures what it becomes. The same object where nothing needs to be cut.
    """
    sizes = list(_text_sizes(_contents(span)))
    level = _level(sizes, max_bytes - _fixed_bytes(_contents(span)))
    if level is None:
        return span
    cut = span._replace(
        name=_cut_value(span.name, level, 0),
        status_message=_cut_value(span.status_message, level, 0),
        attributes=_cut_value(span.attributes, level, 0),
        events=tuple(
            event._replace(name=_cut_value(event.name, level, 0), attributes=_cut_value(event.attributes, level, 0))
            for event in span.events
        ),
        links=tuple(link._replace(attributes=_cut_value(link.attributes, level, 0)) for link in span.links),
    )
    if level > MIN_TEXT_BYTES:
        return cut
    if _bytes(_contents(cut)) > max_bytes:
        cut = cut._replace(
            events=(),
            links=(),
            dropped_events_count=cut.dropped_events_count + len(cut.events),
            dropped_links_count=cut.dropped_links_count + len(cut.links),
        )
    attributes = _first(_without_largest(cut.attributes, tuple(cut.attributes), max_bytes), max_bytes)
    lost = len(cut.attributes) - len(attributes)
    return cut._replace(attributes=attributes, dropped_attributes_count=cut.dropped_attributes_count + lost)


def cut_event(event: Mapping[str, Json], max_bytes: int) -> dict[str, Json]:
    """The same for an ingestion event, of which id, type, times and everything short stay as they are."""
    sizes = list(_text_sizes(event))
    level = _level(sizes, max_bytes - _fixed_bytes(event))
    if level is None:
        return dict(event)
    cut: dict[str, Json] = _cut_value(event, level, 0)
    if level <= MIN_TEXT_BYTES:
        cut["body"] = _without_largest(cut["body"], [name for name in _IO if name in cut["body"]], max_bytes)
    return cut


def _contents(span: Span) -> Sequence[Any]:
    events = [(event.name, event.attributes) for event in span.events]
    return [span.name, span.status_message, span.attributes, events, [link.attributes for link in span.links]]


# -- sizes -------------------------------------------------------------------------------------------------------------


def _level(sizes: Sequence[int], room: int) -> int | None:
    """The length to which texts are to be cut so that all of them fit into ``room`` bytes; None if they do as they are."""
    rest = sum(sizes)
    if rest <= room:
        return None
    ordered = sorted(sizes, reverse=True)
    for size, following, count in zip(ordered, [*ordered[1:], 0], range(1, len(ordered) + 1), strict=True):
        rest -= size
        level = (room - rest) // count - _MARK_BYTES
        if level >= following or following <= MIN_TEXT_BYTES:
            return max(level, MIN_TEXT_BYTES)
    return MIN_TEXT_BYTES


def _text_bytes(value: str | bytes) -> int:
    if isinstance(value, bytes) or value.isascii():
        return len(value)
    return len(value.encode("utf-8", "surrogatepass"))


def _text_sizes(value: Any, depth: int = 0) -> Iterator[int]:
    if isinstance(value, (str, bytes)):
        yield _text_bytes(value)
    elif depth < _MAX_DEPTH and isinstance(value, Mapping):
        for item in value.values():
            yield from _text_sizes(item, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, Sequence):
        for item in value:
            yield from _text_sizes(item, depth + 1)


def _fixed_bytes(value: Any, depth: int = 0) -> int:
    """Bytes of everything but the texts that may be cut: numbers, keys, frames."""
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        keys = sum(_text_bytes(key) for key in value if isinstance(key, str))
        return _VALUE_BYTES + keys + sum(_fixed_bytes(item, depth + 1) for item in value.values())
    if depth < _MAX_DEPTH and isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return _VALUE_BYTES + sum(_fixed_bytes(item, depth + 1) for item in value)
    return _VALUE_BYTES


def _bytes(value: Any) -> int:
    return _fixed_bytes(value) + sum(_text_sizes(value))


# -- cutting -----------------------------------------------------------------------------------------------------------


def _cut_value(value: Any, level: int, depth: int) -> Any:
    if isinstance(value, (str, bytes)):
        return value if _text_bytes(value) <= level + _MARK_BYTES else _cut_text(value, level)
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        return {key: _cut_value(item, level, depth + 1) for key, item in value.items()}
    if isinstance(value, Sequence) and depth < _MAX_DEPTH:
        items = [_cut_value(item, level, depth + 1) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _cut_text(text: str | bytes, keep_bytes: int) -> str | bytes:
    if isinstance(text, bytes):
        return text[:keep_bytes] + _mark(len(text), keep_bytes).encode()
    mark = _mark(_first_size(text), keep_bytes)
    if text.isascii():
        return text[:keep_bytes] + mark
    return text[:keep_bytes].encode("utf-8", "replace")[:keep_bytes].decode("utf-8", "ignore") + mark


def _mark(size: int, keep_bytes: int) -> str:
    return f"...<cut: {_shown(size - keep_bytes)} of {_shown(size)} left out>"


def _first_size(text: str) -> int:
    """Its bytes; where it was cut before, those that it had then, as its mark tells."""
    before = _MARK.search(text, max(len(text) - _MARK_BYTES, 0))
    return round(float(before[1]) * _UNITS[before[2]]) if before else _text_bytes(text)


def _without_largest(attributes: Attributes, names: Sequence[str], max_bytes: int) -> dict[str, Any]:
    """The attributes, of which the largest among ``names`` are replaced until what remains has ``max_bytes`` bytes."""
    kept = dict(attributes)
    sizes = {name: _bytes(kept[name]) for name in names}
    left = _bytes(kept)
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if left <= max_bytes or sizes[name] <= MIN_TEXT_BYTES:
            break
        kept[name] = f"<cut: {_shown(sizes[name])} left out>"
        left -= sizes[name] - _MARK_BYTES
    return kept


def _first(attributes: Mapping[str, Any], max_bytes: int) -> dict[str, Any]:
    """As many of the attributes, from the first on, as have ``max_bytes`` bytes together."""
    kept: dict[str, Any] = {}
    for name, value in attributes.items():
        max_bytes -= _bytes({name: value})
        if max_bytes < 0:
            break
        kept[name] = value
    return kept


def _shown(count: int) -> str:
    """A count of bytes for a reader: 20.0 MB, 1.5 kB, 17 B."""
    name = next(name for name, unit in _UNITS.items() if count >= unit or unit == 1)
    return f"{count / _UNITS[name]:.1f} {name}" if _UNITS[name] > 1 else f"{count} B"
