"""JSON values and their text, as dialects need them."""

from __future__ import annotations

from typing import Any

import orjson

from otel_langfuse.conventions import _javascript as js

_BEGIN = ("{", "[")


def to_json(value: Any) -> str:
    """JSON text. NaN is null; what is nested over 200 levels is cut; a lone surrogate is escaped."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # orjson.JSONEncodeError is one
        return js.stringify(value)


def as_text(value: Any) -> str | None:
    """Text as it is, anything else as JSON; None for nothing."""
    return value if value is None or isinstance(value, str) else to_json(value)


def object_json(value: Any) -> str | None:
    """An object as JSON text; None where it is empty."""
    return to_json(value) if value else None


def parsed(value: Any) -> Any:
    """The list or object that a text holds as JSON; any other value as it is."""
    if not isinstance(value, str) or (value[:1] not in _BEGIN and value[:40].lstrip()[:1] not in _BEGIN):
        return value
    try:
        found = orjson.loads(value)
    except ValueError:
        found = js.parse_or_none(value)  # what orjson refuses and JavaScript takes
    return found if isinstance(found, (dict, list)) else value


def same(one: Any, other: Any) -> bool:
    """Whether two contents are the same JSON. What is nested too deeply to compare is not."""
    try:
        return bool(one is other or one == other or parsed(one) == parsed(other))
    except RecursionError:
        return False
