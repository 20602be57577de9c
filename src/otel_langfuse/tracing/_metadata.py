"""Metadata as attributes: an entry each, so that the next update adds to them, and one for all that there is no room for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import orjson
from opentelemetry.trace import Span

from otel_langfuse import picture
from otel_langfuse.propagation import attributes_of

MAX_METADATA_KEYS: Final = 48
"""Entries of one metadata mapping that become attributes of their own; a larger mapping becomes one attribute, as JSON.

A span takes 128 attributes by default, and then loses its oldest: the input.
"""

MAX_ATTRIBUTES: Final = 96
"""Attributes of a span beyond which no further entry gets one of its own: the rest is for what is said of it later."""

_Attributes: TypeAlias = "dict[str, Any]"


def add_metadata(name: str, attributes: _Attributes, value: Any) -> None:
    """What is no mapping becomes the entry ``metadata``, as Langfuse's server stores it (api.md 2.9). Numbers stay numbers."""
    entries = value if isinstance(value, Mapping) else {"metadata": value}
    if len(entries) > MAX_METADATA_KEYS:
        attributes[name] = picture.text(dict(entries))
        return
    for key, item in entries.items():
        if item is not None:
            attributes[f"{name}.{key}"] = _attribute(item)


def merged(span: Span, name: str, attributes: _Attributes) -> _Attributes:
    """The attributes to set so that the metadata which the span has already stays, and nothing else is lost for it.

    Args:
        span: that is to say them.
        name: of the attribute that such metadata stands under.
        attributes: new ones.
    """
    held = attributes_of(span)
    if len(held) + len(attributes) <= MAX_ATTRIBUTES and name not in attributes and name not in held:
        return attributes
    prefix = f"{name}."
    own = [key for key in attributes if key.startswith(prefix)]
    if not own and name not in attributes:
        return attributes
    made = dict(attributes)
    rest = _object(held.get(name))
    for entry, item in _object(made.pop(name, None)).items():
        if prefix + entry in held:
            made[prefix + entry] = _attribute(item)
        else:
            rest[entry] = item
    room = MAX_ATTRIBUTES - len(held)
    for key in own:
        room -= key not in held
        if room < 0 and key not in held:
            rest[key[len(prefix) :]] = made.pop(key)
        else:
            rest.pop(key[len(prefix) :], None)
    if rest or name in held:
        made[name] = picture.text(rest)
    return made


def _object(text: Any) -> dict[str, Any]:
    try:
        made = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):  # nothing, or somebody else's
        return {}
    return made if isinstance(made, dict) else {}


def _attribute(item: Any) -> Any:
    return item if _is_number(item) else picture.text(item)


def _is_number(value: Any) -> bool:
    """Whether an attribute may hold it as it is: OTLP has integers of 64 bits."""
    kind = type(value)
    return kind is bool or kind is float or (kind is int and -(1 << 63) <= value < 1 << 63)
