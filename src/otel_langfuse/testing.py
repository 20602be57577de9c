"""For tests of your own tracing: what the code inside of a ``with`` block records, as observations.

    with capture() as observations:
        answer("Why?")
    assert observations.one("answer").output == "Because."

Or, with the pytest plugin, by the fixture ``langfuse_observations``. Spans go the whole way of a ``LangfuseSpanProcessor``, mask
and filter and all, into memory; nothing is sent from here, and other processors of the application get what they always get.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, overload

import orjson
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from . import picture
from .config import Config
from .model import Json, Observation, TraceFields
from .processor import LangfuseSpanProcessor, ProcessorSettings
from .spans import from_sdk
from .translate import translate_all

if TYPE_CHECKING:
    from typing_extensions import Unpack

START_TIME: Final = 1_767_225_600_000_000_000
"""Where the fixed clock begins, in nanoseconds: 2026-01-01T00:00:00Z."""

TICK: Final = 1_000_000_000
"""Between two starts or ends by the fixed clock, in nanoseconds."""

_FLUSH_MS: Final = 30_000
_OF_THE_PLATFORM: Final = frozenset({"attributes", "resourceAttributes", "scope"})
"""What every observation's metadata has beside the user's own: it differs between machines and versions."""

_SHOWN: Final = (
    "level",
    "status_message",
    "environment",
    "version",
    "model",
    "model_parameters",
    "prompt_name",
    "prompt_version",
    "usage_details",
    "cost_details",
    "input",
    "output",
    "metadata",
)
_SHOWN_OF_TRACE: Final = ("name", "user_id", "session_id", "tags", "release", "public", "input", "output", "metadata")
_OF_ROOT: Final = ("name", "input", "output")
"""What a trace has from its root, where nobody says it otherwise."""

_DEFAULTS: Final[Mapping[str, Any]] = {"level": "DEFAULT", "environment": "default"}


class Captured(Sequence[Observation]):
    """The observations of a block, in the order in which they started; also while it runs, those that have ended.

    Ids and times are fixed: the first trace is ``000...1``, and each start and end is a second after the one before, from
    ``START_TIME`` on. So they are the same in every run in which the same things happen in the same order.
    """

    def __init__(self, memory: _Memory, processor: LangfuseSpanProcessor, *, fixed: bool) -> None:
        self._memory = memory
        self._processor = processor
        self._fixed = fixed
        self._made: tuple[int, list[Observation]] = (0, [])

    @overload
    def __getitem__(self, index: int) -> Observation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Observation]: ...
    def __getitem__(self, index: int | slice) -> Observation | Sequence[Observation]:
        return self._observations()[index]

    def __len__(self) -> int:
        return len(self._observations())

    def __repr__(self) -> str:
        return f"<{len(self)} observations: {', '.join(str(one.name) for one in self)}>"

    @property
    def running(self) -> list[str]:
        """Names of the spans that have started and not ended: forgotten ones, when the block is over."""
        return self._memory.running()

    def named(self, name: str) -> list[Observation]:
        """All observations of that name."""
        return [one for one in self if one.name == name]

    def one(self, name: str | None = None) -> Observation:
        """The only observation, or the only one of that name.

        Raises:
            AssertionError: there is none, or more than one; the message names what there is.
        """
        found = list(self) if name is None else self.named(name)
        if len(found) != 1:
            of = "" if name is None else f" named {name!r}"
            raise AssertionError(f"expected one observation{of}, found {len(found)} among {[str(one.name) for one in self]}")
        return found[0]

    def tree(self) -> list[dict[str, Json]]:
        """Each trace as JSON: its fields, and its ``observations``, each with those below it; only what is set."""
        return [{**_said_of_trace(group), "observations": _branches(group)} for group in _by_trace(self)]

    def snapshot(self) -> str:
        """The whole of it as text: one line for each observation and each of its fields that is set, children indented.

        The same in every run, on every machine: it names no ids, no times, and of metadata only the user's own.
        """
        lines: list[str] = []
        for number, entry in enumerate(self.tree(), 1):
            lines.append(f"trace {number}")
            lines += [f"  {name}: {_shown(value)}" for name, value in entry.items() if name != "observations"]
            for one in entry["observations"]:
                lines += _lines(one, "  ")
        return "\n".join(lines) + "\n" if lines else ""

    def _observations(self) -> list[Observation]:
        self._processor.force_flush(_FLUSH_MS)
        spans = self._memory.spans
        if len(spans) != self._made[0]:
            read, _ = from_sdk(list(spans))
            made = sorted(translate_all(read), key=lambda one: one.start_time_unix_nano or 0)
            self._made = len(read), _fixed(made) if self._fixed else made
        return self._made[1]


@contextmanager
def capture(*, tracer_provider: Any = None, fixed: bool = True, **settings: Unpack[ProcessorSettings]) -> Iterator[Captured]:
    """Captures what the block records, on any thread.

    Args:
        tracer_provider: an SDK TracerProvider; by default the global one, which is set if nobody has set one.
        fixed: whether ids and times are made the same in every run.
        **settings: of the ``LangfuseSpanProcessor`` that the spans go through, ``mask`` for instance. ``sample_rate`` is 1 here,
            whatever the environment says.

    Raises:
        ConfigError: a setting cannot work.
        RuntimeError: the provider takes no span processors, or ``LANGFUSE_TRACING_ENABLED`` is false.
    """
    if not Config.from_env().enabled:
        raise RuntimeError("capture(): LANGFUSE_TRACING_ENABLED is false: nothing is recorded")
    settings.setdefault("sample_rate", 1.0)
    settings.setdefault("flush_on_exit", False)
    memory = _Memory()
    processor = LangfuseSpanProcessor(memory, **settings)
    switch = _switch(tracer_provider)
    captured = Captured(memory, processor, fixed=fixed)
    switch.put(processor, memory)
    try:
        yield captured
    finally:
        switch.remove(processor)
        len(captured)  # what has ended by now is in it
        processor.shutdown()


class _Memory(SpanExporter):
    """Keeps what would be sent, and knows what has started and not ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []
        self._running: dict[int, str] = {}

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def started(self, span: Span) -> None:
        self._running[span.context.span_id] = span.name

    def ended(self, span: ReadableSpan) -> None:
        self._running.pop(span.context.span_id, None)

    def running(self) -> list[str]:
        return list(self._running.values())


