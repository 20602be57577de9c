"""Observations as attributes of a dialect: the conventions' tables backwards.

``langfuse`` is what Langfuse's server reads first, ``gen_ai`` OpenTelemetry's GenAI semantic conventions, ``openinference``
what Phoenix and Arize read. ``write`` says an observation in a dialect. ``in_dialect`` adds a dialect to the spans of a batch
that do not speak it, so that whatever the collector is, it sees what they mean. ``corrected`` adds, for Langfuse's own server,
only what it would read worse than we do.

Pure; the exporting worker's thread. Nothing here raises for any content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from otel_langfuse.attributes import OBSERVATION_TYPE
from otel_langfuse.model import AttributeValue, Observation, Span
from otel_langfuse.translate import translate_all

from . import gen_ai, langfuse, openinference
from ._corrected import corrected, glance, needs_around
from ._only import without_meaning
from ._row import Row, Subject, Written
from ._rows import NOTHING, Rows, by_type

__all__ = [
    "DIALECTS",
    "ROWS",
    "Dialect",
    "corrected",
    "glance",
    "in_dialect",
    "needs_around",
    "said_beside",
    "said_of",
    "speaks",
    "with_dialect",
    "with_said",
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
    return _BY_TYPE[dialect, deprecated][observation.type].alone(Subject(observation))[0]


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
    rows = _BY_TYPE[dialect, deprecated][observation.type]
    if not only:
        (said,) = rows.beside([Subject(observation, span, beside=True)], span.attributes)
        return _with(span, said)
    written, fields = rows.alone(Subject(observation, span))
    if not written:
        return span
    return _with(span._replace(attributes=without_meaning(span, observation, fields)), written)


def _with(span: Span, written: Written) -> Span:
    if not written:
        return span
    # ``_replace`` takes thrice as long
    return Span._make((*span[:_ATTRIBUTES], {**span.attributes, **written}, *span[_ATTRIBUTES + 1 :]))


def in_dialect(spans: Sequence[Span], dialect: Dialect, *, only: bool = False, deprecated: bool = False) -> list[Span]:
    """``with_dialect`` for the spans of one batch, which are translated together, so that their tokens count once."""
    if not only:
        return with_said(spans, said_beside(spans, dialect, deprecated=deprecated))
    if all(speaks(span, dialect) for span in spans):
        return list(spans)
    return [
        with_dialect(span, observation, dialect, only=True, deprecated=deprecated)
        for span, observation in zip(spans, translate_all(spans), strict=True)
    ]


def said_beside(spans: Sequence[Span], dialect: Dialect, *, deprecated: bool = False) -> list[Written]:
    """What ``in_dialect`` adds to each of them: nothing where it speaks the dialect already."""
    if all(speaks(span, dialect) for span in spans):
        return [NOTHING] * len(spans)
    return said_of(spans, translate_all(spans), dialect, deprecated=deprecated)


def said_of(
    spans: Sequence[Span], observations: Sequence[Observation], dialect: Dialect, *, deprecated: bool = False
) -> list[Written]:
    """The same where they have been translated.

    Spans of one shape are asked together, row by row: see ``Rows.beside``.
    """
    said = [NOTHING] * len(spans)
    silent = [place for place, span in enumerate(spans) if not speaks(span, dialect)]
    alike: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for place in silent:
        alike.setdefault((observations[place].type, tuple(spans[place].attributes)), []).append(place)
    for (kind, _), places in alike.items():
        rows = _BY_TYPE[dialect, deprecated][kind]
        for start in range(0, len(places), _TOGETHER):
            some = places[start : start + _TOGETHER]
            subjects = [Subject(observations[place], spans[place], beside=True) for place in some]
            for place, one in zip(some, rows.beside(subjects, spans[some[0]].attributes), strict=True):
                said[place] = one
    return said


def with_said(spans: Sequence[Span], said: Sequence[Written]) -> list[Span]:
    """The spans with that; the same object where it is nothing."""
    return [_with(span, one) for span, one in zip(spans, said, strict=True)]


_TOGETHER = 64
