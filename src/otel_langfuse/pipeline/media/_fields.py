"""Which field of an observation an attribute's media belong to, from the conventions' tables."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from otel_langfuse.conventions import CONVENTIONS

_OUTPUT_WORDS: Final = re.compile(r"output|completion|response|result|choice", re.IGNORECASE)
_METADATA: Final = re.compile(r"metadata", re.IGNORECASE)
_IO_GROUPS: Final = ("io", "trace_io")


def field_of(key: str, event: str | None = None) -> str:
    """``input``, ``output`` or ``metadata`` for an attribute of a span, or of a span event of that name.

    A key that rules read for both sides (the current GenAI conventions have such rules), or that is known as content only, is
    told by its words.
    """
    given, produced, content = _tables()
    if event is not None and event in _content_events():
        return "output" if _OUTPUT_WORDS.search(event) or _side(key, given, produced, content) == "output" else "input"
    return _side(key, given, produced, content)


_Keys = tuple[frozenset[str], tuple[str, ...]]


def _side(key: str, given: _Keys, produced: _Keys, content: _Keys) -> str:
    is_given, is_produced = _has(given, key), _has(produced, key)
    if is_given != is_produced:
        return "input" if is_given else "output"
    if is_given or (_has(content, key) and not _METADATA.search(key)):
        return "output" if _OUTPUT_WORDS.search(key) else "input"
    return "metadata"


def _has(keys: _Keys, key: str) -> bool:
    return key in keys[0] or key.startswith(keys[1])


@cache
def _tables() -> tuple[_Keys, _Keys, _Keys]:
    keys: dict[str, set[str]] = {"input": set(), "output": set()}
    prefixes: dict[str, set[str]] = {"input": set(), "output": set()}
    content = {key for convention in CONVENTIONS for key in convention.content}
    for convention in CONVENTIONS:
        for rule in convention.rules:
            if rule.group in _IO_GROUPS:
                for field, source in rule.sets.items():
                    side = field.removeprefix("trace_")
                    keys[side] |= source.keys
                    prefixes[side].update(*source.prefixes)
    return (
        (frozenset(keys["input"]), tuple(prefixes["input"])),
        (frozenset(keys["output"]), tuple(prefixes["output"])),
        (
            frozenset(key for key in content if not key.endswith("*")),
            tuple(key[:-1] for key in content if key.endswith("*")),
        ),
    )


@cache
def _content_events() -> frozenset[str]:
    return frozenset(
        name
        for convention in CONVENTIONS
        for rule in convention.rules
        if rule.group in _IO_GROUPS
        for source in rule.sets.values()
        for name in source.events
    )
