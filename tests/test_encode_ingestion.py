"""Observations as requests to the ingestion API."""

from __future__ import annotations

import re
from typing import Any

import orjson

from otel_langfuse.encode.ingestion import GROUP, Event, events, request, requests, requests_of
from otel_langfuse.errors import DropReason
from otel_langfuse.model import Resource, Scope, Span
from otel_langfuse.translate import translate_all

NOW = "2030-01-01T00:00:00.000Z"
RESOURCE, SCOPE = Resource({"service.name": "shop"}), Scope("app", "1")


def span(number: int, parent: str | None = "ffffffffffffffff", trace: str = "0" * 32, **attributes: Any) -> Span:
    start = 1_767_225_600_000_000_000 + number
    return Span(trace, f"{number:016x}", parent, f"span {number}", start, start + 5_000_000, attributes, RESOURCE, SCOPE)


def encoded(spans: list[Span], limit: int = 3_500_000) -> tuple[list[dict[str, Any]], list[Any]]:
    made, drops = requests(translate_all(spans), url="http://x/api", headers={"x": "1"}, max_request_bytes=limit, now=NOW)
    assert all(len(one.body) <= limit for one in made)
    return [orjson.loads(one.body) for one in made], drops


def test_a_trace_that_a_root_tells_of_gets_no_shallow_event() -> None:
    types = [event["type"] for event in events(translate_all([span(1), span(2, None), span(3)]), now=NOW)]
    assert types == ["span-create", "trace-create", "span-create", "span-create"]


def test_a_trace_without_root_gets_one_shallow_event_and_none_once_it_is_known() -> None:
    seen: set[str] = set()
    first = events(translate_all([span(1), span(2)]), now=NOW, seen=seen)
    later = events(translate_all([span(3)]), now=NOW, seen=seen)
    assert [event["type"] for event in first] == ["trace-create", "span-create", "span-create"]
    assert set(first[0]["body"]) == {"id", "timestamp", "environment"}
    assert [event["type"] for event in later] == ["span-create"]


def test_an_event_has_the_same_id_each_time_so_that_sending_it_again_overwrites() -> None:
    ids = [
        [event["id"] for event in events(translate_all([span(1, None), span(2)]), now=now)]
        for now in (NOW, "2031-01-01T00:00:00.000Z")
    ]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 3


def test_requests_are_split_to_their_limit_and_carry_everything_once() -> None:
    bodies, drops = encoded([span(number, **{"input.value": "x" * 900}) for number in range(50)], limit=5_000)
    assert drops == []
    assert len(bodies) > 10
    found = [event["body"]["id"] for body in bodies for event in body["batch"] if event["type"] == "span-create"]
    assert found == [f"{number:016x}" for number in range(50)]


def test_of_an_event_over_the_limit_the_largest_values_are_cut_and_the_others_stay() -> None:
    bodies, drops = encoded([span(1), span(2, **{"input.value": "x\n" * 9_000, "output.value": "y" * 900}), span(3)], limit=5_000)
    assert [(drop.reason, drop.count) for drop in drops] == [(DropReason.TOO_LARGE, 0)]
    assert "its largest values are cut" in drops[0].detail
    assert "xxx" not in drops[0].detail
    assert max(len(orjson.dumps(body)) for body in bodies) <= 5_000
    found = [event["body"] for body in bodies for event in body["batch"] if event["type"] == "span-create"]
    assert [body["id"][-1] for body in found] == ["1", "2", "3"]
    assert re.fullmatch(r"(x\n)+x?\.\.\.<cut: 1\d\.\d kB of 18\.0 kB left out>", found[1]["input"])
    assert found[1]["output"] == "y" * 900


def test_many_small_values_that_are_too_much_together_are_cut_as_one() -> None:
    bodies, drops = encoded([span(2, **{f"key{i}": "x" for i in range(1000)})], limit=5_000)
    assert [drop.count for drop in drops] == [0]
    (found,) = [event["body"] for body in bodies for event in body["batch"] if event["type"] == "span-create"]
    assert re.fullmatch(r"<cut: \d+\.\d kB left out>", found["metadata"])


