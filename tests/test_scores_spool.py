"""Scores in the spool: kept through outages, restarts and kills, counted, in one file with the spans. Real processes, files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import LangfuseIngestionExporter, LangfuseSpanProcessor, configure
from otel_langfuse.config import Config
from otel_langfuse.scores import Scores
from otel_langfuse.spool import ROW_BYTES
from servers import Exchange, Server, Step, closed_port, hang, multi_status, sdk_spans, status

pytestmark = pytest.mark.usefixtures("every_span", "hurries")

TRACE = "0af7651916cd43dd8448eb211c80319c"
KEYS = {"public_key": "pk-lf-PUBLIC", "secret_key": "sk-lf-SECRET"}
NOT_AN_ARRAY = status(400, b'{"message":"Invalid request data"}')
posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


class Langfuse:
    """Answers as a server of one kind does, or as one that is away."""

    def __init__(self, *, takes_arrays: bool = True) -> None:
        self.away = False
        self.takes_arrays = takes_arrays

    def __call__(self, exchange: Exchange) -> None:
        self._step(exchange.received.path, exchange.received.body)(exchange)

    def _step(self, path: str, body: bytes) -> Step:
        if self.away:
            return status(503)
        if path.endswith("/ingestion"):
            return multi_status(lambda _: None)
        return status(200) if self.takes_arrays or not body.startswith(b"[") else NOT_AN_ARRAY


def scored(server: Server) -> list[str]:
    """The names of the scores that arrived, by whatever way."""
    found = []
    for received in server.taken:
        document = None if "/otel/" in received.path else json.loads(received.body)
        if isinstance(document, dict) and "batch" in document:
            found += [event["body"]["name"] for event in document["batch"] if event["type"] == "score-create"]
        elif document is not None:
            found += [one["name"] for one in (document if isinstance(document, list) else [document])]
    return found


def spans_of(server: Server) -> list[str]:
    return [name for received in server.taken if "/otel/" in received.path for name in received.names]


def scores_to(server: Server | str, path: Path, *, mask: Any = None, **settings: Any) -> Scores:
    url = server if isinstance(server, str) else server.url
    given = {"spool_path": str(path), "spool_after": 0, "timeout": 1} | settings
    return Scores(Config.from_env({}, base_url=url, **KEYS, **given), mask=mask)


def give(scores: Scores, *names: str, **fields: Any) -> None:
    for name in names:
        assert scores.create(name, 1, trace_id=TRACE, **fields)


def rows(path: Path) -> list[tuple[str, int, str]]:
    query = "SELECT endpoint, spans, body FROM requests JOIN destinations ON destinations.id = destination ORDER BY requests.id"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [(endpoint, count, bytes(body).decode("utf-8", "replace")) for endpoint, count, body in connection.execute(query)]


def moved_to(path: Path, server: Server) -> None:
    """As if the server had come back at its old address."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for number, url in connection.execute("SELECT id, url FROM destinations").fetchall():
            route = url.split("/", 3)[3]
            connection.execute("UPDATE destinations SET url = ? WHERE id = ?", (f"{server.url}/{route}", number))
        connection.commit()


