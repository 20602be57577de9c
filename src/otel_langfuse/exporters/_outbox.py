"""What stands between an exporter and its spool: when a request goes there, and threads of their own that send from it.

``outage`` (the default): requests are sent as they come. When the destination has taken nothing for ``after_s`` seconds, or
the queue is half full meanwhile, all that comes goes to the spool, and only the outbox tries the destination, with one
request at a time; when it takes one, requests are sent as they come again, and the spool is emptied beside them, oldest
first. ``always``: every request goes to the spool first, and is sent from there.

Spans in the spool are counted as spooled by the ledger of who put them there, until their fate is known here. Those that a
process left that is gone count as started here at that moment, so that every ledger is balanced.

A request may be sent twice: when a process ends between its arrival and its removal from the spool, or when an answer is
lost. Langfuse overwrites by id, so nothing is doubled there; a collector passes both on.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from contextlib import suppress
from typing import Any, Final, NamedTuple

from otel_langfuse import retry
from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.batch import Sending, Stop
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request
from otel_langfuse.prepare import Target, Unread, count_spans
from otel_langfuse.spool import Destination, Kept, Limits, Lost, Part, SpoolError, project_of, spool_at
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import Transport, suppressed

from ._delivery import Delivery, InMemory, Left, Patience, Waiting
from ._headers import public_key_of

TAKE_OVER_INTERVAL_S: Final = 30.0
"""How often an idle outbox looks for what processes left that are gone."""


BROKEN_S: Final = 5.0
"""For so long a spool that could not be written is not tried again."""


class Rules(NamedTuple):
    """``always``: everything goes to the spool first. ``after_s``: see above. ``threads``: requests on their way at once."""

    always: bool
    after_s: float
    limits: Limits
    threads: int = 1


class _Pending(NamedTuple):
    """A request of ours in the spool: its place in their order, whose spans they are, and how many."""

    number: int
    ledger: Ledger
    spans: int


class Outbox:
    """One exporter's way to its spool and out of it.

    Args:
        path: of the spool.
        target: what requests are made for; its headers are those of who sends, and not kept.
        transport: sends.
        timeout_s: seconds for one request.
        ledger: takes the notes, and the counts of what other processes left, until ``begin`` names another.
        rules: when, and how much.

    Threads are started with the first batch, and again in a forked child, which sends what it puts there itself.

    Raises:
        ConfigError: the directory of the spool does not exist.
    """

    def __init__(
        self, path: str, target: Target, transport: Transport, *, timeout_s: float, ledger: Ledger, rules: Rules
    ) -> None:
        self._spool = spool_at(path)
        self._target = target
        self._destination = destination_of(target)
        self._transport = transport
        self._timeout_s = timeout_s
        self._ledger = ledger
        self._rules = rules
        self._closed = False
        self._reset()
        _OUTBOXES.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._pending: dict[int, _Pending] = {}
        self._puts = 0
        self._lost = 0  # spans of ours, since somebody was told
        self._failing_since: float | None = None
        self._failures = 0
        self._not_before = -math.inf
        self._is_outage = False
        self._broken_until = -math.inf  # the spool
        self._has_begun = False
        self._has_more = True  # perhaps
        self._workers: list[Any] = []
        self._stop = Stop()

    # -- on the exporter's threads -------------------------------------------------------------------------------------

    def begin(self, ledger: Ledger) -> None:
        """Says whose notes and counts they are from now on; starts to send what is in the spool."""
        self._ledger = ledger
        self._has_begun = True
        with self._lock:
            while len(self._workers) < self._rules.threads and not self._closed and not self._stop.is_set():
                worker = threading.Thread(target=self._work, name="otel-langfuse-spool", daemon=True)
                self._workers.append(worker)
                try:
                    worker.start()
                except RuntimeError:  # at the end of the interpreter: ``finish`` does it
                    self._workers.remove(worker)
                    return

    @property
    def takes_all(self) -> bool:
        """Whether requests are to be put here at once, without trying to send them."""
        return self.works and (self._rules.always or self._is_outage)

    @property
    def works(self) -> bool:
        """Whether the spool can be written, as far as is known; after it could not, it is left alone for a while."""
        return time.monotonic() >= self._broken_until

    def patience(self, sending: Sending[Any]) -> Patience:
        """For a batch that is sent as it comes."""
        return _BeforeSpool(self, sending)

    def put(self, request: Request, sending: Sending[Any]) -> bool:
        """Keeps a request, and counts its spans as spooled. False if it cannot be kept."""
        own = {name: value for name, value in request.headers.items() if self._target.headers.get(name) != value}
        spans = count_spans(request.items)
        with self._changed:  # so that nobody decides its fate before it is counted
            try:
                number, lost = self._spool.write(self._destination, Part(own, request.body, spans), self._rules.limits)
            except SpoolError as error:
                self._broken_until = time.monotonic() + BROKEN_S
                self._note(f"the spool cannot be written, so what cannot be sent stays in memory: {error}")
                return False
            self._count_lost(lost)
            if number is None:
                return False
            self._puts += 1
            self._pending[number] = _Pending(self._puts, sending.ledger, sending.spooled(spans))
            self._has_more = True
            self._changed.notify_all()
        return True

    def failed(self, seconds: float) -> None:
        """The destination did not take a request; it is not to be tried again for so many seconds."""
        with self._lock:
            now = time.monotonic()
            self._failures += 1
            self._not_before = max(self._not_before, now + seconds)
            if self._failing_since is None:
                self._failing_since = now

    def answered(self) -> None:
        """The destination works."""
        if self._failing_since is None:
            return
        with self._changed:
            self._failing_since, self._failures, self._not_before, self._is_outage = None, 0, -math.inf, False
            self._changed.notify_all()

    def is_overdue(self, *, is_crowded: bool) -> bool:
        """Whether it has failed for so long that what comes is to be put here."""
        since = self._failing_since
        if not self.works or since is None:
            return False
        if not self._is_outage and (is_crowded or time.monotonic() - since >= self._rules.after_s):
            self._is_outage = True
            self._note(f"the destination takes nothing: what ends is kept in {self._spool.path} until it does")
        return self._is_outage

    def arrived(self, timeout_s: float) -> bool:
        """Waits until all that was put here in this process has been sent; see ``batch.Keeper``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            last = self._puts
            self._changed.wait_for(lambda: self._is_decided(last) or self._is_hopeless(deadline), timeout_s)
            lost, self._lost = self._lost, 0
            return self._is_decided(last) and not lost

    def finish(self, timeout_s: float) -> None:
        """Sends what is in the spool, as long as that works and at most ``timeout_s`` seconds, and ends the threads."""
        deadline = time.monotonic() + timeout_s
        self._stop.within(timeout_s)
        with self._changed:
            self._has_more = True
            self._changed.notify_all()
            is_idle = not self._workers
        if is_idle and self._has_begun and timeout_s > 0:  # no thread could be started
            self._work()
        with self._changed:
            self._changed.wait_for(lambda: not self._workers, deadline - time.monotonic())

    def close(self) -> None:
        """Lets go of the spool: what is left in it is anybody's."""
        self._stop.within(0)
        with self._changed:
            self._has_more = True
            self._changed.notify_all()
            if self._closed:
                return
            self._closed = True
        self._spool.close()

    def _is_decided(self, last: int) -> bool:
        return all(pending.number > last for pending in self._pending.values())

    def _is_hopeless(self, deadline: float) -> bool:
        return self._not_before > deadline or (self._stop.is_set() and not self._workers)

    # -- on the outbox's own threads -----------------------------------------------------------------------------------

    def _work(self) -> None:
        with suppressed():
            try:
                self._send_all()
            except Exception as error:  # noqa: BLE001 - what is in the spool is safe, and the next process sends it
                self._note(f"{type(error).__name__} while sending what is in the spool")
            finally:
                with self._changed, suppress(ValueError):
                    self._workers.remove(threading.current_thread())
                    self._changed.notify_all()

    def _send_all(self) -> None:
        look_at = -math.inf
        while self._stop.time_left_s() > 0:
            pause_s = self._not_before - time.monotonic()
            if pause_s > 0:
                if self._stop.is_set():
                    return
                self._pause(pause_s, wakes=False)
                continue
            if time.monotonic() >= look_at:
                self._take_over()
                look_at = time.monotonic() + TAKE_OVER_INTERVAL_S
            kept = self._take()
            if kept is not None:
                self._send(kept)
            elif self._stop.is_set():
                return
            else:
                self._pause(look_at - time.monotonic(), wakes=True)

    def _pause(self, seconds: float, *, wakes: bool) -> None:
        """Sleeps, until it is over or there may be more to send."""
        with self._changed:
            if not wakes or not self._has_more:
                until = self._not_before
                self._changed.wait_for(
                    lambda: self._stop.is_set() or (self._has_more if wakes else self._not_before != until), seconds
                )
            if wakes:
                self._has_more = False

    def _take_over(self) -> None:
        try:
            lost = self._spool.take_over(self._destination, self._rules.limits)
        except SpoolError as error:
            self._note(f"the spool cannot be read: {error}")
        else:
            with self._lock:
                self._count_lost(lost)

    def _take(self) -> Kept | None:
        try:
            return self._spool.take(self._destination)
        except SpoolError as error:
            self._note(f"the spool cannot be read: {error}")
            return None

    def _send(self, kept: Kept) -> None:
        """Sends one request that was kept, once, and puts back what of it was not taken."""
        headers = {**self._target.headers, **kept.headers}
        request = Request(self._destination.endpoint, self._destination.url, headers, kept.body, ())
        request = request._replace(items=Unread(request, kept.spans))
        account = _Account(self, kept)
        delivery = Delivery(self._target, self._transport, account, _Once(self), timeout_s=self._timeout_s, ledger=self._ledger)
        left: list[Left] = []
        try:
            delivery.run([request], kept.attempts)
            while (one := delivery.pop_left()) is not None:
                left.append(one)
        except Exception as error:  # noqa: BLE001 - it would be the same again and again
            account.dropped(Drop(DropReason.UNREADABLE, kept.spans, f"{type(error).__name__} while sending what is in the spool"))
            left = []
        self._settle(kept, request, left)

    def _settle(self, kept: Kept, request: Request, left: list[Left]) -> None:
        with self._changed:
            pending = self._pending.get(kept.id)
            try:
                if not left:
                    self._pending.pop(kept.id, None)
                    self._spool.remove(kept)
                elif left[0].request is request:
                    self._spool.put_back(kept)
                else:
                    self._pending.pop(kept.id, None)
                    self._replace(kept, pending, [one.request for one in left])
            except SpoolError as error:  # it may be sent again, by the next process
                self._note(f"the spool cannot be written: {error}")
            self._changed.notify_all()

    def _replace(self, kept: Kept, pending: _Pending | None, requests: list[Request]) -> None:
        sizes = [count_spans(request.items) for request in requests]
        base = self._target.headers
        parts = [
            Part({name: value for name, value in request.headers.items() if base.get(name) != value}, request.body, size)
            for request, size in zip(requests, sizes, strict=True)
        ]
        numbers = self._spool.replace(kept, self._destination, parts)
        if pending is not None:
            for number, size in zip(numbers, sizes, strict=True):
                self._pending[number] = pending._replace(spans=min(size, pending.spans))
        self._has_more = True

    # -- counting ------------------------------------------------------------------------------------------------------

    def count(self, kept_id: int, count: int, drop: Drop | None) -> None:
        """Counts what became of ``count`` spans of a request that was in the spool: exported, or dropped."""
        with self._lock:
            pending = self._pending.get(kept_id)
            if pending is None:  # another process put them there
                ledger = self._ledger
                ledger.start(count)
            else:
                ledger = pending.ledger
                count = min(count, pending.spans)  # the others were counted when shutdown ran out of time
                self._pending[kept_id] = pending._replace(spans=pending.spans - count)
                ledger.spool(-count)
                self._lost += count if drop is not None else 0
        if drop is None:
            ledger.export(count)
        else:
            ledger.drop(drop.reason, count, drop.detail)

    def _count_lost(self, lost: list[Lost]) -> None:
        for one in lost:
            self.count(one.id, one.spans, Drop(one.reason, one.spans))
            self._pending.pop(one.id, None)

    def _note(self, line: str) -> None:
        self._ledger.note("spool", line)


