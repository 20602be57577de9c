"""``observe``: each call of a function becomes an observation, and the function stays what it is."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from contextvars import Token
from types import AsyncGeneratorType, BuiltinFunctionType, CoroutineType, FunctionType, GeneratorType, MethodType
from typing import Any, Final, NamedTuple, TypeVar, cast, overload

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from otel_langfuse import attributes as names
from otel_langfuse import picture
from otel_langfuse.config import observes_io
from otel_langfuse.propagation import _detach as detach
from otel_langfuse.propagation import set_attributes

from . import _ending, _streams
from ._calls import MARK, Arguments
from ._origin import NOTES, origin, unsampled, within
from ._proxy import observed_object
from ._streams import Stream
from .fields import ObservationType
from .observation import begun

_F = TypeVar("_F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")

_SPECIAL: Final = frozenset({"langfuse_trace_id", "langfuse_parent_observation_id", "langfuse_public_key"})
"""Keyword arguments of a call that are for us, not for the function, unless it has such parameters itself."""

_GOES_ON: Final = frozenset({GeneratorType, AsyncGeneratorType, CoroutineType})


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
    ``langfuse_parent_observation_id=`` (16), which the function does not see.

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
    choice = _Choice(name, as_type or "span", takes_input, takes_output, transform_to_string)
    if func is None:
        return lambda function: cast("_F", _observed(function, choice))
    return cast("_F", _observed(func, choice))


class _Choice(NamedTuple):
    """What ``observe`` was told."""

    name: str | None
    as_type: str
    capture_input: bool
    capture_output: bool
    transform: Callable[[Iterable[Any]], str] | None


# -- kinds of what can be called -----------------------------------------------------------------------------------------------


def _observed(target: Any, choice: _Choice) -> Any:
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


def _partial(target: Any, choice: _Choice) -> Any:
    made = functools.partial(_observed(target.func, choice), *target.args, **target.keywords)
    made.__dict__.update(target.__dict__)
    return made


def _class(target: type, choice: _Choice) -> type:
    """The same class, the public methods that it defines itself observed. Fields that hold functions are no methods."""
    fields = inspect.get_annotations(target)
    for name, held in list(target.__dict__.items()):
        inner = getattr(held, "__func__", held) if isinstance(held, (classmethod, staticmethod)) else held
        if name.startswith("_") or name in fields or not isinstance(inner, FunctionType) or hasattr(inner, MARK):
            continue
        setattr(target, name, _observed(held, choice._replace(name=f"{choice.name or target.__name__}.{name}")))
    return target


def _function(target: Callable[..., Any], choice: _Choice, *, bound: bool = False) -> Callable[..., Any]:
    """A function in place of a function, of the same kind as ``inspect`` sees it."""
    calls = _Calls(target, choice, bound=bound)
    make = next((make for asks, make in _KINDS if asks(target)), _plain)
    made = functools.update_wrapper(make(calls), target)
    for name in ("cache_info", "cache_clear", "cache_parameters"):  # what functools.lru_cache gives its functions
        if name not in made.__dict__ and hasattr(target, name):
            setattr(made, name, getattr(target, name))
    setattr(made, MARK, calls.arguments)
    return made


class _Calls:
    """The calls of one function: what they have in common, and how one begins and returns."""

    __slots__ = ("_as_type", "_capture_input", "_capture_output", "_name", "_special", "_transform", "arguments", "target")

    def __init__(self, target: Callable[..., Any], choice: _Choice, *, bound: bool) -> None:
        self.target = target
        self.arguments = Arguments(target, bound=bound)
        self._name = choice.name or getattr(target, "__name__", type(target).__name__)
        self._as_type = choice.as_type
        self._capture_input = choice.capture_input
        self._capture_output = choice.capture_output
        self._transform = choice.transform
        self._special = frozenset(name for name in _SPECIAL if not self.arguments.has(name))

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Span, Context] | None:
        """The span of one call, and the context that it is current in; None where nothing is recorded. Never raises.

        Takes out of ``kwargs`` what is not meant for the function.
        """
        special = kwargs and not self._special.isdisjoint(kwargs) and self._taken(kwargs)
        found = origin()
        if found is None:
            return None
        context = otel_context.get_current()
        if found.inherits and not special and unsampled(context) is not None:
            return None
        try:
            fields: dict[str, Any] = {}
            if special:
                fields["trace_context"] = special
            if self._capture_input and (recorded := self.arguments.recorded(args, kwargs)):
                fields["input"] = recorded
            span = begun(self._name, self._as_type, context, fields)
            return None if span is INVALID_SPAN else (span, within(span, context))
        except Exception as error:  # noqa: BLE001 - the program goes on, unobserved
            NOTES.note("observe", f"a call is not recorded: {type(error).__name__}")
            return None

    def _taken(self, kwargs: dict[str, Any]) -> dict[str, Any] | None:
        taken = {name: kwargs.pop(name) for name in self._special if name in kwargs}
        trace_id = taken.get("langfuse_trace_id")
        return trace_id and {"trace_id": trace_id, "parent_span_id": taken.get("langfuse_parent_observation_id")}

    def stream(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Stream | None]:
        """The generator that the function makes, and what records it."""
        started = self.begin(args, kwargs)
        stream = None if started is None else self._stream(*started)
        try:
            return self.target(*args, **kwargs), stream
        except BaseException as error:  # other arguments than it takes
            if stream is not None:
                stream.fail(error)
            raise

    def returned(self, span: Span, context: Context, result: Any) -> Any:
        """Records what was returned and ends the span, unless it goes on: then what stands in for it. Never raises."""
        try:
            kind = type(result)
            if kind in _GOES_ON:
                return self._going_on(self._stream(span, context), result)
            if _is_streaming_response(result):
                stream = self._stream(span, context)
                body = result.body_iterator
                generator = body if type(body) is AsyncGeneratorType else _streams.OnlyIterator(body)
                result.body_iterator = _streams.async_generator_function(lambda *_: (generator, stream))()
                return result
            if result is not None and self._capture_output and span.is_recording():
                set_attributes(span, {names.OBSERVATION_OUTPUT: picture.text(result)})
        except Exception as error:  # noqa: BLE001 - the caller gets its result
            NOTES.note("output", f"an output is not recorded: {type(error).__name__}")
        _ending.end(span)
        return result

    def _stream(self, span: Span, context: Context) -> Stream:
        return Stream(span, context, capture=self._capture_output, transform=self._transform)

    def _going_on(self, stream: Stream, result: Any) -> Any:
        """A generator or coroutine that the function has returned, followed to its end."""
        kind = type(result)
        if kind is CoroutineType:
            made: Any = _streams.followed(result, stream, self.returned)
        else:
            make: Any = _streams.generator_function if kind is GeneratorType else _streams.async_generator_function
            made = make(lambda *_: (result, stream))()
        made.__name__, made.__qualname__ = result.__name__, result.__qualname__
        return made


def _is_streaming_response(result: Any) -> bool:
    """Whether a web framework will iterate over the body of this response after the function has returned."""
    module = sys.modules.get("starlette.responses")
    return module is not None and isinstance(result, module.Response) and "body_iterator" in vars(result)


# -- the four kinds of functions -----------------------------------------------------------------------------------------------


def _plain(calls: _Calls) -> Callable[..., Any]:
    def observed(*args: Any, **kwargs: Any) -> Any:
        started = calls.begin(args, kwargs)
        if started is None:
            return calls.target(*args, **kwargs)
        span, context = started
        token: Token[Context] = otel_context.attach(context)
        try:
            result = calls.target(*args, **kwargs)
        except BaseException as error:
            detach(token)
            _ending.record(span, error)
            _ending.end(span)
            raise
        detach(token)
        return calls.returned(span, context, result)

    return observed


def _coroutine(calls: _Calls) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def observed(*args: Any, **kwargs: Any) -> Any:
        started = calls.begin(args, kwargs)
        if started is None:
            return await calls.target(*args, **kwargs)
        span, context = started
        token: Token[Context] = otel_context.attach(context)
        try:
            result = await calls.target(*args, **kwargs)
        except BaseException as error:
            detach(token)
            _ending.record(span, error)
            _ending.end(span)
            raise
        detach(token)
        return calls.returned(span, context, result)

    return observed


def _generator(calls: _Calls) -> Callable[..., Generator[Any, Any, Any]]:
    return _streams.generator_function(calls.stream)


def _async_generator(calls: _Calls) -> Callable[..., AsyncGenerator[Any, Any]]:
    return _streams.async_generator_function(calls.stream)


_KINDS: Final[tuple[tuple[Callable[[Any], bool], Callable[[_Calls], Callable[..., Any]]], ...]] = (
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.isgeneratorfunction, _generator),
    (inspect.iscoroutinefunction, _coroutine),
)