def until(condition: Callable[[], bool], timeout_s: float = 8.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# -- in one process ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("takes_arrays", [True, False], ids=["newest", "older"])
def test_what_an_outage_keeps_back_is_on_disk_and_arrives_when_it_is_over(path: Path, *, takes_arrays: bool) -> None:
    langfuse = Langfuse(takes_arrays=takes_arrays)
    langfuse.away = True
    with Server(langfuse) as server:
        scores = scores_to(server, path)
        give(scores, "a", "b")
        assert until(lambda: scores.stats().spooled == 2)
        assert not scores.flush(0.1)
        assert [row[:2] for row in rows(path)] == [("scores", 2)]
        langfuse.away = False
        assert scores.flush(8)
        assert scores.stats()[:5] == (2, 2, 0, {}, 0)
        assert sorted(scored(server)) == ["a", "b"]
        assert rows(path) == []
        scores.shutdown(1)


def test_with_always_all_is_on_disk_before_it_is_sent_and_gone_after(path: Path) -> None:
    on_disk: list[list[tuple[str, int, str]]] = []

    def look(exchange: Exchange) -> None:
        on_disk.append(rows(path))
        status(200)(exchange)

    with Server(look) as server:
        scores = scores_to(server, path, spool_mode="always")
        give(scores, "a")
        assert scores.flush(5)
        assert scores.shutdown(2)
    assert [row[:2] for row in on_disk[0]] == [("scores", 1)]
    assert rows(path) == []


def test_what_does_not_fit_makes_the_oldest_go_and_both_are_counted_where_they_came_from(path: Path) -> None:
    langfuse = Langfuse()
    langfuse.away = True
    with Server(langfuse) as server:
        scores = scores_to(server, path, spool_max_bytes=1 << 20)
        processor = LangfuseSpanProcessor(
            **KEYS, base_url=server.url, spool_path=path, spool_after=0, spool_max_bytes=1 << 20, flush_interval=0.05
        )
        give(scores, "old", comment="x" * 200_000)
        assert until(lambda: scores.stats().spooled == 1)
        given = 0
        while not scores.stats().dropped and given < 20:  # while it is tried again it stays, and a span goes
            (span,) = sdk_spans([f"s{given}"], noise=os.urandom(200_000).hex())
            processor.on_end(span)
            given += 1
            assert until(lambda: processor.stats().queued == 0)
        assert scores.stats()[:5] == (1, 0, 0, {"spool_full": 1}, 0)
        spans = processor.stats()
        assert spans.started == given
        assert spans.spooled + spans.dropped.get("spool_full", 0) == given
        assert sum(len(body) + ROW_BYTES for _, _, body in rows(path)) <= 1 << 20
        langfuse.away = False
        assert processor.force_flush(8_000) or spans.dropped
        processor.shutdown()
        scores.shutdown(1)


def test_scores_and_spans_of_the_ingestion_route_share_the_file_and_never_each_others_way(path: Path) -> None:
    langfuse = Langfuse()
    langfuse.away = True
    with Server(langfuse) as server:
        exporter = LangfuseIngestionExporter(**KEYS, base_url=server.url, spool_path=path, spool_after=0)
        processor = LangfuseSpanProcessor(exporter, flush_interval=0.05)
        scores = scores_to(server, path)
        for span in sdk_spans(["a"]):
            processor.on_end(span)
        give(scores, "helpful")
        assert until(lambda: processor.stats().spooled == scores.stats().spooled == 1)
        langfuse.away = False
        assert processor.force_flush(8_000)
        assert scores.flush(8)
        assert scored(server) == ["helpful"]
        assert {received.path.rsplit("/", 1)[1] for received in server.taken} == {"scores", "ingestion"}
        assert (processor.stats().exported, scores.stats().exported) == (1, 1)
        processor.shutdown()
        scores.shutdown(1)


def test_neither_keys_nor_what_is_masked_are_ever_on_disk(path: Path) -> None:
    with closed_port() as url:
        scores = scores_to(url, path, mask=lambda data: json.loads(json.dumps(data).replace("HIDDEN", "***")))
        give(scores, "a", comment="HIDDEN key sk-lf-aaaabbbb-cccc-dddd-eeee-ffff00001111", metadata={"who": "HIDDEN"})
        scores.shutdown(1)
        assert scores.stats().spooled == 1
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"***" in content
    for secret in (b"HIDDEN", b"sk-lf", b"pk-lf", b"SECRET", b"PUBLIC"):
        assert secret not in content


def test_a_mask_that_hangs_keeps_no_shutdown_and_lets_nothing_onto_the_disk(path: Path) -> None:
    release = threading.Event()
    try:
        with Server() as server:
            scores = scores_to(server, path, mask=lambda data: release.wait(20) and data, mask_timeout=60)
            give(scores, "a", comment="text")
            begin = time.monotonic()
            assert not scores.shutdown(1)
            assert time.monotonic() - begin < 5
            assert scores.stats().dropped == {"send_failed": 1}
            assert not path.exists() or rows(path) == []
    finally:
        release.set()


def test_a_spool_that_cannot_be_is_said_and_no_score_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setenv("LANGFUSE_SPOOL_PATH", str(tmp_path / "nowhere" / "spool.db"))
    with Server() as server:
        client = configure(InMemorySpanExporter(), tracer_provider=TracerProvider(), base_url=server.url, **KEYS)
        assert client.score("helpful", 1, trace_id=TRACE)
        assert client.flush(5)
        assert scored(server) == ["helpful"]
        client.shutdown()
    assert sum("are not kept: spool_path" in record.getMessage() for record in caplog.records) == 1


# -- processes ---------------------------------------------------------------------------------------------------------------

APPLICATION = """
    import sys, time
    from otel_langfuse import Langfuse, retry
    retry.FIRST_WAIT_S = 0.05
    url, path, mode, names = sys.argv[1:5]
    langfuse = Langfuse("pk-lf-PUBLIC", "sk-lf-SECRET", url, spool_path=path, spool_mode=mode, spool_after=3600, timeout=1,
                        flush_interval=0.1)
    for name in names.split(","):
        langfuse.score(trace_id="order-17", name=name, value=1, id=name)
"""
GO_ON = (
    APPLICATION
    + """
    number = 0
    print("ready", flush=True)
    while True:
        langfuse.score(trace_id="order-17", name=f"n{number}", value=1)
        print(number, time.time(), flush=True)
        number += 1
        time.sleep(0.002)
"""
)
ONLY_SPANS = """
    import sys
    from otel_langfuse import Langfuse
    url, path = sys.argv[1:3]
    langfuse = Langfuse("pk-lf-PUBLIC", "sk-lf-SECRET", url, spool_path=path)
    langfuse.span(name="next").end()
    langfuse.flush()
"""


def start(script: str, *arguments: Any) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)


