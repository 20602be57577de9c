"""Generators and coroutines, followed step by step: their span is current while their code runs, and only then.

Between two items the caller's context is as it was: what is attached for a step is detached at its end, in the same task, and
what the code itself had attached until then is attached again for the next. So nothing is ever detached in a context that it
was not attached in, however a stream is driven: item by item, from several tasks, closed by another one, or abandoned.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Span

from otel_langfuse import attributes as names
from otel_langfuse import picture
from otel_langfuse.current import attach, current_context, detach

from . import _ending
from ._gone import settle_gone, settle_later, watch
from ._origin import NOTES

MAX_STREAM_ITEMS: Final = 10_000
"""Items of a stream that are recorded; of their text, ``picture.MAX_CHARACTERS``."""


class _Json(str):
    """The picture of an item that is no text."""

    __slots__ = ()


class Stream:
    """What is recorded of one call that goes on after it has returned. Ends its span once, at the latest when it is gone.

    ``context`` is the OpenTelemetry context in which the next step runs.
    """

    __slots__ = ("_all_text", "_characters", "_items", "_kept", "_span", "_transform", "context", "count")

    def __init__(
        self, span: Span, context: Context, *, capture: bool, transform: Callable[[Iterable[Any]], str] | None = None
    ) -> None:
        watch()
        settle_gone()
        self.context = context
        self.count = 0
        self._span: Span | None = span
        self._kept: list[Any] | None = [] if capture and span.is_recording() else None
        self._transform = transform
        self._all_text = True
        self._characters = 0

    def add(self, item: Any) -> None:
        """Records an item, as it is now. Only ``transform_to_string`` gets the items themselves."""
        kept = self._kept
        if kept is None:
            return
        self.count += 1
        if len(kept) >= MAX_STREAM_ITEMS or self._characters >= picture.MAX_CHARACTERS:
            return
        if self._transform is not None:
            kept.append(item)
            return
        piece = item if type(item) is str else _decoded(item)
        if piece is None:
            self._all_text = False
            piece = _Json(picture.json_text(item))
        self._characters += len(piece)
        kept.append(piece)

    def finish(self) -> None:
        """The stream has come to its end."""
        self._end(None)

    def fail(self, error: BaseException) -> None:
        """It ends with this exception, which goes on to whoever drives it."""
        self._end(error)

    def handed_on(self) -> tuple[Span, Context] | None:
        """The span, which somebody else will end from now on."""
        span, self._span = self._span, None
        return None if span is None else (span, self.context)

    def _end(self, error: BaseException | None) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        try:
            if self._kept:
                span.set_attribute(names.OBSERVATION_OUTPUT, self._output(self._kept))
        except Exception as trouble:  # noqa: BLE001 - the user's transform_to_string, or a foreign span
            NOTES.note("stream", f"the output of a stream is not recorded: {type(trouble).__name__}")
        self._kept = None
        if error is not None:
            _ending.record(span, error)
        _ending.end(span)

    def _output(self, kept: list[Any]) -> str:
        over = self.count - len(kept)
        marker = f"<cut: {over:,} more items>" if over else ""
        if self._transform is not None:
            return picture.text(self._transform(kept)) + marker
        if self._all_text:
            return picture.text("".join(kept)) + marker
        pieces = [*kept, marker] if marker else kept
        return f"[{','.join(piece if type(piece) is _Json else picture.json_text(piece) for piece in pieces)}]"

    def settle(self) -> None:
        """It was never iterated, or dropped where no event loop was left to close it."""
        self._end(None)

    def __del__(self) -> None:
        if self._span is not None:
            settle_later(self)


def _decoded(item: Any) -> str | None:
    """The text of a chunk of bytes, as web frameworks send it."""
    if isinstance(item, (bytes, bytearray)):
        try:
            return item.decode()
        except UnicodeDecodeError:
            return None
    return str.__str__(item) if isinstance(item, str) else None


Started = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[Any, Stream | None]"]
"""(args, kwargs) of a call -> the generator that it made, and what records it; None: nothing does."""


def generator_function(start: Started) -> Callable[..., Generator[Any, Any, Any]]:
    """A generator function whose generators do what those of ``start`` do.

    Whatever comes in goes on to the inner generator as it came, ``GeneratorExit`` too: so it may catch, answer and return as
    it likes, which ``yield from`` would not let it.
    """

    def observed(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator, stream = start(args, kwargs)
        step, value = generator.send, None
        while True:
            token = None if stream is None else attach(stream.context)
            try:
                item = step(value)
            except StopIteration as stop:
                if stream is not None:
                    stream.finish()
                return stop.value
            except BaseException as error:
                value = None  # else the exception, its traceback and this frame would hold each other
                if stream is not None:
                    stream.fail(error)
                raise
            finally:
                if stream is not None and token is not None:
                    stream.context = current_context()
                    detach(token)
            if stream is not None:
                stream.add(item)
            try:
                value = yield item
                step = generator.send
            except BaseException as error:  # noqa: BLE001 - it goes on to the inner generator
                step, value = generator.throw, error

    return observed


def async_generator_function(start: Started) -> Callable[..., AsyncGenerator[Any, Any]]:
    """The same for async generator functions. The inner one runs in the task that drives the outer one, and in no other."""

    async def observed(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator, stream = start(args, kwargs)
        step, value = _first_step(generator), None
        while True:
            token = None if stream is None else attach(stream.context)
            try:
                item = await step(value)
            except StopAsyncIteration:
                if stream is not None:
                    stream.finish()
                return
            except BaseException as error:
                value = None
                if stream is not None:
                    stream.fail(error)
                raise
            finally:
                if stream is not None and token is not None:
                    stream.context = current_context()
                    detach(token)
            if stream is not None:
                stream.add(item)
            try:
                value = yield item
                step = generator.asend
            except BaseException as error:  # noqa: BLE001 - it goes on to the inner generator
                step, value = generator.athrow, error

    return observed


def _first_step(generator: Any) -> Callable[[Any], Awaitable[Any]]:
    """The first step, made while the event loop does not look: the inner generator is the outer one's to close.

    A loop that knows of both closes them side by side at its end, and complains of the one that is closing already.
    """

    def step(value: Any) -> Awaitable[Any]:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            awaitable: Awaitable[Any] = generator.asend(value)
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return awaitable

    return step


class OnlyIterator:
    """An async iterator that is no generator, driven as if it were one."""

    def __init__(self, iterator: Any) -> None:
        self._next = iterator.__aiter__().__anext__
        self._close = getattr(iterator, "aclose", None)

    async def asend(self, value: Any) -> Any:  # noqa: ARG002 - it takes none
        return await self._next()

    async def athrow(self, error: BaseException) -> Any:
        if self._close is not None:
            await self._close()
        raise error


async def followed(coroutine: Coroutine[Any, Any, Any], stream: Stream, returned: Callable[[Span, Context, Any], Any]) -> Any:
    """A coroutine that was returned by a function, awaited under that function's span."""
    token = attach(stream.context)
    try:
        result = await coroutine
    except BaseException as error:
        stream.fail(error)
        raise
    finally:
        detach(token)
    held = stream.handed_on()
    return result if held is None else returned(*held, result)
