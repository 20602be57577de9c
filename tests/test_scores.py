"""Scores: checked at the call, through a queue of their own, by the way that the server knows; and on spans."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import propagate_attributes, retry
from otel_langfuse.config import Config
from otel_langfuse.errors import ScoreError
from otel_langfuse.pipeline import sample
from otel_langfuse.scores import Scores, _event
from otel_langfuse.store import Store
from servers import Exchange, Server, Step, closed_port, hang, multi_status, reset, status

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
NOT_AN_ARRAY = b'{"message":"Invalid request data","error":[{"message":"expected object, received array"}]}'


def scores_to(server: Server | str, *, mask: Any = None, keeps: Any = None, debug: bool = False, **settings: Any) -> Scores:
    url = server if isinstance(server, str) else server.url
    config = Config.from_env({}, base_url=url, public_key="pk-lf-1", secret_key="sk-lf-SECRET", **settings)
    return Scores(config, mask=mask, keeps=keeps, debug=debug)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait before a retry is a tenth of production's."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)


@pytest.fixture
def sink() -> Iterator[tuple[Scores, list[dict[str, Any]]]]:
    """Scores to a server of the newest kind, and those that it took."""
    with Server(newest()) as server:
        scores = scores_to(server)
        yield scores, taken(server)
        scores.shutdown(5)


def taken(server: Server) -> Any:
    class Taken(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter([one for received in server.taken for one in bodies(received)])

        def __len__(self) -> int:
            return len(list(iter(self)))

        def __getitem__(self, index: Any) -> Any:
            return list(iter(self))[index]

    return Taken()


def bodies(received: Any) -> list[dict[str, Any]]:
    """The scores of a request, whatever the way."""
    document = json.loads(received.body)
    if received.path.endswith("/ingestion"):
        assert {event["type"] for event in document["batch"]} == {"score-create"}
        return [event["body"] for event in document["batch"]]
    return document if isinstance(document, list) else [document]


# -- the kinds of servers ----------------------------------------------------------------------------------------


def newest() -> Step:
    """Takes arrays, as of api.md 5.1."""
    return by_route(array=status(202, b'{"message":"Accepted"}'), ingestion=status(404), single=status(404))


def version_4() -> Step:
    """Takes score-create at /ingestion, and single scores; no arrays."""
    return by_route(array=status(400, NOT_AN_ARRAY), ingestion=multi_status(lambda _: None), single=status(200, b'{"id":"x"}'))


def only_single(one: Step | None = None) -> Step:
    return by_route(array=status(400, NOT_AN_ARRAY), ingestion=status(410), single=one or status(200, b'{"id":"x"}'))


def by_route(*, array: Step, ingestion: Step, single: Step) -> Step:
    def step(exchange: Exchange) -> None:
        received = exchange.received
        if received.path.endswith("/ingestion"):
            ingestion(exchange)
        elif received.path.endswith("/api/public/scores"):
            (array if received.body.startswith(b"[") else single)(exchange)
        else:
            status(404)(exchange)

    return step


# -- what is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fields", "said"),
    [
        (0.9, {}, {"value": 0.9, "dataType": "NUMERIC"}),
        (1, {}, {"value": 1.0, "dataType": "NUMERIC"}),
        (True, {}, {"value": 1.0, "dataType": "BOOLEAN"}),
        (0, {"data_type": "boolean"}, {"value": 0.0, "dataType": "BOOLEAN"}),
        ("good", {}, {"value": "good", "dataType": "CATEGORICAL"}),
        ("well written", {"data_type": "TEXT"}, {"value": "well written", "dataType": "TEXT"}),
        ("better so", {"data_type": "CORRECTION"}, {"value": "better so", "dataType": "CORRECTION"}),
        (3, {"config_id": "c"}, {"value": 3.0, "configId": "c"}),
    ],
)
def test_each_type_is_said_as_the_server_takes_it(sink: Any, value: Any, fields: dict[str, Any], said: dict[str, Any]) -> None:
    scores, arrived = sink
    scores.create("quality", value, trace_id=TRACE, **fields)
    assert scores.flush(5)
    assert {key: arrived[0].get(key) for key in ("value", "dataType", "configId") if key in arrived[0]} == said


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"trace_id": TRACE}, {"traceId": TRACE}),
        ({"trace_id": TRACE, "observation_id": SPAN}, {"traceId": TRACE, "observationId": SPAN}),
        ({"session_id": "s-1"}, {"sessionId": "s-1"}),
        ({"dataset_run_id": "r-1"}, {"datasetRunId": "r-1"}),
        ({"trace_id": TRACE, "session_id": ""}, {"traceId": TRACE}),
    ],
)
def test_each_target(sink: Any, target: dict[str, Any], said: dict[str, str]) -> None:
    scores, arrived = sink
    assert scores.create("quality", 1, **target)
    assert scores.flush(5)
    assert {key: value for key, value in arrived[0].items() if key.endswith("Id")} == said


def test_everything_else_that_a_score_may_say(sink: Any) -> None:
    scores, arrived = sink
    metadata = {"judge": "me", "at": datetime(2026, 1, 2, tzinfo=timezone.utc)}
    made = scores.create(
        "q",
        1,
        trace_id=TRACE,
        comment="why",
        metadata=metadata,
        environment="prod",
        id="order-17",
        timestamp=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    )
    metadata["judge"] = "changed later"
    assert scores.flush(5)
    assert made == "order-17"
    assert arrived[0] == {
        "id": "order-17",
        "name": "q",
        "value": 1.0,
        "dataType": "NUMERIC",
        "traceId": TRACE,
        "comment": "why",
        "metadata": {"judge": "me", "at": "2026-01-02T00:00:00+00:00"},
        "environment": "prod",
        "timestamp": "2026-01-02T03:04:05.000Z",
    }


def test_the_environment_is_the_calls_then_the_contexts_then_the_settings() -> None:
    with Server(newest()) as server:
        scores = scores_to(server, environment="of-settings")
        scores.create("a", 1, trace_id=TRACE)
        with propagate_attributes(environment="of-context"):
            scores.create("b", 1, trace_id=TRACE)
            scores.create("c", 1, trace_id=TRACE, environment="of-call")
        scores.shutdown(5)
        assert [one["environment"] for one in taken(server)] == ["of-settings", "of-context", "of-call"]


def test_an_id_is_made_for_each_and_sent_again_with_it() -> None:
    with Server(status(500), newest()) as server:
        scores = scores_to(server)
        ids = [scores.create("a", i, trace_id=TRACE) for i in range(2)]
        assert scores.flush(10)
        first, second = (bodies(received) for received in server.received)
        assert first == second
        assert [one["id"] for one in second] == ids
        assert len(set(ids)) == 2
        scores.shutdown(5)


# -- what is refused at the call ----------------------------------------------------------------------------------------


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (1, {}, "nothing given: expected exactly one of trace_id, session_id and dataset_run_id"),
    (1, {"trace_id": TRACE, "session_id": "s"}, "trace_id and session_id given: expected exactly one"),
    (1, {"observation_id": SPAN}, "observation_id=...: expected trace_id, too"),
    (1, {"session_id": "s", "observation_id": SPAN}, "observation_id=...: expected trace_id, too"),
    (float("nan"), {"trace_id": TRACE}, "value=nan: expected a finite number"),
    (None, {"trace_id": TRACE}, "value=None: expected a finite number"),
    ("0.9", {"trace_id": TRACE, "data_type": "NUMERIC"}, "value=str: expected a finite number"),
    (2, {"trace_id": TRACE, "data_type": "BOOLEAN"}, "value=2: expected True, False, 1 or 0"),
    (1, {"trace_id": TRACE, "data_type": "CATEGORICAL"}, "value=1: expected a text"),
    ("x" * 501, {"trace_id": TRACE, "data_type": "TEXT"}, "value=text of 501 characters: expected a text of 1 to 500"),
    (1, {"trace_id": TRACE, "data_type": "STARS"}, "data_type='STARS': expected one of NUMERIC, BOOLEAN"),
    ("x", {"trace_id": TRACE, "data_type": "CORRECTION", "config_id": "c"}, "a CORRECTION has no score config"),
    (1, {"trace_id": TRACE, "environment": "Not This"}, "environment='Not This': expected 1 to 40"),
    (1, {"trace_id": "x" * 801}, "trace_id=...: expected at most 800 characters"),
    (1, {"trace_id": TRACE, "sesion_id": "s"}, "sesion_id=...: a score has no such field"),
]


@pytest.mark.parametrize(("value", "fields", "message"), REFUSED)
def test_what_langfuse_does_not_take_is_an_error_in_debug_mode_and_a_warning_otherwise(
    value: Any, fields: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closed_port() as url:
        scores = scores_to(url)
        assert scores.create("q", value, **fields) is None
        assert scores.stats().dropped == {"invalid": 1}
        assert len(caplog.records) == 1
        assert caplog.records[0].levelno == logging.WARNING
        assert message in caplog.text
        with pytest.raises(ScoreError) as raised:
            scores_to(url, debug=True).create("q", value, **fields)
        assert message in str(raised.value)


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_score_needs_a_name(name: Any) -> None:
    with closed_port() as url, pytest.raises(ScoreError, match="expected a text that is not empty"):
        scores_to(url, debug=True).create(name, 1, trace_id=TRACE)


def test_what_raises_while_it_is_read_reaches_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError("boom")

    with closed_port() as url:
        scores = scores_to(url)
        assert scores.create("q", 1, trace_id=Bad()) is None  # type: ignore[arg-type]
        assert scores.stats().dropped == {"invalid": 1}
        assert "RuntimeError while reading it" in caplog.text


# -- the ladder ----------------------------------------------------------------------------------------


def paths(server: Server) -> list[str]:
    """The ways that were tried, in order."""
    kinds = []
    for received in server.received:
        is_array = received.body.startswith(b"[")
        kinds.append("ingestion" if received.path.endswith("/ingestion") else "array" if is_array else "single")
    return kinds


@pytest.mark.parametrize(
    ("kind", "first", "then"),
    [
        (newest, ["array"], ["array"]),
        (version_4, ["array", "ingestion"], ["ingestion"]),
        (only_single, ["array", "ingestion", "single", "single"], ["single"]),
    ],
)
def test_the_way_that_a_server_knows_is_found_and_remembered_for_its_address(
    kind: Any, first: list[str], then: list[str]
) -> None:
    with Server(kind()) as server:
        scores = scores_to(server)
        for i in range(2):
            scores.create("q", i, trace_id=TRACE)
        assert scores.flush(5)
        assert paths(server) == first
        scores.shutdown(5)
        again = scores_to(server)
        again.create("q", 2, trace_id=TRACE)
        assert again.flush(5)
        assert paths(server)[len(first) :] == then
        again.shutdown(5)
        assert sorted(one["value"] for one in taken(server)) == [0, 1, 2]
        assert scores.stats().exported == 2


def test_keys_go_to_the_server_only_and_bodies_are_not_compressed() -> None:
    with Server(version_4()) as server:
        scores = scores_to(server)
        scores.create("q", 1, trace_id=TRACE)
        scores.shutdown(5)
        for received in server.received:
            assert received.headers["authorization"].startswith("Basic ")
            assert received.headers["content-type"] == "application/json"
            assert received.headers["x-langfuse-sdk-name"] == "otel-langfuse"
            assert "content-encoding" not in received.headers


def test_what_an_array_is_refused_of_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    answer = b'{"accepted":1,"rejected":2,"errors":[{"message":"no such config"}]}'
    with Server(by_route(array=status(207, answer), ingestion=status(404), single=status(404))) as server:
        scores = scores_to(server)
        for i in range(3):
            scores.create("q", i, trace_id=TRACE)
        assert not scores.flush(5)
        assert scores.stats()[:4] == (3, 1, 0, {"rejected": 2})
        assert len(server.received) == 1, "not sent again: nobody says which it was"
        assert "2 scores dropped (rejected)" in caplog.text
        assert "no such config" in caplog.text
        scores.shutdown(5)


def test_one_that_is_refused_alone_does_not_cost_the_others() -> None:
    def judge(exchange: Exchange) -> None:
        value = json.loads(exchange.received.body)["value"]
        (status(400, b'{"message":"out of range"}') if value == 1 else status(200))(exchange)

    with Server(only_single(judge)) as server:
        scores = scores_to(server)
        for i in range(3):
            scores.create("q", i, trace_id=TRACE)
        assert not scores.flush(5)
        assert scores.stats()[:4] == (3, 2, 0, {"rejected": 1})
        scores.shutdown(5)


def test_what_is_refused_for_now_is_sent_again_and_what_was_taken_is_not() -> None:
    tries: list[float] = []

    def stumble(exchange: Exchange) -> None:
        value = json.loads(exchange.received.body)["value"]
        tries.append(value)
        (status(503) if tries == [0, 1] else status(200))(exchange)

    with Server(only_single(stumble)) as server:
        scores = scores_to(server)
        for i in range(3):
            scores.create("q", i, trace_id=TRACE)
        assert scores.flush(10)
        assert tries == [0, 1, 1, 2]
        assert scores.stats().exported == 3
        scores.shutdown(5)


@pytest.mark.parametrize("trouble", [status(500), status(429, Retry_After="0"), reset])
def test_what_a_network_and_a_server_do_for_now_costs_nothing(trouble: Step) -> None:
    with Server(trouble, trouble, newest()) as server:
        scores = scores_to(server)
        scores.create("q", 1, trace_id=TRACE)
        assert scores.flush(10)
        assert scores.stats()[:4] == (1, 1, 0, {})
        scores.shutdown(5)


def test_a_request_is_no_larger_than_the_route_takes() -> None:
    with Server(newest()) as server:
        scores = scores_to(server)
        for i in range(40):
            scores.create("q", i, trace_id=TRACE, comment="x" * 100_000)
        scores.create("long", 1, trace_id=TRACE, comment="y" * 1_500_000)
        assert scores.flush(10)
        assert scores.stats().exported == 41
        assert max(received.wire_bytes for received in server.received) <= 1_000_000
        assert "left out>" in next(one for one in taken(server) if one["name"] == "long")["comment"]
        scores.shutdown(5)


# -- choice and privacy ----------------------------------------------------------------------------------------


def test_a_score_follows_its_trace_out_and_one_of_no_trace_stays() -> None:
    bound = sample.bound(0.5)
    with Server(newest()) as server:
        scores = scores_to(server, keeps=lambda trace_id: sample.keep(int(trace_id, 16), bound))
        assert scores.create("in", 1, trace_id="0" * 31 + "1")
        assert scores.create("out", 1, trace_id="f" * 32) is None
        assert scores.create("of a session", 1, session_id="s")
        assert scores.flush(5), "the user's choice is no loss"
        assert [one["name"] for one in taken(server)] == ["in", "of a session"]
        assert scores.stats().dropped == {"sampled_out": 1}
        scores.shutdown(5)


def test_texts_go_through_the_mask_and_it_fails_closed(caplog: pytest.LogCaptureFixture) -> None:
    def mask(data: Any) -> Any:
        if "boom" in str(data):
            raise RuntimeError
        return json.loads(json.dumps(data).replace("ada", "***"))

    with Server(newest()) as server:
        scores = scores_to(server, mask=mask)
        scores.create("ada", "ada liked it", trace_id=TRACE, comment="says ada", metadata={"by": ["ada"], "n": 1})
        scores.create("b", 1, trace_id=TRACE, comment="boom", metadata={"password": "hunter2"})
        assert scores.flush(5)
        said, failed = taken(server)
        assert said["name"] == "ada"
        assert said["value"] == "*** liked it"
        assert said["comment"] == "says ***"
        assert said["metadata"] == {"by": ["***"], "n": 1}
        assert (failed["comment"], failed["metadata"]) == ("<masked: mask failed>", {"password": "<masked: named secret>"})
        assert "1 values of scores are sent as '<masked: mask failed>'" in caplog.text
        scores.shutdown(5)


# -- the queue's promises ----------------------------------------------------------------------------------------


def test_the_queue_is_bounded_and_every_score_is_accounted_for() -> None:
    with Server(hang) as server:
        scores = scores_to(server, max_queue_spans=10, timeout=30)
        for i in range(25):
            scores.create("q", i, trace_id=TRACE)
        stats = scores.stats()
        assert stats.queued == 10
        assert stats.dropped == {"queue_full": 15}
        assert not scores.shutdown(0.2)
        scores.create("late", 1, trace_id=TRACE)
        assert scores.stats()[:4] == (26, 0, 0, {"queue_full": 15, "send_failed": 10, "after_shutdown": 1})


def test_without_keys_or_disabled_nothing_is_counted_and_no_thread_started() -> None:
    for scores in (Scores(Config.from_env({})), scores_to("http://127.0.0.1:1", enabled=False)):
        assert scores.create("q", 1, trace_id=TRACE) is None
        assert scores.flush(0)
        assert scores.shutdown(0)
        assert scores.stats()[:4] == (0, 0, 0, {})


PROGRAM = """
    import os, sys
    from otel_langfuse.config import Config
    from otel_langfuse.scores import Scores, _event
    scores = Scores(Config.from_env({}, base_url=sys.argv[1], public_key="pk", secret_key="sk"))
    scores.create("parent", 1, session_id="s")
    child = os.fork()
    scores.create("child" if child == 0 else "parent again", 1, session_id="s")
    if child:
        os.waitpid(child, 0)
