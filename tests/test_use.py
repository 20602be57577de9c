"""Programs of their own, in every state that the client can be in: off, without keys, beside a foreign provider, ended, ending.

Whatever the state: no exception reaches the program, it ends as it would without us, and standard error is empty where nothing
is wrong, or holds one line that says what to do.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import NamedTuple

import pytest

from servers import Server

EVERYTHING = """
import asyncio
import otel_langfuse
from otel_langfuse import Langfuse, get_client, observe, project, propagate_attributes
from otel_langfuse.decorators import langfuse_context
from opentelemetry import trace

@observe()
def answer(question):
    langfuse_context.update_current_trace(user_id="ada")
    langfuse_context.score_current_observation(name="quality", value=1)
    otel_langfuse.update_current_span(metadata={"k": 1})
    return question.upper()

@observe(as_type="generation")
async def stream():
    for part in "ab":
        yield part

async def parts():
    return [part async for part in stream()]

def use_everything(langfuse=None):
    langfuse = langfuse or get_client()
    with propagate_attributes(user_id="ada", tags=["a"], as_baggage=True):
        assert answer("why?") == "WHY?"
        assert asyncio.run(parts()) == ["a", "b"]
        with otel_langfuse.start_as_current_observation("o", input=1) as one:
            one.update(output=2)
            one.score(name="n", value=0.5)
        with langfuse.start_as_current_observation(name="p"):
            trace.get_tracer("t").start_span("third party").end()
        made = langfuse.trace(name="classic", id="order-17")
        made.span(name="s").generation(name="g").end(output="x")
        made.score(name="helpful", value=True)
        langfuse.create_score(name="of a trace", value=1, trace_id="order-17")
        with project("pk-lf-1"):
            trace.get_tracer("t").start_span("x").end()
    otel_langfuse.get_trace_url()
    return langfuse
"""

KEYS = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-SECRET"}


class Ended(NamedTuple):
    """What a program wrote: lines of standard output, and of standard error."""

    said: list[str]
    errors: list[str]


def names(server: Server) -> list[str]:
    return [name for received in server.taken if "/otel/" in received.path for name in received.names]


def run(program: str, **environ: str) -> Ended:
    env = {**os.environ, **environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", EVERYTHING + textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "sk-lf-SECRET" not in done.stderr
    return Ended(done.stdout.splitlines(), done.stderr.splitlines())


# -- off -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["argument", "variable", "old argument"])
def test_disabled_nothing_is_recorded_sent_said_or_started(how: str) -> None:
    settings = {"argument": "enabled=False", "variable": "", "old argument": "tracing_enabled=False"}[how]
    with Server() as server:
        ended = run(
            f"""
            import threading
            client = use_everything(Langfuse({settings}))
            print(client.flush(1), client.stats().started, threading.active_count())
            print(type(trace.get_tracer_provider()).__name__, otel_langfuse.flush(1), client.shutdown(1))
            """,
            **KEYS,
            LANGFUSE_BASE_URL=server.url,
            **({"LANGFUSE_TRACING_ENABLED": "false"} if how == "variable" else {}),
        )
        assert ended == (["True 0 1", "ProxyTracerProvider True True"], [])
        assert not server.received


def test_without_keys_one_line_says_what_to_set() -> None:
    ended = run("""
        client = use_everything()
        print(client.flush(1), client.shutdown(1))
        use_everything()
    """)
    assert ended.said == ["True True"]
    lines = [line for line in ended.errors if "set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY" in line]
    assert len(lines) == 1, ended.errors


# -- beside a provider that is not OpenTelemetry's SDK ---------------------------------------------------------------------

FOREIGN = """
class Foreign(trace.TracerProvider):
    def get_tracer(self, *args, **kwargs):
        return Tracer()
class Tracer(trace.Tracer):
    def start_span(self, name, *args, **kwargs):
        return trace.INVALID_SPAN
    def start_as_current_span(self, *args, **kwargs):
        return trace.use_span(trace.INVALID_SPAN)
