"""A finished span on its way through the queue: what is queued of it, and how many bytes it holds."""

from __future__ import annotations

from collections.abc import Mapping
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from .pipeline.lineage import Link
    from .pipeline.tail import Trace

SPAN_BYTES: Final = 512
"""What a span counts for beside its texts."""

_SMALL: Final = frozenset({int, float, bool, type(None)})


Ended: TypeAlias = "tuple[Any, Mapping[str, Any], Link | None, Trace[Any] | None, Any]"
"""A finished span, its attributes, what stands above it, its trace where that waits, and what keeps the others of that alive.

A plain tuple, because one is made on the application's thread. Where nothing but the span is known, it is queued alone, and the
application's thread makes none: the collector of garbage looks at each.
"""


def span_of(item: Any) -> Any:
    """The SDK's span of what was queued."""
    return item[0] if type(item) is tuple else item


def attributes_of(span: Any) -> Mapping[str, Any]:
    """A dict: the span's own, which nothing changes once it has ended, or, where the SDK keeps it elsewhere, a copy."""
    try:
        own: Any = span._attributes._dict  # noqa: SLF001 - in a try, because it costs half of two getattr()
    except AttributeError:
        own = None
    if type(own) is dict:
        return own
    return copied(span.attributes)


def copied(attributes: Any) -> Mapping[str, Any]:
    """A dict. ``copy()`` of the SDK's mapping is one call, where iterating asks it for key after key."""
    try:
        copy: Mapping[str, Any] = attributes.copy()
    except AttributeError:
        return dict(attributes or {})
    return copy


# -- how many bytes it holds ---------------------------------------------------------------------------------------------------


def held_bytes(item: Any) -> int:
    """An estimate of the memory that a queued span holds: its texts, and something for everything else. Never raises.

    It runs for every span, on the application's thread, so the usual values are measured without a call of our own.
    """
    try:
        span, attributes = (item[0], item[1]) if type(item) is tuple else (item, attributes_of(item))
        size = SPAN_BYTES + 40 * len(attributes)
        for value in attributes.values():
            if type(value) is str:
                size += value.__sizeof__()  # what sys.getsizeof says of a text, in a third of the time
            elif type(value) is tuple:  # what the SDK makes of every list
                for each in value:
                    size += each.__sizeof__() if type(each) is str else _held_by(each)
            elif type(value) not in _SMALL:
                size += _held_by(value)
        # Asking the SDK's list whether it is empty costs a sixth of the copy of it that ``events`` makes.
        if getattr(span, "_events", True):
            for event in span.events:
                size += SPAN_BYTES + _held_by(event.attributes or {})
    except Exception:  # noqa: BLE001 - of a foreign span: what cannot be read here, the worker will not read either
        return SPAN_BYTES
    return size


def _held_by(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_held_by, value.values()), 40 * len(value))
    if isinstance(value, (tuple, list)):
        return sum(map(_held_by, value), 40 * len(value))
    return getsizeof(value)
