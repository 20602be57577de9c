"""Spans of a provider that is not the SDK's, and that refuse all that they are told: nothing of that reaches the application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, TracerProvider

import otel_langfuse
from otel_langfuse import observe, propagate_attributes, start_as_current_observation, start_observation
from otel_langfuse.decorators import langfuse_context
from otel_langfuse.propagation import propagated_attributes
from otel_langfuse.tracing import register


class Refusing(NonRecordingSpan):
    """A span that says it records, and raises whenever it is told something."""

    def is_recording(self) -> bool:
        return True

    def _refuse(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("no")

    end = set_attribute = set_attributes = add_event = update_name = set_status = record_exception = _refuse  # type: ignore[assignment]


class RefusingTracer(Tracer):
    def start_span(self, name: str, context: Context | None = None, *_: Any, **__: Any) -> Any:
        return Refusing(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)))

    start_as_current_span = start_span


class RefusingProvider(TracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        return RefusingTracer()


@pytest.fixture
def refusing() -> Iterator[None]:
    register(provider=RefusingProvider())
    yield
    register()


TOLD: dict[str, Callable[[], Any]] = {
    "update_current_span": lambda: otel_langfuse.update_current_span(output=1, level="ERROR"),
    "update_current_generation": lambda: otel_langfuse.update_current_generation(model="m", name="n"),
    "update_current_trace": lambda: otel_langfuse.update_current_trace(user_id="u", tags=["a"]),
    "set_current_trace_as_public": otel_langfuse.set_current_trace_as_public,
    "create_event": lambda: otel_langfuse.create_event("e"),
    "classic": lambda: langfuse_context.update_current_observation(usage={"input": 1}, user_id="u", name="n"),
}


@pytest.mark.usefixtures("refusing")
@pytest.mark.parametrize("told", TOLD)
def test_what_a_span_refuses_costs_only_a_line(told: str, caplog: pytest.LogCaptureFixture) -> None:
    with start_as_current_observation(name="outer") as outer:
        TOLD[told]()
        outer.update(output=1).update_trace(user_id="u").start_observation("inner").end()
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert all("RuntimeError" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("refusing")
def test_propagated_attributes_hold_although_the_current_span_refuses_them(caplog: pytest.LogCaptureFixture) -> None:
    with start_as_current_observation(name="outer"), propagate_attributes(user_id="u"):
        assert propagated_attributes() == {"user.id": "u"}
    assert "propagate_attributes: the current span does not take it: RuntimeError" in caplog.text


@pytest.mark.usefixtures("refusing")
def test_observed_functions_of_every_kind_do_what_they_did() -> None:
    @observe
    def items() -> Iterator[int]:
        yield 1

    @observe
    async def async_items() -> AsyncIterator[int]:
        yield 2

    @observe
    async def coroutine() -> list[int]:
        return [item async for item in async_items()]

    @observe
    def failing() -> None:
        raise ValueError("It broke.")

    assert list(items()) == [1]
    assert asyncio.run(coroutine()) == [2]
    with pytest.raises(ValueError, match="It broke"):
        failing()
    start_observation("by hand", level="ERROR").end()
