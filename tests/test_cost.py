"""What an observation costs, counted and not timed: Python calls, memory blocks and bytes, beside bare OpenTelemetry's.

Each bound is what was counted when it was written, and a little more. Who makes something slower sees it here at once; how long
it takes is for ``make bench``.
"""

from __future__ import annotations

import gc
import gzip
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor
from otel_langfuse.model import Span, SpanEvent
from otel_langfuse.prepare import Target, ready, requests
from otel_langfuse.spans import from_sdk
from otel_langfuse.translate import translate_all

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import meaning, subjects, workloads

COUNT = 200
OLD = tuple(map(int, version("opentelemetry-sdk").split(".")[:2])) < (1, 40)
KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-1", "base_url": "http://127.0.0.1:9"}


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def calls_of(work: Callable[[], object]) -> int:
    """How many functions written in Python are called on this thread."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def blocks_of(work: Callable[[], object]) -> int:
    """How many blocks of memory are held afterwards that were not held before."""
    gc.collect()
    before = sys.getallocatedblocks()
    work()
    gc.collect()
    return sys.getallocatedblocks() - before


@pytest.fixture
def processors() -> Iterator[Callable[[bool], SpanProcessor]]:
    """Stock or ours, which send nothing while it is measured."""
    made: list[SpanProcessor] = []

    def make(ours: bool) -> SpanProcessor:
        if ours:
            processor: SpanProcessor = LangfuseSpanProcessor(Nowhere(), flush_at=100_000, flush_interval=600)
        else:
            processor = BatchSpanProcessor(Nowhere(), max_queue_size=100_000, max_export_batch_size=100_000)
        made.append(processor)
        return processor

    yield make
    for processor in made:
        processor.shutdown()


def plain(processor: SpanProcessor, workload: str) -> Callable[[], None]:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("benchmark", "1.0")
    workloads.WORKLOADS[workload](tracer, 20)  # warm
    return lambda: workloads.WORKLOADS[workload](tracer, COUNT)


@pytest.mark.parametrize(("workload", "more"), [("W1", 1), ("W2", 1), ("W4", 1)])
def test_a_span_of_anybody_costs_the_application_hardly_a_call_more(
    workload: str, more: int, processors: Callable[[bool], SpanProcessor]
) -> None:
    if OLD:
        more += 2  # its own processor takes fewer
    for _ in range(3):  # each time that the worker has emptied the queue, the next span costs a look more
        ours, stock = (calls_of(plain(processors(is_ours), workload)) / COUNT for is_ours in (True, False))
        if ours - stock <= more:
            return
    pytest.fail(f"{ours} calls for each, and {stock} with the stock processor")


@pytest.mark.parametrize(("workload", "ratio"), [("W1", 1.1), ("W4", 1.1), ("W2", 1.12)])
def test_a_span_that_waits_holds_hardly_more_blocks_of_memory(
    workload: str, ratio: float, processors: Callable[[bool], SpanProcessor]
) -> None:
    for _ in range(3):  # threads that other tests have left may let go of something just then
        ours, stock = (blocks_of(plain(processors(is_ours), workload)) / COUNT for is_ours in (True, False))
        if ours <= ratio * stock:
            return
    pytest.fail(f"{ours} blocks for each, and {stock} with the stock processor")


def test_an_observation_by_our_api_costs_three_quarters_of_the_calls_of_the_same_by_hand(
    monkeypatch: pytest.MonkeyPatch, processors: Callable[[bool], SpanProcessor]
) -> None:
    bare = calls_of(plain(processors(False), "W1")) / COUNT
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processors(True))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    subjects.ours_w1(20)
    ours = calls_of(lambda: subjects.ours_w1(COUNT)) / COUNT
    assert ours <= 0.75 * bare, (ours, bare)


@pytest.mark.parametrize("quickly", [True, False])
@pytest.mark.parametrize(("workload", "most", "quick"), [("W1", 80, 48), ("W2", 45, 36), ("W4", 90, 45)])
def test_what_the_worker_does_with_a_span_takes_few_calls(workload: str, most: int, quick: int, quickly: bool) -> None:
    exporter = LangfuseOTLPExporter(**KEYS)
    spans = workloads.sdk_spans(workload, COUNT)

    def work() -> None:
        read, _ = from_sdk(spans)
        done = exporter.ready(read, exporter.mask) if quickly else ready(read, exporter.mask)
        requests(done.spans, target, now="2026-01-01T00:00:00.000Z", seen=set(), written=done.written)

    target: Target = exporter.target
    most = quick if quickly else most
    work()
    stock = calls_of(lambda: encode_spans(spans).SerializeToString()) / COUNT
    ours = calls_of(work) / COUNT
    assert ours <= most, (ours, stock)
    assert ours < stock


@pytest.fixture
def _nothing_translated_yet() -> None:
    """Other tests' spans, each unlike the one before, leave a memory that learns little more for a while."""
    import_module("otel_langfuse.translate")._memories.clear()


@pytest.mark.usefixtures("_nothing_translated_yet")
@pytest.mark.parametrize(("workload", "most"), [("W1", 16), ("W2", 11), ("W4", 17), ("old", 26)])
def test_translating_a_span_that_is_like_others_takes_few_calls(workload: str, most: int) -> None:
    spans, _ = from_sdk(meaning.old_spans(COUNT) if workload == "old" else workloads.sdk_spans(workload, COUNT))
    for _ in range(3):
        translate_all(spans)
    assert calls_of(lambda: translate_all(spans)) / COUNT <= most


@pytest.mark.usefixtures("_nothing_translated_yet")
def test_translating_spans_that_are_like_no_other_takes_hardly_more_calls_than_without_a_memory() -> None:
    spans, _ = from_sdk(workloads.sdk_spans("W4", COUNT))
    kinds = [str, float, int]
    numbers = [name for name, value in spans[0].attributes.items() if type(value) in (int, float)]

    def varied(span: Span, number: int) -> Span:
        changed = {name: kinds[number // 3**place % 3](place + 1) for place, name in enumerate(numbers)}
        return span._replace(attributes={**span.attributes, **changed})

    unlike = [varied(span, number) for number, span in enumerate(spans)]
    plain = calls_of(lambda: [translate_all([span._replace(events=(EVENT,))]) for span in unlike]) / COUNT
    translate_all(unlike)
    assert calls_of(lambda: translate_all(unlike)) / COUNT <= 1.1 * plain


EVENT = SpanEvent("seen", 1)


@pytest.mark.parametrize("workload", ["W1", "W3", "W4"])
def test_the_bytes_on_the_wire_are_within_a_quarter_of_gzips_best(workload: str) -> None:
    spans = workloads.sdk_spans(workload, 200 if workload != "W3" else 8)
    exporter = LangfuseOTLPExporter(endpoint="http://127.0.0.1:9/v1/traces")
    made, drops = requests(from_sdk(spans)[0], exporter.target, now="2026-01-01T00:00:00.000Z", seen=set())
    assert not drops
    best = len(gzip.compress(encode_spans(spans).SerializeToString(), 9))
    assert sum(len(request.body) for request in made) <= 1.25 * best
