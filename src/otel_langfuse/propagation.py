"""User, session, tags and the like for all spans that start in a piece of code, whatever library starts them; and whose they are.

The values travel in OpenTelemetry's context, so through tasks and as far as that is handed on, and
``LangfuseSpanProcessor.on_start`` copies them to each span. A thread begins with an empty context: hand it one's own, by
``contextvars.copy_context().run``, by ``opentelemetry.context.attach`` or by ``opentelemetry-instrumentation-threading``.
``asyncio.to_thread`` does so itself, executors do not. Baggage is written and read only where that is asked for.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context

from . import attributes as names
from . import baggage, limits
from .current import Block, current_context
from .model import Span
from .stats import Ledger

MAX_CHARACTERS: Final = limits.MAX_CHARACTERS


class Propagated(dict[str, Any]):
    """What is propagated in a context; never changed. A dict, because to copy any other mapping to a span takes much longer."""

    __slots__ = ()


_KEY: Final = otel_context.create_key("langfuse-propagated")
_PROJECT: Final = otel_context.create_key("langfuse-project")
_NOTHING: Final = Propagated()
_NOTES: Final = Ledger()
_DOOR: Final = "propagate_attributes"
_METADATA_PREFIX: Final = f"{names.TRACE_METADATA}."


_TEXTS: Final = (
    (names.USER_ID, "user_id"),
    (names.SESSION_ID, "session_id"),
    (names.VERSION, "version"),
    (names.TRACE_NAME, "trace_name"),
)
"""Attributes that are texts, and what they are called here."""

propagating: Final[set[str]] = set()
"""Empty as long as nobody propagates anything in this process, or would have it read: then nobody needs to look for it."""


def propagate_attributes(
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    version: str | None = None,
    trace_name: str | None = None,
    environment: str | None = None,
    prompt: Any = None,
    as_baggage: bool = False,
) -> Block:
    """Sets attributes on the current span and on every span that starts inside the ``with`` block.

    It decorates functions and coroutine functions, too: then each call is such a block.

    Inside another one, tags and metadata are added to, everything else is replaced. What a span says itself when it
    starts wins. Spans of the same trace that have ended but are not sent yet, and its root, get name, user, session, tags and
    metadata, too, where they say nothing else; what was sent already does not, but Langfuse shows the trace by its root.
    Never raises: what cannot be used is left out, with a warning.

    Args:
        user_id: text of at most 200 characters, as all texts here; longer ones are cut.
        session_id: groups traces.
        tags: texts, at most 100.
        metadata: of the trace; texts, numbers and booleans as they are, anything else as JSON text; at most 64 keys.
        version: of the application, or of a part of it.
        trace_name: name of the trace.
        environment: 1 to 40 of a-z 0-9 - _, not starting with ``langfuse``.
        prompt: what generations inside are linked to, also those of other libraries: as ``get_prompt`` gives it, or a mapping
            with ``name`` and ``version``. A fallback is not linked.
        as_baggage: True: also as OpenTelemetry baggage, all but the prompt. Then instrumented clients send all of it, as a
            header, with *every* request inside, to whomever it goes. Services that trust it (``trust_baggage=True``) set it on
            their spans.
    """
    said = (user_id, session_id, version, trace_name)
    new: dict[str, Any] = {
        key: made
        for value, (key, field) in zip(said, _TEXTS, strict=True)
        if value is not None and (made := limits.text(value, field, _DOOR)) is not None
    }
    if (named := limits.environment(environment, _DOOR)) is not None:
        new[names.ENVIRONMENT] = named
    for key, value in limits.metadata(metadata, _DOOR).items():
        new[f"{names.TRACE_METADATA}.{key}"] = value
    if (linked := limits.prompt(prompt, _DOOR)) is not None:
        new[names.OBSERVATION_PROMPT_NAME], new[names.OBSERVATION_PROMPT_VERSION] = linked
    listed = limits.tags(tags, _DOOR)
    return Block(lambda: _propagating(new, listed, as_baggage=as_baggage))


def _propagating(new: Mapping[str, Any], tags: Sequence[str], *, as_baggage: bool) -> Context:
    """The current context with what is said here; told to the current span, too."""
    outer = propagated_attributes()
    if tags:
        new = {**new, names.TRACE_TAGS: tuple(dict.fromkeys((*outer.get(names.TRACE_TAGS, ()), *tags)))}
    span = trace.get_current_span()
    if new and span.is_recording():
        try:
            span.set_attributes(new)
        except Exception as error:  # noqa: BLE001 - of a foreign span
            _NOTES.note("current span", f"{_DOOR}: the current span does not take it: {type(error).__name__}")
        tell_late(trace.format_trace_id(span.get_span_context().trace_id), new, project_of(span))
    propagating.add(_DOOR)
    context = otel_context.set_value(_KEY, Propagated({**outer, **new}))
    return baggage.with_entries(context, new) if as_baggage else context


def propagated_attributes(context: Context | None = None, *, trust_baggage: bool = False) -> Mapping[str, Any]:
    """The attributes (key -> value) that spans starting in ``context`` get; None is the current context.

    Args:
        context: of OpenTelemetry.
        trust_baggage: whether what the context's baggage says counts too; what was said in this process wins over it.
    """
    found: Any = (current_context() if context is None else context).get(_KEY, _NOTHING)
    said: Mapping[str, Any] = found if type(found) is Propagated else _NOTHING
    if trust_baggage and (heard := baggage.read(context)):
        return {**heard, **said}
    return said


# -- whose spans ---------------------------------------------------------------------------------------------------------------

projects: Final[dict[int, _Started | None]] = {}
"""Empty as long as nobody has named a project in this process; then, beside one entry that says so:

