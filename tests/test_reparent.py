"""Below a dropped span its children hang on the nearest kept ancestor, and the first of a trace is marked; on our copy only."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from otel_langfuse import LangfuseSpanProcessor, keep_rate
from otel_langfuse.pipeline.filter import MAX_SCOPES
from otel_langfuse.pipeline.lineage import MAX_SPANS, Lineage
from servers import Server

ROOT_MARK = "langfuse.internal.is_app_root"
NOT_A_SPAN = "0" * 16


class App:
    """An application whose spans go to our processor, with a filter, and to somebody else's."""

    def __init__(self, exporter: SpanExporter | None = None, sampler: Sampler | None = None, **settings: Any) -> None:
        self.seen = InMemorySpanExporter()
        self.mine = InMemorySpanExporter()
        self.processor = LangfuseSpanProcessor(exporter or self.mine, flush_interval=3600, **settings)
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self.seen))
        self.llm = self.provider.get_tracer("openinference.app")
        self.web = self.provider.get_tracer("web")

    def tree(self) -> dict[str, str | None]:
        """Name -> its parent's name, of what was sent: '?' for a parent that is nowhere, '*' before a marked span's name."""
        assert self.processor.force_flush()
        names = {span.context.span_id: span.name for span in self.mine.get_finished_spans()}
        return {
            ("*" if (span.attributes or {}).get(ROOT_MARK) else "") + span.name: names.get(span.parent.span_id, "?")
            if span.parent
            else None
            for span in self.mine.get_finished_spans()
        }


def test_a_dropped_span_between_two_kept_ones_leaves_no_hole() -> None:
    app = App(filter="llm")
    with (
        app.llm.start_as_current_span("agent"),
        app.web.start_as_current_span("http"),
        app.web.start_as_current_span("retry"),
        app.llm.start_as_current_span("model"),
        app.llm.start_as_current_span("tokens"),
    ):
        pass
    assert app.tree() == {"*agent": None, "model": "agent", "tokens": "model"}


def test_children_sent_before_their_ancestors_end_hang_right_already() -> None:
    app = App(filter="llm")
    with app.web.start_as_current_span("request"), app.llm.start_as_current_span("agent"):
        with app.web.start_as_current_span("http"), app.llm.start_as_current_span("model"):
            pass
        assert app.tree() == {"model": "?"}, "its parent still runs"
        agent = trace.get_current_span().get_span_context().span_id
        assert app.mine.get_finished_spans()[0].parent.span_id == agent  # type: ignore[union-attr]
    assert app.tree() == {"model": "agent", "*agent": None}


def test_other_processors_see_the_original() -> None:
    app = App(filter="llm")
    with app.web.start_as_current_span("http"), app.llm.start_as_current_span("model"):
        pass
    assert app.tree() == {"*model": None}
    model, http = app.seen.get_finished_spans()
    assert model.parent is not None
    assert model.parent.span_id == http.context.span_id
    assert ROOT_MARK not in (model.attributes or {})


def test_every_branch_below_a_dropped_root_is_first() -> None:
    app = App(filter="llm")
    with app.web.start_as_current_span("request"):
        for name in ("one", "two"):
            with app.llm.start_as_current_span(name), app.llm.start_as_current_span(f"in {name}"):
                pass
    assert app.tree() == {"in one": "one", "*one": None, "in two": "two", "*two": None}


def test_what_an_instrumentation_says_late_counts_as_soon_as_it_is_said() -> None:
    app = App(filter="llm")
    with app.web.start_as_current_span("late") as late:
        with app.llm.start_as_current_span("first"):
            pass
        app.processor.force_flush()  # sent before anybody can know
        late.set_attribute("gen_ai.operation.name", "chat")
        with app.llm.start_as_current_span("second"):
            pass
        app.processor.force_flush()
    assert app.tree() == {"*first": None, "second": "late", "*late": None}, "higher than it could be, but no hole"


def test_a_child_that_starts_after_its_dropped_parent_has_ended_hangs_right_too() -> None:
    app = App(filter="llm")
    with app.llm.start_as_current_span("agent"):
        http = app.web.start_span("http")
        inner = app.web.start_span("inner", context=trace.set_span_in_context(http))
        http.end()
        inner.end()
        app.llm.start_span("background", context=trace.set_span_in_context(inner)).end()
    assert app.tree() == {"background": "agent", "*agent": None}


