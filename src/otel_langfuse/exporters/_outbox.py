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

from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.batch import Sending, Stop
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Request
from otel_langfuse.prepare import Target, Unread, count_spans
from otel_langfuse.spool import Destination, Kept, Limits, Lost, Part, SpoolError, project_of, spool_at
from otel_langfuse.stats import Ledger
from otel_langfuse.transport import Transport, suppressed

from ._delivery import Delivery, Left
from ._deposits import Deposits, OneDeposit, Row, row_of
from ._headers import public_key_of
from ._health import Health, Suspect
from ._patience import BeforeSpool, Once, Patience

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


class Outbox:
    """One exporter's way to its spool and out of it.

    Args:
        path: of the spool.
        target: what requests are made for; its headers are those of who sends, and not kept.
        transport: sends.
        timeout_s: seconds for one request.
        ledger: takes the notes, and the counts of what other processes left, until ``begin`` names another.
        health: of the destination, shared with those that send to it as spans come.
        rules: when, and how much.
        destination: what the target is called in the spool; by default what it says.

    Threads are started with the first batch, and again in a forked child, which sends what it puts there itself.

    Raises:
        ConfigError: the directory of the spool does not exist.
    """

    def __init__(
        self,
        path: str,
        target: Target,
        transport: Transport,
        *,
        timeout_s: float,
        ledger: Ledger,
        health: Health,
        rules: Rules,
        destination: Destination | None = None,
    ) -> None:
        self._spool = spool_at(path)
        self._target = target
        self._destination = destination or destination_of(target)
        self._transport = transport
        self._timeout_s = timeout_s
        self._ledger = ledger
        self._health = health
        self._rules = rules
        self._closed = False
        self._reset()
        _OUTBOXES.add(self)

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._deposits = Deposits(self._lock, lambda: self._ledger)
        self._suspects: dict[Row, Suspect] = {}
        self._being_sent: set[Row] = set()
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
        return BeforeSpool(self, sending, self._health)

    def put(self, request: Request, sending: Sending[Any]) -> bool:
        """Keeps a request, and counts its spans as spooled. False if it cannot be kept."""
        part = Part(self._own_headers(request), request.body, count_spans(request.items))
        with self._changed:  # so that nobody decides its fate before it is counted
            try:
                number, lost = self._spool.write(self._destination, part, self._rules.limits)
            except SpoolError as error:
                self._broken_until = time.monotonic() + BROKEN_S
                self._note(f"the spool cannot be written, so what cannot be sent stays in memory: {error}")
                return False
            generation = self._spool.generation
            self._deposits.count_gone(generation, self._being_sent)
            if number is not None:
                self._deposits.put((generation, number), sending.ledger, sending.spooled(part.spans))
                self._has_more = True
            self._changed.notify_all()
        self._count_lost(lost, generation)
        return number is not None

    def failed(self, seconds: float) -> None:
        """The destination did not take a request; it is not to be tried again for so many seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def answered(self) -> None:
        """The destination works."""
        if self._not_before == -math.inf and not self._is_outage:
            return
        with self._changed:
            self._not_before, self._is_outage = -math.inf, False
            self._changed.notify_all()

    def is_overdue(self, *, is_crowded: bool) -> bool:
        """Whether it has failed for so long that what comes is to be put here."""
        failing_s = self._health.failing_s()
        if not self.works or failing_s < 0:
            return False
        if not self._is_outage and (is_crowded or failing_s >= self._rules.after_s):
            self._is_outage = True
            self._ledger.note("outage", f"the destination takes nothing: what ends is kept in {self._spool.path} until it does")
        return self._is_outage

    def arrived(self, timeout_s: float) -> bool:
        """Waits until all that was put here in this process has been sent; see ``batch.Keeper``."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            deposits, last = self._deposits, self._deposits.puts
            self._changed.wait_for(lambda: deposits.are_decided(last) or self._is_hopeless(deadline), timeout_s)
            lost = deposits.take_lost()
            return deposits.are_decided(last) and not lost

    def leave(self) -> None:
        """Sends no more: there is no time. What is put here from now on is for whoever comes next, and not held by us."""
        self._stop.within(0)

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
                look_at = time.monotonic() + (TAKE_OVER_INTERVAL_S if self._take_over() else BROKEN_S)
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

    def _take_over(self) -> bool:
        try:
            lost = self._spool.take_over(self._destination, self._rules.limits)
        except SpoolError as error:
            self._note(f"the spool cannot be read: {error}")
            return False
        else:
            generation = self._spool.generation
            self._count_lost(lost, generation)
            with self._changed:
                self._deposits.count_gone(generation, self._being_sent)
                self._changed.notify_all()
            return True

    def _count_lost(self, lost: list[Lost], generation: int) -> None:
        """Counts what the spool had no room or no time for, where it came from: several outboxes may share the file."""
        if not lost:
            return
        for outbox in list(_OUTBOXES):
            if outbox is not self and outbox._spool is self._spool:  # noqa: SLF001 - our own
                lost = outbox._count_own(lost, generation)  # noqa: SLF001 - not within our lock, which it may want just now
        with self._changed:
            self._deposits.count_lost(lost, generation)
            self._changed.notify_all()

    def _count_own(self, lost: list[Lost], generation: int) -> list[Lost]:
        with self._changed:
            own = [one for one in lost if self._deposits.has((generation, one.id))]
            self._deposits.count_lost(own, generation)
            self._changed.notify_all()
        return [one for one in lost if one not in own]

    def _take(self) -> Kept | None:
        with self._changed:  # so that what is taken is known to be on its way
            try:
                kept = self._spool.take(self._destination)
            except SpoolError as error:
                self._note(f"the spool cannot be read: {error}")
                return None
            if kept is not None:
                self._being_sent.add(row_of(kept))
            self._deposits.count_gone(self._spool.generation, self._being_sent)
            self._changed.notify_all()
            return kept

    def _send(self, kept: Kept) -> None:
        """Sends one request that was kept, once, and puts back what of it was not taken."""
        headers = {**self._target.headers, **kept.headers}
        request = Request(self._target.endpoint, self._target.url, headers, kept.body, ())
        request = request._replace(items=Unread(request, kept.spans))
        account = OneDeposit(self._deposits, kept, self._stop.time_left_s)
        patience = Once(self, self._health)
        delivery = Delivery(
            self._target, self._transport, account, patience, timeout_s=self._timeout_s, ledger=self._ledger, health=self._health
        )
        left: list[Left] = []
        try:
            delivery.run([request], kept.attempts, self._suspects.setdefault(row_of(kept), Suspect()))
            while (one := delivery.pop_left()) is not None:
                left.append(one)
        except Exception as error:  # noqa: BLE001 - it would be the same again and again
            account.dropped(Drop(DropReason.UNREADABLE, kept.spans, f"{type(error).__name__} while sending what is in the spool"))
            left = []
        self._settle(kept, request, left)

    def _settle(self, kept: Kept, request: Request, left: list[Left]) -> None:
        row = row_of(kept)
        is_whole = bool(left) and left[0].request is request
        with self._changed:
            self._being_sent.discard(row)
            if not is_whole:
                self._suspects.pop(row, None)
            try:
                if not left:
                    self._deposits.forget(row)
                    self._spool.remove(kept)
                elif not is_whole or not self._spool.put_back(kept):
                    self._replace(kept, [one.request for one in left])
            except SpoolError as error:  # it may be sent again, by the next process
                self._note(f"the spool cannot be written: {error}")
                if left:
                    with suppress(SpoolError):  # it was damaged, perhaps, and is another one by now
                        self._replace(kept, [one.request for one in left])
            self._changed.notify_all()

    def _replace(self, kept: Kept, requests: list[Request]) -> None:
        sizes = [count_spans(request.items) for request in requests]
        parts = [Part(self._own_headers(request), request.body, size) for request, size in zip(requests, sizes, strict=True)]
        numbers = self._spool.replace(kept, self._destination, parts)
        self._deposits.replace(row_of(kept), [(self._spool.generation, number) for number in numbers], sizes)
        self._has_more = True

    def _own_headers(self, request: Request) -> dict[str, str]:
        """Those that describe its body: the others are added by who sends."""
        return {name: value for name, value in request.headers.items() if self._target.headers.get(name) != value}

    def _note(self, line: str) -> None:
        self._ledger.note("spool", line)


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
