from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from otel_langfuse.batch import Batch, Sending
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.stats import Ledger

SLACK_S = 0.4  # what a loaded machine may take on top of a deadline


class Sender:
    """Delivers to a list, or does what it is told."""

    def __init__(self, action: Callable[[Sending[Any]], None] | None = None) -> None:
        self.action = action
        self.batches: list[list[Any]] = []
        self.closed = 0

    def send(self, sending: Sending[Any]) -> None:
        self.batches.append(list(sending.items))
        if self.action is None:
            sending.exported(len(sending.items))
        else:
            self.action(sending)

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        self.closed += 1

    @property
    def items(self) -> list[Any]:
        return [item for batch in self.batches for item in batch]


def batch_of(sender: Sender, **limits: Any) -> Batch[Any]:
    given = {
        "max_items": 1000,
        "max_bytes": 1_000_000,
        "flush_at": 100,
        "flush_bytes": 100_000,
        "flush_interval_s": 60.0,
    } | limits
    batch: Batch[Any] = Batch(sender, Ledger(), **given)
    _made.append(batch)
    return batch


_made: list[Batch[Any]] = []


@pytest.fixture(autouse=True)
def end_of_batches() -> Iterator[None]:
    yield
    while _made:
        _made.pop().shutdown(0.1)


def balanced(batch: Batch[Any]) -> bool:
    stats = batch.stats()
    return stats.started == stats.exported + stats.queued + stats.spooled + sum(stats.dropped.values())


@contextmanager
def held() -> Iterator[tuple[Sender, threading.Event]]:
    """A sender that hangs until the event is set, and the event."""
    released = threading.Event()

    def hang(sending: Sending[Any]) -> None:
        released.wait(30)
        sending.exported(len(sending.items))

    try:
        yield Sender(hang), released
    finally:
        released.set()


def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


# -- closing a batch ---------------------------------------------------------------------------------------------------


def test_a_backlog_leaves_in_larger_batches_within_the_limit_of_bytes() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, flush_at=10, flush_bytes=1_000)
        batch.put("first", 1)
        batch.flush(0)
        assert until(lambda: len(sender.batches) == 1)
        for number in range(100):
            batch.put(number, 1)
        for number in range(20):
            batch.put(f"large {number}", 300)
        released.set()
        assert batch.flush(5)
        sizes = [len(items) for items in sender.batches]
        assert sizes[:3] == [1, 40, 40], "120 wait, and 80 are a backlog"
        assert max(sizes[3:]) <= 10
        assert [item for items in sender.batches for item in items][1:101] == list(range(100))
        assert all(len(items) <= 3 for items in sender.batches if str(items[0]).startswith("large")), "of 300 bytes each"


def test_no_thread_is_started_before_the_first_item() -> None:
    before = threading.active_count()
    batch = batch_of(Sender())
    assert batch.flush(1)
    assert threading.active_count() == before
    batch.put("a", 1)
    assert threading.active_count() == before + 1
    batch.shutdown()


def test_a_batch_closes_when_it_has_enough_items() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_at=10)
    for i in range(25):
        batch.put(i, 1)
    assert until(lambda: len(sender.items) == 20)
    assert [len(items) for items in sender.batches] == [10, 10]
    assert batch.flush(2)
    assert sender.items == list(range(25)), "in order"


def test_a_batch_closes_when_it_has_enough_bytes_and_holds_no_more_than_that() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_bytes=100)
    for i in range(5):
        batch.put(i, 40)
    assert until(lambda: len(sender.batches) >= 1)
    assert batch.flush(2)
    assert [len(items) for items in sender.batches] == [2, 2, 1]


