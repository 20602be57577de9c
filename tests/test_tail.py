"""Whole traces are kept or dropped when their local root ends, by rules; bounded, counted, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from otel_langfuse import (
    ConfigError,
    LangfuseOTLPExporter,
    LangfuseSpanProcessor,
    Tail,
    keep_cost_over,
    keep_errors,
    keep_if,
    keep_level,
    keep_name,
    keep_rate,
    keep_slower_than,
    keep_tag,
    keep_tokens_over,
    keep_type,
)
from otel_langfuse.pipeline.sample import bound, keep
from otel_langfuse.pipeline.tail import Rule, WaitingTraces, Whole
from otel_langfuse.pipeline.tail._waiting import MAX_VERDICTS
from otel_langfuse.spans import from_sdk
from servers import Server, status

KEEP_BAD = keep_name("bad*")


class App:
    def __init__(self, exporter: SpanExporter | None = None, **given: Any) -> None:
        self.mine = InMemorySpanExporter()
        given.setdefault("filter", "all")
        self.processor = LangfuseSpanProcessor(exporter or self.mine, **{"flush_interval": 3600, **given})
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("app")

    def trace(self, *names: str) -> None:
        """A trace: a root, and its children."""
        with self.tracer.start_as_current_span(names[0]):
            for name in names[1:]:
                self.tracer.start_span(name).end()

    def sent(self) -> list[str]:
        assert self.processor.force_flush()
        return [span.name for span in self.mine.get_finished_spans()]

    @property
    def account(self) -> tuple[Any, ...]:
        stats = self.processor.stats()
        assert stats.started == stats.exported + stats.queued + stats.spooled + sum(stats.dropped.values())
        return stats.started, stats.exported, stats.queued, dict(stats.dropped)


# -- whole traces ------------------------------------------------------------------------------------------------------


def test_traces_are_kept_and_dropped_whole() -> None:
    app = App(tail=[KEEP_BAD])
    app.trace("good", "a", "b")
    app.trace("good", "c", "bad")
    app.trace("bad", "d")
    assert app.sent() == ["c", "bad", "good", "d", "bad"]
    assert app.account == (8, 5, 0, {"sampled_out": 3})


def test_what_waits_counts_as_queued_and_nothing_is_sent_before_the_root_ends() -> None:
    with Server() as server:
        app = App(LangfuseOTLP(server), tail=[KEEP_BAD], flush_at=1)
        with app.tracer.start_as_current_span("root"):
            app.tracer.start_span("bad").end()
            app.tracer.start_span("c").end()
            assert app.account == (2, 0, 2, {})
            time.sleep(0.1)
            assert not server.received
        assert wait_for(lambda: app.account == (3, 3, 0, {}))
        assert sorted(server.names) == ["bad", "c", "root"]
        app.processor.shutdown()


def LangfuseOTLP(server: Server, **given: Any) -> Any:  # noqa: N802 - reads as the class that it makes
    return LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces", **given)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_late_spans_follow_their_trace() -> None:
    app = App(tail=[KEEP_BAD])
    roots = {}
    for name in ("bad", "good"):
        roots[name] = app.tracer.start_span(name)
        roots[name].end()
    assert app.sent() == ["bad"]
    for name, root in roots.items():
        app.tracer.start_span(f"late in {name}", context=trace.set_span_in_context(root)).end()
        app.tracer.start_span("bad but late", context=trace.set_span_in_context(roots["good"])).end()
    assert app.sent() == ["bad", "late in bad"]
    assert app.account == (6, 2, 0, {"sampled_out": 4})


def test_a_late_span_follows_also_before_the_worker_has_judged() -> None:
    app = App(tail=[KEEP_BAD])
    root = app.tracer.start_span("bad")
    root.end()
    app.tracer.start_span("late", context=trace.set_span_in_context(root)).end()
    assert app.sent() == ["bad", "late"]


def remote_context(trace_id: int) -> Any:
    parent = trace.SpanContext(trace_id, 9, is_remote=True, trace_flags=trace.TraceFlags(1))
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))


def test_a_trace_that_enters_the_process_several_times_waits_for_the_last_of_its_roots() -> None:
    app = App(tail=[KEEP_BAD])
    one = app.tracer.start_span("one", context=remote_context(5))
    two = app.tracer.start_span("two", context=remote_context(5))
    one.end()
    assert app.account == (1, 0, 1, {})
    app.tracer.start_span("bad", context=trace.set_span_in_context(two)).end()
    two.end()
    assert app.sent() == ["one", "bad", "two"]


def test_a_root_that_the_filter_drops_still_ends_its_trace() -> None:
    app = App(tail=[KEEP_BAD], filter="all,!web", flush_interval=0.05)
    web = app.provider.get_tracer("web")
    with web.start_as_current_span("request"):
        app.tracer.start_span("bad").end()
        app.tracer.start_span("c").end()
    assert wait_for(lambda: app.account == (3, 2, 0, {"filtered": 1})), "nobody had to flush"


def test_flush_and_shutdown_decide_what_waits() -> None:
    app = App(tail=[KEEP_BAD])
    with app.tracer.start_as_current_span("root") as good, app.tracer.start_as_current_span("c"):
        app.tracer.start_span("d").end()
        assert app.sent() == []
        assert app.account == (1, 0, 0, {"sampled_out": 1})
        bad = app.tracer.start_span("root", context=trace.set_span_in_context(trace.INVALID_SPAN))
        app.tracer.start_span("bad", context=trace.set_span_in_context(bad)).end()
        assert app.processor.shutdown()
    assert good.get_span_context().is_valid
    bad.end()
    assert [span.name for span in app.mine.get_finished_spans()] == ["bad"]
    assert app.account == (5, 1, 0, {"sampled_out": 3, "after_shutdown": 1})


def test_a_flush_before_anything_ended_decides_nothing() -> None:
    app = App(tail=[KEEP_BAD])
    with app.tracer.start_as_current_span("root"):
        app.processor.force_flush()
        app.tracer.start_span("bad").end()
    assert app.sent() == ["bad", "root"]


def test_what_ends_after_shutdown_is_counted_as_such() -> None:
    app = App(tail=[KEEP_BAD])
    app.processor.shutdown()
    app.trace("bad", "c")
    assert app.account == (2, 0, 0, {"after_shutdown": 2})


def test_head_sampling_comes_first_and_keep_rate_chooses_the_same_traces_everywhere() -> None:
    app = App(tail=[keep_rate(0.5)], sample_rate=0.7)
    ids = []
    for _ in range(200):
        with app.tracer.start_as_current_span("root") as root:
            app.tracer.start_span("c").end()
        ids.append(root.get_span_context().trace_id)
    sent = app.sent()
    assert len(sent) == 2 * sum(keep(trace_id, bound(0.5)) for trace_id in ids)
    assert app.account[3] == {"sampled_out": 400 - len(sent)}
    for trace_id in ids:
        assert app.processor.trace_is_kept(f"{trace_id:032x}") == keep(trace_id, bound(0.5))


# -- in all set-ups ----------------------------------------------------------------------------------------------------


def test_through_langfuse_on_several_threads_in_small_batches() -> None:
    with Server() as server:
        app = App(
            LangfuseOTLP(server), tail=[keep_if(lambda observations: any(o.name == "bad" for o in observations))],
            threads=4, flush_at=3, flush_interval=0.01,
        )  # fmt: skip

        def work() -> None:
            for number in range(30):
                app.trace("root", *("bad" if number % 3 == 0 and child == 0 else "c" for child in range(7)))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert app.processor.shutdown()
        assert app.account == (960, 320, 0, {"sampled_out": 640})
        assert len(server.names) == 320
        by_trace: dict[bytes, int] = {}
        for received in server.taken:
            for span in received.spans:
                by_trace[span.trace_id] = by_trace.get(span.trace_id, 0) + 1
        assert set(by_trace.values()) == {8}, "whole"


def test_with_a_spool_only_what_is_kept_gets_there(tmp_path: Path) -> None:
    with Server(status(503)) as server:
        exporter = LangfuseOTLP(server, spool_path=tmp_path / "spool.db", spool_mode="always")
        app = App(exporter, tail=[KEEP_BAD], flush_interval=0.02)
        app.trace("good", "a")
        app.trace("bad", "b")
        assert wait_for(lambda: app.processor.stats().spooled == 2)
        assert app.account == (4, 0, 0, {"sampled_out": 2}) or app.processor.stats().dropped == {"sampled_out": 2}
        app.processor.shutdown(300)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_none_of_its_parents_and_decides_its_own() -> None:
    program = """
