"""What a scenario is, what came of it, and whether what we promise was kept.

A promise is about what the server really got, not about what anybody says: spans are counted there, each once, and every other
span that ended must be named by ``stats()`` as dropped for a reason, as queued or as spooled.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import NamedTuple

import sites
from application import OURS, Measured, Plan
from sites import Place

ROWS = (
    "HTTP success",
    "partial_success",
    "207 (ingestion)",
    "HTTP retryable",
    "413 / gRPC too large",
    "Retry-After",
    "RESOURCE_EXHAUSTED without RetryInfo",
    "RetryInfo in grpc-status-details-bin",
    "jitter, attempts",
    "force_flush(100 ms)",
    "export result",
    "shutdown",
    "queue",
    "batch size",
    "fork",
    "gevent",
    "exceptions",
    "encode failure",
)
"""The rows of protocol.md section 5."""

FLUSH_LIMIT_S, EXIT_LIMIT_S, RSS_LIMIT_MIB = 1.1, 5.5, 100.0
END_LIMIT_S = 0.25
"""That no span's end takes longer: it does no I/O, but the machine may be busy."""


class Outcome(NamedTuple):
    """Of one run: spans that ended, that arrived (each once), that arrived again, requests; and what the application measured.

    ``dropped`` is by reason, None where nobody counts. ``kept`` is queued or spooled at the end. ``killed`` ended in the last
    interval before a SIGKILL. ``balanced`` says whether ``stats()`` adds up to what it was given.
    """

    which: str
    spans: int
    delivered: int
    doubled: int
    requests: int
    measured: Measured
    dropped: Mapping[str, int] | None = None
    kept: int = 0
    killed: int = 0
    balanced: bool = True
    trouble: str = ""

    @property
    def unaccounted(self) -> int:
        """Spans of which nobody says what became of them; negative where more is said to be lost than was."""
        return self.spans - self.delivered - sum((self.dropped or {}).values()) - self.kept - self.killed

    @property
    def all_arrived(self) -> bool:
        return self.delivered == self.spans

    def forgiven(self, seconds: float) -> Outcome:
        """The same, but for so many seconds of each wait: on a machine that does something else meanwhile."""
        m = self.measured
        waits = {name: getattr(m, name) for name in ("longest_end_s", "flush_s", "exit_s")}
        less = {name: None if value is None else max(value - seconds, 0.0) for name, value in waits.items()}
        return self._replace(measured=m._replace(**less))


class Scenario(NamedTuple):
    """What happens to whom, and what is promised.

    ``runs``: so many processes, one after the other, do what the plan says; the last one flushes. ``needs``: nginx, rotel or
    gevent. ``alone``: not beside other scenarios. ``named``: by the issue that asked for all this.
    ``row`` is the row of protocol.md section 5 whose mistake the stock SDK makes here; ``quick`` is also run by ``make check``.
    """

    title: str
    place: Place
    plan: Plan
    promise: str
    holds: Callable[[Outcome], bool]
    row: str = ""
    runs: int = 1
    quick: bool = False
    needs: str = ""
    alone: bool = False
    named: bool = False

    def kept_by(self, outcome: Outcome) -> bool:
        """Whether the promise of this scenario, and those of all of them, were kept."""
        if outcome.trouble or not self.holds(outcome) or outcome.unaccounted:
            return False
        if outcome.which != OURS:
            return True
        measured = outcome.measured
        return outcome.balanced and not measured.raised and measured.longest_end_s <= END_LIMIT_S

    @property
    def is_possible(self) -> bool:
        """Whether what it needs is there."""
        return {
            "": lambda: True,
            "nginx": lambda: sites.nginx_program() is not None,
            "rotel": lambda: sites.rotel_program() is not None,
            "gevent": lambda: importlib.util.find_spec("gevent") is not None,
        }[self.needs]()


# -- promises ------------------------------------------------------------------------------------------------------------------


def all_arrive(outcome: Outcome) -> bool:
    return outcome.all_arrived and not outcome.doubled


def each_is_named(outcome: Outcome) -> bool:
    return not outcome.unaccounted and not outcome.doubled


def in_time(outcome: Outcome) -> bool:
    """A flush of a second, and the exit."""
    flush_s, exit_s = outcome.measured.flush_s, outcome.measured.exit_s
    return (flush_s is None or flush_s <= FLUSH_LIMIT_S) and (exit_s is None or exit_s <= EXIT_LIMIT_S)


def at_least(count: int) -> Callable[[Outcome], bool]:
    return lambda outcome: outcome.delivered >= count


def hung(outcome: Outcome) -> bool:
    """Nothing arrived, a flush said so, all of it in time."""
    return in_time(outcome) and outcome.measured.flush_said is False and outcome.delivered == 0


def once(outcome: Outcome) -> bool:
    """Asked once, and each span named."""
    return outcome.requests == 1 and each_is_named(outcome)


def named_in_time(outcome: Outcome) -> bool:
    return in_time(outcome) and each_is_named(outcome)
