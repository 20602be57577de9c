"""The demo's course: the application talks to its model server, its spans go to a local store, and the store is drawn."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

import openai
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from rich.text import Text

from otel_langfuse.client import configure
from otel_langfuse.errors import ConfigError
from otel_langfuse.local.demo import app
from otel_langfuse.local.demo.server import model_server
from otel_langfuse.local.draw import trace_list, trace_tree
from otel_langfuse.local.show import terminal, write_lines, write_prose
from otel_langfuse.model import Stats
from otel_langfuse.propagation import propagate_attributes
from otel_langfuse.store import Store, StoreError

QUESTIONS = (
    "How long do I have to return a lamp?",
    "Where is my order 4711?",
    "What about the warranty of my Aurora lamp?",
)
CUSTOMER, CONVERSATION = "customer-42", "conversation-7"

HELLO = """\
A lamp shop's assistant answers a customer. It is an ordinary program, written with openai and OpenTelemetry, that knows \
nothing of Langfuse. Its model is a script on 127.0.0.1; nothing leaves this machine.
"""
GOODBYE = """\
What sent these spans into a file, beside OpenTelemetry's own instrumentation of openai, was the first of these lines. The \
second sends the same to Langfuse, the third to any OpenTelemetry collector. A TracerProvider that the program has already \
is joined.

    from otel_langfuse import LangfuseOTLPExporter, configure

    configure(base_url="sqlite:///langfuse.db")
    configure(public_key="pk-lf-...", secret_key="sk-lf-...")
    configure(LangfuseOTLPExporter(endpoint="http://localhost:4318/v1/traces"))

"""


def play(db: str | None, keep: bool, out: TextIO) -> int:
    """See ``run_demo``."""
    directory = None if db else tempfile.mkdtemp(prefix="otel-langfuse-")
    path = Path(db or f"{directory}/langfuse.db").absolute()
    begun = time.time_ns()
    try:
        stats = trace_to(path, out)
        if stats.exported:
            _draw(path, begun, out)
            write_prose(GOODBYE, out)
            write_prose(f"The application:\n\n    {app.__file__}\n", out)
            if db or keep:
                write_prose(f"\nThe traces are kept:\n\n    otel-langfuse show --db {shlex.quote(str(path))}\n", out)
        return _verdict(stats)
    except (ConfigError, StoreError) as error:
        sys.stderr.write(f"otel-langfuse demo: {error}\n")
        return 1
    finally:
        if directory and not keep:
            shutil.rmtree(directory, ignore_errors=True)


def trace_to(path: Path, out: TextIO) -> Stats:
    """Run the application with its spans going to the store at ``path``."""
    destination = configure(base_url=f"sqlite:///{path}", sample_rate=1.0)  # 1. spans go to the store
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()  # 2. calls of openai become spans
    try:
        with model_server() as url, propagate_attributes(user_id=CUSTOMER, session_id=CONVERSATION):  # 3. whose they are
            converse(url, out)
    finally:
        instrumentor.uninstrument()
        destination.shutdown(timeout=10)
    return destination.stats()


def converse(url: str, out: TextIO) -> None:
    """Ask the application ``QUESTIONS``, and write what it answers."""
    write_prose(HELLO, out)
    with openai.OpenAI(
        base_url=url,
        api_key="none is needed",
        max_retries=0,
        timeout=10,
        http_client=openai.DefaultHttpxClient(trust_env=False),  # no proxy stands between here and 127.0.0.1
    ) as client:
        handbook = app.read_handbook(client)
        for question in QUESTIONS:
            write_lines([Text(), Text.assemble(("customer   ", "bold cyan"), question)], out)
            write_lines([Text("assistant  ", "bold green")], out, end="")
            app.answer(client, handbook, question, lambda piece: write_lines([Text(piece)], out, end=""))
            write_lines([Text()], out)


def _draw(path: Path, begun: int, out: TextIO) -> None:
    """The list of what was just recorded, and each trace with the question that it answers, in their order."""
    console, glyphs = terminal(out)
    store = Store(path, create=False)
    try:
        traces = [trace for trace in store.traces(100) if (trace.start_time_unix_nano or 0) >= begun]
        lines = [Text(), *trace_list(traces, console.width, glyphs), Text()]
        for trace in reversed(traces):
            lines += [*trace_tree(store.trace(trace.id), console.width, glyphs), Text()]
    finally:
        store.close()
    write_lines(lines, out)


def _verdict(stats: Stats) -> int:
    if stats.exported and stats.exported == stats.started:
        return 0
    lost = ", ".join(f"{count} {reason}" for reason, count in stats.dropped.items()) or "none were recorded"
    sys.stderr.write(f"otel-langfuse demo: not every span arrived ({lost}); is a setting of OTEL_* or LANGFUSE_* in the way?\n")
    return 1
