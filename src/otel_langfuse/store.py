"""The embedded default: observations in a local SQLite file, written by exporters and read by ``otel-langfuse show``.

One row per observation, keyed by trace id and observation id: writing it again replaces it. The file is in WAL mode,
so it can be read while it is written, and several processes may write to it; who finds it locked waits. Text is stored
as text and everything structured as JSON text, so ``select name, usage_details ->> 'input' from observations`` works in
any SQLite tool. Nothing is ever deleted: the file grows by about the size of the inputs and outputs, until somebody
removes it (which is safe while it is written: the next write makes a new one).
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sqlite3
import time
import weakref
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from otel_langfuse import threads
from otel_langfuse.errors import ConfigError
from otel_langfuse.model import Json, Observation, Score, TraceFields

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the files that this module writes."""

_INT64 = 2**63 - 1
_MAX_JSON_DEPTH = 100
_MAX_JSON_INT_BITS = 10_000  # Python refuses to print integers of more than 4,300 digits
_REOPEN_PAUSE_S = 0.01


class StoreError(Exception):
    """The store cannot be read or written; nothing of the call was done.

    ``retryable`` is True where the same call may succeed a little later (another process held the lock for too long).
    The message names the file and SQLite's reason, never a value of an observation.
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class TraceSummary(NamedTuple):
    """One trace, summed up from its observations as Langfuse does (mapping.md 2.5): see ``summarize``.

    Times are nanoseconds since 1970, None where unknown; ``levels`` counts observations by level; ``total_cost`` is in
    USD, None where no observation has a cost.
    """

    id: str
    name: Json
    start_time_unix_nano: int | None
    end_time_unix_nano: int | None
    user_id: str | None
    session_id: str | None
    tags: tuple[str, ...]
    environment: str
    release: str | None
    levels: Mapping[str, int]
    observation_count: int
    total_tokens: int
    total_cost: float | None

    @property
    def duration_s(self) -> float | None:
        """From the first start to the last end, in seconds; None where one of them is unknown."""
        if self.start_time_unix_nano is None or self.end_time_unix_nano is None:
            return None
        return max(self.end_time_unix_nano - self.start_time_unix_nano, 0) / 1e9


# -- values to columns and back ----------------------------------------------------------------------------------------


def _text(value: Any) -> str | None:
    """Text that SQLite takes: it refuses lone surrogates, which become their escapes."""
    if value is None:
        return None
    text = value if isinstance(value, str) else str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _time(value: Any) -> int | None:
    """Nanoseconds, held within SQLite's 64 signed bits: OTLP has 64 unsigned ones."""
    return max(-_INT64, min(value, _INT64)) if isinstance(value, int) else None


def _flag(value: Any) -> int | None:
    return None if value is None else int(bool(value))


def _scalar(value: Json) -> str | int | float | None:
    """What is nearly always a name or a number. What is structured is stored as JSON text, and comes back as that."""
    if value is None or isinstance(value, str):
        return _text(value)
    if type(value) is int and abs(value) <= _INT64:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    return _json(value)


def _json(value: Json) -> str | None:
    """JSON text, for any value whatever: what JSON cannot hold becomes null (NaN) or text (bytes, objects)."""
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except (
        TypeError,
        RecursionError,
    ):  # orjson's own error is a TypeError: bytes, 65 bits, lone surrogates, other keys
        return json.dumps(_jsonable(value, 0), separators=(",", ":"))


def _jsonable(value: Any, depth: int) -> Json:
    if depth > _MAX_JSON_DEPTH:
        return f"[nested more than {_MAX_JSON_DEPTH} deep]"
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_JSON_INT_BITS else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(bytes(value)).decode("ascii")
    if isinstance(value, Mapping):
        return {_said(key): _jsonable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (Sequence, set, frozenset)):
        return [_jsonable(item, depth + 1) for item in value]
    return _said(value)


