from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_langfuse import ConfigError, LangfuseSampler, LangfuseSpanProcessor
from otel_langfuse.pipeline.sample import ALL, bound, keep, members, trace_is_kept

_DICE = random.Random(3)
TRACE_IDS = [_DICE.getrandbits(128) for _ in range(2000)]


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.25, 0.5, 0.999, 1.0])
def test_the_same_traces_are_kept_as_by_opentelemetrys_ratio_sampler(rate: float) -> None:
    sampler = TraceIdRatioBased(rate)
    for trace_id in TRACE_IDS:
        decision = sampler.should_sample(None, trace_id, "x").decision
        assert keep(trace_id, bound(rate)) == (decision is Decision.RECORD_AND_SAMPLE)


def test_none_is_none_and_all_is_all() -> None:
    edges = [0, 1, (1 << 64) - 1, (1 << 128) - 1]
    assert not any(keep(trace_id, bound(0.0)) for trace_id in edges + TRACE_IDS)
    assert all(keep(trace_id, bound(1.0)) for trace_id in edges + TRACE_IDS)


def test_a_service_with_a_lower_rate_keeps_a_part_of_what_another_keeps() -> None:
    few = {trace_id for trace_id in TRACE_IDS if keep(trace_id, bound(0.1))}
    many = {trace_id for trace_id in TRACE_IDS if keep(trace_id, bound(0.5))}
    assert few < many
    assert 120 < len(few) < 280


# -- what others have decided ------------------------------------------------------------------------------------------


def test_what_the_first_service_wrote_wins_over_the_rate_here_except_over_none_at_all() -> None:
    low, high = 1, (1 << 64) - 1
    assert keep(high, bound(0.1), {"langfuse": "keep:1"})
    assert not keep(low, bound(0.9), {"langfuse": "keep:0"})
    assert not keep(low, ALL, {"langfuse": "keep:0"})
    assert not keep(low, bound(0.0), {"langfuse": "keep:1"})
    assert keep(low, bound(0.1), {"langfuse": "nonsense"}), "then the rate decides"


def test_below_a_parent_that_was_not_sampled_nothing_is_kept_unless_nobody_asked_for_sampling() -> None:
    assert not keep(1, bound(0.9), parent_sampled=False)
    assert not keep(1, bound(0.9), {"langfuse": "keep:1"}, parent_sampled=False)
    assert keep(1, ALL, parent_sampled=False)


@pytest.mark.parametrize(
    ("member", "kept"),
    [
        ("rv:ffffffffffffff", True),  # the rule of OpenTelemetry's consistent samplers: the high ones are kept
        ("rv:00000000000000", False),
        ("th:0;rv:80000000000000", True),
        ("rv:7fffffffffffff;th:0", False),
        ("th:8", False),  # the randomness is the trace id's: 56 bits of 1
        ("p:8;r:62", True),  # none of theirs: the rule of TraceIdRatioBased
        ("th:xyz", True),
        ("rv:123", True),
    ],
)
def test_thresholds_and_randomness_of_opentelemetry_are_read(member: str, kept: bool) -> None:
    assert keep(1, bound(0.5), {"ot": member}) is kept


def test_the_same_traces_are_kept_as_by_opentelemetrys_consistent_sampler() -> None:
    samplers = pytest.importorskip("opentelemetry.sdk.trace._sampling_experimental", reason="SDK 1.38 or later")
    sampler = samplers.composite_sampler(samplers.composable_traceid_ratio_based(0.3))
    every = samplers.composite_sampler(samplers.composable_always_on())
    for trace_id in TRACE_IDS:
        theirs = sampler.should_sample(None, trace_id, "x").decision is Decision.RECORD_AND_SAMPLE
        state = every.should_sample(None, trace_id, "x").trace_state
        assert state["ot"] == "th:0"
        assert keep(trace_id, bound(0.3), state) is theirs


