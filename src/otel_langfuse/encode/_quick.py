"""Spans to bytes the quick way: what a span shares with the one of its shape before it is neither looked at nor written again.

An instrumentation says the same on span after span: of the 25 attributes of a model call, three differ from those of the call
before. So for each shape (scope and keys) it is remembered what the latest span said and how that is written. What is new is
written, and all that is new in a group of spans is looked at in one go: whether the mask, or the lifting of media, might
change any of it. Where they might, where a correction may be needed, and for every span that has more than attributes (span
events, links, a message ...) there is no answer here, and the long way is gone, which says the same in more time.

Fails closed: what is remembered was looked at. When anything in a group has to be changed, all of the group goes the long way,
and nothing is remembered; where that happens again and again, few groups are tried.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from itertools import compress
from operator import is_not, itemgetter
from typing import Any, Final

from otel_langfuse.model import Attributes, Span

from ._looking import Looking
from ._shapes import MAX_WORDS, Glances, Memory, Said, Shape, Written
from ._wire import LONGEST, attribute, attributes_parts, field, long_text_head, varint

GROUP: Final = 12
"""Spans that are looked at in one go: looking is cheapest at a few dozen kilobytes."""

MAX_PASSES: Final = 31
"""Where group after group has something to change, so many at most go the long way before one is tried again."""

MAX_PIECE_BYTES: Final = 256

_TIMES: Final = struct.Struct("<cQcQ").pack
_FIXED32: Final = struct.Struct("<I").pack
_TAG: Final = b"\x4a"
_LONG_WAY: Final = (None, None)
_RESOURCE: Final = itemgetter(Span._fields.index("resource"))
_SCOPE: Final = itemgetter(Span._fields.index("scope"))


class _LongWayError(Exception):
    """This span has something that is not written here."""


class _Writing(Memory):
    """What is remembered where spans are written."""

    def forget(self) -> None:
        """Forgets everything that holds a text of a span."""
        super().forget()
        self._words: dict[tuple[str, Any], bytes] = {}
        self._around: dict[tuple[str, int, int, int], tuple[bytes, bytes]] = {}

    def written(self, span: Span, texts: list[bytes]) -> Said | None:
        """The span's bytes, if it is a plain one; what of it nobody has looked at yet is added to ``texts``.

        Raises:
            Exception: it is not, or such as OTLP cannot hold.
        """
        (trace_id, span_id, parent, name, start, end, attributes, _, scope, kind, code, message, events, links, state, flags,
         dropped_attributes, dropped_events, dropped_links, media) = span  # fmt: skip
        if events or links or message or state or dropped_attributes or dropped_events or dropped_links or media:
            return None
        named, tail = self._around.get((name, kind, code, flags)) or self._new_around(name, kind, code, flags, texts)
        key = (scope.name, tuple(attributes))
        shape = self._shapes.get(key) or self._of_kinds(key, span)
        said = None if shape is None else self._attributes(shape, attributes, texts)
        if said is None:
            shape = self._of_kinds(key, span)
            said = None if shape is None else self._attributes(shape, attributes, texts)
        if shape is None or said is None or not (shape.look is None or shape.look.is_fine(span)):
            return None
        head = _ids(trace_id, span_id, parent)
        if not (head and start and end):
            return None
        head += named + _TIMES(b"\x39", start, b"\x41", end)
        parts, size_bytes = said
        size = varint(len(head) + size_bytes + len(tail))
        return b"".join((b"\x12", size, head, *parts, tail)), shape.counts

    def _attributes(self, shape: Shape, attributes: Attributes, texts: list[bytes]) -> tuple[list[bytes], int] | None:
        """The attributes as they are written, in parts, and how long; None if they are of other kinds than the shape's."""
        values = tuple(attributes.values())
        changes = [*compress(shape.places, map(is_not, values, shape.last))]
        if not changes:
            return shape.parts, shape.size_bytes
        keys, kinds, pieces, last, words, slots = shape.keys, shape.kinds, shape.pieces, shape.last, self._words, shape.slots
        parts = shape.parts.copy()
        more = 0
        for place in changes:
            value = values[place]
            kind = type(value)
            if kind is not kinds[place]:
                return None
            slot = slots[place]
            if slot is None:
                shape.part(place)
                return self._attributes(shape, attributes, texts)
            if kind is str and len(value) > LONGEST:
                text = value.encode()
                texts.append(text)
                head = parts[slot] = long_text_head(_TAG, keys[place], text)
                parts[slot + 1] = text
                more += len(head) + len(text) - len(pieces[place])
                continue
            key = keys[place]
            piece = words.get((key, value)) if kind is str or kind is tuple else None
            if piece is None:
                piece = self._piece(key, value, texts)
            if piece is pieces[place]:  # the same text once more, as another object
                last[place] = value
                continue
            grown = len(piece) - len(pieces[place])
            parts[slot] = piece
            if len(piece) <= MAX_PIECE_BYTES:
                pieces[place] = shape.parts[slot] = piece
                last[place] = value
                shape.size_bytes += grown
            else:
                more += grown
        size_bytes = shape.size_bytes + more
        if shape.settles:
            shape.settle(changes)
        return parts, size_bytes

    def _piece(self, key: str, value: Any, texts: list[bytes]) -> bytes:
        """A value that is no long text, as an attribute."""
        piece = _TAG + attribute(key, value)
        words: Sequence[str] = (value,) if type(value) is str else value if type(value) is tuple else ()
        if words:
            texts += [word.encode() for word in words]  # which raises where one is no text
        elif type(value) is tuple or value - value != 0:  # no text at all; NaN, and what is infinite
            raise _LongWayError
        if words and len(piece) <= MAX_PIECE_BYTES:
            if len(self._words) >= MAX_WORDS:
                self._words.clear()
            self._words[key, value] = piece
        return piece

    def _new_around(self, name: str, kind: int, code: int, flags: int, texts: list[bytes]) -> tuple[bytes, bytes]:
        """Name and kind, which stand before the times, and status and flags, at the end; an empty status is written, too."""
        if len(name) > LONGEST or not 1 <= kind <= 5:
            raise _LongWayError
        text = name.encode()
        texts.append(text)
        status = {0: b"\x7a\x00", 1: b"\x7a\x02\x18\x01", 2: b"\x7a\x02\x18\x02"}[code]
        made = field(b"\x2a", text) + b"\x30" + varint(kind), status + (b"\x85\x01" + _FIXED32(flags) if flags else b"")
        if len(self._around) >= MAX_WORDS:
            self._around.clear()
        self._around[name, kind, code, flags] = made
        return made