def _said(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - somebody's __str__ must not cost the observation
        return f"<{type(value).__name__}>"


class _Kind(NamedTuple):
    declaration: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


_TEXT = _Kind("TEXT", _text, _same)
_TIME = _Kind("INTEGER", _time, _same)
_FLAG = _Kind("INTEGER", _flag, bool)
_SCALAR = _Kind("", _scalar, _same)
_JSON = _Kind("TEXT", _json, json.loads)
_TAGS = _Kind("TEXT", _json, lambda text: tuple(json.loads(text)))

# Field of Observation, or trace_ and field of TraceFields -> kind of its column. Large values stand last: SQLite then
# reads the rest of a row without their pages.
_COLUMNS: dict[str, _Kind] = {
    "trace_id": _TEXT,
    "id": _TEXT,
    "parent_id": _TEXT,
    "type": _TEXT,
    "name": _SCALAR,
    "start_time_unix_nano": _TIME,
    "end_time_unix_nano": _TIME,
    "environment": _TEXT,
    "level": _TEXT,
    "is_root": _FLAG,
    "updates_trace": _FLAG,
    "version": _SCALAR,
    "model": _SCALAR,
    "usage_details": _JSON,
    "cost_details": _JSON,
    "prompt_name": _SCALAR,
    "prompt_version": _SCALAR,
    "completion_start_time": _SCALAR,
    "trace_name": _SCALAR,
    "trace_user_id": _SCALAR,
    "trace_session_id": _SCALAR,
    "trace_release": _SCALAR,
    "trace_public": _FLAG,
    "trace_tags": _TAGS,
    "rules": _JSON,
    "status_message": _SCALAR,
    "model_parameters": _JSON,
    "metadata": _JSON,
    "trace_metadata": _JSON,
    "input": _JSON,
    "output": _JSON,
    "trace_input": _JSON,
    "trace_output": _JSON,
}
_LARGE = ("status_message", "model_parameters", "metadata", "input", "output", "rules")
_LARGE_OF_TRACE = ("trace_metadata", "trace_input", "trace_output")
_SMALL = tuple(name for name in _COLUMNS if name not in _LARGE + _LARGE_OF_TRACE)

_TRACE_PREFIX = "trace_"
_OF_TRACE = {_TRACE_PREFIX + field for field in TraceFields._fields}
_READERS = tuple(
    (name in _OF_TRACE, name.removeprefix(_TRACE_PREFIX) if name in _OF_TRACE else name, kind.encode)
    for name, kind in _COLUMNS.items()
)
_NOTHING = Observation._make([None] * len(Observation._fields))._replace(
    id="", trace_id="", type="span", environment="default", level="DEFAULT", is_root=False, updates_trace=False,
    metadata={}, model_parameters={}, usage_details={}, cost_details={}, trace=TraceFields(), rules={},
)  # fmt: skip

_DECLARATIONS = ", ".join(f"{name} {kind.declaration}" for name, kind in _COLUMNS.items())
_SCHEMA = (
    f"CREATE TABLE observations ({_DECLARATIONS}, PRIMARY KEY (trace_id, id))",
    "CREATE TABLE traces (trace_id TEXT PRIMARY KEY, start_time_unix_nano INTEGER)",
    "CREATE INDEX traces_by_start ON traces (start_time_unix_nano)",
)
_SCORE_COLUMNS = tuple(name for name in Score._fields if name != "event_id")
_SCORE_TABLE = (  # made with the first score: a store of version 1 may have none
    f"CREATE TABLE IF NOT EXISTS scores ({', '.join(_SCORE_COLUMNS)}, PRIMARY KEY (id))",
    "CREATE INDEX IF NOT EXISTS scores_by_trace ON scores (trace_id)",
)
_PUT_SCORE = (
    f"INSERT INTO scores ({', '.join(_SCORE_COLUMNS)}) VALUES ({', '.join('?' * len(_SCORE_COLUMNS))}) "  # noqa: S608 - as below
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _SCORE_COLUMNS[1:])}"
)
_PUT = (
    f"INSERT INTO observations ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "  # noqa: S608 - our own names
    f"ON CONFLICT (trace_id, id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS)}"
)
_PUT_TRACE = (  # min() of two values is NULL as soon as one is
    "INSERT INTO traces VALUES (?, ?) ON CONFLICT (trace_id) DO UPDATE SET start_time_unix_nano = coalesce("
    "min(start_time_unix_nano, excluded.start_time_unix_nano), start_time_unix_nano, excluded.start_time_unix_nano)"
)