def test_a_batch_closes_when_its_first_item_has_waited_long_enough() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_interval_s=0.15)
    begin = time.monotonic()
    batch.put("a", 1)
    assert until(lambda: bool(sender.batches))
    assert 0.14 <= time.monotonic() - begin < 0.15 + SLACK_S
    batch.put("b", 1)
    assert until(lambda: len(sender.batches) == 2), "and the next one again"


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_at_the_bound_in_items_the_newest_are_dropped_and_what_is_being_sent_counts() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, max_items=10, flush_at=4)
        taken = [batch.put(i, 1) for i in range(4)]
        assert until(lambda: len(sender.batches) == 1)
        taken += [batch.put(i, 1) for i in range(4, 14)]
        assert taken == [True] * 10 + [False] * 4
        assert batch.stats() == (14, 0, 10, {"queue_full": 4}, 0)
        released.set()
        assert not batch.flush(2), "four were lost"
        assert sender.items == list(range(10))
        assert batch.stats() == (14, 10, 0, {"queue_full": 4}, 0)


def test_the_bound_in_bytes_holds_as_well() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, max_bytes=1000)
        assert [batch.put(i, 400) for i in range(3)] == [True, True, False]
        assert not batch.put("huge", 1001)
        assert batch.stats().dropped == {"queue_full": 1, "too_large": 1}
        released.set()
        batch.flush(2)
        assert batch.put("again", 1000), "room again when they are sent"
        assert batch.flush(2)


def test_with_drop_oldest_the_newest_stay_and_what_is_being_sent_is_left_alone() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, max_items=10, flush_at=4, policy="drop_oldest")
        for i in range(4):
            batch.put(i, 1)
        assert until(lambda: len(sender.batches) == 1)
        assert all(batch.put(i, 1) for i in range(4, 14))
        assert batch.stats() == (14, 0, 10, {"queue_full": 4}, 0)
        released.set()
        assert not batch.flush(2), "four were lost"
        assert sender.items == [0, 1, 2, 3, *range(8, 14)]
        assert batch.flush(2)


def test_with_drop_oldest_as_many_go_as_a_large_one_needs_and_none_for_one_that_cannot_fit() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, max_bytes=1000, flush_at=1, policy="drop_oldest")
        batch.put("sent", 300)
        assert until(lambda: len(sender.batches) == 1)
        for i in range(6):
            assert batch.put(i, 100)
        assert batch.put("large", 400)
        assert batch.stats().dropped == {"queue_full": 3}
        assert not batch.put("larger", 701), "with what is being sent, it never fits"
        assert not batch.put("huge", 1001)
        assert batch.stats().dropped == {"queue_full": 4, "too_large": 1}
        released.set()
        batch.flush(2)
        assert sender.items == ["sent", 3, 4, 5, "large"]


def test_what_drop_oldest_takes_from_before_a_flush_counts_for_that_flush_and_from_behind_it_for_the_next() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, max_items=3, flush_at=1, policy="drop_oldest")
        batch.put("sent", 1)
        assert until(lambda: len(sender.batches) == 1)
        answers: dict[str, bool] = {}
        first = threading.Thread(target=lambda: answers.update(first=batch.flush(5)))
        first.start()
        assert until(lambda: len(batch._markers) == 1)
        batch.put("a", 1)
        second = threading.Thread(target=lambda: answers.update(second=batch.flush(5)))
        second.start()
        assert until(lambda: len(batch._markers) == 2)
        for i in range(3):
            batch.put(i, 1)  # "a", between the two, has to go, and the first of these
        released.set()
        first.join()
        second.join()
        assert answers == {"first": True, "second": False}
        assert batch.flush(2) is False
        assert sender.items == ["sent", 1, 2]


def test_with_wait_the_thread_that_puts_waits_for_room_and_no_longer_than_it_may() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, max_items=2, flush_at=2, policy="wait", max_wait_s=0.3)
        assert batch.put(0, 1)
        assert batch.put(1, 1)
        assert until(lambda: len(sender.batches) == 1)
        begin = time.monotonic()
        assert not batch.put(2, 1)
        assert 0.3 <= time.monotonic() - begin < 0.3 + SLACK_S
        assert batch.stats() == (3, 0, 2, {"queue_full": 1}, 0)
        threading.Timer(0.1, released.set).start()
        begin = time.monotonic()
        assert batch.put(3, 1), "as soon as there is room"
        assert time.monotonic() - begin < 0.3
        batch.flush(2)
        assert sender.items == [0, 1, 3]


