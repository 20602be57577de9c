"""Whose spans are in the spool, and their account: they count as spooled where they came from until their fate is known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.spool import Kept, Lost
from otel_langfuse.stats import Ledger

Row: TypeAlias = "tuple[int, int]"
"""A request in the spool: the generation of its file, and its id there."""


class _Pending(NamedTuple):
    """A request of ours in the spool: its place in their order, whose spans they are, and how many."""

    number: int
    ledger: Ledger
    spans: int


class Deposits:
    """What this process has put into the spool, and nobody knows the fate of yet.

    Args:
        lock: reentrant; of the outbox. To be held for everything but ``count``.
        ledger: says who counts what processes left that are gone.
    """

    def __init__(self, lock: Any, ledger: Callable[[], Ledger]) -> None:
        self.puts = 0
        self._lock = lock
        self._ledger = ledger
        self._pending: dict[Row, _Pending] = {}
        self._lost = 0  # since somebody was told

    def put(self, row: Row, ledger: Ledger, spans: int) -> None:
        """A request was put there, as this row."""
        self.puts += 1
        self._pending[row] = _Pending(self.puts, ledger, spans)

    def has(self, row: Row) -> bool:
        """Whether a request was put there as this row, and nobody knows its fate."""
        return row in self._pending

    def forget(self, row: Row) -> _Pending | None:
        """It is there no longer; what became of its spans was counted."""
        return self._pending.pop(row, None)

    def replace(self, old: Row, rows: Iterable[Row], sizes: Sequence[int]) -> None:
        """These rows, with so many spans, have taken its place."""
        pending = self.forget(old)
        if pending is not None:
            for row, size in zip(rows, sizes, strict=True):
                self._pending[row] = pending._replace(spans=min(size, pending.spans))

    def count(self, row: Row, count: int, drop: Drop | None) -> None:
        """Counts what became of ``count`` spans of a request that was in the spool: exported, or dropped."""
        with self._lock:
            pending = self._pending.get(row)
            if pending is None:  # another process put them there
                ledger = self._ledger()
                ledger.start(count)
            else:
                ledger = pending.ledger
                count = min(count, pending.spans)  # the others were counted when shutdown ran out of time
                self._pending[row] = pending._replace(spans=pending.spans - count)
                ledger.spool(-count)
                self._lost += count if drop is not None else 0
        if drop is None:
            ledger.export(count)
        else:
            ledger.drop(drop.reason, count, drop.detail)

    def count_lost(self, lost: Iterable[Lost], generation: int) -> None:
        """Counts what the spool had no room or no time for."""
        for one in lost:
            row = generation, one.id
            self.count(row, one.spans, Drop(one.reason, one.spans))
            self.forget(row)

    def count_gone(self, generation: int, being_sent: Collection[Row]) -> None:
        """Counts what was in files before this one, but for what is being sent just now."""
        gone = [row for row in self._pending if row[0] != generation and row not in being_sent]
        for row in gone:
            spans = self._pending[row].spans
            self.count(row, spans, Drop(DropReason.SEND_FAILED, spans, "the spool was damaged or removed before they were sent"))
            self.forget(row)

    def are_decided(self, last: int) -> bool:
        """Whether the fate of the first so many that were put is known."""
        return all(pending.number > last for pending in self._pending.values())

    def take_lost(self) -> int:
        """How many of their spans were lost since the last call."""
        lost, self._lost = self._lost, 0
        return lost


def row_of(kept: Kept) -> Row:
    """Where a request was."""
    return kept.generation, kept.id


class OneDeposit:
    """The account of one request that is sent from the spool.

    Args:
        deposits: counts.
        kept: the request.
        time_left_s: for sending it.
    """

    def __init__(self, deposits: Deposits, kept: Kept, time_left_s: Callable[[], float]) -> None:
        self._deposits = deposits
        self._kept = kept
        self.time_left_s = time_left_s

    def exported(self, count: int) -> None:
        """``count`` spans have arrived."""
        self._deposits.count(row_of(self._kept), count, None)

    def dropped(self, drop: Drop) -> None:
        """``drop.count`` spans will not."""
        self._deposits.count(row_of(self._kept), drop.count, drop)
