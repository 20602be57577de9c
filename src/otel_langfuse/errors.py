"""Why a span, score or media file did not arrive, and what is raised for settings that cannot work."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ConfigError(ValueError):
    """A setting has a value that cannot work. The message names the setting, the value and what was expected."""


class ScoreError(ValueError):
    """A score says what Langfuse does not take. Raised in debug mode only; otherwise it is logged, and the score dropped."""


class ApiError(Exception):
    """Langfuse's API could not be reached, or refused. ``status`` is HTTP's, None where there was no answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class DropReason(str, Enum):
    """The only reasons for which anything is dropped. ``stats().dropped`` counts by these."""

    OTHER_PROJECT = "other_project"  # it belongs to another Langfuse project on the same TracerProvider
    DOUBLE = "double"  # another processor on the same TracerProvider sends it to the same project
    NO_PROJECT = "no_project"  # several projects share a TracerProvider, and it belongs to none of them
    FILTERED = "filtered"  # the filter, or should_export_span, said no, or raised
    SAMPLED_OUT = "sampled_out"  # sample_rate or tail left its trace out
    QUEUE_FULL = "queue_full"  # max_queue_spans or max_queue_bytes was reached
    AFTER_SHUTDOWN = "after_shutdown"  # it ended after shutdown()
    INVALID = "invalid"  # a score that says what Langfuse does not take
    UNREADABLE = "unreadable"  # it could not be read or encoded
    TOO_LARGE = "too_large"  # alone it is larger than a request may be
    SEND_FAILED = "send_failed"  # the destination could not be reached in time, or refused for now
    REJECTED = "rejected"  # the destination answered that it will not take it
    SPOOL_FULL = "spool_full"  # the oldest in the spool, when spool_max_bytes was reached
    EXPIRED = "expired"  # it was in the spool for longer than spool_max_age

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Drop:
    """``count`` items (spans, unless said otherwise) that will not arrive, and why.

    ``detail`` is one line for an operator: never an attribute's value, never a credential.
    """

    reason: DropReason
    count: int
    detail: str = ""
