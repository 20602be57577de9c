"""However a process begins and ends, its spans arrive, once, and its end keeps its bound.

Servers of other people (gunicorn, Celery, uvicorn, gevent) are in tests/processes.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry import trace

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor, batch, ending
from servers import Server, hang, late, provider_with, status

pytestmark = [pytest.mark.usefixtures("every_span"), pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, no signals")]

faulthandler.register(signal.SIGUSR1, all_threads=True)
ROOT = Path(__file__).parents[1]
SLACK_S = 1.5  # of a noisy machine
LONG_S = 60.0


def processor_to(server: Server, **settings: Any) -> LangfuseSpanProcessor:
    return LangfuseSpanProcessor(
        LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces"), **{"flush_interval": LONG_S, **settings}
    )


def tracer_to(server: Server, **settings: Any) -> tuple[LangfuseSpanProcessor, trace.Tracer]:
    processor = processor_to(server, **settings)
    return processor, provider_with(processor).get_tracer("tests")


class Ended(NamedTuple):
    """How a child ended: its status, how long it took to end once it began to, and its account, if it could still write it."""

    status: int
    seconds: float
    stats: list[Any]

    @property
    def is_balanced(self) -> bool:
        started, exported, queued, dropped, *spooled = self.stats
        return bool(started == exported + queued + sum(dropped.values()) + sum(spooled))


class Child:
    """A forked child that calls a function and then ends as that says; at the latest by an exit status of 99."""

    def __init__(self, main: Callable[[], object], processor: LangfuseSpanProcessor | None = None) -> None:
        self._ready, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            exit_now = ending._originals.get("_exit", os._exit)
            with suppress(BaseException):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)

                def tell_and_exit(code: int) -> None:
                    if processor is not None:
                        os.write(write, json.dumps(processor.stats()).encode())
                    exit_now(code)

                ending._originals["_exit"] = tell_and_exit
                os.write(write, b"\n")
                main()
            exit_now(99)
        os.close(write)
        os.read(self._ready, 1)

    def end(self, signum: int | None = None) -> Ended:
        begin = time.monotonic()
        if signum is not None:
            os.kill(self.pid, signum)
        pid, status = 0, 0
        while not pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            time.sleep(0.002)
            if not pid and time.monotonic() - begin > 15:
                os.kill(self.pid, signal.SIGUSR1)  # shows where it hangs
                time.sleep(0.2)
                os.kill(self.pid, signal.SIGKILL)
        seconds = time.monotonic() - begin
        with os.fdopen(self._ready) as told:
            return Ended(os.waitstatus_to_exitcode(status), seconds, json.loads(told.read() or "[]"))


# -- fork and os._exit -------------------------------------------------------------------------------------------------


def test_a_child_that_ends_by_os_exit_delivers_its_own_spans_and_none_of_its_parents() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)
        for i in range(3):
            tracer.start_span(f"parent {i}").end()

        def main() -> None:
            for i in range(700):  # a full batch, and a rest that waits
                tracer.start_span(f"child {i}").end()
            os._exit(7)

        ended = Child(main, processor).end()
        assert ended.status == 7
        assert ended.stats[:4] == [700, 700, 0, {}]
        assert sorted(server.names) == sorted(f"child {i}" for i in range(700))
        assert processor.stats()[:3] == (3, 0, 3)
        assert processor.force_flush(), "the parent goes on as if nothing had been"
        assert len(server.names) == 703


def test_children_of_children_deliver_as_well() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)

        def grandchild() -> None:
            tracer.start_span("grandchild").end()
            os._exit(0)

        def child() -> None:
            tracer.start_span("child").end()
            status = Child(grandchild).end().status
            os._exit(status)

        assert Child(child).end().status == 0
        assert sorted(server.names) == ["child", "grandchild"]
        processor.shutdown()


def test_a_child_without_spans_ends_at_once_and_starts_no_thread() -> None:
    with Server(hang) as server:
        processor, tracer = tracer_to(server)
        tracer.start_span("parent").end()
        with processor._batch._lock:  # type: ignore[union-attr] - as a thread might hold it at that moment
            ended = Child(lambda: os._exit(threading.active_count() - 1)).end()
        assert ended.status == 0
        assert ended.seconds < SLACK_S
        processor.shutdown(0)


def test_os_exit_keeps_its_bound_when_the_server_hangs_and_counts_what_is_lost() -> None:
    with Server(hang) as server:
        processor, tracer = tracer_to(server)

        def main() -> None:
            batch.SHUTDOWN_TIMEOUT_S = 0.4  # type: ignore[misc]
            tracer.start_span("a").end()
            os._exit(7)

        ended = Child(main, processor).end()
        assert ended.status == 7
        assert ended.seconds < 0.4 + SLACK_S
        assert ended.stats[:4] == [1, 0, 0, {"send_failed": 1}]
        processor.shutdown(0)


def test_all_ends_of_a_process_share_one_bound() -> None:
    with Server(hang) as server:
        processor, tracer = tracer_to(server)

        def main() -> None:
            batch.SHUTDOWN_TIMEOUT_S = 1.5  # type: ignore[misc]
            tracer.start_span("a").end()
            ending._finalize()
            os._exit(7)

        ended = Child(main).end()
        assert ended.status == 7
        assert 1.5 <= ended.seconds < 2.5
        processor.shutdown(0)


def test_a_child_of_a_process_that_is_about_to_end_has_all_its_time() -> None:
    with Server(late(0.2, status(200))) as server:
        processor, tracer = tracer_to(server)

        def grandchild() -> None:
            tracer.start_span("grandchild").end()
            os._exit(0)

        def child() -> None:
            batch.SHUTDOWN_TIMEOUT_S = 1.0  # type: ignore[misc]
            ending._finalize()
            time.sleep(1.1)
            os._exit(Child(grandchild).end().status)

        assert Child(child).end().status == 0
        assert server.names == ["grandchild"]
        processor.shutdown()


def test_after_disarm_a_process_ends_as_if_we_were_not_there() -> None:
    with Server(hang) as server:
        processor, tracer = tracer_to(server)

        def main() -> None:
            ours = os._exit
            tracer.start_span("a").end()
            os._exit = functools.partial(ours)  # type: ignore[assignment] - somebody has wrapped it again
            ending.disarm()
            os._exit(7)

        ended = Child(main).end()
        assert ended.status == 7
        assert ended.seconds < SLACK_S
        processor.shutdown(0)


def test_what_was_wrapped_is_taken_back_and_what_others_put_around_it_stays() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)
        seen: list[str] = []

        def main() -> None:
            ending.disarm()
            assert not {os._exit, signal.raise_signal} & {ending._exit, ending._raise_signal}
            ending.arm()
            ours = os._exit
            assert ours is ending._exit

            def theirs(code: int) -> None:
                seen.append("theirs")
                ours(code + len(seen))

            os._exit = theirs  # type: ignore[assignment]
            ending.disarm()
            ending.arm()
            ending.arm()
            assert os._exit is theirs  # type: ignore[comparison-overlap]
            tracer.start_span("a").end()
            os._exit(6)

        assert Child(main).end().status == 7, "each was called once"
        assert server.names == ["a"]
        processor.shutdown()


# -- SIGTERM -----------------------------------------------------------------------------------------------------------


def waiting(tracer: trace.Tracer, prepare: Callable[[], object] = lambda: None) -> Callable[[], None]:
    """What a child does that is to be killed: prepares, ends a span, says so, and sleeps.

    A bit at a time: a signal that comes between a look for signals and the sleep is seen by Python only after that.
    """

    def main() -> None:
        prepare()
        tracer.start_span("a").end()
        os.write(told[1], b".")
        for _ in range(1500):
            time.sleep(0.02)

    told = os.pipe()
    main.ready = lambda: os.read(told[0], 1)  # type: ignore[attr-defined]
    return main


def killed(main: Any, signum: int = signal.SIGTERM) -> Ended:
    child = Child(main)
    main.ready()
    return child.end(signum)


def test_sigterm_delivers_and_the_exit_status_says_that_it_killed() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)
        ended = killed(waiting(tracer))
        assert ended.status == -signal.SIGTERM
        assert server.names == ["a"]
        processor.shutdown()


def test_sigterm_keeps_its_bound_when_the_server_hangs_and_a_second_one_kills_at_once() -> None:
    with Server(hang) as server:
        processor, tracer = tracer_to(server)
        idle = processor_to(server)  # its worker starts when it is shut down

        def limit(seconds: float) -> Callable[[], None]:
            return lambda: setattr(batch, "SHUTDOWN_TIMEOUT_S", seconds)

        ended = killed(waiting(tracer, limit(0.4)))
        assert ended.status == -signal.SIGTERM
        assert 0.4 <= ended.seconds < 0.4 + SLACK_S

        main: Any = waiting(tracer, limit(30))
        child = Child(main)
        main.ready()
        os.kill(child.pid, signal.SIGTERM)
        time.sleep(0.2)
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0), "it is delivering"
        ended = child.end(signal.SIGTERM)
        assert ended.status == -signal.SIGTERM
        assert ended.seconds < SLACK_S
        processor.shutdown(0)
        idle.shutdown()


def test_the_applications_own_handler_stays_and_decides() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)

        def theirs(*_: object) -> None:
            tracer.start_span("theirs").end()
            os._exit(42)

        ended = killed(waiting(tracer, lambda: signal.signal(signal.SIGTERM, theirs)))
        assert ended.status == 42
        assert server.names == ["a", "theirs"]
        processor.shutdown()


def test_a_handler_that_comes_later_replaces_ours_and_may_hand_on_to_it() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)

        def prepare() -> None:
            ending.arm()
            before = signal.getsignal(signal.SIGTERM)
            assert before is ending._on_sigterm

            def theirs(signum: int, frame: Any) -> None:
                tracer.start_span("theirs").end()
                before(signum, frame)  # type: ignore[operator]

            signal.signal(signal.SIGTERM, theirs)

        ended = killed(waiting(tracer, prepare))
        assert ended.status == -signal.SIGTERM
        assert server.names == ["a", "theirs"]
        processor.shutdown()


def test_a_process_that_ignores_sigterm_goes_on_ignoring_it() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)
        main: Any = waiting(tracer, lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
        child = Child(main)
        main.ready()
        os.kill(child.pid, signal.SIGTERM)
        time.sleep(0.1)
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0)
        assert child.end(signal.SIGKILL).status == -signal.SIGKILL
        assert server.names == []
        processor.shutdown(0)


def test_who_restores_the_default_action_and_raises_the_signal_again_as_uvicorn_does_delivers() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)

        def main() -> None:
            tracer.start_span("a").end()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)

        assert Child(main).end().status == -signal.SIGTERM
        assert server.names == ["a"]
        processor.shutdown()


def test_a_signal_that_is_raised_and_handled_ends_nothing() -> None:
    with Server() as server:
        processor, tracer = tracer_to(server)

        def main() -> None:
            seen: list[int] = []
            signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
            tracer.start_span("a").end()
            signal.raise_signal(signal.SIGTERM)
            ok = seen == [1] and not processor.is_shut_down and processor.stats().queued == 1
            os._exit(0 if ok else 1)

        assert Child(main).end().status == 0
        processor.shutdown()


def test_sigterm_at_any_moment_of_a_busy_program_neither_hangs_nor_loses_what_had_ended() -> None:
    dice = random.Random(4)
    with Server() as server, mmap.mmap(-1, 8) as shared:
        processor, tracer = tracer_to(server, flush_at=20)

        def main() -> None:
            for i in range(1_000_000):
                tracer.start_span(str(i)).end()
                shared[:8] = struct.pack("q", i + 1)

        for _ in range(5):
            child = Child(main)
            time.sleep(0.05 + 0.1 * dice.random())
            ended = child.end(signal.SIGTERM)
            (count,) = struct.unpack("q", shared[:8])
            assert ended.status == -signal.SIGTERM
            assert ended.seconds < batch.SHUTDOWN_TIMEOUT_S
            assert sorted(map(int, server.names)) == list(range(len(server.names))), "none twice, none missing"
            assert 0 < count <= len(server.names) <= count + 1
            server.taken.clear()
        processor.shutdown()


# -- whole programs ----------------------------------------------------------------------------------------------------

PROGRAM = """
import atexit, os, signal, sys, threading, time
from otel_langfuse import LangfuseOTLPExporter, configure
from opentelemetry import trace

