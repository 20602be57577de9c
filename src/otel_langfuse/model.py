"""The values that the rooms hand to each other. All of them are immutable; none of them knows the SDK, a clock or a socket.

``Span`` and its parts are named tuples, not frozen dataclasses, because one is made for every span that passes: measured on
CPython 3.11, building a frozen dataclass of 19 fields with slots takes 2.1 us, the same named tuple 0.33 us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias, TypedDict

AttributeValue: TypeAlias = "str | bool | int | float | bytes | Sequence[AttributeValue] | Mapping[str, AttributeValue] | None"
Attributes: TypeAlias = Mapping[str, Any]
"""Attribute key -> ``AttributeValue``. Typed loosely because readers look at types themselves: any value may stand under
any key.
"""

Json: TypeAlias = Any
"""What ``orjson`` reads and writes: str, int, float, bool, None, list or dict with string keys."""

OBSERVATION_TYPES = (
    "span",
    "generation",
    "event",
    "embedding",
    "agent",
    "tool",
    "chain",
    "retriever",
    "guardrail",
    "evaluator",
)
"""The ten types that Langfuse knows, in the spelling of ``langfuse.observation.type`` (mapping.md 11.1)."""


MASK_PRESETS = ("secrets", "pii", "content")
"""What ``mask`` may name; see ``pipeline.mask``."""


class Resource(NamedTuple):
    """What produced the spans: a process, with its ``service.name`` and the like."""

    attributes: Attributes = {}
    schema_url: str = ""


class Scope(NamedTuple):
    """The instrumentation scope. None where the sender left the part out; Langfuse stores the scope as it was received."""

    name: str | None = None
    version: str | None = None
    attributes: Attributes = {}
    schema_url: str = ""
    dropped_attributes_count: int | None = None


class SpanEvent(NamedTuple):
    """One of OpenTelemetry's events on a span (an exception, a message ...)."""

    name: str
    time_unix_nano: int
    attributes: Attributes = {}
    dropped_attributes_count: int = 0


class SpanLink(NamedTuple):
    """A link to another span; ids as lower-case hex, as on the wire."""

    trace_id: str
    span_id: str
    trace_state: str = ""
    attributes: Attributes = {}
    dropped_attributes_count: int = 0
    flags: int = 0


class Media(NamedTuple):
    """Content that was lifted out of a span's texts (``pipeline.media``): where it stood, ``reference`` stands now.

    ``content`` is empty where it is larger than may be sent. ``sha256`` is standard base64; ``field`` is input, output or
    metadata; ``observation_id`` is None where it belongs to the trace.
    """

    reference: str
    content_type: str
    content: bytes
    size_bytes: int
    sha256: str
    field: str
    trace_id: str
    observation_id: str | None


