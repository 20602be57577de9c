"""Every example runs as it is, offline, and shows what it is there to show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from conftest import OtlpSink
from otel_langfuse.model import Observation
from otel_langfuse.store import Store

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(example: str, where: Path, **environ: str) -> str:
    """What the example prints. It may not say anything on standard error: no warning, no log line."""
    command = [sys.executable, str(EXAMPLES / example)]
    environment = {**os.environ, **environ}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert re.search(r"Stats\(started=(\d+), exported=\1, queued=0, dropped=\{\}, spooled=0\)", done.stdout), done.stdout
    return done.stdout


def stored(db: Path) -> dict[str, Observation]:
    """The observations of the one trace that the example left, by name."""
    store = Store(db, create=False)
    try:
        (trace,) = store.traces()
        return {observation.name: observation for observation in store.trace(trace.id)}
    finally:
        store.close()


def test_quickstart(tmp_path: Path) -> None:
    printed = run("quickstart.py", tmp_path)
    assert "6 words" in printed
    observations = stored(tmp_path / "quickstart.db")
    chain, generation = observations["count words"], observations["chat toy-1"]
    assert (chain.type, generation.type) == ("chain", "generation")
    assert generation.parent_id == chain.id
    assert generation.model == "toy-1"
    assert generation.usage_details["input"] > 0
    assert [o.trace.user_id for o in (chain, generation)] == ["ada", "ada"]
    assert generation.trace.session_id == "first-steps"


def test_observe(tmp_path: Path) -> None:
    assert "Words are counted" in run("observe.py", tmp_path)
    observations = stored(tmp_path / "observe.db")
    assert {name: one.type for name, one in observations.items()} == {
        "answer": "chain",
        "search": "retriever",
        "toy-1": "generation",
        "stream of words": "span",
    }
    assert {one.parent_id for name, one in observations.items() if name != "answer"} == {observations["answer"].id}
    assert observations["search"].input == '{"question":"How are words counted?","limit":2}'
    assert observations["search"].output == '[{"title":"Words","score":0.9},{"title":"Sentences","score":0.7}]'
    assert observations["stream of words"].output == "Words are counted one by one. "
    assert observations["answer"].level == "DEBUG"
    assert observations["toy-1"].trace.user_id == "ada"


def test_existing_setup(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="the stock instrumentation is not installed")
    printed = run("existing_setup.py", tmp_path)
    assert {"console: GET /answer", "console: chat toy-1"} <= set(printed.splitlines())  # its own exporter still gets all
    observations = stored(tmp_path / "existing_setup.db")
    request, generation = observations["GET /answer"], observations["chat toy-1"]
    assert generation.type == "generation"
    assert generation.parent_id == request.id
    assert generation.trace.user_id == "ada"


def test_auto_instrumented(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.genai.openai", reason="it needs a newer OpenTelemetry")
    pytest.importorskip("openai", reason="the [demo] extra is not installed")
    run("auto_instrumented.py", tmp_path)
    generation = stored(tmp_path / "auto_instrumented.db")["chat gpt-4.1-mini"]
    assert generation.type == "generation"
    assert generation.usage_details["output"] > 0
    assert "Can I return a lamp?" in str(generation.input)
    assert "30 days" in str(generation.output)
    assert generation.trace.user_id == "ada"


PRESIDIO = {
    "presidio_analyzer": """
        class AnalyzerEngine:
            def analyze(self, text, language, entities):
                at = text.find("Ada Lovelace")
                return [(at, at + 12)] if at >= 0 else []
    """,
    "presidio_anonymizer": """
        from types import SimpleNamespace
        class AnonymizerEngine:
            def anonymize(self, text, analyzer_results):
                for start, end in analyzer_results:
                    text = text[:start] + "<PERSON>" + text[end:]
                return SimpleNamespace(text=text)
    """,
}


def test_masking_presidio(tmp_path: Path) -> None:
    """Presidio and its model are half a gigabyte: in its place stands what has the same two calls, and knows one name."""
    for name, source in PRESIDIO.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
    run("masking_presidio.py", tmp_path, PYTHONPATH=str(tmp_path))
    generation = stored(tmp_path / "masking_presidio.db")["chat toy-1"]
    assert "I am <PERSON>, <masked: email>. Where is my lamp?" in str(generation.input)
    assert "On its way, <PERSON>." in str(generation.output)
    assert generation.model == "toy-1"


def test_lambda_handler(tmp_path: Path) -> None:
    assert run("lambda_handler.py", tmp_path).count("queued=0") == 2, "each invocation delivered before it answered"
    store = Store(tmp_path / "lambda_handler.db", create=False)
    assert len(store.traces()) == 2
    store.close()


def test_any_collector_started_by_itself(tmp_path: Path) -> None:
    assert "collector at /v1/traces: ['chat toy-1', 'answer']" in run("any_collector.py", tmp_path)


def test_any_collector_of_the_environment(tmp_path: Path, otlp_sink: OtlpSink) -> None:
    printed = run("any_collector.py", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=otlp_sink.url)
    assert "collector at" not in printed
    assert otlp_sink.names() == ["chat toy-1", "answer"]


def test_every_example_is_tested() -> None:
    elsewhere = {"lambda_handler"}  # test_processes.py freezes it as Lambda does
    tests = [*elsewhere, *(name for name in globals() if name.startswith("test_"))]
    assert [path.stem for path in EXAMPLES.glob("*.py") if not any(path.stem in test for test in tests)] == []
