"""How long somebody waits for a destination: as long as there is time, until the spool is the better place, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias

from otel_langfuse import retry
from otel_langfuse.batch import Sending
from otel_langfuse.errors import DropReason

from ._health import Health

MAX_ALONE: Final = 200
"""How often (half an hour) a span at which the server fails is sent from memory while nothing else is taken either, so that
nobody can tell whether the span is to blame. It is given up at once when the queue behind it gets full."""

Waiting: TypeAlias = "retry.Wait | retry.Partly"


class Patience(Protocol):
    """How long somebody waits for a destination."""

    @property
    def is_over(self) -> bool:
        """Whether there is no more time for anything."""

    def wait(self, decision: Waiting) -> bool:
        """Sleeps before a request is sent again. False: it is not, it is left."""

    def tries(self, left: int) -> bool:
        """Whether the next request is to be sent, when so many before it were left; else it is left, too."""

    def request_timeout_s(self, timeout_s: float, left_s: float) -> float:
        """Seconds for one request, of those that there are by the settings, and for everything."""

    def is_over_for(self, attempt: int) -> bool:
        """Whether a single span, at which the server failed so often, is given up although nothing shows that it is to blame."""

    def answered(self) -> None:
        """The destination has taken a request, or has said that it never will: it works."""


class InMemory:
    """The patience of who has no spool: as long as there is time, or until the destination works for somebody else."""

    def __init__(self, sending: Sending[Any], health: Health) -> None:
        self._sending = sending
        self._health = health
        self._is_last = False
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether there is no more time for anything."""
        return self._is_over or self._sending.time_left_s() <= 0

    def wait(self, decision: Waiting) -> bool:
        """Sleeps. When shutdown wakes it, or there is no time to sleep, once more True: there may be no other process."""
        if self._sending.wait(decision.seconds, recovery(self._health, decision)):
            return True
        if self._is_last or not self._sending.stopping:
            self._is_over = True
            return False
        self._is_last = True
        return True

    def tries(self, left: int) -> bool:  # noqa: ARG002 - the signature of the protocol
        """Yes: each gets its chance."""
        return True

    def request_timeout_s(self, timeout_s: float, left_s: float) -> float:
        """All that there is."""
        return min(timeout_s, left_s)

    def is_over_for(self, attempt: int) -> bool:
        """When the queue gets full behind it, or after a very long time."""
        return attempt >= MAX_ALONE or self._sending.is_crowded()

    def answered(self) -> None:
        """Is no news."""


def recovery(health: Health, decision: Waiting) -> Callable[[], bool] | None:
    """Whether the destination has begun to work again since now; None where it has said itself how long to wait."""
    if isinstance(decision, retry.Wait) and (decision.asked or decision.reason is DropReason.REJECTED):
        return None
    before = health.recoveries
    return lambda: health.recoveries != before


class Refuge(Protocol):
    """What an outbox is to them; see there."""

    @property
    def takes_all(self) -> bool: ...

    @property
    def works(self) -> bool: ...

    def failed(self, seconds: float) -> None: ...

    def answered(self) -> None: ...

    def is_overdue(self, *, is_crowded: bool) -> bool: ...


class BeforeSpool:
    """The patience of who sends a batch as it comes: until the spool is the better place for it."""

    def __init__(self, outbox: Refuge, sending: Sending[Any], health: Health) -> None:
        self._outbox = outbox
        self._sending = sending
        self._health = health
        self._in_memory = InMemory(sending, health)

    @property
    def is_over(self) -> bool:
        """Whether there is no more time for anything."""
        return self._in_memory.is_over

    def wait(self, decision: Waiting) -> bool:
        """Sleeps, unless it is to be spooled by now, or then."""
        self._outbox.failed(decision.seconds)
        if not self._outbox.works:
            return self._in_memory.wait(decision)
        works_again = recovery(self._health, decision) or (lambda: False)
        return (
            not self._is_overdue()
            and self._sending.wait(decision.seconds, lambda: self._is_overdue() or works_again())
            and not self._is_overdue()
        )

    def _is_overdue(self) -> bool:
        return self._outbox.is_overdue(is_crowded=self._sending.stopping or self._sending.is_crowded())

    def tries(self, left: int) -> bool:  # noqa: ARG002 - the signature of the protocol
        """Not while everything goes to the spool."""
        return not self._outbox.takes_all

    def request_timeout_s(self, timeout_s: float, left_s: float) -> float:
        """While the process ends, half of the time that is left: what is not sent then is still to be written."""
        return min(timeout_s, left_s / 2 if self._sending.stopping else left_s)

    def is_over_for(self, attempt: int) -> bool:
        """Not while there is a spool to keep it."""
        return not self._outbox.works and self._in_memory.is_over_for(attempt)

    def answered(self) -> None:
        """The destination works."""
        self._outbox.answered()


class Once:
    """The patience of who sends from the spool: each request is tried once, and none when one of them was not taken."""

    is_over = True

    def __init__(self, outbox: Refuge, health: Health) -> None:
        self._outbox = outbox
        self._health = health

    def wait(self, decision: Waiting) -> bool:
        """Does not; but says how long nothing is to be tried."""
        self._outbox.failed(max(decision.seconds, retry.backoff_s(self._health.failures - 1, 0.5)))
        return False

    def tries(self, left: int) -> bool:
        """Not after one that was left."""
        return not left

    def request_timeout_s(self, timeout_s: float, left_s: float) -> float:
        """All that there is."""
        return min(timeout_s, left_s)

    def is_over_for(self, attempt: int) -> bool:  # noqa: ARG002 - as above
        """Never: the spool has bounds of its own."""
        return False

    def answered(self) -> None:
        """The destination works."""
        self._outbox.answered()
