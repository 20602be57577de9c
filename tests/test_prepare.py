from __future__ import annotations

import json

import pytest

from otel_langfuse import prepare
from otel_langfuse.errors import DropReason
from otel_langfuse.pipeline.mask import masking
from otel_langfuse.prepare import Target, again, count_spans, ready, requests
from otel_langfuse.spans import from_sdk
from servers import sdk_spans

OTLP = Target("otlp", "https://host/v1/traces", {"x": "y"}, 4_000_000)
INGESTION = Target("ingestion", "https://host/ingestion", {"x": "y"}, 3_500_000, "none")
NOW = "2026-11-21T12:00:00.000Z"


def test_without_a_mask_the_same_spans_are_ready() -> None:
    spans, _ = from_sdk(sdk_spans(["a"]))
    assert ready(spans, None).spans[0] is spans[0]
    assert ready(spans, masking(str.upper)).spans[0].name == "A"


def test_otlp_requests_carry_the_spans_as_they_are() -> None:
    spans, _ = from_sdk(sdk_spans(["a", "b"]))
    made, drops = requests(spans, OTLP, now=NOW, seen=set())
    assert [request.endpoint for request in made] == ["otlp"]
    assert list(made[0].items) == spans
    assert made[0].headers["x"] == "y"
    assert not drops
    assert count_spans(made[0].items) == 2


def test_ingestion_requests_carry_events_of_which_those_of_observations_count() -> None:
    spans, _ = from_sdk(sdk_spans(["a", "b"]))
    made, drops = requests(spans, INGESTION, now=NOW, seen=set())
    assert not drops
    events = json.loads(made[0].body)["batch"]
    assert sorted(event["type"] for event in events) == ["span-create", "span-create", "trace-create", "trace-create"]
    assert count_spans(made[0].items) == 2


@pytest.mark.parametrize("target", [OTLP, INGESTION])
def test_some_of_a_requests_items_make_a_request_again(target: Target) -> None:
    spans, _ = from_sdk(sdk_spans(["a", "b", "c"]))
    whole = requests(spans, target, now=NOW, seen=set())[0][0]
    half = again(whole.items[:2], target)
    assert half is not None
    assert list(half.items) == list(whole.items[:2])
    assert half.url == whole.url
    assert dict(half.headers) == dict(whole.headers)
    assert again(whole.items, target) == whole


def test_a_span_that_cannot_be_translated_costs_only_itself() -> None:
    spans, _ = from_sdk(sdk_spans(["a", "b", "c"]))
    broken = spans[1]._replace(attributes=7)  # type: ignore[arg-type] - nothing that our readers make
    made, drops = prepare.observations([spans[0], broken, spans[2]])
    assert [observation.name for observation in made] == ["a", "c"]
    assert [(drop.reason, drop.count) for drop in drops] == [(DropReason.UNREADABLE, 1)]