def test_scores_follow_their_trace() -> None:
    for trace_id in TRACE_IDS:
        assert trace_is_kept(f"{trace_id:032x}", 0.3) == keep(trace_id, bound(0.3))
    assert trace_is_kept("f" * 32, 0.3, {"langfuse": "keep:1"})
    assert trace_is_kept("my-own-id", 0.0), "no trace of OpenTelemetry's"


def test_the_members_of_a_tracestate_are_read() -> None:
    assert members("ot=th:8;rv:1, langfuse=keep:1 ,a=b=c,") == {"ot": "th:8;rv:1", "langfuse": "keep:1", "a": "b=c"}
    assert members("") == {}


# -- in an application -------------------------------------------------------------------------------------------------


class Service:
    """A process of its own, as far as OpenTelemetry can tell: a provider, a processor, and another vendor's exporter."""

    def __init__(self, rate: float, *, sampler: Sampler = ALWAYS_ON, **settings: Any) -> None:
        self.langfuse = InMemorySpanExporter()
        self.vendor = InMemorySpanExporter()
        self.processor = LangfuseSpanProcessor(self.langfuse, sample_rate=rate, flush_interval=3600, **settings)
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self.vendor))
        self.tracer = self.provider.get_tracer("service")

    def serve(self, headers: Mapping[str, str], call: Callable[[dict[str, str]], object] = lambda _: None) -> None:
        """A request: a root, a step in it, and what is called from there."""
        context = TraceContextTextMapPropagator().extract(dict(headers))
        with self.tracer.start_as_current_span("request", context=context), self.tracer.start_as_current_span("step"):
            outgoing: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(outgoing)
            call(outgoing)

    def kept(self) -> dict[int, int]:
        """Trace -> how many of its spans went to Langfuse."""
        self.processor.force_flush()
        return Counter(span.context.trace_id for span in self.langfuse.get_finished_spans())


@pytest.mark.parametrize("rates", [(0.3, 0.7), (0.7, 0.3), (0.5, 1.0), (1.0, 0.2), (0.05, 0.5), (0.4, 0.0)])
def test_of_two_services_with_different_rates_no_trace_is_broken(rates: tuple[float, float]) -> None:
    """What the service that starts the trace decides holds in both, whatever the other's rate, which its own traces follow."""
    first = Service(rates[0], sampler=LangfuseSampler(rates[0]))
    second = Service(rates[1])
    for _ in range(400):
        first.serve({}, second.serve)
    for _ in range(400):
        second.serve({})
    ours, theirs = first.kept(), second.kept()
    started = {span.context.trace_id for span in first.vendor.get_finished_spans()}
    whole = {trace_id for trace_id in started if ours.get(trace_id) == 2 and theirs.get(trace_id) == 2}
    if rates[1]:
        assert {trace_id for trace_id in started if ours.get(trace_id) or theirs.get(trace_id)} == whole
    else:
        assert not theirs, "a rate of 0 sends nothing, whoever asks"
    assert abs(len(ours) - 400 * rates[0]) <= 4.5 * math.sqrt(400 * rates[0] * (1 - rates[0])), "the rate of who starts"
    own = set(theirs) - started
    assert abs(len(own) - 400 * rates[1]) <= 4.5 * math.sqrt(400 * rates[1] * (1 - rates[1]))
    assert len(first.vendor.get_finished_spans()) == 800, "others get everything"
    assert len(second.vendor.get_finished_spans()) == 1600


def test_without_the_sampler_the_traces_of_the_lower_rate_are_whole() -> None:
    """What cannot be better: the second service cannot know what the first, whose rate is higher, has decided."""
    first, second = Service(0.3), Service(0.7)
    for _ in range(400):
        first.serve({}, second.serve)
    ours, theirs = first.kept(), second.kept()
    assert set(ours) < set(theirs)
    assert all(theirs[trace_id] == 2 for trace_id in ours)


def test_with_the_same_rate_traces_are_whole_without_any_sampler() -> None:
    first, second = Service(0.4), Service(0.4)
    for _ in range(300):
        first.serve({}, second.serve)
    assert first.kept() == second.kept()
    assert 70 < len(first.kept()) < 170