def test_a_child_that_outlives_its_kept_parent_keeps_it() -> None:
    app = App(filter="llm")
    agent = app.llm.start_span("agent")
    http = app.web.start_span("http", context=trace.set_span_in_context(agent))
    agent.end()
    http.end()
    app.llm.start_span("later", context=trace.set_span_in_context(http)).end()
    app.llm.start_span("direct", context=trace.set_span_in_context(agent)).end()
    assert app.tree() == {"*agent": None, "later": "agent", "direct": "agent"}


def remote(trace_id: int = 7, span_id: int = 9) -> Any:
    context = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(1))
    return trace.set_span_in_context(trace.NonRecordingSpan(context))


def test_below_a_dropped_local_root_the_remote_parent_stays_and_the_first_is_marked() -> None:
    app = App(filter="llm")
    request = app.web.start_span("request", context=remote())
    app.llm.start_span("model", context=trace.set_span_in_context(request)).end()
    request.end()
    assert app.tree() == {"*model": "?"}
    (model,) = app.mine.get_finished_spans()
    assert model.parent is not None
    assert (model.parent.span_id, model.parent.is_remote) == (9, True)


class RecordOnly(Sampler):
    """Spans whose name says so are recorded, but not sampled."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY if name == "only recorded" else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "record only"


def test_a_span_that_is_only_recorded_is_no_parent() -> None:
    app = App(sampler=RecordOnly(), filter="all,!nobody")
    with (
        app.llm.start_as_current_span("agent"),
        app.llm.start_as_current_span("only recorded"),
        app.llm.start_as_current_span("model"),
    ):
        pass
    assert app.tree() == {"model": "agent", "*agent": None}


def test_a_predicate_is_asked_for_running_ancestors_too() -> None:
    app = App(should_export_span=lambda span: span.name != "noise")
    with app.web.start_as_current_span("a"), app.web.start_as_current_span("noise"), app.web.start_as_current_span("b"):
        with app.web.start_as_current_span("c"):
            pass
        assert app.tree() == {"c": "?"}
    assert app.tree() == {"c": "b", "b": "a", "*a": None}


def test_a_predicate_that_needs_an_end_hangs_children_higher_but_leaves_no_hole() -> None:
    app = App(should_export_span=lambda span: span.end_time - span.start_time >= 0)
    with app.web.start_as_current_span("a"), app.web.start_as_current_span("b"):
        with app.web.start_as_current_span("c"):
            pass
        app.processor.force_flush()
    assert app.tree() == {"*c": None, "b": "a", "*a": None}


def test_with_tail_sampling_it_is_exact_whatever_the_predicate_looks_at() -> None:
    def quick(span: ReadableSpan) -> bool:
        return span.attributes is None or not span.attributes.get("slow")

    app = App(should_export_span=quick, tail=[keep_rate(1.0)])
    with app.web.start_as_current_span("a"), app.web.start_as_current_span("b") as b:
        with app.web.start_as_current_span("c"):
            pass
        b.set_attribute("slow", value=True)
    assert app.tree() == {"c": "a", "*a": None}


def test_a_model_call_of_litellm_that_repeats_its_parent_is_never_first() -> None:
    app = App(filter="llm")
    litellm = app.provider.get_tracer("litellm")
    with app.web.start_as_current_span("request", context=remote()), litellm.start_as_current_span("raw_gen_ai_request"):
        pass
    assert app.tree() == {"raw_gen_ai_request": "?"}


def test_to_langfuse_the_parents_are_rewritten_on_the_wire() -> None:
    with Server() as server:
        processor = LangfuseSpanProcessor(base_url=server.url, public_key="pk", secret_key="sk")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        llm, web = provider.get_tracer("openinference"), provider.get_tracer("web")
        with (
            web.start_as_current_span("request"),
            llm.start_as_current_span("agent") as agent,
            web.start_as_current_span("http"),
            llm.start_as_current_span("model"),
        ):
            pass
        assert processor.shutdown()
        spans = {span.name: span for received in server.taken for span in received.spans}
        assert set(spans) == {"agent", "model"}
        assert spans["agent"].parent_span_id == b""
        assert spans["model"].parent_span_id == agent.get_span_context().span_id.to_bytes(8, "big")
        marks = {name: [a.value.bool_value for a in span.attributes if a.key == ROOT_MARK] for name, span in spans.items()}
        assert marks == {"agent": [True], "model": []}


def test_a_foreign_exporter_gets_the_original_objects_where_nothing_changed() -> None:
    app = App(filter="all")
    with app.web.start_as_current_span("a"), app.web.start_as_current_span("b"):
        pass
    assert app.tree() == {"b": "a", "a": None}, "nothing is marked where everything goes to somebody else"
    assert all(mine is seen for mine, seen in zip(app.mine.get_finished_spans(), app.seen.get_finished_spans(), strict=True))


def test_on_many_threads_at_once_no_tree_has_a_hole() -> None:
    app = App(filter="llm", flush_at=50)

    def work(number: int) -> None:
        for _ in range(40):
            with (
                app.llm.start_as_current_span(f"agent {number}"),
                app.web.start_as_current_span("http"),
                app.llm.start_as_current_span("model"),
                app.web.start_as_current_span("inner"),
            ):
                app.llm.start_span("deep").end()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.processor.force_flush()
    spans = app.mine.get_finished_spans()
    assert len(spans) == 8 * 40 * 3
    ids = {span.context.span_id for span in spans}
    assert all(span.parent is None or span.parent.span_id in ids for span in spans)
    assert sum(span.parent is None for span in spans) == 8 * 40
    assert not app.processor._choice.lineage.running  # type: ignore[union-attr]


# -- bounds ------------------------------------------------------------------------------------------------------------


class Spanlike:
    """Something that can be held weakly."""


def context(span_id: int) -> Any:
    return trace.SpanContext(1, span_id, is_remote=False, trace_flags=trace.TraceFlags(1))


def test_spans_that_never_end_cost_little_and_are_not_held() -> None:
    lineage = Lineage(lambda _: True)
    for number in range(1, MAX_SPANS + 1000):
        lineage.start(Spanlike(), number, None)
    gc.collect()
    assert len(lineage.running) == MAX_SPANS
    assert all(kin.span() is None for kin in lineage.running.values())
    child = lineage.start(Spanlike(), 10**6, context(MAX_SPANS))
    assert lineage.nearest(child.up).span_id is None, "who is gone cannot be sent any more"


def test_of_dropped_spans_a_bounded_number_is_remembered() -> None:
    lineage = Lineage(lambda _: True)
    for number in range(1, MAX_SPANS + 1000):
        lineage.start(Spanlike(), number, None)
        lineage.dropped(number)
    assert len(lineage.ended) == MAX_SPANS
    assert not lineage.running


def test_dropping_takes_no_longer_when_as_many_are_remembered_as_may_be() -> None:
    """Of a plain dict, finding the oldest takes the longer the more were taken out before it: fifty times as long."""
    lineage = Lineage(lambda _: True)
    alive = Spanlike()

    def of_1_000(first: int) -> float:
        began = time.thread_time()
        for number in range(first, first + 1_000):
            lineage.start(alive, number, None)
            lineage.dropped(number)
        return time.thread_time() - began

    costs = [of_1_000(first) for first in range(1, 2 * MAX_SPANS, 1_000)]
    half = len(costs) // 2
    assert min(costs[half + 1 :]) < 5 * min(costs[:half])


@pytest.mark.parametrize("ends", [Lineage.dropped, lambda lineage, number: lineage.kept(lineage.running[number])])
def test_an_endless_chain_of_spans_is_not_remembered_link_by_link(ends: Callable[[Lineage, int], None]) -> None:
    lineage = Lineage(lambda _: True)
    alive = Spanlike()
    lineage.start(alive, 1, None)
    for number in range(2, 3000):  # each starts before the one above it ends
        kin = lineage.start(alive, number, context(number - 1))
        ends(lineage, number - 1)
    length, up = 0, kin.up
    while up.parent is not None:
        length, up = length + 1, up.parent.up
    assert length < 5


# -- spans that are kept whatever they carry -------------------------------------------------------------------------------------


def warm(app: App) -> App:
    """Scopes are known from their second span on."""
    app.llm.start_span("seen").end()
    app.web.start_span("seen").end()
    assert app.processor.force_flush()
    app.mine.clear()
    return app


def test_of_a_trace_that_is_kept_whatever_it_carries_nothing_is_remembered() -> None:
    app = warm(App(filter="llm"))
    running = app.processor._choice.lineage.running  # type: ignore[union-attr]
    with app.llm.start_as_current_span("agent"), app.llm.start_as_current_span("model"), app.llm.start_as_current_span("tokens"):
        assert not running
    assert app.tree() == {"tokens": "model", "model": "agent", "*agent": None}


def test_below_one_that_may_be_dropped_only_the_first_is_remembered() -> None:
    app = warm(App(filter="llm"))
    running = app.processor._choice.lineage.running  # type: ignore[union-attr]
    with app.web.start_as_current_span("request"), app.llm.start_as_current_span("agent"):
        assert len(running) == 2
        with app.llm.start_as_current_span("model"), app.llm.start_as_current_span("tokens"):
            assert len(running) == 2
    assert not running
    assert app.tree() == {"tokens": "model", "model": "agent", "*agent": None}


def test_those_that_may_be_dropped_hang_on_one_that_is_kept_whatever_it_carries() -> None:
    app = warm(App(filter="llm"))
    with app.llm.start_as_current_span("agent"), app.web.start_as_current_span("http"), app.web.start_as_current_span("retry"):
        with app.llm.start_as_current_span("model"):
            pass
        app.processor.force_flush()
    background = app.llm.start_span("late", context=trace.set_span_in_context(app.web.start_span("other")))
    background.end()
    assert app.tree() == {"model": "agent", "*late": None, "*agent": None}


def test_a_child_of_one_that_was_dropped_before_it_started_hangs_right_though_it_is_kept_whatever_it_carries() -> None:
    app = warm(App(filter="llm"))
    with app.llm.start_as_current_span("agent"):
        http = app.web.start_span("http")
        http.end()
        with trace.use_span(http), app.llm.start_as_current_span("background"):
            pass
    assert app.tree() == {"background": "agent", "*agent": None}


def test_nothing_stays_remembered_of_one_whose_parent_turned_out_to_be_kept() -> None:
    app = warm(App(filter="llm"))
    running = app.processor._choice.lineage.running  # type: ignore[union-attr]
    above = app.web.start_span("mine")
    below = app.llm.start_span("model", context=trace.set_span_in_context(above))
    above.set_attribute("gen_ai.request.model", "m")
    above.end()
    below.end()
    assert not running
    assert app.tree() == {"*mine": None, "model": "mine"}


def test_a_tracer_for_each_request_is_not_remembered_for_ever() -> None:
    app = warm(App(filter="llm"))
    for number in range(MAX_SCOPES + 100):
        app.provider.get_tracer("openinference.app", str(number)).start_span("model").end()
        app.provider.get_tracer("web", str(number)).start_span("request").end()
    choice = app.processor._choice
    assert 0 < len(choice._sure) <= MAX_SCOPES
    assert 0 < len(choice._unsure) <= MAX_SCOPES


def test_a_child_that_starts_after_the_end_of_one_that_was_sampled_out_is_sampled_out_too() -> None:
    lineage = Lineage(lambda _: True)
    lineage.start(Spanlike(), 1, None).sampled_out = True
    lineage.dropped(1)
    child = lineage.start(Spanlike(), 2, context(1))
    assert child.sampled_out is True
    assert child.is_root
    lineage.dropped(2)
    assert lineage.start(Spanlike(), 3, context(2)).sampled_out is True


def test_a_child_that_starts_after_its_parent_was_dropped_is_no_root_below_one_that_runs() -> None:
    lineage = Lineage(lambda _: True)
    alive = Spanlike()
    lineage.start(alive, 1, None)
    lineage.start(Spanlike(), 2, context(1))
    lineage.dropped(2)
    child = lineage.start(Spanlike(), 3, context(2))
    assert not child.is_root
    assert lineage.nearest(child.up).span_id == 1


def test_a_trace_state_that_says_no_is_heard_of_scopes_that_are_always_kept() -> None:
    app = warm(App(filter="llm"))
    state = trace.TraceState([("langfuse", "keep:0")])
    remote = trace.SpanContext(7, 8, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=state)
    with trace.use_span(trace.NonRecordingSpan(remote)), app.llm.start_as_current_span("agent"):
        app.llm.start_span("model").end()
    assert app.tree() == {}
    assert app.processor.stats().dropped["sampled_out"] == 2


def test_below_a_span_that_is_recorded_and_not_sampled_nothing_hangs_for_sure() -> None:
    class Recorded(Sampler):
        decision = Decision.RECORD_AND_SAMPLE

        def should_sample(self, *args: Any, **more: Any) -> SamplingResult:
            return SamplingResult(self.decision)

        def get_description(self) -> str:
            return "Recorded"

    sampler = Recorded()
    app = warm(App(sampler=sampler, filter="llm"))
    sampler.decision = Decision.RECORD_ONLY
    with app.llm.start_as_current_span("recorded"):
        sampler.decision = Decision.RECORD_AND_SAMPLE
        with app.llm.start_as_current_span("model"):
            pass
    assert app.tree() == {"*model": None}
