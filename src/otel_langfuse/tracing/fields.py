"""What an observation and a trace may be told, once: the fields that users name, and the attributes that they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeAlias, TypedDict, get_args

from opentelemetry.trace import Span, Status, StatusCode

from otel_langfuse import attributes as names
from otel_langfuse import picture
from otel_langfuse.config import ENVIRONMENT_EXPECTED, checked_environment
from otel_langfuse.propagation import MAX_CHARACTERS, attributes_of, set_attributes

from ._metadata import add_metadata
from ._origin import NOTES

ObservationType: TypeAlias = Literal[
    "span", "generation", "event", "embedding", "agent", "tool", "chain", "retriever", "guardrail", "evaluator"
]
"""The ten types of ``model.OBSERVATION_TYPES``."""

TYPES: Final = frozenset(get_args(ObservationType))

LEVELS: Final = {
    **dict.fromkeys(("DEBUG", "TRACE", "VERBOSE"), "DEBUG"),
    **dict.fromkeys(("DEFAULT", "INFO", "LOG", "NOTICE", "OK", "SUCCESS"), "DEFAULT"),
    **dict.fromkeys(("WARNING", "WARN"), "WARNING"),
    **dict.fromkeys(("ERROR", "FATAL", "CRITICAL"), "ERROR"),
}
"""Names of levels, in upper case -> Langfuse's four. Those that its server knows (mapping.md 5)."""


class Prompt(Protocol):
    """A prompt as Langfuse's prompt management gives it. One with a true ``is_fallback`` is not linked."""

    @property
    def name(self) -> str:
        """Of the prompt."""

    @property
    def version(self) -> int:
        """1 or more."""


class ObservationFields(TypedDict, total=False):
    """What an observation may be told at its start and by ``update``. None means not given.

    ``input``, ``output`` and ``metadata`` are any values; what is recorded of them is ``picture.text``. Metadata is merged
    on update, everything else replaced. ``level``: DEBUG, DEFAULT, WARNING or ERROR, in any case; ERROR also sets the span's
    OpenTelemetry status. The last six are meant for generations and embeddings: ``usage_details`` counts tokens,
    ``cost_details`` is in USD, ``completion_start_time`` is when the first token came (a ``datetime``, local time if it
    says no zone).
    """

    input: Any
    output: Any
    metadata: Any
    version: str | None
    level: str | None
    status_message: str | None
    completion_start_time: datetime | str | None
    model: str | None
    model_parameters: Mapping[str, Any] | None
    usage_details: Mapping[str, int] | Any | None
    cost_details: Mapping[str, float] | None
    prompt: Prompt | None


class TraceUpdate(TypedDict, total=False):
    """What a trace may be told by ``update_current_trace``. None means not given.

    ``user_id``, ``session_id`` and each of ``tags`` have at most 200 characters, longer ones are cut. Metadata is merged and
    tags are joined with what the span has already; everything else is replaced.
    """

    name: str | None
    user_id: str | None
    session_id: str | None
    version: str | None
    release: str | None
    environment: str | None
    input: Any
    output: Any
    metadata: Any
    tags: Sequence[str] | None
    public: bool | None


Attributes: TypeAlias = "dict[str, Any]"
_Table: TypeAlias = "Mapping[str, tuple[str | None, Callable[..., Any]]]"
"""Field -> its attribute, and its value -> the attribute's; or None, and what adds the attributes that the field becomes.

Both functions raise for a value that the field cannot have.
"""


def added(table: _Table, fields: Mapping[str, Any], attributes: Attributes) -> Attributes:
    """Adds the attributes of what was given. What cannot be used is left out, with a note; nothing is raised."""
    for name, value in fields.items():
        if value is None:
            continue
        try:
            key, made = table[name]
            if key is None:
                made(attributes, value)
            else:
                attributes[key] = made(value)
        except Exception:  # noqa: BLE001 - what is recorded may not harm the program
            _note(table, name)
    return attributes


def _note(table: _Table, name: str) -> None:
    if name in table:
        NOTES.note(f"value {name}", f"{name} is left out: expected {_EXPECTED.get(name, 'a text')}")
    else:
        NOTES.note(f"field {name}", f"there is no field {name[:40]!r}: it is left out")


