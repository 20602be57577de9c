"""Counting what happened to every span, and saying so: at most one log line per reason per minute.

The invariant that tests hold it to: ``started == exported + queued + spooled + sum(dropped.values())``.
"""

from __future__ import annotations

import logging
import math
import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from . import threads
from .errors import DropReason
from .model import Stats

LOG_INTERVAL_S: Final = 60.0

ADVICE: Final = {
    DropReason.OTHER_PROJECT: (logging.DEBUG, "they belong to another Langfuse project"),
    DropReason.DOUBLE: (logging.DEBUG, "another LangfuseSpanProcessor sends them to the same project"),
    DropReason.NO_PROJECT: (
        logging.WARNING,
        "they belong to no Langfuse project that is configured: check project() and route=, or give one client default=True",
    ),
    DropReason.FILTERED: (logging.DEBUG, "filter or should_export_span left them out"),
    DropReason.SAMPLED_OUT: (logging.DEBUG, "sample_rate or tail left their traces out"),
    DropReason.QUEUE_FULL: (
        logging.WARNING,
        "they end faster than they are sent: check the destination, or raise max_queue_spans and max_queue_bytes",
    ),
    DropReason.AFTER_SHUTDOWN: (logging.WARNING, "they ended after shutdown(): shut down later"),
    DropReason.INVALID: (logging.WARNING, "Langfuse would not take them: see what was expected"),
    DropReason.UNREADABLE: (logging.WARNING, "they cannot be read or encoded: please report it, with what made them"),
    DropReason.TOO_LARGE: (logging.WARNING, "each alone is larger than may be sent: put less into its attributes"),
    DropReason.SEND_FAILED: (
        logging.WARNING,
        "not delivered in time: check the network, base_url and timeout (otel-langfuse doctor does)",
    ),
    DropReason.REJECTED: (
        logging.ERROR,
        "the destination will not take them: see its answer, and check keys and server (otel-langfuse doctor does)",
    ),
    DropReason.SPOOL_FULL: (
        logging.WARNING,
        "the spool is full and they were the oldest in it: check the destination, or raise spool_max_bytes",
    ),
    DropReason.EXPIRED: (logging.WARNING, "they were in the spool for longer than spool_max_age: check the destination"),
}
"""Reason -> log level and what to do about it."""

CHOSEN: Final = frozenset({DropReason.FILTERED, DropReason.SAMPLED_OUT, DropReason.OTHER_PROJECT, DropReason.DOUBLE})
"""Reasons that are the user's own choice, or for which somebody else sends them: such drops are not losses."""

_STARTED: Final = "started"
_EXPORTED: Final = "exported"
_SPOOLED: Final = "spooled"
_KEYS: Final = (_STARTED, _EXPORTED, _SPOOLED, *(reason.value for reason in DropReason))

_LOGGER: Final = logging.getLogger("otel_langfuse")


