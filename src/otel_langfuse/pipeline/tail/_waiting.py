"""The traces that wait for their verdict: a bounded state machine without a clock. Its caller holds a lock.

A signal handler may run in the middle of any of it, on the same thread, and release everything. So what is appended to a
trace is looked at again afterwards: whatever a release in between did not take is taken then, and nothing twice.
"""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Generic, NamedTuple, TypeVar

from otel_langfuse.pipeline.tail._settings import Tail

T = TypeVar("T")

MAX_VERDICTS: Final = 10_000
"""Traces that wait no longer and are remembered, for spans that end late."""


class Released(NamedTuple, Generic[T]):
    """Items with their sizes that wait no longer, and how many were dropped instead."""

    entries: list[tuple[T, int]]
    dropped: int = 0


class Trace(Generic[T]):
    """One trace: waiting until it is ``left``, then with a verdict or, while ``kept`` is None, to be judged by a worker."""

    __slots__ = ("_members", "bytes", "kept", "key", "left", "members", "open", "since", "taken")

    def __init__(self, key: int, since: float) -> None:
        self.key = key
        self.since = since
        self.members: deque[tuple[T, int]] | None = deque()  # until it is left; then those of its items hold them
        self._members = weakref.ref(self.members)
        self.taken = 0  # of the members
        self.open = 0  # local roots that run
        self.bytes = 0
        self.left = False
        self.kept: bool | None = None

    @property
    def whole(self) -> list[T]:
        """The items that waited together. Empty once nobody holds one of them any more."""
        return [item for item, _ in list(self._members() or ())]  # one step: a worker may clear them


class WaitingTraces(Generic[T]):
    """All traces that wait, within the bounds of ``tail``; and those that do not wait any more, for spans that end late."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self.forget()

    def forget(self) -> None:
        """Nothing waits any more, and nothing is remembered: the state in a forked child."""
        self._waiting: OrderedDict[int, Trace[T]] = OrderedDict()
        self._left: OrderedDict[int, Trace[T]] = OrderedDict()
        self.count = 0
        self.bytes = 0

    @property
    def due_at(self) -> float:
        """When the trace that waits longest has waited too long; infinite where none waits."""
        for trace in self._waiting.values():
            return trace.since + self._tail.max_wait_s
        return math.inf

    def of(self, key: int, now: float) -> Trace[T]:
        """The trace with this id; a new one waits."""
        trace = self._waiting.get(key) or self._left.get(key)
        return self._waiting.setdefault(key, Trace(key, now)) if trace is None else trace

    def verdict(self, key: int) -> bool | None:
        """Whether the trace was kept; None where that is not known (yet, or any more)."""
        trace = self._left.get(key)
        return None if trace is None else trace.kept

    def is_open(self, key: int) -> bool:
        """Whether the trace is known, and has no verdict yet."""
        trace = self._waiting.get(key) or self._left.get(key)
        return trace is not None and trace.kept is None

    def begin(self, key: int, now: float) -> Released[T]:
        """A local root of the trace starts."""
        self.of(key, now).open += 1
        return self._within_bounds()

    def ended(self, key: int, make: Callable[[Trace[T]], tuple[T, int]], now: float, *, is_root: bool) -> Released[T]:
        """A span has ended: ``make`` makes the item of the trace, and says its size. ``is_root``: one for which ``begin`` was."""
        trace = self.of(key, now)
        released = self.add(trace, *make(trace))
        return _joined([released, self.end(key)]) if is_root else released

    def add(self, trace: Trace[T], item: T, size_bytes: int) -> Released[T]:
        """A span of the trace has ended. The item of a trace that has left is released, unless that was dropped."""
        members = trace.members
        if members is None:
            return Released([], 1) if trace.kept is False else Released([(item, size_bytes)])
        self.count += 1
        self.bytes += size_bytes
        trace.bytes += size_bytes
        members.append((item, size_bytes))
        if trace.left:
            return self._take(trace, members)
        if trace.open <= 0:  # its local root has ended, and that is no longer, or was never, known here
            return self._leave(trace, None)
        return self._within_bounds()

    def end(self, key: int) -> Released[T]:
        """A local root of the trace has ended. With the last one the trace is to be judged."""
        trace = self._waiting.get(key)
        if trace is None:
            return Released([])
        trace.open -= 1
        return self._leave(trace, None) if trace.open <= 0 else Released([])

    def all(self) -> Released[T]:
        """Every span waits no longer: its trace is to be judged by what is there."""
        return _joined([self._leave(trace, None) for trace in list(self._waiting.values()) if trace.members])

    def due(self, now: float) -> Released[T]:
        """What has waited too long."""
        released: list[Released[T]] = []
        while self.due_at <= now:
            released.append(self._give_up())
        return _joined(released)

    def _within_bounds(self) -> Released[T]:
        tail = self._tail
        released: list[Released[T]] = []
        while self._waiting and (
            len(self._waiting) > tail.max_traces or self.count > tail.max_spans or self.bytes > tail.max_bytes
        ):
            released.append(self._give_up())
        return _joined(released)

    def _give_up(self) -> Released[T]:
        trace = next(iter(self._waiting.values()))
        return self._leave(trace, self._tail.over_bound == "keep")

    def _leave(self, trace: Trace[T], kept: bool | None) -> Released[T]:
        members = trace.members
        if self._waiting.pop(trace.key, None) is None or members is None:
            return Released([])  # it has left meanwhile
        trace.kept = kept
        trace.left = True
        self._left[trace.key] = trace
        if len(self._left) > MAX_VERDICTS:
            self._left.popitem(last=False)
        released = self._take(trace, members)
        trace.members = None
        if kept is not None:
            members.clear()  # no rule will look at them
        return released

    def _take(self, trace: Trace[T], members: deque[tuple[T, int]]) -> Released[T]:
        """What of the members was not taken yet."""
        entries = list(islice(members, trace.taken, None))
        trace.taken += len(entries)
        self.count -= len(entries)
        self.bytes -= sum(size for _, size in entries)
        return Released([], len(entries)) if trace.kept is False else Released(entries)


def _joined(released: list[Released[Any]]) -> Released[Any]:
    if not released:
        return Released([])
    if len(released) == 1:
        return released[0]
    return Released([entry for each in released for entry in each.entries], sum(each.dropped for each in released))