def with_more(written: bytes, span: Span, more: Attributes) -> bytes | None:
    """A span as ``Quick`` wrote it, with attributes that it has got since then; None if one is such as OTLP cannot hold.

    ``span`` is that one; its status and flags count.
    """
    try:
        parts = attributes_parts(_TAG, more.items())
    except Exception:  # noqa: BLE001 - the long way knows what to do
        return None
    tail = (4 if span.status_code else 2) + (6 if span.flags else 0)  # which follows the attributes
    start = 2  # the tag, and the size in groups of seven bits
    while written[start - 1] & 0x80:
        start += 1
    size = varint(len(written) - start + sum(map(len, parts)))
    return b"".join((b"\x12", size, written[start:-tail], *parts, written[-tail:]))


def _ids(trace_id: str, span_id: str, parent: str | None) -> bytes | None:
    """The three ids as they are written; None if one is not hex of 16 or 8 bytes. ``fromhex`` also takes spaces."""
    if len(trace_id) != 32 or len(span_id) != 16:
        return None
    if parent is None:
        head = bytes.fromhex(f"0a10{trace_id}1208{span_id}")
        return head if len(head) == 28 else None
    head = bytes.fromhex(f"0a10{trace_id}1208{span_id}2208{parent}")
    return head if len(head) == 38 and len(parent) == 16 else None


def _of_each_origin(spans: Sequence[Span]) -> Collection[Span]:
    """One span of each resource and scope."""
    return dict(zip(zip(map(id, map(_RESOURCE, spans)), map(id, map(_SCOPE, spans)), strict=True), spans, strict=True)).values()


class Quick:
    """The quick way to one destination. Safe on several threads.

    Args:
        glances: see there.
        writes: False: spans are only looked at, because they are to be said in other words.
    """

    def __init__(self, glances: Glances, *, writes: bool = True) -> None:
        self._glances = glances
        self._writes = writes
        self._memories: list[Memory] = []  # those that no thread has just now

    def written(self, spans: Sequence[Span]) -> Written:
        """What it makes of the spans of one batch."""
        try:
            memory = self._memories.pop()
        except IndexError:
            memory = _Writing(self._glances) if self._writes else Looking(self._glances)
        bodies: list[bytes | None] = []
        told: list[bool | None] = []
        if not any(map(self._changes_around, _of_each_origin(spans))):
            for start in range(0, len(spans), GROUP):
                self._group(spans[start : start + GROUP], memory, bodies, told)
        self._memories.append(memory)
        return Written(bodies, told)

    def _changes_around(self, span: Span) -> bool:
        try:
            return self._glances.shared(span)
        except Exception:  # noqa: BLE001 - as below
            return True

    def _group(self, spans: Sequence[Span], memory: Memory, bodies: list[bytes | None], told: list[bool | None]) -> None:
        """Adds what is made of some spans to what was made of those before them."""
        before = len(bodies)
        if memory.passes:
            memory.passes -= 1
            _go_the_long_way(bodies, told, before, len(spans))
            return
        texts: list[bytes] = []
        for span in spans:
            try:
                body, counts = memory.written(span, texts) or _LONG_WAY
            except Exception:  # noqa: BLE001 - whatever is wrong with it, the long way knows what to do
                body, counts = _LONG_WAY
            bodies.append(body)
            told.append(counts)
        try:
            changes = bool(texts) and self._glances.texts(b"\0".join(texts))
        except Exception:  # noqa: BLE001 - what was not looked at must not leave
            changes = True
        memory.passes = min(2 * memory.passed + 1, MAX_PASSES) if changes else 0
        memory.passed = memory.passes
        if changes:
            memory.forget()
            _go_the_long_way(bodies, told, before, len(spans))


def _go_the_long_way(bodies: list[bytes | None], told: list[bool | None], before: int, count: int) -> None:
    """Says so of the last ``count`` spans, those after the first ``before``."""
    bodies[before:] = [None] * count
    told[before:] = [None] * count