class Ledger:
    """Counts of one processor or exporter. Its methods never raise; on any thread, and in signal handlers.

    Each thread counts in cells of its own, so that no lock is needed, which a signal handler might find held for ever by the
    code that it interrupts; the sum is made when somebody asks. In a forked child all counts start anew.
    """

    def __init__(
        self,
        *,
        name: str = "",
        noun: str = "span",
        clock: Callable[[], float] = time.monotonic,
        logger: logging.Logger = _LOGGER,
    ) -> None:
        """Args: ``name`` of the destination for log lines, without credentials; ``noun``: of an item; ``clock`` in seconds."""
        self._name = name
        self._noun = noun
        self._clock = clock
        self._logger = logger
        self._reset()
        _LEDGERS.add(self)

    def _reset(self) -> None:
        self._cells: dict[int, dict[str, int]] = {}
        self._logged: dict[DropReason, int] = {}  # how many drops the lines so far have told of
        self._logged_at: dict[str, float] = {}
        self._logging = threads.Lock()

    def start(self, count: int = 1) -> None:
        """``count`` more were given to us."""
        self._mine()[_STARTED] += count

    def export(self, count: int) -> None:
        """``count`` more have arrived."""
        self._mine()[_EXPORTED] += count

    def spool(self, count: int) -> None:
        """``count`` more are in the spool. Negative: so many have left it, and are now counted as what became of them."""
        self._mine()[_SPOOLED] += count

    def drop(self, reason: DropReason, count: int = 1, detail: str = "") -> None:
        """``count`` more will not arrive. Logs, unless this reason was logged within the last minute.

        Args:
            reason: why.
            count: 0 logs ``detail`` alone, for what is lost beside the spans.
            detail: one line for an operator, without any attribute's value or credential.
        """
        self._mine()[reason.value] += count
        self._log(reason.value, ADVICE[reason][0], lambda: self._line(reason, detail))

    def refuse(self, reason: DropReason, detail: str = "") -> None:
        """One was given to us that will not arrive: ``start`` and ``drop`` together, as for each span that is left out."""
        cells = self._mine()
        key = reason._value_
        cells[_STARTED] += 1
        cells[key] += 1
        self._log(key, ADVICE[reason][0], lambda: self._line(reason, detail))

    def tally(self, reason: DropReason, count: int = 1) -> None:
        """The same without a line, where another ledger's says it; what nobody has said is told at shutdown."""
        self._mine()[reason.value] += count

    def note(self, topic: str, line: str, every_s: float = LOG_INTERVAL_S) -> None:
        """Logs a warning about what is not a drop, unless one about this ``topic`` was logged within the last ``every_s``."""
        self._log(topic, logging.WARNING, lambda: line, every_s)

    def report_rest(self) -> None:
        """Logs, in one line, the losses that no line has told of yet. Called at shutdown."""
        rest = {r: n for r in DropReason if r not in CHOSEN and (n := self._unlogged(r))}
        if rest:
            counts = ", ".join(f"{reason} {count}" for reason, count in rest.items())
            self._logged_at.pop("rest", None)
            self._log("rest", logging.WARNING, lambda: f"at shutdown, dropped since last reported: {counts}")

    def snapshot(self, queued: int = 0, put: int = 0) -> Stats:
        """The counts now, with what only a queue knows: how much it holds, and how much was put into it."""
        dropped = {reason.value: count for reason in DropReason if (count := self._sum(reason.value))}
        return Stats(self._sum(_STARTED) + put, self._sum(_EXPORTED), queued, dropped, self._sum(_SPOOLED))

    def _mine(self) -> dict[str, int]:
        """This thread's cells. Their keys are plain text: to add to one then runs no Python that a signal could interrupt."""
        thread = threads.get_ident()
        cells = self._cells.get(thread)
        return self._cells.setdefault(thread, dict.fromkeys(_KEYS, 0)) if cells is None else cells

    def _sum(self, key: str) -> int:
        return sum(cells[key] for cells in list(self._cells.values()))

    def _unlogged(self, reason: DropReason) -> int:
        total = self._sum(reason.value)
        count = total - self._logged.get(reason, 0)
        self._logged[reason] = total
        return count

    def _line(self, reason: DropReason, detail: str) -> str:
        count = self._unlogged(reason)
        what = f"{count} {self._noun}{'' if count == 1 else 's'} dropped ({reason})" if count else f"trouble ({reason})"
        return f"{what}: {ADVICE[reason][1]}{detail and f' [{detail}]'}"

    def _is_due(self, topic: str, every_s: float) -> bool:
        return self._clock() - self._logged_at.get(topic, -math.inf) >= every_s

    def _log(self, topic: str, level: int, line: Callable[[], str], every_s: float = LOG_INTERVAL_S) -> None:
        # Where another thread is at it, this minute's line is already on its way.
        if not self._is_due(topic, every_s) or not self._logging.acquire(blocking=False):
            return
        try:
            if not self._is_due(topic, every_s):
                return
            self._logged_at[topic] = self._clock()
            text = line()
        finally:
            self._logging.release()
        with suppress(Exception):  # an application's log handler must not harm the application's spans
            self._logger.log(level, "otel-langfuse%s: %s", self._name and f" to {self._name}", text)


_LEDGERS: weakref.WeakSet[Ledger] = weakref.WeakSet()


def _start_anew() -> None:
    for ledger in list(_LEDGERS):
        ledger._reset()  # noqa: SLF001 - our own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
