"""What cannot be sent is kept on disk, and sent once: by real processes, over real sockets, out of real SQLite files."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import ConfigError, LangfuseIngestionExporter, LangfuseOTLPExporter, LangfuseSpanProcessor, batch, retry
from otel_langfuse.batch import Sending, Stop
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.exporters import _outbox
from otel_langfuse.prepare import requests
from otel_langfuse.spans import from_sdk
from otel_langfuse.spool import (
    ROW_BYTES,
    Destination,
    Holding,
    Kept,
    Limits,
    Part,
    Spool,
    SpoolError,
    project_of,
    spool_at,
)
from otel_langfuse.stats import Ledger
from servers import Exchange, Server, Step, closed_port, hang, multi_status, provider_with, reset, sdk_spans, status, when

pytestmark = pytest.mark.usefixtures("every_span", "hurries")

SLACK_S = 0.4
KEYS = {"public_key": "pk-lf-PUBLIC", "secret_key": "sk-lf-SECRET"}
THERE = Destination("otlp", "http://host/v1/traces")
ROOMY = Limits(1 << 30, 3600.0)
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@contextlib.contextmanager
def opened(path: Path, **options: Any) -> Iterator[Spool]:
    spool = spool_at(path, **options)
    try:
        yield spool
    finally:
        spool.close()


def part(body: bytes = b"body", spans: int = 1) -> Part:
    return Part({"Content-Type": "x"}, body, spans)


def bodies(path: Path) -> list[bytes]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT body FROM requests ORDER BY id")]


def until(condition: Callable[[], bool], timeout_s: float = 8.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# -- the file ----------------------------------------------------------------------------------------------------------


def test_a_request_comes_back_as_it_was_written_and_is_gone_when_it_is_removed(path: Path) -> None:
    with opened(path) as spool:
        number, lost = spool.write(THERE, Part({"Content-Type": "a/b"}, b"\x00\xffbody", 7), ROOMY)
        assert lost == []
        kept = spool.take(THERE)
        assert kept is not None
        assert kept[:5] == (number, {"Content-Type": "a/b"}, b"\x00\xffbody", 7, 0)
        assert spool.take(THERE) is None, "nobody else gets it"
        spool.remove(kept)
        assert spool.holdings() == []


def test_what_was_tried_least_is_next_then_what_is_oldest(path: Path) -> None:
    with opened(path) as spool:
        for body in (b"1", b"2", b"3"):
            spool.write(THERE, part(body), ROOMY)
        first = taken(spool)
        spool.put_back(first)
        assert [taken(spool).body for _ in range(3)] == [b"2", b"3", b"1"]
        assert first.attempts == 0


def taken(spool: Spool, destination: Destination = THERE) -> Kept:
    kept = spool.take(destination)
    assert kept is not None
    return kept


def test_what_is_left_of_a_request_stands_in_its_place_and_is_as_old(path: Path) -> None:
    with opened(path) as spool:
        spool.write(THERE, part(spans=3), ROOMY)
        kept = taken(spool)
        spool.replace(kept, THERE, [part(b"a"), part(b"b")])
        again = [taken(spool) for _ in range(2)]
        assert [one.body for one in again] == [b"a", b"b"]
        assert {one.written_at for one in again} == {kept.written_at}
        assert spool.take(THERE) is None


def test_each_destination_gets_its_own(path: Path) -> None:
    one, two = (Destination("otlp", "http://host", project_of(key)) for key in ("pk-lf-1", "pk-lf-2"))
    with opened(path) as spool:
        spool.write(one, part(b"1"), ROOMY)
        assert spool.take(two) is None
        assert spool.take(THERE) is None
        assert taken(spool, one).body == b"1"


def test_the_oldest_make_room_and_are_named(path: Path) -> None:
    limits = Limits(3 * (1000 + ROW_BYTES), 3600.0)
    with opened(path) as spool:
        ids = [spool.write(THERE, part(b"x" * 1000, spans=n), limits)[0] for n in (1, 2, 3)]
        number, lost = spool.write(THERE, part(b"x" * 1500, spans=4), limits)
        assert number is not None
        assert [(one.id, one.spans, one.reason) for one in lost] == [
            (ids[0], 1, DropReason.SPOOL_FULL),
            (ids[1], 2, DropReason.SPOOL_FULL),
        ]
        (holding,) = spool.holdings()
        assert (holding.requests, holding.spans) == (2, 7)
        assert holding.bytes <= limits.max_bytes


def test_what_is_being_sent_does_not_have_to_go_and_what_never_fits_costs_the_others_nothing(path: Path) -> None:
    limits = Limits(2 * (1000 + ROW_BYTES), 3600.0)
    with opened(path) as spool:
        spool.write(THERE, part(b"1" * 1000), limits)
        spool.write(THERE, part(b"2" * 1000), limits)
        sent = taken(spool)
        _, lost = spool.write(THERE, part(b"3" * 1000), limits)
        assert [one.id for one in lost] == [sent.id + 1]
        assert spool.write(THERE, part(b"4" * 9000), limits) == (None, [])
        assert [body[:1] for body in bodies(path)] == [b"1", b"3"]


def test_what_is_too_old_goes_and_is_named(path: Path) -> None:
    now = [1000.0]
    spool = Spool(path, clock=lambda: now[0])
    old, _ = spool.write(THERE, part(spans=5), Limits(1 << 20, 60.0))
    now[0] += 59
    assert spool.write(THERE, part(), Limits(1 << 20, 60.0))[1] == []
    now[0] += 2
    assert [tuple(one) for one in spool.take_over(THERE, Limits(1 << 20, 60.0))] == [(old, 5, DropReason.EXPIRED)]
    assert len(bodies(path)) == 1
    spool.close()


def test_the_file_shrinks_again_when_it_is_empty(path: Path) -> None:
    with opened(path) as spool:
        for _ in range(20):
            spool.write(THERE, part(os.urandom(500_000)), ROOMY)
        for _ in range(20):
            spool.remove(taken(spool))
    assert sum(file.stat().st_size for file in path.parent.iterdir()) < 200_000


@posix
def test_its_files_are_the_users_alone(path: Path) -> None:
    old = os.umask(0)
    try:
        with opened(path) as spool:
            spool.write(THERE, part(), ROOMY)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert set(modes) == {"spool.db", "spool.db-wal", "spool.db-shm", "spool.db-lock"}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no database" * 1000, "not a database"),
        ("CREATE TABLE cats (name TEXT)", "something else"),
        (f"PRAGMA application_id = {0x4F4C5350}; PRAGMA user_version = 99; CREATE TABLE t (x)", "newer otel-langfuse"),
    ],
)
def test_a_file_of_something_else_is_left_alone(path: Path, content: bytes | str, said: str) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(content)
    before = path.read_bytes()
    with opened(path) as spool, pytest.raises(SpoolError, match=said):
        spool.write(THERE, part(), ROOMY)
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "no" / "spool.db"):
        with pytest.raises(ConfigError, match="spool_path="):
            LangfuseSpanProcessor(**KEYS, base_url="http://localhost:1", spool_path=wrong)


def test_a_file_that_was_removed_is_made_anew(path: Path) -> None:
    with opened(path) as spool:
        spool.write(THERE, part(), ROOMY)
        for file in path.parent.glob("spool.db*"):
            file.unlink()
        spool.write(THERE, part(b"new"), ROOMY)
        assert taken(spool).body == b"new"
        assert spool.take(THERE) is None


def test_a_lock_of_another_process_is_waited_for_and_then_told_of(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_langfuse.spool._file.BUSY_TIMEOUT_S", 0.2)
    with opened(path) as spool:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            spool.write(THERE, part(), ROOMY)
            other.execute("BEGIN IMMEDIATE")
            begin = time.monotonic()
            with pytest.raises(SpoolError, match="locked"):
                spool.write(THERE, part(), ROOMY)
            assert time.monotonic() - begin < 0.2 + SLACK_S
            other.execute("ROLLBACK")
        spool.write(THERE, part(), ROOMY)


def test_clear_empties_it(path: Path) -> None:
    with opened(path) as spool:
        for spans in (1, 2, 3):
            spool.write(THERE, part(spans=spans), ROOMY)
        assert spool.clear() == {"otlp": 6}
        assert spool.holdings() == []


# -- owners: real processes --------------------------------------------------------------------------------------------

ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1", "LANGFUSE_FILTER": "all"}


def start(script: str, *arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRON,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextlib.contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


OWNER = """
    import sys
    from otel_langfuse.spool import *
    spool = spool_at(sys.argv[1])
    there = Destination("otlp", "http://host/v1/traces")
    for number in range(int(sys.argv[2])):
        spool.write(there, Part({}, b"%d" % number, 1), Limits(1 << 30, 3600.0))
    print("written")
    sys.stdin.read()
