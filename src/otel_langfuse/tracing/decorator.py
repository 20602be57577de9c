"""``observe``: each call of a function becomes an observation, and the function stays what it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, TypeVar, cast, overload

from otel_langfuse.config import observes_io

from ._arguments import MARK
from ._observed import KINDS, Calls, Choice, plain
from ._proxy import observed_object
from .fields import ObservationType

_F = TypeVar("_F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")


@overload
def observe(func: _F) -> _F: ...


@overload
def observe(
    func: None = None,
    *,
    name: str | None = None,
    as_type: ObservationType | None = None,
    capture_input: bool | None = None,
    capture_output: bool | None = None,
    transform_to_string: Callable[[Iterable[Any]], str] | None = None,
) -> Callable[[_F], _F]: ...


def observe(
    func: _F | None = None,
    *,
    name: str | None = None,
    as_type: ObservationType | None = None,
    capture_input: bool | None = None,
    capture_output: bool | None = None,
    transform_to_string: Callable[[Iterable[Any]], str] | None = None,
) -> _F | Callable[[_F], _F]:
    """Makes each call an observation: its arguments are the input, what it returns or yields is the output.

    For functions, coroutine functions, generators and async generators, methods, classmethods and staticmethods (above or
    below their decorators), partials, objects that can be called, and classes, whose public methods are observed then. What
    the function does, returns and raises, its signature and its kind do not change. A generator's observation begins with
    its first item, as its code does, and ends when it is exhausted, closed or gone; what its code does to OpenTelemetry's
    context holds within it, and not for the caller between two items.

    A call may name the trace that it belongs to by ``langfuse_trace_id=`` (32 hex digits) and
    ``langfuse_parent_observation_id=`` (16), and its project by ``langfuse_public_key=``; or as with the classic decorator, by
    any texts: ``langfuse_observation_id=`` (of the trace, if it begins one), ``langfuse_parent_trace_id=`` and
    ``langfuse_parent_observation_id=``. The function does not see them, unless it has such parameters itself.

    Args:
        func: what to observe; without it, a decorator.
        name: of the observations; by default the function's ``__name__``. For a class, what stands before the dot.
        as_type: of the observations; by default ``span``.
        capture_input: False: arguments are not recorded. None: as ``LANGFUSE_OBSERVE_DECORATOR_IO_CAPTURE_ENABLED`` says when
            the function is decorated; by default they are.
        capture_output: the same of what is returned or yielded.
        transform_to_string: the items of a stream (at most the first 10,000) -> the text to record of it; by default texts
            are joined, and everything else is a list.

    Raises:
        TypeError: it cannot be called. Nothing is raised later.
    """
    takes_input, takes_output = (observes_io() if asked is None else bool(asked) for asked in (capture_input, capture_output))
    choice = Choice(name, as_type or "span", takes_input, takes_output, transform_to_string)
    if func is None:
        return lambda function: cast("_F", _observed(function, choice))
    return cast("_F", _observed(func, choice))


# -- kinds of what can be called -----------------------------------------------------------------------------------------------


def _observed(target: Any, choice: Choice) -> Any:
    """What stands in for ``target``, of the same kind. First match wins."""
    if inspect.isclass(target):
        return _class(target, choice)
    if isinstance(target, classmethod):
        return classmethod(_function(target.__func__, choice, bound=True))
    if isinstance(target, staticmethod):
        return staticmethod(_observed(target.__func__, choice))
    if not callable(target):
        raise TypeError(f"observe({type(target).__name__}): expected a function, a class or another object that can be called")
    if type(target) is functools.partial:
        return _partial(target, choice)
    if isinstance(target, MethodType):
        return MethodType(_function(target.__func__, choice, bound=True), target.__self__)
    if isinstance(target, (FunctionType, BuiltinFunctionType)) or hasattr(type(target), "__get__"):
        return _function(target, choice)
    named = choice if choice.name else choice._replace(name=type(target).__name__)
    return observed_object(target, lambda call: _function(call, named))


def _partial(target: Any, choice: Choice) -> Any:
    made = functools.partial(_observed(target.func, choice), *target.args, **target.keywords)
    made.__dict__.update(target.__dict__)
    return made


def _class(target: type, choice: Choice) -> type:
    """The same class, the public methods that it defines itself observed. Fields that hold functions are no methods."""
    fields = inspect.get_annotations(target)
    for name, held in list(target.__dict__.items()):
        inner = getattr(held, "__func__", held) if isinstance(held, (classmethod, staticmethod)) else held
        if name.startswith("_") or name in fields or not isinstance(inner, FunctionType) or hasattr(inner, MARK):
            continue
        setattr(target, name, _observed(held, choice._replace(name=f"{choice.name or target.__name__}.{name}")))
    return target


def _function(target: Callable[..., Any], choice: Choice, *, bound: bool = False) -> Callable[..., Any]:
    """A function in place of a function, of the same kind as ``inspect`` sees it."""
    calls = Calls(target, choice, bound=bound)
    make = next((make for asks, make in KINDS if asks(target)), plain)
    made = functools.update_wrapper(make(calls), target)
    for name in ("cache_info", "cache_clear", "cache_parameters"):  # what functools.lru_cache gives its functions
        if name not in made.__dict__ and hasattr(target, name):
            setattr(made, name, getattr(target, name))
    setattr(made, MARK, calls.arguments)
    return made
