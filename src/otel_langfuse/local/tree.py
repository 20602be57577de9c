"""Observations in the order and at the depth at which they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from otel_langfuse.model import Observation

MAX_GUIDES = 32
"""How many of its ancestors a line knows. No terminal has room for more, and a chain of thousands would cost its square."""


class Branch(NamedTuple):
    """One line of the tree.

    ``depth`` is 0 at the top. ``lasts`` says for each of its ancestors below the top, and then for itself, whether it is the
    last child of its parent; of a deep one only for the nearest ``MAX_GUIDES``. ``adrift`` tells why something with a parent
    stands at the top: "" (it has none), "missing" or "circle".
    """

    observation: Observation
    depth: int
    lasts: tuple[bool, ...]
    has_children: bool
    adrift: str = ""


def arrange(observations: Sequence[Observation]) -> list[Branch]:
    """Every observation exactly once, parents before children, siblings in the order given (by start time).

    One whose parent is not among them stands at the top, and so does the first one of a circle of parents. Does not recurse, so
    that depth has no limit.
    """
    present = {one.id for one in observations}
    children: dict[str, list[Observation]] = {}
    tops: list[tuple[Observation, str]] = []
    for one in observations:
        if one.parent_id is None or one.parent_id == "":
            tops.append((one, ""))
        elif one.parent_id not in present:
            tops.append((one, "missing"))
        else:
            children.setdefault(one.parent_id, []).append(one)
    branches: list[Branch] = []
    drawn: set[str] = set()
    for top, adrift in tops:
        _grow(top, adrift, children, branches, drawn)
    for one in observations:  # what is left hangs on a circle
        if one.id not in drawn:
            _grow(one, "circle", children, branches, drawn)
    return branches


def _grow(top: Observation, adrift: str, children: dict[str, list[Observation]], branches: list[Branch], drawn: set[str]) -> None:
    drawn.add(top.id)
    waiting: list[tuple[Observation, int, tuple[bool, ...], str]] = [(top, 0, (), adrift)]
    while waiting:
        one, depth, lasts, why = waiting.pop()
        below = [child for child in children.get(one.id, ()) if child.id not in drawn]
        drawn.update(child.id for child in below)
        branches.append(Branch(one, depth, lasts, bool(below), why))
        for i, child in reversed(list(enumerate(below))):
            waiting.append((child, depth + 1, (*lasts, i == len(below) - 1)[-MAX_GUIDES:], ""))
