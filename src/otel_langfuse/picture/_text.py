"""Texts within bounds, and the bounds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

MAX_CHARACTERS: Final = 1_000_000
"""Of the texts in one picture. A text alone is cut there; in a picture that is too large, each text to a fifth of it."""

MAX_MEDIA_BYTES: Final = 32 * 1024 * 1024
"""Of the images, sounds and documents in one picture. They are whole or not there: half of one is of no use to anybody."""

MAX_ITEMS: Final = 100_000
"""Items of plain data in one picture, at all levels together."""

MAX_DEPTH: Final = 32
"""Levels of nesting."""

MAX_WALKED_ITEMS: Final = 20_000
"""The same as ``MAX_ITEMS`` where the picture has objects in it, or had to be cut: those are walked, which takes longer."""

MAX_WIDTH: Final = 2_000
"""Items of one list or mapping of a picture that is walked."""

MAX_REPR: Final = 200
"""Characters of the ``repr`` of an object that says nothing about itself."""

MAX_ROWS: Final = 100
"""Rows of a data frame."""

MAX_TEXT: Final = MAX_CHARACTERS // 5
MAX_KEY: Final = 1_000

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_BASE64: Final = re.compile(r"(?:data:[^,\s]{0,200};base64,)?([A-Za-z0-9+/_-]{1024,}={0,2})", re.ASCII)


def cut(value: str, limit: int) -> str:
    """The text, or its first ``limit`` characters and a marker."""
    over = len(value) - limit
    return value if over <= 0 else f"{value[:limit]}<cut: {over:,} more characters>"


def utf8(value: str) -> str:
    """The text without lone surrogates, which no wire format takes: as ``&#55296;``, since JSON has no escape for them."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "xmlcharrefreplace").decode()
    return value


def base64_bytes(value: str) -> int:
    """How many bytes a text that is base64 all through, bare or as a data URI, stands for; 0 if it is something else."""
    found = _BASE64.fullmatch(value)
    return 0 if found is None else (found.end(1) - found.start(1)) * 3 // 4


def name_of(kind: type) -> str:
    """A class as its module and name."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def short(value: Any) -> str:
    """The type and a short ``repr`` of an object, without its address; at most ``MAX_REPR`` characters of it."""
    kind: Any = type(value)
    own: Callable[[Any], str] = kind.__repr__
    if own is object.__repr__:
        return f"<{name_of(kind)} object>"
    shown = _ADDRESS.sub("", cut(repr(value), MAX_REPR))
    return shown if kind.__name__ in shown else f"{name_of(kind)}: {shown}"
