"""``otel-langfuse show``: the traces of a local store, in a terminal or as JSON.

The JSON has these keys and will keep them; new ones may come. Times are ISO 8601 in UTC with microseconds, durations
milliseconds, costs USD; null where unknown.

- A list: an array, latest first, of ``{"id", "name", "start_time", "end_time", "duration_ms", "user_id", "session_id", "tags",
  "environment", "release", "levels": {level: count}, "observation_count", "total_tokens", "total_cost"}``.
- One trace: the same object, and in it ``"observations"``, an array, by start time, of ``{"id", "trace_id", "parent_id", "type",
  "name", "start_time", "end_time", "duration_ms", "environment", "level", "status_message", "version", "input", "output",
  "metadata", "model", "model_parameters", "usage_details", "cost_details", "prompt_name", "prompt_version",
  "completion_start_time", "rules"}``, as ``otel_langfuse.model.Observation`` explains them; and ``"scores"``, an array, in the
  order in which they were given, of ``{"id", "name", "value", "data_type", "observation_id", "comment", "metadata", "config_id",
  "timestamp"}``, as ``otel_langfuse.model.Score`` does.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, TextIO

from rich.console import Console, Group
from rich.text import Text

from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.errors import ConfigError
from otel_langfuse.local.draw import ASCII, UNICODE, Glyphs, enough_digits, trace_list, trace_tree
from otel_langfuse.local.judged import score_lines
from otel_langfuse.local.text import plain
from otel_langfuse.model import Observation, Score
from otel_langfuse.store import Store, StoreError, TraceSummary, summarize

DEFAULT_DB = "langfuse.db"
UNATTENDED_WIDTH = 120
"""Columns where the output is no terminal."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def show(db: str | None, trace_id: str | None, as_json: bool, limit: int, out: TextIO) -> int:
    """List the latest traces of a local store, or draw one of them as a tree.

    Args:
        db: The store's file. Default: the one that ``LANGFUSE_BASE_URL`` names when it is a ``sqlite:///`` URL, else
            ``langfuse.db`` in the working directory.
        trace_id: A trace id or its beginning; None lists traces.
        as_json: Write JSON (see the module) in place of a drawing.
        limit: How many traces to list at most.
        out: Where to write. Colours and the width of the terminal are used where it is one, else 120 columns without colour.

    Returns:
        The exit status: 0, or 1 after a message on standard error (no such file, not a store, no such trace, a
        setting that cannot be read).
    """
    try:
        store = Store(db if db is not None else default_db(), create=False)
    except ConfigError as error:
        return _failed(str(error))
    try:
        if trace_id is None:
            return _list(store, as_json, limit, "" if db is None else f"--db {shlex.quote(db)} ", out)
        return _one(store, trace_id, as_json, out)
    except StoreError as error:
        hint = "" if store.path.exists() else ": name the file with --db, or with LANGFUSE_BASE_URL=sqlite:///FILE"
        return _failed(f"{error}{hint}")
    finally:
        store.close()


def default_db() -> str:
    """The local store that the environment describes, else ``langfuse.db``."""
    return sqlite_path(Config.from_env().base_url) or DEFAULT_DB


def _list(store: Store, as_json: bool, limit: int, named: str, out: TextIO) -> int:
    traces = store.traces(limit)
    if as_json:
        return _write_json([summary_json(trace) for trace in traces], out)
    if not traces:
        write_lines([Text(f"No traces yet in {plain(str(store.path))}.")], out)
        return 0
    console, glyphs = terminal(out)
    write_lines(trace_list(traces, console.width, glyphs), out)
    begins = traces[0].id[: enough_digits([trace.id for trace in traces])]
    if begins.isalnum():  # it will be pasted into a shell
        write_prose("\nOne of them as a tree:\n\n    " + plain(f"otel-langfuse show {named}{begins}"), out)
    return 0


