"""A score is sent if its trace is: by head sampling, and by tail sampling however late its verdict comes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_langfuse import LangfuseSpanProcessor, Tail, keep_name
from otel_langfuse.config import Config
from otel_langfuse.scores import Scores
from otel_langfuse.scores import _undecided as module
from otel_langfuse.scores._undecided import Undecided
from servers import Server, status

KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-SECRET"}


class App:
    """A processor and its scores, joined as a client joins them."""

    def __init__(self, url: str, **given: Any) -> None:
        self.processor = LangfuseSpanProcessor(base_url=url, filter="all", **KEYS, **given)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.processor)
        self.tracer = provider.get_tracer("app")
        self.scores = Scores(Config.from_env(base_url=url, **KEYS), keeps=self.processor.trace_verdict)

    def score(self, span: Any) -> str | None:
        return self.scores.create("quality", 1, trace_id=f"{span.get_span_context().trace_id:032x}")

    def end(self) -> None:
        self.processor.shutdown(5_000)
        self.scores.shutdown(5)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(status(207, b'{"successes":[],"errors":[]}')) as made:
        yield made


def scored(server: Server) -> set[str]:
    """The ids of traces of which scores arrived."""
    found: set[str] = set()
    for one in server.received:
        if one.path.endswith(("/scores", "/ingestion")):
            document = json.loads(one.body)
            items = [event["body"] for event in document["batch"]] if isinstance(document, dict) else document
            found |= {item["traceId"] for item in items}
    return found


def eventually(wanted: Any, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := bool(wanted())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("when", ["while it runs", "when it has ended", "when it was judged"])
def test_with_tail_a_score_follows_the_verdict(server: Server, when: str) -> None:
    app = App(server.url, tail=[keep_name("bad*")])
    ids = {}
    for name in ("bad", "good"):
        with app.tracer.start_as_current_span(name) as root:
            app.tracer.start_span("child").end()
            if when == "while it runs":
                app.score(root)
                assert app.scores.is_undecided
        if when == "when it was judged":
            app.processor.force_flush(5_000)
        if when != "while it runs":
            app.score(root)
        ids[name] = f"{root.get_span_context().trace_id:032x}"
    app.processor.force_flush(5_000)
    assert app.scores.flush(5)
    assert scored(server) == {ids["bad"]}
    assert app.scores.stats()._asdict() == {"started": 2, "exported": 1, "queued": 0, "dropped": {"sampled_out": 1}, "spooled": 0}
    app.end()


def test_it_is_sent_soon_after_the_verdict_without_a_flush(server: Server) -> None:
    app = App(server.url, tail=[keep_name("bad*")], flush_interval=0.05)
    with app.tracer.start_as_current_span("bad") as root:
        app.score(root)
        time.sleep(2 * module.STEP_S)
        assert scored(server) == set()
        assert app.scores.stats().queued == 1
    assert eventually(lambda: scored(server))
    app.end()


def test_a_score_of_a_trace_that_nobody_knows_waits_for_nothing(server: Server) -> None:
    app = App(server.url, tail=[keep_name("bad*")])
    for trace_id in ("f" * 32, "my-own-id"):
        assert app.scores.create("quality", 1, trace_id=trace_id)
    assert not app.scores.is_undecided
    assert app.scores.flush(5)
    assert scored(server) == {"f" * 32, "my-own-id"}
    app.end()


def test_with_tail_and_bounds_that_give_up_on_a_trace_its_score_goes_with_it(server: Server) -> None:
    app = App(server.url, tail=Tail([keep_name("never")], max_traces=1, over_bound="drop"))
    first = app.tracer.start_span("first")
    app.score(first)
    second = app.tracer.start_span("second")  # one too many waits
    app.scores.flush(5)
    assert scored(server) == set()
    assert app.scores.stats().dropped == {"sampled_out": 1}
    first.end()
    second.end()
    app.end()


def test_head_sampling_keeps_and_drops_scores_with_their_traces(server: Server) -> None:
    app = App(server.url, sample_rate=0.5)
    sent = set()
    for _ in range(60):
        with app.tracer.start_as_current_span("root") as root:
            if app.score(root):
                sent.add(f"{root.get_span_context().trace_id:032x}")
    app.processor.force_flush(5_000)
    assert app.scores.flush(5)
    exported = app.processor.stats().exported
    assert scored(server) == sent
    assert 10 < exported == len(sent) < 50
    app.end()


def test_what_waits_is_bounded_in_number_bytes_and_time(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr(module, "MAX_SCORES", 5)
    scores = Scores(Config.from_env(base_url=server.url, **KEYS), keeps=lambda _: None)
    threads = [threading.Thread(target=lambda i=i: scores.create("q", i, trace_id=f"{i:032x}")) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert eventually(lambda: len(scored(server)) == 4)
    assert eventually(lambda: scores.stats().queued == 5)
    assert scores.flush(5), "what nobody has judged is sent"
    assert len(scored(server)) == 9
    scores.shutdown(5)
    one: Any = type("Score", (), {"trace_id": "a"})()
    held = Undecided(lambda _: None)
    assert held.hold(one, module.MAX_BYTES, 0.0).entries == []
    assert held.hold(one, 1, 0.0).entries == [(one, module.MAX_BYTES)]
    assert held.due(module.MAX_WAIT_S - 1).entries == []
    assert held.due_at < module.MAX_WAIT_S
    assert held.due(module.MAX_WAIT_S + 1).entries == [(one, 1)]
    assert (held.count, held.due_at) == (0, float("inf"))


@pytest.mark.parametrize("end", ["client.flush(10)", "client.shutdown(10)", "flush()", "pass"])
def test_a_client_lets_the_spans_tell_first(server: Server, end: str) -> None:
    script = f"""
        import sys
        from otel_langfuse import configure, flush, keep_name, observe, start_as_current_observation
        client = configure(base_url=sys.argv[1], public_key="pk-lf-1", secret_key="sk-lf-SECRET", tail=[keep_name("bad*")])
        for name in ("bad", "good"):
            with start_as_current_observation(name=name) as observation:
                observation.score(name="quality", value=1)
                if name == "bad":
                    print(observation.trace_id)
        {end}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), server.url], capture_output=True, text=True, timeout=30, check=True
    )
    assert scored(server) == {done.stdout.strip()}
