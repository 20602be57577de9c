"""Where spans go, and what goes wrong there: scripted servers, real nginx, a real collector. All on loopback."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from grpc_servers import GrpcServer
from servers import Exchange, Server, Step, multi_status, status

ROOT = Path(__file__).parents[2]


class Site(NamedTuple):
    """``names`` of the spans that arrived where they should, ``requests`` that came anywhere here.

    ``begins`` is told the number of each process before it starts.
    """

    url: str
    names: Callable[[], list[str]]
    requests: Callable[[], int]
    begins: Callable[[int], object] = lambda _: None


Place = Callable[[], AbstractContextManager[Site]]


def http(*script: Step, refused: int = 0) -> Place:
    """A scripted server. ``refused``: of the spans of each request that it took, so many count as not taken."""

    @contextmanager
    def place() -> Iterator[Site]:
        with Server(*script) as server:
            yield Site(f"{server.url}/v1/traces", lambda: kept(server.names, refused), lambda: len(server.received))

    return place


def kept(names: list[str], refused: int) -> list[str]:
    """All but the first few."""
    return names[refused:]


def grpc(*script: Any, refused: int = 0, max_bytes: int | None = None) -> Place:
    """A scripted gRPC server."""

    @contextmanager
    def place() -> Iterator[Site]:
        with GrpcServer(*script, max_bytes=max_bytes) as server:
            yield Site(server.url, lambda: kept(server.names, refused), lambda: len(server.received))

    return place


def ingestion(judge: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Place:
    """Langfuse's ingestion route, which refuses what ``judge`` finds fault with; names are those of observations."""

    @contextmanager
    def place() -> Iterator[Site]:
        with Server(multi_status(judge)) as server:

            def names() -> list[str]:
                events = [event for received in server.taken for event in received.events]
                return [event["body"]["name"] for event in events if event["type"] != "trace-create" and judge(event) is None]

            yield Site(server.url, names, lambda: len(server.received))

    return place


@contextmanager
def never_accepts() -> Iterator[Site]:
    """Where connecting hangs: the queue of connections that nobody accepts is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces", list, lambda: 0)


def down_for(seconds: float, *script: Step, of_run: int = 0) -> Place:
    """Nobody listens, until so many seconds after the process of that number began; then a server does."""

    @contextmanager
    def place() -> Iterator[Site]:
        with Server(*script, listens=False) as server, ExitStack() as stack:

            def begins(number: int) -> None:
                if number == of_run:
                    stack.enter_context(later(seconds, server.listen))

            yield Site(f"{server.url}/v1/traces", lambda: server.names, lambda: len(server.received), begins)

    return place


@contextmanager
def later(seconds: float | None, action: Callable[[], object]) -> Iterator[None]:
    """Does something after a while, unless all is over by then; never, for None."""
    timer = threading.Timer(seconds or 0.0, action)
    if seconds is not None:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def until_s(seconds: float, before: Step, after: Step) -> Step:
    """One step for so many seconds from the first request on, then another."""

    def step(exchange: Exchange) -> None:
        elapsed_s = exchange.received.at - exchange.handler.server.received[0].at
        (before if elapsed_s < seconds else after)(exchange)

    return step


# -- nginx ---------------------------------------------------------------------------------------------------------------------

_CONFIGURATION = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off; client_max_body_size 64m;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    limit_req_zone $binary_remote_addr zone=all:1m rate=30r/m;
    server {{
        listen 127.0.0.1:{port};
        location /ok {{ proxy_pass {upstream}; }}
        location /small {{ client_max_body_size 4m; proxy_pass {upstream}; }}
        location /limited {{ limit_req zone=all; limit_req_status 429; error_page 429 = @later; proxy_pass {upstream}; }}
        location @later {{ add_header Retry-After {retry_after} always; return 429; }}
        location /down {{ if (-f {folder}/down) {{ return 503; }} error_page 503 = @down; proxy_pass {upstream}; }}
        location @down {{ add_header Retry-After {retry_after} always; return 503; }}
        location /auth {{ auth_basic "spans"; auth_basic_user_file {folder}/users; proxy_pass {upstream}; }}
        location /dead {{ proxy_pass {dead}; }}
        location /redir {{ return 302 {elsewhere}/v1/traces; }}
    }}
}}
"""


