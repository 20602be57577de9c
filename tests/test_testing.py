"""What users test their own tracing with: capture(), the pytest plugin, snapshots that are the same in every run."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import (
    ConfigError,
    observe,
    propagate_attributes,
    start_as_current_observation,
    start_observation,
    update_current_trace,
)
from otel_langfuse.testing import START_TIME, TICK, Captured, capture


@observe
def answer(question: str, limit: int = 3) -> str:
    with start_as_current_observation(name="call", as_type="generation", model="toy-1", input=question) as generation:
        generation.update(output={"text": "Because."}, usage_details={"input": 2, "output": 1}, metadata={"team": "a"})
    trace.get_tracer("shop").start_span("look up").end()
    return "Because."


def run() -> None:
    with propagate_attributes(user_id="ada", session_id="s-1", tags=["b", "a"]):
        answer("Why?")


SNAPSHOT = """\
trace 1
  user_id: "ada"
  session_id: "s-1"
  tags: ["a","b"]
  span answer
    input: {"limit":3,"question":"Why?"}
    output: "Because."
    generation call
      model: "toy-1"
      usage_details: {"input":2,"output":1}
      input: "Why?"
      output: {"text":"Because."}
      metadata: {"team":"a"}
    span look up
"""


def test_a_whole_trace_as_text_is_the_same_in_every_run() -> None:
    snapshots = set()
    for _ in range(3):
        with capture() as observations:
            run()
        snapshots.add(observations.snapshot())
    assert snapshots == {SNAPSHOT}


def test_what_is_said_of_a_trace_is_shown_once() -> None:
    with (
        capture() as observations,
        propagate_attributes(metadata={"team": "a"}, trace_name="request", user_id="ada"),
        start_as_current_observation("one", input="in", metadata={"own": 1}),
    ):
        update_current_trace(output="told", metadata={"k": 2})
        start_observation("two").end()
    assert (
        observations.snapshot()
        == """\
trace 1
  name: "request"
  user_id: "ada"
  output: "told"
  metadata: {"k":2,"team":"a"}
  span one
    input: "in"
    metadata: {"own":1}
    span two
