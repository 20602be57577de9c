"""How values are walked, by their type: the standard library's types, and who is asked about the others."""

from __future__ import annotations

from collections import UserDict, deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import PurePath
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from otel_langfuse.media import OTHER_TYPE, LangfuseMedia, sniffed_type

from ._fields import by_fields, declared, stored
from ._foreign import foreign_way
from ._text import MAX_MEDIA_BYTES, MAX_REPR, MAX_WIDTH, cut, name_of, short
from ._walk import Walk, Way

_MAX_DIGITS_BITS: Final = 13_000  # Python refuses to write integers of more than 4300 digits
_FEW_BYTES: Final = 256  # no image, sound or document has so few; ids do


def _integer(walk: Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    number = int.__index__(value)
    if -(1 << 63) <= number < 1 << 64:
        return number
    bits = number.bit_length()
    return str(number) if bits < _MAX_DIGITS_BITS else f"<int: {bits:,} bits>"


def _dict(walk: Walk, value: Any, depth: int) -> Any:
    return walk.mapping(value, dict.items(value), dict.__len__(value), depth)


def _proxy(walk: Walk, value: Any, depth: int) -> Any:
    return walk.mapping(value, value.items(), len(value), depth)


def _user_dict(walk: Walk, value: Any, depth: int) -> Any:
    return walk.of(stored(value, "data"), depth)


def _list(walk: Walk, value: Any, depth: int) -> Any:
    return walk.sequence(value, list.__iter__(value), list.__len__(value), depth)


def _tuple(walk: Walk, value: Any, depth: int) -> Any:
    return walk.sequence(value, tuple.__iter__(value), tuple.__len__(value), depth)


def _deque(walk: Walk, value: Any, depth: int) -> Any:
    return walk.sequence(value, deque.__iter__(value), deque.__len__(value), depth)


def _set(walk: Walk, value: Any, depth: int) -> Any:
    items: Any = frozenset(value)
    if len(items) <= MAX_WIDTH and all(type(item) is str for item in items):
        items = sorted(items)
    return walk.sequence(value, items, len(items), depth)


def _named_tuple(walk: Walk, value: Any, depth: int) -> Any:
    names = type(value)._fields
    return walk.mapping(value, zip(names, tuple.__iter__(value), strict=False), len(names), depth)


def _as_str(walk: Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    return walk.text(str(value))


def _exception(walk: Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    said = str(value)
    return walk.text(f"{name_of(type(value))}: {said}" if said else name_of(type(value)))


def _short(walk: Walk, value: Any, depth: int) -> Any:  # noqa: ARG001
    return walk.text(short(value))


def _bytes(walk: Walk, value: Any, depth: int) -> str:  # noqa: ARG001
    """A text that came as bytes as text; an image, a sound ... as media; a few bytes of another kind as Python writes them."""
    view = memoryview(value)
    size = view.nbytes
    head = bytes(view[:16]) if view.contiguous and view.itemsize == 1 else b""
    kind = sniffed_type(head)
    if kind is None and size <= MAX_MEDIA_BYTES:
        try:
            return walk.text(bytes(view).decode())
        except UnicodeDecodeError:
            if size < _FEW_BYTES:
                return cut(repr(bytes(view)), MAX_REPR)
    return walk.media(kind or OTHER_TYPE, view if view.contiguous else bytes(view), size)


def _media(walk: Walk, value: LangfuseMedia, depth: int) -> str:  # noqa: ARG001
    if value.content_bytes is None or value.content_type is None:
        return str(value)
    return walk.media(value.content_type, value.content_bytes, len(value.content_bytes))


_BUILT_IN: Final[tuple[tuple[tuple[type, ...], Way], ...]] = (
    ((Enum,), lambda walk, value, depth: walk.of(value._value_, depth)),
    ((str,), lambda walk, value, depth: walk.text(str.__str__(value))),  # noqa: ARG005
    ((int,), _integer),
    ((float,), lambda walk, value, depth: float.__float__(value)),  # noqa: ARG005
    ((dict,), _dict),
    ((MappingProxyType,), _proxy),
    ((UserDict,), _user_dict),
    ((list,), _list),
    ((tuple,), _tuple),
    ((deque,), _deque),
    ((set, frozenset), _set),
    ((datetime, date, time), lambda walk, value, depth: value.isoformat()),  # noqa: ARG005
    ((timedelta, UUID, Decimal, Fraction, PurePath, complex), _as_str),
    ((bytes, bytearray, memoryview), _bytes),
    ((BaseException,), _exception),
    ((LangfuseMedia,), _media),
)
"""The standard library's types and their subclasses, first match wins."""


@lru_cache(maxsize=1024)
def way_of(kind: type) -> Way:
    """How values of this type are walked. By the type alone: to ask an object for its class may run its code."""
    if (way := foreign_way(kind)) is not None:
        return way
    if issubclass(kind, tuple) and isinstance(getattr(kind, "_fields", None), tuple):
        return _named_tuple
    for types, way in _BUILT_IN:
        if issubclass(kind, types):
            return way
    names = declared(kind)
    return _short if names is None else partial(by_fields, names=names)
