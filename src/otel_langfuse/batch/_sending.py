"""What a batch and its sender say to each other: the items, what became of them, and how much time there is."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.stats import CHOSEN, Ledger

T = TypeVar("T")


class Flag:
    """An event, set once or again and again, that a signal handler may set and wait for."""

    __slots__ = ("_is_set", "_lock")

    def __init__(self) -> None:
        self._is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Wakes who waits. Setting it twice is setting it once."""
        self._is_set = True
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread was faster
                self._lock.release()

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._is_set

    def wait(self, timeout_s: float) -> bool:
        """Waits until it is set, at most ``timeout_s`` seconds, and leaves it set. Returns whether it is."""
        if not self._is_set and self.take(timeout_s):
            self.set()  # for the next one who waits
        return self._is_set

    def take(self, timeout_s: float) -> bool:
        """Waits until it is set again, at most ``timeout_s`` seconds (or ``math.inf``). Returns whether it was."""
        if timeout_s >= threading.TIMEOUT_MAX:
            return self._lock.acquire()
        return self._lock.acquire(timeout=max(timeout_s, 0.0))


class Stop:
    """Tells a sender to be done, and by when. Until then there is all the time in the world."""

    __slots__ = ("_deadline", "_flag")

    def __init__(self) -> None:
        self._flag = Flag()
        self._deadline = math.inf

    def within(self, seconds: float) -> None:
        """Asks to be done within ``seconds`` from now, and wakes who sleeps in ``Sending.wait``."""
        self._deadline = time.monotonic() + seconds
        self._flag.set()

    def is_set(self) -> bool:
        """Whether it was asked for."""
        return self._flag.is_set()

    def time_left_s(self) -> float:
        """Seconds until the work must be done; infinite until that was asked for; negative when it is over."""
        return self._deadline - time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Sleeps. Returns False when woken by ``within``."""
        return not self._flag.wait(seconds)


class Sending(Generic[T]):
    """A closed batch on its way: the items, their account, and the time there is. A sender sees nothing else.

    Each item is to be reported once, by ``exported`` or ``dropped``, as soon as its fate is known.
    """

    def __init__(self, items: Sequence[T], ledger: Ledger, stop: Stop, timeout_s: float = math.inf) -> None:
        self.items = items
        self.undecided = len(items)
        self.lost = 0  # dropped, for reasons other than the user's choice
        self._ledger = ledger
        self._stop = stop
        self._deadline = time.monotonic() + timeout_s
        self._lock = threading.RLock()

    def exported(self, count: int) -> None:
        """``count`` items have arrived."""
        with self._lock:
            count = min(count, self.undecided)
            self.undecided -= count
        self._ledger.export(count)

    def dropped(self, drop: Drop) -> None:
        """``drop.count`` items will not arrive. A count of 0 only says that there was trouble."""
        with self._lock:
            count = min(drop.count, self.undecided)
            if count == 0 < drop.count:
                return  # shutdown's deadline has passed, and they were counted then
            self.undecided -= count
            if drop.reason not in CHOSEN:
                self.lost += count
        self._ledger.drop(drop.reason, count, drop.detail)

    def finish(self, detail: str) -> None:
        """Counts what is still undecided as ``send_failed``; whatever is reported later is not counted."""
        if self.undecided:
            self.dropped(Drop(DropReason.SEND_FAILED, self.undecided, detail))

    @property
    def stopping(self) -> bool:
        """Whether shutdown has begun."""
        return self._stop.is_set()

    def time_left_s(self) -> float:
        """Seconds that there are for all of it, ``math.inf`` while nobody shuts down."""
        return min(self._stop.time_left_s(), self._deadline - time.monotonic())

    def wait(self, seconds: float) -> bool:
        """Sleeps before trying again.

        Returns:
            False at once when there is not that much time left, and when woken because shutdown begins; else True.
        """
        if seconds >= self.time_left_s():
            return False
        if self._stop.is_set():
            time.sleep(seconds)
            return True
        return self._stop.wait(seconds)


class Sender(Protocol[T]):
    """What stands behind the queue. Called on the worker thread, one call at a time; ``close`` perhaps on another."""

    def send(self, sending: Sending[T]) -> None:
        """Delivers the items. May raise: what is undecided then counts as ``send_failed``."""

    def flush(self, timeout_s: float) -> bool:
        """Everything sent before has arrived, as far as the sender knows. Called for each flush marker."""

    def close(self) -> None:
        """Nothing more will come."""
