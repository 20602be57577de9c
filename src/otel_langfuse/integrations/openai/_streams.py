"""Streamed answers, recorded while the application reads them. The stream object stays the one that the library made.

Its class becomes a subclass that also looks at what passes: so ``response``, ``close()``, ``with`` and everything that later
versions add are the library's own, ``isinstance`` holds, and nothing is read ahead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import lru_cache
from inspect import iscoroutinefunction
from json import loads
from time import time_ns
from typing import Any, Final

from otel_langfuse.tracing import Observation, _ending
from otel_langfuse.tracing._gone import Open
from otel_langfuse.tracing._origin import NOTES

from ._answered import answered
from ._pieces import pieces_of

_SLOT: Final = "_otel_langfuse_recording"


class Recording(Open):
    """What is recorded of one stream. Ends its observation once: at the stream's end, at ``close()``, or when it is gone.

    One that is gone, or that the process ends with, has ended with its last piece.
    """

    def __init__(self, generation: Observation, kind: str, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self._generation = generation
        self._parameters = parameters
        self._pieces = pieces_of(kind)
        self._began: datetime | None = None
        self._last_ns: int | None = None

    def add(self, item: Any) -> None:
        """Looks at a piece. Never raises."""
        try:
            self._last_ns = time_ns()
            self._pieces.add(item)
            if self._began is None and self._pieces.has_text:
                self._began = datetime.now(timezone.utc)
        except Exception as error:  # noqa: BLE001 - of a server that answers in another shape
            NOTES.note("openai stream", f"a piece of a streamed answer is not recorded: {type(error).__name__}")

    def finish(self, error: BaseException | None = None, end_ns: int | None = None) -> None:
        """The stream has come to its end, or fails with ``error``, which goes on to its reader. A second time does nothing."""
        if not self.take():
            return
        try:
            self._generation.update(**self._pieces.fields(self._parameters), completion_start_time=self._began)
        except Exception as trouble:  # noqa: BLE001 - of a server that answers in another shape
            NOTES.note("openai stream", f"a streamed answer is not recorded: {type(trouble).__name__}")
        if error is not None:
            _ending.record(self._generation.span, error)
        self._generation.end(end_time=end_ns)

    def settle(self) -> None:
        """Nobody reads on."""
        self.finish(end_ns=self._last_ns)


def record_stream(stream: Any, recording: Recording) -> Any:
    """The same stream, recorded."""
    vars(stream)[_SLOT] = recording
    stream.__class__ = _recorded(_class_of(stream))
    return stream


def _class_of(value: Any) -> Any:
    return type(value)


@lru_cache(maxsize=64)
def _recorded(kind: Any) -> type:
    bodies = _async_methods(kind) if hasattr(kind, "__anext__") else _sync_methods(kind)
    return type(kind.__name__, (kind,), {**bodies, "__module__": kind.__module__, "__qualname__": kind.__qualname__})


def _sync_methods(kind: Any) -> dict[str, Callable[..., Any]]:
    def __next__(self: Any) -> Any:  # noqa: N807
        recording: Recording = vars(self)[_SLOT]
        try:
            item = kind.__next__(self)
        except StopIteration:
            recording.finish()
            raise
        except BaseException as error:
            recording.finish(error)
            raise
        recording.add(item)
        return item

    def __iter__(self: Any) -> Iterator[Any]:  # noqa: N807
        while True:
            try:
                item = self.__next__()
            except StopIteration:
                return
            yield item

    def close(self: Any) -> Any:
        try:
            return kind.close(self)
        finally:
            vars(self)[_SLOT].finish()

    return {"__next__": __next__, "__iter__": __iter__, "close": close}


def _async_methods(kind: Any) -> dict[str, Callable[..., Any]]:
    async def __anext__(self: Any) -> Any:  # noqa: N807
        recording: Recording = vars(self)[_SLOT]
        try:
            item = await kind.__anext__(self)
        except StopAsyncIteration:
            recording.finish()
            raise
        except BaseException as error:
            recording.finish(error)
            raise
        recording.add(item)
        return item

    async def __aiter__(self: Any) -> AsyncIterator[Any]:  # noqa: N807
        while True:
            try:
                item = await self.__anext__()
            except StopAsyncIteration:
                return
            yield item

    async def close(self: Any) -> Any:  # ``aclose`` of newer versions calls it
        try:
            return await kind.close(self)
        finally:
            vars(self)[_SLOT].finish()

    return {"__anext__": __anext__, "__aiter__": __aiter__, "close": close}


# -- with_streaming_response -------------------------------------------------------------------------------------------------


class Body(Open):
    """What is recorded of an answer whose body the application reads as it likes: what it has read whole, when it is closed."""

    def __init__(self, generation: Observation, kind: str, parameters: Mapping[str, Any]) -> None:
        super().__init__()
        self._generation = generation
        self._kind = kind
        self._parameters = parameters

    def finish(self, response: Any = None) -> None:
        """The response is closed. Never raises."""
        if not self.take():
            return
        with suppress(Exception):  # it was not read, or only in part, or is no JSON
            found = loads(response.http_response.content)
            self._generation.update(**answered(self._kind, found, self._parameters))
        self._generation.end()

    def settle(self) -> None:
        """Nobody will close it."""
        self.finish()


def record_closing(response: Any, held: Recording | Body) -> Any:
    """The same response; when it is closed, what is recorded of it ends."""
    vars(response)[_SLOT] = held
    response.__class__ = _closing(_class_of(response))
    return response


@lru_cache(maxsize=64)
def _closing(kind: Any) -> type:
    def finish(self: Any) -> None:
        held = vars(self)[_SLOT]
        held.finish(*((self,) if isinstance(held, Body) else ()))

    def close(self: Any) -> Any:
        try:
            return kind.close(self)
        finally:
            finish(self)

    async def aclose(self: Any) -> Any:
        try:
            return await kind.close(self)
        finally:
            finish(self)

    body = {"close": aclose if iscoroutinefunction(kind.close) else close, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), {**body, "__qualname__": kind.__qualname__})
