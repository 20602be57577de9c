"""The local store keeps every observation, whatever it holds and whoever else writes, and gives it back as it was."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from otel_langfuse.errors import ConfigError
from otel_langfuse.model import Observation, TraceFields
from otel_langfuse.store import SCHEMA_VERSION, Store, StoreError, TraceSummary, summarize

START = 1_760_000_000_000_000_000
SECOND = 1_000_000_000
DEFAULTS: dict[str, Any] = {
    "id": "00000000000000aa",
    "trace_id": "a" * 32,
    "parent_id": None,
    "type": "span",
    "name": "work",
    "start_time_unix_nano": START,
    "end_time_unix_nano": START + SECOND,
    "environment": "default",
    "level": "DEFAULT",
    "metadata": {},
    "model_parameters": {},
    "usage_details": {},
    "cost_details": {},
    "is_root": False,
    "updates_trace": False,
    "trace": TraceFields(),
    "rules": {},
}


def observation(**fields: Any) -> Observation:
    return Observation(**{**dict.fromkeys(Observation._fields), **DEFAULTS, **fields})


FULL = observation(
    id="00000000000000bb",
    parent_id="00000000000000aa",
    type="generation",
    name="chat gpt-4o-mini",
    environment="production",
    level="ERROR",
    status_message="429: slow down",
    version="1.2",
    input=[{"role": "user", "content": "Grüß Gott \U0001f44b"}],
    output='{"text": "that holds JSON stays text"}',
    metadata={"attributes": {"a.b": "1"}, "scope": {"name": "s", "attributes": {}}},
    model="gpt-4o-mini-2024-07-18",
    model_parameters={"temperature": 0.2, "stream": "true"},
    usage_details={"input": 3, "output": 4, "total": 7},
    cost_details={"total": 0.0001},
    prompt_name="greet",
    prompt_version=3,
    completion_start_time="2026-11-21T10:00:00.000Z",
    is_root=True,
    updates_trace=True,
    trace=TraceFields(
        name="greeting",
        user_id="u",
        session_id="s",
        release="r",
        public=False,
        tags=("x", "y"),
        input={"q": 1},
        output=0,
        metadata={"k": [1, None]},
    ),
    rules={"type": "genai/type/operation"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Store:
    return Store(path)


def test_what_was_written_comes_back_equal_and_in_order_of_start(store: Store) -> None:
    root = observation(id="00000000000000aa")
    late = observation(id="00000000000000cc", start_time_unix_nano=START + SECOND)
    unknown = observation(id="00000000000000dd", start_time_unix_nano=None, end_time_unix_nano=None)
    store.write([unknown, late, root, FULL])
    assert store.trace("a" * 32) == [root, FULL, late, unknown]


def test_another_store_reads_what_is_written_while_the_writer_is_open(store: Store, path: Path) -> None:
    reader = Store(path)
    store.write([observation()])
    assert len(reader.trace("a")) == 1
    store.write([FULL])
    assert len(reader.trace("a")) == 2


def test_writing_an_observation_again_replaces_it(store: Store) -> None:
    store.write([observation(name="first"), observation(name="second"), observation(name="third", output="x")])
    store.write([observation(name="fourth")])
    assert store.trace("a") == [observation(name="fourth")]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (math.nan, None),
        ([math.inf, 1.5], [None, 1.5]),
        (b"\xff\x00", "/wA="),
        ({"deep": {"bytes": b"a"}}, {"deep": {"bytes": "YQ=="}}),
        (2**80, 2**80),
        ("lone \ud800 surrogate", "lone \ud800 surrogate"),
        ("nul \x00 and escape \x1b[2J", "nul \x00 and escape \x1b[2J"),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        ((1, 2), [1, 2]),
        ({"text": '{"a": 1}'}, {"text": '{"a": 1}'}),
        (False, False),
        (0, 0),
        ("", ""),
    ],
)
def test_a_value_that_json_cannot_hold_costs_neither_the_observation_nor_its_neighbours(
    store: Store, written: Any, read: Any
) -> None:
    store.write([observation(input=written, metadata={"a": written}), observation(id="b")])
    first, second = store.trace("a")
    assert (first.input, first.metadata) == (read, {"a": read})
    assert second.id == "b"


def test_values_of_every_kind_are_taken_in_every_field(store: Store) -> None:
    class Rude:
        def __str__(self) -> str:
            raise RuntimeError

    nested: list[Any] = []
    for _ in range(3000):
        nested = [nested]
    values: list[Any] = ["\ud800", 10**5000, -(2**63), 2**64 - 1, b"\xff", math.nan, nested, {"a": {1}}, True, Rude()]
    names = ("name", "status_message", "version", "model", "prompt_version", "input")
    for i, value in enumerate(values):
        fields: dict[str, Any] = dict.fromkeys(names, value)
        trace = TraceFields(name=value, output=value)
        store.write([observation(id=str(i), metadata={"a": value}, trace=trace, **fields)])
    assert len(store.trace("a")) == len(values)
    assert store.traces()[0].observation_count == len(values)


@pytest.mark.parametrize("time_unix_nano", [2**64 - 1, -(2**64), 0])
def test_times_beyond_sqlite_s_64_bits_are_held_at_the_edge(store: Store, time_unix_nano: int) -> None:
    store.write([observation(start_time_unix_nano=time_unix_nano)])
    assert store.trace("a")[0].start_time_unix_nano == max(min(time_unix_nano, 2**63 - 1), -(2**63 - 1))


# -- traces ------------------------------------------------------------------------------------------------------------


def test_traces_are_listed_latest_first_and_limited(store: Store) -> None:
    for i in (3, 1, 2):
        store.write([observation(trace_id=f"{i:032x}", start_time_unix_nano=START + i * SECOND)])
    store.write([observation(trace_id="none", start_time_unix_nano=None)])
    assert [int(trace.id, 16) for trace in store.traces(3)] == [3, 2, 1]
    assert [trace.id for trace in store.traces(10)][-1] == "none"


def test_a_trace_starts_where_its_first_observation_does_also_when_that_comes_last(store: Store) -> None:
    store.write([observation(trace_id="long", start_time_unix_nano=START + 9 * SECOND)])
    store.write([observation(trace_id="short", start_time_unix_nano=START + 5 * SECOND)])
    store.write([observation(trace_id="long", id="root", start_time_unix_nano=START)])
    assert [trace.id for trace in store.traces()] == ["short", "long"]


def test_a_summary_merges_what_the_spans_say_as_langfuse_does(store: Store) -> None:
    store.write(
        [
            observation(
                id="3",
                start_time_unix_nano=START + 2,
                end_time_unix_nano=START + 2 * SECOND,
                level="ERROR",
                usage_details={"input": 5, "output": 2, "input_cached_tokens": 1},
                cost_details={"input": 0.5, "output": 0.25},
                trace=TraceFields(user_id="later", tags=["b", "a"]),
                environment="second",
            ),
            observation(
                id="1",
                name="root",
                is_root=True,
                environment="first",
                trace=TraceFields(user_id="early", session_id="s", release="v1", tags=["c"]),
            ),
            observation(id="2", start_time_unix_nano=START + 1, usage_details={"input": 9, "total": 12, "x": "many"}),
        ]
    )
    assert store.traces() == [
        TraceSummary(
            id="a" * 32,
            name="root",
            start_time_unix_nano=START,
            end_time_unix_nano=START + 2 * SECOND,
            user_id="later",
            session_id="s",
            tags=("a", "b", "c"),
            environment="first",
            release="v1",
            levels={"DEFAULT": 2, "ERROR": 1},
            observation_count=3,
            total_tokens=20,
            total_cost=0.75,
        )
    ]
    assert store.traces()[0].duration_s == 2.0


def test_a_trace_is_named_by_the_latest_that_names_it_and_else_by_its_root() -> None:
    root = observation(is_root=True, name="root")
    namer = observation(id="b", trace=TraceFields(name="given"))
    assert summarize([root, namer]).name == "given"
    assert summarize([namer, root]).name == "root"
    assert summarize([root._replace(trace=TraceFields(name="own"))]).name == "own"
    assert summarize([observation(name="orphan")]).name is None


# -- one trace ---------------------------------------------------------------------------------------------------------


def test_the_beginning_of_a_trace_id_is_enough_as_far_as_it_is_unique(store: Store) -> None:
    ids = ["abc1" + "0" * 28, "abd2" + "0" * 28, "abd2" + "0" * 27 + "1"]
    store.write([observation(trace_id=trace_id) for trace_id in ids])
    assert store.trace("abc")[0].trace_id == ids[0]
    assert store.trace("ABC1")[0].trace_id == ids[0]
    assert store.trace(ids[1])[0].trace_id == ids[1]
    assert store.trace("ff") == []
    with pytest.raises(StoreError, match="several traces begin with 'abd'") as failed:
        store.trace("abd")
    assert ids[1] in str(failed.value)
    assert not failed.value.retryable


@pytest.mark.parametrize("pattern", ["%", "_" * 32, "a%", "a*", "?", "'", "\x00", "\ud800", "🦄"])
def test_nothing_in_a_trace_id_is_a_pattern(store: Store, pattern: str) -> None:
    store.write([observation()])
    assert store.trace(pattern) == []
    store.write([observation(trace_id=pattern)])
    assert len(store.trace(pattern)) == 1


# -- the file ----------------------------------------------------------------------------------------------------------


def test_only_the_owner_may_read_the_files(store: Store, path: Path) -> None:
    before = os.umask(0)
    try:
        store.write([observation()])
    finally:
        os.umask(before)
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {
        "store.db": 0o600,
        "store.db-wal": 0o600,
        "store.db-shm": 0o600,
    }


def test_closing_leaves_one_file_that_holds_everything(store: Store, path: Path) -> None:
    store.write([FULL])
    store.close()
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["store.db"]
    assert Store(path, create=False).trace("a") == [FULL]
    with pytest.raises(StoreError, match="closed"):
        store.write([FULL])


def test_nothing_is_made_before_the_first_write_and_none_is_needed_for_nothing(store: Store, path: Path) -> None:
    store.write([])
    assert not path.exists()


def test_a_reader_does_not_make_the_file(path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        Store(path, create=False).traces()
    assert not path.exists()


def test_an_empty_file_is_an_empty_store(path: Path) -> None:
    path.touch()
    assert Store(path, create=False).traces() == []


def test_a_newer_store_is_refused_with_what_to_do(store: Store, path: Path) -> None:
    store.write([FULL])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    for attempt in (lambda: Store(path).write([FULL]), lambda: Store(path, create=False).traces()):
        with pytest.raises(StoreError, match=r"newer otel-langfuse \(store version 2; this one knows 1\): update") as error:
            attempt()
        assert not error.value.retryable


def test_a_sqlite_file_of_something_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (id)")
    connection.close()
    with pytest.raises(StoreError, match="with tables of its own"):
        Store(path).write([FULL])
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]
    connection.close()


def test_a_file_that_is_no_database_is_an_error_that_says_so(path: Path) -> None:
    path.write_text("just text, and enough of it to be looked at" * 9)
    with pytest.raises(StoreError, match="not a database") as error:
        Store(path).write([FULL])
    assert not error.value.retryable


def test_a_directory_that_does_not_exist_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"base_url: .*missing/store\.db: expected a file in a directory that exists"):
        Store(tmp_path / "missing" / "store.db")
    with pytest.raises(ConfigError):
        Store(tmp_path)


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store("x ?&#%41.db")
    monkeypatch.chdir("elsewhere")
    store.write([FULL])
    store.close()
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["x ?&#%41.db"]


def test_after_the_file_was_removed_the_next_write_makes_a_new_one(store: Store, path: Path) -> None:
    store.write([observation(id="lost")])
    path.unlink()
    store.write([observation(id="kept")])
    assert [one.id for one in Store(path).trace("a")] == ["kept"]


def test_json_that_somebody_else_broke_is_an_error_of_the_store(store: Store, path: Path) -> None:
    store.write([FULL])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE observations SET input = '{'")
    connection.close()
    with pytest.raises(StoreError):
        store.trace("a")


# -- several at once ---------------------------------------------------------------------------------------------------

WRITER = """
import sys
from test_store import FULL, START
from otel_langfuse.store import Store
store, name = Store(sys.argv[1]), sys.argv[2]
print("ready", flush=True); sys.stdin.readline()
for batch in range(50):
    trace_id = f"{name}{batch % 7}"
    store.write([FULL._replace(id=f"{name}-{batch}-{i}", trace_id=trace_id) for i in range(40)])