class _BeforeSpool:
    """The patience of who sends a batch as it comes: until the spool is the better place for it."""

    def __init__(self, outbox: Outbox, sending: Sending[Any]) -> None:
        self._outbox = outbox
        self._sending = sending
        self._in_memory = InMemory(sending)

    @property
    def is_over(self) -> bool:
        return self._in_memory.is_over

    def wait(self, decision: Waiting) -> bool:
        self._outbox.failed(decision.seconds)
        if not self._outbox.works:
            return self._in_memory.wait(decision)
        return not self._is_overdue() and self._sending.wait(decision.seconds, self._is_overdue) and not self._is_overdue()

    def _is_overdue(self) -> bool:
        return self._outbox.is_overdue(is_crowded=self._sending.stopping or self._sending.is_crowded())

    def tries(self, left: int) -> bool:  # noqa: ARG002 - the signature of the protocol
        return not self._outbox.takes_all

    def request_timeout_s(self, timeout_s: float, left_s: float) -> float:
        """While the process ends, half of the time that is left: what is not sent then is still to be written."""
        return min(timeout_s, left_s / 2 if self._sending.stopping else left_s)

    def answered(self) -> None:
        self._outbox.answered()


class _Once:
    """The patience of who sends from the spool: each request is tried once, and none when one of them was not taken."""

    is_over = True

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def wait(self, decision: Waiting) -> bool:
        backoff_s = retry.backoff_s(self._outbox._failures, 0.5)  # noqa: SLF001 - our own
        self._outbox.failed(max(decision.seconds, backoff_s))
        return False

    def tries(self, left: int) -> bool:
        return not left

    def request_timeout_s(self, timeout_s: float, left_s: float) -> float:
        return min(timeout_s, left_s)

    def answered(self) -> None:
        self._outbox.answered()


class _Account:
    """Of one request from the spool."""

    def __init__(self, outbox: Outbox, kept: Kept) -> None:
        self._outbox = outbox
        self._kept = kept

    def exported(self, count: int) -> None:
        self._outbox.count(self._kept.id, count, None)

    def dropped(self, drop: Drop) -> None:
        self._outbox.count(self._kept.id, drop.count, drop)

    def time_left_s(self) -> float:
        return self._outbox._stop.time_left_s()  # noqa: SLF001 - our own


def destination_of(target: Target) -> Destination:
    """Where the requests for a target go. Two projects on one server are two destinations, told apart without their keys."""
    return Destination(target.endpoint, target.url, project_of(public_key_of(target.headers)))


# -- forks -------------------------------------------------------------------------------------------------------------

_OUTBOXES: weakref.WeakSet[Outbox] = weakref.WeakSet()


def _forget_parent() -> None:
    for outbox in list(_OUTBOXES):
        outbox._reset()  # noqa: SLF001 - our own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