def test_with_wait_many_threads_lose_nothing_while_the_sender_keeps_up() -> None:
    def slowly(sending: Sending[Any]) -> None:
        time.sleep(0.001)
        sending.exported(len(sending.items))

    sender = Sender(slowly)
    batch = batch_of(sender, max_items=20, flush_at=10, policy="wait", max_wait_s=5.0)
    threads = [threading.Thread(target=lambda: [batch.put(i, 1) for i in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert batch.flush(2)
    assert batch.stats() == (800, 800, 0, {}, 0)


def test_shutdown_ends_the_wait_for_room_and_the_sender_itself_never_waits() -> None:
    def put(sending: Sending[Any]) -> None:
        answers.append(batch.put("from inside", 1))
        released.wait(5)
        sending.exported(len(sending.items))

    answers: list[bool] = []
    released = threading.Event()
    batch = batch_of(Sender(put), max_items=1, flush_at=1, policy="wait", max_wait_s=30.0)
    batch.put(0, 1)
    assert until(lambda: answers == [False])
    thread = threading.Thread(target=lambda: answers.append(batch.put(1, 1)))
    thread.start()
    time.sleep(0.05)
    begin = time.monotonic()
    batch.shutdown(0.2)
    thread.join()
    assert time.monotonic() - begin < 0.2 + SLACK_S
    assert answers == [False, False]
    assert batch.stats().dropped == {"queue_full": 1, "after_shutdown": 1, "send_failed": 1}
    released.set()


# -- several threads ---------------------------------------------------------------------------------------------------


def test_as_many_batches_are_on_their_way_as_there_are_threads_and_threads_are_started_when_they_are_needed() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, flush_at=10, threads=3)
        batch.put(0, 1)
        assert len(batch._workers) == 1
        for i in range(1, 100):
            batch.put(i, 1)
        assert until(lambda: len(sender.batches) == 3)
        time.sleep(0.05)
        assert len(sender.batches) == 3
        assert batch.stats() == (100, 0, 100, {}, 0)
        released.set()
        assert batch.flush(2)
        assert sorted(sender.items) == list(range(100))
    workers = list(batch._workers)
    assert len(workers) == 3
    assert batch.shutdown()
    assert sender.closed == 1
    assert until(lambda: not any(worker.is_alive() for worker in workers))


def test_a_flush_waits_for_all_that_is_on_its_way_before_it_and_for_nothing_after_it() -> None:
    gates = {name: threading.Event() for name in ("a", "b", "c")}

    def pass_gate(sending: Sending[Any]) -> None:
        gates[sending.items[0]].wait(5)
        sending.exported(1)

    batch = batch_of(Sender(pass_gate), flush_at=1, threads=3)
    batch.put("a", 1)
    batch.put("b", 1)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(batch.flush(5)))
    thread.start()
    assert until(lambda: len(batch._due) == 1)
    batch.put("c", 1)
    gates["b"].set()
    thread.join(0.1)
    assert answers == [], "a is on its way"
    gates["a"].set()
    thread.join(2)
    assert answers == [True], "c is behind it"
    gates["c"].set()
    assert batch.flush(2)


def test_a_flush_answers_for_what_was_lost_before_it_only_whichever_thread_lost_it() -> None:
    gates = {name: threading.Event() for name in ("good", "bad")}

    def pass_gate(sending: Sending[Any]) -> None:
        (name,) = sending.items
        gates[name].wait(5)
        sending.exported(1) if name == "good" else sending.dropped(Drop(DropReason.REJECTED, 1))

    batch = batch_of(Sender(pass_gate), flush_at=1, threads=2)
    answers: list[bool] = []
    batch.put("good", 1)
    first = threading.Thread(target=lambda: answers.append(batch.flush(5)))
    first.start()
    assert until(lambda: len(batch._due) == 1)
    batch.put("bad", 1)
    gates["bad"].set()
    assert until(lambda: batch.stats().dropped == {"rejected": 1})
    gates["good"].set()
    first.join()
    assert answers == [True]
    assert batch.flush(2) is False


def test_what_a_flush_that_ran_out_of_time_was_not_told_is_told_the_next_one() -> None:
    released = threading.Event()

    def lose(sending: Sending[Any]) -> None:
        released.wait(5)
        sending.dropped(Drop(DropReason.REJECTED, 1))

    batch = batch_of(Sender(lose), threads=2)
    batch.put("a", 1)
    assert batch.flush(0.05) is False
    released.set()
    assert until(lambda: batch.stats().dropped == {"rejected": 1})
    assert batch.flush(2) is False
    assert batch.flush(2) is True


def test_shutdown_counts_what_each_of_several_threads_still_holds() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, flush_at=5, threads=3)
        for i in range(22):
            batch.put(i, 1)
        assert until(lambda: len(sender.batches) == 3)
        begin = time.monotonic()
        assert batch.shutdown(0.2) is False
        assert time.monotonic() - begin < 0.2 + SLACK_S
        assert batch.stats() == (22, 0, 0, {"send_failed": 22}, 0)
        released.set()
        time.sleep(0.05)
        assert batch.stats() == (22, 0, 0, {"send_failed": 22}, 0)


