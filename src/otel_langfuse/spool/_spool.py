"""The requests in a spool's file."""

from __future__ import annotations

import ctypes
import os
import sqlite3
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from otel_langfuse import threads
from otel_langfuse.errors import ConfigError, DropReason

from ._file import BUSY_TIMEOUT_S, SpoolFile
from ._schema import not_in, number_of, removed
from ._values import ROW_BYTES, Destination, Holding, Kept, Limits, Lost, Part

_INSERT: Final = (
    "INSERT INTO requests (destination, owner, attempts, written_at, spans, bytes, headers, body) VALUES (?, ?, 0, ?, ?, ?, ?, ?)"
)
_TAKE: Final = (
    "SELECT id, headers, body, spans, attempts, written_at FROM requests WHERE destination = ? AND owner = ? AND {} "
    "ORDER BY attempts, id LIMIT 1"
)


class Spool(SpoolFile):
    """A SQLite file of requests. Get it by ``spool_at``: a process has one for each file.

    May be used from any thread; calls take turns. The file is opened at the first call, once per process: a forked child opens
    it again, is an owner of its own, and never touches its parent's connection. Files that are not there are made with mode
    0600. Every method but ``close`` may raise ``SpoolError``.
    """

    def write(self, destination: Destination, part: Part, limits: Limits) -> tuple[int | None, list[Lost]]:
        """Keeps a request.

        Returns:
            The id of its row; None if it alone is larger than the limit. And the oldest, and those too old, that had to go.
        """
        size = len(part.body) + ROW_BYTES
        with self._writing() as connection:
            lost = self._expire(connection, limits.max_age_s)
            if size > limits.max_bytes:
                return None, lost
            lost += self._make_room(connection, limits.max_bytes - size)
            return self._insert(connection, self._number(connection, destination), part, self._clock()), lost

    def replace(self, row: Kept, destination: Destination, parts: Iterable[Part]) -> list[int]:
        """Keeps, instead of a request that was taken, what is left of it; as old as it was. Returns their ids."""
        with self._writing() as connection:
            number = self._number(connection, destination)
            ids = [self._insert(connection, number, part, row.written_at) for part in parts]
            if row.generation == self.generation:
                connection.execute("DELETE FROM requests WHERE id = ?", (row.id,))
        self._let_go(row)
        return ids

    def put_back(self, row: Kept) -> bool:
        """It could not be sent: others of this process are tried before it is tried again. False if it is there no longer."""
        self._let_go(row)
        with self._writing() as connection:
            is_there = row.generation == self.generation
            if is_there:
                connection.execute("UPDATE requests SET attempts = attempts + 1 WHERE id = ?", (row.id,))
        return is_there

    def remove(self, row: Kept) -> None:
        """Its fate is known. Disk space is given back when nothing is left."""
        with self._writing() as connection:
            if row.generation == self.generation:
                connection.execute("DELETE FROM requests WHERE id = ?", (row.id,))
            is_empty = not connection.execute("SELECT bytes FROM total").fetchone()[0]
        self._let_go(row)
        if is_empty:
            self._shrink()

    def _let_go(self, row: Kept) -> None:
        if row.generation == self.generation:
            self._held.discard(row.id)

    def clear(self) -> dict[str, int]:
        """Removes all requests, whoever owns them. Returns how much they carried, by the endpoint that they were for."""
        query = "SELECT endpoint, sum(spans) FROM requests JOIN destinations ON destinations.id = destination GROUP BY endpoint"
        with self._writing() as connection:
            carried = dict(connection.execute(query).fetchall())
            connection.execute("DELETE FROM requests")
        self._shrink()
        return carried

    # -- taking --------------------------------------------------------------------------------------------------------

    def take(self, destination: Destination) -> Kept | None:
        """The next of this process's requests to a destination, those first that were tried least; None if there is none.

        No other thread gets it until ``replace``, ``put_back`` or ``remove``.
        """
        with self._reading() as connection:
            owner = self._own_number(connection)
            others, values = not_in(self._held)
            row = connection.execute(_TAKE.format(others), (number_of(connection, destination), owner, *values)).fetchone()
            if row is None:
                return None
            number, headers, body, spans, attempts, written_at = row
            kept = Kept(number, orjson.loads(headers), body, spans, attempts, written_at, self.generation)
            self._held.add(kept.id)
            return kept

    def take_over(self, destination: Destination | None, limits: Limits) -> list[Lost]:
        """Makes this process the owner of what the requests' owners left that are gone; removes what is too old.

        Args:
            destination: only requests to it; None for all.
            limits: of age.
        """
        with self._writing() as connection:
            lost = self._expire(connection, limits.max_age_s)
            me = self._own_number(connection)
            number = None if destination is None else number_of(connection, destination)
            here = "destination = coalesce(?, destination)"
            owners = connection.execute(f"SELECT DISTINCT owner FROM requests WHERE {here}", (number,)).fetchall()  # noqa: S608
            for (owner,) in owners:
                if owner != me and not self._is_alive(owner):
                    connection.execute(f"UPDATE requests SET owner = ? WHERE owner = ? AND {here}", (me, owner, number))  # noqa: S608
        return lost

    def readdress(self, old: Destination, new: Destination) -> None:
        """Sends to one destination what was kept for another: for the same server after a change of keys."""
        with self._writing() as connection:
            values = (self._number(connection, new), number_of(connection, old))
            connection.execute("UPDATE requests SET destination = ? WHERE destination = ?", values)

    def holdings(self) -> list[Holding]:
        """What is kept, one row for each destination."""
        query = (
            "SELECT endpoint, url, project, owner, count(*), sum(spans), sum(bytes), min(written_at) FROM requests "
            "JOIN destinations ON destinations.id = destination GROUP BY destinations.id, owner ORDER BY url, project"
        )
        found: dict[Destination, Holding] = {}
        with self._reading() as connection:
            for endpoint, url, project, owner, requests, spans, size, oldest in connection.execute(query):
                key = Destination(endpoint, url, project)
                so_far = found.get(key, Holding(key, 0, 0, 0, oldest, 0))
                found[key] = Holding(
                    key,
                    so_far.requests + requests,
                    so_far.spans + spans,
                    so_far.bytes + size,
                    min(so_far.oldest_at, oldest),
                    so_far.owned_requests + (requests if owner != self._owner and self._is_alive(owner) else 0),
                )
        return list(found.values())

    def close(self) -> None:
        """Closes the file, when the last of its users does so. What this process owned is then anybody's."""
        self.users -= 1
        if self.users > 0:
            return
        with _registry_lock:
            if _open.get(self.path) is self:
                del _open[self.path]
        if not threads.acquire(self._lock, BUSY_TIMEOUT_S):
            return
        try:
            self._hang_up()
        finally:
            self._lock.release()

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _insert(self, connection: sqlite3.Connection, destination: int, part: Part, written_at: float) -> int:
        size = len(part.body) + ROW_BYTES
        headers = orjson.dumps(dict(part.headers)).decode()
        values = (destination, self._own_number(connection), written_at, part.spans, size, headers, part.body)
        return int(connection.execute(_INSERT, values).lastrowid or 0)

    def _number(self, connection: sqlite3.Connection, destination: Destination) -> int:
        connection.execute("INSERT OR IGNORE INTO destinations (endpoint, url, project) VALUES (?, ?, ?)", destination)
        return number_of(connection, destination)

    def _expire(self, connection: sqlite3.Connection, max_age_s: float) -> list[Lost]:
        others, values = not_in(self._held)
        query = f"SELECT id, spans FROM requests WHERE written_at < ? AND {others}"  # noqa: S608 - our own words
        rows = connection.execute(query, (self._clock() - max_age_s, *values)).fetchall()
        return removed(connection, rows, DropReason.EXPIRED)

    def _make_room(self, connection: sqlite3.Connection, max_bytes: int) -> list[Lost]:
        over = connection.execute("SELECT bytes FROM total").fetchone()[0] - max_bytes
        rows = []
        others, values = not_in(self._held)
        query = f"SELECT id, spans, bytes FROM requests WHERE {others} ORDER BY written_at, id"  # noqa: S608 - as above
        for number, spans, size in connection.execute(query, values) if over > 0 else ():
            if over <= 0:
                break
            rows.append((number, spans))
            over -= size
        return removed(connection, rows, DropReason.SPOOL_FULL)