"""


def test_nothing_is_lost_at_the_end_of_the_interpreter_nor_in_a_forked_child_and_nothing_twice() -> None:
    with Server(newest()) as server:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), server.url]
        subprocess.run(command, timeout=30, check=True, env=env)
        assert sorted(one["name"] for one in taken(server)) == ["child", "parent", "parent again"]


# -- elsewhere ----------------------------------------------------------------------------------------


def test_the_local_store_keeps_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    scores = scores_to(url)
    scores.create("q", 0.5, trace_id=TRACE, observation_id=SPAN, comment="why", metadata={"a": 1}, id="one")
    scores.create("q", 0.7, trace_id=TRACE, observation_id=SPAN, id="one")
    scores.create("other", "good", session_id="s")
    assert scores.flush(5)
    store = Store(tmp_path / "store.db", create=False)
    kept = store.scores(TRACE)
    assert [(one.name, one.value, one.data_type, one.observation_id) for one in kept] == [("q", 0.7, "NUMERIC", SPAN)]
    assert [one.name for one in store.scores()] == ["q", "other"]
    store.close()
    assert scores.stats().exported == 3
    scores.shutdown(5)


def test_a_store_without_scores_has_none(tmp_path: Path) -> None:
    assert Store(tmp_path / "store.db").scores() == []


@pytest.mark.parametrize(
    ("value", "fields", "said"),
    [
        (0.9, {"comment": "close"}, {"score.value": 0.9, "explanation": "close"}),
        ("good", {}, {"score.label": "good"}),
        (True, {}, {"score.value": 1.0, "score.label": "True"}),
    ],
)
def test_on_a_running_observation_it_is_opentelemetrys_evaluation_event(
    value: Any, fields: dict[str, Any], said: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    scores = Scores(Config.from_env({}))  # no Langfuse anywhere
    span = provider.get_tracer("t").start_span("answer")
    scores.create("quality", value, span=span, trace_id=TRACE, **fields)
    span.end()
    scores.create("late", value, span=span, trace_id=TRACE)
    assert not caplog.records, "the SDK would complain of an event on a span that has ended"
    (event,) = exporter.get_finished_spans()[0].events
    assert event.name == "gen_ai.evaluation.result"
    expected = {"gen_ai.evaluation.name": "quality", **{f"gen_ai.evaluation.{key}": one for key, one in said.items()}}
    assert dict(event.attributes or {}) == expected


def test_the_events_names_are_those_of_the_semantic_conventions() -> None:
    conventions = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes")
    if not hasattr(conventions, "GEN_AI_EVALUATION_NAME"):
        pytest.skip("these conventions are older than evaluations")
    assert _event.NAME == conventions.GEN_AI_EVALUATION_NAME
    assert _event.SCORE_VALUE == conventions.GEN_AI_EVALUATION_SCORE_VALUE
    assert _event.SCORE_LABEL == conventions.GEN_AI_EVALUATION_SCORE_LABEL
    assert _event.EXPLANATION == conventions.GEN_AI_EVALUATION_EXPLANATION