``id()`` of a living span's context -> its project. No attribute, which every other exporter would see; and not by the span's
own ids, because two projects may have spans of the same ids. The context is the same object in all that stands for the span.
"""
_IN_USE: Final = 0  # no object's id


class _Started(weakref.ref[Any]):
    """A span of a project; when the application lets go of the span, so do we."""

    __slots__ = ("key", "project")
    key: int
    project: str


def _forget(started: Any) -> None:  # the weak reference itself
    key = started.key
    if projects.get(key) is started:
        projects.pop(key, None)


def project(name: str) -> Block:
    """Makes every span that starts inside the ``with`` block, of any library, belong to one Langfuse project, and to no other.

    It decorates functions and coroutine functions, too: then each call is such a block.

    It counts for the threads and tasks that get this context. A span that is started elsewhere with a parent from inside, and
    in no ``project`` block, belongs to its parent's project. It is not handed on to other services.

    Where several clients share a TracerProvider, this says which of them gets a span; see ``LangfuseSpanProcessor``. Spans of
    a project that no client is configured for are sent to nobody, with a warning. Never raises.

    Args:
        name: as given to ``configure(project=...)``, or the public key of the project.
    """
    found = name if isinstance(name, str) and name.strip() and len(name) <= MAX_CHARACTERS else ""
    return Block(lambda: with_project(found, current_context()))


def current_project(context: Context | None = None) -> str | None:
    """The project that ``project`` names for ``context``; None is the current one. "" if it named none that can be."""
    found = otel_context.get_value(_PROJECT, context)
    return found if isinstance(found, str) else None


def with_project(name: str, context: Context) -> Context:
    """``context`` with this project as the one of the spans that start in it."""
    projects[_IN_USE] = None
    return otel_context.set_value(_PROJECT, name, context)


def note_project(span: Any, context: Context | None) -> None:
    """Remembers, as long as the application holds the span that has started, which project it belongs to, if to one."""
    name = current_project(context)
    if name is None:
        above = projects.get(id(trace.get_current_span(context).get_span_context()))
        name = None if above is None else above.project
    if name is None:
        return
    key = id(span.get_span_context())
    if key not in projects:
        started = _Started(span, _forget)
        started.key, started.project = key, name
        projects[key] = started


def project_of(span: Any) -> str | None:
    """The project that a span, also a finished one, belongs to by the context that it started in; None if to none."""
    if not projects:
        return None
    found = projects.get(id(span.get_span_context()))
    return None if found is None else found.project


def with_propagated(attributes: Mapping[str, Any], context: Context) -> Context:
    """``context``, in which spans get these attributes, too, where they are not propagated there already."""
    return with_only({**attributes, **propagated_attributes(context)}, context)


def with_only(attributes: Mapping[str, Any], context: Context) -> Context:
    """``context``, in which spans get these attributes, and no others that are propagated there."""
    propagating.add(_DOOR)
    return otel_context.set_value(_KEY, Propagated(attributes), context)


# -- what is said of a trace when some of its spans have ended -------------------------------------------------------------------

MAX_LATE_TRACES: Final = 1_000
"""Traces of which late attributes are remembered, the latest ones. What they say of each is short, so this is some megabytes."""

_late: Final[OrderedDict[str, Mapping[str | None, Mapping[str, Any]]]] = OrderedDict()
"""Trace id -> the project for which something was said, None where for none -> what."""

_OF_ALL_SPANS: Final = frozenset(
    {names.TRACE_NAME, names.USER_ID, names.SESSION_ID, names.TRACE_TAGS, names.TRACE_PUBLIC, names.RELEASE}
)


def of_all_spans(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that say something of a trace that each of its spans may carry: not its input and output, nor long metadata.

    In Langfuse 4 a trace is no more than its observations (api.md 3.4).
    """
    return {
        key: value
        for key, value in attributes.items()
        if key in _OF_ALL_SPANS
        or (key.startswith(_METADATA_PREFIX) and not (isinstance(value, str) and len(value) > MAX_CHARACTERS))
    }


def tell_late(trace_id: str, attributes: Mapping[str, Any], project: str | None = None) -> None:
    """Says what all spans of a trace are to carry that are not sent yet, also those that have ended; see ``stamped``.

    Args:
        trace_id: 32 hex digits.
        attributes: of which ``of_all_spans`` are remembered, beside those that were told before.
        project: of the span that is told so (see ``project_of``): then it is said of this project's spans alone.
    """
    new = of_all_spans(attributes)
    if not new:
        return
    with suppress(KeyError):  # another thread was faster; a lock could be held for ever in a forked child
        projects = _late.get(trace_id, {})
        told = projects.get(project, _NOTHING)
        _late[trace_id] = {**projects, project: _with_tags(new, {**told, **new}, told)}
        _late.move_to_end(trace_id)
        if len(_late) > MAX_LATE_TRACES:
            _late.popitem(last=False)


