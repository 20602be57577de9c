"""Where gevent has made greenlets of threads, the worker is a thread all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from servers import Server, hang

pytestmark = pytest.mark.usefixtures("every_span")

pytest.importorskip("gevent", reason="make processes installs it")

PATCHED = """
import gevent.monkey
gevent.monkey.patch_all()
"""

PROGRAM = """
import gevent, os, signal, sys, threading, time
from otel_langfuse import LangfuseOTLPExporter, configure
from opentelemetry import trace

langfuse = configure(LangfuseOTLPExporter(endpoint=os.environ["ENDPOINT"]))
tracer = trace.get_tracer("tests")

def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
"""


def run(path: Path, program: str, server: Server, patch: str = PATCHED, **environ: str) -> subprocess.CompletedProcess[str]:
    file = path / "program.py"
    file.write_text(patch + PROGRAM + textwrap.dedent(program))
    settings = {"LANGFUSE_FLUSH_INTERVAL": "0.1", "ENDPOINT": f"{server.url}/v1/traces", **environ}
    return subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **settings},
    )


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


def test_spans_are_delivered_while_the_application_computes(tmp_path: Path) -> None:
    program = """
        tracer.start_span("a").end()
        compute(1.5)
        print(time.monotonic())
    """
    with Server() as server:
        (end,) = told(run(tmp_path, program, server))
        assert server.names == ["a"]
        assert server.received[0].at < float(end) - 0.5


def test_spans_are_delivered_by_grpc_while_the_application_computes(tmp_path: Path) -> None:
    grpc_servers = pytest.importorskip("grpc_servers", reason="grpcio is not installed")
    program = """
        langfuse.shutdown()
        exporter = LangfuseOTLPExporter(endpoint=os.environ["GRPC"], protocol="grpc")
        langfuse = configure(exporter, flush_interval=0.1)
        tracer.start_span("a").end()
        compute(1.5)
        print(langfuse.stats().exported)
    """
    with Server() as server, grpc_servers.GrpcServer() as collector:
        assert told(run(tmp_path, program, server, GRPC=collector.url)) == ["1"]
        assert [call.names for call in collector.taken] == [["a"]]


@pytest.mark.parametrize("patch", ["", PATCHED], ids=["patched later", "patched first"])
def test_other_greenlets_go_on_while_one_waits_for_a_flush(patch: str, tmp_path: Path) -> None:
    program = """
        gevent.monkey.patch_all()
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                gevent.sleep(0.01)

        gevent.spawn(tick)
        tracer.start_span("a").end()
        begin = time.monotonic()
        flushed = langfuse.flush(0.5)
        took = time.monotonic() - begin
        print(flushed, 0.45 < took < 1.5, len(ticks) > 10)
        langfuse.shutdown(0)
    """
    with Server(hang) as server:
        assert told(run(tmp_path, program, server, "import gevent.monkey\n" + patch)) == ["False", "True", "True"]


def test_a_timeout_of_gevents_ends_a_flush_and_harms_nothing(tmp_path: Path) -> None:
    program = """
        tracer.start_span("a").end()
        try:
            with gevent.Timeout(0.2):
                langfuse.flush(30)
        except gevent.Timeout:
            print("timed out", langfuse.stats().started)
        langfuse.shutdown(0)
        print(langfuse.stats().dropped)
    """
    with Server(hang) as server:
        assert told(run(tmp_path, program, server)) == ["timed", "out", "1", "{'send_failed':", "1}"]


@pytest.mark.parametrize("threads", [1, 4])
def test_spans_of_many_greenlets_are_all_delivered_and_counted_by_threads(threads: int, tmp_path: Path) -> None:
    program = """
        def work(i):
            for j in range(10):
                with tracer.start_as_current_span(f"{i}"):
                    gevent.sleep(0)

        gevent.joinall([gevent.spawn(work, i) for i in range(500)])
        print(langfuse.flush(20), langfuse.stats().exported, len(langfuse.processor._ledger._cells) < 10)
    """
    with Server() as server:
        done = run(tmp_path, program, server, LANGFUSE_THREADS=str(threads), LANGFUSE_FLUSH_AT="50")
        assert told(done) == ["True", "5000", "True"]
        assert len(server.names) == 5000


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("gevent.sleep(0.01); sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGTERM); gevent.sleep(30)", -signal.SIGTERM),
        ("gevent.spawn_later(0.1, os.kill, os.getpid(), signal.SIGTERM); gevent.sleep(30)", -signal.SIGTERM),
    ],
)
def test_a_patched_program_delivers_however_it_ends(end: str, status: int, tmp_path: Path) -> None:
    with Server() as server:
        begin = time.monotonic()
        done = run(tmp_path, f"tracer.start_span('a').end()\n{end}", server, LANGFUSE_FLUSH_INTERVAL="60")
        assert done.returncode == status, done.stderr
        assert server.names == ["a"]
        assert time.monotonic() - begin < 5


def test_a_forked_child_of_a_patched_process_delivers_its_own(tmp_path: Path) -> None:
    program = """
        tracer.start_span("parent").end()
        pid = os.fork()
        if pid == 0:
            tracer.start_span("child").end()
            os._exit(0 if langfuse.stats().started == 1 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    with Server() as server:
        assert told(run(tmp_path, program, server, LANGFUSE_FLUSH_INTERVAL="60")) == ["0"]
        assert sorted(server.names) == ["child", "parent"]


def test_the_local_store_is_written_while_the_application_computes(tmp_path: Path) -> None:
    program = """
        from otel_langfuse import LangfuseSpanProcessor
        path = os.environ["STORE"]
        trace.get_tracer_provider().add_span_processor(LangfuseSpanProcessor(base_url=f"sqlite:///{path}"))
        tracer.start_span("a").end()
        compute(1.5)
        print(os.path.getsize(path) > 0)
    """
    with Server() as server:
        assert told(run(tmp_path, program, server, STORE=str(tmp_path / "traces.db"))) == ["True"]