"""


@posix
def test_what_a_process_left_that_was_killed_is_taken_over_at_once_but_nothing_of_one_that_lives_or_is_stopped(
    path: Path,
) -> None:
    process = start(OWNER, path, 3)
    with ended(process), opened(path) as spool:
        assert line(process) == "written"
        for stop in (False, True):
            if stop:
                process.send_signal(signal.SIGSTOP)
            spool.take_over(THERE, ROOMY)
            assert spool.take(THERE) is None
            assert spool.holdings() == [Holding(THERE, 3, 3, 3 * (1 + ROW_BYTES), spool.holdings()[0].oldest_at, 3)]
        process.kill()
        process.wait()
        spool.take_over(THERE, ROOMY)
        assert [taken(spool).body for _ in range(3)] == [b"0", b"1", b"2"]


@posix
def test_a_forked_child_is_an_owner_of_its_own_and_keeps_its_parents_alive(path: Path) -> None:
    with opened(path) as spool:
        spool.write(THERE, part(b"parent"), ROOMY)
        held = taken(spool)
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                spool.write(THERE, part(b"child"), ROOMY)
                spool.take_over(THERE, ROOMY)
                code = 0 if taken(spool).body == b"child" and spool.take(THERE) is None else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        spool.put_back(held)
        assert taken(spool).body == b"parent"
        assert spool.take(THERE) is None
        spool.take_over(THERE, ROOMY)
        assert taken(spool).body == b"child", "it is gone now"


RIVAL = """
    import os, sys, time
    from otel_langfuse.spool import *
    spool = spool_at(sys.argv[1])
    there = Destination("otlp", "http://host/v1/traces")
    out = open(sys.argv[2], "a")
    while spool.holdings():
        spool.take_over(there, Limits(1 << 30, 3600.0))
        while (kept := spool.take(there)) is not None:
            print(os.getpid(), kept.body.decode(), file=out, flush=True)
            time.sleep(0.002)
            spool.remove(kept)
        time.sleep(0.01)
