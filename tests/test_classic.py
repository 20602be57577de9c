"""The classic client: nothing that was begun is lost, however a program ends, and nothing of it reaches the program."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from langfuse_server import PUBLIC, SECRET, LangfuseServer
from otel_langfuse import ConfigError, Langfuse, LangfuseOTLPExporter, ScoreError, get_client, project, propagate_attributes
from otel_langfuse.classic import Handle, _known, observation_id_of, trace_id_of
from otel_langfuse.model import Observation
from otel_langfuse.store import Store
from otel_langfuse.tracing import _origin
from otel_langfuse.tracing.ids import root_id_of
from servers import Server, closed_port


@pytest.fixture(autouse=True)
def _apart() -> Any:
    _known._start_anew()
    _origin.NOTES._reset()
    yield
    _origin.register()


def to_store(path: Path, **settings: Any) -> Langfuse:
    provider = TracerProvider(shutdown_on_exit=False)
    return Langfuse(host=f"sqlite:///{path}/store.db", tracer_provider=provider, **settings)


def stored(path: Path) -> dict[str, Observation]:
    store = Store(path / "store.db")
    found = {one.name: one for summary in store.traces() for one in store.trace(summary.id)}
    store.close()
    return found


def run(script: str, path: Path, expected: int = 0) -> str:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANGFUSE_BASE_URL": f"sqlite:///{path}/store.db"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert done.returncode == expected, done.stderr
    return done.stderr


# -- ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "trace_id"),
    [
        ("0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319c"),
        ("0AF7651916CD43DD8448EB211C80319C", "0af7651916cd43dd8448eb211c80319c"),
        ("0af76519-16cd-43dd-8448-eb211c80319c", "0af7651916cd43dd8448eb211c80319c"),
        ("order-17", "1c0a3bd3c5fc8c4c9ea4a5a4bcba5d7f"),
    ],
)
def test_any_text_stands_for_a_trace_id_always_the_same(given: str, trace_id: str) -> None:
    made = trace_id_of(given)
    assert made == (trace_id if given != "order-17" else Langfuse.create_trace_id(seed="order-17"))
    assert trace_id_of(made) == made


@pytest.mark.parametrize("given", ["", " ", "0" * 32, "x" * 5000, "\ud800", "é"])
def test_whatever_the_text_the_ids_are_valid(given: str) -> None:
    for made, length in ((trace_id_of(given), 32), (observation_id_of(given), 16), (root_id_of(trace_id_of(given)), 16)):
        assert len(made) == length
        assert int(made, 16)


# -- how things end ----------------------------------------------------------------------------------------


def test_a_trace_ends_when_nobody_can_end_it_any_more_with_its_last_observation(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)

    def request() -> None:
        trace = langfuse.trace(name="t")
        trace.span(name="a").end()
        trace.span(name="never ended")

    request()
    assert langfuse.client.flush(5), "not the client's flush: nothing else ends them"
    found = stored(tmp_path)
    assert set(found) == {"t", "a", "never ended"}
    assert found["t"].end_time_unix_nano == max(found["a"].end_time_unix_nano or 0, found["never ended"].end_time_unix_nano or 0)


def test_a_child_that_is_held_keeps_its_trace_running(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    span = langfuse.trace(name="t").span(name="s")
    gc.collect()
    langfuse.flush()
    assert stored(tmp_path) == {}
    span.end()
    del span
    langfuse.client.flush(5)
    assert set(stored(tmp_path)) == {"t", "s"}


def test_handles_in_a_cycle_end_at_the_next_call_or_flush(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    cycle: dict[str, Any] = {"trace": langfuse.trace(name="t")}
    cycle["self"] = cycle
    del cycle
    gc.collect()
    langfuse.flush()
    assert set(stored(tmp_path)) == {"t"}


def test_a_flush_ends_traces_in_which_nothing_runs_and_corrects_them_when_something_follows(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    idle, busy = langfuse.trace(name="idle"), langfuse.trace(name="busy")
    idle.span(name="a").end()
    running = busy.span(name="b")
    langfuse.flush()
    assert set(stored(tmp_path)) == {"idle", "a"}
    first_end = stored(tmp_path)["idle"].end_time_unix_nano
    idle.span(name="c").end()
    running.end()
    langfuse.flush()
    found = stored(tmp_path)
    assert set(found) == {"idle", "a", "busy", "b", "c"}
    assert found["idle"].end_time_unix_nano == found["c"].end_time_unix_nano != first_end


BEGUN = """
    import os, sys, signal
    from otel_langfuse import Langfuse
    langfuse = Langfuse()
    trace = langfuse.trace(name="trace", input="in")
    span = trace.span(name="span")
    generation = span.generation(name="generation")
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("raise RuntimeError('boom')", 1),
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("langfuse.shutdown()", 0),
    ],
)
def test_what_nobody_ended_arrives_however_the_program_ends(end: str, code: int, tmp_path: Path) -> None:
    errors = run(textwrap.dedent(BEGUN) + end, tmp_path, code)
    assert "otel-langfuse" not in errors
    found = stored(tmp_path)
    assert set(found) == {"trace", "span", "generation"}
    assert found["generation"].parent_id == found["span"].id


