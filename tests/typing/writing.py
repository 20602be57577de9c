"""Typed user code of the writing side: `mypy --strict` and pyright read this file and must find nothing. It is never run."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from typing_extensions import assert_type

from otel_langfuse import (
    LangfuseGeneration,
    Observation,
    create_event,
    create_trace_id,
    get_client,
    get_current_observation_id,
    get_current_trace_id,
    get_trace_url,
    observe,
    propagate_attributes,
    start_as_current_observation,
    start_observation,
    update_current_generation,
    update_current_span,
    update_current_trace,
)


@start_as_current_observation("block", as_type="tool")
async def in_a_block(question: str) -> int:
    return len(question)


@observe
def function(question: str, limit: int = 3, *, strict: bool = False) -> list[str]:
    return [question] * limit if strict else []


@observe()
def with_parentheses(question: str) -> int:
    return len(question)


@observe(name="answer", as_type="generation", capture_input=False, capture_output=None, transform_to_string="".join)
async def coroutine(question: str) -> int:
    return len(question)


@observe
def generator(n: int) -> Iterator[str]:
    yield str(n)


@observe
async def async_generator(n: int) -> AsyncIterator[str]:
    yield str(n)


class Service:
    @observe
    def method(self, n: int) -> str:
        return str(n)

    @observe
    @classmethod
    def made(cls, n: int) -> Service:
        return cls()

    @classmethod
    @observe
    def made_otherwise(cls, n: int) -> Service:
        return cls()

    @observe
    @staticmethod
    def static(n: int) -> float:
        return float(n)

    @observe(as_type="tool")
    async def awaited(self) -> bytes:
        return b""


@observe
@dataclass
class Observed:
    n: int

    def double(self) -> int:
        return 2 * self.n


class Called:
    def __call__(self, n: int) -> str:
        return str(n)


async def types_are_the_functions_own() -> None:
    assert_type(function("?", strict=True), list[str])
    assert_type(with_parentheses("?"), int)
    assert_type(await coroutine("?"), int)
    assert_type(await in_a_block("?"), int)
    assert_type(generator(1), Iterator[str])
    assert_type([item async for item in async_generator(1)], list[str])
    service = Service()
    assert_type(service.method(1), str)
    assert_type(service.made(1), Service)
    assert_type(Service.made_otherwise(1), Service)
    assert_type(Service.static(1), float)
    assert_type(await service.awaited(), bytes)
    assert_type(Observed(1).double(), int)
    assert_type(observe(Called())(1), str)
    assert_type(observe(functools.partial(function, limit=1))("?"), list[str])
    expected: Callable[[str], Awaitable[int]] = coroutine
    print(expected)


def wrong_calls() -> None:
    function(1)  # type: ignore[arg-type]
    function("?", strickt=True)  # type: ignore[call-arg]
    with_parentheses()  # type: ignore[call-arg]
    Service().method("1")  # type: ignore[arg-type]
    Observed("1")  # type: ignore[arg-type]
    observe(as_type="agnet")(function)  # type: ignore[call-overload]
    observe(3)  # type: ignore[call-overload]


def by_hand() -> None:
    with start_as_current_observation(name="one", as_type="generation", model="toy-1", input=["?"]) as one:
        assert_type(one, Observation)
        assert_type(one.update(output="!", usage_details={"input": 1}, cost_details={"total": 0.1}), Observation)
        assert_type(one.start_observation("child", as_type="tool"), Observation)
        with one.start_as_current_observation("inner", level="debug") as inner:
            assert_type(inner, Observation)
        with one.start_as_current_generation("inner", model="toy-1") as generation:
            assert_type(generation, Observation)
        assert_type(one.start_span("child"), Observation)
        assert_type(one.create_event("event", metadata={"k": 1}), Observation)
        assert_type(one.update_trace(user_id="ada", tags=["a"]), Observation)
    assert_type(start_observation("two", trace_context={"trace_id": create_trace_id(seed="x")}).end(), Observation)
    assert_type(create_event(name="event"), Observation)
    update_current_span(output=1)
    update_current_generation(model="toy-1")
    update_current_trace(session_id="s", public=True)
    assert_type(get_current_trace_id(), str | None)
    assert_type(get_current_observation_id(), str | None)
    assert_type(get_trace_url(), str | None)


@propagate_attributes(user_id="ada", prompt={"name": "qa", "version": 1})
async def for_ada(question: str) -> int:
    return len(question)


async def by_the_client() -> None:
    langfuse = get_client()
    with langfuse.start_as_current_observation(name="one", as_type="generation", model="toy-1", end_on_exit=True) as one:
        assert_type(one, Observation)
        annotated: LangfuseGeneration = one
        print(annotated)
    with propagate_attributes(session_id="s", tags=["a"]):
        assert_type(langfuse.start_observation(name="two", as_type="tool", input=1), Observation)
    assert_type(langfuse.create_event(name="event", level="WARNING"), Observation)
    assert_type(await for_ada("?"), int)
    langfuse.start_observation(name="x", inptu=1)  # type: ignore[call-arg]
    langfuse.start_as_current_observation(name="x", as_type="agnet")  # type: ignore[arg-type]


def wrong_fields(one: Observation) -> None:
    one.update(ouput=1)  # type: ignore[call-arg]
    one.update(level=3)  # type: ignore[arg-type]
    start_observation("x", inptu=1)  # type: ignore[call-arg]
    start_observation("x", as_type="agnet")  # type: ignore[arg-type]
    start_as_current_observation(name="x", modle="toy-1")  # type: ignore[call-arg]
    update_current_span(ouput=1)  # type: ignore[call-arg]
    update_current_trace(usre_id="ada")  # type: ignore[call-arg]


def a_block_keeps_the_type_of_what_it_returns() -> str:
    with start_as_current_observation(name="one"):
        return "the body's own type is kept"