def _row(observation: Observation) -> tuple[Any, ...]:
    trace = observation.trace
    return tuple(encode(getattr(trace if of_trace else observation, field)) for of_trace, field, encode in _READERS)


def _observation(columns: Sequence[str], row: Sequence[Any]) -> Observation:
    values = {name: _COLUMNS[name].decode(value) for name, value in zip(columns, row, strict=True) if value is not None}
    trace = {name.removeprefix(_TRACE_PREFIX): values.pop(name) for name in _OF_TRACE & values.keys()}
    return _NOTHING._replace(**values, trace=TraceFields(**trace))


# -- the file ----------------------------------------------------------------------------------------------------------


class _Handle:
    """One process's connection, and the lock that its threads take turns with."""

    def __init__(self) -> None:
        self.lock = threads.Lock()
        self.connection: sqlite3.Connection | None = None
        self.file: tuple[int, int] | None = None


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
        self._create = create
        self._busy_timeout_s = busy_timeout_s
        self._handles: dict[int, _Handle] = {}
        self._closed = False
        if create and (self.path.is_dir() or not self.path.parent.is_dir()):
            raise ConfigError(f"base_url: sqlite store at {self.path}: expected a file in a directory that exists")
        _stores.add(self)

    def write(self, observations: Iterable[Observation]) -> None:
        """Write all of them, in one transaction; one that is there already (same trace id and id) is replaced.

        Raises:
            StoreError: None of them was written; ``retryable`` says whether trying again makes sense.
        """
        rows = [_row(observation) for observation in observations]
        if not rows:
            return
        columns = list(_COLUMNS)
        trace, start = columns.index("trace_id"), columns.index("start_time_unix_nano")
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_PUT, rows)
            connection.executemany(_PUT_TRACE, [(row[trace], row[start]) for row in rows])
            connection.execute("COMMIT")

    def write_scores(self, scores: Iterable[Score]) -> None:
        """Write all of them, in one transaction, into the table ``scores``; one with the same id is replaced.

        Raises:
            StoreError: None of them was written; ``retryable`` says whether trying again makes sense.
        """
        rows = [tuple(_scalar(getattr(score, name)) for name in _SCORE_COLUMNS) for score in scores]
        if not rows:
            return
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCORE_TABLE:
                connection.execute(statement)
            connection.executemany(_PUT_SCORE, rows)
            connection.execute("COMMIT")

    def scores(self, trace_id: str | None = None) -> list[Score]:
        """The scores of one trace, or all, in the order of their first writing; metadata that is structured is its JSON text.

        Raises:
            StoreError: The file is missing (without ``create``), is not a store, or cannot be read.
        """
        query = f"SELECT {', '.join(_SCORE_COLUMNS)} FROM scores WHERE ?1 IS NULL OR trace_id = ?1 ORDER BY rowid"  # noqa: S608
        with self._connected() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'scores'").fetchone():
                return []
            rows = connection.execute(query, (trace_id,)).fetchall()
        return [Score(event_id="", **dict(zip(_SCORE_COLUMNS, row, strict=True))) for row in rows]

    def traces(self, limit: int = 20) -> list[TraceSummary]:
        """The latest traces by their start, latest first, at most ``limit`` of them.

        Raises:
            StoreError: The file is missing (without ``create``), is not a store, or cannot be read.
        """
        latest = "SELECT trace_id FROM traces ORDER BY start_time_unix_nano DESC, rowid DESC LIMIT ?"
        with self._connected() as connection:
            ids = [row[0] for row in connection.execute(latest, (limit,))]
            return [summarize(_read(connection, trace_id, _SMALL)) for trace_id in ids]

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
        with self._connected() as connection:
            for wanted in dict.fromkeys((trace_id, trace_id.lower())):
                if exact := _read(connection, wanted, tuple(_COLUMNS)):
                    return exact
                prefix = _text(wanted) or ""
                found = [row[0] for row in connection.execute(begins, (prefix, prefix + chr(0x10FFFF)))]
                if len(found) == 1:
                    return _read(connection, found[0], tuple(_COLUMNS))
                if found:
                    listed = ", ".join(map(repr, found[:3])) + (", ..." if len(found) > 3 else "")
                    raise StoreError(f"several traces begin with {trace_id!r}: {listed}")
        return []

    def close(self) -> None:
        """Close the file. Later calls raise ``StoreError``; closing twice is nothing."""
        self._closed = True
        handle = self._handles.get(os.getpid())
        if handle is not None:
            with handle.lock:
                self._hang_up(handle)

    # -- connections ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """This process's connection, for one call at a time; whatever SQLite says becomes a ``StoreError``."""
        handle = self._handles.setdefault(os.getpid(), _Handle())
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
            for statement in _SCHEMA:
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