langfuse = configure(LangfuseOTLPExporter(endpoint=os.environ["ENDPOINT"]), flush_interval=60)
tracer = trace.get_tracer("tests")

def work(name):
    with tracer.start_as_current_span(str(name)):
        return os.getpid()
"""


def run(path: Path, program: str, server: Server, **environ: str) -> subprocess.CompletedProcess[str]:
    file = path / "program.py"
    file.write_text(PROGRAM + textwrap.dedent(program))
    return subprocess.run(
        [sys.executable, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "ENDPOINT": f"{server.url}/v1/traces", **environ},
    )


MULTIPROCESSING = """
import multiprocessing, posix
from concurrent.futures import ProcessPoolExecutor

def bare():
    os._exit = posix._exit  # somebody else's idea
    work("bare")

if __name__ == "__main__":
    context = multiprocessing.get_context(os.environ["METHOD"])
    work("parent")
    process = context.Process(target=bare)
    process.start()
    process.join()
    with context.Pool(2) as pool:  # which ends them by SIGTERM
        pool.map(work, [f"pool {i}" for i in range(20)], chunksize=1)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        list(executor.map(work, [f"future {i}" for i in range(8)]))
    if os.environ["METHOD"] == "fork":
        pool = context.Pool(2, maxtasksperchild=2)
        pool.map(work, [f"closed {i}" for i in range(8)], chunksize=1)
        pool.close()
        pool.join()
    print(process.exitcode, langfuse.stats().started)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_deliver(method: str, tmp_path: Path) -> None:
    with Server() as server:
        done = run(tmp_path, MULTIPROCESSING, server, METHOD=method)
        assert done.stdout == "0 1\n", done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        counts = {"pool": 20, "future": 8, "closed": 8 * (method == "fork")}
        expected = ["bare", "parent", *(f"{kind} {i}" for kind, count in counts.items() for i in range(count))]
        assert sorted(server.names) == sorted(expected)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError", 1),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        # Another thread may get it, and the end may come before that thread's turn.
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(30)", -signal.SIGINT),
        ("threading.Thread(target=lambda: os._exit(5)).start(); time.sleep(30)", 5),
        ("threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGTERM)).start(); time.sleep(30)", -signal.SIGTERM),
    ],
)
def test_a_program_delivers_however_it_ends(end: str, status: int, tmp_path: Path) -> None:
    with Server() as server:
        done = run(tmp_path, f"work('a')\natexit.register(work, 'at exit')\n{end}", server)
        assert done.returncode == status, done.stderr
        ends_by_itself = status in (0, 1, 3, -signal.SIGINT)
        assert server.names == ["a", "at exit"][: 1 + ends_by_itself]