"""


def start(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=environ, text=True, **pipes)  # type: ignore[call-overload, no-any-return]


def test_two_processes_write_2000_observations_each_while_a_third_reads_and_all_are_there(path: Path) -> None:
    writers = [start(WRITER, path, name) for name in ("p", "q")]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # neither has made the file yet: they race for that too
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    reader, seen = Store(path), 0
    deadline = time.monotonic() + 30
    while any(writer.poll() is None for writer in writers) and time.monotonic() < deadline:
        now = sum(trace.observation_count for trace in reader.traces(14))
        assert now >= seen
        seen = now
    for writer in writers:
        printed, _ = writer.communicate(timeout=10)
        assert (printed, writer.returncode) == ("", 0)
    ids = {one.id for i in range(7) for name in "pq" for one in reader.trace(f"{name}{i}")}
    assert len(ids) == 4000


def test_threads_take_turns(store: Store) -> None:
    def work(name: str) -> None:
        for i in range(20):
            store.write([observation(id=f"{name}-{i}-{j}") for j in range(5)])

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(store.trace("a")) == 400


def test_a_locked_file_is_waited_for_and_then_reported_as_retryable(path: Path) -> None:
    store = Store(path, busy_timeout_s=0.2)
    store.write([observation(id="1")])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun = time.monotonic()
    with pytest.raises(StoreError, match="locked") as error:
        store.write([observation(id="2")])
    assert error.value.retryable
    assert time.monotonic() - begun >= 0.15
    assert [one.id for one in store.trace("a")] == ["1"]  # reading goes on
    other.execute("ROLLBACK")
    store.write([observation(id="2")])
    assert len(store.trace("a")) == 2
    other.close()


def test_a_file_locked_while_it_is_opened_is_waited_for_too(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError) as error:
        Store(path, busy_timeout_s=0.1).write([FULL])
    assert error.value.retryable
    release = threading.Timer(0.3, other.rollback)
    release.start()
    Store(path, busy_timeout_s=20).write([FULL])
    release.join()
    other.close()


FORKER = """
import os, sys
from test_store import FULL
from otel_langfuse.store import Store
store = Store(sys.argv[1])
store.write([FULL._replace(id="parent-0")])
inherited = store._file.handles[os.getpid()].connection
references = sys.getrefcount(inherited)
children = []
for i in range(3):
    child = os.fork()
    if child == 0:
        assert not store._file.handles and sys.getrefcount(inherited) >= references  # left alone, and never let go
        if i:
            store.write([FULL._replace(id=f"child-{i}")])
            assert store._file.handles[os.getpid()].connection is not inherited
        sys.exit(0)  # the whole end of an interpreter: whatever it holds is taken down
    children.append(child)
    store.write([FULL._replace(id=f"parent-{i + 1}")])
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
store.write([FULL._replace(id="parent-9")])
print(codes, sorted(one.id for one in Store(sys.argv[1]).trace("a")))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_parent_and_forked_children_write_each_with_its_own_connection(path: Path) -> None:
    printed, _ = start(FORKER, path).communicate(timeout=20)
    ids = ["child-1", "child-2", "parent-0", "parent-1", "parent-2", "parent-3", "parent-9"]
    assert printed == f"[0, 0, 0] {ids}\n"


