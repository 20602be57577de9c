"""What could not be sent, kept on disk until it can: requests as they were encoded, in a SQLite file, and whose they are.

A row is one request: where it goes, its body and the headers that describe the body; so it is masked as it was when it was to
be sent, and it holds no credentials: those, and the headers that say who sends, are added by who sends it.

Each row belongs to one process, its owner: the one that wrote it, and when that is gone, the first that takes it over, in one
transaction. An owner is alive as long as it holds a lock of the operating system on a byte of the file ``<path>-lock``, the
byte of its number. The kernel takes the lock away when the process ends, however it ends, so nothing has to be waited for and
nothing is taken from a process that is only stopped, or frozen. The file and its lock are to be on a local disk.

Written in WAL mode, without waiting for the disk: what is written outlives the process, but not always the loss of power.
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from otel_langfuse import threads
from otel_langfuse.errors import ConfigError, DropReason

SCHEMA_VERSION: Final = 1
"""``PRAGMA user_version`` of the files that this module writes."""

BUSY_TIMEOUT_S: Final = 1.0
"""How long a call waits for another process, or for another thread; less than what shutdown keeps back for it."""

ROW_BYTES: Final = 256
"""What a row counts for beside its body."""

_APPLICATION_ID: Final = 0x4F4C5350  # "OLSP": tells it from SQLite files of others, and from our store
_WAL_BYTES: Final = 4 << 20
_MAX_OWNERS_TRIED: Final = 100


class SpoolError(Exception):
    """The spool cannot be read or written; nothing of the call was done. The message names the file and SQLite's reason."""


class Destination(NamedTuple):
    """Where a request goes. ``project`` tells two projects on one server apart: see ``project_of``."""

    endpoint: str
    url: str
    project: str = ""


class Limits(NamedTuple):
    """What is kept, at most, in bytes and in seconds."""

    max_bytes: int
    max_age_s: float


class Part(NamedTuple):
    """A request to be kept: the headers that describe its body, the body, and how many spans it carries."""

    headers: Mapping[str, str]
    body: bytes
    spans: int


class Kept(NamedTuple):
    """A request that was kept. ``attempts`` counts how often it could not be sent; ``written_at`` is in seconds since 1970."""

    id: int
    headers: Mapping[str, str]
    body: bytes
    spans: int
    attempts: int
    written_at: float


class Lost(NamedTuple):
    """A request that is not kept any longer, and why."""

    id: int
    spans: int
    reason: DropReason


class Holding(NamedTuple):
    """What is kept for one destination: how much, the oldest in seconds since 1970, and what of it running processes own."""

    destination: Destination
    requests: int
    spans: int
    bytes: int
    oldest_at: float
    owned_requests: int


def project_of(public_key: str) -> str:
    """A digest that tells projects apart, and nothing else; empty without a key."""
    return sha256(public_key.encode()).hexdigest()[:16] if public_key else ""


# -- the file ----------------------------------------------------------------------------------------------------------

