"""The repository is laid out as the house's plan says, and holds nothing of the machine that it was written on."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src/otel_langfuse"

TOP_LEVEL = {
    ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "benchmarks", "conformance", "examples",
    "pyproject.toml", "src", "tests",
}  # fmt: skip

NOT_OURS_TO_TELL = {
    "a home directory": r"(?<![\w.~-])(?:/home/\w|/root/|/Users/\w|~/\.\w)",
    "a machine's path": r"(?<![\w.~/-])/(?:work|opt|srv|mnt)/\w",
    "a registry of one's own": r"(?i)artifactory|jfrog|devpi|\.corp\b|\.internal/|extra[-_]index[-_]url|find[-_]links",
    "an e-mail address": r"\b[\w.+-]+@(?!(?:[\w-]+\.)*example\b)[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|dev|ai|de)\b",
}

# OpenTelemetry's private names that we use: slot -> why, and what happens where it is not there.
PRIVATE_SLOTS = {
    "_RUNTIME_CONTEXT": "opentelemetry.context: the public detach() logs an error where a generator is closed in another task; "
    "without it, that one is called",
    "_current_context": "its runtime's ContextVar: one call instead of three to read, attach or detach; without it, or where the "
    "runtime is another one, the runtime is asked",
    "_SUPPRESS_INSTRUMENTATION_KEY": "opentelemetry.context: by it instrumentations agree to look away; without it, its "
    "older name alone is set",
    "_SUPPRESS_HTTP_INSTRUMENTATION_KEY": "opentelemetry.context: as above, for HTTP clients",
    "_GRPC_ENABLE_FORK_SUPPORT": "grpcio: whether a forked child closes its parent's channels; without it, it does not",
    "_TRACER_PROVIDER": "opentelemetry.trace: get_tracer_provider() reads the environment as long as no provider is set; without "
    "it, that function is asked",
    "_SPAN_KEY": "opentelemetry.trace: to set the current span and our own value in one copy of the context; without it, in two",
    "_start_time": "the SDK's span: the classic client may say it later; without it, it is left out, with a note",
    "_end_time": "the SDK's span, with its _attributes, their _dict and its _lock: set_attributes() examines each value anew, "
    "which takes several times as long as setting it; where one of these four is not as expected, that method is called; "
    "and on_end reads that _dict, where it is one, without the copy that the public property would make",
    "_active_span_processor": "the SDK's provider: whether the application added a processor of ours beside the agent's; without "
    "it, both send",
    "_span_processors": "the SDK's multi-processor: as above",
    "_span_processor": "the SDK's span: tells providers apart, whose processors are to know of each other; without it, their "
    "resources do",
    "_instance": "BaseInstrumentor of opentelemetry-instrumentation: whether another instrumentation is at work, without making "
    "it; without it, nobody is seen, and both record",
    "_events": "the SDK's span: the public property copies, mostly nothing; without it, that one is read",
    "_instrumentation_scope": "the SDK's span, with its _name, _context, _parent, _resource, _kind and the like: fifteen of "
    "its properties read in one call (spans/_slots.py); where they do not say what the properties do, those are read; and those "
    "three are asked when a span starts and ends; without them, the properties are, and more is asked",
    "_status": "as above",
    "_status_code": "of its Status: as above",
    "_description": "of its Status: as above",
    "_dq": "of its lists of events and links: as above",
}

PUBLIC_IN_SPITE_OF_THE_UNDERSCORE = {"_replace", "_asdict", "_fields", "_make", "_value_"}  # of named tuples and enums


def files() -> list[Path]:
    """What is committed, or would be with `git add .`, relative to the repository."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (ROOT / (path := Path(name))).is_file()]


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package: its path inside it, and its syntax tree."""
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}


def test_the_top_level_is_exactly_the_plan() -> None:
    paths = files()
    assert {path.parts[0] for path in paths} == TOP_LEVEL
    assert {path.parts[1] for path in paths if path.parts[0] == "src"} == {"otel_langfuse"}
    assert {path.parts[1] for path in paths if path.parts[0] == ".ci"} == {"run"}


@pytest.mark.parametrize("what", NOT_OURS_TO_TELL)
def test_no_file_tells_of_a_person_or_a_machine(what: str) -> None:
    pattern = re.compile(NOT_OURS_TO_TELL[what])
    found = []
    for path in files():
        if path == Path("tests/test_house.py"):
            continue
        text = (ROOT / path).read_text(errors="replace")
        found += [f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in pattern.finditer(text)]
    assert not found, found[:20]


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a home directory", "see /home/ada/x"),
        ("a home directory", '"/root/.cache"'),
        ("a home directory", "~/.pyenv/versions"),
        ("a machine's path", "(/work/shared/house.md)"),
        ("a registry of one's own", "--find-links=x"),
        ("a registry of one's own", "https://acme.jfrog.io/pypi"),
        ("an e-mail address", "ada.l@somewhere.org"),
    ],
)
def test_what_must_not_be_told_is_recognised(what: str, text: str) -> None:
    assert re.search(NOT_OURS_TO_TELL[what], text)
    assert not re.search(NOT_OURS_TO_TELL[what], "ada@example.com, /api/public/otel/v1/traces, src/work/x, sqlite:////tmp/x.db")


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def foreign_private_names(tree: ast.Module, ours: set[str]) -> set[str]:
    """Names with an underscore that this module reads off something else than itself, and we do not define."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}):
            names.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "hasattr"}:
            names |= {arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attrgetter":
            paths = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            names |= {name for path in paths for name in path.split(".")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("opentelemetry"):
            names |= set((node.module or "").split(".")) | {alias.name for alias in node.names}
    return {name for name in names if re.match(r"_[^_]", name)} - ours - PUBLIC_IN_SPITE_OF_THE_UNDERSCORE


def defined_names(tree: ast.Module) -> set[str]:
    """Names that this module defines: functions, classes, variables of modules, classes and instances."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    return names


def test_private_slots_of_opentelemetry_are_listed_with_a_reason() -> None:
    trees = modules()
    ours = set().union(*map(defined_names, trees.values())) | {Path(name).stem for name in trees}
    used = {name: foreign_private_names(tree, ours) for name, tree in trees.items()}
    assert {slot for slots in used.values() for slot in slots} == set(PRIVATE_SLOTS), used


@pytest.mark.parametrize(
    "line",
    [
        "span._attributes",
        "getattr(span, '_attributes', None)",
        "attrgetter('name', 'status._attributes')",
        "from opentelemetry.sdk._shared_internal import _attributes",
    ],
)
def test_a_private_slot_is_recognised(line: str) -> None:
    assert "_attributes" in foreign_private_names(ast.parse(line), ours=set())


def code_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip() and not line.strip().startswith("#"))


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function's name, and its lines, docstring and all."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_sizes_are_said_but_not_enforced(remarks: list[str]) -> None:
    for name, tree in modules().items():
        lines = code_lines((SOURCE / name).read_text())
        remarks += [f"{name}: {lines} lines; is it still one room?"] * (lines > 450)
        remarks += [f"{name}: {function}() has {size} lines" for function, size in functions(tree) if size > 60]