"""


def test_of_several_processes_exactly_one_gets_each_request_also_when_two_of_them_are_killed(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "got.txt"
    out.touch()
    writer = start(OWNER, path, 300)
    with ended(writer):
        assert line(writer) == "written"
    rivals = [start(RIVAL, path, out) for _ in range(3)]
    with ended(*rivals):
        dead: list[int] = []
        for count in (50, 150):
            assert until(lambda count=count: out.read_text().count("\n") >= count)  # type: ignore[misc]
            dead.append(int(out.read_text().splitlines()[-1].split()[0]))
            os.kill(dead[-1], signal.SIGKILL)
        for rival in rivals:
            rival.wait(10)
    got = [text.split() for text in out.read_text().splitlines()]
    assert len({pid for pid, _ in got}) == 3
    assert {int(body) for _, body in got} == set(range(300))
    in_flight = [next(body for pid, body in reversed(got) if int(pid) == one) for one in dead]
    twice = {body for body, count in Counter(body for _, body in got).items() if count > 1}
    assert twice <= set(in_flight), "of what it was sending when it was killed, nobody can know"
    assert bodies(path) == []


# -- an outage ---------------------------------------------------------------------------------------------------------


class Switch:
    """A step that answers 503, or as it is told, until it is switched on."""

    def __init__(self, off: Step = status(503), on: Step = status(200)) -> None:  # noqa: B008 - steps have no state
        self.on = False
        self._steps = (off, on)

    def __call__(self, exchange: Exchange) -> None:
        self._steps[self.on](exchange)


def to(server: Server | str, path: Path, **settings: Any) -> LangfuseSpanProcessor:
    url = server if isinstance(server, str) else server.url
    given = {**KEYS, "base_url": url, "spool_path": path, "spool_after": 0.2, "flush_interval": 0.02, "timeout": 2} | settings
    return LangfuseSpanProcessor(**given)


def end_spans(processor: LangfuseSpanProcessor, *names: str, **attributes: Any) -> None:
    for span in sdk_spans(names, **attributes):
        processor.on_end(span)


def balanced(processor: LangfuseSpanProcessor) -> bool:
    stats = processor.stats()
    return stats.started == stats.exported + stats.queued + stats.spooled + sum(stats.dropped.values())


def numbered(count: int, prefix: str = "s") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.mark.parametrize(
    "off", [status(503), status(401), status(429, Retry_After="1"), reset], ids=["503", "401", "429", "reset"]
)
def test_what_cannot_be_sent_for_a_while_goes_to_disk_and_arrives_when_sending_works_again(
    path: Path, off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "REFUSED_WAIT_S", 0.3)
    switch = Switch(off)
    with Server(switch) as server:
        processor = to(server, path, flush_at=10)
        end_spans(processor, *numbered(95))
        assert until(lambda: processor.stats().spooled == 95)
        assert processor.stats() == (95, 0, 0, {}, 95)
        assert len(server.received) < 15, "one of them asks, not each"
        switch.on = True
        assert processor.force_flush(8000), "it waits for what is on disk"
        assert sorted(server.names) == sorted(numbered(95)), "each once"
        assert processor.stats() == (95, 95, 0, {}, 0)
        end_spans(processor, "direct")
        assert processor.force_flush(2000)
        assert bodies(path) == []
        assert processor.shutdown()


def test_a_short_outage_touches_no_disk(path: Path) -> None:
    with Server(status(503), status(503), status(200)) as server:
        processor = to(server, path, spool_after=30)
        end_spans(processor, "a")
        assert processor.force_flush(5000)
        assert bodies(path) == []
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert not connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'requests'").fetchall()
        processor.shutdown()


def test_a_queue_that_is_half_full_goes_to_disk_at_once(path: Path) -> None:
    with Server(status(503)) as server:
        processor = to(server, path, spool_after=3600, max_queue_spans=100, flush_at=10)
        end_spans(processor, *numbered(40))
        assert until(lambda: len(server.received) > 0)
        time.sleep(0.2)
        assert processor.stats().spooled == 0
        end_spans(processor, *numbered(45))
        assert until(lambda: processor.stats().spooled == 85)
        assert processor.stats().dropped == {}
        processor.shutdown()


def test_flush_returns_early_and_false_when_nothing_can_arrive_in_time(path: Path) -> None:
    with Server(status(503, Retry_After="60")) as server:
        processor = to(server, path)
        end_spans(processor, "a")
        assert until(lambda: processor.stats().spooled == 1)
        begin = time.monotonic()
        assert processor.force_flush(5000) is False
        assert processor.shutdown() is False
        assert time.monotonic() - begin < SLACK_S, "nor does shutdown wait for that"
        assert processor.stats() == (1, 0, 0, {}, 1)


def test_what_the_disk_has_no_room_for_is_counted_as_that(path: Path) -> None:
    with Server(status(503)) as server:
        processor = to(server, path, spool_max_bytes=1 << 20, flush_at=5)
        for number in range(30):
            noise = random.Random(number).randbytes(50_000).hex()
            end_spans(processor, f"s{number}", noise=noise)
        processor.shutdown()
        stats = processor.stats()
        assert stats.dropped == {"spool_full": 30 - stats.spooled}
        assert 0 < stats.spooled < 30
        assert path.stat().st_size < 3 << 20
        assert balanced(processor)


def test_what_is_on_disk_for_too_long_is_counted_as_that(path: Path) -> None:
    with Server(status(503)) as server:
        processor = to(server, path, spool_max_age=1)
        end_spans(processor, "a", "b")
        assert until(lambda: processor.stats().spooled == 2)
        assert until(lambda: processor.stats() == (2, 0, 0, {"expired": 2}, 0))
        assert processor.force_flush(100) is False
        processor.shutdown()


def test_a_spool_that_cannot_be_written_leaves_all_as_it_is_without_one(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(b"no database" * 1000)
    switch = Switch()
    with Server(switch) as server:
        processor = to(server, path, spool_mode="always")
        end_spans(processor, "a", "b")
        time.sleep(0.4)
        assert processor.stats() == (2, 0, 2, {}, 0)
        assert "the spool cannot be" in caplog.text
        switch.on = True
        assert processor.force_flush(5000)
        assert server.names == ["a", "b"]
        processor.shutdown()


def test_a_spool_that_could_not_be_written_is_left_alone_for_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outbox, "BROKEN_S", 0.6)
    path.write_bytes(b"no database" * 1000)
    with Server(status(503)) as server:
        processor = to(server, path, spool_after=0)
        end_spans(processor, "a")
        assert until(lambda: len(server.received) >= 2)
        path.unlink()
        begin = time.monotonic()
        assert processor.stats().spooled == 0
        assert until(lambda: processor.stats().spooled == 1), "then it is used again"
        assert time.monotonic() - begin > 0.1
        processor.shutdown()


def test_what_is_kept_after_it_was_given_up_is_counted_once(path: Path) -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(**KEYS, base_url=server.url, spool_path=path)
        outbox = exporter._outgoing.outbox
        assert outbox is not None
        ledger = Ledger()
        sending = Sending(["a", "b"], ledger, Stop())
        ledger.start(2)
        sending.dropped(Drop(DropReason.SEND_FAILED, 1))
        made, _ = requests(from_sdk(sdk_spans(["a", "b"]))[0], exporter.target, now="", seen=set())
        assert outbox.put(made[0], sending)
        assert ledger.snapshot() == (2, 0, 0, {"send_failed": 1}, 1)
        outbox.begin(ledger)
        assert exporter.force_flush(5000)
        assert server.names == ["a", "b"]
        assert ledger.snapshot() == (2, 1, 0, {"send_failed": 1}, 0)
        exporter.shutdown()


def test_ingestion_requests_are_kept_as_well(path: Path) -> None:
    broken = [True]
    step = multi_status(lambda event: None)
    with Server(when(lambda _: broken[0], status(500), step)) as server:
        exporter = LangfuseIngestionExporter(**KEYS, base_url=server.url, spool_path=path, spool_after=0.1)
        processor = LangfuseSpanProcessor(
            exporter, flush_at=2, flush_interval=60.0
        )  # both in one request, however slow it is here
        end_spans(processor, "a", "b")
        assert until(lambda: processor.stats().spooled == 2)
        broken[0] = False
        assert processor.force_flush(5000)
        assert [event["body"].get("name") for event in server.received[-1].events] == ["a", "a", "b", "b"]
        assert processor.stats() == (2, 2, 0, {}, 0)
        processor.shutdown()


# -- what becomes of the file ------------------------------------------------------------------------------------------


def damage(path: Path) -> None:
    """What a disk may do to the middle of a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))


