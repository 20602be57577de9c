"""Under other people's process managers every span of every worker arrives, through restarts and SIGTERM (`make processes`)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from servers import Server

pytestmark = pytest.mark.usefixtures("every_span")

APPLICATION = """
import os, time
from otel_langfuse import LangfuseOTLPExporter, configure
from opentelemetry import trace

langfuse = configure(LangfuseOTLPExporter(endpoint=os.environ["ENDPOINT"]), flush_interval=60)
tracer = trace.get_tracer("tests")
tracer.start_span(f"loaded in {os.getpid()}").end()

def work(name):
    with tracer.start_as_current_span(name):
        return str(os.getpid()).encode()

def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [work(environ["PATH_INFO"])]

async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = work(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serving(path: Path, collector: Server, port: int, *command: str) -> Iterator[subprocess.Popen[str]]:
    (path / "application.py").write_text(APPLICATION)
    with (path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=path,
            stdout=log,
            stderr=log,
            text=True,
            env={**os.environ, "ENDPOINT": f"{collector.url}/v1/traces", "HOME": str(path)},  # where gunicorn leaves a socket
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:  # noqa: PERF203 - it is the loop's purpose
                assert process.poll() is None, (path / "log").read_text()
                assert time.monotonic() < deadline, (path / "log").read_text()
                time.sleep(0.05)
            else:
                break
        yield process
    finally:
        process.kill()
        process.wait()


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def requests_and_sigterm(process: subprocess.Popen[str], port: int, count: int = 40) -> tuple[set[str], float]:
    """The workers that answered, and how long the end took."""
    pids = {get(port, f"/{i}") for i in range(count)}
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    return pids, time.monotonic() - begin


def work_of(collector: Server) -> list[str]:
    return sorted((name for name in collector.names if name.startswith("/")), key=lambda name: int(name[1:]))


needs = {
    name: pytest.mark.skipif(find_spec(name) is None, reason="make processes installs it")
    for name in ("gunicorn", "uvicorn", "celery")
}


@needs["gunicorn"]
@pytest.mark.parametrize("preload", [True, False], ids=["preload", "each loads"])
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
def test_gunicorn(worker: str, preload: bool, tmp_path: Path) -> None:
    port = free_port()
    options = ["--workers", "2", "--threads", "4" if worker == "gthread" else "1", "--bind", f"127.0.0.1:{port}", "-k", worker]
    options += ["--preload"] * preload + ["--max-requests", "15"]
    with Server() as collector, serving(tmp_path, collector, port, "gunicorn", *options, "application:wsgi") as process:
        time.sleep(1.0 if worker == "gevent" else 0.2)  # gunicorn waits for a worker that gets SIGTERM while it boots
        pids, seconds = requests_and_sigterm(process, port)
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert seconds < 5
        assert len(pids) > 2 or worker == "gevent", "workers were replaced meanwhile"
        assert work_of(collector) == [f"/{i}" for i in range(40)]
        loaded = [name for name in collector.names if name.startswith("loaded")]
        assert len(loaded) == len(set(loaded))
        assert len(loaded) == 1 if preload else len(loaded) >= len(pids)


@needs["uvicorn"]
@pytest.mark.parametrize("workers", [1, 2])
def test_uvicorn(workers: int, tmp_path: Path) -> None:
    port = free_port()
    options = ["--port", str(port), "--log-level", "warning", "--workers", str(workers)]
    with Server() as collector, serving(tmp_path, collector, port, "uvicorn", *options, "application:asgi") as process:
        time.sleep(0.5 * (workers - 1))
        _, seconds = requests_and_sigterm(process, port)
        assert seconds < 8
        assert work_of(collector) == [f"/{i}" for i in range(40)], (tmp_path / "log").read_text()


TASKS = """
import os
from celery import Celery

app = Celery("tasks", broker="filesystem://", backend="file://" + os.getcwd())
app.conf.broker_transport_options = {name: os.path.join(os.getcwd(), "queue") for name in ("data_folder_in", "data_folder_out")}
app.conf.broker_transport_options["control_folder"] = os.path.join(os.getcwd(), "control")
app.conf.worker_max_tasks_per_child = 5
app.conf.broker_connection_retry_on_startup = True

import application

@app.task
def work(name):
    return application.work(name).decode()
"""

SEND = """
import tasks
results = [tasks.work.delay(f"/{i}") for i in range(20)]
pids = {result.get(timeout=30) for result in results}
print(len(pids))
"""


@needs["celery"]
def test_celery_prefork(tmp_path: Path) -> None:
    for folder in ("queue", "control"):
        (tmp_path / folder).mkdir()
    (tmp_path / "application.py").write_text(APPLICATION)
    (tmp_path / "tasks.py").write_text(TASKS)
    with Server() as collector, (tmp_path / "log").open("w") as log:
        environ = {**os.environ, "ENDPOINT": f"{collector.url}/v1/traces"}
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tasks",
            "worker",
            "--pool",
            "prefork",
            "--concurrency",
            "2",
            "-l",
            "INFO",
        ]
        worker = subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=log, stderr=log)
        try:
            sender = [sys.executable, "-c", textwrap.dedent(SEND)]
            done = subprocess.run(sender, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr + (tmp_path / "log").read_text()
            assert int(done.stdout) >= 4, "children were replaced meanwhile"
            begin = time.monotonic()
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)
            assert time.monotonic() - begin < 10
        finally:
            worker.kill()
            worker.wait()
        assert work_of(collector) == [f"/{i}" for i in range(20)], (tmp_path / "log").read_text()
