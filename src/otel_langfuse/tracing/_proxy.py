"""An object that can be called, with its calls observed: in all other respects the object itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_OWN: Final = frozenset(
    {
        "__call__", "__class__", "__class_getitem__", "__del__", "__delattr__", "__dict__", "__getattr__", "__getattribute__",
        "__init__", "__init_subclass__", "__mro_entries__", "__new__", "__setattr__", "__slots__", "__subclasshook__",
        "__weakref__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__",
    }
)  # fmt: skip
"""Special names that are the proxy's own, or nobody's."""


def observed_object(target: Any, function: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Any:
    """An object that is ``target`` but for its calls, which are those of ``function(target.__call__)``.

    Attributes are read from, set on and deleted from ``target``; ``isinstance`` says its class; its special methods
    (comparing, iterating, ``with`` ...) are its own.
    """
    call = function(target.__call__)
    kind = type(target)
    special = {name for name in dir(kind) if name[:2] == name[-2:] == "__" and callable(getattr(kind, name, None))}
    namespace: dict[str, Any] = {name: _forward(kind, name, target) for name in special - _OWN}
    namespace |= {
        "__call__": staticmethod(call),
        "__class__": property(lambda _: kind),
        "__getattr__": lambda _, name: getattr(target, name),
        "__setattr__": lambda _, name, value: setattr(target, name, value),
        "__delattr__": lambda _, name: delattr(target, name),
        "__reduce_ex__": lambda _, protocol: target.__reduce_ex__(protocol),
        "__wrapped__": target,
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__slots__": (),
    }
    if "__hash__" not in special:  # it compares by value
        namespace["__hash__"] = None
    return type(kind.__name__, (), namespace)()


def _forward(kind: type, name: str, target: Any) -> Callable[..., Any]:
    method = getattr(kind, name)

    def forwarded(_: Any, *args: Any, **kwargs: Any) -> Any:
        return method(target, *args, **kwargs)

    return forwarded
