"""The command line: ``otel-langfuse translate | show | demo``. The rooms do the work; here it is read and written."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn

import click
import orjson

if TYPE_CHECKING:
    from otel_langfuse.model import Span

_NOTHING = b"[]"
"""What is written for a request that cannot be read: Langfuse's server answers it with no events (mapping.md 1.2)."""


_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')


class _Chunk(NamedTuple):
    """A piece of the input that should be one request. ``first`` is its first line, counted from 1; 0 for a .pb file."""

    first: int
    lines: int
    payload: bytes

    @property
    def place(self) -> str:
        if not self.first:
            return "the file"
        return f"line {self.first}" if self.lines == 1 else f"lines {self.first}-{self.first + self.lines - 1}"


def _version() -> str:
    try:
        return version("otel-langfuse")
    except PackageNotFoundError:  # run from its sources
        return "(not installed)"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(_version(), prog_name="otel-langfuse")
def cli() -> None:
    """OpenTelemetry spans as Langfuse observations."""


# -- translate ---------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--as-server", is_flag=True, help="Leave out our corrections: exactly what Langfuse's server would make.")
@click.option(
    "--to",
    type=click.Choice(["ingestion", "otlp"]),
    default="ingestion",
    show_default=True,
    help="Ingestion events, or the OTLP/JSON that would be sent.",
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.pass_context
def translate(context: click.Context, file: str, to: str, *, as_server: bool) -> None:
    """Translate OTLP trace requests: for each that is read from FILE (- is standard input), one line is written.

    FILE holds one request as JSON on each line, or requests pretty-printed over many lines, or, if its name ends in .pb,
    one as protobuf. For what cannot be read, [] is written and the reason told on standard error; the exit status is
    then 1, and the rest is still done.
    """
    if as_server and to == "otlp":
        raise click.UsageError("--as-server is about translating, and --to otlp does not translate.")
    from otel_langfuse.spans import from_otlp, from_otlp_json

    write = _otlp if to == "otlp" else _ingestion(corrections=not as_server)
    with click.open_file(file, "rb") as source, _progress(source) as progress:
        if file.endswith(".pb"):
            chunks, read = iter([_Chunk(0, 0, source.read())]), from_otlp
        else:
            chunks, read = _chunks(source), from_otlp_json
        failed = _translate(chunks, lambda payload: write(read(payload)), sys.stdout.buffer, progress)
    context.exit(1 if failed else 0)


class _Progress(NamedTuple):
    """What is told while the command runs: ``advance`` takes the bytes that were read, ``say`` a line for the user."""

    advance: Callable[[int], object]
    say: Callable[[str], object]


def _translate(chunks: Iterable[_Chunk], write: Callable[[bytes], bytes], out: IO[bytes], progress: _Progress) -> bool:
    """Write one line for each chunk. True if one could not be read.

    Each line is flushed, because whoever reads it may be waiting for it before sending the next request.
    """
    failed = False
    for chunk in chunks:
        try:
            line = write(chunk.payload)
        except Exception as error:  # noqa: BLE001 - one bad request costs itself only, whatever is wrong with it
            failed = True
            line = _NOTHING
            progress.say(f"{chunk.place}: {_reason(error)}")
        out.write(line + b"\n")
        out.flush()
        progress.advance(len(chunk.payload))
    return failed


def _reason(error: Exception) -> str:
    """Our own errors say what is wrong without any content; of others, only their type is shown."""
    from otel_langfuse.spans import Unreadable
    from otel_langfuse.translate import UntranslatableError

    known = isinstance(error, (Unreadable, UntranslatableError))
    text = str(error) if known else f"{type(error).__name__} while translating; please report it"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _otlp(spans: list[Span]) -> bytes:
    from otel_langfuse.encode.otlp import to_json

    return to_json(spans)


def _ingestion(*, corrections: bool) -> Callable[[list[Span]], bytes]:
    from otel_langfuse.encode.ingestion import events
    from otel_langfuse.translate import translate_all

    def write(spans: list[Span]) -> bytes:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return _json(events(translate_all(spans, corrections=corrections), now=now, corrections=corrections))

    return write


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate, or an integer beyond 64 bits: JSON can hold them, orjson cannot
        return json.dumps(value, separators=(",", ":"), default=str).encode()


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, one line for each span.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.pass_context
def explain(context: click.Context, file: str, *, as_json: bool) -> None:
    """Say for each span of FILE (as translate reads it) which rule set which field, from what, and where the server differs."""
    try:
        from otel_langfuse.local.explain import explain as run
    except ModuleNotFoundError as error:
        _refuse(error, "explain", "cli")
    with click.open_file(file, "rb") as source:
        chunks = iter([_Chunk(0, 0, source.read())]) if file.endswith(".pb") else _chunks(source)
        context.exit(run(((chunk.place, chunk.payload) for chunk in chunks), as_json, sys.stdout))


# -- reading requests --------------------------------------------------------------------------------------------------


def _chunks(source: Iterable[bytes]) -> Iterator[_Chunk]:
    """One chunk for each line; or, where a line only opens a JSON object, one for all lines up to where it is closed.

    Memory is that of one request. A line that is cut off costs nothing but itself: as soon as a line cannot be part of
    a pretty-printed object, because a string is cut off on it or it is a request by itself, what was held and all that
    follows is taken line by line.
    """
    numbered = enumerate(source, 1)
    held: list[bytes] = []
    depth = 0
    after_object = False
    for number, line in numbered:
        if after_object and not line.strip():
            continue
        change = _depth(line)
        held.append(line)
        if change is None or not (_continues(line, change) if depth else change > 0):
            yield from (_Chunk(at, 1, text) for at, text in enumerate(held, number - len(held) + 1))
            held = []
            break
        depth += change
        after_object = depth <= 0
        if after_object:
            yield _Chunk(number - len(held) + 1, len(held), b"".join(held))
            held = []
            depth = 0
    if held:  # the input ended within an object
        yield _Chunk(number - len(held) + 1, len(held), b"".join(held))
    for number, line in numbered:
        yield _Chunk(number, 1, line)


def _continues(line: bytes, change: int) -> bool:
    """Whether the line can stand inside an object that was opened before: it is not a request by itself."""
    return change != 0 or b'"resourceSpans"' not in line


def _depth(line: bytes) -> int | None:
    """How many more objects and lists are opened on the line than closed; None if a string is cut off on it."""
    bare = _STRING.sub(b"", line)
    if b'"' in bare:
        return None
    return bare.count(b"{") + bare.count(b"[") - bare.count(b"}") - bare.count(b"]")


# -- progress ----------------------------------------------------------------------------------------------------------


def _say(line: str) -> None:
    click.echo(line, err=True)


def _progress(source: IO[bytes]) -> AbstractContextManager[_Progress]:
    """A bar where somebody watches and the end is known: a file is read, and only standard error is a terminal."""
    size = _size(source)
    if not size or not sys.stderr.isatty() or sys.stdout.isatty():
        return nullcontext(_Progress(lambda _: None, _say))
    return _Bar(size)


def _size(source: IO[bytes]) -> int:
    """Bytes of a regular file; 0 for anything else, whose end nobody knows."""
    try:
        status = os.fstat(source.fileno())
    except OSError:  # no file at all, but something that reads like one
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


class _Bar(AbstractContextManager[_Progress]):
    """Rich's bar on standard error, which makes room for the lines that are said."""

    def __init__(self, size: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._shown = Progress(*columns, console=console, transient=True, redirect_stdout=False)
        self._size = size

    def __enter__(self) -> _Progress:
        task = self._shown.__enter__().add_task("translate", total=self._size)

        def say(line: str) -> None:
            self._shown.console.print(line, markup=False, highlight=False, soft_wrap=True)

        return _Progress(lambda count: self._shown.advance(task, count), say)

    def __exit__(self, *exception: Any) -> None:
        self._shown.__exit__(*exception)


# -- show and demo -----------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--db", type=click.Path(), help="The SQLite store; default: the one of LANGFUSE_BASE_URL.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many traces are listed.")
@click.argument("trace_id", required=False)
@click.pass_context
def show(context: click.Context, db: str | None, limit: int, trace_id: str | None, *, as_json: bool) -> None:
    """List the latest traces of the local store, or draw one of them."""
    try:
        from otel_langfuse.local.show import show as run
    except ModuleNotFoundError as error:
        _refuse(error, "show", "cli")
    context.exit(run(db, trace_id, as_json, limit, sys.stdout))


@cli.command()
@click.option("--db", type=click.Path(), help="Where the spans are stored; default: a file that is removed afterwards.")
@click.option("--keep", is_flag=True, help="Keep the file, and say where it is.")
@click.pass_context
def demo(context: click.Context, db: str | None, *, keep: bool) -> None:
    """Run a small, instrumented OpenAI application on this machine alone, and draw its trace."""
    try:
        from otel_langfuse.local.demo import ENVIRONMENT, run_demo
    except ModuleNotFoundError as error:
        _refuse(error, "demo", "demo")
    for name, value in ENVIRONMENT.items():  # what a user would set for the instrumentation
        os.environ.setdefault(name, value)
    context.exit(run_demo(db, keep, sys.stdout))


# -- doctor ------------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--base-url", metavar="URL", help="Instead of LANGFUSE_BASE_URL; also sqlite:///FILE.")
@click.option("--endpoint", metavar="URL", help="Look at this OTLP collector instead of Langfuse.")
@click.option("--grpc", is_flag=True, help="The collector speaks gRPC.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="For the collector; may be repeated.")
@click.option("--timeout", type=float, metavar="SECONDS", help="For each step; default: LANGFUSE_TIMEOUT, else 5.")
@click.option("--no-send", is_flag=True, help="Send no test observation.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.pass_context
def doctor(
    context: click.Context,
    base_url: str | None,
    endpoint: str | None,
    headers: tuple[str, ...],
    timeout: float | None,
    *,
    grpc: bool,
    no_send: bool,
    as_json: bool,
) -> None:
    """Look for what keeps observations from arriving, and say what to do about it.

    Settings, name resolution, connection, TLS, server, clock, credentials and write mode are looked at, and one test observation
    is sent, in the environment otel-langfuse-doctor. Nothing but the configured destination is asked. The exit status is 1 if
    something fails.
    """
    from otel_langfuse.local.doctor import Collector
    from otel_langfuse.local.doctor import doctor as run

    collector = None
    if endpoint is not None:
        if base_url is not None:
            raise click.UsageError("--base-url is for Langfuse, --endpoint for a collector.")
        collector = Collector(endpoint, "grpc" if grpc else "http/protobuf", _headers(headers))
    elif headers or grpc:
        raise click.UsageError("--header and --grpc are for --endpoint.")
    logging.getLogger("otel_langfuse").disabled = True  # the report says it all
    environ = dict(os.environ)
    os.environ.pop("LANGFUSE_SPOOL_PATH", None)  # what cannot be sent now is to be told, not kept
    options = {"base_url": base_url, "timeout": timeout}
    context.exit(run(environ, options, sys.stdout, collector=collector, sends=not no_send, as_json=as_json))


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    if not all("=" in header for header in given):
        raise click.UsageError("--header takes NAME=VALUE.")
    return {name: value for name, _, value in (header.partition("=") for header in given)}


# -- spool -------------------------------------------------------------------------------------------------------------


@cli.group()
def spool() -> None:
    """Look after a file that keeps what could not be sent (LANGFUSE_SPOOL_PATH)."""


@spool.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.argument("path", type=click.Path(dir_okay=False))
@click.pass_context
def status(context: click.Context, path: str, *, as_json: bool) -> None:
    """Say what is kept in PATH, and for whom."""
    from otel_langfuse.local.spooled import status as run

    context.exit(run(path, as_json, sys.stdout))


@spool.command()
@click.option("--endpoint", metavar="URL", help="Send what is for this collector; default: what is for Langfuse.")
@click.option("--grpc", is_flag=True, help="The collector speaks gRPC.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="For the collector; may be repeated.")
@click.option("--any-key", is_flag=True, help="Also what was kept for the same server under another public key.")
@click.argument("path", type=click.Path(dir_okay=False))
@click.pass_context
def send(context: click.Context, path: str, endpoint: str | None, headers: tuple[str, ...], *, grpc: bool, any_key: bool) -> None:
    """Send what ended processes left in PATH, with the keys and the address of LANGFUSE_*.

    What running processes have kept there, they send themselves. The exit status is 1 if something is left.
    """
    from otel_langfuse.local.spooled import Collector
    from otel_langfuse.local.spooled import send as run

    if endpoint is None and (headers or grpc):
        raise click.UsageError("--header and --grpc are for --endpoint.")
    if not all("=" in header for header in headers):
        raise click.UsageError("--header takes NAME=VALUE.")
    given = {name: value for name, _, value in (header.partition("=") for header in headers)}
    collector = None if endpoint is None else Collector(endpoint, "grpc" if grpc else "http/protobuf", given)
    context.exit(run(path, collector, any_key, sys.stdout))


@spool.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("path", type=click.Path(dir_okay=False))
@click.pass_context
def clear(context: click.Context, path: str, *, yes: bool) -> None:
    """Remove everything from PATH, unsent."""
    from otel_langfuse.local import spooled

    if not yes:
        code = spooled.status(path, False, sys.stdout)
        if code:
            context.exit(code)
        click.confirm("Remove it, unsent?", abort=True)
    context.exit(spooled.clear(path, sys.stdout))


def _refuse(error: ModuleNotFoundError, command: str, extra: str) -> NoReturn:
    """Say which extra a command needs, unless it is our own module that is missing. Exits with status 2."""
    if (error.name or "otel_langfuse").startswith("otel_langfuse"):
        raise error
    click.echo(f'otel-langfuse {command} needs {error.name}: pip install "otel-langfuse[{extra}]"', err=True)
    sys.exit(2)