def remove(path: Path) -> None:
    """What somebody may do who needs room."""
    for beside in ("", "-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)


@pytest.mark.parametrize("harm", [damage, remove])
def test_what_was_in_a_file_that_is_damaged_or_removed_is_counted_and_a_new_one_is_begun(
    harm: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    switch = Switch(status(503))
    with Server(switch) as server:
        exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces", spool_path=path, spool_mode="always")
        processor = LangfuseSpanProcessor(exporter, flush_interval=0.02, flush_at=20)
        end_spans(processor, *numbered(400))
        assert until(lambda: processor.stats().spooled == 400)
        harm(path)
        assert until(lambda: processor.stats().dropped.get("send_failed", 0) > 0)
        end_spans(processor, "after")
        assert until(lambda: processor.stats().started == processor.stats().spooled + sum(processor.stats().dropped.values()))
        switch.on = True
        processor.force_flush(5000)
        now = processor.stats()
        assert now.started == 401 == now.exported + now.dropped["send_failed"], now
        assert "after" in server.names
        assert now.exported == len(set(server.names))
        assert "the spool was damaged or removed" in caplog.text
        assert path.with_name(path.name + ".damaged").exists() == (harm is damage)
        assert ("begun anew" in caplog.text) == (harm is damage)
        processor.shutdown()


def test_a_damaged_file_is_not_moved_by_who_only_looks_at_it(path: Path) -> None:
    with opened(path) as spool:
        for body in numbered(200):
            spool.write(THERE, part(body.encode() * 500), ROOMY)
    damage(path)
    with opened(path, create=False) as spool, pytest.raises(SpoolError, match="move it away, or use another file"):
        spool.holdings()
    assert path.exists()


def test_that_the_spool_cannot_be_written_is_said_beside_that_there_is_an_outage(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(status(503)) as server:
        processor = to(server, path)
        end_spans(processor, "a")
        assert until(lambda: processor.stats().spooled == 1)
        assert "what ends is kept in" in caplog.text
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE owners")
            connection.commit()
        remove(path)
        path.mkdir()
        end_spans(processor, "b")
        assert until(lambda: "the spool cannot be" in caplog.text)
        processor.shutdown(500)
        path.rmdir()


# -- what the destination says to what comes from disk -----------------------------------------------------------------


def test_a_bad_span_on_disk_is_found_and_its_neighbours_arrive(path: Path) -> None:
    def judged(exchange: Exchange) -> None:
        is_bad = any(name.startswith("bad") for name in exchange.received.names)
        status(400 if is_bad else 200)(exchange)

    switch = Switch(on=judged)
    with Server(switch) as server:
        processor = to(server, path)
        end_spans(processor, *numbered(20), "bad", *numbered(20, "t"))
        assert until(lambda: processor.stats().spooled == 41)
        switch.on = True
        assert processor.force_flush(5000) is False, "one was lost"
        assert sorted(server.names) == sorted([*numbered(20), *numbered(20, "t")])
        assert processor.stats() == (41, 40, 0, {"rejected": 1}, 0)
        assert processor.shutdown(), "it was told"


def test_what_is_too_large_on_disk_is_split_and_cut(path: Path) -> None:
    switch = Switch(on=when(lambda received: len(received.body) < 100_000, status(200), status(413)))
    with Server(switch) as server:
        processor = to(server, path)
        end_spans(processor, *numbered(9))
        end_spans(processor, "huge", input="x" * 1_000_000)
        assert until(lambda: processor.stats().spooled == 10)
        switch.on = True
        assert processor.force_flush(5000)
        assert sorted(server.names) == sorted(["huge", *numbered(9)])
        huge = next(span for received in server.taken for span in received.spans if span.name == "huge")
        assert "<cut: " in huge.attributes[0].value.string_value
        processor.shutdown()


def test_a_request_that_the_server_stumbles_over_does_not_hold_up_the_others(path: Path) -> None:
    switch = Switch(on=when(lambda received: "bad" in received.names, status(500), status(200)))
    with Server(switch) as server:
        processor = to(server, path, flush_at=1)
        end_spans(processor, "bad", *numbered(5))
        assert until(lambda: processor.stats().spooled == 6)
        switch.on = True
        assert until(lambda: sorted(server.names) == numbered(5))
        assert until(lambda: processor.stats() == (6, 5, 0, {"send_failed": 1}, 0)), "after a while it is given up"
        processor.shutdown()


def test_half_of_a_request_that_was_not_taken_stays_on_disk(path: Path) -> None:
    calls = [0]

    def fussy(exchange: Exchange) -> None:
        calls[0] += 1
        status({1: 413, 2: 200}.get(calls[0], 503))(exchange)

    switch = Switch(on=fussy)
    with Server(switch) as server:
        processor = to(server, path)
        end_spans(processor, *numbered(10))
        assert until(lambda: processor.stats().spooled == 10)
        switch.on = True
        assert until(lambda: processor.stats() == (10, 5, 0, {}, 5))
        processor.shutdown()
        assert server.names == numbered(5)
        calls[0] = -1000
        server._script = [status(200)]
        processor = to(server, path)
        end_spans(processor, "new")
        assert processor.force_flush(5000)
        assert until(lambda: len(server.names) == 11)
        assert sorted(server.names[5:]) == sorted(["new", *numbered(10)[5:]])
        assert until(lambda: processor.stats() == (6, 6, 0, {}, 0)), "what another left counts as started here"
        processor.shutdown()


# -- the end of a process, and the next one ----------------------------------------------------------------------------


def test_what_shutdown_cannot_send_in_time_is_on_disk(path: Path) -> None:
    switch = Switch(hang)
    with Server(switch) as server:
        processor = to(server, path, spool_after=3600, timeout=30, flush_at=10)
        end_spans(processor, *numbered(95))
        assert until(lambda: len(server.received) == 1), "the first batch is on its way"
        begin = time.monotonic()
        assert processor.shutdown(3000) is False, "of which a third is for the disk, so that a loaded machine finds the time"
        assert time.monotonic() - begin < 3 + SLACK_S
        assert processor.stats() == (95, 0, 0, {}, 95)
        end_spans(processor, "late")
        assert processor.stats() == (96, 0, 0, {"after_shutdown": 1}, 95)
        switch.on = True
        processor = to(server, path)
        end_spans(processor, "new")
        assert until(lambda: len(set(server.names)) == 96), (len(server.names), processor.stats())
        assert set(server.names) == {"new", *numbered(95)}
        processor.shutdown()


def test_a_server_that_hangs_only_when_the_process_ends_gets_half_of_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "KEEPING_SHARE", 0.0)  # so that it is the worker that has to see to it
    with Server(hang) as server:
        processor = to(server, path, spool_after=3600, timeout=30, flush_interval=60)
        end_spans(processor, *numbered(20))
        processor.shutdown(1000)
        assert len(server.received) == 1
        assert processor.stats() == (20, 0, 0, {}, 20)


def test_a_mask_that_hangs_keeps_no_shutdown_and_lets_nothing_onto_the_disk(path: Path) -> None:
    released = threading.Event()

    def mask(data: str) -> str:
        released.wait(10)
        return data

    with Server() as server:
        processor = to(server, path, mask=mask, flush_at=1)
        end_spans(processor, "a", "b")
        time.sleep(0.1)
        begin = time.monotonic()
        assert processor.shutdown(500) is False
        assert time.monotonic() - begin < 0.5 + SLACK_S
        assert processor.stats() == (2, 0, 0, {"send_failed": 2}, 0)
        assert not path.exists() or bodies(path) == []
        released.set()


APPLICATION = """
    import logging, os, sys, time
    logging.disable()
    from opentelemetry.sdk.trace import TracerProvider
    from otel_langfuse import LangfuseSpanProcessor, retry
    retry.FIRST_WAIT_S = 0.05
    url, path, mode, names = sys.argv[1:5]
    processor = LangfuseSpanProcessor(
        public_key="pk-lf-PUBLIC", secret_key="sk-lf-SECRET", base_url=url, spool_path=path, spool_mode=mode,
        spool_after=3600, flush_interval=0.1, timeout=1,
        mask=lambda data: data.replace("HIDDEN", "***"),
    )
    provider = TracerProvider()
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("tests")
    for name in names.split(","):
        tracer.start_span(name, attributes={"text": "HIDDEN"}).end()
"""
GO_ON = (
    APPLICATION
    + """
    number = 0
    print("ready")
    while True:
        tracer.start_span(f"n{number}").end()
        print(number, time.time())
        number += 1
        time.sleep(0.002)
"""
)


def run(script: str, *arguments: Any) -> float:
    begin = time.monotonic()
    process = start(script, *arguments)
    process.communicate(timeout=30)
    assert process.returncode == 0
    return time.monotonic() - begin


@pytest.mark.parametrize("mode", ["outage", "always"])
def test_a_program_that_ends_during_an_outage_leaves_its_spans_to_the_next_one(path: Path, mode: str) -> None:
    with closed_port() as url:
        assert run(APPLICATION, url, path, mode, "a,b,c") < 5
        assert len(bodies(path)) == 1
    with Server() as server:
        with contextlib.closing(sqlite3.connect(path)) as connection:  # the server moved to another port
            connection.execute("UPDATE destinations SET url = ?", (f"{server.url}/api/public/otel/v1/traces",))
            connection.commit()
        run(APPLICATION, server.url, path, mode, "d")
        assert sorted(server.names) == ["a", "b", "c", "d"]
        assert bodies(path) == []


def test_neither_credentials_nor_what_is_masked_are_ever_on_disk(path: Path) -> None:
    with Server(status(401)) as server:
        run(APPLICATION, server.url, path, "always", "a")
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
        with contextlib.closing(sqlite3.connect(path)) as connection:
            content += repr(connection.execute("SELECT * FROM requests JOIN destinations").fetchall()).encode()
        from_body = str(server.received[0].spans)
    basic = server.received[0].headers["authorization"].split()[1].encode()
    for secret in (b"sk-lf", b"pk-lf", b"SECRET", b"PUBLIC", basic, b"HIDDEN"):
        assert secret not in content
    assert "***" in from_body
    assert server.url.encode() in content


@posix
@pytest.mark.parametrize("answer", [hang, status(503), status(200)], ids=["hung", "503", "well"])
def test_a_process_that_is_killed_loses_at_most_what_ended_in_its_last_interval(path: Path, answer: Any) -> None:
    with Server(answer) as server:
        process = start(GO_ON, server.url, path, "always", "first")
        with ended(process):
            assert line(process) == "ready"
            killed_at = time.time() + 1.0
            said = ["-1 0"]
            while time.time() < killed_at or len(said) < 300:  # a busy machine gets there later
                said.append(line(process))
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed_at = time.time()
        safe = [f"n{number}" for number, at in (text.split() for text in said[1:]) if float(at) < killed_at - 0.1 - SLACK_S]
        assert len(safe) > 50
        before = list(server.names)
    with Server() as after:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE destinations SET url = ?", (f"{after.url}/api/public/otel/v1/traces",))
            connection.commit()
        run(APPLICATION, after.url, path, "always", "next")
        assert {*safe, "first", "next"} <= {*before, *after.names}
        assert bodies(path) == []


def test_with_always_all_is_on_disk_before_it_is_sent_and_gone_after(path: Path) -> None:
    on_disk: list[int] = []

    def look(exchange: Exchange) -> None:
        on_disk.append(len(bodies(path)))
        status(200)(exchange)

    with Server(look) as server:
        processor = to(server, path, spool_mode="always", flush_at=10)
        end_spans(processor, *numbered(100))
        assert processor.force_flush(5000)
        assert processor.stats() == (100, 100, 0, {}, 0)
        assert sorted(server.names) == sorted(numbered(100))
        assert min(on_disk) >= 1
        assert bodies(path) == []
        assert processor.shutdown()


def test_with_always_a_hung_server_holds_up_neither_writing_nor_a_flush(path: Path) -> None:
    with Server(hang) as server:
        processor = to(server, path, spool_mode="always", timeout=30, flush_at=10)
        end_spans(processor, *numbered(50))
        assert until(lambda: processor.stats().spooled == 50)
        begin = time.monotonic()
        assert processor.force_flush(300) is False
        assert time.monotonic() - begin < 0.3 + SLACK_S
        end_spans(processor, *numbered(10))
        assert until(lambda: processor.stats().spooled == 60)
        begin = time.monotonic()
        processor.shutdown(500)
        assert time.monotonic() - begin < 0.5 + SLACK_S
        assert processor.stats() == (60, 0, 0, {}, 60)


def test_with_always_several_requests_are_on_their_way_at_once(path: Path) -> None:
    gate = threading.Barrier(3, timeout=5)

    def meet(exchange: Exchange) -> None:
        gate.wait()
        status(200)(exchange)

    with Server(meet) as server:
        processor = to(server, path, spool_mode="always", flush_at=1, threads=3)
        end_spans(processor, "a", "b", "c")
        assert processor.force_flush(6000)
        assert sorted(server.names) == ["a", "b", "c"]
        processor.shutdown()


@posix
def test_a_forked_child_keeps_and_sends_its_own(path: Path) -> None:
    switch = Switch()
    with Server(switch) as server:
        processor = to(server, path)
        end_spans(processor, "parent")
        assert until(lambda: processor.stats().spooled == 1)
        pid = os.fork()
        if pid == 0:
            code = 1
            with contextlib.suppress(BaseException):
                end_spans(processor, "child")
                kept = until(lambda: processor.stats() == (1, 0, 0, {}, 1))
                processor.shutdown(500)
                code = 0 if kept and processor.stats() == (1, 0, 0, {}, 1) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        switch.on = True
        assert processor.force_flush(5000)
        assert until(lambda: sorted(server.names) == ["child", "parent"]), "the child is gone: its parent sends what it left"
        assert until(lambda: processor.stats() == (2, 2, 0, {}, 0))
        processor.shutdown()


def test_two_projects_on_one_server_do_not_get_each_others_spans(path: Path) -> None:
    with Server(status(503)) as server:
        processor = to(server, path)
        end_spans(processor, "mine")
        assert until(lambda: processor.stats().spooled == 1)
        processor.shutdown()
        server._script = [status(200)]
        other = to(server, path, public_key="pk-lf-OTHER")
        end_spans(other, "other")
        assert other.force_flush(2000)
        other.shutdown()
        assert server.names == ["other"]
        mine = to(server, path)
        end_spans(mine, "more")
        assert until(lambda: len(server.names) == 3)
        mine.shutdown()


def test_two_processors_of_one_process_share_the_file(path: Path) -> None:
    switch = Switch()
    with Server(switch) as server:
        processors = [to(server, path) for _ in range(2)]
        for number, processor in enumerate(processors):
            end_spans(processor, f"p{number}")
            assert until(lambda processor=processor: processor.stats().spooled == 1)  # type: ignore[misc]
        switch.on = True
        assert until(lambda: sorted(server.names) == ["p0", "p1"])
        assert until(lambda: not bodies(path))
        for processor in processors:
            processor.shutdown()
        assert sorted(server.names) == ["p0", "p1"], "each once"


def test_whatever_the_server_does_every_span_is_accounted_for_and_arrives_once(path: Path) -> None:
    dice = random.Random(3)
    last = [False]

    def whim(exchange: Exchange) -> None:
        step = dice.choice([status(200), status(503), status(500), reset, status(429, Retry_After="0"), status(413)])
        (status(200) if last[0] else step)(exchange)

    with Server(whim) as server:
        processor = to(server, path, spool_after=0.05, flush_at=7, threads=3)
        for start_at in range(0, 300, 30):
            end_spans(processor, *numbered(300)[start_at : start_at + 30])
            time.sleep(0.05)
            assert until(lambda: balanced(processor))
        last[0] = True
        processor.force_flush(8000)
        assert until(lambda: processor.stats().queued == processor.stats().spooled == 0)
        stats = processor.stats()
        assert (stats.started, sum(stats.dropped.values())) == (300, 300 - stats.exported)
        assert len(server.names) == len(set(server.names)) == stats.exported
        processor.shutdown()
        assert processor.stats() == stats


# -- behind the stock processors ---------------------------------------------------------------------------------------


def test_an_exporter_by_itself_keeps_what_does_not_arrive_within_its_timeout(path: Path) -> None:
    switch = Switch(status(503, Retry_After="1"))
    with Server(switch) as server:
        exporter = LangfuseOTLPExporter(**KEYS, base_url=server.url, spool_path=path, timeout=0.5)
        assert exporter.export(sdk_spans(["a", "b"])) is SpanExportResult.SUCCESS, "nothing was lost"
        assert exporter.stats() == (2, 0, 0, {}, 2)
        switch.on = True
        assert exporter.force_flush(4000)
        assert server.names == ["a", "b"]
        assert exporter.stats() == (2, 2, 0, {}, 0)
        exporter.shutdown()


@pytest.mark.parametrize("stock", [BatchSpanProcessor, SimpleSpanProcessor])
def test_write_ahead_behind_the_stock_processors(path: Path, stock: Any) -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces", spool_path=path, spool_mode="always")
        provider = provider_with(stock(exporter))
        for name in ("a", "b"):
            provider.get_tracer("t").start_span(name).end()
        provider.shutdown()
        assert server.names == ["a", "b"]
        assert exporter.stats() == (2, 2, 0, {}, 0)


def test_a_spool_is_given_to_who_sends(path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = LangfuseOTLPExporter(endpoint="http://localhost:1/v1/traces")
    with pytest.raises(ConfigError, match="expected at the exporter"):
        LangfuseSpanProcessor(exporter, spool_path=path)
    monkeypatch.setenv("LANGFUSE_SPOOL_PATH", str(path))
    LangfuseSpanProcessor(InMemorySpanExporter())
    assert "InMemorySpanExporter does not know of it" in caplog.text
