"""While a destination takes nothing, and soon after: who waits how long, who is woken, and which span is to blame."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor, retry
from otel_langfuse.batch import Sending, Stop
from otel_langfuse.errors import DropReason
from otel_langfuse.exporters import _health, _patience
from otel_langfuse.exporters._health import Health, Suspect
from otel_langfuse.exporters._patience import InMemory
from otel_langfuse.stats import Ledger
from servers import Exchange, Server, provider_with, status, when

pytestmark = pytest.mark.usefixtures("every_span")

LATE_S = 5.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits a hundredth as long as in production, and as patient."""
    monkeypatch.setattr(_patience, "MAX_ALONE", 1_000_000)
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(retry, "MAX_WAIT_S", 0.02)


def to(server: Server, **settings: Any) -> LangfuseSpanProcessor:
    exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces", timeout=5.0)
    return LangfuseSpanProcessor(exporter, **{"flush_interval": 0.01, **settings})


def end_spans(processor: LangfuseSpanProcessor, *names: str) -> None:
    tracer = provider_with(processor).get_tracer("tests")
    for name in names:
        tracer.start_span(name).end()


def until(condition: Callable[[], bool], timeout_s: float = 8.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# -- who waits, and who is woken -------------------------------------------------------------------------------------------


def waited_s(health: Health, decision: _patience.Waiting, *, recovers_after_s: float) -> float:
    """How long somebody waits for a destination that one of his neighbours finds working after a while."""
    sending: Sending[int] = Sending([1], Ledger(), Stop(), math.inf)
    timer = threading.Timer(recovers_after_s, health.answered)
    timer.start()
    begin = time.monotonic()
    assert InMemory(sending, health).wait(decision)
    timer.join()
    return time.monotonic() - begin


def test_who_waits_is_woken_when_another_request_is_taken_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_health, "OUTAGE_S", 0.1)
    health = Health()
    health.failed()
    assert waited_s(health, retry.Wait(30.0, "503"), recovers_after_s=0.3) < LATE_S


def test_who_was_told_how_long_to_wait_waits_for_that_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_health, "OUTAGE_S", 0.1)
    for decision in (retry.Wait(0.8, "429", asked=True), retry.Wait(0.8, "401", DropReason.REJECTED)):
        health = Health()
        health.failed()
        assert waited_s(health, decision, recovers_after_s=0.2) >= 0.8


def test_a_server_that_takes_some_and_refuses_others_is_not_asked_sooner() -> None:
    """Else each request that is taken would wake all that were refused, for as long as the server has too much to do."""
    health = Health()
    health.failed()
    assert waited_s(health, retry.Wait(0.6, "503"), recovers_after_s=0.2) >= 0.6


def test_after_an_outage_all_threads_go_on_when_the_first_request_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a batch; the first of them asks soon, the others would ask in a minute."""
    monkeypatch.setattr(_health, "OUTAGE_S", 0.1)
    waits = iter([0.4, 60.0, 60.0])
    monkeypatch.setattr(retry, "backoff_s", lambda attempt, jitter: next(waits))
    with Server(status(503), status(503), status(503), status(200)) as server:
        processor = to(server, threads=3, flush_at=1)
        end_spans(processor, "a", "b", "c")
        assert processor.force_flush(20_000)
        assert sorted(server.names) == ["a", "b", "c"]
        assert len(server.received) == 6, "nobody asked in between"
        processor.shutdown()


def test_a_flush_is_not_given_up_while_another_batch_may_find_the_server_working(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_health, "OUTAGE_S", 0.1)
    waits = iter([60.0, 0.5])
    monkeypatch.setattr(retry, "backoff_s", lambda attempt, jitter: next(waits))
    with Server(status(503), status(503), status(200)) as server:
        processor = to(server, threads=2, flush_at=1)
        end_spans(processor, "a", "b")
        assert until(lambda: len(server.received) == 2)
        assert processor.force_flush(10_000), "the one that would wait for a minute is woken"
        processor.shutdown()


# -- which span is to blame ------------------------------------------------------------------------------------------------


def test_a_request_is_to_blame_when_others_are_taken_and_it_is_not() -> None:
    health, suspect = Health(), Suspect()
    for _ in range(50):
        suspect.failed(health)
    assert not suspect.is_to_blame, "nothing else was taken either"
    health.answered()
    for _ in range(_health.MAX_BLAMED):
        assert not suspect.is_to_blame, "the server may stumble once more"
        suspect.failed(health)
    assert suspect.is_to_blame


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("count", [1, 3])
def test_however_long_a_server_answers_500_nothing_is_lost(count: int) -> None:
    names = [str(number) for number in range(count)]
    with Server(*[status(500)] * (count * 12 + 20), status(200)) as server:
        processor = to(server, flush_at=count)
        end_spans(processor, *names)
        assert processor.force_flush(20_000)
        assert sorted(server.names) == names
        assert processor.stats() == (count, count, 0, {}, 0)
        processor.shutdown()


@pytest.mark.usefixtures("quick")
def test_the_one_span_that_a_server_stumbles_over_is_found_and_its_neighbours_arrive() -> None:
    with Server(when(lambda received: "bad" in received.names, status(500), status(200))) as server:
        processor = to(server, flush_at=5)
        end_spans(processor, "bad", "1", "2", "3", "4")
        assert processor.force_flush(20_000) is False
        assert sorted(server.names) == ["1", "2", "3", "4"]
        assert processor.stats() == (5, 4, 0, {"send_failed": 1}, 0)
        processor.shutdown()


@pytest.mark.usefixtures("quick")
def test_a_span_that_the_server_stumbles_over_gives_way_when_the_queue_behind_it_gets_full() -> None:
    with Server(when(lambda received: "bad" in received.names, status(500), status(200))) as server:
        processor = to(server, flush_at=1, max_queue_spans=10)
        end_spans(processor, "bad")
        assert until(lambda: len(server.received) > retry.MAX_SERVER_ERRORS + 5)
        assert processor.stats().queued == 1, "nothing shows that it is to blame"
        end_spans(processor, *"12345")
        assert until(lambda: processor.stats().queued == 0), "what has arrived is counted when its answer has been read"
        assert sorted(server.names) == list("12345")
        assert processor.stats() == (6, 5, 0, {"send_failed": 1}, 0)
        processor.shutdown()


@pytest.mark.usefixtures("quick")
def test_a_span_that_the_server_stumbles_over_is_given_up_after_a_very_long_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_patience, "MAX_ALONE", 20)
    with Server(when(lambda received: "bad" in received.names, status(500), status(200))) as server:
        processor = to(server, flush_at=1)
        end_spans(processor, "bad", "1")
        assert processor.force_flush(20_000) is False
        assert processor.stats() == (2, 1, 0, {"send_failed": 1}, 0)
        processor.shutdown()


@pytest.mark.usefixtures("quick")
def test_in_the_spool_a_long_time_of_500_loses_nothing_either(tmp_path: Path) -> None:
    works = threading.Event()

    def step(exchange: Exchange) -> None:
        status(200 if works.is_set() else 500)(exchange)

    with Server(step) as server:
        path = tmp_path / "spool.db"
        exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces", spool_path=path, spool_mode="always")
        processor = LangfuseSpanProcessor(exporter, flush_interval=0.01, flush_at=1)
        end_spans(processor, "a", "b")
        assert until(lambda: len(server.received) > 4 * retry.MAX_SERVER_ERRORS)
        assert processor.stats() == (2, 0, 0, {}, 2)
        works.set()
        assert processor.force_flush(20_000)
        assert sorted(server.names) == ["a", "b"]
        processor.shutdown()
