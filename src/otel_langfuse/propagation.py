"""User, session, tags and the like for all spans that start in a piece of code, whatever library starts them.

The values travel in OpenTelemetry's context, so through threads and tasks as far as that does, and
``LangfuseSpanProcessor.on_start`` copies them to each span. Nothing is read from incoming baggage, and put into outgoing only
where that is asked for.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, Final

import orjson
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context

from . import attributes as names
from .config import ENVIRONMENT_PATTERN
from .model import Span

MAX_CHARACTERS: Final = 200
"""Langfuse takes no longer ids, tags and propagated metadata (api.md 4). Longer ones are cut, with a warning."""

_KEY: Final = otel_context.create_key("langfuse-propagated")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_METADATA_PREFIX: Final = f"{names.TRACE_METADATA}."
_LOGGER: Final = logging.getLogger("otel_langfuse")


@contextmanager
def propagate_attributes(
    *,
    user_id: str | None = None,
    session_id: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    version: str | None = None,
    trace_name: str | None = None,
    environment: str | None = None,
    as_baggage: bool = False,
) -> Iterator[None]:
    """Sets attributes on the current span and on every span that starts inside the ``with`` block.

    Inside another one, tags and metadata are added to, everything else is replaced. What a span says itself when it
    starts wins. Spans of the same trace that have ended but are not sent yet, and its root, get name, user, session, tags and
    metadata, too, where they say nothing else; what was sent already does not, but Langfuse shows the trace by its root.
    Never raises: what cannot be used is left out, with a warning.

    Args:
        user_id: text of at most 200 characters, as all texts here; longer ones are cut.
        session_id: groups traces.
        tags: texts.
        metadata: of the trace; texts, numbers and booleans as they are, anything else as JSON text.
        version: of the application, or of a part of it.
        trace_name: name of the trace.
        environment: 1 to 40 of a-z 0-9 - _, not starting with ``langfuse``.
        as_baggage: also into OpenTelemetry's baggage, under the names by which Langfuse's SDKs read them: instrumentations of
            HTTP clients then send them to whomever the program calls. Nothing is read from incoming baggage here.
    """
    given = {
        names.USER_ID: _text("user_id", user_id),
        names.SESSION_ID: _text("session_id", session_id),
        names.VERSION: _text("version", version),
        names.TRACE_NAME: _text("trace_name", trace_name),
        names.ENVIRONMENT: _environment(environment),
    }
    new: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    for key, value in _metadata(metadata).items():
        new[f"{names.TRACE_METADATA}.{key}"] = value
    outer = propagated_attributes()
    if listed := _tags(tags):
        new[names.TRACE_TAGS] = tuple(dict.fromkeys((*outer.get(names.TRACE_TAGS, ()), *listed)))
    span = trace.get_current_span()
    if new and span.is_recording():
        span.set_attributes(new)
        tell_late(trace.format_trace_id(span.get_span_context().trace_id), new)
    context = otel_context.set_value(_KEY, MappingProxyType({**outer, **new}))
    token = otel_context.attach(_with_baggage(new, context) if as_baggage else context)
    try:
        yield
    finally:
        _detach(token)


def propagated_attributes(context: Context | None = None) -> Mapping[str, Any]:
    """The attributes (key -> value) that spans starting in ``context`` get; None is the current context."""
    found = otel_context.get_value(_KEY, context)
    return found if isinstance(found, MappingProxyType) else _NOTHING


def with_propagated(attributes: Mapping[str, Any], context: Context) -> Context:
    """``context``, in which spans get these attributes, too, where they are not propagated there already."""
    outer = propagated_attributes(context)
    return otel_context.set_value(_KEY, MappingProxyType({**attributes, **outer}), context)


# -- what is said of a trace when some of its spans have ended -------------------------------------------------------------------

MAX_LATE_TRACES: Final = 1_000
"""Traces of which late attributes are remembered, the latest ones. What they say of each is short, so this is some megabytes."""

_late: Final[OrderedDict[str, Mapping[str, Any]]] = OrderedDict()
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


def tell_late(trace_id: str, attributes: Mapping[str, Any]) -> None:
    """Says what all spans of a trace are to carry that are not sent yet, also those that have ended; see ``stamped``.

    Args:
        trace_id: 32 hex digits.
        attributes: of which ``of_all_spans`` are remembered, beside those that were told before.
    """
    new = of_all_spans(attributes)
    if not new:
        return
    with suppress(KeyError):  # another thread was faster; a lock could be held for ever in a forked child
        _late[trace_id] = _with_tags(new, {**_late.get(trace_id, _NOTHING), **new}, _late.get(trace_id, _NOTHING))
        _late.move_to_end(trace_id)
        if len(_late) > MAX_LATE_TRACES:
            _late.popitem(last=False)


def is_late(trace_id: str) -> bool:
    """Whether there is something to stamp on spans of this trace."""
    return trace_id in _late


def stamped(spans: Sequence[Span]) -> Sequence[Span]:
    """The spans with what was said of their traces since they ended, unless they say something else; tags are joined.

    Called on the worker, before anything is masked.
    """
    if not _late or not any(span.trace_id in _late for span in spans):
        return spans
    return [_stamped(span) for span in spans]


def _stamped(span: Span) -> Span:
    late = _late.get(span.trace_id)
    if late is None:
        return span
    attributes = _with_tags(span.attributes, {**late, **span.attributes}, late)
    return span if attributes == span.attributes else span._replace(attributes=attributes)


def _with_tags(first: Mapping[str, Any], made: dict[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """``made`` with the tags of both."""
    tags = [tag for one in (first, second) for tag in _listed(one.get(names.TRACE_TAGS))]
    return {**made, names.TRACE_TAGS: tuple(dict.fromkeys(tags))} if tags else made


def _listed(tags: Any) -> Sequence[Any]:
    return tags if isinstance(tags, (list, tuple)) else ()


# -- on spans ----------------------------------------------------------------------------------------------------------------


def set_attributes(span: Any, attributes: Mapping[str, Any], *, unless_there: bool = False) -> None:
    """Sets attributes whose values are known to be texts, numbers, booleans or tuples of texts; or those that are not there.

    The SDK would look at each of them again, which takes several times as long as setting them. So on a span of its own class,
    without a limit that they could meet, they are put beside the others under the span's own lock; everywhere else, and where
    an SDK keeps them otherwise, its public method is called.
    """
    held = getattr(span, "_attributes", None)
    if type(held) is BoundedAttributes and type(span).__module__ == _SDK and held.max_value_len is None:
        try:
            with span._lock:  # noqa: SLF001
                stored = held._dict  # noqa: SLF001
                if unless_there and stored:
                    attributes = {key: value for key, value in attributes.items() if key not in stored}
                room = held.maxlen is None or len(stored) + len(attributes) <= held.maxlen
                if room and type(stored) is dict and span._end_time is None:  # noqa: SLF001 - is_recording() might take the lock
                    stored.update(attributes)
                    return
        except AttributeError:
            pass
    if unless_there and (present := getattr(span, "attributes", None)):
        attributes = {key: value for key, value in attributes.items() if key not in present}
    span.set_attributes(attributes)


_SDK: Final = "opentelemetry.sdk.trace"


_BAGGAGE: Final = {
    names.USER_ID: "langfuse_user_id",
    names.SESSION_ID: "langfuse_session_id",
    names.VERSION: "langfuse_version",
    names.TRACE_NAME: "langfuse_trace_name",
    names.ENVIRONMENT: "langfuse_environment",
    names.TRACE_TAGS: "langfuse_tags",
}


def _with_baggage(attributes: Mapping[str, Any], context: Context) -> Context:
    for key, value in attributes.items():
        name = _BAGGAGE.get(key) or f"langfuse_metadata_{key.removeprefix(_METADATA_PREFIX)}"
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        context = baggage.set_baggage(name, text, context)
    return context


def _detach(token: Any) -> None:
    """Detaches, also where a generator is closed in another task: the public ``detach`` would log an error there."""
    runtime = getattr(otel_context, "_RUNTIME_CONTEXT", None)
    if runtime is None:
        otel_context.detach(token)
        return
    try:
        runtime.detach(token)
    except Exception:  # noqa: BLE001 - the context that this belongs to is gone, and the values with it
        _LOGGER.debug("otel-langfuse: propagate_attributes ended in another context than it began in")


def _text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        if not isinstance(value, (int, float)):
            _LOGGER.warning("otel-langfuse: propagate_attributes: %s is no text and is left out", name)
            return None
        value = str(value)
    if len(value) > MAX_CHARACTERS:
        _LOGGER.warning("otel-langfuse: propagate_attributes: %s is cut to %d characters", name, MAX_CHARACTERS)
        value = value[:MAX_CHARACTERS]
    return value or None


def _environment(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and ENVIRONMENT_PATTERN.fullmatch(value):
        return value
    _LOGGER.warning(
        "otel-langfuse: propagate_attributes: environment is left out: expected 1 to 40 of a-z 0-9 - _, "
        "not starting with langfuse"
    )
    return None


def _tags(tags: Any) -> list[str]:
    if tags is None:
        return []
    if isinstance(tags, str) or not isinstance(tags, (Sequence, set, frozenset)):
        _LOGGER.warning("otel-langfuse: propagate_attributes: tags is no list of texts and is left out")
        return []
    return [text for tag in tags if (text := _text("a tag", tag)) is not None]


def _metadata(metadata: Any) -> dict[str, Any]:
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        _LOGGER.warning("otel-langfuse: propagate_attributes: metadata is no mapping and is left out")
        return {}
    values = {str(key): _metadata_value(value) for key, value in metadata.items() if value is not None}
    return {key: value for key, value in values.items() if value is not None}


def _metadata_value(value: Any) -> str | bool | int | float | None:
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return _text("a metadata value", value)
    try:
        return _text("a metadata value", orjson.dumps(value, default=str).decode())
    except TypeError:
        _LOGGER.warning("otel-langfuse: propagate_attributes: a metadata value has no JSON form and is left out")
        return None
