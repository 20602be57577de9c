"""The pure middle. ``ready``: what may leave of a span. ``requests``: how it is said to a destination.

The processor's worker runs ``ready`` for whatever exporter stands behind it; our exporters run ``requests``, and ``ready``
too when they stand behind somebody else's processor. Nothing is masked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSet, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple

from .encode import otlp
from .errors import Drop, DropReason
from .model import Observation, Request, Span
from .pipeline.mask import Masked, mask_spans

# The conventions' tables are loaded only where observations are made (``load_translation``): OTLP carries spans as they are.


class Target(NamedTuple):
    """Where requests go and what they may be. ``headers`` hold no credentials: those are the transport's."""

    endpoint: Literal["otlp", "ingestion"]
    url: str
    headers: Mapping[str, str]
    max_request_bytes: int
    compression: Literal["gzip", "none"] = "gzip"


def load_translation() -> None:
    """Loads what observations are made with. Who will need it calls this when it is made, not first in a worker or a fork."""
    import_module(".encode.ingestion", __package__)


def ready(spans: Sequence[Span], mask: Callable[[str], Any] | None) -> Masked:
    """What may leave of the spans: one for each, the same object where nothing changed.

    Args:
        spans: of one batch.
        mask: as ``pipeline.mask.checked`` returns it, or None.
    """
    return Masked(list(spans), 0, "") if mask is None else mask_spans(spans, mask)


def observations(spans: Sequence[Span]) -> tuple[list[Observation], list[Drop]]:
    """What Langfuse is to store: one observation for each span, in order, or one ``Drop`` where that cannot be told."""
    from .translate import translate_all  # noqa: PLC0415 - see above

    try:
        return list(translate_all(spans)), []
    except Exception:  # noqa: BLE001 - translate raises for no content that we know; one span must not cost the others
        return _one_by_one(spans)


def _one_by_one(spans: Sequence[Span]) -> tuple[list[Observation], list[Drop]]:
    from .translate import translate  # noqa: PLC0415 - see above

    made: list[Observation] = []
    drops: list[Drop] = []
    for span in spans:
        try:
            made.append(translate(span))
        except Exception as error:  # noqa: BLE001, PERF203 - as above
            drops.append(Drop(DropReason.UNREADABLE, 1, f"{type(error).__name__} while translating a span"))
    return made, drops


def requests(spans: Sequence[Span], target: Target, *, now: str, seen: MutableSet[str]) -> tuple[list[Request], list[Drop]]:
    """Encodes spans for the target, split to its limit.

    Args:
        spans: what ``ready`` returned.
        target: OTLP requests carry the spans as they are, ingestion requests the observations translated from them.
        now: ISO 8601 with offset; the time of ingestion events.
        seen: ids of traces that ingestion requests have already named; more are added.

    Returns:
        The requests in order, and a ``Drop`` for each span that is in none of them.
    """
    if target.endpoint == "otlp":
        return _otlp(spans, target)
    from .encode import ingestion  # noqa: PLC0415 - see above

    translated, drops = observations(spans)
    made, more = ingestion.requests(
        translated,
        url=target.url,
        headers=target.headers,
        max_request_bytes=target.max_request_bytes,
        now=now,
        seen=seen,
    )
    return made, drops + more


def count_spans(items: Sequence[Any]) -> int:
    """How many spans a request's items stand for: what only tells about a trace is none."""
    return sum(1 for item in items if getattr(item, "observation_id", item) is not None)


def again(items: Sequence[Any], target: Target) -> Request | None:
    """One request for some of a request's items, to send a half, or what was refused for now, again.

    None only if none of them can be encoded, which cannot happen to items of a request.
    """
    if target.endpoint == "ingestion":
        from .encode import ingestion  # noqa: PLC0415 - see above

        return ingestion.request(items, url=target.url, headers=target.headers)
    made, _ = _otlp(items, target._replace(max_request_bytes=1 << 62))
    return made[0] if made else None


def _otlp(spans: Sequence[Span], target: Target) -> tuple[list[Request], list[Drop]]:
    return otlp.requests(
        spans,
        url=target.url,
        headers=target.headers,
        max_request_bytes=target.max_request_bytes,
        compression=target.compression,
    )
