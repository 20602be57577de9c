"""Our own tracer asks a sampler only once about the children of sampled spans: it samples what it would sample without that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from otel_langfuse import LangfuseSampler, start_as_current_observation, start_observation
from otel_langfuse.tracing._origin import _state, origin, register
from otel_langfuse.tracing._sampling import Asked


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class Told(Sampler):
    """Counts how often it is asked."""

    def __init__(self, inner: Sampler) -> None:
        self.inner = inner
        self.asked = 0

    def should_sample(self, *args: Any, **more: Any) -> SamplingResult:
        self.asked += 1
        return self.inner.should_sample(*args, **more)

    def get_description(self) -> str:
        return self.inner.get_description()


@pytest.fixture
def of() -> Iterator[Any]:
    """Makes a provider with this sampler the one that observations come from."""

    def make(sampler: Sampler) -> Kept:
        kept = Kept()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(kept)
        register(provider=provider)
        return kept

    yield make
    register()


def under(flags: int, state: dict[str, str] | None = None, *, is_remote: bool = False) -> Any:
    context = SpanContext(
        7, 8, is_remote=is_remote, trace_flags=TraceFlags(flags), trace_state=None if state is None else TraceState(state.items())
    )
    return trace.use_span(NonRecordingSpan(context))


def test_a_sampler_is_asked_once_about_all_children_of_sampled_spans(of: Any) -> None:
    sampler = Told(ParentBased(ALWAYS_ON))
    kept = of(sampler)
    for _ in range(3):
        with start_as_current_observation("root"):
            for _ in range(5):
                with start_as_current_observation("child"):
                    start_observation("grandchild").end()
    assert sampler.asked == 3 + 1, "for each root, and for all below them"
    assert len(kept.spans) == 3 * 11
    assert all(span.context.trace_flags.sampled and not span.context.trace_state for span in kept.spans)


def test_what_other_parents_there_are_it_is_asked_about_each_time(of: Any) -> None:
    sampler = Told(ParentBased(ALWAYS_ON))
    kept = of(sampler)
    with start_as_current_observation("known"), start_as_current_observation("child"):
        pass
    before = sampler.asked
    with under(1, is_remote=True):
        start_observation("remote").end()
    with under(1, {"vendor": "x"}):
        start_observation("with a state").end()
    with under(0, is_remote=True):
        start_observation("not sampled").end()
    assert sampler.asked == before + 3
    assert {span.name: dict(span.context.trace_state) for span in kept.spans[2:]} == {
        "remote": {},
        "with a state": {"vendor": "x"},
    }


def test_below_a_parent_that_is_not_sampled_nothing_is(of: Any) -> None:
    kept = of(ParentBased(ALWAYS_ON))
    with start_as_current_observation("sampled"), start_as_current_observation("child"):
        pass
    with under(0):
        start_observation("none").end()
    assert [span.name for span in kept.spans] == ["child", "sampled"]


@pytest.mark.parametrize(
    ("sampler", "is_asked_once"),
    [
        (ParentBased(ALWAYS_ON), True),
        (ParentBased(TraceIdRatioBased(0.5)), True),
        (LangfuseSampler(0.5), True),
        (ParentBased(ALWAYS_ON, local_parent_sampled=ALWAYS_OFF), False),
        (ParentBased(ALWAYS_ON, local_parent_sampled=TraceIdRatioBased(0.5)), False),
        (ALWAYS_ON, False),
        (TraceIdRatioBased(0.5), False),
    ],
)
def test_only_samplers_that_sample_all_such_children_are_asked_once(sampler: Sampler, is_asked_once: bool, of: Any) -> None:
    of(sampler)
    start_observation("one").end()
    found = origin()
    assert found is not None
    assert (type(found.tracer.sampler) is Asked) is is_asked_once  # type: ignore[attr-defined]


class Own(Sampler):
    """Somebody's own, which says what the SDK's say and something more."""

    def should_sample(self, *args: Any, **more: Any) -> SamplingResult:
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return f"Own{{{ParentBased(ALWAYS_ON).get_description()}}}"


def test_a_sampler_of_somebody_else_is_asked_each_time(of: Any) -> None:
    kept = of(ParentBased(ALWAYS_ON, local_parent_sampled=Own()))
    with start_as_current_observation("root"):
        start_observation("child").end()
    assert [span.name for span in kept.spans] == ["root"]


def test_other_tracers_of_the_provider_keep_their_sampler(of: Any) -> None:
    sampler = ParentBased(ALWAYS_ON)
    of(sampler)
    start_observation("one").end()
    assert _state.provider.get_tracer("theirs").sampler is sampler
    assert _state.provider.sampler is sampler
