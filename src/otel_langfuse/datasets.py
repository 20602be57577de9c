"""Datasets of a Langfuse project: created, read, and their items linked to what was made of them. Source: api.md 7.2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from .api import Api
from .errors import ApiError
from .model import Json

PAGE: Final = 50
MAX_PAGES: Final = 2_000
"""So a dataset of 100,000 items is read, and a server that says that there is always more ends nobody."""


class ItemFields(NamedTuple):
    """An item as it is stored."""

    id: str
    dataset_id: str
    dataset_name: str
    input: Json
    expected_output: Json
    metadata: Json
    status: str
    source_trace_id: str | None
    source_observation_id: str | None


class Datasets:
    """Datasets of one project. Safe to use on any thread. Its methods raise ``ApiError``."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def create(
        self,
        *,
        name: str,
        description: str | None = None,
        metadata: Any = None,
        input_schema: Any = None,
        expected_output_schema: Any = None,
    ) -> Mapping[str, Any]:
        """Creates a dataset, or changes the one of this name. The server checks items by the two JSON schemas."""
        body = _given(
            name=name,
            description=description,
            metadata=metadata,
            inputSchema=input_schema,
            expectedOutputSchema=expected_output_schema,
        )
        return _object(self._api.call("POST", "/v2/datasets", body))

    def create_item(
        self,
        *,
        dataset_name: str,
        input: Any = None,  # noqa: A002 - the API's name for it
        expected_output: Any = None,
        metadata: Any = None,
        source_trace_id: str | None = None,
        source_observation_id: str | None = None,
        status: str | None = None,
        id: str | None = None,  # noqa: A002 - likewise
    ) -> ItemFields:
        """Creates an item, or changes the one of this ``id``."""
        body = _given(
            datasetName=dataset_name,
            input=input,
            expectedOutput=expected_output,
            metadata=metadata,
            sourceTraceId=source_trace_id,
            sourceObservationId=source_observation_id,
            status=status,
            id=id,
        )
        return _item(self._api.call("POST", "/dataset-items", body))

    def get(
        self, name: str, *, page_size: int | None = None, version: datetime | None = None
    ) -> tuple[Mapping[str, Any], list[ItemFields]]:
        """A dataset, and all of its items that are active; ``version``: as they were then."""
        moment = None if version is None else version.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
        dataset = _object(self._api.call("GET", f"/v2/datasets/{quote(name, safe='')}"))
        items: list[ItemFields] = []
        for page in range(1, MAX_PAGES + 1):
            query: dict[str, str | int | None] = {"datasetName": name, "page": page, "limit": page_size or PAGE}
            if moment is not None:
                query["version"] = moment
            answer = _object(self._api.call("GET", "/dataset-items", query=query))
            items += [_item(one) for one in answer.get("data") or ()]
            if page >= int((answer.get("meta") or {}).get("totalPages") or 0):
                break
        return dataset, [item for item in items if item.status == "ACTIVE"]

    def link(
        self,
        item_id: str,
        *,
        run_name: str,
        trace_id: str,
        observation_id: str | None = None,
        run_description: str | None = None,
        run_metadata: Any = None,
    ) -> str:
        """Makes a trace part of a run, as what was made of an item. Returns the run's id."""
        body = _given(
            runName=run_name,
            runDescription=run_description,
            metadata=run_metadata,
            datasetItemId=item_id,
            traceId=trace_id,
            observationId=observation_id,
        )
        return str(_object(self._api.call("POST", "/dataset-run-items", body)).get("datasetRunId") or "")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _object(answer: Any) -> Mapping[str, Any]:
    if not isinstance(answer, Mapping):
        raise ApiError("the answer is no JSON object")
    return answer


def _item(answer: Any) -> ItemFields:
    found = _object(answer)
    return ItemFields(
        str(found.get("id")),
        str(found.get("datasetId") or ""),
        str(found.get("datasetName") or ""),
        found.get("input"),
        found.get("expectedOutput"),
        found.get("metadata"),
        str(found.get("status") or "ACTIVE"),
        found.get("sourceTraceId"),
        found.get("sourceObservationId"),
    )
