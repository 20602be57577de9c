"""What one request learns of a destination, and all others are to know: that it works again, and whether it works for others."""

from __future__ import annotations

import math
import time
from typing import Final

OUTAGE_S: Final = 1.0
"""Who has waited for a destination that took nothing for this long is woken when it takes something again."""

MAX_BLAMED: Final = 3
"""How often a request must fail that others were taken beside, until it is to blame itself."""


class Health:
    """Of one destination. For any thread; no lock, because a value that is a moment old does no harm.

    ``answers`` counts what the destination took, or refused for good; ``recoveries``, how often it did so after an outage.
    ``failures`` are those since its last answer, ``failing_since`` the first of them, by ``time.monotonic()``.
    """

    __slots__ = ("answers", "failing_since", "failures", "recoveries")

    def __init__(self) -> None:
        self.answers = 0
        self.recoveries = 0
        self.failures = 0
        self.failing_since: float | None = None

    def failed(self) -> None:
        """A request was not taken, and may be later."""
        self.failures += 1
        if self.failing_since is None:
            self.failing_since = time.monotonic()

    def answered(self) -> None:
        """The destination works."""
        self.answers += 1
        since, self.failing_since, self.failures = self.failing_since, None, 0
        if since is not None and time.monotonic() - since >= OUTAGE_S:
            self.recoveries += 1

    def failing_s(self) -> float:
        """Seconds since it took anything, as far as anybody has tried; minus infinity while it works."""
        since = self.failing_since
        return -math.inf if since is None else time.monotonic() - since


class Suspect:
    """A request that fails again and again: is it the destination, or is it to blame itself?"""

    __slots__ = ("_answers", "_blamed")

    def __init__(self) -> None:
        self._answers: int | None = None
        self._blamed = 0

    def failed(self, health: Health) -> None:
        """It was not taken once more."""
        if self._answers is None:
            self._answers = health.answers
        elif health.answers != self._answers:
            self._blamed += 1

    @property
    def is_to_blame(self) -> bool:
        """Whether it failed ``MAX_BLAMED`` times since something else was taken that was sent after its first failure."""
        return self._blamed >= MAX_BLAMED