def run(script: str, *arguments: Any) -> None:
    process = start(script, *arguments)
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.fixture
def left_behind(path: Path) -> Iterator[Path]:
    """A file in which a program that ended during an outage left three scores."""
    with closed_port() as url:
        run(APPLICATION, url, path, "outage", "a,b,c")
    assert [row[:2] for row in rows(path)] == [("scores", 3)]
    return path


def test_a_program_that_ends_during_an_outage_leaves_its_scores_to_the_next_one(left_behind: Path) -> None:
    with Server() as server:
        moved_to(left_behind, server)
        run(APPLICATION, server.url, left_behind, "outage", "d")
        assert sorted(scored(server)) == ["a", "b", "c", "d"]
        ids = [one["id"] for received in server.taken for one in json.loads(received.body)]
        assert sorted(ids) == ["a", "b", "c", "d"], "so that what is sent twice is one score"
        assert rows(left_behind) == []


def test_the_next_one_sends_them_although_it_gives_no_score_itself(left_behind: Path) -> None:
    with Server() as server:
        moved_to(left_behind, server)
        run(ONLY_SPANS, server.url, left_behind)
        assert spans_of(server) == ["next"]
        assert sorted(scored(server)) == ["a", "b", "c"]
        assert rows(left_behind) == []


@posix
@pytest.mark.parametrize("answer", [hang, status(200)], ids=["hung", "well"])
def test_a_process_that_is_killed_loses_at_most_what_was_given_in_its_last_interval(path: Path, answer: Step) -> None:
    with Server(answer) as server:
        process = start(GO_ON, server.url, path, "always", "first")
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            killed_at = time.time() + 1.0
            said: list[str] = []
            while time.time() < killed_at or len(said) < 200:  # a busy machine gets there later
                said.append(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        killed_at = time.time()
        safe = [f"n{number}" for number, at in map(str.split, said) if float(at) < killed_at - 0.1 - 0.4]
        assert len(safe) > 30
        before = scored(server)
    with Server() as after:
        moved_to(path, after)
        run(APPLICATION, after.url, path, "always", "next")
        assert {*safe, "first", "next"} <= {*before, *scored(after)}
        assert rows(path) == []


@posix
def test_a_forked_child_keeps_and_sends_its_own(path: Path) -> None:
    langfuse = Langfuse()
    langfuse.away = True
    with Server(langfuse) as server:
        scores = scores_to(server, path)
        give(scores, "parents")
        assert until(lambda: scores.stats().spooled == 1)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                give(scores, "childs")
                code = 0 if until(lambda: scores.stats()[:5] == (1, 0, 0, {}, 1)) else 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        langfuse.away = False
        assert until(lambda: sorted(scored(server)) == ["childs", "parents"])
        assert scores.flush(5)
        assert until(lambda: rows(path) == [])
        scores.shutdown(1)


# -- the command line --------------------------------------------------------------------------------------------------------


def test_the_command_line_shows_sends_and_clears_them(left_behind: Path) -> None:
    pytest.importorskip("click", reason="the command line is an extra")
    from click.testing import CliRunner  # noqa: PLC0415

    from otel_langfuse.cli import cli  # noqa: PLC0415

    def spool(*arguments: str, url: str = "http://127.0.0.1:9") -> str:
        environ = {"LANGFUSE_PUBLIC_KEY": KEYS["public_key"], "LANGFUSE_SECRET_KEY": "sk", "LANGFUSE_BASE_URL": url}
        done = CliRunner().invoke(cli, ["spool", *arguments], env=environ)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "/api/public/scores (project " in spool("status", str(left_behind))
    assert ": 3 scores in 1 requests" in spool("status", str(left_behind))
    (listed,) = json.loads(spool("status", "--json", str(left_behind)))
    assert (listed["endpoint"], listed["spans"], listed["scores"]) == ("scores", 0, 3)
    with Server() as server:
        moved_to(left_behind, server)
        assert "sent 3 scores" in spool("send", str(left_behind), url=server.url)
        assert sorted(scored(server)) == ["a", "b", "c"]
    assert spool("status", str(left_behind)) == "nothing is kept\n"
    with closed_port() as url:
        run(APPLICATION, url, left_behind, "outage", "e")
    assert spool("clear", "--yes", str(left_behind)) == "removed 0 spans and 1 scores\n"