def test_with_many_threads_the_account_is_balanced_whatever_happens() -> None:
    dice = random.Random(11)

    def play(sending: Sending[Any]) -> None:
        count = dice.randint(0, len(sending.items))
        sending.exported(count)
        if dice.random() < 0.2:
            raise RuntimeError
        time.sleep(dice.random() * 0.002)
        sending.dropped(Drop(dice.choice([DropReason.REJECTED, DropReason.TOO_LARGE]), len(sending.items) - count))

    batch = batch_of(Sender(play), max_items=50, flush_at=7, flush_interval_s=0.001, threads=4, policy="drop_oldest")

    def put() -> None:
        for i in range(1000):
            batch.put(i, 1)
            if i % 50 == 0:
                time.sleep(0.002)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        batch.flush(0.01)
    batch.shutdown()
    assert batch.stats().started == 4000
    assert batch.stats().queued == 0
    assert balanced(batch)


# -- flush -------------------------------------------------------------------------------------------------------------


def test_flush_waits_for_everything_before_it_and_for_nothing_after_it() -> None:
    sender = Sender()
    batch = batch_of(sender)
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(0.0005):
            batch.put("later", 1)

    for i in range(250):
        batch.put(i, 1)
    thread = threading.Thread(target=go_on)
    thread.start()
    assert batch.flush(2)
    assert [item for item in sender.items if item != "later"] == list(range(250))
    stop.set()
    thread.join()
    batch.shutdown()
    assert balanced(batch)


def test_flush_keeps_its_deadline_when_the_sender_hangs_and_says_that_nothing_arrived() -> None:
    with held() as (sender, released):
        batch = batch_of(sender)
        batch.put("a", 1)
        begin = time.monotonic()
        assert batch.flush(0.3) is False
        assert 0.3 <= time.monotonic() - begin < 0.3 + SLACK_S
        released.set()
        assert batch.flush(2), "then it arrives"


def test_flush_says_once_that_something_was_lost() -> None:
    sender = Sender(lambda sending: sending.dropped(Drop(DropReason.REJECTED, 1)))
    batch = batch_of(sender)
    batch.put("a", 1)
    assert batch.flush(2) is False
    assert batch.flush(2) is True, "since then nothing was lost"
    sender.action = None
    batch.put("b", 1)
    assert batch.flush(2) is True


def test_flush_of_what_the_user_left_out_is_true() -> None:
    sender = Sender(lambda sending: sending.dropped(Drop(DropReason.SAMPLED_OUT, 1)))
    batch = batch_of(sender)
    batch.put("a", 1)
    assert batch.flush(2) is True