def is_late(trace_id: str) -> bool:
    """Whether there is something to stamp on spans of this trace."""
    return trace_id in _late


def stamped(spans: Sequence[Span], projects: Collection[str] | None = None) -> Sequence[Span]:
    """The spans with what was said of their traces since they ended, unless they say something else; tags are joined.

    Called on the worker, before anything is masked.

    Args:
        spans: of one batch.
        projects: names of the one that they go to; None for a destination that is none: then what was said of any counts.
    """
    if not _late or not any(span.trace_id in _late for span in spans):
        return spans
    return [_stamped(span, projects) for span in spans]


def _stamped(span: Span, projects: Collection[str] | None) -> Span:
    late: Mapping[str, Any] = _NOTHING
    for project, told in _late.get(span.trace_id, {}).items():
        if project is None or projects is None or project in projects:
            late = _with_tags(late, {**late, **told}, told)
    attributes = _with_tags(span.attributes, {**late, **span.attributes}, late)
    return span if attributes == span.attributes else span._replace(attributes=attributes)


def _with_tags(first: Mapping[str, Any], made: dict[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """``made`` with the tags of both."""
    tags = [tag for one in (first, second) for tag in _listed(one.get(names.TRACE_TAGS))]
    return {**made, names.TRACE_TAGS: tuple(dict.fromkeys(tags))} if tags else made


def _listed(tags: Any) -> Sequence[Any]:
    return tags if isinstance(tags, (list, tuple)) else ()


# -- on spans ----------------------------------------------------------------------------------------------------------------


_OF_SDK: Final[dict[type, bool]] = {}
"""Classes of spans, and whether they are the SDK's own, which keeps attributes as ``_is_of_sdk`` expects."""


def set_attributes(span: Any, attributes: Mapping[str, Any]) -> None:
    """Sets attributes whose values are known to be texts, numbers, booleans or tuples of texts.

    The SDK would look at each of them again, which takes several times as long as setting them. So on a span of its own class,
    without a limit that they could meet, they are put beside the others under the span's own lock; everywhere else, and where
    an SDK keeps them otherwise, its public method is called.
    """
    if _OF_SDK.get(type(span)) or _is_of_sdk(span):
        held = span._attributes  # noqa: SLF001
        if held.max_value_len is None:
            with span._lock:  # noqa: SLF001
                stored = held._dict  # noqa: SLF001
                # is_recording() might take the lock
                if (held.maxlen is None or len(stored) + len(attributes) <= held.maxlen) and span._end_time is None:  # noqa: SLF001
                    stored.update(attributes)
                    return
    span.set_attributes(attributes)


def set_first(span: Any, attributes: Mapping[str, Any]) -> None:
    """The same, on a span that is just starting: nobody else has it yet, so that there is nothing to lock."""
    if _OF_SDK.get(type(span)) or _is_of_sdk(span):
        held = span._attributes  # noqa: SLF001
        stored = held._dict  # noqa: SLF001
        if held.max_value_len is None and (held.maxlen is None or len(stored) + len(attributes) <= held.maxlen):
            stored.update(attributes)
            return
    span.set_attributes(attributes)


def attributes_of(span: Any) -> Mapping[str, Any]:
    """What a recording span says so far, to be looked at and not kept; nothing where its class does not tell."""
    if _OF_SDK.get(type(span)) or _is_of_sdk(span):
        held: dict[str, Any] = span._attributes._dict  # noqa: SLF001
        return held
    found = getattr(span, "attributes", None)
    return found if isinstance(found, Mapping) else {}


def set_propagated(span: Any, context: Context | None, *, trust_baggage: bool) -> None:
    """Sets what is propagated in ``context`` on a span that is just starting, as far as the span does not say it itself."""
    found: Any = (current_context() if context is None else context).get(_KEY)
    if trust_baggage:
        found = propagated_attributes(context, trust_baggage=True)
    if found:
        present = span._attributes._dict if _OF_SDK.get(type(span)) else getattr(span, "attributes", None)  # noqa: SLF001
        if present:
            found = {key: value for key, value in found.items() if key not in present}
        set_first(span, found)


def _is_of_sdk(span: Any) -> bool:
    """Whether the span's class is the SDK's own, and keeps attributes, lock and end as far as is known; looked at once."""
    kind = type(span)
    if kind not in _OF_SDK:
        held = getattr(span, "_attributes", None)
        is_known = type(held) is BoundedAttributes and type(getattr(held, "_dict", None)) is dict
        has_rest = hasattr(held, "maxlen") and hasattr(held, "max_value_len") and hasattr(span, "_lock")
        of_sdk = kind.__module__ == "opentelemetry.sdk.trace" and hasattr(span, "_end_time")
        _OF_SDK[kind] = is_known and has_rest and of_sdk
    return _OF_SDK[kind]