def test_a_forked_child_sends_what_it_began_and_leaves_its_parents_traces_alone(tmp_path: Path) -> None:
    run(
        textwrap.dedent(BEGUN)
        + textwrap.dedent("""
            child = os.fork()
            if child == 0:
                langfuse.trace(name="of the child").span(name="its span")
                trace.span(name="below the parent's")
                del trace, span, generation
                assert langfuse.stats().started == 3, "what the parent has begun is the parent's to end"
                sys.exit()
            assert os.waitpid(child, 0)[1] == 0
            trace.update(output="of the parent")
        """),
        tmp_path,
    )
    found = stored(tmp_path)
    assert set(found) == {"trace", "span", "generation", "of the child", "its span", "below the parent's"}
    assert found["below the parent's"].parent_id == found["trace"].id
    assert found["trace"].output == "of the parent"


def test_many_threads_and_many_traces_leave_nothing_behind(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)

    def work(number: int) -> None:
        for i in range(20):
            trace = langfuse.trace(name=f"{number}-{i}")
            threads = [threading.Thread(target=lambda t=trace: t.span(name="s").end(output=1)) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    del workers
    gc.collect()
    assert langfuse.flush()
    assert langfuse.stats()[:3] == (4 * 20 * 3, 4 * 20 * 3, 0)
    assert not _known._State.open


def test_what_has_ended_is_remembered_only_within_bounds(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    for i in range(_known.MAX_ENDED + 200):
        langfuse.event(name="e", id=f"id-{i}")
    assert len(_known._State.ended) <= _known.MAX_ENDED
    for i in range(20):
        langfuse.event(name="large", id=f"large-{i}", input="x" * 900_000)
    assert _known._State.size <= _known.MAX_ENDED_CHARACTERS
    assert len({id(node) for node in _known._State.ended.values()}) < 40
    langfuse.shutdown()


# -- with others ----------------------------------------------------------------------------------------


def test_spans_of_others_become_children_inside_of_a_with(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    with langfuse.trace(name="t", user_id="u") as trace, trace.span(name="s"):
        langfuse.client._provider.get_tracer("theirs").start_span("theirs").end()
        with langfuse.start_as_current_observation(name="modern"):
            pass
    with pytest.raises(ValueError, match="boom"), langfuse.trace(name="failed"):
        raise ValueError("boom")
    langfuse.flush()
    found = stored(tmp_path)
    assert found["theirs"].parent_id == found["modern"].parent_id == found["s"].id
    assert found["theirs"].trace.user_id == "u"
    assert (found["failed"].level, found["failed"].status_message) == ("ERROR", "ValueError: boom")


def test_the_trace_that_runs_here_is_told_things_by_its_id_and_not_ended(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    with langfuse.start_as_current_observation(name="root"):
        current = langfuse.get_current_trace_id()
        assert current is not None
        langfuse.trace(id=current, user_id="u")
        langfuse.span(trace_id=current, parent_observation_id=langfuse.get_current_observation_id(), name="below").end()
        langfuse.flush()
        assert "root" not in stored(tmp_path)
    langfuse.flush()
    found = stored(tmp_path)
    assert found["root"].trace.user_id == "u"
    assert found["below"].parent_id == found["root"].id


def test_ids_are_chosen_for_classic_spans_alone(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    langfuse.trace(id="mine", name="t").end()
    others = [langfuse.client._provider.get_tracer("theirs").start_span("x").get_span_context() for _ in range(3)]
    assert len({context.trace_id for context in others}) == 3
    assert trace_id_of("mine") not in {f"{context.trace_id:032x}" for context in others}


def test_elsewhere_a_late_update_is_a_further_span_that_says_of_which() -> None:
    exporter = InMemorySpanExporter()
    langfuse = Langfuse(exporter=exporter, tracer_provider=TracerProvider(shutdown_on_exit=False))
    trace = langfuse.trace(name="t")
    span = trace.span(name="s", input="in")
    span.end()
    span.update(output="late")
    langfuse.flush()
    spans = {one.name: one for one in exporter.get_finished_spans()}
    assert set(spans) == {"t", "s", "s (update)"}
    late = spans["s (update)"]
    assert late.parent is not None
    assert late.parent.span_id == spans["s"].context.span_id
    assert dict(late.attributes or {}) == {
        "langfuse.trace.name": "t",
        "langfuse.observation.type": "event",
        "langfuse.observation.output": "late",
        "langfuse.observation.metadata.updates_observation": span.id,
    }


def test_a_collector_gets_no_span_twice() -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces")
        langfuse = Langfuse(exporter=exporter, tracer_provider=TracerProvider(shutdown_on_exit=False))
        span = langfuse.trace(name="t").span(name="s")
        span.end()
        span.update(output="late")
        span.score(name="q", value=1)
        langfuse.flush()
        trace = langfuse.trace(id=span.trace_id)
        trace.span(name="more").end()
        langfuse.flush()
        assert sorted(server.names) == ["more", "s", "s (update)", "t"], "its end is not corrected there"


def test_elsewhere_too_what_is_said_late_of_a_trace_reaches_spans_that_are_not_sent() -> None:
    exporter = InMemorySpanExporter()
    langfuse = Langfuse(exporter=exporter, tracer_provider=TracerProvider(shutdown_on_exit=False), flush_interval=60)
    trace = langfuse.trace(name="t")
    trace.span(name="s").end()
    trace.update(user_id="ada")
    langfuse.flush()
    assert {(one.attributes or {}).get("user.id") for one in exporter.get_finished_spans()} == {"ada"}


def test_a_score_on_a_running_observation_is_an_event_on_its_span() -> None:
    exporter = InMemorySpanExporter()
    langfuse = Langfuse(exporter=exporter, tracer_provider=TracerProvider(shutdown_on_exit=False))
    trace = langfuse.trace(name="t", id="mine")
    span = trace.span(name="s", id="of it")
    span.score(name="by handle", value=1)
    langfuse.score(name="by ids", value=1, trace_id="mine", observation_id="of it")
    trace.score(name="of the trace", value=1)
    with langfuse.start_as_current_observation(name="modern") as modern:
        modern.score(name="modern", value="good")
        with modern.start_as_current_observation("inner") as inner:
            inner.score_trace(name="of its trace", value=1)
    span.end()
    langfuse.flush()
    events = {
        one.name: [(event.attributes or {})["gen_ai.evaluation.name"] for event in one.events]
        for one in exporter.get_finished_spans()
    }
    assert events == {"s": ["by handle", "by ids"], "t": ["of the trace"], "modern": ["modern", "of its trace"], "inner": []}


# -- where nothing can be recorded ----------------------------------------------------------------------------------------


def use_all(langfuse: Langfuse) -> Handle:
    trace = langfuse.trace(name="t", id="mine", input=1)
    span = trace.span(name="s")
    span.generation(name="g", usage={"input": 1}).end()
    span.event(name="e")
    span.update(output=1).end()
    span.update(output=2)
    trace.update(output=1).end()
    langfuse.span(trace_id="mine", name="x")
    langfuse.score(trace_id="mine", name="q", value=1)
    langfuse.flush(timeout=0.5)
    return trace


def test_disabled_it_records_and_sends_nothing_and_gives_ids_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        langfuse = Langfuse("pk", "sk", server.url, enabled=False, tracer_provider=TracerProvider(shutdown_on_exit=False))
        trace = use_all(langfuse)
        assert trace.id == "mine"
        assert langfuse.shutdown()
        assert not server.received
        assert not caplog.records


def test_without_keys_one_warning_says_what_to_set(caplog: pytest.LogCaptureFixture) -> None:
    langfuse = Langfuse(tracer_provider=TracerProvider(shutdown_on_exit=False))
    use_all(langfuse)
    assert [record.getMessage() for record in caplog.records if "LANGFUSE_PUBLIC_KEY" in record.getMessage()]
    assert len(caplog.records) == 1
    assert not langfuse.auth_check()


def test_what_is_not_sampled_is_not_recorded_at_any_depth(tmp_path: Path) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    langfuse = Langfuse(host=f"sqlite:///{tmp_path}/store.db", tracer_provider=provider)
    use_all(langfuse)
    assert langfuse.stats().started == 0


def test_by_sample_rate_a_trace_and_its_scores_share_their_fate(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path, sample_rate=0.0)
    use_all(langfuse)
    assert set(langfuse.stats().dropped) == {"sampled_out"}
    assert set(langfuse.client.scores.stats().dropped) == {"sampled_out"}


class ForeignProvider(trace_api.TracerProvider):
    """Of another vendor: takes no span processors, and its tracers choose their own ids."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace_api.Tracer:
        return trace_api.NoOpTracer()


def test_a_foreign_provider_gets_one_warning_and_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with closed_port() as url:
        langfuse = Langfuse("pk", "sk", url, tracer_provider=ForeignProvider())
        use_all(langfuse)
        assert sum("takes no span processors" in record.getMessage() for record in caplog.records) == 1


def test_after_shutdown_everything_is_a_counted_drop_and_get_client_makes_a_new_one(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    assert langfuse.shutdown()
    use_all(langfuse)
    assert langfuse.stats().dropped["after_shutdown"] == langfuse.stats().started > 0
    assert langfuse.client.scores.stats().dropped == {"after_shutdown": 1}


def test_a_setting_that_cannot_work_is_named_at_construction() -> None:
    for setting, value in (("flush_at", "abc"), ("sample_rate", 2), ("host", "ftp://x"), ("mask", 3), ("environment", "Prod!")):
        with pytest.raises(ConfigError, match="expected"):
            Langfuse(**{setting: value}, tracer_provider=TracerProvider(shutdown_on_exit=False))
    with pytest.raises(TypeError, match="no such setting: colour"):
        Langfuse(colour="red")


def test_arguments_for_the_machinery_of_other_sdks_are_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    with closed_port() as url:
        Langfuse("pk", "sk", url, tracer_provider=provider, httpx_client=object(), sdk_integration="default").shutdown(0)
    assert "have no meaning here: httpx_client, sdk_integration" in caplog.text


def test_in_debug_mode_a_score_that_langfuse_would_not_take_raises(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path, debug=True)
    with pytest.raises(ScoreError, match="expected a finite number"):
        langfuse.trace(name="t").score(name="q", value=float("inf"))


def test_auth_check_says_why_not(caplog: pytest.LogCaptureFixture) -> None:
    with closed_port() as url:
        langfuse = Langfuse("pk", "sk-lf-SECRET", url, tracer_provider=TracerProvider(shutdown_on_exit=False), max_retries=0)
        assert not langfuse.auth_check()
    assert "auth_check" in caplog.text
    assert "SECRET" not in caplog.text


def test_get_client_leads_to_that_of_a_key_and_where_several_could_be_meant_to_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with closed_port() as url:
        made = [Langfuse(key, "sk", url, tracer_provider=TracerProvider(shutdown_on_exit=False)) for key in ("pk-a", "pk-b")]
        assert get_client(public_key="pk-a") is made[0]
        with project("pk-b"):
            assert get_client() is made[1]
        assert get_client() not in made
        assert get_client().flush(1)


# -- ids, in any order -----------------------------------------------------------------------------------------------------------


def test_a_trace_that_is_named_after_its_observations_is_none_of_them(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    langfuse.generation(id="g", trace_id="T", parent_observation_id="s", name="gen", output="said").end()
    langfuse.span(id="s", trace_id="T", name="span", input="in")
    langfuse.trace(id="T", name="trace", user_id="u", output="of the trace")
    langfuse.span(trace_id="T", name="below the trace").end()
    langfuse.flush()
    found = stored(tmp_path)
    assert {name: one.parent_id for name, one in found.items()} == {
        "gen": observation_id_of("s"),
        "span": root_id_of(trace_id_of("T")),
        "trace": None,
        "below the trace": found["trace"].id,
    }
    assert found["trace"].id == root_id_of(trace_id_of("T"))
    assert (found["gen"].output, found["trace"].output) == ("said", "of the trace")


def test_an_observation_in_something_that_is_not_known_here_does_not_stand_for_its_trace(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    langfuse.trace(id="T", name="trace")
    elsewhere = langfuse.span(trace_id="T", parent_observation_id="of another process", name="below it")
    langfuse.trace(id="T", output="of the trace")
    elsewhere.end()
    langfuse.flush()
    found = stored(tmp_path)
    assert set(found) == {"trace", "below it"}
    assert (found["trace"].output, found["below it"].output) == ("of the trace", None)


def test_a_parent_by_its_id_alone_is_found(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    langfuse.span(trace_id="T", id="up", name="up")
    below = langfuse.span(parent_observation_id="up", name="below")
    assert (below.trace_id, below.parent_observation_id) == ("T", "up")
    del below
    langfuse.flush()
    found = stored(tmp_path)
    assert found["below"].parent_id == found["up"].id
    assert found["below"].trace_id == found["up"].trace_id


def test_nothing_is_remembered_for_ever_of_observations_by_ids(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    for number in range(50):
        langfuse.span(trace_id=f"trace {number}", name="n").end()
    assert not _known._State.open


def test_what_threads_call_by_one_id_is_one_and_what_each_says_is_kept(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    barrier = threading.Barrier(8)
    interval = sys.getswitchinterval()

    def work(number: int) -> None:
        barrier.wait()
        for step in range(60):
            langfuse.span(id=f"s{step}", trace_id="T", name=f"s{step}", metadata={f"from{number}": 1})
            langfuse.trace(id="T", tags=[f"t{number}-{step % 4}"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    langfuse.flush()
    store = Store(tmp_path / "store.db")
    rows = [one for summary in store.traces() for one in store.trace(summary.id)]
    store.close()
    steps = [one for one in rows if one.name.startswith("s")]
    assert len(steps) == 60
    assert {len([key for key in one.metadata if key.startswith("from")]) for one in steps} == {8}
    (trace,) = (one for one in rows if one.parent_id is None)
    assert len(trace.trace.tags) == 32


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__

    def __gt__(self, other: object) -> bool:
        raise RuntimeError("no order")


FIELDS = (
    "id",
    "trace_id",
    "parent_observation_id",
    "name",
    "start_time",
    "end_time",
    "timestamp",
    "input",
    "metadata",
    "tags",
    "level",
)


@pytest.mark.parametrize("value", [Hostile(), [Hostile()], {"a": Hostile()}, {Hostile: 1}, b"bytes", 10**400, "\ud800"])
def test_nothing_that_a_field_is_given_raises(tmp_path: Path, value: Any) -> None:
    langfuse = to_store(tmp_path)
    for field in FIELDS:
        for make in (langfuse.trace, langfuse.span, langfuse.generation, langfuse.event):
            made: Any = make(**{field: value})
            made.update(**{field: value}).end(**{field: value})
            made.span(**{field: value})
            assert isinstance(made.id, str)
        langfuse.score(**{"name": "n", "value": 1, "trace_id": "t", field: value})
    assert langfuse.flush()


@pytest.mark.parametrize("own", [UUID(int=7), 17, "order-17", str(UUID(int=7))])
def test_a_score_is_for_what_was_made_under_the_same_id_whatever_its_type(own: Any) -> None:
    with LangfuseServer() as server:
        langfuse = Langfuse(PUBLIC, SECRET, server.url, tracer_provider=TracerProvider(shutdown_on_exit=False))
        made = langfuse.trace(id=own, name="t").span(id=own, name="s")
        langfuse.score(name="q", value=1, trace_id=own, observation_id=own)
        made.end()
        assert langfuse.flush()
        langfuse.shutdown()
        (trace_id, span_id), score = made.span_context, server.score("q")
        assert (score["traceId"], score["observationId"]) == (trace_id, span_id)


def test_a_score_of_an_observation_that_was_made_here_needs_no_trace() -> None:
    with LangfuseServer() as server:
        langfuse = Langfuse(PUBLIC, SECRET, server.url, tracer_provider=TracerProvider(shutdown_on_exit=False))
        span = langfuse.trace(id="t").span(id="s")
        langfuse.score(name="q", value=1, observation_id=span.id)
        assert langfuse.flush()
        langfuse.shutdown()
        assert (server.score("q")["traceId"], server.score("q")["observationId"]) == span.span_context


def test_a_score_that_has_nowhere_to_go_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    exporter = InMemorySpanExporter()
    langfuse = Langfuse(exporter=exporter, tracer_provider=TracerProvider(shutdown_on_exit=False))
    span = langfuse.trace(name="t").span(name="s")
    span.score(name="in time", value=1)
    assert langfuse.client.scores.stats()[:5] == (0, 0, 0, {}, 0)
    span.end()
    span.score(name="late", value=1)
    assert langfuse.client.scores.stats()[:5] == (1, 0, 0, {"send_failed": 1}, 0)
    assert sum("a score goes nowhere" in record.getMessage() for record in caplog.records) == 1
    langfuse.shutdown()


def test_empty_texts_are_what_nobody_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with LangfuseServer() as server:
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", PUBLIC)
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", SECRET)
        monkeypatch.setenv("LANGFUSE_HOST", server.url)
        langfuse = Langfuse("", "", "", release="", environment="", tracer_provider=TracerProvider(shutdown_on_exit=False))
        assert langfuse.auth_check()
        langfuse.shutdown()


@pytest.mark.parametrize("answer", [b"<html>log in</html>", b"[]", b"null", b""])
def test_auth_check_says_that_something_else_answers(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        langfuse = Langfuse(PUBLIC, SECRET, url, tracer_provider=TracerProvider(shutdown_on_exit=False))
        assert not langfuse.auth_check()
        langfuse.shutdown()
        server.shutdown()
    assert "no Langfuse server: check base_url" in caplog.text


# -- what is around a trace ------------------------------------------------------------------------------------------------------


def said(one: Observation) -> tuple[Any, ...]:
    return one.trace.name, one.trace.user_id, one.trace.session_id


def test_what_a_trace_says_wins_over_what_is_around_it_and_yields_to_what_is_inside_of_its_with(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    with propagate_attributes(user_id="around", session_id="around"):
        trace = langfuse.trace(name="t", user_id="own")
        trace.span(name="child").end()
        with trace:
            langfuse.start_observation(name="in its with").end()
            with propagate_attributes(user_id="inside"):
                langfuse.start_observation(name="inside").end()
    langfuse.flush()
    found = stored(tmp_path)
    assert said(found["child"]) == said(found["in its with"]) == ("t", "own", "around")
    assert said(found["inside"]) == ("t", "inside", "around")


def test_a_trace_within_the_with_of_another_is_told_nothing_of_it(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)
    with propagate_attributes(session_id="around"), langfuse.trace(name="outer", user_id="outer", session_id="outer") as outer:
        with outer.span(name="step"), propagate_attributes(tags=["inside"]):
            langfuse.trace(name="other").span(name="below other").end()
            langfuse.span(name="alone").end()
            langfuse.span(name="elsewhere", trace_id="of another process").end()
            with langfuse.trace(name="entered"), langfuse.start_as_current_observation(name="below entered"):
                pass
        outer.span(name="below outer").end()
    langfuse.flush()
    found = stored(tmp_path)
    assert said(found["below outer"]) == said(found["step"]) == ("outer", "outer", "outer")
    assert said(found["other"]) == said(found["below other"]) == ("other", None, "around")
    assert said(found["entered"]) == said(found["below entered"]) == ("entered", None, "around")
    for name in ("alone", "elsewhere"):
        assert said(found[name])[1:] == (None, "around")
    assert {tuple(found[name].trace.tags) for name in ("other", "alone", "below entered")} == {("inside",)}


def test_a_generator_that_is_left_within_a_with_lends_its_trace_to_no_other(tmp_path: Path) -> None:
    langfuse = to_store(tmp_path)

    async def parts() -> AsyncIterator[int]:
        with langfuse.trace(name="left", user_id="left") as trace, trace.span(name="step"):
            yield 1
            yield 2

    async def main() -> None:
        async for _ in parts():
            break
        with langfuse.trace(name="next"), langfuse.start_as_current_observation(name="below next"):
            pass

    asyncio.run(main())
    langfuse.flush()
    found = stored(tmp_path)
    assert said(found["next"]) == said(found["below next"]) == ("next", None, None)