def test_a_parent_that_was_not_sampled_takes_all_below_it_along_also_in_the_services_after() -> None:
    first, second, third = Service(0.9), Service(0.9, sampler=LangfuseSampler(0.9, ALWAYS_ON)), Service(0.9)
    for number in range(1, 50):
        unsampled = {"traceparent": f"00-{number:032x}-{number:016x}-00"}
        first.serve(unsampled)
        second.serve(unsampled, third.serve)
    assert not first.kept()
    assert first.processor.stats().dropped == {"sampled_out": 98}
    assert not second.kept()
    assert not third.kept()
    assert len(first.vendor.get_finished_spans()) == 98


def test_without_a_rate_what_opentelemetry_records_is_sent_whatever_its_parent() -> None:
    service = Service(1.0)
    service.serve({"traceparent": f"00-{7:032x}-{7:016x}-00"})
    assert service.kept() == {7: 2}


def test_the_sampler_changes_nothing_about_which_spans_exist() -> None:
    sampler = LangfuseSampler(0.5, ALWAYS_OFF)
    result = sampler.should_sample(None, 1, "x")
    assert result.decision is Decision.DROP
    assert not result.trace_state
    context = trace.set_span_in_context(
        trace.NonRecordingSpan(trace.SpanContext(1, 1, True, trace.TraceFlags(1), trace.TraceState([("vendor", "1")])))
    )
    result = LangfuseSampler(0.0).should_sample(context, 1, "x")
    assert result.decision is Decision.RECORD_AND_SAMPLE
    assert dict(result.trace_state or {}) == {"langfuse": "keep:0", "vendor": "1"}


def test_the_agent_finds_the_sampler_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = entry_points(group="opentelemetry_traces_sampler", name="langfuse")
    monkeypatch.setenv("LANGFUSE_SAMPLE_RATE", "0.25")
    make = entry.load()
    assert isinstance(make(None), Sampler)
    assert "LangfuseSampler{0.25," in make("").get_description()
    assert "LangfuseSampler{0.5," in make("0.5").get_description()
    with pytest.raises(ConfigError):
        make("7")


def test_configure_adds_the_sampler_to_a_provider_that_it_makes() -> None:
    program = (
        "import otel_langfuse\n"
        "from opentelemetry import trace\n"
        "otel_langfuse.configure(base_url='sqlite:///x.db', sample_rate=0.0)\n"
        "print(trace.get_tracer('t').start_span('x').get_span_context().trace_state.get('langfuse'))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "keep:0"


@pytest.mark.parametrize("sampler", [True, False])
def test_of_two_projects_with_different_rates_on_one_provider_no_trace_is_broken(sampler: bool) -> None:
    """Each gets whole traces: with the sampler the same ones, without it those of its own rate, one rate among the other."""
    low, high = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(sampler=LangfuseSampler(0.4) if sampler else None, shutdown_on_exit=False)
    processors = [LangfuseSpanProcessor(low, sample_rate=0.3), LangfuseSpanProcessor(high, sample_rate=0.7)]
    for processor in processors:
        provider.add_span_processor(processor)
    tracer = provider.get_tracer("app")
    for _ in range(500):
        with tracer.start_as_current_span("root"), tracer.start_as_current_span("step"):
            tracer.start_span("leaf").end()
    for processor in processors:
        assert processor.force_flush()
    of_low, of_high = (Counter(span.context.trace_id for span in one.get_finished_spans()) for one in (low, high))
    assert {*of_low.values(), *of_high.values()} == {3}
    assert of_low.keys() <= of_high.keys()
    assert (of_low.keys() == of_high.keys()) is sampler
    for found, rate in ((of_low, 0.4 if sampler else 0.3), (of_high, 0.4 if sampler else 0.7)):
        assert abs(len(found) - 500 * rate) <= 4.5 * math.sqrt(500 * rate * (1 - rate))
