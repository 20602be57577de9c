"""OTLP/JSON, read as Langfuse's server reads it."""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import orjson

from otel_langfuse.model import Resource, Scope, Span, SpanEvent, SpanLink

_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,40}", re.ASCII)


class Unreadable(ValueError):  # noqa: N818 - it is named as the reason is that spans are dropped for
    """A request that Langfuse's server would refuse as a whole. The message is one line, without any content."""


def from_otlp_json(payload: bytes | str | Mapping[str, Any]) -> list[Span]:
    """Read OTLP/JSON as Langfuse's server does (mapping.md 1.1-1.5).

    Ids are kept as they are; ``""`` is no parent. A time that cannot be read is None. A string in ``doubleValue`` stays
    a string unless it is a finite number; ``intValue`` is an exact int, of any size. ``arrayValue`` without ``values``,
    which is how protobuf sends an empty sequence, is the empty tuple ``()``; ``{"values": []}`` is the empty list
    ``[]``: the server tells them apart. ``kvlistValue`` is a dict, ``bytesValue`` bytes, ``{}`` and anything unknown
    None. Of two attributes with one key the last counts. ``kind`` and ``status.code`` count only as numbers,
    ``status.message`` and the scope's name and version only as text; absent, these are None.

    Returns:
        The spans in the order of the request, one ``Resource`` object for each entry of ``resourceSpans`` and one
        ``Scope`` for each of ``scopeSpans``.

    Raises:
        Unreadable: Not JSON; a span without ids; an attribute without ``value``; ``scopeSpans``, ``spans``,
            ``attributes`` or ``events`` are not lists.
    """
    request = payload if isinstance(payload, Mapping) else _parsed(payload)
    spans: list[Span] = []
    try:
        for entry in _list(request, "resourceSpans"):
            resource = Resource(_attributes(_dict(entry, "resource")), _text(entry, "schemaUrl") or "")
            for group in _list(entry, "scopeSpans"):
                scope = _scope(_dict(group, "scope"), _text(group, "schemaUrl") or "")
                spans.extend(_span(span, resource, scope) for span in _list(group, "spans"))
    except RecursionError:
        raise Unreadable("an attribute's value is nested too deeply") from None
    return spans


def _parsed(payload: bytes | str) -> Mapping[str, Any]:
    try:
        request = orjson.loads(payload)
    except ValueError:
        request = _parsed_slowly(payload)
    if not isinstance(request, dict):
        raise Unreadable(f"a request is a JSON object, not {_kind_of(request)}")
    return request


def _parsed_slowly(payload: bytes | str) -> Any:
    """By the standard library, for what JavaScript takes and orjson does not: lone surrogates, broken UTF-8."""
    text = payload if isinstance(payload, str) else payload.decode("utf-8", "replace")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON that can be read: {type(error).__name__}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise Unreadable(f"not JSON: {name}")


