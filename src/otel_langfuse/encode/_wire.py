"""Attributes in protobuf's wire format (https://protobuf.dev/programming-guides/encoding/), written by hand.

An instrumentation says the same few things on every span: its keys, the model, the provider, the temperature. What a pair of key
and short value looks like is remembered, so that most attributes cost one look-up: of the 25 attributes of a model call (W4 in
``benchmarks``) a fifth of what protobuf's own messages take.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from otel_langfuse.model import Attributes

from ._repair import INT64, ROOM

LONGEST: Final = 64
"""Characters of a text that is remembered, at most."""

REMEMBERED: Final = 4096
"""Pairs of each type, and keys, that are remembered; one more, and it starts anew: at most a few MB."""

_BYTE: Final = tuple(bytes((number,)) for number in range(256))
_DOUBLE: Final = struct.Struct("<d").pack


def varint(number: int) -> bytes:
    """A whole number from 0, in groups of seven bits."""
    if number < 0x80:
        return _BYTE[number]
    if number < 0x4000:
        return _TWO.get(number) or _two(number)
    groups = bytearray()
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_TWO: Final[dict[int, bytes]] = {}


def _two(number: int) -> bytes:
    """Sizes of texts and messages, mostly; looking one up takes a third of making it."""
    made = _TWO[number] = _BYTE[number & 0x7F | 0x80] + _BYTE[number >> 7]
    return made


def sized(body: bytes) -> bytes:
    """With its length before it, as texts and messages stand in messages."""
    return varint(len(body)) + body


def field(tag: bytes, body: bytes) -> bytes:
    """A text or message as a field that is left out where it is empty."""
    return tag + varint(len(body)) + body if body else b""


def attributes_field(tag: bytes, attributes: Attributes) -> bytes:
    """All attributes, each as a ``KeyValue`` behind the tag of the field in which they stand.

    Raises:
        Exception: one of them is such as OTLP cannot hold.
    """
    return b"".join(attributes_parts(tag, attributes.items())) if attributes else b""


def attributes_parts(tag: bytes, attributes: Iterable[tuple[str, Any]]) -> list[bytes]:
    """The same in parts that are still to be joined, so that long texts are copied once."""
    made: list[bytes] = []
    for key, value in attributes:
        kind = type(value)
        if kind is str and len(value) > LONGEST:
            text = value.encode()
            made += long_text_head(tag, key, text), text
        elif (known := _KNOWN.get(kind)) is not None:
            made += tag, known.get((key, value)) or _remembered(known, key, value)
        else:
            made += tag, attribute(key, value)
    return made


def attribute(key: str, value: Any) -> bytes:
    """One attribute, with its length before it. A text is not to be longer than ``LONGEST``.

    Raises:
        Exception: it is such as OTLP cannot hold.
    """
    kind = type(value)
    known = _KNOWN.get(kind)
    if known is None and kind is tuple and len(value) <= _FEW and all(type(item) is str for item in value):
        known = _TEXTS
    return _pair(key, value) if known is None else known.get((key, value)) or _remembered(known, key, value)


def _remembered(known: dict[Any, bytes], key: str, value: Any) -> bytes:
    pair = _pair(key, value)
    if value is not False and value == 0:
        return pair  # 0.0 is equal to -0.0, which is another value
    if type(value) is int and not -1 <= value < 0x10000:
        return pair  # perhaps a time: it will not come again
    if len(pair) <= _SHORT_BYTES:
        if len(known) >= REMEMBERED:
            known.clear()
        known[key, value] = pair
    return pair


_FEW: Final = 4
_SHORT_BYTES: Final = 4 * LONGEST
_KNOWN: Final[dict[type, dict[Any, bytes]]] = {str: {}, int: {}, float: {}, bool: {}}
"""By exact type, because 1, 1.0 and True are equal: (key, value) -> what ``_pair`` made of them."""
_TEXTS: Final[dict[Any, bytes]] = {}
"""The same for a few texts, such as tags."""

_KEYS: Final[dict[str, bytes]] = {}


def _pair(key: str, value: Any, room: int = ROOM) -> bytes:
    """A ``KeyValue`` with its length before it."""
    named = _KEYS.get(key) or _named(key)
    body = _ANY[type(value)](value, room)
    size = varint(len(body))
    return b"".join((varint(len(named) + 1 + len(size) + len(body)), named, b"\x12", size, body))


def long_text_head(tag: bytes, key: str, text: bytes) -> bytes:
    """As ``attribute``, behind a tag, but for the text itself: that is not copied once more."""
    named = _KEYS.get(key) or _named(key)
    count = len(text)
    between = _BETWEEN.get(count) or _between(count)
    outer = len(named) + len(between) + count
    return tag + (_TWO.get(outer) or varint(outer)) + named + between


_BETWEEN: Final[dict[int, bytes]] = {}


def _between(count: int) -> bytes:
    """What stands between an attribute's key and a text of so many bytes."""
    size = varint(count)
    made = b"".join((b"\x12", varint(1 + len(size) + count), b"\x0a", size))
    if len(_BETWEEN) >= REMEMBERED:
        _BETWEEN.clear()
    _BETWEEN[count] = made
    return made


def _named(key: str) -> bytes:
    named = field(b"\x0a", key.encode())
    if len(named) <= _SHORT_BYTES:
        if len(_KEYS) >= REMEMBERED:
            _KEYS.clear()
        _KEYS[key] = named
    return named


def _any_text(value: str, room: int) -> bytes:  # noqa: ARG001 - the signature of the table
    body = value.encode()
    return b"".join((b"\x0a", varint(len(body)), body))


def _any_int(value: int, room: int) -> bytes:  # noqa: ARG001
    if value not in INT64:
        raise OverflowError("more than 64 bits")
    return b"\x18" + varint(value if value >= 0 else value + (1 << 64))


def _any_list(value: Sequence[Any], room: int) -> bytes:
    if room < 2:
        raise RecursionError("nested too deeply for OTLP")
    return b"\x2a" + sized(b"".join([b"\x0a" + sized(_ANY[type(item)](item, room - 2)) for item in value]))


def _any_mapping(value: Mapping[str, Any], room: int) -> bytes:
    if room < 3:
        raise RecursionError("nested too deeply for OTLP")
    return b"\x32" + sized(b"".join([b"\x0a" + _pair(key, item, room - 3) for key, item in value.items()]))


_ANY: Final[dict[type, Callable[[Any, int], bytes]]] = {
    type(None): lambda value, room: b"",  # noqa: ARG005
    str: _any_text,
    bool: lambda value, room: b"\x10\x01" if value else b"\x10\x00",  # noqa: ARG005
    int: _any_int,
    float: lambda value, room: b"\x21" + _DOUBLE(value),  # noqa: ARG005
    bytes: lambda value, room: b"\x3a" + sized(value),  # noqa: ARG005
    list: _any_list,
    tuple: _any_list,
    dict: _any_mapping,
}
"""An ``AnyValue``, by exact type, which is what the SDK makes; for anything else there is a KeyError, and ``repaired``."""
