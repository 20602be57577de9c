"""The wall between the application and the network: one bounded queue, a few workers. It knows no spans, only items.

Theory of operation. ``put`` appends under a lock that nobody holds for longer than it takes to move a batch out; it
never does I/O. A daemon thread, started with the first item, closes a batch when it is full (in items or bytes), when
its first item has waited for ``flush_interval_s``, or when a flush is queued, and hands it to the sender as a
``Sending``: the items, and the only ways to report on them and to sleep. Where more than one may be on its way at the
same time, a further thread is started when a batch is due and all others are busy.

A flush is a marker that travels through the queue, so "everything before me" is exact. It is also the account of what
was put between the flush before it and itself: how many batches of that are on their way, how many items were lost.
Markers are answered in their order, each when nothing before it is on its way any more, whoever sends it.

Every item ends as exported, as spooled, or as dropped for a reason. What a sender leaves undecided (it raised, or was
still busy when ``shutdown`` ran out of time) counts as ``send_failed``: it may have arrived, but nobody can say so.

Items may also be left at the door: ``arrivals`` is a deque that an application's thread appends to, without a lock and without
measuring anything, which costs a fraction of ``put``. Some ``MAX_ARRIVALS`` of them are taken in together, by the thread that
brought the last, and earlier by whatever wants to know what is there: the worker, a flush, ``stats``, a shutdown. ``look_at``
says at how many somebody has to: at one while nothing is queued, so that the worker's clock starts with the first item, and at
any after ``shutdown``. It is changed before ``arrivals`` is looked at, and read after ``arrivals`` was appended to, so that one
of both sides sees the item.

In front of the queue there may be a ``Waiting``, which keeps items back (tail sampling does, until a trace has ended). What
it keeps back counts as queued, and a flush, a shutdown and the worker's clock get it out.

Signal handlers may run in the middle of any of this, on the main thread: so the lock is reentrant, and who waits for the
worker waits on a condition of it, which lets go of it altogether, also of what an interrupted ``put`` holds. What is counted
under the lock is therefore changed by ``+=`` only, never written back from a value that was read before. ``threading.Event``
is not used: its own lock is not reentrant.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from otel_langfuse import ending
from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.errors import DropReason
from otel_langfuse.model import Stats
from otel_langfuse.stats import Ledger

from ._sending import Flag, Keeper, Released, Sender, Sending, Stop, Waiting

__all__ = ["SHUTDOWN_TIMEOUT_S", "Batch", "Keeper", "Released", "Sender", "Sending", "Stop", "Waiting"]

SHUTDOWN_TIMEOUT_S: Final = 5.0

KEEPING_SHARE: Final = 0.3
"""The part of shutdown's time that is left for putting away what could not be sent, where there is a ``Keeper``."""

MAX_ARRIVALS: Final = 16
"""Items that nobody has measured yet, about: by as many the bounds of a queue may be exceeded."""

BACKLOG: Final = 8
"""So many full batches that wait are a backlog, as after an outage, or before a server that is far away ..."""

LARGER: Final = 4
"""... and then a batch holds up to so many of them, within ``flush_bytes``: at 0.2 s for each answer, a backlog of small spans
is gone three times as fast, of spans of 2 KB twice."""

_NEVER: Final = 1 << 62
_MARKER_SIZE: Final = -1  # the size of a flush marker's entry; an item's is never negative

T = TypeVar("T")


class _Marker:
    """A flush on its way through the queue, and the account of what was put since the flush before it."""

    __slots__ = ("deadline", "delivered", "done", "given_up", "in_flight", "lost", "number")

    def __init__(self, number: int) -> None:
        self.number = number  # in the order of the queue
        self.in_flight = 0  # batches
        self.lost = 0  # items
        self.deadline = 0.0
        self.done = False
        self.delivered = False
        self.given_up = False