class Span(NamedTuple):
    """A finished span. Made only by ``spans.from_sdk`` and ``spans.from_otlp``.

    Ids are lower-case hex (``from_otlp`` keeps whatever string it was given); times are nanoseconds since 1970, None where
    the sender gave none; ``kind`` and ``status_code`` are OTLP's numbers (kind 1 is internal, status 2 is error). Spans of
    one batch that come from one process share one ``Resource`` object, and those of one tracer one ``Scope`` object, so
    that encoders may group them by identity.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    start_time_unix_nano: int | None
    end_time_unix_nano: int | None
    attributes: Attributes
    resource: Resource
    scope: Scope
    kind: int = 1
    status_code: int = 0
    status_message: str | None = None
    events: tuple[SpanEvent, ...] = ()
    links: tuple[SpanLink, ...] = ()
    trace_state: str = ""
    flags: int = 0
    dropped_attributes_count: int = 0
    dropped_events_count: int = 0
    dropped_links_count: int = 0
    media: tuple[Media, ...] = ()  # lifted by pipeline.media, and not sent yet


class TraceFields(NamedTuple):
    """What one span says about its trace. None where it says nothing."""

    name: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    release: str | None = None
    public: bool | None = None
    tags: Sequence[str] = ()
    input: Json = None
    output: Json = None
    metadata: Mapping[str, Json] = {}


class Observation(NamedTuple):
    """What Langfuse stores for one span, and what that span says about its trace.

    Made by ``translate.translate``. ``type`` is one of ``OBSERVATION_TYPES``; ``level`` is DEBUG, DEFAULT, WARNING or
    ERROR; ``usage_details`` counts tokens, ``cost_details`` is in USD; times are nanoseconds since 1970, None where
    unknown; ``completion_start_time`` is text as Langfuse takes it (ISO 8601). ``input``, ``output`` and metadata values
    are JSON values: text that holds JSON stays text. ``rules`` names, for each group of fields that a rule claimed, that
    rule's id.
    """

    id: str
    trace_id: str
    parent_id: str | None
    type: str
    name: Json
    start_time_unix_nano: int | None
    end_time_unix_nano: int | None
    environment: str
    level: str
    status_message: Json
    version: Json
    input: Json
    output: Json
    metadata: Mapping[str, Json]
    model: Json
    model_parameters: Mapping[str, Json]
    usage_details: Mapping[str, Json]
    cost_details: Mapping[str, Json]
    prompt_name: Json
    prompt_version: Json
    completion_start_time: Json
    is_root: bool  # no parent, or langfuse.internal.as_root (mapping.md 2.2)
    updates_trace: bool  # carries something of section 2.3 of mapping.md
    trace: TraceFields
    rules: Mapping[str, str]


class Score(NamedTuple):
    """What somebody thinks of a trace, an observation, a session or a dataset run; made by ``scores``, which checks it.

    ``value`` is a float (NUMERIC; BOOLEAN: 0.0 or 1.0) or a text (CATEGORICAL, TEXT, CORRECTION); ``data_type`` None leaves
    it to the score config. ``timestamp`` is ISO 8601 with offset. ``event_id`` names this telling of it, ``id`` the score:
    sending the same ``id`` again changes the score (api.md 5.3).
    """

    id: str
    event_id: str
    timestamp: str
    name: str
    value: float | str
    data_type: str | None = None
    trace_id: str | None = None
    observation_id: str | None = None
    session_id: str | None = None
    dataset_run_id: str | None = None
    comment: str | None = None
    metadata: Json = None
    config_id: str | None = None
    environment: str | None = None


SCORE_DATA_TYPES = ("NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION")


class ScoreFields(TypedDict, total=False):
    """What a score may say beside its name and value. None means not given.

    Exactly one of ``trace_id``, ``session_id`` and ``dataset_run_id``; ``observation_id`` with a trace only. ``data_type``: one
    of ``SCORE_DATA_TYPES``, in any case; by default BOOLEAN for True and False, NUMERIC for numbers, CATEGORICAL for texts, and
    with ``config_id`` what the config says. ``id`` (also ``score_id``): any text; the same id again changes the score, so that
    telling it twice is telling it once. ``metadata`` is anything that has a JSON form. ``timestamp``: now by default; local
    time if it names no zone.
    """

    trace_id: str | None
    observation_id: str | None
    session_id: str | None
    dataset_run_id: str | None
    data_type: str | None
    comment: str | None
    metadata: Any
    config_id: str | None
    environment: str | None
    id: str | None
    score_id: str | None
    timestamp: datetime | None


class Request(NamedTuple):
    """One HTTP request, complete but for credentials, which only the transport knows.

    ``items`` are what it carries (spans or ingestion events): their number is what is counted when it is lost, and they are
    what is encoded again, in halves, when it was too large.
    """

    endpoint: str  # a key of retry's tables: "otlp", "ingestion"
    url: str
    headers: Mapping[str, str]
    body: bytes
    items: Sequence[Any]


class Response(NamedTuple):
    """What came back for a ``Request``: a status, or the error that prevented one."""

    status: int | None
    headers: Mapping[str, str] = {}
    body: bytes = b""
    error: str | None = None


class Usage(NamedTuple):
    """What a generation used, in the shape of Langfuse's classic client: ``usage=Usage(input=50, output=49)``.

    Costs are in USD. ``unit`` is TOKENS, CHARACTERS, MILLISECONDS, SECONDS, IMAGES or REQUESTS; None means TOKENS.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    unit: str | None = None
    input_cost: float | None = None
    output_cost: float | None = None
    total_cost: float | None = None


class Stats(NamedTuple):
    """What happened to the spans that a processor or an exporter was given.

    ``started == exported + queued + spooled + sum(dropped.values())`` at any moment when nothing is being counted.
    ``queued`` includes what is being sent just now. ``dropped`` has one entry for each reason that occurred. ``spooled`` is on
    disk, to be sent by this process or a later one. What an earlier process left there counts as started here at the moment
    when its fate is known here.
    """

    started: int
    exported: int
    queued: int
    dropped: Mapping[str, int]
    spooled: int = 0
