"""User, session, tags and the like for all spans that start in a piece of code, whatever library starts them.

The values travel in OpenTelemetry's context, so through threads and tasks as far as that does, and
``LangfuseSpanProcessor.on_start`` copies them to each span. Nothing is read from incoming baggage, or put into outgoing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

import orjson
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context

from . import attributes as names
from .config import ENVIRONMENT_PATTERN

MAX_CHARACTERS: Final = 200
"""Langfuse takes no longer ids, tags and propagated metadata (api.md 4). Longer ones are cut, with a warning."""

_KEY: Final = otel_context.create_key("langfuse-propagated")
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
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
) -> Iterator[None]:
    """Sets attributes on the current span and on every span that starts inside the ``with`` block.

    Inside another one, tags and metadata are added to, everything else is replaced. What a span says itself when it
    starts wins. Never raises: what cannot be used is left out, with a warning.

    Args:
        user_id: text of at most 200 characters, as all texts here; longer ones are cut.
        session_id: groups traces.
        tags: texts.
        metadata: of the trace; texts, numbers and booleans as they are, anything else as JSON text.
        version: of the application, or of a part of it.
        trace_name: name of the trace.
        environment: 1 to 40 of a-z 0-9 - _, not starting with ``langfuse``.
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
    token = otel_context.attach(otel_context.set_value(_KEY, MappingProxyType({**outer, **new})))
    try:
        yield
    finally:
        _detach(token)


def propagated_attributes(context: Context | None = None) -> Mapping[str, Any]:
    """The attributes (key -> value) that spans starting in ``context`` get; None is the current context."""
    found = otel_context.get_value(_KEY, context)
    return found if isinstance(found, MappingProxyType) else _NOTHING


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
