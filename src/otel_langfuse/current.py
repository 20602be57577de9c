"""OpenTelemetry's current context, by the shortest way.

``opentelemetry.context`` asks its runtime, which asks a ``ContextVar``: three calls where one does, several times for each
span. Where the runtime is another one, or keeps the context elsewhere, it is asked as everybody asks it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

_LOGGER: Final = logging.getLogger("otel_langfuse")


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
