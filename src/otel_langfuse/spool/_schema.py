"""The tables of a spool's file, and the check whose file it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from otel_langfuse.errors import DropReason

from ._values import Destination, Lost, SpoolError

SCHEMA_VERSION: Final = 1
"""``PRAGMA user_version`` of the files that this module writes."""

_APPLICATION_ID: Final = 0x4F4C5350  # "OLSP": tells it from SQLite files of others, and from our store
_WAL_BYTES: Final = 4 << 20

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


def prepare(connection: sqlite3.Connection, path: Path) -> None:
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


def number_of(connection: sqlite3.Connection, destination: Destination) -> int:
    query = "SELECT id FROM destinations WHERE endpoint = ? AND url = ? AND project = ?"
    row = connection.execute(query, destination).fetchone()
    return int(row[0]) if row else 0


def not_in(ids: Iterable[int]) -> tuple[str, list[int]]:
    """A condition that keeps to all rows but these, and its values."""
    values = list(ids)
    return f"id NOT IN ({', '.join('?' * len(values))})", values


def removed(connection: sqlite3.Connection, rows: Sequence[Any], reason: DropReason) -> list[Lost]:
    connection.executemany("DELETE FROM requests WHERE id = ?", [(row[0],) for row in rows])
    return [Lost(number, spans, reason) for number, spans in rows]


def identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