_SCHEMA: Final = (
    "CREATE TABLE destinations (id INTEGER PRIMARY KEY, endpoint TEXT, url TEXT, project TEXT, UNIQUE (endpoint, url, project))",
    "CREATE TABLE owners (id INTEGER PRIMARY KEY AUTOINCREMENT, pid INTEGER NOT NULL)",
    """CREATE TABLE requests (
        id INTEGER PRIMARY KEY AUTOINCREMENT, destination INTEGER NOT NULL, owner INTEGER NOT NULL, attempts INTEGER NOT NULL,
        written_at REAL NOT NULL, spans INTEGER NOT NULL, bytes INTEGER NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX requests_by_owner ON requests (destination, owner, attempts, id)",
    "CREATE INDEX requests_by_age ON requests (written_at)",
    "CREATE TABLE total (bytes INTEGER NOT NULL)",
    "INSERT INTO total VALUES (0)",
    "CREATE TRIGGER more AFTER INSERT ON requests BEGIN UPDATE total SET bytes = bytes + NEW.bytes; END",
    "CREATE TRIGGER less AFTER DELETE ON requests BEGIN UPDATE total SET bytes = bytes - OLD.bytes; END",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_INSERT: Final = (
    "INSERT INTO requests (destination, owner, attempts, written_at, spans, bytes, headers, body) VALUES (?, ?, 0, ?, ?, ?, ?, ?)"
)
_TAKE: Final = (
    "SELECT id, headers, body, spans, attempts, written_at FROM requests WHERE destination = ? AND owner = ? AND {} "
    "ORDER BY attempts, id LIMIT 1"
)


class Spool:
    """A SQLite file of requests. Get it by ``spool_at``: a process has one for each file.

    May be used from any thread; calls take turns. The file is opened at the first call, once per process: a forked child opens
    it again, is an owner of its own, and never touches its parent's connection. Files that are not there are made with mode
    0600. Every method but ``close`` may raise ``SpoolError``.
    """

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
        self._lock_fd = -1
        self._owner = 0
        self._held: set[int] = set()  # rows that a thread of this process is sending

    # -- keeping -------------------------------------------------------------------------------------------------------

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
            connection.execute("DELETE FROM requests WHERE id = ?", (row.id,))
        self._held.discard(row.id)
        return ids

    def put_back(self, row: Kept) -> None:
        """It could not be sent: others of this process are tried before it is tried again."""
        self._held.discard(row.id)
        with self._writing() as connection:
            connection.execute("UPDATE requests SET attempts = attempts + 1 WHERE id = ?", (row.id,))

    def remove(self, row: Kept) -> None:
        """Its fate is known. Disk space is given back when nothing is left."""
        with self._writing() as connection:
            connection.execute("DELETE FROM requests WHERE id = ?", (row.id,))
            is_empty = not connection.execute("SELECT bytes FROM total").fetchone()[0]
        self._held.discard(row.id)
        if is_empty:
            self._shrink()

    def clear(self) -> int:
        """Removes all requests, whoever owns them. Returns how many spans they carried."""
        with self._writing() as connection:
            spans: int = connection.execute("SELECT coalesce(sum(spans), 0) FROM requests").fetchone()[0]
            connection.execute("DELETE FROM requests")
        self._shrink()
        return spans

    # -- taking --------------------------------------------------------------------------------------------------------

    def take(self, destination: Destination) -> Kept | None:
        """The next of this process's requests to a destination, those first that were tried least; None if there is none.

        No other thread gets it until ``replace``, ``put_back`` or ``remove``.
        """
        with self._reading() as connection:
            number = _number_of(connection, destination)
            owner = self._own_number(connection)
            others, values = _not_in(self._held)
            row = connection.execute(_TAKE.format(others), (number, owner, *values)).fetchone()
            if row is None:
                return None
            kept = Kept(row[0], orjson.loads(row[1]), *row[2:])
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
            number = None if destination is None else _number_of(connection, destination)
            here = "destination = coalesce(?, destination)"
            owners = connection.execute(f"SELECT DISTINCT owner FROM requests WHERE {here}", (number,)).fetchall()  # noqa: S608
            for (owner,) in owners:
                if owner != me and not self._is_alive(owner):
                    connection.execute(f"UPDATE requests SET owner = ? WHERE owner = ? AND {here}", (me, owner, number))  # noqa: S608
        return lost

    def readdress(self, old: Destination, new: Destination) -> None:
        """Sends to one destination what was kept for another: for the same server after a change of keys."""
        with self._writing() as connection:
            values = (self._number(connection, new), _number_of(connection, old))
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
        return _number_of(connection, destination)

    def _expire(self, connection: sqlite3.Connection, max_age_s: float) -> list[Lost]:
        others, values = _not_in(self._held)
        query = f"SELECT id, spans FROM requests WHERE written_at < ? AND {others}"  # noqa: S608 - our own words
        rows = connection.execute(query, (self._clock() - max_age_s, *values)).fetchall()
        return _removed(connection, rows, DropReason.EXPIRED)

    def _make_room(self, connection: sqlite3.Connection, max_bytes: int) -> list[Lost]:
        over = connection.execute("SELECT bytes FROM total").fetchone()[0] - max_bytes
        rows = []
        others, values = _not_in(self._held)
        query = f"SELECT id, spans, bytes FROM requests WHERE {others} ORDER BY written_at, id"  # noqa: S608 - as above
        for number, spans, size in connection.execute(query, values) if over > 0 else ():
            if over <= 0:
                break
            rows.append((number, spans))
            over -= size
        return _removed(connection, rows, DropReason.SPOOL_FULL)

    # -- owners --------------------------------------------------------------------------------------------------------

    def _own_number(self, connection: sqlite3.Connection) -> int:
        """This process's number; a new one is locked before anything is written under it."""
        for _ in range(_MAX_OWNERS_TRIED):
            if self._owner:
                break
            connection.execute("DELETE FROM owners WHERE id NOT IN (SELECT owner FROM requests)")
            number = int(connection.execute("INSERT INTO owners (pid) VALUES (?)", (os.getpid(),)).lastrowid or 0)
            if _lock_byte(self._locks(), number):  # else it is taken: of a file that stood here before
                self._owner = number
        return self._owner

    def _is_alive(self, owner: int) -> bool:
        if owner == self._owner:
            return True
        if _lock_byte(self._locks(), owner):
            _unlock_byte(self._locks(), owner)
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

    def _opened(self) -> sqlite3.Connection:
        """The connection, unless the file at its path is another one by now: a deleted one would swallow what is written."""
        if self._connection is not None and self._file == _identity(self.path):
            return self._connection
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
                self._file = _identity(self.path)
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
            _prepare(connection, self.path)
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


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Checks whose file this is, and makes the tables in one that is empty."""
    is_ours = _is_ours(connection, path)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    if is_ours:
        return
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
    connection.execute("PRAGMA journal_mode = WAL")  # stays with the file
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_ours(connection, path):  # else another process was faster
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.rollback()


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    # In this order: another process may make the tables, which it does together with the rest, in between.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != _APPLICATION_ID:
        if tables:
            raise SpoolError(f"{path}: a SQLite file of something else, with tables of its own: use another file")
        return False
    if version > SCHEMA_VERSION:
        raise SpoolError(
            f"{path}: written by a newer otel-langfuse (spool version {version}; this one knows {SCHEMA_VERSION}): "
            "update otel-langfuse, or use another file"
        )
    return True


def _number_of(connection: sqlite3.Connection, destination: Destination) -> int:
    query = "SELECT id FROM destinations WHERE endpoint = ? AND url = ? AND project = ?"
    row = connection.execute(query, destination).fetchone()
    return int(row[0]) if row else 0


def _not_in(ids: Iterable[int]) -> tuple[str, list[int]]:
    """A condition that keeps to all rows but these, and its values."""
    values = list(ids)
    return f"id NOT IN ({', '.join('?' * len(values))})", values


def _removed(connection: sqlite3.Connection, rows: Sequence[Any], reason: DropReason) -> list[Lost]:
    connection.executemany("DELETE FROM requests WHERE id = ?", [(row[0],) for row in rows])
    return [Lost(number, spans, reason) for number, spans in rows]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


# -- locks that end with their process ---------------------------------------------------------------------------------

if sys.platform == "win32":
    import msvcrt

    def _lock_byte(fd: int, number: int) -> bool:
        os.lseek(fd, number, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock_byte(fd: int, number: int) -> None:
        os.lseek(fd, number, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock_byte(fd: int, number: int) -> bool:
        """Takes a lock that no forked child inherits; False if another process has it."""
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _unlock_byte(fd: int, number: int) -> None:
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, number)


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
