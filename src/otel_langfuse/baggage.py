"""User, session, tags and the like as OpenTelemetry baggage: to other services if asked, from them if they are trusted.

Baggage goes out as a header of every request that an instrumented client makes, to whomever, and comes in from whoever calls.
So nothing is written that ``propagate_attributes(as_baggage=True)`` did not ask for, and nothing is read unless the setting
``trust_baggage`` says so; then it is checked and cut like everything else.

Entries are named as Langfuse's SDK 5 names them: ``langfuse_user_id``, ``langfuse_metadata_<key>`` and so on. Tags are written
as ``a,b``, or as a JSON array where one of them holds a comma; Langfuse's server reads both as tags (api.md 3.4). Read is also
what that SDK writes: ``['a', 'b']``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote_plus

import orjson
from opentelemetry import baggage
from opentelemetry.context import Context

from . import attributes as names
from . import limits
from .stats import Ledger

DOOR: Final = "incoming baggage"

MAX_BYTES: Final = 4096
"""What our entries may take of the header, of which receivers read at most 8192 bytes, or nothing (W3C Baggage)."""

MAX_ENTRIES: Final = 90
"""How many entries of ours; a header holds at most 180 (W3C Baggage)."""

_PREFIX: Final = "langfuse_"
_METADATA: Final = "langfuse_metadata_"
_QUOTED: Final = re.compile(r"'([^'\\]*)'|\"([^\"\\]*)\"")
_NOTES: Final = Ledger()


def with_entries(context: Context, attributes: Mapping[str, Any]) -> Context:
    """``context`` with attributes, as they are propagated, among its baggage. What does not fit is left out, with a warning."""
    entries = {entry: made for key, value in attributes.items() if (entry := _entry(key)) and (made := _written(value))}
    room = MAX_BYTES - sum(_size(name, str(value)) for name, value in _ours(context) if name not in entries)
    count = sum(1 for name, _ in _ours(context) if name not in entries)
    for name, value in entries.items():
        room -= _size(name, value)
        count += 1
        if room < 0 or count > MAX_ENTRIES:
            _NOTES.note("outgoing", f"outgoing baggage has no room for all that is propagated: at most {MAX_BYTES} bytes")
            break
        context = baggage.set_baggage(name, value, context)
    return context


def read(context: Context | None) -> dict[str, Any]:
    """The attributes that the baggage of ``context`` stands for, checked and cut; None is the current context."""
    found: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    for name, value in _ours(context):
        if name.startswith(_METADATA):
            metadata[name[len(_METADATA) :]] = value
        elif name in _FIELDS:
            key, made = _FIELDS[name]
            found[key] = made(value)
    for key, value in limits.metadata(metadata, DOOR).items():
        found[f"{names.TRACE_METADATA}.{key}"] = value
    return {key: value for key, value in found.items() if value}


def _ours(context: Context | None) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in baggage.get_all(context).items() if str(name).startswith(_PREFIX)]


def _size(name: str, value: str) -> int:
    return len(quote_plus(name)) + len(quote_plus(value)) + 2


def _entry(key: str) -> str | None:
    if key.startswith(f"{names.TRACE_METADATA}."):
        return _METADATA + key[len(names.TRACE_METADATA) + 1 :]
    return _ENTRIES.get(key)


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        plain = not any("," in tag or tag.startswith("[") for tag in value)
        return ",".join(value) if plain else orjson.dumps(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(field: str) -> Callable[[Any], str | None]:
    return lambda value: limits.text(value, field, DOOR)


def _tags(value: Any) -> tuple[str, ...]:
    return tuple(limits.tags(_listed(value) if isinstance(value, str) else value, DOOR))


def _listed(value: str) -> list[Any]:
    if not value.startswith("["):
        return [tag.strip() for tag in value.split(",")]
    try:
        made = orjson.loads(value)
    except orjson.JSONDecodeError:
        return [single or double for single, double in _QUOTED.findall(value)]
    return made if isinstance(made, list) else []


_FIELDS: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "langfuse_user_id": (names.USER_ID, _text("user_id")),
    "langfuse_session_id": (names.SESSION_ID, _text("session_id")),
    "langfuse_environment": (names.ENVIRONMENT, lambda value: limits.environment(value, DOOR)),
    "langfuse_version": (names.VERSION, _text("version")),
    "langfuse_trace_name": (names.TRACE_NAME, _text("trace_name")),
    "langfuse_tags": (names.TRACE_TAGS, _tags),
}
"""Entry -> its attribute, and what makes the attribute's value of the entry's, or nothing."""

_ENTRIES: Final = {key: entry for entry, (key, _) in _FIELDS.items()}
