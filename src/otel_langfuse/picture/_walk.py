"""Everything that is not plain data: walked within bounds."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from itertools import islice
from json import dumps
from typing import Any, Final, TypeAlias

import orjson

from ._plain import AS_IT_IS
from ._text import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_KEY,
    MAX_MEDIA_BYTES,
    MAX_TEXT,
    MAX_WALKED_ITEMS,
    MAX_WIDTH,
    base64_bytes,
    cut,
    name_of,
    utf8,
)

_OF_RUST: Final = "pyo3_runtime"
"""The module of ``PanicException``, by which libraries written in Rust say that they are broken: no ``Exception`` to Python."""

Way: TypeAlias = "Callable[[Walk, Any, int], Any]"
"""How values of a type are walked: (walk, value, depth) -> what ``orjson`` takes."""


class Walk:
    """One picture being made: what it may still hold, and the containers that are being looked at just now."""

    def __init__(self, way: Callable[[type], Way]) -> None:
        self._way = way
        self._items = MAX_WALKED_ITEMS
        self._characters = MAX_CHARACTERS
        self._media_bytes = MAX_MEDIA_BYTES
        self._open: set[int] = set()

    def of(self, value: Any, depth: int) -> Any:
        """What ``orjson`` takes, for any value; never raises."""
        kind: Any = type(value)
        if kind in AS_IT_IS and kind is not int:
            return value
        try:
            return self._way(kind)(self, value, depth)
        except Exception as error:  # noqa: BLE001 - whatever a foreign object does costs only its own place
            return f"<{type(error).__name__} while looking at {name_of(kind)}>"
        except BaseException as error:
            if type(error).__module__ != _OF_RUST:
                raise
            return f"<{type(error).__name__} while looking at {name_of(kind)}>"

    def text(self, value: str) -> str:
        limit = max(0, min(MAX_TEXT, self._characters))
        if len(value) > limit and (size := base64_bytes(value)):
            return value if self._takes(size) else f"<cut: {size:,} bytes in base64>"
        self._characters -= min(len(value), limit)
        return cut(value, limit)

    def media(self, content_type: str, content: bytes | bytearray | memoryview, size: int) -> str:
        """A data URI, or a marker where it is too large."""
        if not self._takes(size):
            return f"<cut: {content_type}, {size:,} bytes>"
        return f"data:{content_type};base64,{b64encode(content).decode()}"

    def _takes(self, size: int) -> bool:
        if size > self._media_bytes:
            return False
        self._media_bytes -= size
        return True

    def mapping(self, owner: Any, items: Iterable[tuple[Any, Any]], count: int, depth: int) -> Any:
        """A JSON object of ``items``, which are the ``count`` items of ``owner``."""
        if marker := self._enter(owner, depth):
            return marker
        try:
            # Taken in one go before anything foreign runs, which could change it.
            chosen = tuple(islice(items, self._width(count)))
            shown: dict[str, Any] = {}
            for key, item in chosen:
                name = self._key(key)
                while name in shown:  # 1 and "1", or objects that look alike
                    name += "'"
                shown[name] = self.of(item, depth + 1)
        finally:
            self._open.discard(id(owner))
        if count > len(chosen):
            shown["<cut>"] = f"{count - len(chosen):,} more items"
        return shown

    def sequence(self, owner: Any, items: Iterable[Any], count: int, depth: int) -> Any:
        """A JSON array, likewise."""
        if marker := self._enter(owner, depth):
            return marker
        try:
            chosen = tuple(islice(items, self._width(count)))
            shown = [self.of(item, depth + 1) for item in chosen]
        finally:
            self._open.discard(id(owner))
        if count > len(chosen):
            shown.append(f"<cut: {count - len(chosen):,} more items>")
        return shown

    def _enter(self, owner: Any, depth: int) -> str:
        if id(owner) in self._open:
            return f"<cycle: {name_of(type(owner))}>"
        if depth >= MAX_DEPTH:
            return "<cut: nested too deeply>"
        self._open.add(id(owner))
        return ""

    def _width(self, count: int) -> int:
        width = max(0, min(count, MAX_WIDTH, self._items))
        self._items -= width
        return width

    def _key(self, key: Any) -> str:
        kind = type(key)
        if kind is str:
            return self.text(cut(key, MAX_KEY))
        if kind is bool or key is None:
            return "null" if key is None else str(key).lower()
        seen = self.of(key, MAX_DEPTH - 1)
        return cut(seen if type(seen) is str else as_json(seen), MAX_KEY)


def as_json(seen: Any) -> str:
    """The JSON text of what ``Walk.of`` gave."""
    try:
        return orjson.dumps(seen).decode()
    except TypeError:  # lone surrogates
        return utf8(dumps(seen, default=str, ensure_ascii=False))
