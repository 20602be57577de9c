"""Calls of the openai library as generations and embeddings: ``from otel_langfuse.openai import openai``.

``instrument()`` puts a function in front of each method of ``_METHODS``, for all clients of the process, those that exist, too.
What a call does, returns and raises does not change; where nothing is recorded it is the library's own call and nothing else.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple

from ._asked import OWN
from ._calls import Call, begun
from ._module import add_functions, remove_functions


class _Method(NamedTuple):
    """A method of a resource, and what kind of call it is."""

    kind: str
    module: str
    classes: tuple[str, ...]
    names: tuple[str, ...]


_CHAT: Final = ("Completions", "AsyncCompletions")

_METHODS: Final = (
    _Method("chat", "openai.resources.chat.completions", _CHAT, ("create", "parse")),
    _Method("chat", "openai.resources.beta.chat.completions", _CHAT, ("parse",)),  # before 1.92
    _Method("completion", "openai.resources.completions", _CHAT, ("create",)),
    _Method("responses", "openai.resources.responses", ("Responses", "AsyncResponses"), ("create", "parse")),
    _Method("embedding", "openai.resources.embeddings", ("Embeddings", "AsyncEmbeddings"), ("create",)),
)
"""Everything else that the library offers for these (``stream``, ``with_raw_response`` ...) calls one of them."""

_MARK: Final = "__otel_langfuse_original__"
_lock: Final = threading.Lock()


def instrument() -> None:
    """Records calls of the openai library from now on. A second time does nothing."""
    with _lock:
        for kind, owner, name in _targets():
            original = vars(owner)[name]
            if not hasattr(original, _MARK):
                setattr(owner, name, _observed(original, kind))
        add_functions()


def uninstrument() -> None:
    """Records none from now on. What another library has put around ours meanwhile stays, and ours inside of it."""
    with _lock:
        for _, owner, name in _targets():
            ours = vars(owner)[name]
            if inspect.isfunction(ours) and hasattr(ours, _MARK):
                setattr(owner, name, getattr(ours, _MARK))
        remove_functions()


def _targets() -> list[tuple[str, type, str]]:
    found: dict[tuple[type, str], str] = {}
    for kind, module, classes, names in _METHODS:
        try:
            holder = import_module(module)
        except ImportError:  # of another version
            continue
        owners = [owner for name in classes if isinstance(owner := getattr(holder, name, None), type)]
        found |= {(owner, name): kind for owner in owners for name in names if name in vars(owner)}
    return [(kind, owner, name) for (owner, name), kind in found.items()]


def _observed(original: Callable[..., Any], kind: str) -> Callable[..., Any]:
    own = _own(original)

    def observed(self: Any, *args: Any, **kwargs: Any) -> Any:
        with begun(kind, kwargs, own) as call:
            result = original(self, *args, **kwargs)
        return call.returned(result)

    def observed_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Of an asynchronous client, most of whose methods are no coroutine functions, but return coroutines."""
        call = begun(kind, kwargs, own)
        return followed(call, original(self, *args, **kwargs))

    async def observed_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await observed_call(self, *args, **kwargs)

    async def followed(call: Call, awaitable: Any) -> Any:
        with call:
            result = await awaitable
        return await call.returned_async(result)

    is_async = original.__qualname__.startswith("Async")
    made = observed_async if inspect.iscoroutinefunction(original) else observed_call if is_async else observed
    functools.update_wrapper(made, original)
    setattr(made, _MARK, original)
    return made


def _own(original: Callable[..., Any]) -> frozenset[str]:
    """The arguments that are for us: not those that the method has itself, but for ``metadata``."""
    try:
        return frozenset(OWN) - (inspect.signature(original).parameters.keys() - {"metadata"})
    except (ValueError, TypeError):  # somebody's object
        return frozenset(OWN)