def test_flush_by_the_sender_itself_returns_false_instead_of_waiting_for_itself() -> None:
    answers: list[bool] = []

    def flush_inside(sending: Sending[Any]) -> None:
        answers.append(batch.flush(5))
        answers.append(batch.shutdown(5))
        sending.exported(1)

    batch = batch_of(Sender(flush_inside))
    batch.put("a", 1)
    begin = time.monotonic()
    batch.flush(2)
    assert time.monotonic() - begin < 2
    assert answers == [False, False]


def test_signal_handlers_that_flush_in_the_middle_of_put_do_not_deadlock() -> None:
    sender = Sender()
    batch = batch_of(sender, flush_at=7)
    flushed: list[float] = []

    def handler(*_: object) -> None:
        begin = time.monotonic()
        batch.flush(2)
        flushed.append(time.monotonic() - begin)
        batch.put("signal", 1)
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    try:
        deadline = time.monotonic() + 0.7
        count = 0
        while time.monotonic() < deadline:
            count += batch.put("a", 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    batch.shutdown()
    assert len(flushed) > 20
    assert max(flushed) < 1, "the worker is not kept waiting by what the signal interrupted"
    assert balanced(batch)
    assert sender.items.count("a") == count


def test_flush_returns_at_once_when_the_sender_will_not_even_try_again_in_time() -> None:
    sender = Sender(lambda sending: sending.exported(1) if not sending.wait(60.0) else None)
    batch = batch_of(sender)
    batch.put("a", 1)
    begin = time.monotonic()
    assert batch.flush(30) is False
    assert time.monotonic() - begin < SLACK_S
    assert batch.stats() == (1, 0, 1, {}, 0), "it is still there"
    assert batch.shutdown(), "which wakes it"


# -- what is kept for later --------------------------------------------------------------------------------------------


class Keeper(Sender):
    """Keeps in a list what it is given to keep."""

    def __init__(self, action: Callable[[Sending[Any]], None] | None = None) -> None:
        super().__init__(action)
        self.kept: list[Any] = []
        self.finished: list[float] = []
        self.all_arrived = True

    def keep(self, sending: Sending[Any]) -> None:
        self.kept.extend(sending.items)
        sending.spooled(len(sending.items))

    def arrived(self, timeout_s: float) -> bool:
        return self.all_arrived

    def finish(self, timeout_s: float) -> None:
        self.finished.append(timeout_s)


def test_what_shutdown_cannot_send_is_kept_while_there_is_time_for_that_and_counted_as_spooled() -> None:
    released = threading.Event()
    keeper = Keeper(lambda sending: released.wait(10) and None)
    batch = batch_of(keeper, flush_at=5, keeper=keeper)
    for i in range(12):
        batch.put(i, 1)
    assert until(lambda: len(keeper.batches) == 1)
    begin = time.monotonic()
    batch.shutdown(0.5)
    assert time.monotonic() - begin < 0.5 + SLACK_S
    assert sorted(keeper.kept) == list(range(12))
    assert batch.stats() == (12, 0, 0, {}, 12)
    released.set()
    assert until(lambda: keeper.closed == 1)
    assert batch.stats() == (12, 0, 0, {}, 12)


def test_what_is_kept_has_arrived_only_when_the_keeper_says_so() -> None:
    keeper = Keeper(lambda sending: sending.spooled(1) and None)
    batch = batch_of(keeper, keeper=keeper)
    batch.put("a", 1)
    keeper.all_arrived = False
    assert batch.flush(2) is False
    keeper.all_arrived = True
    assert batch.flush(2) is True
    assert batch.stats() == (1, 0, 0, {}, 1)
    assert batch.shutdown()
    assert len(keeper.finished) == 1


# -- shutdown ----------------------------------------------------------------------------------------------------------


def test_shutdown_delivers_what_is_queued_closes_the_sender_once_and_refuses_what_comes_later() -> None:
    sender = Sender()
    batch = batch_of(sender)
    for i in range(250):
        batch.put(i, 1)
    assert batch.shutdown()
    assert sender.items == list(range(250))
    assert batch.put("late", 1) is False
    assert batch.shutdown() is False, "the late one was lost"
    assert sender.closed == 1
    assert batch.stats() == (251, 250, 0, {"after_shutdown": 1}, 0)


def test_shutdown_keeps_its_deadline_when_the_sender_hangs_and_counts_the_rest_once() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, flush_at=10)
        for i in range(35):
            batch.put(i, 1)
        begin = time.monotonic()
        assert batch.shutdown(0.3) is False
        assert time.monotonic() - begin < 0.3 + SLACK_S
        assert batch.stats() == (35, 0, 0, {"send_failed": 35}, 0)
        released.set()
        assert until(lambda: sender.closed == 1)
        time.sleep(0.05)
        assert batch.stats() == (35, 0, 0, {"send_failed": 35}, 0), "what is reported later was counted before"


