"""What a pattern is: how it begins, and what is there then."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

Found: TypeAlias = "tuple[int, int, str] | None"
"""From and to where, and the pattern's name; None where it is not what it looked like."""


class Late:
    """A regular expression that is compiled when it is first needed: most processes never see what it describes."""

    finditer: Callable[..., Iterator[re.Match[bytes]]]
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


class Row(NamedTuple):
    """Patterns that begin alike, and how they begin.

    ``starts``: texts of which the last byte is the rare one. ``find``: given the data, where such a start begins, and where its
    last byte is, what is there. ``needs``: what the data must hold somewhere. ``dense``: for each rare byte, expressions that
    match a start where it is most likely one, for data that is full of that byte.
    """

    names: tuple[str, ...]
    starts: tuple[bytes, ...]
    find: Callable[[bytes, int, int], Found]
    needs: bytes
    dense: Mapping[bytes, Sequence[Late]]


class Sweep(NamedTuple):
    """A pattern that is searched for, in data that holds ``needs``.

    ``check``: what is there, given the data and a match. ``dense``: what is searched for instead in data that is full of the
    bytes ``often``.
    """

    pattern: re.Pattern[bytes]
    check: Callable[[bytes, re.Match[bytes]], Found]
    needs: bytes = b""
    often: bytes = b""
    dense: Sequence[Late] = ()


def row(name: str, starts: Iterable[bytes], pattern: bytes, back: int = 0) -> Row:
    """A row of one regular expression, which matches from ``back`` bytes before the start on. Its group 1 is what is found."""
    late = Late(pattern)

    def find(data: bytes, start: int, _: int) -> Found:
        match = late.match(data, start - back if start > back else 0)
        return None if match is None else (*match.span(min(match.re.groups, 1)), name)

    dense: dict[bytes, tuple[Late, ...]] = {}
    found = tuple(starts)
    for (
        start
    ) in found:  # a start by itself, so that re looks for that first, and looks back from its end to where the pattern begins
        one = Late(re.escape(start) + rb"(?<=(?=" + pattern + rb")[\0-\xff]{%d})" % (back + len(start)))
        dense[start[-1:]] = (*dense.get(start[-1:], ()), one)
    return Row((name,), found, find, b"", dense)
