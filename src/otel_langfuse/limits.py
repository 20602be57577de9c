"""What Langfuse takes as an id, a tag, an environment or propagated metadata. Every door asks here, so that all of them agree.

Nothing here raises: what cannot be used is left out, and what is too long is cut, with a warning at most once a minute for
each door and field. Where a wrong value is to be refused instead, in settings, ``config`` asks the same ``checked_environment``.

Source: api.md 2.6 and 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from .config import ENVIRONMENT_EXPECTED, checked_environment
from .stats import Ledger

MAX_CHARACTERS: Final = 200
"""Langfuse takes no longer ids, tags and propagated metadata (api.md 4). Longer ones are cut, with a warning."""

MAX_TAGS: Final = 100
MAX_METADATA_KEYS: Final = 64
"""A span has room for 128 attributes; beyond that the SDK loses the oldest, which are an instrumentation's own."""

_OF_PROMPT: Final = ("name", "version", "is_fallback")
_NOTES: Final = Ledger()


def text(value: Any, field: str, door: str) -> str | None:
    """A text of at most ``MAX_CHARACTERS``; numbers become texts. None where there is nothing to use.

    Args:
        value: anything; None is nothing, without a warning.
        field: how the warning calls the value; never the value itself.
        door: where it came in, for the warning.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _note(door, field, "is no text and is left out")
            return None
        value = str(value)
    if len(value) > MAX_CHARACTERS:
        _note(door, field, f"is cut to {MAX_CHARACTERS} characters")
        value = value[:MAX_CHARACTERS]
    return str.__str__(value) or None


def environment(value: Any, door: str) -> str | None:
    """The environment, or None with a warning where Langfuse would not take it as it is."""
    if value is None:
        return None
    try:
        return checked_environment(value)
    except ValueError:
        _note(door, "environment", f"is left out: expected {ENVIRONMENT_EXPECTED}")
        return None


def tags(value: Any, door: str) -> list[str]:
    """Texts, each of them once, in their order; at most ``MAX_TAGS``."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, (Sequence, set, frozenset)):
        _note(door, "tags", "is no list of texts and is left out")
        return []
    found = list(dict.fromkeys(tag for item in value if (tag := text(item, "a tag", door)) is not None))
    if len(found) > MAX_TAGS:
        _note(door, "tags", f"is cut to {MAX_TAGS} of them")
    return found[:MAX_TAGS]


def prompt(value: Any, door: str) -> tuple[str, int] | None:
    """Name and version of a prompt, or of a mapping with these two; None of a fallback, which is no version of anything."""
    if value is None:
        return None
    try:
        said: Mapping[str, Any] = value if isinstance(value, Mapping) else {key: getattr(value, key, None) for key in _OF_PROMPT}
        if said.get("is_fallback"):
            return None
        version = said["version"]
        if name := str.__str__(said["name"]):
            return name, int(version) if isinstance(version, str) else int.__index__(version)
    except Exception:  # noqa: BLE001, S110 - an object of the application's
        pass
    _note(door, "prompt", "is left out: expected a prompt with a name and a version")
    return None


def metadata(value: Any, door: str) -> dict[str, str | bool | int | float]:
    """Key -> what an attribute can hold: texts, numbers and booleans as they are, anything else as JSON text; None left out.

    Keys are texts of at most ``MAX_CHARACTERS``; there are at most ``MAX_METADATA_KEYS``.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        _note(door, "metadata", "is no mapping and is left out")
        return {}
    found: dict[str, str | bool | int | float] = {}
    for name, item in value.items():
        if item is None:
            continue
        key, made = text(name, "a metadata key", door), _metadata_value(item, door)
        if key is not None and made is not None:
            if len(found) >= MAX_METADATA_KEYS:
                _note(door, "metadata", f"is cut to {MAX_METADATA_KEYS} keys")
                break
            found[key] = made
    return found


def _metadata_value(value: Any, door: str) -> str | bool | int | float | None:
    if isinstance(value, (bool, float)) or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
        return value
    if isinstance(value, (str, int)):
        return text(value, "a metadata value", door)
    try:
        return text(orjson.dumps(value, default=str).decode(), "a metadata value", door)
    except Exception:  # noqa: BLE001 - an object of the application's, whose own methods were called
        _note(door, "a metadata value", "has no JSON form and is left out")
        return None


def _note(door: str, field: str, what: str) -> None:
    _NOTES.note(f"{door} {field} {what}", f"{door}: {field} {what}")
