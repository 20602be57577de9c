"""Whether a value is plain data, which is recorded by one call of ``orjson``. This runs for nearly everything."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import date, datetime
from types import NoneType
from typing import Any, Final
from uuid import UUID

import orjson

from ._text import MAX_CHARACTERS, MAX_DEPTH, MAX_ITEMS

_ATOMS: Final = frozenset({int, float, bool, NoneType})
_CONTAINERS: Final = frozenset({dict, list, tuple})
AS_IT_IS: Final = _ATOMS | {datetime, date, UUID}
"""What ``orjson`` takes as it is; of integers those of 64 bits."""

FEW: Final = 16
is_tracked: Final[Callable[[Any], bool]] = getattr(gc, "is_tracked", bool)
"""CPython's collector does not track a mapping that holds no container: one question instead of one for each item."""


def plain_json(value: Any) -> str | None:
    """The JSON text of plain data that is within the bounds; None of everything else.

    What is recorded most, a few messages, takes a short way.

    Raises:
        Exception: it is not plain, or another thread changes it just now.
    """
    kind = type(value)
    if kind is list:
        # A few mappings, worth a try unseen: none of them has containers in it.
        if 0 < len(value) < FEW and type(value[0]) is dict and not any(map(is_tracked, value)) and sum(map(len, value)) < 4 * FEW:
            made = orjson.dumps(value).decode()
            if len(made) <= MAX_CHARACTERS:
                return made
    elif kind is dict:
        if 0 < len(value) < FEW and not is_tracked(value):
            made = orjson.dumps(value).decode()
            if len(made) <= MAX_CHARACTERS:
                return made
    elif kind is not tuple:
        return orjson.dumps(value).decode() if kind in _ATOMS else None
    return orjson.dumps(value).decode() if _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    """Whether ``orjson`` may have the value as it is: plain all through, and within the bounds.

    Level by level, counting what is shared as often as it would be written, so that a few lists that contain each other
    twice cannot fill the memory.
    """
    items = characters = 0
    level = [value]
    for _ in range(MAX_DEPTH):
        below = []
        for outer in level:
            items += len(outer)
            if type(outer) is dict:
                characters += len("".join(outer))  # the keys: raises where they are no texts
                outer = outer.values()  # noqa: PLW2901
            for item in outer:
                kind = type(item)
                if kind is str:
                    characters += len(item)
                elif kind not in AS_IT_IS:
                    if kind not in _CONTAINERS:
                        return False
                    below.append(item)
            if items > MAX_ITEMS or characters > MAX_CHARACTERS:
                return False
        if not below:
            return True
        level = below
    return False
