"""The file of a spool: this process's connection to it, and the lock by which others know that this process is alive."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from otel_langfuse import threads

from ._locks import lock_byte, unlock_byte
from ._schema import identity, prepare
from ._values import SpoolError

BUSY_TIMEOUT_S: Final = 1.0
"""How long a call waits for another process, or for another thread; less than what shutdown keeps back for it."""

_MAX_OWNERS_TRIED: Final = 100


class SpoolFile:
    """What ``Spool`` reads and writes by; see there."""

    def __init__(self, path: Path, *, create: bool = True, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.users = 0
        self._create = create
        self._clock = clock
        self._lock_file = path.with_name(path.name + "-lock")
        self._reset()

    def _reset(self) -> None:
        self._lock = threads.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self.generation = 0
        self._lock_fd = -1
        self._owner = 0
        self._held: set[int] = set()  # rows that a thread of this process is sending

    # -- owners --------------------------------------------------------------------------------------------------------

    def _own_number(self, connection: sqlite3.Connection) -> int:
        """This process's number; a new one is locked before anything is written under it."""
        for _ in range(_MAX_OWNERS_TRIED):
            if self._owner:
                break
            connection.execute("DELETE FROM owners WHERE id NOT IN (SELECT owner FROM requests)")
            number = int(connection.execute("INSERT INTO owners (pid) VALUES (?)", (os.getpid(),)).lastrowid or 0)
            if lock_byte(self._locks(), number):  # else it is taken: of a file that stood here before
                self._owner = number
        return self._owner

    def _is_alive(self, owner: int) -> bool:
        if owner == self._owner:
            return True
        if lock_byte(self._locks(), owner):
            unlock_byte(self._locks(), owner)
            return False
        return True

    def _locks(self) -> int:
        if self._lock_fd < 0:
            self._lock_fd = os.open(self._lock_file, os.O_CREAT | os.O_RDWR, 0o600)
        return self._lock_fd

    # -- connections ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """This process's connection, for one call at a time; whatever goes wrong becomes a ``SpoolError``."""
        if not threads.acquire(self._lock, BUSY_TIMEOUT_S):
            raise SpoolError(f"{self.path}: busy")
        try:
            yield self._opened()
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            reason = (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
            if isinstance(error, sqlite3.DatabaseError) and "malformed" in reason:
                reason += self._set_aside()
            raise SpoolError(f"{self.path}: {reason}") from error
        finally:
            if self._connection is not None and self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.rollback()
            self._lock.release()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The same, in a transaction that nobody else writes beside."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def _shrink(self) -> None:
        with suppress(SpoolError), self._reading() as connection:
            connection.executescript("PRAGMA incremental_vacuum")  # execute() would free one page

    def _set_aside(self) -> str:
        """Moves a damaged file of ours out of the way, so that a new one is begun; says so, or what else to do."""
        if not self._create or self._file is None or self._file != identity(self.path):
            return ": move it away, or use another file"
        aside = f"{self.path}.damaged"
        try:
            os.replace(self.path, aside)  # noqa: PTH105 - as with those beside it
            for beside in ("-wal", "-shm"):  # with these, ``sqlite3``'s .recover may save something
                with suppress(FileNotFoundError):
                    os.replace(f"{self.path}{beside}", aside + beside)  # noqa: PTH105
        except OSError as error:
            return f", and cannot be moved away: {error.strerror}"
        return f": moved to {aside}, and begun anew"

    def _opened(self) -> sqlite3.Connection:
        """The connection, unless the file at its path is another one by now: a deleted one would swallow what is written."""
        if self._connection is not None and self._file == identity(self.path):
            return self._connection
        self.generation += self._connection is not None
        self._hang_up()
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection = self._connect()
            except sqlite3.OperationalError as error:  # noqa: PERF203
                # Switching to WAL does not wait for locks by itself: https://www.sqlite.org/wal.html
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(0.01)
            else:
                self._file = identity(self.path)
                return self._connection

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            if not self._create:
                raise SpoolError(f"{self.path}: no such file")
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        uri = f"{self.path.as_uri()}?mode=rw"
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            prepare(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _hang_up(self) -> None:
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd, self._owner = -1, 0
        self._held.clear()
