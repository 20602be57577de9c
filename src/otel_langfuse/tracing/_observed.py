"""The calls of an observed function: how the observation of one begins, and how it ends. None of this raises."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from contextvars import Token
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from otel_langfuse import attributes as names
from otel_langfuse import picture
from otel_langfuse.current import attach, current_context, detach
from otel_langfuse.propagation import set_attributes

from . import _ending, _streams
from ._arguments import Arguments
from ._named import SPECIAL, begun_as_named, taken
from ._origin import NOTES, origin, unsampled, within
from ._spans import begun
from ._streams import Stream

_GOES_ON: Final = frozenset({GeneratorType, AsyncGeneratorType, CoroutineType})


class Choice(NamedTuple):
    """What ``observe`` was told."""

    name: str | None
    as_type: str
    capture_input: bool
    capture_output: bool
    transform: Callable[[Iterable[Any]], str] | None


class Calls:
    """The calls of one function: what they have in common, and how one begins and returns."""

    __slots__ = ("_as_type", "_capture_input", "_capture_output", "_name", "_special", "_transform", "arguments", "target")

    def __init__(self, target: Callable[..., Any], choice: Choice, *, bound: bool) -> None:
        self.target = target
        self.arguments = Arguments(target, bound=bound)
        self._name = choice.name or getattr(target, "__name__", type(target).__name__)
        self._as_type = choice.as_type
        self._capture_input = choice.capture_input
        self._capture_output = choice.capture_output
        self._transform = choice.transform
        self._special = frozenset(name for name in SPECIAL if not self.arguments.has(name))

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Span, Context] | None:
        """The span of one call, and the context that it is current in; None where nothing is recorded. Never raises.

        Takes out of ``kwargs`` what is not meant for the function.
        """
        said = kwargs and not self._special.isdisjoint(kwargs) and taken(kwargs, self._special)
        found = origin()
        if found is None:
            return None
        context = current_context()
        if found.inherits and not said and unsampled(context) is not None:
            return None
        try:
            fields: dict[str, Any] = {}
            if self._capture_input and (recorded := self.arguments.recorded(args, kwargs)):
                fields["input"] = recorded
            if said:
                span, context = begun_as_named(self._name, self._as_type, context, fields, said)
            else:
                span = begun(self._name, self._as_type, context, fields)
            return None if span is INVALID_SPAN else (span, within(span, context))
        except Exception as error:  # noqa: BLE001 - the program goes on, unobserved
            NOTES.note("observe", f"a call is not recorded: {type(error).__name__}")
            return None

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


def _failed(span: Span, token: Token[Context], error: BaseException) -> None:
    """Ends the span of a call that has raised. The caller's context is as before."""
    detach(token)
    _ending.record(span, error)
    _ending.end(span)


def plain(calls: Calls) -> Callable[..., Any]:
    def observed(*args: Any, **kwargs: Any) -> Any:
        started = calls.begin(args, kwargs)
        if started is None:
            return calls.target(*args, **kwargs)
        span, context = started
        token: Token[Context] = attach(context)
        try:
            result = calls.target(*args, **kwargs)
        except BaseException as error:
            _failed(span, token, error)
            raise
        detach(token)
        return calls.returned(span, context, result)

    return observed


def _coroutine(calls: Calls) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def observed(*args: Any, **kwargs: Any) -> Any:
        started = calls.begin(args, kwargs)
        if started is None:
            return await calls.target(*args, **kwargs)
        span, context = started
        token: Token[Context] = attach(context)
        try:
            result = await calls.target(*args, **kwargs)
        except BaseException as error:
            _failed(span, token, error)
            raise
        detach(token)
        return calls.returned(span, context, result)

    return observed


def _generator(calls: Calls) -> Callable[..., Generator[Any, Any, Any]]:
    return _streams.generator_function(calls.stream)


def _async_generator(calls: Calls) -> Callable[..., AsyncGenerator[Any, Any]]:
    return _streams.async_generator_function(calls.stream)


KINDS: Final[tuple[tuple[Callable[[Any], bool], Callable[[Calls], Callable[..., Any]]], ...]] = (
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.isgeneratorfunction, _generator),
    (inspect.iscoroutinefunction, _coroutine),
)