def test_shutdown_wakes_a_sender_that_waits_to_try_again_and_lets_it_wait_only_within_the_deadline() -> None:
    waits: list[tuple[float, bool]] = []

    def wait(sending: Sending[Any]) -> None:
        waits.extend((seconds, sending.wait(seconds)) for seconds in (30.0, 0.1, 30.0))
        sending.dropped(Drop(DropReason.SEND_FAILED, 1))

    batch = batch_of(Sender(wait))
    batch.put("a", 1)
    assert batch.flush(0.2) is False
    begin = time.monotonic()
    batch.shutdown(2)
    assert time.monotonic() - begin < 1
    assert waits == [(30.0, False), (0.1, True), (30.0, False)]


def test_a_flush_that_waits_is_answered_when_shutdown_runs_out_of_time() -> None:
    with held() as (sender, _):
        batch = batch_of(sender)
        batch.put("a", 1)
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(batch.flush(20)))
        thread.start()
        time.sleep(0.05)
        batch.shutdown(0.2)
        thread.join(1)
        assert answers == [False]


# -- senders that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, SystemExit, MemoryError])
def test_a_sender_that_raises_costs_its_batch_only(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    def fail(sending: Sending[Any]) -> None:
        sending.exported(1)
        sender.action = None
        raise error("SECRET")

    sender = Sender(fail)
    batch = batch_of(sender, flush_at=3)
    for i in range(3):
        batch.put(i, 1)
    assert until(lambda: len(sender.batches) == 1)
    batch.put(3, 1)
    batch.flush(2)
    assert batch.stats() == (4, 2, 0, {"send_failed": 2}, 0)
    assert "SECRET" not in caplog.text


def test_what_a_sender_leaves_undecided_is_counted_and_what_it_reports_too_often_is_not() -> None:
    sender = Sender(lambda sending: sending.exported(1))
    batch = batch_of(sender)
    for i in range(3):
        batch.put(i, 1)
    assert batch.flush(2) is False
    assert batch.stats() == (3, 1, 0, {"send_failed": 2}, 0)
    sender.action = lambda sending: [sending.exported(5), sending.dropped(Drop(DropReason.REJECTED, 5))]  # type: ignore[assignment, return-value]
    batch.put("a", 1)
    assert batch.flush(2) is True
    assert batch.stats() == (4, 2, 0, {"send_failed": 2}, 0)


def test_whatever_happens_the_account_is_balanced() -> None:
    dice = random.Random(7)

    def play(sending: Sending[Any]) -> None:
        count = dice.randint(0, len(sending.items))
        sending.exported(count)
        if dice.random() < 0.3:
            raise RuntimeError
        sending.dropped(Drop(dice.choice([DropReason.REJECTED, DropReason.TOO_LARGE]), len(sending.items) - count))

    batch = batch_of(Sender(play), max_items=50, flush_at=10, flush_interval_s=0.001)

    def put() -> None:
        for i in range(1500):
            batch.put(i, 1)
            if i % 100 == 0:
                time.sleep(0.002)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        batch.flush(0.01)
    batch.shutdown()
    stats = batch.stats()
    assert stats.started == 6000
    assert stats.queued == 0
    assert balanced(batch)


# -- processes ---------------------------------------------------------------------------------------------------------


def in_child(check: Callable[[], bool]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 3
        with suppress(BaseException):
            code = 0 if check() else 1
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_sends_its_own_items_and_none_of_its_parents() -> None:
    with held() as (sender, released):
        batch = batch_of(sender, flush_at=2)
        for i in range(5):
            batch.put(i, 1)
        assert until(lambda: len(sender.batches) == 1)

        def child() -> bool:
            sender.action = None
            sender.batches.clear()
            batch.put("child", 1)
            flushed = batch.flush(2)
            return flushed and sender.items == ["child"] and batch.stats() == (1, 1, 0, {}, 0)

        with batch._lock:  # as a thread might hold it at that moment
            assert in_child(child) == 0
        released.set()
        assert batch.flush(2)
        assert sender.items == [0, 1, 2, 3, 4], "the parent is unaffected"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_a_parent_that_was_shut_down_drops_at_once() -> None:
    batch = batch_of(Sender())
    batch.shutdown()
    assert in_child(lambda: not batch.put("a", 1) and batch.stats() == (1, 0, 0, {"after_shutdown": 1}, 0)) == 0


PRELUDE = """
    import atexit, sys, threading, time
    from otel_langfuse.batch import Batch
    from otel_langfuse.stats import Ledger

    class Sender:
        def __init__(self, hang=False): self.hang = hang
        def send(self, sending):
            if self.hang: time.sleep(60)
            print("sent", len(sending.items), flush=True)
            sending.exported(len(sending.items))
        def flush(self, timeout_s): return True
        def close(self): print("closed", flush=True)

    def batch_of(sender):
        return Batch(sender, Ledger(), max_items=1000, max_bytes=10**6, flush_at=100, flush_bytes=10**6, flush_interval_s=60)
"""


def run(script: str) -> tuple[str, float]:
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout, time.monotonic() - begin


def test_the_end_of_the_interpreter_delivers_what_is_queued_also_from_exit_functions() -> None:
    out, _ = run("""
        batch = batch_of(Sender())
        atexit.register(batch.put, "at exit", 1)
        batch.put("a", 1)
    """)
    assert out == "sent 2\nclosed\n"


def test_what_is_put_first_at_the_end_of_the_interpreter_is_delivered_where_no_thread_can_start_any_more() -> None:
    out, _ = run("""
        batch = batch_of(Sender())
        atexit.register(batch.put, "at exit", 1)
    """)
    assert out == "sent 1\nclosed\n"


def test_the_end_of_the_interpreter_is_bounded_for_all_batches_together() -> None:
    out, seconds = run("""
        import otel_langfuse.batch
        otel_langfuse.batch.SHUTDOWN_TIMEOUT_S = 0.5
        batches = [batch_of(Sender(hang=True)) for _ in range(4)]
        for batch in batches: batch.put("a", 1)
    """)
    assert "sent" not in out
    assert seconds < 1.5


def test_where_no_thread_can_be_started_flush_and_shutdown_do_the_work_themselves() -> None:
    out, _ = run("""
        import resource
        batch = batch_of(Sender())
        threading.stack_size(1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 29, -1))
        try:
            threading.Thread(target=print).start()
        except RuntimeError:
            print("no threads")
        print(batch.put("a", 1), batch.put("b", 1), batch.flush(2), batch.put("c", 1), batch.shutdown(2), batch.stats())
    """)
    assert out.splitlines() == [
        "no threads",
        "sent 2",
        "sent 1",
        "closed",
        "True True True True True Stats(started=3, exported=3, queued=0, dropped={}, spooled=0)",
    ]
