"""The embedded default: observations in a local SQLite file, written by exporters and read by ``otel-langfuse show``.

One row per observation, keyed by trace id and observation id: writing it again replaces it. The file is in WAL mode,
so it can be read while it is written, and several processes may write to it; who finds it locked waits. Text is stored
as text and everything structured as JSON text, so ``select name, usage_details ->> 'input' from observations`` works in
any SQLite tool. Nothing is ever deleted: the file grows by about the size of the inputs and outputs, until somebody
removes it (which is safe while it is written: the next write makes a new one).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from otel_langfuse.errors import ConfigError
from otel_langfuse.model import Observation, Score

from ._columns import (
    COLUMNS,
    PUT,
    PUT_SCORE,
    PUT_TRACE,
    SCORE_COLUMNS,
    SCORE_TABLE,
    SMALL,
    as_text,
    observation_of,
    row_of,
    scalar,
)
from ._file import SCHEMA_VERSION, File, StoreError
from ._traces import TraceSummary, summarize, total_cost, total_tokens

__all__ = ["SCHEMA_VERSION", "Store", "StoreError", "TraceSummary", "summarize", "total_cost", "total_tokens"]


class Store:
    """A SQLite file of observations.

    May be used from any thread; calls take turns. The file is opened at the first call, once per process: a forked
    child opens it again and never touches its parent's connection. A file that is not there is made with mode 0600 (its
    WAL likewise). Writes outlive the end of the process, but not always the loss of power (``synchronous=NORMAL``).
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True, busy_timeout_s: float = 5.0) -> None:
        """Remember where the store is. Nothing is opened yet.

        Args:
            path: The file. A relative path is taken from the working directory of now, also after it changed.
            create: Make the file where there is none. False (for readers) gives ``StoreError`` instead.
            busy_timeout_s: How long a call waits for other processes' locks, in seconds, before it raises.

        Raises:
            ConfigError: ``create`` and the directory does not exist, or the path is a directory.
        """
        self.path = Path(path).absolute()
        if create and (self.path.is_dir() or not self.path.parent.is_dir()):
            raise ConfigError(f"base_url: sqlite store at {self.path}: expected a file in a directory that exists")
        self._file = File(self.path, create=create, busy_timeout_s=busy_timeout_s)

    def write(self, observations: Iterable[Observation]) -> None:
        """Write all of them, in one transaction; one that is there already (same trace id and id) is replaced.

        Raises:
            StoreError: None of them was written; ``retryable`` says whether trying again makes sense.
        """
        rows = [row_of(observation) for observation in observations]
        if not rows:
            return
        columns = list(COLUMNS)
        trace, start = columns.index("trace_id"), columns.index("start_time_unix_nano")
        with self._file.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(PUT, rows)
            connection.executemany(PUT_TRACE, [(row[trace], row[start]) for row in rows])
            connection.execute("COMMIT")

    def write_scores(self, scores: Iterable[Score]) -> None:
        """Write all of them, in one transaction, into the table ``scores``; one with the same id is replaced.

        Raises:
            StoreError: None of them was written; ``retryable`` says whether trying again makes sense.
        """
        rows = [tuple(scalar(getattr(score, name)) for name in SCORE_COLUMNS) for score in scores]
        if not rows:
            return
        with self._file.connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in SCORE_TABLE:
                connection.execute(statement)
            connection.executemany(PUT_SCORE, rows)
            connection.execute("COMMIT")

    def scores(self, trace_id: str | None = None) -> list[Score]:
        """The scores of one trace, or all, in the order of their first writing; metadata that is structured is its JSON text.

        Raises:
            StoreError: The file is missing (without ``create``), is not a store, or cannot be read.
        """
        query = f"SELECT {', '.join(SCORE_COLUMNS)} FROM scores WHERE ?1 IS NULL OR trace_id = ?1 ORDER BY rowid"  # noqa: S608
        with self._file.connected() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'scores'").fetchone():
                return []
            rows = connection.execute(query, (trace_id,)).fetchall()
        return [Score(event_id="", **dict(zip(SCORE_COLUMNS, row, strict=True))) for row in rows]

    def traces(self, limit: int = 20) -> list[TraceSummary]:
        """The latest traces by their start, latest first, at most ``limit`` of them.

        Raises:
            StoreError: The file is missing (without ``create``), is not a store, or cannot be read.
        """
        latest = "SELECT trace_id FROM traces ORDER BY start_time_unix_nano DESC, rowid DESC LIMIT ?"
        with self._file.connected() as connection:
            ids = [row[0] for row in connection.execute(latest, (limit,))]
            return [summarize(_read(connection, trace_id, SMALL)) for trace_id in ids]

    def trace(self, trace_id: str) -> list[Observation]:
        """The observations of one trace, by start time (unknown ones last); none where there is no such trace.

        Values come back as they were written, with these exceptions: NaN is None, what JSON cannot hold is text, and a
        structured name, model, version, status message or prompt is its JSON text.

        Args:
            trace_id: The whole id, or its beginning as far as it is unique. Upper-case hex is understood.

        Raises:
            StoreError: Several traces begin so, or the file cannot be read.
        """
        begins = "SELECT trace_id FROM traces WHERE trace_id >= ? AND trace_id < ? ORDER BY trace_id LIMIT 4"
        with self._file.connected() as connection:
            for wanted in dict.fromkeys((trace_id, trace_id.lower())):
                if exact := _read(connection, wanted, tuple(COLUMNS)):
                    return exact
                prefix = as_text(wanted) or ""
                found = [row[0] for row in connection.execute(begins, (prefix, prefix + chr(0x10FFFF)))]
                if len(found) == 1:
                    return _read(connection, found[0], tuple(COLUMNS))
                if found:
                    listed = ", ".join(map(repr, found[:3])) + (", ..." if len(found) > 3 else "")
                    raise StoreError(f"several traces begin with {trace_id!r}: {listed}")
        return []

    def close(self) -> None:
        """Close the file. Later calls raise ``StoreError``; closing twice is nothing."""
        self._file.close()


def _read(connection: sqlite3.Connection, trace_id: str, columns: tuple[str, ...]) -> list[Observation]:
    query = (
        f"SELECT {', '.join(columns)} FROM observations WHERE trace_id = ? "  # noqa: S608 - our own names
        "ORDER BY start_time_unix_nano IS NULL, start_time_unix_nano, rowid"
    )
    return [observation_of(columns, row) for row in connection.execute(query, (as_text(trace_id),))]
