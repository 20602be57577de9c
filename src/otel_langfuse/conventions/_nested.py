"""Dotted attribute keys as nested objects and lists (mapping.md 10): ``gen_ai.prompt.0.role`` and the like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from otel_langfuse.conventions import _javascript as js

MAX_INDEX = 10_000
MAX_SLOTS = 10_001  # over all lists of one prefix: hostile indices must not make us allocate
MAX_SEGMENTS = 100
_FORBIDDEN = frozenset({"__proto__", "constructor", "prototype"})
_DIGITS = re.compile(r"\d+\Z", re.ASCII)
_INDEXED = re.compile(r"\d+\.", re.ASCII)


def nested_object(attributes: Mapping[str, Any], prefix: str) -> Any:
    """Attributes that start with ``prefix``, as an object, or as a list where some rest of a key starts with an index.

    Where the attribute ``prefix`` itself is filled, it is the value alone. Values are not parsed. Gaps in lists are None.
    Keys with an index over ``MAX_INDEX``, or whose lists would exceed ``MAX_SLOTS`` in total, are left out.
    """
    if js.truthy(attributes.get(prefix)):
        return attributes[prefix]
    layout = _layout(tuple(attributes), prefix) if len(attributes) <= MAX_REMEMBERED_KEYS else None
    return _built(attributes, prefix)[0] if layout is None else _filled(layout, attributes)


def _built(attributes: Mapping[str, Any], prefix: str) -> tuple[Any, int]:
    """The nested value, and how many keys are in it, or were until another took their place."""
    rests = {key.replace(prefix + ".", "", 1): value for key, value in attributes.items()}
    root: Any = [] if any(_starts_with_index(rest) for rest in rests) else {}
    slots_left, count = MAX_SLOTS, 0
    for rest, value in rests.items():
        path = _path(rest.split("."), list_first=isinstance(root, list))
        if path is None:
            continue
        needed = _slots_needed(root, path)
        if needed > slots_left:
            continue
        slots_left -= needed
        count += 1
        _put(root, path, value)
    return root, count


# -- what is the same for all spans with the same keys ------------------------------------------------------------------

MAX_REMEMBERED_KEYS = 200
_MAX_LAYOUTS = 256  # with the limit before: 10 MB, whatever is sent


class _Leaf(NamedTuple):
    """Stands for the value of an attribute."""

    key: str


class _Step(NamedTuple):
    """Puts at a place of a container (by its number) the attribute ``key``, or, where that is None, a new container.

    That is a list of ``slots``, or an object where it is None.
    """

    container: int
    place: str | int
    key: str | None
    slots: int | None


@lru_cache(maxsize=_MAX_LAYOUTS)
def _layout(keys: tuple[str, ...], prefix: str) -> tuple[_Step, ...] | None:
    """How to build the value of these keys; None where that depends on the values, because one key is inside another."""
    root, count = _built({key: _Leaf(key) for key in keys}, prefix)
    steps = [_Step(0, "", None, len(root) if isinstance(root, list) else None)]
    containers = [(0, root)]
    for number, container in containers:
        for place, value in enumerate(container) if isinstance(container, list) else container.items():
            if isinstance(value, _Leaf):
                steps.append(_Step(number, place, value.key, None))
                count -= 1
            elif value is not None:
                containers.append((len(containers), value))
                steps.append(_Step(number, place, None, len(value) if isinstance(value, list) else None))
    return None if count else tuple(steps)


def _filled(layout: tuple[_Step, ...], attributes: Mapping[str, Any]) -> Any:
    containers: list[Any] = []
    for container, place, key, slots in layout:
        if key is not None:
            containers[container][place] = attributes[key]
            continue
        made: Any = {} if slots is None else [None] * slots
        if containers:
            containers[container][place] = made
        containers.append(made)
    return containers[0]


# -- keys one by one ----------------------------------------------------------------------------------------------------


def _starts_with_index(rest: str) -> bool:
    """Whether the rest of a key makes the whole a list. An index that is out of range does not."""
    found = _INDEXED.match(rest)
    return found is not None and len(found[0]) <= len(str(MAX_INDEX)) + 1 and int(found[0][:-1]) <= MAX_INDEX


def _path(segments: list[str], *, list_first: bool) -> list[str | int] | None:
    """Segments as keys and indices; None where one of them must not be used."""
    if len(segments) > MAX_SEGMENTS or any(segment in _FORBIDDEN for segment in segments):
        return None
    path: list[str | int] = []
    for place, segment in enumerate(segments):
        if not _DIGITS.match(segment):
            if place == 0 and list_first:
                return None
            path.append(segment)
            continue
        if len(segment) > 6 or int(segment) > MAX_INDEX:
            return None
        path.append(int(segment))
    return path


def _slots_needed(node: Any, path: list[str | int]) -> int:
    """How many list slots writing at the path would add."""
    for place, step in enumerate(path):
        if isinstance(node, list):
            if not isinstance(step, int) or step >= len(node):
                grown = step + 1 - len(node) if isinstance(step, int) else 0
                return grown + _fresh_slots(path[place + 1 :])
            node = node[step]
        elif isinstance(node, dict):
            if str(step) not in node:
                return _fresh_slots(path[place + 1 :])
            node = node[str(step)]
        else:
            return _fresh_slots(path[place:])
    return 0


def _fresh_slots(path: list[str | int]) -> int:
    return sum(step + 1 for step in path if isinstance(step, int))


def _put(node: Any, path: list[str | int], value: Any) -> None:
    for place, step in enumerate(path[:-1]):
        fresh: Any = [] if isinstance(path[place + 1], int) else {}
        node = _child(node, step, fresh)
    _set(node, path[-1], value)


def _child(node: Any, step: str | int, fresh: Any) -> Any:
    if isinstance(node, list):
        if not isinstance(step, int):
            return {}  # a named property of an array, which JSON does not show
        node.extend([None] * (step + 1 - len(node)))
        if not isinstance(node[step], (dict, list)):
            node[step] = fresh
        return node[step]
    key = str(step)
    if not isinstance(node.get(key), (dict, list)):
        node[key] = fresh
    return node[key]


def _set(node: Any, step: str | int, value: Any) -> None:
    if isinstance(node, list):
        if isinstance(step, int):
            node.extend([None] * (step + 1 - len(node)))
            node[step] = value
        return
    node[str(step)] = value
