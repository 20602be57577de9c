"""OpenTelemetry's current context, by the shortest way.

``opentelemetry.context`` asks its runtime, which asks a ``ContextVar``: three calls where one does, several times for each
span. Where the runtime is another one, or keeps the context elsewhere, it is asked as everybody asks it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import update_wrapper
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

_LOGGER: Final = logging.getLogger("otel_langfuse")
_F = TypeVar("_F", bound="Callable[..., Any]")


def _ways() -> tuple[Callable[[], Context], Callable[[Context], Any], Callable[[Any], object]]:
    runtime: Any = getattr(otel_context, "_RUNTIME_CONTEXT", None)
    if runtime is None:
        return otel_context.get_current, otel_context.attach, otel_context.detach
    held = getattr(runtime, "_current_context", None)
    if type(runtime) is ContextVarsRuntimeContext and type(held) is ContextVar:
        return held.get, held.set, held.reset
    return runtime.get_current, runtime.attach, runtime.detach


current_context, attach, _reset = _ways()
"""As ``opentelemetry.context.get_current`` and ``attach``."""


def detach(token: Any) -> None:
    """As ``opentelemetry.context.detach``, but silent where a generator is closed in another task: that one logs an error."""
    try:
        _reset(token)
    except Exception:  # noqa: BLE001 - the context that this belongs to is gone, and the values with it
        _LOGGER.debug("otel-langfuse: a block ended in another context than it began in")


class Block:
    """A context that is current inside of a ``with``, made when that begins.

    As a decorator, around each call of a function, and around all of a coroutine function, which ``contextlib.contextmanager``
    would leave before its first step. A generator function is only called in it: its code runs when somebody iterates, wherever
    that is.
    """

    __slots__ = ("_made", "_tokens")

    def __init__(self, made: Callable[[], Context]) -> None:
        self._made = made
        self._tokens: list[Any] = []  # one for each time that it is entered within itself

    def __enter__(self) -> None:
        self._tokens.append(attach(self._made()))

    def __exit__(self, *raised: object) -> None:
        detach(self._tokens.pop())

    def __call__(self, function: _F) -> _F:
        """The same function, each of whose calls is in such a block."""
        made = self._made

        def called(*args: Any, **kwargs: Any) -> Any:
            with Block(made):
                return function(*args, **kwargs)

        async def called_async(*args: Any, **kwargs: Any) -> Any:
            with Block(made):
                return await function(*args, **kwargs)

        return cast("_F", update_wrapper(called_async if iscoroutinefunction(function) else called, function))
