"""A program that configures nothing: what its environment says holds from its first observation on. Each in its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from otel_langfuse.model import Observation
from otel_langfuse.store import Store
from otel_langfuse.tracing import _origin

SHOW_LOG = "import logging; logging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s %(message)s')\n"


def run(script: str, path: Path, **environ: str) -> str:
    """Runs a program with a local store in its environment; returns what it wrote to standard error."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANGFUSE_BASE_URL": f"sqlite:///{path}/store.db"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**env, **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def stored(path: Path) -> list[Observation]:
    if not (path / "store.db").exists():
        return []
    store = Store(path / "store.db")
    found = [one for summary in store.traces() for one in store.trace(summary.id)]
    store.close()
    return found


OBSERVE = """
from otel_langfuse import observe
@observe
def work(n=1):
    return n
work()
"""


# Around it, for a program that sets up OpenTelemetry itself and then needs no client of ours.
PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
"""
GLOBAL = "trace.set_tracer_provider(provider)\n"
NO_CLIENT = """
from otel_langfuse import client
assert not client._clients
"""

LANGCHAIN = """
from langchain_core.runnables import RunnableLambda
from otel_langfuse.langchain import CallbackHandler
RunnableLambda(lambda a: a).invoke(1, config={"callbacks": [CallbackHandler()], "run_name": "work"})
"""


@pytest.mark.parametrize(
    "script",
    [
        OBSERVE,
        OBSERVE.replace("otel_langfuse import", "otel_langfuse.decorators import"),
        OBSERVE.replace("otel_langfuse import", "otel_langfuse.tracing import"),
        "import otel_langfuse\nwith otel_langfuse.start_as_current_observation('work'): pass",
        "import otel_langfuse\notel_langfuse.start_observation('work').end()",
        "import otel_langfuse\notel_langfuse.create_event('work')",
        LANGCHAIN,
    ],
    ids=["observe", "decorators", "tracing", "start_as_current_observation", "start_observation", "create_event", "langchain"],
)
def test_the_first_observation_is_recorded_whatever_makes_it(script: str, tmp_path: Path) -> None:
    if "langchain" in script:
        pytest.importorskip("langchain_core")
    assert not run(script, tmp_path)
    assert [one.name for one in stored(tmp_path)] == ["work"]


def test_one_line_says_so_to_who_listens_and_it_happens_once(tmp_path: Path) -> None:
    log = run(SHOW_LOG + OBSERVE + "work(); work()", tmp_path)
    assert log.count("nothing was configured: observations go to sqlite:///") == 1
    assert len(stored(tmp_path)) == 3


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LANGFUSE_BASE_URL": "", "LANGFUSE_PUBLIC_KEY": ""}, ""),
        ({"LANGFUSE_BASE_URL": "", "LANGFUSE_PUBLIC_KEY": "pk-lf-1"}, ""),
        ({"LANGFUSE_TRACING_ENABLED": "false"}, ""),
        ({"LANGFUSE_SAMPLE_RATE": "7"}, "nothing is sent: LANGFUSE_SAMPLE_RATE"),
    ],
    ids=["nothing", "half of the keys", "disabled", "a setting that cannot work"],
)
def test_where_the_environment_says_nothing_or_no_nothing_is_set_up(environ: dict[str, str], said: str, tmp_path: Path) -> None:
    script = (
        SHOW_LOG
        + OBSERVE
        + (
            "from opentelemetry import trace\n"
            "assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)\n"
            "import threading; assert threading.active_count() == 1\n"
        )
    )
    log = run(script, tmp_path, **environ)
    assert said in log
    assert log.count("\n") == bool(said)
    assert stored(tmp_path) == []


def test_a_score_may_be_the_first_thing(tmp_path: Path) -> None:
    script = """
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
    from otel_langfuse import Observation, flush
    span = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))
    assert Observation(span).score(name="liked", value=1) is not None
    flush()
    """
    assert not run(script, tmp_path)
    store = Store(tmp_path / "store.db")
    assert [score.name for score in store.scores(f"{1:032x}")] == ["liked"]
    store.close()


def test_threads_that_come_at_the_same_time_wait_for_the_first_and_lose_nothing(tmp_path: Path) -> None:
    script = """
    import threading
    from otel_langfuse import observe
    barrier = threading.Barrier(20)
    @observe
    def work(n):
        return n
    def run(n):
        barrier.wait()
        work(n)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    from otel_langfuse import client
    assert len(client._clients) == 1
    """
    assert not run(script, tmp_path)
    assert sorted(one.output for one in stored(tmp_path)) == sorted(map(str, range(20)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_was_forked_before_begins_for_itself_and_one_after_goes_on(tmp_path: Path) -> None:
    script = """
    import os
    from otel_langfuse import observe
    @observe
    def work(n):
        return n
    def child(n):
        pid = os.fork()
        if not pid:
            work(n)
            os._exit(0)
        os.waitpid(pid, 0)
    child("before")
    work("parent")
    child("after")
    """
    assert not run(script, tmp_path)
    assert sorted(one.output for one in stored(tmp_path)) == ["after", "before", "parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_while_another_thread_begins_does_not_wait_for_ever() -> None:
    statuses: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if not pid:
            signal.alarm(20)  # which kills it
            done: list[bool] = []
            _origin._state.begin = lambda: done.append(True)
            _origin._begin()
            os._exit(0 if done else 1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    def begin() -> None:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()

    _origin.begin_by(begin)
    assert _origin._begin()
    assert statuses == [0]


def test_an_existing_provider_is_joined_and_its_other_processors_get_the_same_spans(tmp_path: Path) -> None:
    script = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    from otel_langfuse import observe
    @observe
    def work(): pass
    work()
    assert trace.get_tracer_provider() is provider
    assert [span.name for span in memory.get_finished_spans()] == ["work"]
    """
    assert not run(script, tmp_path)
    assert [one.name for one in stored(tmp_path)] == ["work"]