class Batch(Generic[T]):
    """A bounded queue with worker threads in front of a ``Sender``.

    Args:
        sender: called on the worker threads only.
        ledger: counts what becomes of the items. That they were put is counted here, and added by ``stats``.
        max_items: items that wait or are being sent, at most.
        max_bytes: the same in bytes, by the sizes given to ``put``.
        flush_at: items that close a batch; with a ``BACKLOG``, one holds more of them.
        flush_bytes: bytes that close a batch.
        flush_interval_s: seconds that an item waits for its batch to fill, at most (while the sender is idle).
        policy: at these bounds, ``drop_newest`` drops the new item, ``drop_oldest`` those that wait longest, and ``wait``
            makes the thread that puts wait for room, then drops the new item. Not meant for the thread of an event loop.
        max_wait_s: seconds for which ``wait`` waits, at most.
        threads: batches that are on their way at the same time, at most. With more than one, the sender is called on
            several threads at once, and items may arrive in another order.
        waiting: keeps items back that come by ``hold``.
        keeper: puts away at shutdown what could not be sent in time; in the last ``KEEPING_SHARE`` of the time.
        measure: bytes that an item holds; with it, items may be left in ``arrivals``. Called under the lock, never raises.
        flush_on_exit: whether SIGTERM, ``os._exit`` and their like deliver what is queued; see ``ending``.
        is_owned: what is put comes from the sender of another batch, which flushes and shuts down this one: at the end of the
            process nobody else does, because more may come until that one has ended.
        name: of the worker threads.

    In a forked child the queue is empty and the counts are zero: what the parent queued is the parent's to send. At
    the end of the interpreter all batches are shut down, together within ``SHUTDOWN_TIMEOUT_S`` seconds.
    """

    def __init__(
        self,
        sender: Sender[T],
        ledger: Ledger,
        *,
        max_items: int,
        max_bytes: int,
        flush_at: int,
        flush_bytes: int,
        flush_interval_s: float,
        policy: str = "drop_newest",
        max_wait_s: float = 0.0,
        threads: int = 1,
        waiting: Waiting[T] | None = None,
        keeper: Keeper[T] | None = None,
        measure: Callable[[T], int] | None = None,
        flush_on_exit: bool = True,
        is_owned: bool = False,
        name: str = "otel-langfuse",
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._flush_at = min(flush_at, max_items)
        self._flush_bytes = flush_bytes
        self._flush_interval_s = flush_interval_s
        self._policy = policy
        self._max_wait_s = max_wait_s
        self._threads = threads
        self._waiting = waiting
        self._keeper = keeper
        self._measure = measure
        self._most_arrivals = min(MAX_ARRIVALS, self._flush_at // 32, max_items // 64)
        self.arrivals: deque[T] = deque()
        self._flush_on_exit = flush_on_exit
        self._is_owned = is_owned
        self._name = name
        self._closed = False
        self._reset()
        _BATCHES.add(self)
        if flush_on_exit:
            ending.arm()

    def _reset(self) -> None:
        """The state of a new queue; also in a forked child: the worker is gone, and any lock may be held forever."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # a marker was answered, or all is done
        self._room = threading.Condition(self._lock)  # something left the queue
        self._entries: deque[tuple[Any, int]] = deque()
        self.arrivals.clear()
        self.look_at = 0 if self._closed else 1
        self._rings = False  # a worker is to be woken by who has the lock now, when he lets go of it
        self._untold: deque[tuple[DropReason, int]] = deque()  # to be counted and logged by him then
        self._puts = 0
        self._moving = 0  # released by what kept them back, and not put yet
        self._items = 0  # waiting
        self._bytes = 0
        self._room_items = -1 if self._closed else self._max_items  # what may wait while the sender has the rest
        self._room_bytes = self._max_bytes
        self._ring_items = 1  # waiting items and bytes at which a worker is to be woken
        self._ring_bytes = self._flush_bytes
        self._first_at = 0.0
        self._markers: deque[_Marker] = deque()  # those in the queue
        self._due: deque[_Marker] = deque()  # those that have left it and are not answered yet
        self._next = _Marker(0)  # what the next flush will queue
        self._sendings: dict[Sending[T], _Marker] = {}
        self._workers: list[Any] = []
        self._idle = 0  # workers that wait for the bell
        self._bell = Flag()
        self._stop = Stop()
        self._reserve_s = 0.0
        self._abandoned = False
        self._done = self._closed
        self._sender_closed = False
        if self._waiting is not None:
            self._waiting.forget()

    # -- the caller's side ---------------------------------------------------------------------------------------------

    def put(self, item: T, size_bytes: int, *, moved: int = 0, waits: bool = True) -> bool:
        """Queues an item. Never does I/O, never raises, and waits for room only by ``policy="wait"``.

        Args:
            item: to be sent.
            size_bytes: what it holds.
            moved: 1 for an item that was kept back by ``waiting`` until now.
            waits: False: also by that policy it does not wait.

        Returns:
            Whether it was queued; if not, it was counted as ``queue_full``, ``too_large`` or ``after_shutdown``.
        """
        with self._lock:
            if self.arrivals:
                self._admit_arrivals()
            is_queued = self._admit(item, size_bytes, waits=waits)
            self._moving -= moved
        if self._rings or self._untold:
            self._follow_up()
        return is_queued

    @property
    def takes_arrivals(self) -> bool:
        """Whether items may be left in ``arrivals``: not where the queue is small, or somebody would have to wait for room."""
        return self._measure is not None and self._policy == "drop_newest" and self._most_arrivals > 1

    def leave(self, item: T) -> None:
        """Leaves an item in ``arrivals``, if ``takes_arrivals``. Where a call costs too much, this is done without it."""
        self.arrivals.append(item)
        if len(self.arrivals) >= self.look_at:
            self.take_in()

    def take_in(self) -> None:
        """Queues what is in ``arrivals``, as ``put`` does. To be called by who finds ``look_at`` of them there, or more."""
        with self._lock:
            self._admit_arrivals()
        if self._rings or self._untold:
            self._follow_up()

    def _admit_arrivals(self) -> None:
        """Measures and queues what is in ``arrivals``, and says when to look there next. The lock is held."""
        arrivals, measure = self.arrivals, self._measure
        while measure is not None:
            while arrivals:
                try:
                    item = arrivals[0]
                    size_bytes = measure(item)
                    if arrivals[0] is not item:  # a signal handler took it in meanwhile
                        continue
                    arrivals.popleft()
                except IndexError:  # likewise
                    continue
                self._admit(item, size_bytes, waits=False)
            if self.look_at:
                self.look_at = self._most_arrivals if self._items else 1
            if self._items or not arrivals:
                return

    def _admit(self, item: T, size_bytes: int, *, waits: bool) -> bool:
        """Queues an item if there is room for it, or can be made. The lock is held; ``_follow_up`` is due when it is not."""
        dropped = 0
        self._puts += 1
        if self._items >= self._room_items or self._bytes + size_bytes > self._room_bytes:
            dropped = self._make_room(size_bytes, waits=waits)
            if dropped < 0:
                self._next.lost += 1
                self._untold.append((self._why_not(size_bytes), 1))
                return False
        self._entries.append((item, size_bytes))
        self._items += 1
        self._bytes += size_bytes
        if self._items >= self._ring_items or self._bytes >= self._ring_bytes:
            self._ring()
        if dropped:
            self._untold.append((DropReason.QUEUE_FULL, dropped))
            self._rings = True
        return True

    def _follow_up(self) -> None:
        """What is not done under the lock: counts drops, which may log, and wakes a worker, or starts one."""
        while self._untold:
            with suppress(IndexError):  # another thread was faster
                self._ledger.drop(*self._untold.popleft())
        if self._rings:
            self._rings = False
            if not self._idle and len(self._workers) < self._threads:
                self._start_worker()
            self._bell.set()

    def hold(self, step: Callable[[float], Released[T]]) -> None:
        """Lets something happen to ``waiting``, and queues what it releases then.

        Args:
            step: is given ``time.monotonic()``; called under the lock.
        """
        waiting = self._waiting
        if waiting is None:
            raise TypeError("this batch was made without waiting=")
        with self._lock:
            was_idle = math.isinf(waiting.due_at)
            released = [self._noted(step(time.monotonic()))]
            if self._closed:
                released.append(self._noted(waiting.all()))
            is_idle = math.isinf(waiting.due_at)
        self._queue(released)
        if was_idle and not is_idle and self._start_worker():
            self._bell.set()

    def _noted(self, released: Released[T]) -> Released[T]:
        """The same, counted as on its way to the queue. The lock is held."""
        self._moving += len(released.entries)
        self._puts += released.dropped
        return released

    def _queue(self, released: Iterable[Released[T]], *, waits: bool = True) -> None:
        for each in released:
            if each.dropped:
                self._ledger.drop(DropReason.SAMPLED_OUT, each.dropped)
            for item, size_bytes in each.entries:
                self.put(item, size_bytes, moved=1, waits=waits)

    def _queue_waiting(self, *, only_due: bool = False) -> None:
        """Queues what is kept back, all of it or only what has waited too long; room for it is not waited for."""
        waiting = self._waiting
        if waiting is not None:
            with self._lock:
                released = self._noted(waiting.due(time.monotonic()) if only_due else waiting.all())
            self._queue([released], waits=False)

    def _make_room(self, size_bytes: int, *, waits: bool) -> int:
        """How many items had to be dropped for a new one; -1 if there is no room for it. The lock is held."""
        if self._closed or self._policy == "drop_newest" or size_bytes > self._max_bytes:
            return -1
        if self._policy == "drop_oldest":
            return self._drop_oldest(size_bytes)
        if waits and threading.current_thread() not in self._workers:  # else it would wait for itself
            self._room.wait_for(lambda: self._closed or self._fits(size_bytes), self._max_wait_s)
        return 0 if self._fits(size_bytes) and not self._closed else -1

    def _fits(self, size_bytes: int) -> bool:
        return self._items < self._room_items and self._bytes + size_bytes <= self._room_bytes

    def _drop_oldest(self, size_bytes: int) -> int:
        if self._room_items < 1 or size_bytes > self._room_bytes:
            return -1  # all of it is being sent
        dropped = 0
        passed: list[tuple[Any, int]] = []  # markers stay
        while self._entries and not self._fits(size_bytes):
            entry = self._entries.popleft()
            if entry[1] == _MARKER_SIZE:
                passed.append(entry)
                continue
            self._items -= 1
            self._bytes -= entry[1]
            self._account(len(passed)).lost += 1
            dropped += 1
        self._entries.extendleft(reversed(passed))
        return dropped

    def _account(self, passed: int = 0) -> _Marker:
        """The marker that answers for the first item of the queue, or for the first one after so many markers."""
        return self._markers[passed] if passed < len(self._markers) else self._next

    def _ring(self) -> None:
        """Says when the worker is to be woken next, now that it is: for the first item, then for a full batch. Locked."""
        self._rings = True
        if self._items == 1:
            self._first_at = time.monotonic()
        is_full = self._items >= self._flush_at or self._bytes >= self._flush_bytes
        self._ring_items = _NEVER if is_full else self._flush_at
        self._ring_bytes = _NEVER if is_full else self._flush_bytes

    def _why_not(self, size_bytes: int) -> DropReason:
        if self._closed:
            return DropReason.AFTER_SHUTDOWN
        return DropReason.TOO_LARGE if size_bytes > self._max_bytes else DropReason.QUEUE_FULL

    def flush(self, timeout_s: float) -> bool:
        """Sends everything that was put before, and waits for it, at most ``timeout_s`` seconds.

        Returns:
            True if everything that was put since the previous flush has been delivered. False if any of it was lost
            (the reason is in the ledger), or is still on its way or spooled when the time is over; at once when it is
            certain that it will be, because the sender waits for longer than that before it tries again; and always
            when called by the sender itself, on a worker thread, which cannot wait for itself.
        """
        if threading.current_thread() in self._workers:
            return False
        deadline = time.monotonic() + timeout_s
        self._queue_waiting()
        with self._lock:
            self._admit_arrivals()
            idle = self._done or not (self._workers or self._entries)
            marker = self._new_account()
            marker.deadline = deadline
            if not idle:
                self._entries.append((marker, _MARKER_SIZE))
                self._markers.append(marker)
        if self._rings or self._untold:
            self._follow_up()
        if idle:
            return not marker.lost and self._arrived(deadline)
        if not self._start_worker():
            self._work_here(deadline)
        self._bell.set()
        with self._changed:
            self._changed.wait_for(lambda: marker.done or self._is_hopeless(marker), deadline - time.monotonic())
            marker.given_up = not marker.done
        return marker.delivered and self._arrived(deadline)

    def work_if_nobody_can(self, timeout_s: float) -> None:
        """Does the worker's work on this thread where no worker can be started, as at the end of the interpreter."""
        if not self._start_worker():
            self._work_here(time.monotonic() + timeout_s)

    def _new_account(self) -> _Marker:
        """The account of everything since the last one; the next one begins. The lock is held."""
        following = _Marker(self._next.number + 1)
        account, self._next = self._next, following  # in one step, which no signal handler interrupts
        return account

    def _is_hopeless(self, marker: _Marker) -> bool:
        """Whether something before the marker will not even be tried again before its deadline.

        While another batch is being sent, or is sooner, nobody can be sure: when it arrives, all who sleep are woken.
        """
        asleep = {sending: sending.asleep_until > marker.deadline for sending in self._sendings}
        return all(asleep.values()) and any(account.number <= marker.number for account in self._sendings.values())

    def _arrived(self, deadline: float) -> bool:
        return self._keeper is None or self._keeper.arrived(deadline - time.monotonic())

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> bool:
        """Ends it: wakes a sleeping retry, sends what it can in ``timeout_s`` seconds, and keeps or counts the rest.

        May be called again, and from a signal handler; what is put later counts as ``after_shutdown``.

        Returns:
            True if everything that was put since the last flush has been delivered.
        """
        deadline = time.monotonic() + timeout_s
        self._begin_shutdown(timeout_s)
        if threading.current_thread() in self._workers:
            return False
        if not self._start_worker():
            self._work_here(deadline - self._reserve_s)
        self._bell.set()
        with self._changed:
            in_time = self._changed.wait_for(lambda: self._done, deadline - self._reserve_s - time.monotonic())
        if not in_time:
            self._abandon(deadline)
        self._ledger.report_rest()
        with self._lock:
            account = self._new_account()
        return not account.lost and self._arrived(0)

    @property
    def closed(self) -> bool:
        """Whether ``shutdown`` was called."""
        return self._closed

    def stats(self) -> Stats:
        """What was put, and what became of it. ``queued`` is what waits or is being sent."""
        if self.arrivals or self._untold:
            self.take_in()
        with self._lock:
            apart = self._moving + (0 if self._waiting is None else self._waiting.count)
            queued = self._items + sum(sending.undecided for sending in self._sendings)
            return self._ledger.snapshot(queued + apart, self._puts + apart)

    def waiting_and_stats(self) -> tuple[int, Stats]:
        """How many of the queued items no sender has yet, and ``stats()`` of the same moment."""
        self.take_in()
        with self._lock:
            return self._items + (0 if self._waiting is None else self._waiting.count), self.stats()

    def _begin_shutdown(self, timeout_s: float) -> None:
        with self._lock:  # kept from here on, so that nothing is held in between
            if not self._closed:
                self.look_at = 0
                self._admit_arrivals()
                self._queue_waiting()
            if not self._closed:
                self._closed = True
                self._room_items = -1
                self._reserve_s = KEEPING_SHARE * timeout_s if self._keeper is not None else 0.0
                self._stop.within(timeout_s - self._reserve_s)
                self._room.notify_all()
        if self._untold:
            self._follow_up()
        self._bell.set()

    def _abandon(self, deadline: float) -> None:
        """The time is over and a worker is still busy: puts away what it holds, or counts it, and leaves it behind."""
        with self._changed:
            if self._done:
                return
            self._abandoned = True
            while self._entries:
                if self._entries[0][1] == _MARKER_SIZE:
                    self._entries.popleft()
                else:
                    self._close_batch()
            sendings = list(self._sendings)
        for sending in sendings:
            if self._keeper is not None and time.monotonic() < deadline:
                with suppress(Exception):  # it is counted below
                    self._keeper.keep(sending)
            sending.finish("not sent before the deadline of shutdown; give it more time, or check the destination")
            self._settle(sending)
        with self._changed:
            for marker in (*self._due, *self._markers):
                marker.done = True
                self._next.lost += marker.lost
            self._due.clear()
            self._markers.clear()
            self._done = True
            self._changed.notify_all()
        with suppress(RuntimeError):  # what hangs in a sender may be woken by closing it, and closing may hang, too
            threading.Thread(target=self._close_sender, name=f"{self._name}-close", daemon=True).start()

    # -- the worker's side ---------------------------------------------------------------------------------------------

    def _start_worker(self) -> bool:
        """Starts a worker where one is missing. False where there is none and none can be started, as at the end."""
        with self._lock:
            if self._done or self._idle or len(self._workers) >= self._threads:
                return True
            worker = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._workers.append(worker)
        if self._flush_on_exit:
            ending.arm()  # again: this may be the first item of a forked child
        try:
            worker.start()
        except RuntimeError:
            with self._lock:
                self._workers.remove(worker)
                return bool(self._workers)
        return True

    def _work(self) -> None:
        while True:
            self._queue_waiting(only_due=True)
            with self._lock:
                sending, wait_s = self._take()
                if self._waiting is not None and wait_s > 0:
                    wait_s = min(wait_s, max(self._waiting.due_at - time.monotonic(), 0.0))
                is_idle = sending is None and wait_s >= 0
                self._idle += is_idle
                more = sending is not None and self._is_due()
            self._answer_due()
            if more:
                self._start_worker()
                self._bell.set()
            if self._rings or self._untold:
                self._follow_up()
            if sending is not None:
                self._handle(sending)
            elif not is_idle:
                break
            else:
                self._bell.take(wait_s)
                with self._lock:
                    self._idle -= 1
        self._leave()

    def _leave(self) -> None:
        """Nothing will come any more. The last worker closes the door behind it."""
        with self._lock:
            self._workers.remove(threading.current_thread())
            is_last = not self._workers
        self._bell.set()  # for the others
        if is_last:
            self._finish()

    def _work_here(self, deadline: float) -> None:
        """Does the worker's work on this thread, where no other can be started."""
        with self._lock:
            if self._workers:
                return
            self._workers.append(threading.current_thread())
        wait_s = 0.0
        while time.monotonic() < deadline:
            with self._lock:
                sending, wait_s = self._take()
            self._answer_due()
            if sending is None:
                break
            self._handle(sending)
        with self._lock:
            self._workers.remove(threading.current_thread())
        if wait_s < 0:
            self._finish()

    def _take(self) -> tuple[Sending[T] | None, float]:
        """The batch that is due; else None and the seconds until one is, negative at the end. The lock is held."""
        self._admit_arrivals()
        while self._entries and self._entries[0][1] == _MARKER_SIZE:
            marker = self._entries.popleft()[0]
            self._markers.remove(marker)
            self._due.append(marker)
        if not self._entries:
            return None, -1.0 if self._closed else math.inf
        if not self._is_due():
            wait_s = self._first_at + self._flush_interval_s - time.monotonic()
            if wait_s > 0:
                return None, wait_s
        sending = self._close_batch()
        self._first_at = time.monotonic()
        self._ring_items, self._ring_bytes = (self._flush_at if self._items else 1), self._flush_bytes
        self._admit_arrivals()
        return sending, 0.0

    def _is_due(self) -> bool:
        """Whether what waits is to be sent now, however long it has waited. The lock is held."""
        is_full = self._items >= self._flush_at or self._bytes >= self._flush_bytes
        return bool(self._entries and (is_full or self._markers or self._closed))  # a put may not have counted its item yet

    def _close_batch(self) -> Sending[T]:
        items: list[T] = []
        total = 0
        most = self._flush_at * (LARGER if self._items >= BACKLOG * self._flush_at else 1)
        while self._entries and len(items) < most:
            item, size = self._entries[0]
            if size == _MARKER_SIZE or (items and total + size > self._flush_bytes):
                break
            self._entries.popleft()
            items.append(item)
            total += size
        self._items -= len(items)
        self._bytes -= total
        self._room_items -= len(items)
        self._room_bytes -= total
        account = self._account()
        account.in_flight += 1
        sending = Sending(items, self._ledger, self._stop, size_bytes=total, is_crowded=self._is_crowded, on_sleep=self._tell)
        self._sendings[sending] = account
        return sending

    def _is_crowded(self) -> bool:
        return 2 * self._items >= self._max_items or 2 * self._bytes >= self._max_bytes

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _handle(self, sending: Sending[T]) -> None:
        try:
            self._sender.send(sending)
            sending.finish("the sender left them undecided")
        except BaseException as error:  # noqa: BLE001 also SystemExit, which would end the worker without a word
            sending.finish(f"{type(error).__name__} while sending")
        self._settle(sending)
        self._answer_due()

    def _settle(self, sending: Sending[T]) -> None:
        with self._lock:
            account = self._sendings.pop(sending, None)
            if account is None:
                return  # shutdown did this when it ran out of time
            account.in_flight -= 1
            account.lost += sending.lost
            if not self._closed:
                self._room_items += len(sending.items)
                self._room_bytes += sending.size_bytes
                self._room.notify_all()

    def _answer_due(self) -> None:
        """Answers the markers that have left the queue, as far as nothing before them is on its way any more."""
        while True:
            with self._lock:
                if not self._due or self._due[0].in_flight:
                    return
                marker = self._due.popleft()
            self._answer(marker)

    def _answer(self, marker: _Marker) -> None:
        try:
            flushed = self._sender.flush(max(marker.deadline - time.monotonic(), 0.0))
        except BaseException:  # noqa: BLE001 as above
            flushed = False
        with self._changed:
            if marker.given_up:  # nobody was told of its losses: the next flush tells
                (self._due[0] if self._due else self._account()).lost += marker.lost
            marker.delivered = flushed and not marker.lost
            marker.done = True
            self._changed.notify_all()

    def _finish(self) -> None:
        if self._keeper is not None:
            with suppress(Exception):
                self._keeper.finish(self._stop.time_left_s())
        if self._abandoned:
            return  # who abandoned it still needs the sender, and closes it
        self._close_sender()
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _close_sender(self) -> None:
        with self._lock:
            if self._sender_closed:
                return
            self._sender_closed = True
        try:
            self._sender.close()
        except BaseException as error:  # noqa: BLE001 as above
            self._ledger.drop(DropReason.SEND_FAILED, 0, f"{type(error).__name__} while closing the exporter")


# -- forks and the end of the interpreter ------------------------------------------------------------------------------

_BATCHES: weakref.WeakSet[Batch[Any]] = weakref.WeakSet()


def _forget_parent() -> None:
    for batch in list(_BATCHES):
        batch._reset()  # noqa: SLF001 - our own


def _hold_items() -> bool:
    return any(batch.stats().queued for batch in list(_BATCHES))


def _not_owned() -> list[Batch[Any]]:
    return [batch for batch in list(_BATCHES) if not batch._is_owned]  # noqa: SLF001 - our own


def _flush_all(timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    batches = _not_owned()
    for batch in batches:
        batch.flush(0)  # all begin at once, so that they share the time
    for batch in batches:
        batch.flush(max(deadline - time.monotonic(), 0.0))


def _shutdown_all(timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    batches = _not_owned()
    for batch in batches:
        batch._begin_shutdown(timeout_s)  # noqa: SLF001 - all at once, as above
    for batch in batches:
        batch.shutdown(max(deadline - time.monotonic(), 0.0))


ending.watch(ending.Queues(_hold_items, _flush_all, _shutdown_all, lambda: SHUTDOWN_TIMEOUT_S))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
