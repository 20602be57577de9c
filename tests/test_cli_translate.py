"""``otel-langfuse translate`` as its users have it, with standard input, output and error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pty = pytest.importorskip("pty", reason="terminals are tested where there are pseudo-terminals")

from click.testing import CliRunner  # noqa: E402 - after what may skip all of it

from otel_langfuse.cli import cli  # noqa: E402
from otel_langfuse.encode.otlp import to_json, to_protobuf  # noqa: E402
from otel_langfuse.model import Resource, Scope, Span  # noqa: E402
from otel_langfuse.spans import from_otlp_json  # noqa: E402

COMMAND = [sys.executable, "-m", "otel_langfuse"]
SHARED = Path(__file__).parents[2] / "shared" / "cases"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def spans(name: str = "s", **attributes: Any) -> list[Span]:
    return [Span(TRACE, SPAN, None, name, 10**18, 10**18 + 5 * 10**6, attributes, Resource(), Scope("a"))]


def line(name: str = "s", **attributes: Any) -> bytes:
    return to_json(spans(name, **attributes)) + b"\n"


def run(*arguments: str, stdin: bytes = b"") -> tuple[int, list[bytes], str]:
    """Exit status, the lines of standard output, and standard error; in this process, because it is done so often."""
    done = CliRunner().invoke(cli, arguments, input=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert done.stdout_bytes.endswith(b"\n") or not done.stdout_bytes
    return done.exit_code, done.stdout_bytes.split(b"\n")[:-1], done.stderr


def names(lines: list[bytes]) -> list[str | None]:
    """The name of the observation of each line; None for a line without events."""
    return [events[-1]["body"]["name"] if (events := json.loads(text)) else None for text in lines]


def test_each_line_becomes_the_ingestion_events_of_its_spans() -> None:
    status, lines, errors = run("translate", "-", stdin=line("a", **{"langfuse.observation.type": "tool"}) + line("b"))
    assert (status, errors) == (0, "")
    trace, observation = json.loads(lines[0])
    assert (trace["type"], trace["body"]["id"], trace["body"]["name"]) == ("trace-create", TRACE, "a")
    assert (observation["type"], observation["body"]["id"], observation["body"]["traceId"]) == ("tool-create", SPAN, TRACE)
    assert observation["timestamp"].endswith("Z")
    assert names(lines) == ["a", "b"]


@pytest.mark.parametrize("last", [b"", b"\n"])
def test_a_line_that_cannot_be_read_gives_no_events_its_number_and_status_1_and_the_rest_is_done(last: bytes) -> None:
    cut_off = line("cut")[:-30] + b"\n"
    without_ids = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{}]}]}]}\n'
    bad = [b"nonsense\n", b"\n", cut_off, without_ids, b"\xff\xfe\x00\n", b'{"resourceSpans": [NaN]}\n', b"[]\n"]
    status, lines, errors = run("translate", "-", stdin=line("a") + b"".join(bad) + line("b").strip() + last)
    assert status == 1
    assert lines[1:-1] == [b"[]"] * len(bad)
    assert names(lines) == ["a", *[None] * len(bad), "b"]
    assert [text.partition(":")[0] for text in errors.splitlines()] == [f"line {i}" for i in range(2, 9)]


@pytest.mark.parametrize(
    "first",
    [b'{"resourceSpans": [{"scopeSp\n', b'{"resourceSpans": [\n', b"{\n", b"nonsense\n", b"\n", b'{"a": 1}]\n'],
    ids=["in a string", "between values", "at once", "no JSON", "empty", "too much"],
)
def test_a_broken_first_line_costs_nothing_but_itself(first: bytes) -> None:
    status, lines, errors = run("translate", "-", stdin=first + line("a") + first + line("b"))
    assert status == 1
    assert names(lines) == [None, "a", None, "b"]
    assert [text.partition(":")[0] for text in errors.splitlines()] == ["line 1", "line 3"]


def test_lines_that_are_cut_off_in_a_string_are_never_taken_together() -> None:
    cut_off = b'{"resourceSpans": [{"scopeSp\n'
    status, lines, errors = run("translate", "-", stdin=cut_off * 3)
    assert (status, lines) == (1, [b"[]"] * 3)
    assert len(errors.splitlines()) == 3


@pytest.mark.parametrize("indent", [0, 2, "\t"])
def test_documents_over_many_lines_are_one_request_each(tmp_path: Path, indent: Any) -> None:
    documents = [json.loads(line(name, text='{ "[\\" }\n')) for name in "abc"]
    file = tmp_path / "requests.json"
    file.write_text("\n\n".join(json.dumps(document, indent=indent) for document in documents))
    status, lines, errors = run("translate", str(file))
    assert (status, errors) == (0, "")
    assert names(lines) == ["a", "b", "c"]


def test_a_document_whose_resources_stand_on_lines_of_their_own_is_one_request() -> None:
    (entry,) = json.loads(line("a"))["resourceSpans"]
    text = '{"resourceSpans": [\n' + json.dumps(entry) + "\n]\n}"
    status, lines, _ = run("translate", "-", stdin=text.encode())
    assert (status, names(lines)) == (0, ["a"])


def test_a_document_that_ends_too_early_is_told_with_its_lines() -> None:
    text = json.dumps(json.loads(line("a")), indent=1).encode()
    status, lines, errors = run("translate", "-", stdin=text + b"\n" + text[:-10])
    assert (status, names(lines)) == (1, ["a", None])
    count = text.count(b"\n") + 1
    assert errors.startswith(f"lines {count + 1}-")


def test_a_pb_file_is_one_request(tmp_path: Path) -> None:
    file = tmp_path / "request.pb"
    file.write_bytes(to_protobuf([*spans("a"), *spans("b")]))
    status, lines, _ = run("translate", str(file))
    assert (status, names(lines)) == (0, ["b"])
    file.write_bytes(b"\xff" * 20)
    status, lines, errors = run("translate", str(file))
    assert (status, lines) == (1, [b"[]"])
    assert errors.startswith("the file: not a protobuf")


def test_to_otlp_writes_the_spans_as_they_would_be_sent() -> None:
    status, lines, _ = run("translate", "--to", "otlp", "-", stdin=line("a", n=2**60) + b"x\n")
    assert status == 1
    assert from_otlp_json(lines[0]) == spans("a", n=2**60)
    assert lines[1] == b"[]"
    status, lines, errors = run("translate", "--to", "otlp", "--as-server", "-")
    assert (status, lines) == (2, [])
    assert "--as-server" in errors


def test_as_server_what_makes_the_server_fail_gives_no_events_and_is_told() -> None:
    killer = line("a", **{"operation.name": 5})
    status, lines, errors = run("translate", "--as-server", "-", stdin=killer + line("b"))
    assert (status, names(lines)) == (1, [None, "b"])
    assert errors.startswith("line 1: ")
    status, lines, errors = run("translate", "-", stdin=killer)
    assert (status, names(lines), errors) == (0, ["a"], "")


def test_nothing_of_the_input_reaches_the_terminal() -> None:
    hostile = line("a", **{"operation.name": 5}).replace(SPAN.encode(), b"\\u001b[31mred\\u0007")
    _, _, errors = run("translate", "--as-server", "-", stdin=hostile + b'\x1b[31m{"secret"\n')
    assert len(errors.splitlines()) == 2
    assert errors.isprintable() or set(errors) - {"\n"} == {letter for letter in errors if letter.isprintable()}
    assert "secret" not in errors


def test_values_that_only_json_can_hold_are_written() -> None:
    status, lines, _ = run("translate", "-", stdin=line("half").replace(b"half", b"half \\ud83d"))
    assert status == 0
    assert json.loads(lines[0])[-1]["body"]["name"].startswith("half ")


def test_each_answer_is_there_before_the_next_request_is_sent() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [*COMMAND, "translate", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdin
        assert process.stdout
        stop = threading.Timer(30, process.kill)
        stop.start()
        for name in ("a", "b", "c"):
            process.stdin.write(line(name))
            process.stdin.flush()
            assert names([process.stdout.readline()]) == [name]
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        stop.cancel()


def test_a_reader_that_goes_away_is_no_error_to_talk_about() -> None:
    with subprocess.Popen(
        [*COMMAND, "translate", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(line("a"))
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(line("b") * 3)
        process.stdin.close()
        assert process.wait(timeout=30) == 1
        assert process.stderr.read() == b""


MEASURED = """
import resource, subprocess, sys
command = [sys.executable, "-m", "otel_langfuse", "translate", "-"]
process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
for _ in range(300):
    process.stdin.write(b'{"resourceSpans":[],"padding":"' + b"x" * 10**6 + b'"}' + chr(10).encode())