"""
    )


def test_what_no_wire_takes_is_shown_all_the_same() -> None:
    with capture() as observations, pytest.raises(ValueError, match="a"), start_as_current_observation("one"):
        raise ValueError("a\ud800b")
    assert 'status_message: "ValueError: a&#55296;b"' in observations.snapshot()


def test_as_json_it_says_the_same() -> None:
    with capture() as observations:
        run()
    (entry,) = observations.tree()
    assert entry["user_id"] == "ada"
    (root,) = entry["observations"]
    assert [(child["type"], child["name"]) for child in root["observations"]] == [("generation", "call"), ("span", "look up")]
    assert root["observations"][0]["usage_details"] == {"input": 2, "output": 1}
    assert "observations" not in root["observations"][0]


def test_observations_are_found_by_name_in_the_order_of_their_start() -> None:
    with capture() as observations:
        run()
        answer("Again?")
    assert [one.name for one in observations] == ["answer", "call", "look up"] * 2
    assert [one.input for one in observations.named("call")] == ["Why?", "Again?"]
    assert observations[0].trace.user_id == "ada"
    assert observations[3].trace.user_id is None
    assert repr(observations) == "<6 observations: answer, call, look up, answer, call, look up>"


def test_one_says_what_there_is_when_there_is_not_exactly_one() -> None:
    with capture() as observations:
        run()
        run()
    with pytest.raises(
        AssertionError, match=re.escape("expected one observation named 'call', found 2 among ['answer', 'call',")
    ):
        observations.one("call")
    with pytest.raises(AssertionError, match="named 'other', found 0"):
        observations.one("other")
    with pytest.raises(AssertionError, match="expected one observation, found 6"):
        observations.one()


def test_ids_and_times_are_fixed_and_tell_the_order() -> None:
    with capture() as observations:
        run()
    root, call, look_up = observations
    assert {one.trace_id for one in observations} == {f"{1:032x}"}
    assert [(one.id, one.parent_id) for one in observations] == [
        (f"{1:016x}", None),
        (f"{2:016x}", f"{1:016x}"),
        (f"{3:016x}", f"{1:016x}"),
    ]
    assert [root.start_time_unix_nano, call.start_time_unix_nano, call.end_time_unix_nano] == [
        START_TIME,
        START_TIME + TICK,
        START_TIME + 2 * TICK,
    ]
    assert root.end_time_unix_nano == START_TIME + 5 * TICK
    assert look_up.end_time_unix_nano == START_TIME + 4 * TICK


def test_as_they_are_where_that_is_asked_for() -> None:
    with capture(fixed=False) as observations, start_as_current_observation(name="a"):
        context = trace.get_current_span().get_span_context()
    assert observations.one("a").trace_id == f"{context.trace_id:032x}"
    assert observations.one("a").id == f"{context.span_id:016x}"


def test_while_the_block_runs_it_holds_what_has_ended_and_names_what_has_not() -> None:
    with capture() as observations:
        span = trace.get_tracer("t").start_span("forgotten")
        answer("Why?")
        assert [one.name for one in observations] == ["answer", "call", "look up"]
        assert observations.running == ["forgotten"]
    assert observations.running == ["forgotten"]
    span.end()
    assert len(observations) == 3, "what ends after the block is not in it"


def test_nothing_from_before_or_after_or_of_other_providers_is_in_it() -> None:
    answer("before")
    with capture() as observations:
        TracerProvider().get_tracer("t").start_span("of another provider").end()
    answer("after")
    assert list(observations) == []
    assert observations.snapshot() == ""


def test_captures_inside_of_each_other_hold_each_their_own() -> None:
    with capture() as outer:
        answer("first")
        with capture() as inner:
            answer("second")
    assert [one.input for one in inner.named("call")] == ["second"]
    assert [one.input for one in outer.named("call")] == ["first", "second"]


def test_threads_and_tasks_are_captured() -> None:
    async def both() -> None:
        await asyncio.gather(asyncio.to_thread(answer, "a"), asyncio.to_thread(answer, "b"))

    with capture() as observations:
        thread = threading.Thread(target=answer, args=("c",))
        thread.start()
        thread.join()
        asyncio.run(both())
    assert sorted(str(one.input) for one in observations.named("call")) == ["a", "b", "c"]


def test_settings_of_the_processor_are_tested_with_it() -> None:
    with capture(
        mask=lambda data: data.replace("Why", "***"), should_export_span=lambda span: span.name != "look up"
    ) as observations:
        answer("Why?")
    assert [one.name for one in observations] == ["answer", "call"]
    assert observations.one("call").input == "***?"
    with pytest.raises(ConfigError, match="flush_at"), capture(flush_at=0):
        raise AssertionError("not reached")


def test_an_exception_of_the_block_passes_and_what_was_recorded_stays() -> None:
    with pytest.raises(ZeroDivisionError), capture() as observations, start_as_current_observation(name="a"):
        _ = 1 / 0
    assert observations.one("a").level == "ERROR"
    assert '  level: "ERROR"' in observations.snapshot()


def test_a_provider_of_ones_own() -> None:
    provider, others = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(others))
    with capture(tracer_provider=provider) as observations:
        provider.get_tracer("t").start_span("a").end()
    assert [one.name for one in observations] == ["a"]
    assert [span.name for span in others.get_finished_spans()] == ["a"], "other processors get what they always get"


def test_one_provider_gets_one_processor_however_often_it_is_captured() -> None:
    provider = TracerProvider()
    counts = set()
    for _ in range(5):
        with capture(tracer_provider=provider):
            counts.add(len(provider._active_span_processor._span_processors))
    assert counts == {1}


def test_a_flush_of_the_provider_succeeds_also_when_nothing_is_captured() -> None:
    provider = TracerProvider()
    with capture(tracer_provider=provider):
        provider.get_tracer("t").start_span("a").end()
        assert provider.force_flush() is True
    assert provider.force_flush() is True


def test_a_provider_that_takes_no_processors_is_an_error_that_says_so() -> None:
    with (
        pytest.raises(RuntimeError, match="NoOpTracerProvider takes no span processors"),
        capture(tracer_provider=trace.NoOpTracerProvider()),
    ):
        raise AssertionError("not reached")


def pytest_run(path: Path, program: str, **environ: str) -> Any:
    (path / "test_app.py").write_text(textwrap.dedent(program))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(path)]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1] / "src"), **environ}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, cwd=path, check=False)


def test_the_fixture_of_the_plugin(tmp_path: Path) -> None:
    done = pytest_run(
        tmp_path,
        """
        from otel_langfuse import observe

        @observe
        def answer(question):
            return "Because."

        def test_answer(langfuse_observations):
            answer("Why?")
            assert langfuse_observations.one("answer").output == "Because."

        def test_each_test_has_its_own(langfuse_observations):
            assert len(langfuse_observations) == 0
        """,
        LANGFUSE_SAMPLE_RATE="0",
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_where_tracing_is_switched_off_it_says_so_instead_of_capturing_nothing(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, "def test_a(langfuse_observations): pass", LANGFUSE_TRACING_ENABLED="false")
    assert "LANGFUSE_TRACING_ENABLED is false" in done.stdout


def test_the_plugin_loads_nothing_before_it_is_asked(tmp_path: Path) -> None:
    done = pytest_run(
        tmp_path,
        """
        import sys
        def test_a():
            assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk")]
        """,
        PYTEST_ADDOPTS="-p no:langsmith_plugin",  # which loads it
    )
    assert "1 passed" in done.stdout, done.stdout


def test_of_another_process_parent_is_told_apart() -> None:
    remote = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1)))
    with capture() as observations, trace.use_span(remote):
        answer("Why?")
    assert observations.one("answer").parent_id == "f" * 16
    assert observations.snapshot().startswith("trace 1\n  span answer\n")


def test_it_is_a_sequence(langfuse_observations: Captured) -> None:
    run()
    assert langfuse_observations[0].name == "answer"
    assert [one.name for one in langfuse_observations[1:]] == ["call", "look up"]
    assert langfuse_observations.named("call")[0] in langfuse_observations
