"""Looks for patterns in many texts at once, at the price of a few looks for single bytes.

A secret has a byte that ordinary text seldom has at that place (``-`` after ``sk``, ``J`` after ``ey``). The texts are joined and
cut at each such byte, which is C's fastest loop; only where what stands before a cut is how a pattern begins is the pattern
itself tried, once, from there. So the work is linear in the text, and a pattern is never searched for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

Found: TypeAlias = "tuple[int, int, str] | None"
"""From and to where, and the pattern's name; None where it is not what it looked like."""

MAX_WIDTH: Final = 5
_WIDTHS: Final = {b":": MAX_WIDTH, b"=": MAX_WIDTH}
_WIDTH: Final = 3
"""How much is looked at before the rare byte. Names of values need more than prefixes of keys."""

_COMMON: Final = frozenset({b":"})
_DENSE: Final = 256
"""So many bytes for each rare one are expected at least; where there are less, it is common."""

_BEFORE: Final = tuple(
    bytes([byte])
    for byte in range(256)
    if byte > 127 or not (chr(byte).isalnum() or byte in b"_-") or byte in b"nrtbfu0123456789abcdefABCDEF"
)
"""What may stand before a key: what is no part of a word, or the end of an escape."""

_JOINT: Final = b"\0"
"""Between texts that are looked through together. No pattern matches it."""


class Row(NamedTuple):
    """Patterns that begin alike, and how they begin.

    ``starts``: texts of which the last byte is the rare one. ``find``: given the data, where such a start begins, and where its
    last byte is, what is there. ``needs``: what the data must hold somewhere.
    """

    names: tuple[str, ...]
    starts: tuple[bytes, ...]
    find: Callable[[bytes, int, int], Found]
    needs: bytes = b""


class Sweep(NamedTuple):
    """A pattern that is searched for, in data that holds ``needs``.

    ``check``: what is there, given the data and a match.
    """

    pattern: re.Pattern[bytes]
    check: Callable[[bytes, re.Match[bytes]], Found]
    needs: bytes = b""


class Late:
    """A regular expression that is compiled when it is first needed: most processes never see what it describes."""

    match: Callable[..., re.Match[bytes] | None]
    search: Callable[..., re.Match[bytes] | None]
    fullmatch: Callable[..., re.Match[bytes] | None]

    def __init__(self, pattern: bytes) -> None:
        self._pattern = pattern

    def __getattr__(self, name: str) -> Any:
        """A method of the compiled expression, kept here: afterwards this is asked no more."""
        method = getattr(re.compile(self._pattern), name)
        setattr(self, name, method)
        return method


def row(name: str, starts: Iterable[bytes], pattern: bytes, back: int = 0) -> Row:
    """A row of one regular expression, which matches from ``back`` bytes before the start on. Its group 1 is what is found."""
    late = Late(pattern)

    def find(data: bytes, start: int, _: int) -> Found:
        match = late.match(data, start - back if start > back else 0)
        return None if match is None else (*match.span(min(match.re.groups, 1)), name)

    return Row((name,), tuple(starts), find)


class _Cut(NamedTuple):
    """What to look for before one byte: for each tail of that width, the rows that it may be of, with the length of a start."""

    byte: bytes
    width: int
    rows: dict[bytes, tuple[tuple[Callable[[bytes, int, int], Found], int], ...]]
    needs: bytes
    look: Callable[[bytes, int, _Cut, list[tuple[int, int, str]]], None]


class Scanner:
    """Finds and replaces what the rows and sweeps describe. Immutable; used from any thread.

    Args:
        rows: tried in this order where several begin alike.
        sweeps: after them.
    """

    def __init__(self, rows: Iterable[Row], sweeps: Iterable[Sweep] = ()) -> None:
        cuts = _cuts(rows)
        self._cuts = [(byte, [cut for cut in cuts if cut.byte == byte]) for byte in dict.fromkeys(cut.byte for cut in cuts)]
        self._sweeps = tuple(sweeps)

    def changed(self, texts: Sequence[str]) -> dict[str, str]:
        """Those of the texts that hold something, and what is to stand for them: ``<masked: name>`` at each place."""
        data = "\0".join(texts).encode("utf-8", "surrogatepass")
        places = self._places(data)
        if not places:
            return {}
        if len(texts) == 1:
            return _differing(texts, [_with(data, places)], [data])
        before = data.split(_JOINT)
        if len(before) != len(texts):  # a text holds the joint
            return {old: new for text in texts for old, new in self.changed((text,)).items()}
        return _differing(texts, _with(data, places).split(_JOINT), before)

    def finds(self, data: bytes) -> bool:
        """Whether there is anything in texts that are joined by NUL, as UTF-8."""
        return bool(self._places(data))

    def _places(self, data: bytes) -> list[tuple[int, int, str]]:
        places: list[tuple[int, int, str]] = []
        for byte, cuts in self._cuts:
            at = data.find(byte)
            if at >= 0:
                for cut in cuts:
                    if cut.needs in data:
                        cut.look(data, at, cut, places)
        for sweep in self._sweeps:
            if sweep.needs in data:
                done = 0
                for match in sweep.pattern.finditer(data):
                    if match.start() >= done and (found := sweep.check(data, match)) is not None:
                        places.append(found)
                        done = found[1]
        return places


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


def _look(data: bytes, at: int, cut: _Cut, places: list[tuple[int, int, str]]) -> None:
    """Tries the rows of a cut wherever its byte stands, from ``at`` on."""
    byte, width, rows, _, _ = cut
    find, may_be = data.find, rows.get
    left = len(data) // _DENSE + 8
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
            _look_at_many(data, at, cut, places)
            return


def _look_at_many(data: bytes, at: int, cut: _Cut, places: list[tuple[int, int, str]]) -> None:
    """The same, in C where nothing looks like a start: the price is a copy of the data, and a third for each byte."""
    byte, width, rows, _, _ = cut
    begin = max(at - width, 0) if at >= 0 else len(data)
    pieces = data[begin:].split(byte)
    if width and rows.keys().isdisjoint(map(itemgetter(slice(-width, None)), pieces)):
        return
    at, done = begin, 0
    for piece in pieces[:-1]:
        at += len(piece)
        for tried, length in rows.get(piece[-width:] if width else b"", ()) if at >= done else ():
            if (found := tried(data, at + 1 - length, at)) is not None:
                places.append(found)
                done = found[1]
                break
        at += 1


def _with(data: bytes, places: list[tuple[int, int, str]]) -> bytes:
    """The data with each place replaced; places that overlap are one, under the name of the first."""
    parts: list[bytes] = []
    end = 0
    for start, stop, name in sorted(places):
        if start < end:
            end = max(end, stop)
            continue
        begin = _after_escape(data, start, end)
        parts += (data[end:begin], f"<masked: {name}>".encode())
        end = stop
    parts.append(data[end:])
    return b"".join(parts)


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
