"""A safe picture of any value, as text, at this moment: what is recorded of inputs, outputs and metadata. Pure.

Plain data is one call of ``orjson``. Everything else is walked with bounds. Values that say what they consist of (dataclasses,
pydantic and attrs models, named tuples, enums, arrays, data frames) are JSON; images and bytes are data URIs; any other object
is its type and a short ``repr``, never its ``__dict__``, where keys and connections live. What a class leaves out of its own
``repr`` is left out here too. Nothing is imported for it, no property is asked that the object's author did not declare as a
field, and nothing is raised.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from orjson import dumps

from ._plain import FEW, is_tracked, plain_json
from ._text import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_MEDIA_BYTES,
    MAX_REPR,
    MAX_ROWS,
    MAX_WALKED_ITEMS,
    MAX_WIDTH,
    base64_bytes,
    cut,
    short,
    utf8,
)
from ._types import way_of
from ._walk import Walk, as_json

__all__ = [
    "MAX_CHARACTERS",
    "MAX_DEPTH",
    "MAX_ITEMS",
    "MAX_MEDIA_BYTES",
    "MAX_REPR",
    "MAX_ROWS",
    "MAX_WALKED_ITEMS",
    "MAX_WIDTH",
    "json_text",
    "short",
    "text",
]


def text(value: Any) -> str:
    """The picture of a value: a text as it is, everything else as JSON text, both within the bounds above.

    Never raises (``KeyboardInterrupt`` and the like from a foreign ``repr`` aside). What was left out for its size, depth or
    because it contains itself is named by a text in angle brackets at its place.
    """
    kind = type(value)
    if kind is str:
        short = len(value) <= MAX_CHARACTERS
        return value if short and value.isascii() else utf8(value if short else _bounded(value))
    try:
        if kind is dict and len(value) < FEW and not is_tracked(value):  # what is recorded most: a message, what was counted
            made = dumps(value).decode()
            if len(made) <= MAX_CHARACTERS:
                return made
        if (plain := plain_json(value)) is not None:
            return plain
    except Exception:  # noqa: BLE001, S110 - integers beyond 64 bits, lone surrogates, a list that another thread changes: walked
        pass
    seen = Walk(way_of).of(value, 0)
    return utf8(seen) if type(seen) is str else as_json(seen).strip('"')  # a time alone is a text, too


def json_text(value: Any) -> str:
    """The same, and a text is JSON too: for what becomes a part of other JSON."""
    if type(value) is str:
        return as_json(_bounded(value))
    with suppress(Exception):
        if (made := plain_json(value)) is not None:
            return made
    return as_json(Walk(way_of).of(value, 0))


def _bounded(value: str) -> str:
    """A text alone: cut, unless it is an image or the like in base64, which is whole or not there."""
    if len(value) <= MAX_CHARACTERS:
        return value
    size = base64_bytes(value)
    if not size:
        return cut(value, MAX_CHARACTERS)
    return value if size <= MAX_MEDIA_BYTES else f"<cut: {size:,} bytes in base64>"
