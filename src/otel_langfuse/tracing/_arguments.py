"""What a call was given, by the names of the parameters. The signature is read once, when a function is decorated."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any, Final

MARK: Final = "__otel_langfuse_arguments__"
"""The attribute of a decorated function that leads to its ``Arguments``."""

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_WHATEVER: Final = object()
_INSIDE: Final = ("__func__", "fget", "func")
"""Where class methods, properties and partial methods (cached properties, too) have their function."""


class Arguments:
    """The parameters of one function: what is recorded of a call, given what it was called with.

    ``self`` and ``cls`` are left out where they are that: the first argument of a function that is found in the class of that
    argument, or in that argument if it is a class. A first parameter that is only called so is recorded.
    """

    __slots__ = (
        "_all",
        "_defaults",
        "_holder",
        "_is_method",
        "_is_no_owner",
        "_keywords",
        "_known",
        "_name",
        "_names",
        "_positional_only",
        "_rest",
    )

    def __init__(self, function: Callable[..., Any], *, bound: bool = False) -> None:
        """Args: ``bound``: it is the function of a method or classmethod, whose first argument is left out whatever it is."""
        parameters = _parameters(function)
        empty = inspect.Parameter.empty
        self._all = frozenset(p.name for p in parameters)
        self._names = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self._positional_only = frozenset(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY)
        self._defaults = tuple((p.name, p.default) for p in parameters if p.default is not empty)
        self._rest = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "args")
        self._keywords = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), "kwargs")
        holder, _, name = str(getattr(function, "__qualname__", "")).rpartition(".")
        self._name = name
        self._holder = "" if holder.endswith("<locals>") else holder
        may_be = bool(self._holder) or self._names[:1] in (("self",), ("cls",))
        self._is_method = bound or (may_be and not isinstance(function, MethodType))
        self._known: Any = _WHATEVER if bound else None
        self._is_no_owner: Any = None

    def recorded(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Name -> value, defaults included; empty if there is nothing to record."""
        names = self._names
        if self._is_method and args and self._is_owner(args[0]):
            names, args = names[1:], args[1:]
        found = dict(zip(names, args, strict=False))
        if len(args) > len(names):
            found[self._rest] = list(args[len(names) :])
        if kwargs:
            taken = self._positional_only if len(args) <= len(names) else self._positional_only | {self._rest}
            if taken and not taken.isdisjoint(kwargs):
                found[self._keywords] = dict(kwargs)
            else:
                found.update(kwargs)
        for name, default in self._defaults:
            if name not in found:
                found[name] = default
        return found

    def has(self, name: str) -> bool:
        """Whether the function has a parameter of this name."""
        return name in self._all

    def _is_owner(self, first: Any) -> bool:
        """Whether the first argument is ``self`` or ``cls``. What was found last is remembered: most calls look alike."""
        kind: Any = type(first)
        known = self._known
        if known is not None and (known is kind or known is first or known is _WHATEVER):
            return True
        looked_at = first if issubclass(kind, type) else kind
        if known is None and self._is_no_owner is looked_at:
            return False
        for owner in (first, kind) if looked_at is first else (kind,):
            for base in owner.__mro__:
                held = self._held_by(base)
                if held is not None:
                    found = not isinstance(held, staticmethod)
                    self._known = owner if found else known
                    return found
        self._is_no_owner = looked_at
        return False

    def _held_by(self, base: type) -> Any:
        """What stands in this class for the function, under its own name or another one; None if it is not its method."""
        held = base.__dict__.get(self._name)
        if held is not None and (base.__qualname__ == self._holder or self._is_in(held)):
            return held
        return next((other for other in list(base.__dict__.values()) if self._is_in(other)), None)

    def _is_in(self, held: Any) -> bool:
        """Whether what stands in a class is this function, as it is or as a class method, property or partial method."""
        if not hasattr(type(held), "__get__"):
            return False
        return any(getattr(inner, MARK, None) is self for inner in (held, *(getattr(held, name, None) for name in _INSIDE)))


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # some built-ins have no signature
        return []
