"""Observations as attributes of a dialect: the conventions' tables backwards.

``langfuse`` is what Langfuse's server reads first, ``gen_ai`` OpenTelemetry's GenAI semantic conventions, ``openinference``
what Phoenix and Arize read. ``write`` says an observation in a dialect. ``in_dialect`` adds a dialect to the spans of a batch
that do not speak it, so that whatever the collector is, it sees what they mean. ``corrected`` adds, for Langfuse's own server,
only what it would read worse than we do.

Pure; the exporting worker's thread. Nothing here raises for any content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from otel_langfuse.attributes import OBSERVATION_TYPE
from otel_langfuse.model import AttributeValue, Observation, Span
from otel_langfuse.translate import translate_all

from . import gen_ai, langfuse, openinference
from ._corrected import corrected, glance, needs_around
from ._only import without_meaning
from ._row import Row, Rows, Subject, by_type, put

__all__ = [
    "DIALECTS",
    "ROWS",
    "Dialect",
    "corrected",
    "each_in_dialect",
    "glance",
    "in_dialect",
    "needs_around",
    "speaks",
    "with_dialect",
    "write",
]

Dialect: TypeAlias = Literal["langfuse", "gen_ai", "openinference"]

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
ROWS: Mapping[Dialect, tuple[Row, ...]] = {
    "langfuse": langfuse.ROWS,
    "gen_ai": gen_ai.ROWS,
    "openinference": openinference.ROWS,
}


_ATTRIBUTES = Span._fields.index("attributes")


class _Speaking(NamedTuple):
    """How a span of a dialect is known: by the attribute that the dialect requires, or by the instrumentation's scope."""

    key: str
    scopes: str = "\0"


_SPEAKING: Mapping[Dialect, _Speaking] = {
    "langfuse": _Speaking(OBSERVATION_TYPE, "langfuse-sdk"),
    "gen_ai": _Speaking("gen_ai.operation.name"),
    "openinference": _Speaking("openinference.span.kind"),
}
_BY_TYPE: Mapping[tuple[Dialect, bool], Mapping[str, Rows]] = {
    (dialect, deprecated): by_type(row for row in rows if deprecated or not row.deprecated)
    for dialect, rows in ROWS.items()
    for deprecated in (False, True)
}


def write(observation: Observation, dialect: Dialect, *, deprecated: bool = False) -> dict[str, AttributeValue]:
    """The observation as attributes of a dialect, to stand on a span alone.

    Args:
        observation: As ``translate`` makes it. What a dialect tells beyond its fields (the provider, a tool's name, why an
            answer ended) is taken from the span's attributes in its metadata.
        dialect: ``langfuse``, ``gen_ai`` or ``openinference``.
        deprecated: Also attributes that the conventions have replaced: ``gen_ai.system``, ``gen_ai.usage.prompt_tokens``
            and ``gen_ai.usage.completion_tokens``.

    Returns:
        Key -> text, number, boolean or a list of texts; objects are JSON text. Never None, bytes, a mapping or an empty
        list. Empty for an observation that the dialect has no words for (a plain span in ``gen_ai``).
    """
    return put(_BY_TYPE[dialect, deprecated][observation.type], Subject(observation))[0]


def speaks(span: Span, dialect: Dialect) -> bool:
    """Whether the span speaks the dialect already: it has the one attribute that the dialect requires of every span.

    That is ``langfuse.observation.type`` (or a scope of Langfuse's SDKs), ``gen_ai.operation.name`` or
    ``openinference.span.kind``, with any text.
    """
    known = _SPEAKING[dialect]
    found = span.attributes.get(known.key)
    return (isinstance(found, str) and found != "") or (span.scope.name or "").startswith(known.scopes)


def with_dialect(span: Span, observation: Observation, dialect: Dialect, *, only: bool = False, deprecated: bool = False) -> Span:
    """The span with the dialect's attributes; the same object where it speaks the dialect already, or nothing is to be said.

    The span's own attributes stay and are never overwritten, and Langfuse reads the same observation from it as before:
    what would change that is left out. Each dialect's module says what that is.

    Args:
        span: As it is to be sent.
        observation: What ``translate`` made of it.
        dialect: ``langfuse``, ``gen_ai`` or ``openinference``.
        only: Attributes that some convention reads type, content, model, parameters, usage or cost from are left out
            where the dialect says that instead; all others (``http.*``, ``db.*``, user, session, metadata ...) stay. Then
            the dialect is written whole: what Langfuse reads of it is what the dialect can hold.
        deprecated: As for ``write``.
    """
    if speaks(span, dialect):
        return span
    subject = Subject(observation, span, beside=not only)
    written, fields = put(_BY_TYPE[dialect, deprecated][observation.type], subject)
    if not written:
        return span
    kept = without_meaning(span, observation, set(fields)) if only else span.attributes
    return Span._make((*span[:_ATTRIBUTES], {**kept, **written}, *span[_ATTRIBUTES + 1 :]))  # ``_replace`` takes thrice as long


def in_dialect(spans: Sequence[Span], dialect: Dialect, *, only: bool = False, deprecated: bool = False) -> list[Span]:
    """``with_dialect`` for the spans of one batch, which are translated together, so that their tokens count once."""
    return list(each_in_dialect(spans, dialect, only=only, deprecated=deprecated))


def each_in_dialect(spans: Sequence[Span], dialect: Dialect, *, only: bool = False, deprecated: bool = False) -> Iterator[Span]:
    """The same one by one, for who does more with each of them at once."""
    if all(speaks(span, dialect) for span in spans):
        yield from spans
        return
    for span, observation in zip(spans, translate_all(spans), strict=True):
        yield with_dialect(span, observation, dialect, only=only, deprecated=deprecated)