@pytest.mark.parametrize("is_global", [True, False])
def test_a_processor_of_the_applications_own_is_all_there_is(is_global: bool, tmp_path: Path) -> None:
    made = "from otel_langfuse import LangfuseSpanProcessor\nprovider.add_span_processor(LangfuseSpanProcessor())\n"
    assert not run(PROVIDER + made + is_global * GLOBAL + OBSERVE + NO_CLIENT, tmp_path)
    assert len(stored(tmp_path)) == int(is_global)


@pytest.mark.parametrize(
    "before",
    [
        "otel_langfuse.configure(base_url='sqlite:///{path}/other.db')",
        "otel_langfuse.configure(enabled=False)",
        "otel_langfuse.Langfuse(base_url='sqlite:///{path}/other.db')",
    ],
)
def test_what_the_application_configures_itself_is_what_holds(before: str, tmp_path: Path) -> None:
    script = f"import otel_langfuse\n{before.format(path=tmp_path)}\n" + OBSERVE
    assert not run(script, tmp_path)
    assert stored(tmp_path) == []
    assert (tmp_path / "other.db").exists() == ("other" in before)


def test_configuring_later_takes_its_place(tmp_path: Path) -> None:
    script = OBSERVE + f"import otel_langfuse\notel_langfuse.configure(base_url='sqlite:///{tmp_path}/other.db')\nwork(2)\n"
    assert not run(script, tmp_path)
    assert [one.output for one in stored(tmp_path)] == ["1"]
    (tmp_path / "other.db").rename(tmp_path / "store.db")
    assert [one.output for one in stored(tmp_path)] == ["2"]


def test_the_agents_exporter_is_not_joined_by_a_second_one(tmp_path: Path) -> None:
    """As the agent makes it: by its entry point, behind the SDK's own processor."""
    made = """
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_langfuse.exporters.entry_points import LangfuseTracesExporter
provider.add_span_processor(BatchSpanProcessor(LangfuseTracesExporter()))
"""
    assert not run(PROVIDER + made + GLOBAL + OBSERVE + NO_CLIENT, tmp_path)
    assert len(stored(tmp_path)) == 1


def test_at_the_end_of_the_interpreter_it_does_no_harm(tmp_path: Path) -> None:
    script = """
    import atexit
    from otel_langfuse import observe
    @observe
    def work(): return 1
    class Late:
        def __del__(self):
            work()
    late = Late()
    atexit.register(work)
    """
    log = run(script, tmp_path)
    assert "Traceback" not in log


def test_what_begins_may_ask_for_observations_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    _origin.begin_by(lambda: seen.append(_origin.origin()))
    _origin.origin()
    assert len(seen) == 1


def test_what_begins_and_fails_fails_quietly(caplog: pytest.LogCaptureFixture) -> None:
    def begin() -> None:
        raise RuntimeError

    _origin.begin_by(begin)
    _origin.origin()
    _origin.origin()
    assert caplog.text.count("RuntimeError while setting up what the environment says") == 1
