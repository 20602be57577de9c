"""The wall between the application and the network: one bounded queue, one worker. It knows no spans, only items.

Theory of operation. ``put`` appends under a lock that nobody holds for longer than it takes to move a batch out; it
never does I/O. A daemon thread, started with the first item, closes a batch when it is full (in items or bytes), when
its first item has waited for ``flush_interval_s``, or when a flush is queued, and hands it to the sender as a
``Sending``: the items, and the only ways to report on them and to sleep. A flush is a marker that travels through the
queue, so "everything before me" is exact.

Every item ends as exported or as dropped for a reason. What a sender leaves undecided (it raised, or was still busy
when ``shutdown`` ran out of time) counts as ``send_failed``: it may have arrived, but nobody can say so.

Signal handlers may run in the middle of any of this, on the main thread: so the lock is reentrant, and who waits for the
worker waits on a condition of it, which lets go of it altogether, also of what an interrupted ``put`` holds. What is counted
under the lock is therefore changed by ``+=`` only, never written back from a value that was read before. ``threading.Event``
is not used: its own lock is not reentrant.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from otel_langfuse.errors import DropReason
from otel_langfuse.model import Stats
from otel_langfuse.stats import Ledger

from ._sending import Flag, Sender, Sending, Stop

__all__ = ["SHUTDOWN_TIMEOUT_S", "Batch", "Sender", "Sending", "Stop"]

SHUTDOWN_TIMEOUT_S: Final = 5.0
_NEVER: Final = 1 << 62
_MARKER_SIZE: Final = -1  # the size of a flush marker's entry; an item's is never negative

T = TypeVar("T")


class _Marker:
    """A flush on its way through the queue."""

    __slots__ = ("deadline", "delivered", "done", "given_up", "lost_before")

    def __init__(self, timeout_s: float, lost_before: int) -> None:
        self.deadline = time.monotonic() + timeout_s
        self.lost_before = lost_before
        self.done = False
        self.delivered = False
        self.given_up = False


class Batch(Generic[T]):
    """A bounded queue with one worker thread in front of a ``Sender``.

    Args:
        sender: called on the worker thread only.
        ledger: counts what becomes of the items. That they were put is counted here, and added by ``stats``.
        max_items: items that wait or are being sent, at most.
        max_bytes: the same in bytes, by the sizes given to ``put``.
        flush_at: items that close a batch.
        flush_bytes: bytes that close a batch.
        flush_interval_s: seconds that an item waits for its batch to fill, at most (while the sender is idle).
        name: of the worker thread.

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
        name: str = "otel-langfuse",
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._flush_at = min(flush_at, max_items)
        self._flush_bytes = flush_bytes
        self._flush_interval_s = flush_interval_s
        self._name = name
        self._closed = False
        self._reset()
        _BATCHES.add(self)

    def _reset(self) -> None:
        """The state of a new queue; also in a forked child: the worker is gone, and any lock may be held forever."""
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # a marker was answered, or all is done
        self._entries: deque[tuple[Any, int]] = deque()
        self._puts = 0
        self._items = 0  # waiting
        self._bytes = 0
        self._room_items = -1 if self._closed else self._max_items  # what may wait while the sender has the rest
        self._room_bytes = self._max_bytes
        self._ring_items = 1  # waiting items and bytes at which the worker is to be woken
        self._ring_bytes = self._flush_bytes
        self._markers = 0
        self._first_at = 0.0
        self._lost_in_put = 0
        self._lost_in_send = 0
        self._lost_reported = 0
        self._sending: Sending[T] | None = None
        self._worker: threading.Thread | None = None
        self._bell = Flag()
        self._stop = Stop()
        self._done = self._closed
        self._sender_closed = False

    # -- the caller's side ---------------------------------------------------------------------------------------------

    def put(self, item: T, size_bytes: int) -> bool:
        """Queues an item. Never waits for I/O, never raises; a full queue drops the new item and keeps the old ones.

        Returns:
            Whether it was queued; if not, it was counted as ``queue_full``, ``too_large`` or ``after_shutdown``.
        """
        with self._lock:
            self._puts += 1
            has_room = self._items < self._room_items and self._bytes + size_bytes <= self._room_bytes
            if has_room:
                self._entries.append((item, size_bytes))
                self._items += 1
                self._bytes += size_bytes
                if self._items < self._ring_items and self._bytes < self._ring_bytes:
                    return True
                self._ring()
            else:
                self._lost_in_put += 1
        if not has_room:
            self._ledger.drop(self._why_not(size_bytes))
            return False
        if self._worker is None:
            self._start_worker()
        self._bell.set()
        return True

    def _ring(self) -> None:
        """Says when the worker is to be woken next, now that it is: for the first item, then for a full batch. Locked."""
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
            (the reason is in the ledger) or is still on its way when the time is over, and always when called by the
            sender itself, on the worker thread, which cannot wait for itself.
        """
        if threading.current_thread() is self._worker:
            return False
        with self._lock:
            marker = _Marker(timeout_s, self._lost_in_put)
            if self._done or (self._worker is None and not self._entries):
                return self._verdict(marker)
            self._entries.append((marker, _MARKER_SIZE))
            self._markers += 1
        if not self._start_worker():
            self._work_here(marker.deadline)
        self._bell.set()
        with self._changed:
            marker.given_up = not self._changed.wait_for(lambda: marker.done, marker.deadline - time.monotonic())
            return marker.delivered

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> bool:
        """Ends it: wakes a sleeping retry, sends what it can in ``timeout_s`` seconds, counts the rest as lost.

        May be called again, and from a signal handler; what is put later counts as ``after_shutdown``.

        Returns:
            True if everything that was put since the last flush has been delivered.
        """
        self._begin_shutdown(timeout_s)
        if threading.current_thread() is self._worker:
            return False
        deadline = time.monotonic() + timeout_s
        if not self._start_worker():
            self._work_here(deadline)
        self._bell.set()
        with self._changed:
            in_time = self._changed.wait_for(lambda: self._done, deadline - time.monotonic())
        if not in_time:
            self._abandon()
        self._ledger.report_rest()
        with self._lock:
            return self._verdict(_Marker(0, self._lost_in_put))

    @property
    def closed(self) -> bool:
        """Whether ``shutdown`` was called."""
        return self._closed

    def stats(self) -> Stats:
        """What was put, and what became of it. ``queued`` is what waits or is being sent."""
        with self._lock:
            queued = self._items + (self._sending.undecided if self._sending is not None else 0)
            return self._ledger.snapshot(queued, self._puts)

    def _begin_shutdown(self, timeout_s: float) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._room_items = -1
                self._stop.within(timeout_s)
        self._bell.set()

    def _abandon(self) -> None:
        """The deadline is over and the worker is still busy: counts what it holds and leaves it behind."""
        with self._changed:
            if self._done:
                return
            waiting, self._items, self._bytes = self._items, 0, 0
            markers = [item for item, size in self._entries if size == _MARKER_SIZE]
            self._entries.clear()
            self._markers = 0
            self._lost_in_send += waiting
            sending = self._sending
            for marker in markers:
                marker.done = True
            self._done = True
            self._changed.notify_all()
        detail = "not sent before the deadline of shutdown; give it more time, or check the destination"
        if waiting:
            self._ledger.drop(DropReason.SEND_FAILED, waiting, detail)
        if sending is not None:
            sending.finish(detail)
            self._settle(sending)
        with suppress(RuntimeError):  # what hangs in a sender may be woken by closing it, and closing may hang, too
            threading.Thread(target=self._close_sender, name=f"{self._name}-close", daemon=True).start()

    def _verdict(self, marker: _Marker) -> bool:
        """Whether nothing was lost since the last verdict. The lock is held."""
        lost = marker.lost_before + self._lost_in_send
        delivered = lost <= self._lost_reported
        self._lost_reported = max(lost, self._lost_reported)
        return delivered

    # -- the worker's side ---------------------------------------------------------------------------------------------

    def _start_worker(self) -> bool:
        """Starts the worker unless there is one. False where no thread can be started, as at the interpreter's end."""
        with self._lock:
            if self._worker is not None or self._done:
                return True
            worker = self._worker = threading.Thread(target=self._work, name=self._name, daemon=True)
        try:
            worker.start()
        except RuntimeError:
            with self._lock:
                self._worker = None
            return False
        return True

    def _work(self) -> None:
        while True:
            with self._lock:
                taken, wait_s = self._take()
            if taken is not None:
                self._handle(taken)
            elif wait_s < 0:
                break
            else:
                self._bell.take(wait_s)
        self._finish()

    def _work_here(self, deadline: float) -> None:
        """Does the worker's work on this thread, where no other can be started."""
        with self._lock:
            if self._worker is not None:
                return
            self._worker = threading.current_thread()
        wait_s = 0.0
        while time.monotonic() < deadline:
            with self._lock:
                taken, wait_s = self._take()
            if taken is None:
                break
            self._handle(taken)
        if wait_s < 0:
            self._finish()
        self._worker = None

    def _take(self) -> tuple[Sending[T] | _Marker | None, float]:
        """The batch or marker that is due; else None and the seconds until one is, negative at the end. Locked."""
        if not self._entries:
            return None, -1.0 if self._closed else math.inf
        head, size = self._entries[0]
        if size == _MARKER_SIZE:
            self._entries.popleft()
            self._markers -= 1
            return head, 0.0
        is_full = self._items >= self._flush_at or self._bytes >= self._flush_bytes
        if not (is_full or self._markers or self._closed):
            wait_s = self._first_at + self._flush_interval_s - time.monotonic()
            if wait_s > 0:
                return None, wait_s
        items, size = self._close_batch()
        self._first_at = time.monotonic()
        self._items -= len(items)
        self._bytes -= size
        if not self._closed:
            self._room_items, self._room_bytes = self._max_items - len(items), self._max_bytes - size
        self._ring_items, self._ring_bytes = (self._flush_at if self._items else 1), self._flush_bytes
        self._sending = Sending(items, self._ledger, self._stop)
        return self._sending, 0.0

    def _close_batch(self) -> tuple[list[T], int]:
        items: list[T] = []
        total = 0
        while self._entries and len(items) < self._flush_at:
            item, size = self._entries[0]
            if size == _MARKER_SIZE or (items and total + size > self._flush_bytes):
                break
            self._entries.popleft()
            items.append(item)
            total += size
        return items, total

    def _handle(self, taken: Sending[T] | _Marker) -> None:
        if isinstance(taken, _Marker):
            self._answer(taken)
            return
        try:
            self._sender.send(taken)
            taken.finish("the sender left them undecided")
        except BaseException as error:  # noqa: BLE001 also SystemExit, which would end the worker without a word
            taken.finish(f"{type(error).__name__} while sending")
        self._settle(taken)

    def _settle(self, sending: Sending[T]) -> None:
        with self._lock:
            if self._sending is sending:  # else shutdown did this when it ran out of time
                self._sending = None
                if not self._closed:
                    self._room_items, self._room_bytes = self._max_items, self._max_bytes
                self._lost_in_send += sending.lost

    def _answer(self, marker: _Marker) -> None:
        try:
            flushed = self._sender.flush(max(marker.deadline - time.monotonic(), 0.0))
        except BaseException:  # noqa: BLE001 as above
            flushed = False
        with self._lock:
            if not marker.given_up:
                marker.delivered = self._verdict(marker) and flushed
            marker.done = True
            self._changed.notify_all()

    def _finish(self) -> None:
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


def _shutdown_all() -> None:
    """Registered with this module's import, so it runs after the exit functions of everything imported later."""
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT_S
    batches = list(_BATCHES)
    for batch in batches:
        batch._begin_shutdown(SHUTDOWN_TIMEOUT_S)  # noqa: SLF001 - all at once, so that they share the time
    for batch in batches:
        batch.shutdown(max(deadline - time.monotonic(), 0.0))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
atexit.register(_shutdown_all)