def _kind_of(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _list(holder: Any, key: str) -> Sequence[Any]:
    found = holder.get(key) if isinstance(holder, Mapping) else _refuse_holder(holder, key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise Unreadable(f"{key} is {_kind_of(found)}, not a list")
    return found


def _refuse_holder(holder: Any, key: str) -> NoReturn:
    raise Unreadable(f"what should hold {key} is {_kind_of(holder)}, not an object")


def _dict(holder: Any, key: str) -> Mapping[str, Any]:
    found = holder.get(key) if isinstance(holder, Mapping) else _refuse_holder(holder, key)
    return found if isinstance(found, Mapping) else {}


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    found = holder.get(key)
    return found if isinstance(found, str) else None


def _scope(scope: Mapping[str, Any], schema_url: str) -> Scope:
    dropped = scope.get("droppedAttributesCount")
    return Scope(
        _text(scope, "name"),
        _text(scope, "version"),
        _attributes(scope),
        schema_url,
        None if dropped is None else _count(dropped),
    )


def _span(span: Any, resource: Resource, scope: Scope) -> Span:
    if not isinstance(span, Mapping):
        raise Unreadable(f"a span is an object, not {_kind_of(span)}")
    trace_id, span_id = _id(span.get("traceId")), _id(span.get("spanId"))
    if not trace_id or not span_id:
        raise Unreadable("a span without traceId or spanId")
    status = _dict(span, "status")
    return Span(
        trace_id,
        span_id,
        _id(span.get("parentSpanId")) or None,
        _text(span, "name") or "",
        _time(span.get("startTimeUnixNano")),
        _time(span.get("endTimeUnixNano")),
        _attributes(span),
        resource,
        scope,
        _number(span.get("kind")),
        _number(status.get("code")),
        _text(status, "message"),
        tuple(map(_event, events)) if (events := _list(span, "events")) else (),
        _links(span.get("links")),
        _text(span, "traceState") or "",
        _number(span.get("flags")),
        _count(span.get("droppedAttributesCount")),
        _count(span.get("droppedEventsCount")),
        _count(span.get("droppedLinksCount")),
    )


def _event(event: Any) -> SpanEvent:
    if not isinstance(event, Mapping):
        raise Unreadable(f"an event of a span is an object, not {_kind_of(event)}")
    return SpanEvent(
        _text(event, "name") or "",
        _time(event.get("timeUnixNano")) or 0,
        _attributes(event),
        _count(event.get("droppedAttributesCount")),
    )


def _links(links: Any) -> tuple[SpanLink, ...]:
    """The server does not read links, so none of them makes a request unreadable: what is none is left out."""
    return tuple(_link(link) for link in links if isinstance(link, Mapping)) if isinstance(links, list) else ()


def _link(link: Mapping[str, Any]) -> SpanLink:
    return SpanLink(
        _id(link.get("traceId")),
        _id(link.get("spanId")),
        _text(link, "traceState") or "",
        _attributes(link),
        _count(link.get("droppedAttributesCount")),
        _number(link.get("flags")),
    )


def _id(value: Any) -> str:
    """A string as it is; bytes, however a JavaScript server may have written them, as hex (mapping.md 1.3)."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = value.get("data")
    try:
        return bytes(value).hex() if isinstance(value, list) else ""
    except (TypeError, ValueError):
        return ""


def _time(value: Any) -> int | None:
    """Nanoseconds; None for what is neither a number, a decimal string nor ``{low, high}`` (mapping.md 1.4)."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if _INTEGER.fullmatch(value) else None
    return _whole(_joined(value) if isinstance(value, Mapping) else value)


def _joined(value: Mapping[str, Any]) -> int | None:
    """An int64 as ``{low, high}``, as protobufjs has it without its long library."""
    low, high = value.get("low"), value.get("high")
    return (high << 32) + (low & 0xFFFFFFFF) if isinstance(low, int) and isinstance(high, int) else None


def _whole(value: Any) -> int | None:
    """A number without its fraction; None for anything else, and for what is not finite."""
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> int:
    return _whole(value) or 0


def _count(value: Any) -> int:
    return int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else _number(value)


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for item in _list(holder, "attributes"):
        try:
            value, key = item["value"], item.get("key", "undefined")
        except (TypeError, KeyError, AttributeError):
            raise Unreadable("an attribute without value") from None
        text = value.get("stringValue") if type(value) is dict else None
        made[key if type(key) is str else str(key)] = text if type(text) is str else _value(value)
    return made


def _value(value: Any) -> Any:
    """What ``conv`` of mapping.md 1.2 makes of an AnyValue, but for what the server writes out as JSON text."""
    if value is None:
        raise Unreadable("an attribute whose value is null")
    if not isinstance(value, Mapping):
        return None
    for key, read in _READERS.items():
        found = value.get(key)
        if found is not None:
            return read(found)
    return None


def _double(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        number = float(text) if _DECIMAL.fullmatch(text) else math.nan if text else 0.0
        return number if math.isfinite(number) else value
    try:
        return float(value) if type(value) is int else value
    except OverflowError:
        return math.inf


def _integer(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if _INTEGER.fullmatch(text):
            return int(text)
        number = _double(value)
        return math.nan if isinstance(number, str) else number
    if isinstance(value, Mapping):
        return _joined(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _array(value: Any) -> Sequence[Any]:
    values = value.get("values") if isinstance(value, Mapping) else None
    if values is None:
        return ()
    if not isinstance(values, list):
        raise Unreadable(f"values of an array is {_kind_of(values)}, not a list")
    return [_value(item) for item in values]


def _pairs(value: Any) -> dict[str, Any]:
    """A kvlist as a dict. The server does not look inside, so nothing in it makes a request unreadable."""
    items = value.get("values") if isinstance(value, Mapping) else None
    known = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    return {str(item.get("key", "")): _value(item.get("value") or {}) for item in known}


def _base64(value: Any) -> bytes | None:
    try:
        return binascii.a2b_base64(value.replace("-", "+").replace("_", "/"))
    except (AttributeError, ValueError):
        return None


_READERS: dict[str, Callable[[Any], Any]] = {  # in the order in which the server looks; the last two it does not read
    "stringValue": lambda value: value,
    "doubleValue": _double,
    "boolValue": lambda value: value,
    "arrayValue": _array,
    "intValue": _integer,
    "kvlistValue": _pairs,
    "bytesValue": _base64,
}