def _read(connection: sqlite3.Connection, trace_id: str, columns: tuple[str, ...]) -> list[Observation]:
    query = (
        f"SELECT {', '.join(columns)} FROM observations WHERE trace_id = ? "  # noqa: S608 - our own names
        "ORDER BY start_time_unix_nano IS NULL, start_time_unix_nano, rowid"
    )
    return [_observation(columns, row) for row in connection.execute(query, (_text(trace_id),))]


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


# -- forks -------------------------------------------------------------------------------------------------------------

_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _abandon_inherited() -> None:
    """In a forked child: keep the parent's connections from ever being closed here, not even when the interpreter ends.

    SQLite forbids so much as closing them in the child: https://www.sqlite.org/howtocorrupt.html section 2.6.
    """
    for store in list(_stores):
        inherited, store._handles = store._handles, {}  # noqa: SLF001 - our own
        for handle in inherited.values():
            if handle.connection is not None:
                with suppress(Exception):  # another Python than CPython
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle.connection))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)


# -- traces ------------------------------------------------------------------------------------------------------------


def summarize(observations: Sequence[Observation]) -> TraceSummary:
    """One trace from its observations, in order of their start.

    What several of them say about the trace is merged as Langfuse does it (mapping.md 2.5): the latest start wins for
    name, user, session and release; the first for environment; tags are united and sorted. A root's name counts as the
    trace's unless it gives another. Where nothing names the trace (its root is still running), the name is None.

    Args:
        observations: At least one, all of one trace, sorted by start time as ``Store.trace`` does.
    """
    said = [observation.trace for observation in observations]
    starts = [one.start_time_unix_nano for one in observations if one.start_time_unix_nano is not None]
    ends = [one.end_time_unix_nano for one in observations if one.end_time_unix_nano is not None]
    costs = [cost for one in observations if (cost := total_cost(one.cost_details)) is not None]
    names = (one.trace.name if one.trace.name is not None or not one.is_root else one.name for one in observations)
    return TraceSummary(
        id=observations[0].trace_id,
        name=_last(names),
        start_time_unix_nano=min(starts, default=None),
        end_time_unix_nano=max(ends, default=None),
        user_id=_last(one.user_id for one in said),
        session_id=_last(one.session_id for one in said),
        tags=tuple(sorted({str(tag) for one in said for tag in one.tags})),
        environment=observations[0].environment,
        release=_last(one.release for one in said),
        levels=dict(Counter(one.level for one in observations)),
        observation_count=len(observations),
        total_tokens=sum(total_tokens(one.usage_details) for one in observations),
        total_cost=sum(costs) if costs else None,
    )


def total_tokens(usage_details: Mapping[str, Json]) -> int:
    """``total`` where it is given, else the sum of all kinds of tokens: they do not overlap (mapping.md 13)."""
    return int(_total(usage_details) or 0)


def total_cost(cost_details: Mapping[str, Json]) -> float | None:
    """``total`` where it is given, else the sum of all parts, in USD; None where there is none."""
    return _total(cost_details)


def _total(details: Mapping[str, Json]) -> float | None:
    numbers = {key: number for key, value in details.items() if (number := _number(value)) is not None}
    return numbers["total"] if "total" in numbers else sum(numbers.values()) if numbers else None


def _number(value: Json) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _INT64
    return value if is_number else None


def _last(values: Iterable[Json]) -> Any:
    return next((value for value in reversed(list(values)) if value is not None), None)