def test_an_event_that_cannot_be_cut_is_dropped_alone() -> None:
    many = [f"tag{i}" for i in range(3000)]
    bodies, drops = encoded([span(1), span(2, None, **{"langfuse.trace.tags": many}), span(3)], limit=9_000)
    assert [(drop.count, "are cut" in drop.detail) for drop in drops] == [(0, False), (0, True)], "the trace's event is no span"
    assert [event["body"]["id"][-1] for body in bodies for event in body["batch"] if event["type"] == "span-create"] == [
        "1",
        "2",
        "3",
    ]


def test_items_can_be_sent_again_in_parts() -> None:
    made, _ = requests(translate_all([span(1), span(2)]), url="u", headers={}, max_request_bytes=100_000, now=NOW)
    half = request(made[0].items[:1], url="u", headers={})
    assert [event["type"] for event in orjson.loads(half.body)["batch"]] == ["trace-create"]
    assert [item.observation_id for item in made[0].items] == [None, f"{1:016x}", f"{2:016x}"]


def test_text_that_is_no_unicode_and_integers_of_any_size_have_a_form() -> None:
    bodies, drops = encoded([span(1, **{"input.value": "a\ud800b", "big": 2**80})])
    assert drops == []
    assert bodies[0]["batch"][1]["body"]["input"] == "a?b"


def test_nanoseconds_that_the_server_cuts_are_kept() -> None:
    made = events(translate_all([span(123_456, None)]), now=NOW)[1]["body"]
    assert made["startTime"] == "2026-01-01T00:00:00.000Z"
    assert made["metadata"]["startTimeUnixNano"] == "1767225600000123456"


def test_a_large_batch_becomes_requests_that_are_nearly_full() -> None:
    bodies, drops = encoded([span(number, None, **{"input.value": "x" * 20_000}) for number in range(60)], limit=300_000)
    assert drops == []
    sizes = [len(orjson.dumps(body)) for body in bodies]
    assert all(size > 200_000 for size in sizes[:-1]), sizes


def test_what_one_event_holds_that_has_no_plain_form_costs_its_neighbours_nothing() -> None:
    made, drops = requests(
        translate_all([span(1, **{"input.value": "a\ud800b"}), span(2, **{"input.value": "plain"})]),
        url="u",
        headers={},
        max_request_bytes=100_000,
        now=NOW,
    )
    assert drops == []
    again = request(made[0].items, url="u", headers={})
    assert again.body == made[0].body
    inputs = [event["body"]["input"] for event in orjson.loads(again.body)["batch"] if event["type"] == "span-create"]
    assert inputs == ["a?b", "plain"]


def test_whatever_the_limit_every_event_is_sent_once_and_in_order() -> None:
    spans = [span(number, None, **{"input.value": "x" * (40 * number % 1_700), "gen_ai.prompt": "é"}) for number in range(1, 150)]
    expected = [event["id"] for event in events(translate_all(spans), now=NOW)]
    for limit in (3_500_000, 200_000, 50_000, 20_000, 9_000, 5_000):
        bodies, drops = encoded(spans, limit)
        assert drops == []
        assert [event["id"] for body in bodies for event in body["batch"]] == expected
        full = sum(len(orjson.dumps(body)) for body in bodies[:-1]) / max(len(bodies) - 1, 1)
        assert len(bodies) == 1 or full > 0.6 * limit, "requests are nearly full, although whole groups go into them"


def test_events_that_fit_with_no_others_of_their_group_are_taken_one_by_one() -> None:
    spans = [span(number, **{"input.value": "x" * 30_000}) for number in range(1, 2 * GROUP)]
    bodies, drops = encoded(spans, limit=100_000)
    assert drops == []
    sizes = [sum(event["type"] == "span-create" for event in body["batch"]) for body in bodies]
    assert sizes == [3] * 21


def test_items_are_read_as_a_list_of_events() -> None:
    (made,), _ = requests(translate_all([span(1), span(2)]), url="u", headers={}, max_request_bytes=100_000, now=NOW)
    assert len(made.items) == 3
    assert made.items.spans == 2
    assert all(isinstance(item, Event) for item in made.items)
    assert list(made.items[1:]) == [made.items[1], made.items[2]] == list(made.items)[1:]
    assert made.items[-1].observation_id == f"{2:016x}"
    again = request(made.items[:], url="u", headers={})
    assert again == made
    assert requests_of([], url="u", headers={}, max_request_bytes=1_000) == ([], [])