import os, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_langfuse import LangfuseSpanProcessor, keep_name
mine = InMemorySpanExporter()
processor = LangfuseSpanProcessor(mine, tail=[keep_name("bad*")])
provider = TracerProvider(); provider.add_span_processor(processor)
tracer = provider.get_tracer("t")
with tracer.start_as_current_span("root"):
    tracer.start_span("bad").end()
    if os.fork() == 0:
        assert processor.stats()[:3] == (0, 0, 0), processor.stats()
        with tracer.start_as_current_span("child root", context=trace.set_span_in_context(trace.INVALID_SPAN)):
            tracer.start_span("bad child").end()
        assert processor.force_flush(10_000)
        names = [span.name for span in mine.get_finished_spans()]
        assert names == ["bad child", "child root"], names
        os._exit(0)
    assert os.wait()[1] == 0
assert processor.force_flush(10_000)
assert [span.name for span in mine.get_finished_spans()] == ["bad", "root"]
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


def test_the_end_of_the_interpreter_decides_and_delivers() -> None:
    program = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor, keep_name
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(LangfuseSpanProcessor(LangfuseOTLPExporter(endpoint=sys.argv[1]), tail=[keep_name("bad*")]))
tracer = provider.get_tracer("t")
root = tracer.start_span("root")
tracer.start_span("bad").end()
if sys.argv[2] == "hard":
    os._exit(0)
