"""Observed generators: driven in every way, they do what they did; the caller's context is its own between two items."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import anyio
import fastapi
import pytest
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode

from conftest import Recorder
from otel_langfuse import get_current_observation_id, observe, picture, start_as_current_observation
from otel_langfuse.tracing import _streams


@pytest.fixture(autouse=True)
def _no_complaint(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No "Failed to detach context" and no "Task exception was never retrieved" anywhere, and no word of ours here."""
    yield
    gc.collect()
    here = threading.get_ident()  # threads of other tests may still be at it
    complaints = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING
        and (
            record.name.startswith(("opentelemetry.context", "asyncio"))
            or (record.name == "otel_langfuse" and record.thread == here)
        )
    ]
    assert complaints == []


def with_or_without(code: Callable[..., Any]) -> list[Callable[..., Any]]:
    return [code, observe(code)]


# -- send, throw, close ------------------------------------------------------------------------------------------------------


def talkative() -> Iterator[Any]:
    """Answers whatever comes in, and says how it ended."""
    received: list[Any] = []
    try:
        while True:
            try:
                received.append((yield len(received)))
            except KeyError as error:
                received.append(str(error))
            if len(received) == 4:
                return received
    finally:
        received.append("end")


async def talkative_async() -> AsyncIterator[Any]:
    received: list[Any] = []
    while len(received) < 4:
        await asyncio.sleep(0)
        try:
            received.append((yield list(received)))
        except KeyError as error:
            received.append(str(error))


def converse(made: Any) -> list[Any]:
    said: list[Any] = [next(made), made.send("a"), made.throw(KeyError("k")), next(made)]
    try:
        made.send("z")
    except StopIteration as stop:
        said.append(stop.value)
    said.append(next(made, "over"))
    return said


async def converse_async(made: Any) -> list[Any]:
    said: list[Any] = [await made.__anext__(), await made.asend("a"), await made.athrow(KeyError("k")), await made.__anext__()]
    with contextlib.suppress(StopAsyncIteration):
        await made.asend("z")
    said.append(await anext(made, "over"))
    return said


def test_a_generator_is_sent_to_thrown_into_and_returns(recorder: Recorder) -> None:
    plain, observed = (converse(code()) for code in with_or_without(talkative))
    assert observed == plain == [0, 1, 2, 3, ["a", "'k'", None, "z", "end"], "over"]
    assert recorder.fields()["output"] == "[0,1,2,3]"
    assert "level" not in recorder.fields()


def test_an_async_generator_is_sent_to_and_thrown_into(recorder: Recorder) -> None:
    plain, observed = (asyncio.run(converse_async(code())) for code in with_or_without(talkative_async))
    assert observed == plain
    assert "level" not in recorder.fields()


def stubborn() -> Iterator[int]:
    try:
        yield 1
    except GeneratorExit:
        yield 2  # which Python forbids


def test_closing_says_what_the_generator_says(recorder: Recorder) -> None:
    for code in with_or_without(stubborn):
        made = code()
        next(made)
        with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
            made.close()


def test_a_generator_may_return_when_it_is_closed(recorder: Recorder) -> None:
    @observe
    def polite() -> Iterator[int]:
        try:
            yield 1
        except GeneratorExit:
            return

    made = polite()
    next(made)
    made.close()
    made.close()
    assert recorder.fields()["output"] == "[1]"


@pytest.mark.parametrize("ending", ["close", "throw", "gone"])
def test_a_stream_that_is_not_read_to_its_end_is_recorded_once_with_what_came(ending: str, recorder: Recorder) -> None:
    @observe
    def items() -> Iterator[str]:
        yield "a"
        yield "b"
        yield "c"

    made = items()
    assert [next(made), next(made)] == ["a", "b"]
    if ending == "close":
        made.close()  # type: ignore[attr-defined]
    elif ending == "throw":
        with pytest.raises(ValueError, match="enough"):
            made.throw(ValueError("enough"))  # type: ignore[attr-defined]
    del made
    gc.collect()
    assert recorder.fields()["output"] == "ab"
    assert recorder.fields().get("level") == ("ERROR" if ending == "throw" else None)
    assert recorder.fields()["status_message"] == ("ValueError: enough" if ending == "throw" else "GeneratorExit")


