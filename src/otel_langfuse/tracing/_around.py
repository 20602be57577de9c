"""A block around each call of a function: ``start_as_current_observation`` as a decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import copy_context
from copy import copy
from typing import Any

from opentelemetry import context as otel_context

from . import _streams


def around_calls(block: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the same kind, each of whose calls is a block like this one. That of a generator is around its steps."""
    if inspect.iscoroutinefunction(function):

        async def called_async(*args: Any, **kwargs: Any) -> Any:
            with copy(block):
                return await function(*args, **kwargs)

        return functools.update_wrapper(called_async, function)

    def called(*args: Any, **kwargs: Any) -> Any:
        with copy(block):
            return function(*args, **kwargs)

    def stream(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, _streams.Stream | None]:
        observation, context = copy_context().run(_entered, copy(block))  # so nothing is attached here
        recording = observation.span.is_recording()
        return function(*args, **kwargs), _streams.Stream(observation.span, context, capture=False) if recording else None

    if inspect.isasyncgenfunction(function):
        return functools.update_wrapper(_streams.async_generator_function(stream), function)
    if inspect.isgeneratorfunction(function):
        return functools.update_wrapper(_streams.generator_function(stream), function)
    return functools.update_wrapper(called, function)


def _entered(block: Any) -> tuple[Any, otel_context.Context]:
    return block.__enter__(), otel_context.get_current()