"""
    for way in ("soft", "hard"):
        with Server() as server:
            subprocess.run([sys.executable, "-c", program, f"{server.url}/v1/traces", way], timeout=60, check=True)
            assert server.names == ["bad"], way


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("over_bound", "kept"), [("keep", 30), ("drop", 10)])
def test_over_the_bound_in_traces_the_one_that_waits_longest_leaves(over_bound: str, kept: int) -> None:
    app = App(tail=Tail([keep_name("bad")], max_traces=5, over_bound=over_bound))
    roots = [app.tracer.start_span("bad") for _ in range(15)]
    for root in roots:
        app.tracer.start_span("c", context=trace.set_span_in_context(root)).end()
    for root in roots:
        root.end()
    assert len(app.sent()) == kept
    assert app.account[3] == ({} if kept == 30 else {"sampled_out": 20})


@pytest.mark.parametrize(("limits", "kept"), [({"max_spans": 10}, 20), ({"max_bytes": 20_000}, None)])
def test_over_the_bound_in_spans_or_bytes_too(limits: dict[str, int], kept: int | None) -> None:
    app = App(tail=Tail([keep_name("never")], **limits))
    with app.tracer.start_as_current_span("root"):
        for _ in range(30):
            app.tracer.start_span("c", attributes={"text": "x" * 1000}).end()
        waiting = app.processor._choice.waiting
        assert waiting is not None
        assert waiting.count <= limits.get("max_spans", 30)
        assert waiting.bytes <= limits.get("max_bytes", 10**9)
    assert len(app.sent()) == 31, "a trace that is too large is not judged by its beginning, but kept"


def test_who_waits_too_long_leaves_without_anybodys_doing() -> None:
    for over_bound, account in (("keep", (1, 1, 0, {})), ("drop", (1, 0, 0, {"sampled_out": 1}))):
        app = App(tail=Tail([KEEP_BAD], max_wait_s=0.1, over_bound=over_bound), flush_interval=0.05)
        with app.tracer.start_as_current_span("root"):
            app.tracer.start_span("c").end()
            assert app.account == (1, 0, 1, {})
            assert wait_for(lambda app=app, account=account: app.account == account)  # type: ignore[misc]
        app.processor.force_flush()
        assert app.account == (2, 2, 0, {}) if over_bound == "keep" else (2, 0, 0, {"sampled_out": 2})
        app.processor.shutdown()


class Numbers:
    """The state machine alone: traces are numbers, and so are items."""

    def __init__(self, **limits: Any) -> None:
        self.waiting: WaitingTraces[int] = WaitingTraces(Tail([keep_errors()], **limits))
        self.out: list[int] = []
        self.dropped = 0

    def note(self, released: Any) -> None:
        self.out += [item for item, _ in released.entries]
        self.dropped += released.dropped


STEPS = st.lists(st.tuples(st.sampled_from(["begin", "end", "span", "root", "all", "due"]), st.integers(0, 4)), max_size=60)


@settings(max_examples=80, deadline=None)
@given(STEPS, st.sampled_from(["keep", "drop"]))
def test_whatever_happens_every_item_leaves_once_and_the_bounds_hold(steps: list[tuple[str, int]], over_bound: str) -> None:
    numbers = Numbers(max_traces=3, max_spans=7, max_bytes=60, max_wait_s=5, over_bound=over_bound)
    waiting = numbers.waiting
    put = 0
    for now, (step, key) in enumerate(steps):
        if step == "begin":
            numbers.note(waiting.begin(key, now))
        elif step == "end":
            numbers.note(waiting.end(key))
        elif step in ("span", "root"):
            put += 1
            numbers.note(waiting.ended(key, lambda _, item=put: (item, 10), now, is_root=step == "root"))  # type: ignore[misc]
        else:
            numbers.note(waiting.all() if step == "all" else waiting.due(now))
        assert waiting.count <= 7
        assert waiting.bytes == 10 * waiting.count <= 60
        assert len(waiting._waiting) <= 3
        assert put == len(numbers.out) + numbers.dropped + waiting.count
    numbers.note(waiting.all())
    assert len(set(numbers.out)) == len(numbers.out)
    assert put == len(numbers.out) + numbers.dropped
    assert waiting.count == waiting.bytes == 0


@pytest.mark.parametrize("when", range(6))
def test_a_signal_that_releases_everything_in_the_middle_loses_and_doubles_nothing(when: int) -> None:
    """As a handler of SIGTERM does, which runs on the same thread, between two steps of what it interrupts."""
    numbers = Numbers()
    waiting = numbers.waiting
    calls = 0

    def interrupted(frame: Any, event: str, argument: Any) -> Any:
        nonlocal calls
        if event == "line" and frame.f_code.co_name == "add":
            calls += 1
            if calls == when + 1:
                sys.settrace(None)
                numbers.note(waiting.all())
        return interrupted

    waiting.begin(1, 0.0)
    waiting.ended(1, lambda _: (1, 10), 0.0, is_root=False)
    sys.settrace(interrupted)
    try:
        released = waiting.ended(1, lambda _: (2, 10), 0.0, is_root=False)
    finally:
        sys.settrace(None)
    numbers.note(released)
    numbers.note(waiting.all())
    assert numbers.out == [1, 2]
    assert (waiting.count, waiting.bytes) == (0, 0)


def test_of_the_verdicts_a_bounded_number_is_remembered() -> None:
    numbers = Numbers()
    for key in range(MAX_VERDICTS + 100):
        numbers.note(numbers.waiting.ended(key, lambda _: (1, 1), 0.0, is_root=True))
    assert len(numbers.waiting._left) == MAX_VERDICTS
    assert not numbers.waiting._waiting


# -- rules -------------------------------------------------------------------------------------------------------------


@contextmanager
def made() -> Iterator[tuple[Any, list[ReadableSpan]]]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    found: list[ReadableSpan] = []
    yield provider.get_tracer("t"), found
    found += exporter.get_finished_spans()


def whole(*attributes: dict[str, Any], status_code: StatusCode = StatusCode.UNSET, nanoseconds: int = 10) -> Whole:
    with made() as (tracer, spans):
        for number, one in enumerate(attributes or ({},)):
            span = tracer.start_span(f"span {number}", attributes=one, start_time=100)
            span.set_status(status_code)
            span.end(100 + nanoseconds)
    return Whole(from_sdk(spans)[0])


GENERATION = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "m"}


@pytest.mark.parametrize(
    ("rule", "yes", "no"),
    [
        (keep_errors(), whole({}, {}, status_code=StatusCode.ERROR), whole({})),
        (keep_errors(), whole({}, {"langfuse.observation.level": "error"}), whole({"langfuse.observation.level": "WARNING"})),
        (keep_slower_than(2), whole({}, nanoseconds=2_100_000_000), whole({}, nanoseconds=1_900_000_000)),
        (keep_level("WARNING"), whole({"langfuse.observation.level": "WARNING"}), whole({"langfuse.observation.level": "DEBUG"})),
        (keep_level("WARNING"), whole({}, status_code=StatusCode.ERROR), whole({})),
        (keep_type("tool", "agent"), whole({}, {"openinference.span.kind": "TOOL"}), whole(GENERATION)),
        (
            keep_tokens_over(100),
            whole({**GENERATION, "gen_ai.usage.input_tokens": 60}, {**GENERATION, "gen_ai.usage.output_tokens": 50}),
            whole({**GENERATION, "gen_ai.usage.input_tokens": 60, "gen_ai.usage.output_tokens": 40}),
        ),
        (
            keep_cost_over(1),
            whole({**GENERATION, "langfuse.observation.cost_details": '{"input": 0.7, "output": 0.5}'}),
            whole({**GENERATION, "langfuse.observation.cost_details": '{"input": 0.7, "total": 0.9, "output": 0.5}'}),
        ),
        (keep_name("span 1", "x"), whole({}, {}), whole({})),
        (keep_name("check*"), whole({"langfuse.trace.name": "checkout"}), whole({"langfuse.trace.name": "Checkout"})),
        (keep_tag("vip"), whole({}, {"langfuse.trace.tags": ("a", "vip")}), whole({"langfuse.trace.tags": ("a",)})),
        (keep_rate(1), whole({}), None),
        (keep_rate(0), None, whole({})),
        (keep_if(lambda observations: len(observations) > 1), whole({}, {}), whole({})),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "",
)
def test_each_rule_keeps_what_it_says(rule: Rule, yes: Whole | None, no: Whole | None) -> None:
    assert yes is None or rule.keeps(yes)
    assert no is None or not rule.keeps(no)


@pytest.mark.parametrize("rule", [keep_errors(), keep_slower_than(1), keep_rate(0.5)])
def test_rules_that_look_at_spans_translate_nothing(rule: Rule) -> None:
    trace_of_one = whole({})
    rule.keeps(trace_of_one)
    assert trace_of_one._observations is None
    assert not rule.reads_observations


def test_a_rule_that_raises_keeps_the_trace_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Any) -> bool:
        raise KeyError("SECRET")

    app = App(tail=[keep_if(broken)])
    app.trace("a", "b")
    assert app.sent() == ["b", "a"]
    assert "keep_if(...) raised KeyError" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    "make",
    [
        lambda: keep_slower_than(-1),
        lambda: keep_slower_than("5"),  # type: ignore[arg-type]
        lambda: keep_level("loud"),
        keep_type,
        lambda: keep_type("generations"),
        lambda: keep_tokens_over(float("nan")),
        lambda: keep_cost_over(True),
        lambda: keep_rate(1.1),
        lambda: keep_name(""),
        lambda: keep_tag(7),  # type: ignore[arg-type]
        lambda: keep_if("x"),  # type: ignore[arg-type]
        lambda: Tail([]),
        lambda: Tail([keep_errors], ),  # type: ignore[list-item]
        lambda: Tail([keep_errors()], max_traces=0),
        lambda: Tail([keep_errors()], max_wait_s=0),
        lambda: Tail([keep_errors()], over_bound="maybe"),
        lambda: LangfuseSpanProcessor(InMemorySpanExporter(), tail=[]),
        lambda: LangfuseSpanProcessor(InMemorySpanExporter(), tail=keep_errors()),  # type: ignore[arg-type]
        lambda: LangfuseSpanProcessor(InMemorySpanExporter(), tail="errors"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_at_construction(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        make()