def test_a_generator_that_is_never_started_runs_nothing_and_records_nothing(recorder: Recorder) -> None:
    for code in (talkative, talkative_async):
        observe(code)()
    gc.collect()
    assert recorder.spans == []


def test_a_generator_that_a_plain_function_has_made_and_nobody_starts_is_a_call_all_the_same(recorder: Recorder) -> None:
    observe(lambda: talkative())()  # noqa: PLW0108
    gc.collect()
    assert len(recorder.spans) == 1


class _Locking(SpanProcessor):
    """Holds a lock while a span ends, as exporters do."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        assert self.lock.acquire(timeout=5), "the garbage collector ran into it"
        self.ended.append(span.name)
        self.lock.release()


def test_the_garbage_collector_ends_no_span_while_somebody_holds_a_lock(recorder: Recorder) -> None:
    locking = _Locking()
    recorder.provider.add_span_processor(locking)

    @observe
    def returns(what: Any) -> Any:
        return what

    class Cycle:
        held: Any

    cycle = Cycle()
    cycle.held = [returns(talkative()), cycle]  # which nobody starts, so that nothing but its being gone ends it
    del cycle
    with locking.lock:
        gc.collect()
        assert locking.ended == []
    returns(talkative()).close()
    assert locking.ended.count("returns") == 2


def test_a_context_manager_of_an_observed_generator(recorder: Recorder) -> None:
    @contextlib.contextmanager
    @observe
    def resource() -> Iterator[str]:
        with contextlib.suppress(KeyError):
            yield "it"

    with resource() as it:
        assert it == "it"
        raise KeyError("handled")
    with pytest.raises(ValueError, match="not handled"), resource():
        raise ValueError("not handled")
    assert [span.attributes.get("langfuse.observation.level") for span in recorder.spans] == [None, "ERROR"]


def test_an_async_context_manager_of_an_observed_generator(recorder: Recorder) -> None:
    @contextlib.asynccontextmanager
    @observe
    async def resource() -> AsyncIterator[str]:
        try:
            yield "it"
        except KeyError:
            await asyncio.sleep(0)

    async def main() -> None:
        async with resource():
            raise KeyError("handled")
        with pytest.raises(ValueError, match="not handled"):
            async with resource():
                raise ValueError("not handled")

    asyncio.run(main())
    assert [span.attributes.get("langfuse.observation.level") for span in recorder.spans] == [None, "ERROR"]


def test_yield_from_an_observed_generator(recorder: Recorder) -> None:
    @observe
    def inner() -> Iterator[int]:
        yield 1
        return "result"  # type: ignore[return-value]

    @observe
    def outer() -> Iterator[Any]:
        yield (yield from inner())  # type: ignore[misc]

    assert list(outer()) == [1, "result"]
    names = {span.context.span_id: span.name for span in recorder.spans}
    assert [names.get(span.parent.span_id if span.parent else 0) for span in recorder.spans] == ["outer", None]


# -- the context -------------------------------------------------------------------------------------------------------------


def test_within_the_generator_its_span_is_current_and_between_items_the_callers_is(recorder: Recorder) -> None:
    seen: list[tuple[str, str | None]] = []

    @observe
    def items() -> Iterator[int]:
        for number in range(2):
            seen.append(("in", get_current_observation_id()))
            with start_as_current_observation(name="held over a yield") as inner:
                seen.append(("inner", inner.id))
                yield number
                seen.append(("inner after", get_current_observation_id()))

    with start_as_current_observation(name="caller") as caller:
        for _ in items():
            assert get_current_observation_id() == caller.id
            with start_as_current_observation(name="between"):
                pass
        assert get_current_observation_id() == caller.id
    stream = trace.format_span_id(recorder.span("items").context.span_id)
    assert [one for one in seen if one[0] == "in"] == [("in", stream)] * 2
    assert [one[1] for one in seen if one[0] == "inner"] == [one[1] for one in seen if one[0] == "inner after"]
    parents = {span.name: trace.format_span_id(span.parent.span_id) for span in recorder.spans if span.parent}
    assert parents == {"held over a yield": stream, "between": caller.id, "items": caller.id}


def test_what_the_caller_sets_between_items_is_the_callers(recorder: Recorder) -> None:
    key = otel_context.create_key("mine")

    @observe
    def items() -> Iterator[Any]:
        while True:
            yield otel_context.get_value(key)

    made = items()
    assert next(made) is None
    token = otel_context.attach(otel_context.set_value(key, "outer"))
    assert next(made) is None, "it began before"
    assert otel_context.get_value(key) == "outer"
    otel_context.detach(token)
    made.close()  # type: ignore[attr-defined]


def test_two_streams_in_turn_do_not_mix(recorder: Recorder) -> None:
    @observe
    def items(name: str) -> Iterator[str]:
        for _ in range(3):
            with start_as_current_observation(name=f"in {name}"):
                yield name

    for pair in zip(items("a"), items("b"), strict=True):
        assert pair == ("a", "b")
        assert get_current_observation_id() is None
    streams = {
        json.loads(span.attributes["langfuse.observation.input"])["name"]: span for span in recorder.spans if span.name == "items"
    }
    for span in recorder.spans:
        if span.name.startswith("in "):
            assert span.parent.span_id == streams[span.name[3:]].context.span_id


def test_a_stream_that_other_threads_and_tasks_drive(recorder: Recorder) -> None:
    @observe
    def items() -> Iterator[int]:
        with start_as_current_observation(name="over all threads"):
            yield from range(4)

    made = items()
    results: list[Any] = []
    for _ in range(5):
        thread = threading.Thread(target=lambda: results.append(next(made, "over")))
        thread.start()
        thread.join()
    assert results == [0, 1, 2, 3, "over"]

    @observe
    async def items_async() -> AsyncIterator[int]:
        with start_as_current_observation(name="over all tasks"):
            for number in range(4):
                yield number

    async def main() -> list[Any]:
        stream = items_async()
        return [await asyncio.create_task(anext(stream, "over")) for _ in range(5)]  # type: ignore[arg-type]

    assert asyncio.run(main()) == [0, 1, 2, 3, "over"]
    assert sorted(span.name for span in recorder.spans) == ["items", "items_async", "over all tasks", "over all threads"]
    assert all(span.status.status_code is StatusCode.UNSET for span in recorder.spans)


@pytest.mark.parametrize("how", ["another task closes it", "nobody closes it", "the loop ends", "cancelled"])
def test_an_async_stream_that_is_left(how: str, recorder: Recorder) -> None:
    finished: list[str] = []

    @observe
    async def items() -> AsyncIterator[str]:
        try:
            with start_as_current_observation(name="inner"):
                yield "a"
                await asyncio.sleep(60)
                yield "b"
        finally:
            finished.append("finally")

    async def main() -> None:
        stream: Any = items()
        assert await anext(stream) == "a"
        if how == "another task closes it":
            await asyncio.create_task(stream.aclose())
        elif how == "nobody closes it":
            del stream
            gc.collect()
            await asyncio.sleep(0.01)
        elif how == "cancelled":
            task = asyncio.create_task(anext(stream))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            keep.append(stream)
        assert get_current_observation_id() is None

    keep: list[Any] = []
    asyncio.run(main())
    assert finished == ["finally"]
    assert recorder.fields("items")["output"] == "a"
    said = "CancelledError" if how == "cancelled" else "GeneratorExit"
    assert recorder.fields("items")["status_message"] == said
    assert recorder.fields("inner")["status_message"] == said
    assert [span.name for span in recorder.spans] == ["inner", "items"]


# -- timeouts and cancellation: in the task of whoever drives it -------------------------------------------------------------


@observe
async def hangs() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(60)
    yield 2


@observe
async def hangs_within_a_scope() -> AsyncIterator[int]:
    yield 1
    with anyio.move_on_after(0.01):
        await anyio.sleep(60)
    yield 2


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with Python 3.11")
def test_a_timeout_around_a_stream_ends_it(recorder: Recorder) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):  # noqa: PT012 - all of it
            async with asyncio.timeout(0.02):
                async for _ in hangs():
                    pass

    asyncio.run(main())
    assert recorder.fields()["status_message"] == "CancelledError"
    assert recorder.fields()["level"] == "WARNING"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with Python 3.11")
def test_a_timeout_within_a_stream_is_seen_by_it(recorder: Recorder) -> None:
    @observe
    async def items() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(0.02):
                await asyncio.sleep(60)
        except TimeoutError:
            yield "in time"

    async def main() -> list[str]:
        return [item async for item in items()]

    assert asyncio.run(main()) == ["in time"]


@pytest.mark.parametrize("backend", ["asyncio"])
def test_cancel_scopes_within_and_around_a_stream(backend: str, recorder: Recorder) -> None:
    async def main() -> list[int]:
        found = [item async for item in hangs_within_a_scope()]
        with anyio.move_on_after(0.02) as scope:
            async for _ in hangs():
                pass
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            async for item in hangs_within_a_scope():
                found.append(item)
                group.start_soon(anyio.sleep, 0)
        return found

    assert anyio.run(main, backend=backend) == [1, 2, 1, 2]


def test_the_code_runs_in_the_task_that_drives_it(recorder: Recorder) -> None:
    @observe
    async def items() -> AsyncIterator[Any]:
        for _ in range(3):
            yield asyncio.current_task()

    async def main() -> None:
        assert [task async for task in items()] == [asyncio.current_task()] * 3

    asyncio.run(main())


# -- what is recorded --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "output"),
    [
        (["a", "b"], "ab"),
        ([], None),
        ([""], ""),
        ([b"data: 1\n", "é".encode()], "data: 1\né"),
        ([b"\xff\xfe"], "[\"b'\\\\xff\\\\xfe'\"]"),
        (["a", {"b": 1}, 2], '["a",{"b":1},2]'),
        ([{"a": [1]}, None], '[{"a":[1]},null]'),
    ],
)
def test_texts_are_joined_and_everything_else_is_a_list(items: list[Any], output: str | None, recorder: Recorder) -> None:
    assert list(observe(lambda: (item for item in items))()) == items
    assert recorder.fields().get("output") == output


def test_items_are_recorded_as_they_were_when_they_came(recorder: Recorder) -> None:
    @observe
    def items() -> Iterator[dict[str, int]]:
        for number in range(3):
            yield {"n": number}

    for item in items():
        item["n"] = 99
    assert recorder.fields()["output"] == '[{"n":0},{"n":1},{"n":2}]'


def test_what_is_recorded_of_a_stream_is_bounded(recorder: Recorder) -> None:
    @observe
    def text() -> Iterator[str]:
        for _ in range(200):
            yield "0123456789 " * 1_000  # 2.2 MB

    @observe
    def many() -> Iterator[int]:
        yield from range(_streams.MAX_STREAM_ITEMS + 5)

    assert sum(map(len, text())) == 2_200_000
    output = recorder.fields("text")["output"]
    assert len(output) < picture.MAX_CHARACTERS + 12_000
    assert output.endswith(" more items>")
    assert sum(1 for _ in many()) == _streams.MAX_STREAM_ITEMS + 5
    listed = json.loads(recorder.fields("many")["output"])
    assert (len(listed), listed[-1]) == (_streams.MAX_STREAM_ITEMS + 1, "<cut: 5 more items>")


def test_a_stream_is_not_kept_longer_than_the_bound(recorder: Recorder) -> None:
    class Chunk(str):
        __slots__ = ("__weakref__",)

    alive: list[int] = []

    @observe(transform_to_string="".join)
    def items() -> Iterator[str]:
        import weakref  # noqa: PLC0415

        chunks: weakref.WeakSet[Chunk] = weakref.WeakSet()
        for _ in range(300):
            chunk = Chunk("x" * 10_000)
            chunks.add(chunk)
            yield chunk
        alive.append(len(chunks))

    for _ in items():
        pass
    assert alive[0] <= 110, "a million characters, and what is just on its way"


def test_transform_to_string_gets_the_items(recorder: Recorder) -> None:
    @observe(transform_to_string=lambda items: "+".join(str(item["n"]) for item in items))
    def items() -> Iterator[dict[str, int]]:
        yield from ({"n": 1}, {"n": 2})

    list(items())
    assert recorder.fields()["output"] == "1+2"


def test_transform_to_string_that_raises_costs_the_output_only(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    @observe(transform_to_string=lambda items: 1 / 0)  # type: ignore[arg-type, return-value]
    def items() -> Iterator[int]:
        yield 1

    assert list(items()) == [1]
    assert set(recorder.fields()) == {"type"}
    assert recorder.span().status.status_code is StatusCode.UNSET
    assert caplog.messages == ["otel-langfuse: the output of a stream is not recorded: ZeroDivisionError"]
    caplog.clear()


# -- web frameworks ----------------------------------------------------------------------------------------------------------


CLOSED: list[str] = []


@observe
async def user(x_name: Annotated[str, fastapi.Header()] = "nobody") -> AsyncIterator[str]:
    try:
        yield x_name
    finally:
        CLOSED.append(x_name)


def application() -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get("/sync/{number}")
    @observe
    def sync(number: int, name: Annotated[str, fastapi.Depends(user)], q: str = "q") -> dict[str, Any]:
        return {"number": number, "name": name, "q": q}

    @app.get("/async/{number}")
    @observe
    async def asynchronous(number: int, request: fastapi.Request) -> dict[str, Any]:
        return {"number": number, "path": request.url.path}

    @app.get("/stream")
    @observe
    async def stream() -> StreamingResponse:
        @observe(name="words")
        async def words() -> AsyncIterator[str]:
            for word in ("a ", "b "):
                await asyncio.sleep(0)
                yield word

        return StreamingResponse(words(), media_type="text/plain")

    @app.get("/fails")
    @observe
    def fails() -> None:
        raise fastapi.HTTPException(418, "teapot")

    return app


def test_endpoints_and_dependencies_keep_their_signatures(recorder: Recorder) -> None:
    app = application()
    with TestClient(app) as client:
        assert client.get("/sync/none").status_code == 422
        recorder.clear()
        CLOSED.clear()
        made = client.get("/sync/3?q=x", headers={"x-name": "ada"})
        assert made.json() == {"number": 3, "name": "ada", "q": "x"}
        assert client.get("/async/4").json() == {"number": 4, "path": "/async/4"}
        assert client.get("/stream").text == "a b "
        assert client.get("/fails").status_code == 418
        parameters = {one["name"] for one in client.get("/openapi.json").json()["paths"]["/sync/{number}"]["get"]["parameters"]}
    assert parameters == {"number", "q", "x-name"}
    assert CLOSED == ["ada"]
    assert json.loads(recorder.fields("sync")["input"]) == {"number": 3, "name": "ada", "q": "x"}
    assert json.loads(recorder.fields("asynchronous")["input"]) == {
        "number": 4,
        "request": "<starlette.requests.Request object>",
    }
    assert recorder.fields("user")["output"] == "ada"
    assert recorder.fields("fails")["status_message"] == "HTTPException: 418: teapot"
    words, stream = recorder.span("words"), recorder.span("stream")
    assert (recorder.fields("words")["output"], recorder.fields("stream")["output"]) == ("a b ", "a b ")
    assert words.parent.span_id == stream.context.span_id
    assert stream.end_time >= words.end_time


def test_an_observed_stream_behind_a_response_of_an_endpoint_that_is_not_observed(recorder: Recorder) -> None:
    app = fastapi.FastAPI()

    @observe
    def words() -> Iterator[bytes]:
        yield b"a "
        yield b"b "

    @app.get("/")
    def endpoint() -> StreamingResponse:
        return StreamingResponse(words())

    with TestClient(app) as client:
        assert client.get("/").text == "a b "
    assert recorder.fields("words")["output"] == "a b "