class _Switch(SpanProcessor):
    """Hands spans to the captures that are open now: a provider lets go of no processor, so it gets this one for good."""

    def __init__(self) -> None:
        self._open: tuple[tuple[LangfuseSpanProcessor, _Memory], ...] = ()
        self._lock = threading.Lock()

    def put(self, processor: LangfuseSpanProcessor, memory: _Memory) -> None:
        with self._lock:
            self._open = (*self._open, (processor, memory))

    def remove(self, processor: LangfuseSpanProcessor) -> None:
        with self._lock:
            self._open = tuple(pair for pair in self._open if pair[0] is not processor)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor, memory in self._open:
            memory.started(span)
            processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for processor, memory in self._open:
            memory.ended(span)
            processor.on_end(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - into memory it takes no time
        flushed = [processor.force_flush(_FLUSH_MS) for processor, _ in self._open]
        return all(flushed)


_switches: Final[weakref.WeakKeyDictionary[Any, _Switch]] = weakref.WeakKeyDictionary()
_lock: Final = threading.Lock()


def _switch(given: Any) -> _Switch:
    with _lock:
        provider = trace.get_tracer_provider() if given is None else given
        if given is None and isinstance(provider, trace.ProxyTracerProvider):  # nobody has set one
            trace.set_tracer_provider(TracerProvider())
            provider = trace.get_tracer_provider()
        if not hasattr(provider, "add_span_processor"):
            raise RuntimeError(
                f"capture(): {type(provider).__name__} takes no span processors; pass tracer_provider=TracerProvider()"
            )
        switch = _switches.get(provider)
        if switch is None:
            switch = _switches[provider] = _Switch()
            provider.add_span_processor(switch)
        return switch


# -- fixed ids and times -------------------------------------------------------------------------------------------------------


def _fixed(observations: Sequence[Observation]) -> list[Observation]:
    """The same, with ids and times that only tell their order."""
    traces: dict[str, str] = {}
    ids: dict[str, str] = {}
    for one in observations:
        traces.setdefault(one.trace_id, f"{len(traces) + 1:032x}")
        ids.setdefault(one.id, f"{len(ids) + 1:016x}")
    times = {time for one in observations for time in (one.start_time_unix_nano, one.end_time_unix_nano) if time is not None}
    ticks: dict[int | None, int] = {time: START_TIME + i * TICK for i, time in enumerate(sorted(times))}
    return [
        one._replace(
            id=ids[one.id],
            trace_id=traces[one.trace_id],
            parent_id=None if one.parent_id is None else ids.get(one.parent_id, "f" * 16),  # of another process
            start_time_unix_nano=ticks.get(one.start_time_unix_nano),
            end_time_unix_nano=ticks.get(one.end_time_unix_nano),
        )
        for one in observations
    ]


# -- as a tree, as text --------------------------------------------------------------------------------------------------------


def _by_trace(observations: Iterable[Observation]) -> list[list[Observation]]:
    groups: dict[str, list[Observation]] = {}
    for one in observations:
        groups.setdefault(one.trace_id, []).append(one)
    return list(groups.values())


def _said_of_trace(group: Sequence[Observation]) -> dict[str, Json]:
    """What is set of the trace, as far as its observations do not say the same."""
    found = _set_fields(_joined(one.trace for one in group), _SHOWN_OF_TRACE)
    for name in _OF_ROOT:
        if any(one.is_root and getattr(one, name) == found.get(name) for one in group):
            found.pop(name, None)
    own = {key: item for key, item in found.pop("metadata", {}).items() if all(one.metadata.get(key) != item for one in group)}
    return {**found, "metadata": own} if own else found


def _joined(said: Iterable[TraceFields]) -> TraceFields:
    """What the observations say of their trace together, as Langfuse joins it: the later wins, tags are added up."""
    joined, tags = TraceFields(), dict[Any, None]()
    for fields in said:
        tags.update(dict.fromkeys(fields.tags))
        metadata = {**(joined.metadata or {}), **(fields.metadata or {})}
        joined = joined._replace(**{name: value for name, value in fields._asdict().items() if value is not None})
        joined = joined._replace(metadata=metadata)
    return joined._replace(tags=sorted(map(str, tags)))


def _branches(group: Sequence[Observation]) -> list[Json]:
    below: dict[str | None, list[Observation]] = {}
    present = {one.id for one in group}
    for one in group:
        below.setdefault(one.parent_id if one.parent_id in present else None, []).append(one)

    def branch(one: Observation) -> dict[str, Json]:
        made: dict[str, Json] = {"type": one.type, "name": one.name, **_set_fields(one, _SHOWN)}
        if children := below.get(one.id):
            made["observations"] = [branch(child) for child in children]
        return made

    return [branch(one) for one in below.get(None, ())]


def _set_fields(values: Any, names: Sequence[str]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name in names:
        value = getattr(values, name)
        if name == "metadata":
            value = {key: item for key, item in value.items() if key not in _OF_THE_PLATFORM}
        if value is not None and value != _DEFAULTS.get(name) and value not in ({}, [], ()):
            found[name] = value
    return found


def _lines(one: Mapping[str, Json], indent: str) -> list[str]:
    lines = [f"{indent}{one['type']} {one['name']}"]
    for name, value in one.items():
        if name not in ("type", "name", "observations"):
            lines.append(f"{indent}  {name}: {_shown(value)}")
    for child in one.get("observations", ()):
        lines += _lines(child, indent + "  ")
    return lines


def _shown(value: Json) -> str:
    """JSON in one line; text that holds JSON as that."""
    if isinstance(value, str):
        with suppress(orjson.JSONDecodeError):
            value = orjson.loads(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # lone surrogates, in the text of an exception for instance
        return picture.json_text(value)