def test_flush_on_exit_false_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    program = """
        import posix
        work("a")
        print(os._exit is posix._exit, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        if os.fork() == 0:
            work("child")
            os._exit(0)
        os.wait()
        os.kill(os.getpid(), signal.SIGTERM) if "KILL" in os.environ else None
    """
    with Server() as server:
        done = run(tmp_path, program, server, LANGFUSE_FLUSH_ON_EXIT="false")
        assert done.stdout == "True True\n", done.stderr
        assert server.names == ["a"], "the interpreter's own end delivers all the same"
        done = run(tmp_path, program, server, LANGFUSE_FLUSH_ON_EXIT="false", KILL="1")
        assert done.returncode == -signal.SIGTERM
        assert server.names == ["a"]


def test_the_first_process_of_a_container_delivers_at_sigterm_and_goes_on(tmp_path: Path) -> None:
    init = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", sys.executable]
    with suppress(OSError):
        if subprocess.run([*init, "-c", "print(1)"], capture_output=True, timeout=30, check=False).returncode == 0:
            with Server() as server:
                program = """
                    work("before")
                    os.kill(1, signal.SIGTERM)
                    work("after")
                    stats = langfuse.stats()
                    print(os.getpid(), stats.exported, stats.queued, flush=True)
                """
                file = tmp_path / "program.py"
                file.write_text(PROGRAM + textwrap.dedent(program))
                environ = {**os.environ, "ENDPOINT": f"{server.url}/v1/traces"}
                done = subprocess.run([*init, str(file)], capture_output=True, text=True, timeout=60, check=False, env=environ)
                assert done.stdout == "1 1 1\n", done.stderr
                assert server.names == ["before", "after"]
                return
    pytest.skip("no namespaces of processes here")


