"""Every text in a value of an attribute, at any depth: to look at, to ask about, and to replace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

FAILED: Final = "<masked: mask failed>"
MAX_DEPTH: Final = 64
PLAIN: Final = frozenset({int, float, bool, type(None)})
"""Types that hold no text."""


class NotLookedThroughError(Exception):
    """A value that is nested too deeply, or of a type that no attribute has. The message says which, not what it holds."""


def gather(value: Any, texts: list[str], depth: int = 0) -> None:
    """Adds every text in a value.

    Raises:
        NotLookedThroughError: there may be texts that this cannot see.
    """
    if isinstance(value, str):
        texts.append(value)
    elif type(value) in PLAIN:
        pass
    elif depth >= MAX_DEPTH:
        raise NotLookedThroughError("nested too deeply")
    elif isinstance(value, bytes):
        texts.append(value.decode("utf-8", "surrogateescape"))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            texts.append(str(key))
            gather(item, texts, depth + 1)
    elif isinstance(value, Sequence):
        for item in value:
            gather(item, texts, depth + 1)
    elif not isinstance(value, (bool, int, float)):
        raise NotLookedThroughError(f"a value of type {type(value).__name__}")


def replaced(value: Any, text: Callable[[str], Any], *, keys: bool = False) -> Any:
    """The value with every text in it replaced; the same object where nothing changed. Only for what ``gather`` looked through.

    Args:
        value: what ``gather`` took.
        text: asked for each text, in ``gather``'s order.
        keys: whether keys of mappings are asked for, too.
    """
    if isinstance(value, str):
        new = text(value)
        return value if new == value else new
    if type(value) in PLAIN:
        return value
    if isinstance(value, bytes):
        old = value.decode("utf-8", "surrogateescape")
        new = text(old)
        return value if new == old else str(new).encode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        changed = {(text(str(key)) if keys else key): replaced(item, text, keys=keys) for key, item in value.items()}
        same = changed.keys() == value.keys() and all(changed[key] is value[key] for key in changed)
        return value if same else changed
    if isinstance(value, Sequence):
        items = [replaced(item, text, keys=keys) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else items if isinstance(value, list) else tuple(items)
    return value
