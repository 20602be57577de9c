"""The tables: which column holds what, and how values go there and come back."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from otel_langfuse.model import Json, Observation, Score, TraceFields

_INT64 = 2**63 - 1
_MAX_JSON_DEPTH = 100
_MAX_JSON_INT_BITS = 10_000  # Python refuses to print integers of more than 4,300 digits


def as_text(value: Any) -> str | None:
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


def scalar(value: Json) -> str | int | float | None:
    """What is nearly always a name or a number. What is structured is stored as JSON text, and comes back as that."""
    if value is None or isinstance(value, str):
        return as_text(value)
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


_TEXT = _Kind("TEXT", as_text, _same)
_TIME = _Kind("INTEGER", _time, _same)
_FLAG = _Kind("INTEGER", _flag, bool)
_SCALAR = _Kind("", scalar, _same)
_JSON = _Kind("TEXT", _json, json.loads)
_TAGS = _Kind("TEXT", _json, lambda text: tuple(json.loads(text)))

# Field of Observation, or trace_ and field of TraceFields -> kind of its column. Large values stand last: SQLite then
# reads the rest of a row without their pages.
COLUMNS: dict[str, _Kind] = {
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
SMALL = tuple(name for name in COLUMNS if name not in _LARGE + _LARGE_OF_TRACE)

_TRACE_PREFIX = "trace_"
_OF_TRACE = {_TRACE_PREFIX + field for field in TraceFields._fields}
_READERS = tuple(
    (name in _OF_TRACE, name.removeprefix(_TRACE_PREFIX) if name in _OF_TRACE else name, kind.encode)
    for name, kind in COLUMNS.items()
)
_NOTHING = Observation._make([None] * len(Observation._fields))._replace(
    id="", trace_id="", type="span", environment="default", level="DEFAULT", is_root=False, updates_trace=False,
    metadata={}, model_parameters={}, usage_details={}, cost_details={}, trace=TraceFields(), rules={},
)  # fmt: skip

_DECLARATIONS = ", ".join(f"{name} {kind.declaration}" for name, kind in COLUMNS.items())
SCHEMA = (
    f"CREATE TABLE observations ({_DECLARATIONS}, PRIMARY KEY (trace_id, id))",
    "CREATE TABLE traces (trace_id TEXT PRIMARY KEY, start_time_unix_nano INTEGER)",
    "CREATE INDEX traces_by_start ON traces (start_time_unix_nano)",
)
SCORE_COLUMNS = tuple(name for name in Score._fields if name != "event_id")
SCORE_TABLE = (  # made with the first score: a store of version 1 may have none
    f"CREATE TABLE IF NOT EXISTS scores ({', '.join(SCORE_COLUMNS)}, PRIMARY KEY (id))",
    "CREATE INDEX IF NOT EXISTS scores_by_trace ON scores (trace_id)",
)
PUT_SCORE = (
    f"INSERT INTO scores ({', '.join(SCORE_COLUMNS)}) VALUES ({', '.join('?' * len(SCORE_COLUMNS))}) "  # noqa: S608 - as below
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in SCORE_COLUMNS[1:])}"
)
PUT = (
    f"INSERT INTO observations ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "  # noqa: S608 - our own names
    f"ON CONFLICT (trace_id, id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS)}"
)
PUT_TRACE = (  # min() of two values is NULL as soon as one is
    "INSERT INTO traces VALUES (?, ?) ON CONFLICT (trace_id) DO UPDATE SET start_time_unix_nano = coalesce("
    "min(start_time_unix_nano, excluded.start_time_unix_nano), start_time_unix_nano, excluded.start_time_unix_nano)"
)


def row_of(observation: Observation) -> tuple[Any, ...]:
    trace = observation.trace
    return tuple(encode(getattr(trace if of_trace else observation, field)) for of_trace, field, encode in _READERS)


def observation_of(columns: Sequence[str], row: Sequence[Any]) -> Observation:
    values = {name: COLUMNS[name].decode(value) for name, value in zip(columns, row, strict=True) if value is not None}
    trace = {name.removeprefix(_TRACE_PREFIX): values.pop(name) for name in _OF_TRACE & values.keys()}
    return _NOTHING._replace(**values, trace=TraceFields(**trace))