def _one(store: Store, trace_id: str, as_json: bool, out: TextIO) -> int:
    observations = store.trace(trace_id)
    if not observations:
        return _failed(f"{store.path}: no trace whose id begins with {trace_id!r}")
    scores = store.scores(observations[0].trace_id)
    if as_json:
        return _write_json(trace_json(observations, scores), out)
    console, glyphs = terminal(out)
    lines = trace_tree(observations, console.width, glyphs)
    write_lines([*lines, *score_lines(scores, observations, console.width, glyphs)], out)
    return 0


# -- JSON --------------------------------------------------------------------------------------------------------------


_TIMES = ("start_time_unix_nano", "end_time_unix_nano")
_SCORE_KEYS = ("id", "name", "value", "data_type", "observation_id", "comment", "metadata", "config_id", "timestamp")
_INTERNAL = ("is_root", "updates_trace", "trace")  # what the trace says already


def summary_json(trace: TraceSummary) -> dict[str, Any]:
    """A trace as it is listed; see the module for its keys."""
    return _timed(trace._asdict())


def trace_json(observations: Sequence[Observation], scores: Sequence[Score] = ()) -> dict[str, Any]:
    """One trace with its observations and scores; see the module for its keys."""
    judged = [{key: getattr(score, key) for key in _SCORE_KEYS} for score in scores]
    rows = [{key: value for key, value in one._asdict().items() if key not in _INTERNAL} for one in observations]
    return {**summary_json(summarize(observations)), "observations": [_timed(row) for row in rows], "scores": judged}


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    """The row with readable times in place of nanoseconds."""
    start, end = row[_TIMES[0]], row[_TIMES[1]]
    length = None if start is None or end is None else max(end - start, 0) / 1e6
    times = {"start_time": _iso(start), "end_time": _iso(end), "duration_ms": length}
    return {**{key: value for key, value in row.items() if key not in _TIMES}, **times}


def _iso(time_unix_nano: int | None) -> str | None:
    try:
        moment = None if time_unix_nano is None else _EPOCH + timedelta(microseconds=time_unix_nano // 1000)
    except OverflowError:  # beyond the year 9999
        return None
    return None if moment is None else moment.isoformat(timespec="microseconds")


def _write_json(document: Any, out: TextIO) -> int:
    # Only ASCII: nothing in a string can act on a terminal, and nothing fails to be encoded.
    out.write(json.dumps(document, indent=2, default=str) + "\n")
    return 0


# -- the terminal ------------------------------------------------------------------------------------------------------


def terminal(out: TextIO) -> tuple[Console, Glyphs]:
    """A console for ``out``, and what may be drawn on it: ASCII where its encoding has nothing else."""
    attended = getattr(out, "isatty", lambda: False)()
    console = Console(
        file=out,
        width=None if attended else UNATTENDED_WIDTH,
        legacy_windows=False,
        force_jupyter=False,
    )
    return console, UNICODE if _encodable("├━⏎", out) else ASCII


def write_lines(lines: Sequence[Text], out: TextIO, end: str = "\n") -> None:
    """Write styled lines, each cut at the edge of the terminal; what the encoding of ``out`` lacks becomes ``?``."""
    console, _ = terminal(out)
    with console.capture() as capture:
        console.print(Group(*lines), no_wrap=True, overflow="crop", crop=True)
    _write(capture.get().removesuffix("\n") + end, out)


def write_prose(text: str, out: TextIO) -> None:
    """Write our own text: wrapped at the edge of the terminal, but indented lines are code, and stay whole to be copied."""
    console, _ = terminal(out)
    with console.capture() as capture:
        for line in text.splitlines():
            is_code = line.startswith("    ")
            console.print(Text(line, "cyan" if is_code else ""), soft_wrap=is_code)
    _write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()), out)


def _write(text: str, out: TextIO) -> None:
    encoding = getattr(out, "encoding", None) or "utf-8"
    out.write(text.encode(encoding, "replace").decode(encoding, "replace"))
    out.flush()


def _encodable(text: str, out: TextIO) -> bool:
    try:
        text.encode(getattr(out, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def _failed(message: str) -> int:
    sys.stderr.write(f"otel-langfuse show: {plain(message)}\n")
    return 1
