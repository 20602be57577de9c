"""Looks for patterns in many texts at once, at the price of a few looks for single bytes.

A secret has a byte that ordinary text seldom has at that place (``-`` after ``sk``, ``J`` after ``ey``). The texts are joined and
cut at each such byte, which is C's fastest loop; only where what stands before a cut is how a pattern begins is the pattern
itself tried, once, from there. So the work is linear in the text.

A text that is full of such beginnings, an attack or a dump, is looked through in another way: there ``re`` searches for what is
most likely a secret, so that little else is tried here. Where even that is too much, the text goes as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from otel_langfuse.pipeline.mask._escapes import may_hold_escapes, without_escapes
from otel_langfuse.pipeline.mask._rows import Found, Row, Sweep

MAX_WIDTH: Final = 5
_WIDTHS: Final = {b":": MAX_WIDTH, b"=": MAX_WIDTH}
_WIDTH: Final = 3
"""How much is looked at before the rare byte. Names of values need more than prefixes of keys."""

_COMMON: Final = frozenset({b":"})
_SELDOM: Final = 256
"""So many bytes for each rare one are expected at least; where there are less, it is common."""

_FULL: Final = 8
_LARGE: Final = 1 << 16
"""Data of so many bytes may be full of something: of less than ``_FULL`` bytes for each."""

_MIN_TRIES: Final = 5_000
_BYTES_A_TRY: Final = 128
TOO_MUCH: Final = "<masked: too much to look at>"
"""Stands for a text with more than ``_MIN_TRIES`` and one for ``_BYTES_A_TRY`` places that are most likely secrets."""

_BEFORE: Final = tuple(
    bytes([byte])
    for byte in range(256)
    if byte > 127 or not (chr(byte).isalnum() or byte in b"_-") or byte in b"nrtbfu0123456789abcdefABCDEF"
)
"""What may stand before a key: what is no part of a word, or the end of an escape."""

_SHORT: Final = 64
"""Bytes of a place within which others are looked for. Within longer ones they are not: each could be as long as the text."""

_JOINT: Final = b"\0"
"""Between texts that are looked through together. No pattern matches it."""


class _TooMuchError(Exception):
    """More places are likely to be secrets than may be tried."""


class _Places:
    """What was found, as (from, to, name), and how many places may still be tried."""

    __slots__ = ("found", "left")

    def __init__(self, size: int) -> None:
        self.found: list[tuple[int, int, str]] = []
        self.left = _MIN_TRIES + size // _BYTES_A_TRY

    def add(self, data: bytes, matches: Iterable[re.Match[bytes]], check: Callable[[bytes, re.Match[bytes]], Found]) -> None:
        """What the matches are, but for those that begin within something long; within a short one, another may end later.

        Raises:
            _TooMuchError: there are too many.
        """
        done = 0
        for match in matches:
            if match.end() > done and (found := check(data, match)) is not None:
                self.found.append(found)
                done = found[1] if found[1] - found[0] > _SHORT else done
            self.left -= 1
            if self.left < 0:
                raise _TooMuchError


class _Cut(NamedTuple):
    """What to look for before one byte: for each tail of that width, the rows that it may be of, with the length of a start."""

    byte: bytes
    width: int
    rows: dict[bytes, tuple[tuple[Callable[[bytes, int, int], Found], int], ...]]
    needs: bytes
    look: Callable[[bytes, int, _Cut, list[tuple[int, int, str]]], bool]


_Check: TypeAlias = "Callable[[bytes, re.Match[bytes]], Found]"


class Scanner:
    """Finds and replaces what the rows and sweeps describe. Immutable; used from any thread.

    Args:
        rows: tried in this order where several begin alike.
        sweeps: after them.
    """

    def __init__(self, rows: Sequence[Row], sweeps: Iterable[Sweep] = ()) -> None:
        cuts = _cuts(rows)
        self._cuts = [(byte, [cut for cut in cuts if cut.byte == byte]) for byte in dict.fromkeys(cut.byte for cut in cuts)]
        self._dense = {
            byte: [(one, _at_start(row.find), row.needs) for row in rows for one in row.dense.get(byte, ())]
            for byte, _ in self._cuts
        }
        self._sweeps = tuple(sweeps)

    def changed(self, texts: Sequence[str]) -> dict[str, str]:
        """Those of the texts that hold something, and what is to stand for them: ``<masked: name>`` at each place."""
        data = "\0".join(texts).encode("utf-8", "surrogatepass")
        changed = self._found(data, texts)
        return {**changed, **self._behind_escapes(texts, changed)} if may_hold_escapes(data) else changed

    def _found(self, data: bytes, texts: Sequence[str]) -> dict[str, str]:
        try:
            places = self._places(data)
        except _TooMuchError:
            return {texts[0]: TOO_MUCH} if len(texts) == 1 else self._each(texts)
        if not places:
            return {}
        if len(texts) == 1:
            return _differing(texts, [_with(data, places)], [data])
        before = data.split(_JOINT)
        if len(before) != len(texts):  # a text holds the joint
            return self._each(texts)
        return _differing(texts, _with(data, places).split(_JOINT), before)

    def _each(self, texts: Sequence[str]) -> dict[str, str]:
        return {old: new for text in texts for old, new in self._found(text.encode("utf-8", "surrogatepass"), (text,)).items()}

    def _behind_escapes(self, texts: Sequence[str], changed: Mapping[str, str]) -> dict[str, str]:
        """Those of the texts that hold something when their escapes are read, which then stay read."""
        more: dict[str, str] = {}
        for text in texts:
            left = changed.get(text, text)
            plain = without_escapes(left)
            if plain is None:
                more[text] = TOO_MUCH
            elif plain != left:
                found = self._found(plain.encode("utf-8", "surrogatepass"), (plain,))
                if found:
                    more[text] = found[plain]
        return more

    def finds(self, data: bytes) -> bool:
        """Whether there is anything in texts that are joined by NUL, as UTF-8."""
        try:
            return bool(self._places(data)) or (may_hold_escapes(data) and self._finds_behind_escapes(data))
        except _TooMuchError:
            return True

    def _finds_behind_escapes(self, data: bytes) -> bool:
        text = data.decode("utf-8", "surrogatepass")
        plain = without_escapes(text)
        return plain is None or (plain != text and bool(self._places(plain.encode("utf-8", "surrogatepass"))))

    def _places(self, data: bytes) -> list[tuple[int, int, str]]:
        places = _Places(len(data))
        for byte, cuts in self._cuts:
            at = data.find(byte)
            if at < 0:
                continue
            found = places.found
            if _is_full_of(data, byte) or not all(cut.look(data, at, cut, found) for cut in cuts if cut.needs in data):
                for late, check, needs in self._dense[byte]:
                    if needs in data:
                        places.add(data, late.finditer(data), check)
        for sweep in self._sweeps:
            if sweep.needs in data:
                patterns = sweep.dense if sweep.dense and _is_full_of(data, sweep.often) else (sweep.pattern,)
                for pattern in patterns:
                    places.add(data, pattern.finditer(data), sweep.check)
        return places.found


def _is_full_of(data: bytes, some: bytes) -> bool:
    size = len(data)
    if size < _LARGE:
        return False
    return (data.count(some) if len(some) == 1 else size - len(data.translate(None, some))) > size // _FULL


def _at_start(find: Callable[[bytes, int, int], Found]) -> _Check:
    return lambda data, match: find(data, match.start(), match.end() - 1)


def _cuts(rows: Iterable[Row]) -> tuple[_Cut, ...]:
    cuts: dict[tuple[bytes, int, bytes], dict[bytes, tuple[tuple[Callable[[bytes, int, int], Found], int], ...]]] = {}
    for one in rows:
        for start in one.starts:
            byte = start[-1:]
            tail = start[:-1][-_WIDTHS.get(byte, _WIDTH) :]
            # Of two widths, the wider one alone: what is looked at is looked at once.
            widen = byte in b"-_" and len(tail) == _WIDTH - 1
            of_width = cuts.setdefault((byte, _WIDTH if widen else len(tail), one.needs), {})
            seen = {tail, tail.rsplit(byte, 1)[-1]} | ({before + tail for before in _BEFORE} if widen else set())
            for tail in seen:
                of_width[tail] = (*of_width.get(tail, ()), (one.find, len(start)))
    return tuple(
        _Cut(byte, width, found, needs, _look_at_many if byte in _COMMON else _look)
        for (byte, width, needs), found in cuts.items()
    )


def _look(data: bytes, at: int, cut: _Cut, places: list[tuple[int, int, str]]) -> bool:
    """Tries the rows of a cut wherever its byte stands, from ``at`` on; False if too much of that would be in vain."""
    byte, width, rows, _, _ = cut
    find, may_be = data.find, rows.get
    left = len(data) // _SELDOM + 8
    done = 0
    while at >= 0:
        for tried, length in may_be(data[at - width if at > width else 0 : at], ()) if at >= done else ():
            if (found := tried(data, at + 1 - length, at)) is not None:
                places.append(found)
                done = found[1]
                break
        at = find(byte, at + 1)
        left -= 1
        if not left:
            return _look_at_many(data, at, cut, places)
    return True


def _look_at_many(data: bytes, at: int, cut: _Cut, places: list[tuple[int, int, str]]) -> bool:
    """The same, in C where nothing looks like a start: the price is a copy of the data, and a third for each byte."""
    byte, width, rows, _, _ = cut
    begin = max(at - width, 0) if at >= 0 else len(data)
    pieces = data[begin:].split(byte)
    if width and rows.keys().isdisjoint(map(itemgetter(slice(-width, None)), pieces)):
        return True
    at, done, left = begin, 0, len(data) // (4 * _SELDOM) + 256
    for piece in pieces[:-1]:
        at += len(piece)
        for tried, length in rows.get(piece[-width:] if width else b"", ()) if at >= done else ():
            left -= 1
            if (found := tried(data, at + 1 - length, at)) is not None:
                places.append(found)
                done = found[1]
                break
        if left < 0:
            return False
        at += 1
    return True


def _with(data: bytes, places: list[tuple[int, int, str]]) -> bytes:
    """The data with each place replaced; places that overlap are one, under the name of the first."""
    parts: list[bytes] = []
    end = 0
    for first, last, name in sorted(places):
        start, stop = _character_of(data, first), _character_of(data, last, 1)
        if start < end:
            end = max(end, stop)
            continue
        begin = _after_escape(data, start, end)
        parts += (data[end:begin], f"<masked: {name}>".encode())
        end = stop
    parts.append(data[end:])
    return b"".join(parts)


def _character_of(data: bytes, at: int, step: int = -1) -> int:
    """The place, or where the character begins (or, with step 1, ends) that it is within."""
    while 0 < at < len(data) and 0x80 <= data[at] < 0xC0:
        at += step
    return at


def _after_escape(data: bytes, start: int, end: int) -> int:
    r"""The start, or after the rest of an escape of JSON that the pattern took for text: the ``n`` of ``\n``."""
    slashes = start - len(data[max(end, start - 64) : start].rstrip(b"\\")) - max(end, start - 64)
    if slashes % 2 == 0:
        return start
    return start + (5 if data[start : start + 1] == b"u" else 1)


def _differing(texts: Sequence[str], new: list[bytes], old: list[bytes]) -> dict[str, str]:
    return {text: _text(after) for text, after, before in zip(texts, new, old, strict=True) if after != before}


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # a pattern ended inside a character
        return data.decode("utf-8", "replace")