process.stdin.close()
assert process.wait() == 0
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def test_input_of_any_size_is_read_in_flat_memory() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, timeout=60, check=True)
    assert int(done.stdout) < 150, "MB, for 300 MB of input"


def on_a_terminal(*arguments: str, stdin: bytes = b"") -> tuple[bytes, bytes]:
    """Standard output, and what was seen on the terminal that is standard error."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    seen: list[bytes] = []

    def watch() -> None:
        try:
            while data := os.read(ours, 4096):
                seen.append(data)
        except OSError:  # the other end is closed: Linux's way to say that this is all
            pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = subprocess.run(
            [*COMMAND, *arguments], input=stdin, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False, env=environ
        )
    finally:
        os.close(theirs)
        watcher.join(timeout=10)
        os.close(ours)
    return done.stdout, b"".join(seen)


def test_progress_is_shown_on_a_terminal_for_a_file_and_only_there(tmp_path: Path) -> None:
    file = tmp_path / "requests.ndjson"
    killer = line("a", **{"operation.name": 5}).replace(SPAN.encode(), b"[/red]")  # which is markup to what draws the bar
    file.write_bytes(line("a") * 50 + killer)
    out, seen = on_a_terminal("translate", "--as-server", str(file))
    assert len(out.splitlines()) == 51
    assert b"line 51: span [/red]" in seen
    assert b"\x1b[" in seen
    assert b"bytes" in seen or b"kB" in seen
    _, seen = on_a_terminal("translate", "-", stdin=b"bad\n")
    assert seen.startswith(b"line 1: not JSON")
    assert b"\x1b[" not in seen


def without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules[{module!r}] = None; sys.argv = ['otel-langfuse', *{arguments!r}]\n"
    code += "from otel_langfuse.__main__ import main; main()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_without_its_extra_the_command_says_what_to_install() -> None:
    done = without("click", "translate", "-")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'pip install "otel-langfuse[cli]"' in done.stderr


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([*COMMAND, "translate", "-"], input=line("a") + b"x", capture_output=True, timeout=60, check=False)
    assert (done.returncode, names(done.stdout.splitlines())) == (1, ["a", None])
    assert done.stderr.startswith(b"line 2: ")


def test_help_and_version_are_told() -> None:
    status, lines, _ = run("--version")
    assert (status, lines[0].startswith(b"otel-langfuse")) == (0, True)
    status, lines, _ = run("--help")
    assert status == 0
    assert all(any(command in text for text in lines) for command in (b"  translate", b"  show", b"  demo"))


def test_a_file_that_is_not_there_is_status_2() -> None:
    status, _, errors = run("translate", "/nowhere/at/all")
    assert status == 2
    assert "does not exist" in errors


@pytest.mark.skipif(not SHARED.is_dir(), reason="the captured cases are not part of the repository")
def test_captured_spans_are_translated_as_the_real_server_did() -> None:
    command = [sys.executable, str(SHARED / "check.py"), str(SHARED / "corpus"), "--", *COMMAND, "translate", "--as-server", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
