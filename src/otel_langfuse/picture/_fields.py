"""Objects that declare their fields: dataclasses, attrs and msgspec classes, pydantic models."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from functools import lru_cache
from types import MemberDescriptorType
from typing import Any

from ._walk import Walk


def stored(value: Any, name: str) -> Any:
    """An attribute as it is stored, in the object or in a slot, without running code of its class.

    Raises:
        AttributeError: nothing is stored under this name.
    """
    kind = type(value)
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        found = {}
    if name in found:
        return found[name]
    for base in kind.__mro__:
        if name in base.__dict__:
            held = base.__dict__[name]
            if type(held) is MemberDescriptorType:
                return held.__get__(value, kind)
            if not hasattr(type(held), "__get__"):
                return held
            break
    raise AttributeError(name)


def by_fields(walk: Walk, value: Any, depth: int, names: tuple[str, ...]) -> Any:
    shown = []
    for name in names:
        try:
            shown.append((name, stored(value, name)))
        except AttributeError:  # noqa: PERF203 - not set
            continue
    return walk.mapping(value, shown, len(shown), depth)


def declared(kind: type) -> tuple[str, ...] | None:
    """The names of the fields that a class shows of itself; None if it declares none."""
    if hasattr(kind, "__dataclass_fields__"):
        return tuple(item.name for item in dataclass_fields(kind) if item.repr)
    if isinstance(attributes := getattr(kind, "__attrs_attrs__", None), tuple):
        return tuple(item.name for item in attributes if item.repr is not False)
    if isinstance(names := getattr(kind, "__struct_fields__", None), tuple):  # msgspec
        return names
    return None


def model(walk: Walk, value: Any, depth: int) -> Any:
    """A pydantic model by its fields. Computed fields are properties, and not asked; serializers of its author are."""
    kind: Any = type(value)
    names, own = _model_fields(kind)
    held = object.__getattribute__(value, "__dict__")
    if own is None:
        return walk.of(value.model_dump(mode="json", include={name for name in names if name in held}), depth)
    if getattr(kind, "__pydantic_root_model__", False) and not own:
        return walk.of(held.get("root"), depth)
    shown = {name: held[name] for name in names if name in held}
    with suppress(AttributeError):  # pydantic 1: what is not declared is not shown
        shown.update(object.__getattribute__(value, "__pydantic_extra__") or {})
    if own:
        shown.update(value.model_dump(mode="json", include=own))
    return walk.mapping(value, shown.items(), len(shown), depth)


@lru_cache(maxsize=512)
def _model_fields(kind: Any) -> tuple[tuple[str, ...], set[str] | None]:
    """The fields that a model shows, and those of them that its author has written a serializer for; None: for the whole."""
    fields: Mapping[str, Any] = kind.__fields__ if not hasattr(kind, "model_fields") else kind.model_fields
    infos = {name: getattr(found, "field_info", found) for name, found in fields.items()}
    shown = tuple(
        name for name, info in infos.items() if not getattr(info, "exclude", None) and getattr(info, "repr", True) is not False
    )
    decorators = getattr(kind, "__pydantic_decorators__", None)
    if getattr(decorators, "model_serializers", None):
        return shown, None
    own = {name for found in getattr(decorators, "field_serializers", {}).values() for name in found.info.fields}
    own |= {
        name
        for name, info in infos.items()
        if any(type(part).__name__ in ("PlainSerializer", "WrapSerializer") for part in getattr(info, "metadata", ()))
    }
    return shown, set(shown) if "*" in own else own & set(shown)
