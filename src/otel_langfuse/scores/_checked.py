"""A score, checked when it is given, because the server says yes first and drops what it does not take later (api.md 5.4)."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final

import orjson

from otel_langfuse import picture
from otel_langfuse.config import ENVIRONMENT_EXPECTED, checked_environment
from otel_langfuse.errors import ScoreError
from otel_langfuse.model import SCORE_DATA_TYPES, Json, Score, ScoreFields

MAX_TEXT: Final = 500
"""Characters of a TEXT score (api.md 5.2)."""

MAX_ID: Final = 800
"""Characters of an id (api.md 4)."""


def checked(name: Any, value: Any, fields: ScoreFields) -> Score:
    """The score that was meant.

    Raises:
        ScoreError: Langfuse would not take it; says what was expected.
    """
    if unknown := [key for key in fields if key not in ScoreFields.__annotations__]:
        raise ScoreError(f"{unknown[0]}=...: a score has no such field")
    if not isinstance(name, str) or not name.strip():
        raise ScoreError(f"name={_shown(name)}: expected a text that is not empty")
    config_id = _id("config_id", fields.get("config_id"))
    data_type = _data_type(fields.get("data_type"), value, config_id)
    return Score(
        id=_id("id", fields.get("score_id") or fields.get("id")) or secrets.token_hex(16),
        event_id=secrets.token_hex(16),
        timestamp=_timestamp(fields.get("timestamp")),
        name=name,
        value=_VALUES[data_type](value),
        data_type=data_type,
        comment=_comment(fields.get("comment")),
        metadata=_snapshot(fields.get("metadata")),
        config_id=config_id,
        environment=_environment(fields.get("environment")),
        **_target(fields),
    )


def _shown(value: Any) -> str:
    """What a value is, not what it holds, unless it is short and plain."""
    return repr(value)[:60] if value is None or isinstance(value, (bool, int, float)) else type(value).__name__


# -- value ----------------------------------------------------------------------------------------


def _data_type(given: Any, value: Any, config_id: str | None) -> str | None:
    if given is None:
        if config_id is not None:
            return None
        return "BOOLEAN" if isinstance(value, bool) else "CATEGORICAL" if isinstance(value, str) else "NUMERIC"
    known = str(getattr(given, "value", given)).upper()
    if known not in SCORE_DATA_TYPES:
        raise ScoreError(f"data_type={str(given)[:40]!r}: expected one of {', '.join(SCORE_DATA_TYPES)}")
    if known == "CORRECTION" and config_id is not None:
        raise ScoreError("config_id=...: a CORRECTION has no score config")
    return known


def _number(value: Any) -> float:
    if not isinstance(value, (str, bytes, bytearray)):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ScoreError(f"value={_shown(value)}: expected a finite number; for a text, data_type='CATEGORICAL' or 'TEXT'")


def _truth(value: Any) -> float:
    try:
        number = _number(value)
    except ScoreError:
        number = math.nan
    if number not in (0.0, 1.0):
        raise ScoreError(f"value={_shown(value)}: expected True, False, 1 or 0 for data_type='BOOLEAN'")
    return number


def _text(most: int | None, least: int = 0) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) < least or (most is not None and len(value) > most):
            length = f" of {least} to {most} characters" if most is not None else " that is not empty" if least else ""
            given = f"text of {len(value)} characters" if isinstance(value, str) else _shown(value)
            raise ScoreError(f"value={given}: expected a text{length}")
        return value

    return check


def _either(value: Any) -> float | str:
    return value if isinstance(value, str) else _number(value)


_VALUES: Final[dict[str | None, Callable[[Any], Any]]] = {
    "NUMERIC": _number,
    "BOOLEAN": _truth,
    "CATEGORICAL": _text(None, 1),
    "TEXT": _text(MAX_TEXT, 1),
    "CORRECTION": _text(None),
    None: _either,
}


# -- the rest ----------------------------------------------------------------------------------------


def _id(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    text = str(value)
    if len(text) > MAX_ID or "\r" in text:
        raise ScoreError(f"{name}=...: expected at most {MAX_ID} characters on one line")
    return text


def _target(fields: ScoreFields) -> dict[str, str | None]:
    names = ("trace_id", "observation_id", "session_id", "dataset_run_id")
    found = {name: _id(name, fields.get(name)) for name in names}
    given = [name for name in names if found[name] is not None and name != "observation_id"]
    if found["observation_id"] is not None and found["trace_id"] is None:
        raise ScoreError("observation_id=...: expected trace_id, too")
    if len(given) != 1:
        raise ScoreError(
            f"{' and '.join(given) or 'nothing'} given: expected exactly one of trace_id, session_id and dataset_run_id"
        )
    return found


def _comment(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else str(value)


def _environment(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return checked_environment(value)
    except ValueError:
        raise ScoreError(f"environment={str(value)[:40]!r}: expected {ENVIRONMENT_EXPECTED}") from None


def _timestamp(value: Any) -> str:
    if value is None:
        value = datetime.now(timezone.utc)
    if not isinstance(value, datetime):
        raise ScoreError(f"timestamp={_shown(value)}: expected a datetime")
    return value.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _snapshot(value: Any) -> Json:
    """What it is now, as JSON."""
    return None if value is None else orjson.loads(picture.json_text(value))
