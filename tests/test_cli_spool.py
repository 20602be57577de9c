"""``otel-langfuse spool`` as its users have it, on files that real processors wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("click", reason="the command line is an extra")

from click.testing import CliRunner, Result

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor, retry
from otel_langfuse.cli import cli
from otel_langfuse.spool import Destination, Limits, Part, spool_at
from servers import Server, sdk_spans, status

pytestmark = pytest.mark.usefixtures("every_span")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "spool.db")


def run(*arguments: str, stdin: str = "", **environ: str) -> Result:
    done = CliRunner().invoke(cli, ["spool", *arguments], input=stdin, env=environ)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def keys(server: Server, public_key: str = "pk-lf-1") -> dict[str, str]:
    return {"LANGFUSE_PUBLIC_KEY": public_key, "LANGFUSE_SECRET_KEY": "sk-lf-1", "LANGFUSE_BASE_URL": server.url}


def kept(server: Server, path: str, *names: str, **settings: Any) -> None:
    """Leaves spans in the spool, as a process that ends during an outage."""
    given = {"public_key": "pk-lf-1", "secret_key": "sk-lf-1", "base_url": server.url, "spool_path": path} | settings
    exporter = LangfuseOTLPExporter(endpoint=settings["endpoint"], spool_path=path) if "endpoint" in settings else None
    processor = LangfuseSpanProcessor(exporter) if exporter else LangfuseSpanProcessor(**given)
    for span in sdk_spans(names):
        processor.on_end(span)
    processor.shutdown(1000)
    assert processor.stats().spooled == len(names)


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_status_says_what_is_kept_for_whom(path: str) -> None:
    with Server(status(503)) as server:
        kept(server, path, "a", "b")
        kept(server, path, "c", endpoint=f"{server.url}/v1/traces")
        done = run("status", path)
        assert done.exit_code == 0
        lines = done.stdout.splitlines()
        assert len(lines) == 2
        assert f"{server.url}/api/public/otel/v1/traces (project " in lines[0]
        assert ": 2 spans in 1 requests, 0.0 MB, the oldest 0 seconds old" in lines[0]
        assert f"{server.url}/v1/traces: 1 spans" in lines[1]
        listed = json.loads(run("status", "--json", path).stdout)
    assert [(one["spans"], one["requests"], one["owned_requests"]) for one in listed] == [(2, 1, 0), (1, 1, 0)]
    assert (listed[0]["endpoint"], listed[1]["project"]) == ("otlp", None)
    assert listed[0]["oldest"].endswith("+00:00")


def test_send_sends_what_is_for_langfuse_and_says_what_is_not(path: str) -> None:
    with Server(status(503)) as server:
        kept(server, path, "a", "b")
        kept(server, path, "c", endpoint=f"{server.url}/v1/traces")
        server._script = [status(200)]
        done = run("send", path, **keys(server))
        assert done.exit_code == 0
        assert server.names == ["a", "b"]
        assert "sent 2 spans" in done.stdout
        assert f"for others: {server.url}/v1/traces: 1 spans" in done.stdout
        assert server.taken[0].headers["authorization"].startswith("Basic ")
        again = run("send", path, **keys(server))
        assert again.exit_code == 0
        assert "nothing is kept for this destination" in again.stdout


def test_send_to_a_collector_with_its_headers_and_none_of_langfuses(path: str) -> None:
    with Server(status(503)) as server:
        kept(server, path, "c", endpoint=f"{server.url}/v1/traces")
        server._script = [status(200)]
        done = run("send", "--endpoint", f"{server.url}/v1/traces", "--header", "x-key=SECRET", path, **keys(server))
        assert done.exit_code == 0
        assert server.names == ["c"]
        assert server.taken[0].headers["x-key"] == "SECRET"
        assert "authorization" not in server.taken[0].headers
        assert "SECRET" not in done.output


def test_send_says_what_is_left_when_the_destination_takes_no_more(path: str) -> None:
    with Server(status(503)) as server:
        kept(server, path, "a")
        done = run("send", path, **keys(server))
        assert done.exit_code == 1
        assert "sent 0 spans" in done.stdout
        assert "left: " in done.stdout


def test_after_a_change_of_keys_what_was_kept_before_is_sent_only_when_that_is_asked_for(path: str) -> None:
    with Server(status(503)) as server:
        kept(server, path, "a")
        server._script = [status(200)]
        done = run("send", path, **keys(server, "pk-lf-2"))
        assert server.names == []
        assert "for others" in done.stdout
        done = run("send", "--any-key", path, **keys(server, "pk-lf-2"))
        assert (done.exit_code, server.names) == (0, ["a"])
        assert server.taken[0].headers["x-langfuse-public-key"] == "pk-lf-2"


OWNER = """
import sys
from otel_langfuse.spool import *
spool_at(sys.argv[1]).write(Destination("otlp", sys.argv[2], project_of("pk-lf-1")), Part({}, b"x", 7), Limits(1 << 30, 3600.0))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks of POSIX")
def test_what_a_running_process_has_kept_is_left_to_it(path: str) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with Server() as server:
        url = f"{server.url}/api/public/otel/v1/traces"
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, path, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
            assert "1 of the requests belong to running processes" in run("status", path).stdout
            done = run("send", path, **keys(server))
            assert (done.exit_code, server.received) == (1, [])
        finally:
            process.kill()
            process.communicate()


def test_clear_asks_first(path: str) -> None:
    with Server(status(503)) as server:
        kept(server, path, "a", "b")
    done = run("clear", path, stdin="n\n")
    assert done.exit_code == 1
    assert json.loads(run("status", "--json", path).stdout)[0]["spans"] == 2
    done = run("clear", path, stdin="y\n")
    assert done.exit_code == 0
    assert "removed 2 spans" in done.stdout
    assert run("status", path).stdout == "nothing is kept\n"
    assert run("clear", "--yes", path).stdout == "removed 0 spans\n"


@pytest.mark.parametrize("command", [["status"], ["send"], ["clear", "--yes"], ["clear"]])
def test_a_file_that_is_not_there_or_is_none_of_ours_is_told_and_nothing_is_made(
    command: list[str], path: str, tmp_path: Path
) -> None:
    with Server() as server:
        done = run(*command, path, **keys(server))
        assert done.exit_code == 2
        assert "no such file" in done.stderr
        assert list(tmp_path.iterdir()) == []
        Path(path).write_text("no database" * 1000)
        done = run(*command, path, **keys(server))
        assert done.exit_code == 2
        assert "not a database" in done.stderr


def test_send_needs_keys_or_an_endpoint(path: str) -> None:
    with Server(status(503)) as server:
        kept(server, path, "a")
    done = run("send", path)
    assert done.exit_code == 2
    assert "set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY" in done.stderr
    done = run("send", path, LANGFUSE_BASE_URL="sqlite:///x.db")
    assert done.exit_code == 2
    assert run("send", "--header", "a=b", path).exit_code == 2
    assert run("send", "--endpoint", "http://h/v1/traces", "--header", "a", path).exit_code == 2


def test_hostile_text_in_a_file_does_not_reach_the_terminal(path: str) -> None:
    spool = spool_at(path)
    spool.write(Destination("otlp", "http://host/\x1b[31mred\nline"), Part({}, b"x", 1), Limits(1 << 20, 60.0))
    spool.close()
    shown = run("status", path).stdout
    assert "\x1b" not in shown
    assert shown.count("\n") == 1
