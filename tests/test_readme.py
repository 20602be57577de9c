"""What the README shows is true: its programs run and their spans arrive, its commands exist, its tables are the code's.

``python tests/test_readme.py`` writes the table of settings anew (``make fix`` does).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from conftest import OtlpSink
from otel_langfuse import DropReason
from otel_langfuse.config import wants_processor
from otel_langfuse.config.table import settings_table
from otel_langfuse.conventions import CONVENTIONS
from otel_langfuse.store import Store

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEXT = README.read_text()
SETTINGS = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)
COLLECTOR = "http://localhost:4318"  # what the README calls the reader's collector

EPILOGUE = """
# -- not in the README: a span of an instrumentation ends, and everything is delivered --
from opentelemetry import trace as _trace
with _trace.get_tracer("opentelemetry.instrumentation.openai_v2").start_as_current_span(
    "chat", attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "from-the-readme"}
):
    pass
assert _trace.get_tracer_provider().force_flush(10_000)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Every command of the shell blocks, as its words; assignments of ``export`` among them."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def as_written(table: str) -> str:
    return SETTINGS.sub(lambda _: table, TEXT)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_a_program_of_the_readme_runs_and_its_spans_arrive(number: int, tmp_path: Path, otlp_sink: OtlpSink) -> None:
    program = blocks("python")[number]
    to_collector = COLLECTOR in program
    (tmp_path / "program.py").write_text(program.replace(COLLECTOR, otlp_sink.url) + EPILOGUE)
    environ = {**os.environ, "LANGFUSE_BASE_URL": "sqlite:///traces.db"}
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    if to_collector:
        assert "chat" in otlp_sink.names()
    elif "otel_langfuse.testing" not in program:  # which sends nothing, and asserts for itself
        store = Store(tmp_path / "traces.db", create=False)
        models = [observation.model for trace in store.traces() for observation in store.trace(trace.id)]
        store.close()
        assert "from-the-readme" in models


@pytest.mark.parametrize("words", commands(), ids=shlex.join)
def test_a_command_of_the_readme_exists(words: list[str]) -> None:
    match words:
        case ["make", target]:
            command = ["make", "--dry-run", target]
        case ["otel-langfuse", subcommand, *options]:
            command = [sys.executable, "-m", "otel_langfuse", subcommand, "--help"]
        case ["pip", "install", requirement]:
            extras = re.fullmatch(r"otel-langfuse(?:\[(.+)\])?", requirement)
            assert extras is not None
            names = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
            assert set((extras[1] or "cli").split(",")) <= set(names)
            return
        case [*assignments, "opentelemetry-instrument", _, _]:
            registered = {point.name for point in entry_points(group="opentelemetry_traces_exporter")}
            assert dict(word.split("=") for word in assignments)["OTEL_TRACES_EXPORTER"] in {*registered, "none"}
            assert wants_processor(dict(word.split("=") for word in assignments)) == (len(assignments) == 2)
            return
        case ["export", *assignments]:
            assert all(f"`{assignment.partition('=')[0]}`" in settings_table() for assignment in assignments)
            return
        case _:
            pytest.fail(f"say here how to check: {shlex.join(words)}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if words[0] == "otel-langfuse":
        assert all(option in done.stdout for option in options if option.startswith("-"))


def test_the_table_of_settings_is_that_of_the_code() -> None:
    assert SETTINGS.search(TEXT)
    assert as_written(settings_table()) == TEXT, "run `make fix`"


def test_every_family_is_in_the_table() -> None:
    table = TEXT.partition("## What it reads")[2].partition("##")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {convention.name for convention in CONVENTIONS}


def test_every_reason_for_a_drop_is_explained() -> None:
    table = TEXT.partition("## What it promises")[2].partition("##")[0]
    assert re.findall(r"^ *\| `(\w+)` \|", table, re.MULTILINE) == [str(r) for r in DropReason]


def test_every_link_within_the_repository_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def rows(text: str) -> list[list[str]]:
    """The tables' rows, each as its cells."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


MEASURED = {  # as the README calls it -> as the benchmarks do, in W1 and in W4
    "otel-langfuse": ("ours", "ours, plain calls"),
    "OpenTelemetry with gzip": ("OpenTelemetry, gzip", "OpenTelemetry, gzip"),
    **{name: (name, name) for name in ("langfuse", "logfire", "traceloop", "openinference")},
}


def test_the_figures_of_speed_are_those_of_the_results() -> None:
    found = {tuple(row[:2]): (row[3], row[5]) for row in rows((ROOT / "benchmarks/RESULTS.md").read_text()) if len(row) == 7}
    shown = {row[0]: tuple(row[1:]) for row in rows(TEXT.partition("Speed is a ratio")[2].partition("## Settings")[0])[2:]}
    for name, (of_w1, of_w4) in MEASURED.items():
        (label,) = [label for label in shown if label.startswith(name)]
        assert shown.pop(label) == (*found["W1", of_w1], found["W4", of_w4][0]), name
    assert not shown


def test_the_figures_of_leaks_are_those_of_the_results() -> None:
    leaked = {row[0]: row[1:3] for row in rows((ROOT / "benchmarks/leaks/RESULTS.md").read_text())}
    theirs, logfires = leaked["langfuse 5.0.4, `mask=`"], leaked["logfire 5.2.0, as it comes"]
    assert leaked["ours, as it comes"] == ["0", theirs[1]]
    assert f"a secret into each of the {theirs[1]} places" in TEXT
    assert f"{theirs[0]} with `mask=` of langfuse 5.0.4, {logfires[0]} with logfire 5.2.0 as it comes" in TEXT


if __name__ == "__main__":
    README.write_text(as_written(settings_table()))