def set_on(span: Span, attributes: Attributes) -> None:
    """Sets the attributes in one go, and the OpenTelemetry status that they imply."""
    set_attributes(span, attributes)
    if names.OBSERVATION_LEVEL in attributes or names.OBSERVATION_STATUS_MESSAGE in attributes:
        imply_status(span, attributes)


def imply_status(span: Span, attributes: Attributes) -> None:
    """Sets the OpenTelemetry status to ERROR where the level is, with the message; a later message replaces it."""
    message = attributes.get(names.OBSERVATION_STATUS_MESSAGE)
    failed = attributes.get(names.OBSERVATION_LEVEL) == "ERROR"
    if failed or (message is not None and has_error_status(span)):
        span.set_status(Status(StatusCode.ERROR, message))


def has_error_status(span: Span) -> bool:
    """Whether the span's OpenTelemetry status is ERROR already."""
    return getattr(getattr(span, "status", None), "status_code", None) is StatusCode.ERROR


def attribute_of(span: Span, name: str) -> Any:
    """An attribute that a recording span has, None if it has none or its class does not tell."""
    return attributes_of(span).get(name)


# -- the tables ------------------------------------------------------------------------------------------------------------------


def _user_text(value: Any) -> str:
    return picture.text(value)[:MAX_CHARACTERS]


def _object(value: Any) -> str:
    made = picture.text(value)
    if made[:1] != "{":
        raise TypeError
    return made


def _level(value: str) -> str:
    return LEVELS[value.strip().upper()]


def _completion_start_time(value: Any) -> str:
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.astimezone()).isoformat()
    return str.__str__(value)


def _tags(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (Sequence, set, frozenset)):
        raise TypeError
    return tuple(map(_user_text, value))


def _prompt(attributes: Attributes, value: Any) -> None:
    """Name and version, or neither: with one of them alone the server drops the observation (mapping.md 16)."""
    if getattr(value, "is_fallback", False):
        return
    name, version = str.__str__(value.name), int.__index__(value.version)
    attributes[names.OBSERVATION_PROMPT_NAME] = name
    attributes[names.OBSERVATION_PROMPT_VERSION] = version


OBSERVATION: Final[_Table] = {
    "input": (names.OBSERVATION_INPUT, picture.text),
    "output": (names.OBSERVATION_OUTPUT, picture.text),
    "version": (names.VERSION, picture.text),
    "level": (names.OBSERVATION_LEVEL, _level),
    "status_message": (names.OBSERVATION_STATUS_MESSAGE, picture.text),
    "completion_start_time": (names.OBSERVATION_COMPLETION_START_TIME, _completion_start_time),
    "model": (names.OBSERVATION_MODEL, picture.text),
    "model_parameters": (names.OBSERVATION_MODEL_PARAMETERS, _object),
    "usage_details": (names.OBSERVATION_USAGE_DETAILS, _object),
    "cost_details": (names.OBSERVATION_COST_DETAILS, _object),
    "metadata": (None, partial(add_metadata, names.OBSERVATION_METADATA)),
    "prompt": (None, _prompt),
}

TRACE: Final[_Table] = {
    "name": (names.TRACE_NAME, picture.text),
    "user_id": (names.USER_ID, _user_text),
    "session_id": (names.SESSION_ID, _user_text),
    "version": (names.VERSION, picture.text),
    "release": (names.RELEASE, picture.text),
    "environment": (names.ENVIRONMENT, checked_environment),
    "input": (names.TRACE_INPUT, picture.text),
    "output": (names.TRACE_OUTPUT, picture.text),
    "tags": (names.TRACE_TAGS, _tags),
    "public": (names.TRACE_PUBLIC, bool),
    "metadata": (None, partial(add_metadata, names.TRACE_METADATA)),
}

_EXPECTED: Final = {
    "level": "DEBUG, DEFAULT, WARNING or ERROR",
    "completion_start_time": "a datetime",
    "model_parameters": "a mapping",
    "usage_details": "a mapping",
    "cost_details": "a mapping",
    "prompt": "a prompt with a name and a version",
    "environment": ENVIRONMENT_EXPECTED,
    "tags": "a list of texts",
}
