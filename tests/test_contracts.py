"""The house's import rules hold, and each of them breaks when something is planted that it forbids."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

pytest.importorskip("importlinter", reason="the tools that read the code are installed by `make check` only")

ROOT = Path(__file__).parents[1]
PACKAGE = Path("src/otel_langfuse")
BIN = Path(sys.executable).parent

LAYERS, DOWN, UP, PURE, FAMILIES = "layers", "corridor-down", "corridor-up", "pure", "families"
NUMBERS = {"1.": LAYERS, "2a.": DOWN, "2b.": UP, "3.": PURE, "4.": FAMILIES}

PURE_ROOMS = (
    "model",
    "errors",
    "attributes",
    "picture",
    "spans",
    "conventions",
    "translate",
    "pipeline",
    "encode",
    "prepare",
    "retry",
    "retry_grpc",
)
IMPURE = ("socket", "ssl", "http", "urllib", "threading", "asyncio", "time", "random", "os", "logging")

# What ruff's banned-api bans, and the only rooms that may have it (house.md, "Layers").
SDK_ROOMS = {"spans", "processor", "sampler", "exporters", "client", "testing"}
ENVIRONMENT_ROOMS = {"config", "cli"}
BANNED = {
    "opentelemetry.sdk": SDK_ROOMS,
    "os.environ": ENVIRONMENT_ROOMS,
    "os.environb": ENVIRONMENT_ROOMS,
    "os.getenv": ENVIRONMENT_ROOMS,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the rules are about, for planting in."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def plant(tree: Path, module: str, line: str) -> None:
    """Append a line to a module, which is made if there is none."""
    path = tree / PACKAGE / module
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write(f"\n{line}\n")


def lint_imports(tree: Path) -> tuple[set[str], str]:
    """The contracts that are broken, and all that was printed."""
    environ = {**os.environ, "PYTHONPATH": str(tree / "src"), "COLUMNS": "300"}
    command = [str(BIN / "lint-imports"), "--no-cache", "--no-logo", "--config", "pyproject.toml"]
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, timeout=60, check=False)
    verdicts = dict(re.findall(r"^(\d\w?\.) .* (KEPT|BROKEN)", done.stdout, re.MULTILINE))
    assert set(verdicts) == set(NUMBERS), done.stdout + done.stderr
    broken = {NUMBERS[number] for number, verdict in verdicts.items() if verdict == "BROKEN"}
    assert (done.returncode != 0) == bool(broken), done.stdout + done.stderr
    return broken, done.stdout


def test_the_tree_as_it_is_keeps_every_contract(tree: Path) -> None:
    broken, printed = lint_imports(tree)
    assert not broken, printed


PLANTS = {
    "upwards": ("batch.py", "import otel_langfuse.processor", {LAYERS}),
    "sideways on one floor": ("batch.py", "from otel_langfuse import transport", {LAYERS}),
    "through the front door": ("batch.py", "from otel_langfuse import LangfuseSpanProcessor", {LAYERS, UP}),
    "a module without a floor": ("helpers.py", "", {LAYERS}),
    "local imports cli": ("local/planted.py", "import otel_langfuse.cli", {LAYERS}),
    "tracing imports exporters": ("tracing/planted.py", "from otel_langfuse import exporters", {DOWN}),
    "tracing imports processor": ("tracing/planted.py", "from otel_langfuse import processor", {LAYERS, DOWN}),
    "processor imports tracing": ("processor/__init__.py", "from otel_langfuse import tracing", {LAYERS, UP}),
    "exporters import tracing": ("exporters/planted.py", "import otel_langfuse.tracing", {LAYERS, UP}),
    "a pure room imports config": ("translate.py", "from otel_langfuse.config import Config", {PURE}),
    "a pure room imports stats": ("prepare.py", "from otel_langfuse import stats", {PURE}),
    "family imports family": ("conventions/genai.py", "from otel_langfuse.conventions import langfuse", {FAMILIES}),
    "a new family does": (
        "conventions/planted.py",
        "from otel_langfuse.conventions.genai import CONVENTION",
        {FAMILIES},
    ),
    "family imports precedence": ("conventions/genai.py", "import otel_langfuse.conventions.precedence", {FAMILIES}),
    "the words import a family": ("conventions/_rule.py", "from otel_langfuse.conventions import genai", {FAMILIES}),
}


@pytest.mark.parametrize(("module", "line", "expected"), PLANTS.values(), ids=PLANTS)
def test_a_planted_violation_breaks_its_contract(tree: Path, module: str, line: str, expected: set[str]) -> None:
    plant(tree, module, line)
    broken, printed = lint_imports(tree)
    assert broken == expected, printed


def test_the_pure_contract_covers_every_pure_room(tree: Path) -> None:
    for room in PURE_ROOMS:
        package = (tree / PACKAGE / room).is_dir()
        plant(tree, f"{room}/planted.py" if package else f"{room}.py", "import time")
    broken, printed = lint_imports(tree)
    assert broken == {PURE}
    assert set(re.findall(r"otel_langfuse\.(\w+) is not allowed to import time", printed)) == set(PURE_ROOMS)


def test_the_pure_contract_covers_every_impure_module(tree: Path) -> None:
    plant(tree, "translate.py", "\n".join(f"import {module}" for module in IMPURE))
    broken, printed = lint_imports(tree)
    assert broken == {PURE}
    assert set(IMPURE) <= set(re.findall(r"otel_langfuse\.translate is not allowed to import (\w+)", printed))


def test_the_pure_contract_sees_what_comes_through_a_room_that_may(tree: Path) -> None:
    plant(tree, "propagation.py", "import logging")
    plant(tree, "translate.py", "import otel_langfuse.propagation")
    broken, printed = lint_imports(tree)
    assert broken == {PURE}
    assert "otel_langfuse.translate is not allowed to import logging" in printed


def uses_of_banned(tree: Path) -> dict[str, set[str]]:
    """Banned name -> the rooms that use it, whatever pyproject.toml lets pass."""
    banned = ", ".join(f'"{name}" = {{msg = ""}}' for name in BANNED)
    command = [
        BIN / "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--ignore-noqa",
        "--select=TID251",
        "--output-format=json",
    ]
    command += ["--config", f"lint.flake8-tidy-imports.banned-api = {{{banned}}}", str(tree / PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    rooms = defaultdict(set)
    for finding in json.loads(done.stdout):
        path = Path(finding["filename"]).relative_to((tree / PACKAGE).resolve())
        name = re.search("`(.+?)`", finding["message"])
        assert name is not None
        rooms[name[1]].add(path.parts[0].removesuffix(".py"))
    return rooms


def test_sdk_types_and_the_environment_are_only_in_their_rooms(tree: Path) -> None:
    for name, rooms in uses_of_banned(tree).items():
        assert rooms <= BANNED[name], name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from opentelemetry.sdk.trace import ReadableSpan", "opentelemetry.sdk"),
        ("import opentelemetry.sdk.trace.export", "opentelemetry.sdk"),
        ("import os; os.environ", "os.environ"),
        ("from os import environ", "os.environ"),
        ("import os; os.getenv('A')", "os.getenv"),
    ],
)
def test_a_planted_use_is_found_in_a_room_that_may_not(tree: Path, line: str, name: str) -> None:
    plant(tree, "batch.py", line)
    plant(tree, "processor/__init__.py", line)
    rooms = uses_of_banned(tree)[name]
    assert "batch" in rooms
    assert "processor" in rooms  # allowed the SDK, not the environment: the ban is looked at by name
    command = [BIN / "ruff", "check", "--no-cache", "--select=TID251", "--output-format=concise", "src"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60, check=False)
    assert "batch.py" in done.stdout  # and `ruff check` with our settings refuses it