@cache
def nginx_program() -> str | None:
    """Where nginx is: in this environment, or unpacked by ``make faults``; None if nowhere, or if it does not run."""
    unpacked = ROOT / ".nginx/usr/sbin/nginx"
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    program = found or (str(unpacked) if unpacked.exists() else None)
    if program is None or subprocess.run([program, "-v"], capture_output=True, check=False).returncode:
        return None
    return program


def nginx(location: str, *script: Step, comes_back_s: float | None = None, retry_after: int = 1) -> Place:
    """A server behind a real nginx. ``comes_back_s``: seconds for which ``/down`` and ``/dead`` do not work."""

    @contextmanager
    def place() -> Iterator[Site]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "users").write_text("somebody:{PLAIN}else\n")
            (folder / "down").touch()
            behind = stack.enter_context(Server(*script))
            dead = stack.enter_context(Server(*script, listens=False))
            elsewhere = stack.enter_context(Server(status(200)))
            port = stack.enter_context(_nginx(folder, behind.url, dead.url, elsewhere.url, retry_after))
            stack.enter_context(later(comes_back_s, (folder / "down").unlink))
            stack.enter_context(later(comes_back_s, dead.listen))
            here = (behind, dead)
            yield Site(
                f"http://127.0.0.1:{port}{location}/v1/traces",
                lambda: [name for server in here for name in server.names],
                lambda: sum(len(server.received) for server in (*here, elsewhere)),
            )

    return place


@contextmanager
def _nginx(folder: Path, upstream: str, dead: str, elsewhere: str, retry_after: int) -> Iterator[int]:
    program = nginx_program()
    assert program is not None
    port = free_port()
    values = {"folder": folder, "port": port, "upstream": upstream, "dead": dead, "elsewhere": elsewhere}
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(**values, retry_after=retry_after))
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


# -- a collector ---------------------------------------------------------------------------------------------------------------


@cache
def rotel_program() -> str | None:
    """The collector's program, if it is installed and runs: its wheel wants the interpreter's shared library."""
    found = importlib.util.find_spec("rotel")
    program = Path(found.origin).with_name("rotel-agent") if found is not None and found.origin else None
    if program is None or subprocess.run([program, "--version"], capture_output=True, check=False).returncode:
        return None
    return str(program)


def rotel() -> Place:
    """A real collector, over gRPC, that hands on to a server of ours what it took."""

    @contextmanager
    def place() -> Iterator[Site]:
        program = rotel_program()
        assert program is not None
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            behind = stack.enter_context(Server())
            http_port, grpc_port = free_port(), free_port()
            command = [
                *(program, "start", "--batch-timeout", "100ms"),
                *("--otlp-http-endpoint", f"127.0.0.1:{http_port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc_port}"),
                *("--exporter", "otlp", "--otlp-exporter-endpoint", behind.url, "--otlp-exporter-protocol", "http"),
                *("--pid-file", str(folder / "pid"), "--log-file", str(folder / "log")),
            ]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
            try:
                _wait_for(grpc_port, process)
                yield Site(f"http://127.0.0.1:{grpc_port}", lambda: _settled(behind), lambda: len(behind.received))
            finally:
                process.terminate()
                process.wait(10)

    return place


def _settled(server: Server) -> list[str]:
    """What has arrived when nothing more has for a second."""
    count = -1
    while count != len(server.received):
        count = len(server.received)
        time.sleep(1.0)
    return server.names


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:  # noqa: PERF203
            assert process.poll() is None, "the program ended"
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.02)
        else:
            return