# -- one for each file -------------------------------------------------------------------------------------------------

_open: Final[dict[Path, Spool]] = {}
_registry_lock = threads.Lock()


def spool_at(path: str | os.PathLike[str], *, create: bool = True) -> Spool:
    """The process's spool in a file: a second one would not know what the first one is sending. ``close`` it after use.

    Args:
        path: of the file. A relative path is taken from the working directory of now.
        create: make the file where there is none, at the first call. False gives ``SpoolError`` instead.

    Raises:
        ConfigError: the directory does not exist, or the path is one.
    """
    absolute = Path(os.path.realpath(path))
    if absolute.is_dir() or not absolute.parent.is_dir():
        raise ConfigError(f"spool_path={str(path)[:200]!r}: expected a file in a directory that exists")
    with _registry_lock:
        spool = _open.get(absolute)
        if spool is None:
            spool = _open[absolute] = Spool(absolute, create=create)
            _spools.add(spool)
        spool.users += 1
        return spool


_spools: Final[weakref.WeakSet[Spool]] = weakref.WeakSet()


def _abandon_inherited() -> None:
    """In a forked child: keep the parent's connections from ever being closed here, not even when the interpreter ends.

    SQLite forbids so much as closing them in the child: https://www.sqlite.org/howtocorrupt.html section 2.6. Locks on bytes
    are not inherited, and closing their file here takes nothing from the parent.
    """
    global _registry_lock  # noqa: PLW0603 - another thread of the parent may seem to hold it for ever
    _registry_lock = threads.Lock()
    for spool in list(_spools):
        if spool._connection is not None:  # noqa: SLF001 - our own
            with suppress(Exception):  # another Python than CPython
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(spool._connection))  # noqa: SLF001
        if spool._lock_fd >= 0:  # noqa: SLF001
            with suppress(OSError):
                os.close(spool._lock_fd)  # noqa: SLF001
        spool._reset()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)