# -- AWS Lambda --------------------------------------------------------------------------------------------------------

RUNTIME = """
import sys, time
sys.path.insert(0, sys.argv[1])
import lambda_handler

class Context:
    def get_remaining_time_in_millis(self):
        return 5000

call = lambda_handler.handler if sys.argv[2] == "delivering" else lambda_handler.handler.__wrapped__
for line in sys.stdin:
    call({"user": "ada", "question": line.strip()}, Context())
    print(lambda_handler.langfuse.stats().queued, flush=True)
"""


class Environment:
    """As Lambda runs a process: it goes on only from a question to its answer, in between it is frozen."""

    def __init__(self, server: Server, how: str, **environ: str) -> None:
        keys = {"LANGFUSE_BASE_URL": server.url, "LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", RUNTIME, str(ROOT / "examples"), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **keys, **environ},
        )

    def invoke(self, question: str) -> int:
        """How many spans the process still held when it was frozen."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.send_signal(signal.SIGCONT)
        self._process.stdin.write(f"{question}\n")
        self._process.stdin.flush()
        queued = int(self._process.stdout.readline())
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)
        return queued

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Environment:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # as Lambda ends it
        self._process.communicate()


def answer_and_hang_up(exchange: Any) -> None:
    """As a server, or what is in front of it, does with a connection that is frozen for longer than it waits."""
    status(200)(exchange)
    exchange.handler.close_connection = True


def test_a_frozen_process_has_delivered_what_its_invocations_ended() -> None:
    with Server(late(0.1, answer_and_hang_up)) as server, Environment(server, "delivering") as environment:
        for i in range(1, 4):
            assert environment.invoke("Why?") == 0
            assert server.names == ["answer"] * i, "before it was frozen"


def test_without_the_pattern_the_freeze_catches_spans_which_the_thaw_delivers() -> None:
    with Server(late(0.3, answer_and_hang_up)) as server, Environment(server, "plain") as environment:
        assert environment.invoke("Why?") == 1
        assert environment.invoke("Why?") == 2
        time.sleep(0.4)
        environment.thaw()
        deadline = time.monotonic() + 10
        while set(server.names) != {"answer"} or len(server.names) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_request_that_was_frozen_in_the_middle_is_sent_again() -> None:
    with Server(late(0.3, status(200)), status(200)) as server:
        processor, tracer = tracer_to(server, flush_at=1, timeout=0.4)

        def main() -> None:
            tracer.start_span("a").end()
            os._exit(0 if processor.force_flush(10_000) and processor.stats().exported == 1 else 1)

        child = Child(main)
        while not server.received:
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.8)
        os.kill(child.pid, signal.SIGCONT)
        assert child.end().status == 0
        assert set(server.names) == {"a"}
        processor.shutdown()


# -- asyncio -----------------------------------------------------------------------------------------------------------


def test_an_asyncio_application_never_waits_for_us_not_even_while_the_server_hangs_and_the_queue_is_full() -> None:
    with Server(hang) as server:
        processor, tracer = tracer_to(server, flush_at=50, max_queue_spans=200)
        waits: list[float] = []

        async def task() -> None:
            for _ in range(250):
                span = tracer.start_span("a")
                begin = time.perf_counter()
                span.end()
                waits.append(time.perf_counter() - begin)
                await asyncio.sleep(0)

        async def main() -> bool:
            tracer.start_span("first").end()
            flushed = asyncio.create_task(asyncio.to_thread(processor.force_flush, 500))
            await asyncio.gather(*(task() for _ in range(20)))
            return await flushed

        assert asyncio.run(main()) is False
        started, exported, queued, dropped = processor.stats()[:4]
        assert (started, exported, queued) == (5001, 0, 200)
        assert dropped == {"queue_full": 4801}
        assert sorted(waits)[-250] < 0.001, "all but what the machine's other work and one log line cost"
        assert max(waits) < 0.25
        processor.shutdown(0)