trace.set_tracer_provider(Foreign())
"""


@pytest.mark.parametrize("how", ["Langfuse()", "otel_langfuse.configure() and None", "get_client()"])
def test_a_foreign_provider_is_named_once_and_harms_nobody(how: str) -> None:
    with Server() as server:
        program = FOREIGN + f"client = use_everything({how})\nprint(client.flush(1), client.shutdown(1))\n"
        ended = run(program, **KEYS, LANGFUSE_BASE_URL=server.url)
    assert ended.said == ["True True"]
    named = [line for line in ended.errors if "the TracerProvider is __main__.Foreign, which takes no span processors" in line]
    assert len(named) == 1, ended.errors


# -- twice -------------------------------------------------------------------------------------------------------------------


def test_made_everywhere_it_is_one_client_and_silent() -> None:
    with Server() as server:
        ended = run(
            """
            first = Langfuse()
            assert Langfuse().client is first.client is otel_langfuse.configure() is get_client().client
            langfuse_context.configure()
            print(first.flush(5))
            """,
            **KEYS,
            LANGFUSE_BASE_URL=server.url,
        )
        assert ended == (["True"], [])


# -- after shutdown ----------------------------------------------------------------------------------------------------------


def test_after_shutdown_everything_still_runs_and_one_line_says_what_is_lost() -> None:
    with Server() as server:
        ended = run(
            """
            client = Langfuse()
            observation = client.start_observation(name="running")
            trace_handle = client.trace(name="running trace")
            print(client.shutdown(5), client.shutdown(5))
            sent = client.stats().exported
            use_everything(client)
            observation.end()
            trace_handle.update(output=1)
            print(client.flush(1), client.stats().exported == sent, set(client.stats().dropped))
            """,
            **KEYS,
            LANGFUSE_BASE_URL=server.url,
        )
        assert ended.said[0] == "True True"
        assert ended.said[1].endswith("True {'after_shutdown'}")
        assert "running trace" in names(server)
        told = [line for line in ended.errors if "they ended after shutdown(): shut down later" in line]
        assert len(told) <= 2, ended.errors
        assert len([line for line in told if " span" in line]) == 1


def test_what_comes_after_a_shutdown_is_a_client_that_works() -> None:
    with Server() as server:
        ended = run(
            """
            import logging
            logging.getLogger("otel_langfuse").addHandler(logging.StreamHandler())
            first = Langfuse()
            trace.get_tracer("t").start_span("first").end()
            first.shutdown(5)
            second = get_client()  # a warm start of a function that shuts down after each call
            trace_of_second = second.trace(name="second")
            trace_of_second.end()
            print(second.flush(5), second is first, second.stats().exported)
            third = Langfuse(flush_at=7)
            """,
            **KEYS,
            LANGFUSE_FILTER="all",
            LANGFUSE_BASE_URL=server.url,
        )
        assert ended == (["True False 1"], [])
        assert names(server) == ["first", "second"]


# -- at the end of the interpreter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_exit_functions_record_raises_nothing(when: str) -> None:
    with Server() as server:
        ended = run(
            f"""
            import atexit
            def at_exit():
                trace.get_tracer("t").start_span("at exit").end()
                use_everything()
                otel_langfuse.flush(1)
                print("done")
            {"atexit.register(at_exit)" if when == "before" else ""}
            client = Langfuse()
            {"atexit.register(at_exit)" if when == "after" else ""}
            trace.get_tracer("t").start_span("in time").end()
            """,
            **KEYS,
            LANGFUSE_FILTER="all",
            LANGFUSE_BASE_URL=server.url,
        )
        assert ended.said == ["done"]
        assert "in time" in names(server)
        if when == "after":  # exit functions run in the opposite order: this one before the client's own
            assert "at exit" in names(server)
            assert not ended.errors


def test_the_first_use_of_all_in_an_exit_function_raises_nothing() -> None:
    with Server() as server:
        ended = run(
            """
            import atexit
            @atexit.register
            def at_exit():
                client = use_everything(Langfuse())
                print(client.flush(5))
            """,
            **KEYS,
            LANGFUSE_BASE_URL=server.url,
        )
        assert ended.said in (["True"], ["False"])
        assert len([line for line in ended.errors if "nothing is sent: no TracerProvider can be set up any more" in line]) <= 1


def test_objects_that_are_collected_at_the_very_end_may_record() -> None:
    with Server() as server:
        ended = run(
            """
            class Late:
                def __del__(self):
                    self.tracer.start_span("in __del__").end()
                    answer("late")
                    print("collected")
            client = Langfuse()
            answer("what is imported at first use is")
            kept = Late()
            kept.tracer = trace.get_tracer("t")
            kept.itself = kept
            """,
            **KEYS,
            LANGFUSE_BASE_URL=server.url,
        )
        assert ended.said in (["collected"], [])


def test_a_thread_that_goes_on_while_the_interpreter_ends_raises_nothing() -> None:
    with Server() as server:
        run(
            """
            import threading, time
            client = Langfuse()
            def forever():
                while True:
                    answer("again")
            threading.Thread(target=forever, daemon=True).start()
            time.sleep(0.3)
            """,
            **KEYS,
            LANGFUSE_BASE_URL=server.url,
        )
        assert "answer" in names(server)
