"""What a batch and its sender say to each other: the items, what became of them, and how much time there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.stats import CHOSEN, Ledger

STEP_S: Final = 0.1
"""How often a sender that sleeps looks whether there is a reason to wake up."""

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
        return threading.acquire(self._lock, timeout_s)


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

    Each item is to be reported once, by ``exported``, ``spooled`` or ``dropped``, as soon as its fate is known.

    Args:
        items: of the batch.
        ledger: counts what becomes of them.
        stop: says when shutdown begins.
        timeout_s: seconds for all of it.
        size_bytes: of the items, as they were put.
        is_crowded: whether so much waits behind this batch that it may soon be too much.
        on_sleep: called when it begins to sleep.
    """

    def __init__(
        self,
        items: Sequence[T],
        ledger: Ledger,
        stop: Stop,
        timeout_s: float = math.inf,
        *,
        size_bytes: int = 0,
        is_crowded: Callable[[], bool] = lambda: False,
        on_sleep: Callable[[], object] = lambda: None,
    ) -> None:
        self.items = items
        self.undecided = len(items)
        self.lost = 0  # dropped, for reasons other than the user's choice
        self.failure: str | None = None  # why, in the latest case, an item has not arrived
        self.ledger = ledger
        self.size_bytes = size_bytes
        self.is_crowded = is_crowded
        self.asleep_until = -math.inf  # time.monotonic()
        self._on_sleep = on_sleep
        self._stop = stop
        self._deadline = time.monotonic() + timeout_s
        self._lock = threading.RLock()

    def exported(self, count: int) -> None:
        """``count`` items have arrived."""
        with self._lock:
            count = min(count, self.undecided)
            self.undecided -= count
        self.ledger.export(count)

    def spooled(self, count: int) -> int:
        """``count`` items are on disk, for later. Returns how many of them were still undecided, and so are counted."""
        with self._lock:
            count = min(count, self.undecided)
            self.undecided -= count
        if count:
            self.failure = "spooled"
        self.ledger.spool(count)
        return count

    def dropped(self, drop: Drop) -> None:
        """``drop.count`` items will not arrive. A count of 0 only says that there was trouble."""
        with self._lock:
            count = min(drop.count, self.undecided)
            if count == 0 < drop.count:
                return  # shutdown's deadline has passed, and they were counted then
            self.undecided -= count
            if drop.reason not in CHOSEN:
                self.lost += count
                self.failure = str(drop.reason)
        self.ledger.drop(drop.reason, count, drop.detail)

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

    def wait(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Sleeps before trying again.

        Args:
            seconds: at most.
            until: asked every ``STEP_S``; when it says True, there is no reason to sleep any longer.

        Returns:
            False at once when there is not that much time left, and when woken because shutdown begins; else True.
        """
        if seconds >= self.time_left_s():
            return False
        end = self.asleep_until = time.monotonic() + seconds
        self._on_sleep()
        try:
            while (left_s := end - time.monotonic()) > 0 and (until is None or not until()):
                step_s = left_s if until is None else min(left_s, STEP_S)
                if self._stop.is_set():
                    time.sleep(step_s)
                elif not self._stop.wait(step_s):
                    return False
        finally:
            self.asleep_until = -math.inf
        return True


class Sender(Protocol[T]):
    """What stands behind the queue. Called on the worker thread, one call at a time; ``close`` perhaps on another."""

    def send(self, sending: Sending[T]) -> None:
        """Delivers the items. May raise: what is undecided then counts as ``send_failed``."""

    def flush(self, timeout_s: float) -> bool:
        """Everything sent before has arrived, as far as the sender knows. Called for each flush marker."""

    def close(self) -> None:
        """Nothing more will come."""


class Keeper(Protocol[T]):
    """What keeps items that cannot be sent now, and sends them later by itself."""

    def keep(self, sending: Sending[T]) -> None:
        """Puts away, without sending, what is undecided of a batch. Called on the thread that shuts down, out of time.

        ``Sender.send`` may be busy with the same batch on another thread, and may never have been called for it.
        """

    def arrived(self, timeout_s: float) -> bool:
        """Waits until all that was put away in this process has been sent. Called on the thread that flushes.

        Returns:
            True if it was and none of it was lost since the last call. False also when it is certain that it will not be.
        """

    def finish(self, timeout_s: float) -> None:
        """Sends what was put away, as long as that works and at most ``timeout_s`` seconds. Called before ``close``."""


class Waiting(Protocol[T]):
    """What keeps items back in front of the queue until it is known what becomes of them. Called under the batch's lock."""

    @property
    def count(self) -> int:
        """How many it keeps back."""

    @property
    def due_at(self) -> float:
        """``time.monotonic()`` when something has waited too long; infinite where nothing waits."""

    def due(self, now: float) -> Released[T]:
        """What has waited too long by then."""

    def all(self) -> Released[T]:
        """Everything that can be sent now."""

    def forget(self) -> None:
        """It keeps nothing back any more: this is a forked child, and what it kept is the parent's."""


class Released(Protocol[T]):
    """What a ``Waiting`` keeps back no longer: items with their sizes, to be queued, and how many were sampled out instead."""

    @property
    def entries(self) -> list[tuple[T, int]]:
        """To be queued."""

    @property
    def dropped(self) -> int:
        """To be counted."""
