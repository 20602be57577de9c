"""Scores of traces that tail sampling has not judged yet: they wait for the verdict, in front of the queue, within bounds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from otel_langfuse.model import Score

MAX_SCORES: Final = 10_000
MAX_BYTES: Final = 16 * 2**20
MAX_WAIT_S: Final = 600.0
"""Afterwards, and beyond the bounds, a score is sent: nobody will judge its trace."""

STEP_S: Final = 0.25


class _Held(NamedTuple):
    score: Score
    size_bytes: int
    since: float


class Released(NamedTuple):
    """See ``batch.Released``."""

    entries: list[tuple[Score, int]]
    dropped: int = 0


class Undecided:
    """A ``batch.Waiting``: called under the batch's lock.

    Args:
        verdict: whether the trace of this id is kept; None: not judged yet.
    """

    def __init__(self, verdict: Callable[[str], bool | None]) -> None:
        self._verdict = verdict
        self.forget()

    def forget(self) -> None:
        """Nothing waits any more."""
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._next = math.inf

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._held)

    @property
    def due_at(self) -> float:
        """When they are to be looked at again; infinite where none waits."""
        return self._next if self._held else math.inf

    def hold(self, score: Score, size_bytes: int, now: float) -> Released:
        """Keeps a score back. Returns the oldest, where there are too many now."""
        if not self._held:
            self._next = now + STEP_S
        self._held.append(_Held(score, size_bytes, now))
        self._bytes += size_bytes
        old: list[tuple[Score, int]] = []
        while len(self._held) > MAX_SCORES or self._bytes > MAX_BYTES:
            one = self._held.popleft()
            self._bytes -= one.size_bytes
            old.append((one.score, one.size_bytes))
        return Released(old)

    def due(self, now: float) -> Released:
        """Those whose trace was judged meanwhile, or will not be."""
        return self._release(now)

    def all(self) -> Released:
        """Every one; what nobody has judged is sent."""
        return self._release(math.inf)

    def _release(self, now: float) -> Released:
        left: deque[_Held] = deque()
        entries: list[tuple[Score, int]] = []
        dropped = 0
        for one in self._held:
            kept = self._verdict(one.score.trace_id or "")
            if kept is False:
                dropped += 1
            elif kept or now - one.since > MAX_WAIT_S:
                entries.append((one.score, one.size_bytes))
            else:
                left.append(one)
        self._held = left
        self._bytes = sum(one.size_bytes for one in left)
        self._next = now + STEP_S
        return Released(entries, dropped)
