"""Scores as ingestion events, and as the bodies of ``POST /scores``. Pure. Source: api.md 2.2, 5.2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from otel_langfuse.errors import Drop
from otel_langfuse.model import Json, Request, Score

from . import ingestion

_NAMES = {
    "id": "id",
    "name": "name",
    "value": "value",
    "data_type": "dataType",
    "trace_id": "traceId",
    "observation_id": "observationId",
    "session_id": "sessionId",
    "dataset_run_id": "datasetRunId",
    "comment": "comment",
    "metadata": "metadata",
    "config_id": "configId",
    "environment": "environment",
}


def requests(
    scores: Sequence[Score], *, url: str, headers: Mapping[str, str], max_request_bytes: int
) -> tuple[list[Request], list[Drop]]:
    """Ingestion requests of ``score-create`` events, as ``ingestion.requests_of`` makes them."""
    return ingestion.requests_of(map(_event, scores), url=url, headers=headers, max_request_bytes=max_request_bytes)


def array(items: Sequence[ingestion.Event]) -> bytes:
    """The body that says the same to ``POST /scores`` of newer servers, all at once."""
    return orjson.dumps([_element(item) for item in items])


def single(item: ingestion.Event) -> bytes:
    """The body that says one of them to ``POST /scores`` of any server."""
    return orjson.dumps(_element(item))


def _event(score: Score) -> dict[str, Any]:
    body: dict[str, Json] = {
        name: value for field, name in _NAMES.items() if (value := getattr(score, field)) is not None
    }  # a null is not the same as nothing: dataType null is refused (api.md 5.2)
    return {"id": score.event_id, "type": "score-create", "timestamp": score.timestamp, "body": body}


def _element(item: ingestion.Event) -> dict[str, Any]:
    event = orjson.loads(item.body)
    return {**event["body"], "timestamp": event["timestamp"]}