RACE = """
import os, sys, time
from test_store import FULL
from otel_langfuse.store import Store
for n in range(15):
    at, children = time.monotonic() + 0.02, []
    for i in range(4):
        child = os.fork()
        if child == 0:
            store = Store(f"{sys.argv[1]}{n}")
            while time.monotonic() < at: pass
            store.write([FULL._replace(id=str(i))])
            os._exit(0)
        children.append(child)
    for child in children: os.waitpid(child, 0)
    found = len(Store(f"{sys.argv[1]}{n}").trace("a"))
    if found != 4: print(f"round {n}: {found}")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_processes_that_all_make_the_file_at_once_all_succeed(path: Path) -> None:
    printed, _ = start(RACE, path).communicate(timeout=30)
    assert printed == ""


FORK_IN_A_WRITE = """
import os, sys, threading, time
from test_store import FULL
from otel_langfuse.store import Store
store = Store(sys.argv[1])
store.write([FULL._replace(id="first")])
def many():
    store.write((FULL._replace(id=f"many-{i}") for i in range(3000)))
thread = threading.Thread(target=many)
thread.start()
handle = store._file.handles[os.getpid()]
while not (handle.lock.locked() and handle.connection.in_transaction): time.sleep(0.0005)
child = os.fork()  # in the middle of the transaction
if child == 0: sys.exit(0)
os.waitpid(child, 0)
thread.join()
print(len(store.trace("a")), store._file.handles[os.getpid()].connection.execute("PRAGMA integrity_check").fetchone()[0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_in_the_middle_of_a_write_harms_neither_the_write_nor_the_file(path: Path) -> None:
    printed, _ = start(FORK_IN_A_WRITE, path).communicate(timeout=20)
    assert printed.splitlines()[-1] == "3001 ok"
