"""The file: its connections, one for each process, and what is there when it is opened."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from otel_langfuse import threads

from ._columns import SCHEMA

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the files that are written."""

_REOPEN_PAUSE_S = 0.01


class StoreError(Exception):
    """The store cannot be read or written; nothing of the call was done.

    ``retryable`` is True where the same call may succeed a little later (another process held the lock for too long).
    The message names the file and SQLite's reason, never a value of an observation.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class _Handle:
    """One process's connection, and the lock that its threads take turns with."""

    def __init__(self) -> None:
        self.lock = threads.Lock()
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None


class File:
    """The file of a store: opened at the first use, once per process, and again where another one stands at its path."""

    def __init__(self, path: Path, *, create: bool, busy_timeout_s: float) -> None:
        self.path = path
        self.handles: dict[int, _Handle] = {}
        self._create = create
        self._busy_timeout_s = busy_timeout_s
        self._closed = False
        _files.add(self)

    def close(self) -> None:
        """Closes it, for good."""
        self._closed = True
        handle = self.handles.get(os.getpid())
        if handle is not None:
            with handle.lock:
                self._hang_up(handle)

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """This process's connection, for one call at a time; whatever SQLite says becomes a ``StoreError``."""
        handle = self.handles.setdefault(os.getpid(), _Handle())
        with handle.lock:
            try:
                connection = self._open(handle)
                try:
                    yield connection
                finally:
                    if connection.in_transaction:
                        connection.rollback()
            except (sqlite3.Error, OSError, ValueError, OverflowError) as error:  # ValueError: JSON that others wrote
                raise StoreError(f"{self.path}: {_reason(error)}", retryable=_is_locked(error)) from error

    def _open(self, handle: _Handle) -> sqlite3.Connection:
        """Open it, unless it is open and still the file at its path: a deleted one would swallow what is written."""
        if self._closed:
            raise StoreError(f"{self.path}: the store was closed")
        if handle.connection is not None and handle.file == _identity(self.path):
            return handle.connection
        self._hang_up(handle)
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                handle.connection = self._connect()
            except (sqlite3.Error, OSError) as error:  # noqa: PERF203
                # Switching to WAL does not wait for locks by itself: https://www.sqlite.org/wal.html
                if not _is_locked(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_REOPEN_PAUSE_S)
            else:
                handle.file = _identity(self.path)
                return handle.connection

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            if not self._create:
                raise StoreError(f"{self.path}: no such file")
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _hang_up(handle: _Handle) -> None:
        connection, handle.connection, handle.file = handle.connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check whose file this is, and make the tables in one that is empty."""
    version = _checked_version(connection, path)
    connection.execute("PRAGMA synchronous = NORMAL")
    if version == SCHEMA_VERSION:
        return
    connection.execute("PRAGMA journal_mode = WAL")  # stays with the file; where the file system cannot, it works without
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _checked_version(connection, path) == 0:  # else another process was faster
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.rollback()


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    # In this order: another process may make the tables, which it does together with the version, between the two.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: written by a newer otel-langfuse (store version {version}; this one knows {SCHEMA_VERSION}): "
            "update otel-langfuse, or use another file"
        )
    if version == 0 and tables:
        raise StoreError(f"{path}: a SQLite file of something else, with tables of its own: use another file")
    return version


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_locked(error: BaseException) -> bool:
    """SQLITE_BUSY or SQLITE_LOCKED; by its words, because Python 3.10 does not give the number."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _reason(error: BaseException) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


# -- forks --------------------------------------------------------------------------------------------------------------

_files: weakref.WeakSet[File] = weakref.WeakSet()


def _abandon_inherited() -> None:
    """In a forked child: keep the parent's connections from ever being closed here, not even when the interpreter ends.

    SQLite forbids so much as closing them in the child: https://www.sqlite.org/howtocorrupt.html section 2.6.
    """
    for file in list(_files):
        inherited, file.handles = file.handles, {}
        for handle in inherited.values():
            if handle.connection is not None:
                with suppress(Exception):  # another Python than CPython
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle.connection))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)
