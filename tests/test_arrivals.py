"""Items that are left at the door of a queue: nothing that ``put`` promises is lost, but for a few items above its bounds."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from otel_langfuse.batch import MAX_ARRIVALS, Batch, Sending
from otel_langfuse.stats import Ledger


class Sender:
    """Delivers to a list; hangs while ``open`` is not set."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.begun = 0
        self.open = threading.Event()
        self.open.set()

    def send(self, sending: Sending[Any]) -> None:
        self.begun += 1
        self.open.wait(30)
        self.items += sending.items
        sending.exported(len(sending.items))

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        pass


def batch_of(sender: Sender, **more: Any) -> Batch[Any]:
    limits = {"max_items": 10_000, "max_bytes": 1 << 30, "flush_at": 512, "flush_bytes": 1 << 30, "flush_interval_s": 60.0}
    return Batch(sender, Ledger(), **{**limits, "measure": lambda item: 100, **more})


def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_a_flush_delivers_what_was_left_before_it() -> None:
    sender = Sender()
    batch = batch_of(sender)
    for i in range(40):
        batch.leave(i)
    assert len(batch.arrivals) > 0, "some of them nobody has looked at"
    assert batch.flush(5)
    assert sender.items == list(range(40))
    assert batch.stats() == (40, 40, 0, {}, 0)


def test_what_nobody_has_looked_at_counts_as_queued() -> None:
    sender = Sender()
    batch = batch_of(sender)
    for i in range(MAX_ARRIVALS + 3):
        batch.leave(i)
    assert batch.waiting_and_stats() == (MAX_ARRIVALS + 3, (MAX_ARRIVALS + 3, 0, MAX_ARRIVALS + 3, {}, 0))
    batch.leave("one more")
    assert batch.stats() == (MAX_ARRIVALS + 4, 0, MAX_ARRIVALS + 4, {}, 0)
    batch.shutdown()


def test_the_clock_starts_with_the_first_item_that_is_left_and_again_after_each_batch() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_interval_s=0.05)
    for i in range(3):
        batch.leave(i)
        assert until(lambda i=i: len(sender.items) == i + 1), "nobody else comes and looks"  # type: ignore[misc]
    batch.leave("a")
    batch.leave("b")
    assert until(lambda: len(sender.items) == 5)
    assert sender.begun == 4, "the two together"
    batch.shutdown()


def test_one_that_is_left_while_all_else_is_being_sent_has_a_worker_of_its_own() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_interval_s=0.05, threads=2)
    sender.open.clear()
    batch.leave("hangs")
    assert until(lambda: sender.begun == 1)
    hanging, sender.open = sender.open, threading.Event()
    sender.open.set()
    batch.leave("goes")
    assert until(lambda: sender.items == ["goes"])
    hanging.set()
    assert batch.shutdown()


def test_a_full_batch_is_sent_at_once() -> None:
    sender = Sender()
    batch = batch_of(sender)
    for i in range(512 + MAX_ARRIVALS):
        batch.leave(i)
    assert until(lambda: sender.items == list(range(512)))
    batch.shutdown()


@pytest.mark.parametrize(("limits", "fits"), [({"max_items": 1024}, 1024), ({"max_bytes": 50_000}, 500)])
def test_the_bounds_of_the_queue_hold_but_for_a_few(limits: dict[str, int], fits: int) -> None:
    sender = Sender()
    sender.open.clear()
    batch = batch_of(sender, **limits)
    most = 0
    for i in range(2000):
        batch.leave(i)
        most = max(most, len(batch.arrivals) + batch._items)
    assert most <= fits + MAX_ARRIVALS
    stats = batch.stats()
    assert stats.queued == fits
    assert stats.dropped == {"queue_full": 2000 - fits}
    sender.open.set()
    assert batch.shutdown() is False
    assert len(sender.items) == fits


def test_what_is_left_after_shutdown_is_counted() -> None:
    batch = batch_of(Sender())
    batch.leave("before")
    assert batch.shutdown()
    for i in range(5):
        batch.leave(i)
        assert not batch.arrivals
    assert batch.stats() == (6, 1, 0, {"after_shutdown": 5}, 0)


def test_what_is_left_after_a_shutdown_that_ran_out_of_time_is_counted() -> None:
    sender = Sender()
    sender.open.clear()
    batch = batch_of(sender, flush_interval_s=0.001)
    batch.leave("hangs")
    assert until(lambda: sender.begun == 1)
    for i in range(19):
        batch.leave(i)
    assert not batch.shutdown(0.1)
    batch.leave("late")
    assert not batch.arrivals
    assert batch.stats().dropped == {"send_failed": 20, "after_shutdown": 1}
    sender.open.set()


def test_a_shutdown_delivers_what_was_left_before_it() -> None:
    sender = Sender()
    batch = batch_of(sender)
    for i in range(20):
        batch.leave(i)
    assert batch.shutdown()
    assert sender.items == list(range(20))


@pytest.mark.parametrize("limits", [{"policy": "wait"}, {"policy": "drop_oldest"}, {"flush_at": 1}, {"max_items": 100}])
def test_nothing_is_to_be_left_where_each_item_counts(limits: dict[str, Any]) -> None:
    assert not batch_of(Sender(), **limits).takes_arrivals
    assert batch_of(Sender()).takes_arrivals


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_has_none_of_what_was_left_in_its_parent() -> None:
    sender = Sender()
    batch = batch_of(sender)
    for i in range(5):
        batch.leave(i)
    arrivals = batch.arrivals
    pid = os.fork()
    if pid == 0:
        code = 3
        with suppress(BaseException):
            batch.leave("child")
            is_right = batch.flush(2) and sender.items == ["child"] and batch.stats() == (1, 1, 0, {}, 0)
            code = 0 if is_right and batch.arrivals is arrivals else 1
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert batch.flush(2)
    assert sender.items == list(range(5))


def test_whoever_leaves_puts_and_flushes_nothing_is_lost_or_sent_twice() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_interval_s=0.001, threads=3, max_items=100_000)
    threads = [threading.Thread(target=_bring, args=(batch, each)) for each in range(6)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            batch.flush(0.01)
            batch.stats()
    finally:
        sys.setswitchinterval(before)
    assert batch.flush(10)
    assert sorted(sender.items) == sorted((each, i) for each in range(6) for i in range(1000))
    assert batch.stats() == (6000, 6000, 0, {}, 0)
    batch.shutdown()


def _bring(batch: Batch[Any], each: int) -> None:
    dice = random.Random(each)
    for i in range(1000):
        if dice.random() < 0.1:
            batch.put((each, i), 100)
        else:
            batch.leave((each, i))
        if dice.random() < 0.01:
            time.sleep(0.001)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers")
def test_a_signal_handler_that_flushes_in_the_middle_loses_and_doubles_nothing() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_interval_s=0.001, measure=lambda item: sum(1 for _ in range(100)))
    flushed: list[bool] = []
    count = 0

    def handle(*_: object) -> None:
        flushed.append(batch.flush(5))
        for more in ("a", "b"):
            batch.leave((more, len(flushed)))
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        deadline = time.monotonic() + 10
        while len(flushed) < 200 and time.monotonic() < deadline:
            batch.leave(("", count))
            count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all(flushed)
    assert len(flushed) >= 200
    assert batch.flush(10)
    assert [i for more, i in sorted(sender.items) if not more] == list(range(count))
    count += 2 * len(flushed)
    assert batch.stats() == (count, count, 0, {}, 0)
    assert len(set(sender.items)) == count
    batch.shutdown()
