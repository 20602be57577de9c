"""The quick way gives the bytes of the long way, whatever the spans, and whatever it remembers of those before them."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mask_examples import PII, SECRETS
from otel_langfuse import LangfuseOTLPExporter
from otel_langfuse.encode import _looking, _quick, _shapes, dialect
from otel_langfuse.encode.otlp import Quick, to_protobuf
from otel_langfuse.media import decoded
from otel_langfuse.model import Resource, Scope, Span, SpanEvent
from otel_langfuse.pipeline.mask import Masking, masking
from otel_langfuse.pipeline.media import Lifting, may_hold_media
from otel_langfuse.pipeline.media._text import may_hold_shapes, replaced
from otel_langfuse.prepare import Target, quick, ready, requests, worded
from otel_langfuse.spans import from_otlp, from_sdk
from test_media import FORMS, SHAPES

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import workloads

ROOT = Path(__file__).parents[1]
NOW = "2026-11-21T12:00:00.000Z"
TARGET = Target("otlp", "https://host/v1/traces", {}, 4_000_000, "none", corrections=True)
MASK = masking(more=("pii",))
LIFTING = Lifting("send", 1 << 20)
SECRET = SECRETS["openai key"].caught[0][1]
PNG = SHAPES["Vercel image"][0]["image"]
RESOURCE, SCOPE = Resource({"service.name": "shop"}), Scope("scope", "1.0")


def span(number: int, attributes: dict[str, Any], **changes: Any) -> Span:
    start = 1_700_000_000_000_000_000 + number
    made = Span(f"{number:032x}", f"{number:016x}", None, "call", start, start + 9, attributes, RESOURCE, SCOPE, flags=0x100)
    return made._replace(**changes)


def body(
    spans: Sequence[Span], way: Quick | None, target: Target = TARGET, mask: Masking | None = MASK, lifting: Any = LIFTING
) -> list[bytes]:
    """What is sent, and what is said of it: by the quick way, or by the long one, which remembers nothing."""
    done = ready(spans, mask, lifting, way)
    said = repr((done.failures, [one.media for one in done.spans])).encode()
    if way is None:
        return [to_protobuf(worded(done.spans, target)), said]
    made, _ = requests(done.spans, target, now=NOW, seen=set(), written=done.written)
    return [made[0].body if made else b"", said]


def assert_same(way: Quick | None, spans: Sequence[Span], **settings: Any) -> None:
    assert way is not None
    assert body(spans, way, **settings) == body(spans, None, **settings)


# -- the same bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", ["W1", "W2", "W4"])
def test_spans_of_the_benchmark_all_go_the_quick_way_and_give_the_same_bytes(workload: str) -> None:
    exporter = LangfuseOTLPExporter(public_key="pk-lf-1", secret_key="sk-lf-12345678", base_url="http://127.0.0.1:9")
    spans, _ = from_sdk(workloads.sdk_spans(workload, 200))
    way = quick(exporter.target, exporter.mask, LIFTING)
    assert way is not None
    for _ in range(2):
        assert None not in way.written(spans).told
        assert_same(way, spans, target=exporter.target._replace(compression="none"), mask=exporter.mask)


def test_every_case_of_every_family_gives_the_same_bytes_also_after_all_others() -> None:
    cases = [json.loads(path.read_text())["request"] for path in sorted((ROOT / "conformance" / "cases").rglob("*.json"))]
    for corrections in (True, False):
        target = TARGET._replace(corrections=corrections)
        way = quick(target, MASK, LIFTING)
        for case in (*cases, *cases):
            assert_same(way, from_otlp(case), target=target)


VALUES: list[Any] = [
    *("", "short", "x" * 63, "x" * 64, "x" * 65, "é" * 70, "x" * 20_000, "\ud83d", "a\0b", "x" * 60 + "\0" + "y" * 60),
    *(0, 1, -1, 255, 256, 70_000, -70_000, 2**53, 2**63, True, False, 0.0, -0.0, 0.7, float("nan"), float("inf"), None),
    *((), ("a",), ("a", "b"), ("x" * 300,), (1, 2), (True,), (1.0,), ("a", 1), ("\ud83d",), ["a"], b"bytes", {"a": 1}, object()),
    *(SECRET, f"use {SECRET}, please", (SECRET,), ("a", SECRET), "mail to someone@example.com", "password=hunter2hunter2"),
    *(f'[{{"content": "{SECRET}"}}]', "word " * 30 + SECRET, json.dumps([{"type": "image", "image": PNG}])),
    *(f"data:image/png;base64,{PNG}", '{"id": "call_0123456789abcdef", "content": "abcdefghijklmnopqrst"}'),
    *("gpt-4o", "generation", "GENERATION", '{"input": 1, "output_tokens": 3}', "2026-01-01", "chat"),
]
KEYS = [
    *("a", "b", "c", "db.password", "user.id", "session.id", "langfuse.observation.type", "langfuse.observation.input"),
    *("langfuse.observation.usage_details", "langfuse.trace.tags", "langfuse.trace.name", "gen_ai.operation.name"),
    *("gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.response.id", "model", "logfire.level_num", SECRET),
    *("langfuse.observation.completion_start_time", "langfuse.observation.prompt.version", "langfuse.version", "\ud83d"),
]
spans_of_any_kind = st.builds(
    lambda number, attributes, changes: span(number, attributes, **changes),
    st.integers(1, 9),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=5),
    st.fixed_dictionaries(
        {},
        optional={
            "name": st.sampled_from(["", "other", SECRET, "n" * 65, "n" * 300, "\ud83d"]),
            "parent_span_id": st.sampled_from(["0" * 15 + "1", "0123 567 9abcdef", "x" * 16, ""]),
            "trace_id": st.sampled_from(["0" * 31 + "2", "01 3456789abcdef0123456789abcdef0", "no hex"]),
            "kind": st.sampled_from([2, 3, 5, 6, -1]),
            "status_code": st.sampled_from([1, 2, 7]),
            "status_message": st.sampled_from(["", "no", SECRET]),
            "start_time_unix_nano": st.sampled_from([None, 0, -1, 2**64]),
            "events": st.just((SpanEvent("exception", 5, {"exception.message": SECRET}),)),
            "trace_state": st.just(f"a={SECRET}"),
            "flags": st.sampled_from([0, 0x301, 2**33]),
            "dropped_attributes_count": st.just(3),
            "scope": st.sampled_from([Scope(), Scope("langfuse-sdk", "3.0"), Scope("logfire"), Scope("openlit.x")]),
            "resource": st.sampled_from([Resource(), Resource({"key": SECRET}), Resource({"service.version": 3})]),
        },
    ),
)


@given(st.lists(st.lists(spans_of_any_kind, max_size=30), max_size=4), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_spans_of_any_kind_in_any_order_give_the_same_bytes(batches: list[list[Span]], corrections: bool, lifts: bool) -> None:
    target, lifting = TARGET._replace(corrections=corrections), LIFTING if lifts else None
    way = quick(target, MASK, lifting)
    for spans in batches:
        assert_same(way, spans, target=target, lifting=lifting)


def test_a_shape_whose_values_change_one_at_a_time_gives_the_same_bytes() -> None:
    chance = random.Random(7)
    plain = [value for value in VALUES if isinstance(value, (str, int, float)) and value not in ("\ud83d",)]
    values = dict.fromkeys("abcdefgh", "short")
    spans = []
    for number in range(1, 400):
        values = {**values, chance.choice("abcdefgh"): chance.choice(plain)}
        spans.append(span(number, values))
    way = quick(TARGET, MASK, LIFTING)
    for start in range(0, 400, 50):
        assert_same(way, spans[start : start + 50])


def test_what_differs_for_the_first_time_after_hundreds_of_spans_goes_the_quick_way_and_gives_the_same_bytes() -> None:
    way = quick(TARGET, MASK, LIFTING)
    assert way is not None
    same = {"a": "always", "b": 1, "c": "", "d": ("x", "y"), "e": True}
    new = [{}, {"a": "at last"}, {"b": 2, "e": False}, {"a": "x" * 100}, {"d": ("x",)}, {"d": ("z" * 300,)}]
    spans = [span(number, {**same, "c": str(number), **new[number // 100]}) for number in range(1, 600)]
    for start in range(0, 600, 50):
        assert None not in way.written(spans[start : start + 50]).told
        assert_same(way, spans[start : start + 50])


@pytest.mark.parametrize("key", ["a", "langfuse.version", "gen_ai.usage.input_tokens"])
def test_any_value_after_any_other_under_the_same_key_gives_the_same_bytes(key: str) -> None:
    way = quick(TARGET, MASK, LIFTING)
    plain = [span(1, {key: value}) for value in VALUES]
    alone = {id(one): body([one], None) for one in plain}
    assert way is not None
    for first in plain:
        for second in plain:
            body([first], way)
            assert body([second], way) == alone[id(second)], (first.attributes, second.attributes)


@pytest.mark.parametrize(
    "ids", [("0" * 15 + " ", None), ("0" * 16, "0" * 14 + " 0"), ("0" * 16, ""), ("g" * 16, None), ("0", "1")]
)
def test_ids_that_are_none_are_dropped_by_the_quick_way_too(ids: tuple[str, str | None]) -> None:
    spans = [span(1, {}), span(2, {}, span_id=ids[0], parent_span_id=ids[1]), span(3, {})]
    assert_same(quick(TARGET, MASK, LIFTING), spans)
    (request,), drops = requests(spans, TARGET, now=NOW, seen=set())
    assert len(request.items) == 2
    assert len(drops) == 1


def test_tokens_of_spans_that_are_one_inside_the_other_count_once_by_the_quick_way_too() -> None:
    usage = '{"input": 10, "output": 5}'
    inner = {"langfuse.observation.type": "generation", "langfuse.observation.usage_details": usage, "gen_ai.response.id": "r"}
    spans = [span(1, inner, trace_id="a" * 32), span(2, inner, trace_id="a" * 32, parent_span_id=f"{1:016x}")]
    assert dialect.corrected(spans) != spans
    assert_same(quick(TARGET, MASK, LIFTING), spans)


# -- what must not leave -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["a short text", "a long text", "a list", "a key", "the name", "under a key that names it"])
@pytest.mark.parametrize("before", [0, 1, 11, 12, 40])
def test_a_secret_leaves_no_span_however_often_it_comes_and_whatever_came_before(place: str, before: int) -> None:
    fine: dict[str, Any] = {"a": "short", "b": "long " * 40, "c": ("a", "b")}
    attributes: dict[str, dict[str, Any]] = {
        "a short text": {**fine, "a": SECRET},
        "a long text": {**fine, "b": "long " * 40 + SECRET},
        "a list": {**fine, "c": (SECRET, "b")},
        "a key": {**fine, SECRET: 1},
        "the name": fine,
        "under a key that names it": {**fine, "db.password": SECRET},
    }
    changes = {"name": SECRET} if place == "the name" else {}
    way = quick(TARGET, MASK, LIFTING)
    for _ in range(3):  # what is remembered of a batch is there in the next one
        spans = [span(number + 1, fine) for number in range(before)]
        spans += [span(number + 100, dict(attributes[place]), **changes) for number in range(30)]
        made = b"".join(body(spans, way))
        assert SECRET.encode() not in made
        assert made.count(b"<masked: ") >= 30
        assert_same(way, spans)


@pytest.mark.parametrize("before", [0, 11, 40])
def test_what_is_only_looked_at_is_looked_at_wherever_it_stands(before: int) -> None:
    fine: dict[str, Any] = {"a": "short", "b": "long " * 40, "c": ("a", "b"), "d": 0.5}
    way = quick(TARGET._replace(endpoint="ingestion"), MASK, LIFTING)
    for changed in ({"a": SECRET}, {"b": "long " * 40 + SECRET}, {"c": ("a", SECRET)}, {"db.password": SECRET}, {SECRET: 1}):
        for _ in range(2):
            spans = [span(number + 1, fine) for number in range(before)]
            spans += [span(number + 100, {**fine, **changed}) for number in range(20)]
            spans += [span(number + 200, fine, name=SECRET) for number in range(20)]
            assert SECRET not in repr(ready(spans, MASK, LIFTING, way).spans)


def test_when_the_look_fails_nothing_leaves_that_was_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MASK is not None
    assert MASK.only_texts is not None

    def fail(_: bytes) -> bool:
        raise MemoryError

    monkeypatch.setattr(MASK.only_texts, "may_change", fail)
    made = b"".join(body([span(1, {"a": SECRET})], quick(TARGET, MASK, LIFTING)))
    assert SECRET.encode() not in made
    assert b"<masked: " in made


@pytest.mark.parametrize("preset", [SECRETS, PII])
def test_every_pattern_is_found_at_a_glance_wherever_it_stands(preset: Any) -> None:
    for examples in preset.values():
        for text, gone in examples.caught:
            way = quick(TARGET, MASK, LIFTING)
            made = b"".join(body([span(1, {"a": "x" * 70}), span(2, {"a": text}), span(3, {"a": "A" * 65})], way))
            assert gone.encode() not in made, text


@pytest.mark.parametrize("mask", [str.upper, "content", [str.upper, "pii"]])
def test_where_a_function_or_content_is_masked_there_is_no_quick_way(mask: Any) -> None:
    assert quick(TARGET, masking(mask), LIFTING) is None
    assert quick(TARGET, masking(mask_otel_spans=lambda params: None), LIFTING) is None


@pytest.mark.parametrize("changes", [{"dialect": "openinference"}, {"dialect": "gen_ai", "dialect_only": True}])
@given(st.lists(st.lists(spans_of_any_kind, max_size=20), max_size=3))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_where_a_dialect_is_written_spans_are_looked_at_quickly_and_the_bytes_are_the_same(
    changes: dict[str, Any], batches: list[list[Span]]
) -> None:
    target = TARGET._replace(**changes)
    way = quick(target, MASK, LIFTING)
    for spans in batches:
        assert_same(way, spans, target=target)


@pytest.mark.parametrize(
    ("workload", "name"), [("W1", "gen_ai"), ("W1", "openinference"), ("W4", "langfuse"), ("W4", "openinference")]
)
def test_a_dialect_is_added_to_what_is_written_already(workload: str, name: Any) -> None:
    target, (plain, _) = TARGET._replace(dialect=name), from_sdk(workloads.sdk_spans(workload, 10))
    spans = [
        one._replace(status_code=code, flags=flags, attributes={**one.attributes, "more": "x" * size})
        for one in plain
        for code in (0, 1)
        for flags in (0, 0x101)
        for size in (1, 70, 20_000)
    ]
    way = quick(target, MASK, LIFTING)
    assert way is not None
    assert None not in way.written(spans).bodies
    assert_same(way, spans, target=target)


@given(st.lists(st.lists(spans_of_any_kind, max_size=20), max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_translated_is_looked_at_quickly_and_the_spans_are_the_same(batches: list[list[Span]]) -> None:
    way = quick(TARGET._replace(endpoint="ingestion"), MASK, LIFTING)
    assert way is not None
    for spans in batches:
        assert repr(ready(spans, MASK, LIFTING, way).spans) == repr(ready(spans, MASK, LIFTING).spans)


def test_without_a_mask_only_media_are_looked_for() -> None:
    spans = [span(1, {"a": SECRET}), span(2, {"a": f"data:image/png;base64,{PNG}"})]
    way = quick(TARGET, None, LIFTING)
    assert_same(way, spans, mask=None)
    assert SECRET.encode() in b"".join(body(spans, way, mask=None))


# -- media at a glance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [form for form in FORMS if form != "an attribute that is a mapping"])
@pytest.mark.parametrize("shape", SHAPES)
def test_media_of_every_shape_and_form_are_seen_at_a_glance(shape: str, form: str) -> None:
    text = FORMS[form](SHAPES[shape][0])
    for before in ("", "word " * 30, '"' + "x" * 40):
        assert may_hold_media("\0".join((before, text)).encode())
    assert_same(quick(TARGET, MASK, LIFTING), [span(1, {"a": text}), span(2, {"a": "x" * 70})])


json_like = st.recursive(
    st.sampled_from(["text", "image", "blob", PNG[:40], "call_0123456789abcdef", "image/png", 1, None, True]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["data", "content", "image", "type", "media_type", "images", "blob", "id", "bytes"]), inner, max_size=4
    ) | inner.map(json.dumps),
    max_leaves=12,
)  # fmt: skip


@example({"data": json.dumps(json.dumps(PNG[:40])), "media_type": "image/png"}, None)
@given(json_like, st.sampled_from([None, 1, 40]))
@settings(max_examples=300, deadline=None)
def test_what_would_be_lifted_is_always_seen_at_a_glance(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    taken: list[str] = []
    replaced(text, lambda _, payload: taken.append(payload))
    assert may_hold_media(text.encode()) or not any(map(decoded, taken)), "what is no base64 is left where it is"


@pytest.mark.parametrize("gap", ["", " ", "\n", " " * 80, "\n" + "\t" * 90])
@pytest.mark.parametrize("inside", [False, True])
def test_however_much_room_is_before_it_base64_is_seen_at_a_glance(gap: str, inside: bool) -> None:
    text = f'{{"type": "blob", "mime_type": "image/png", "content":{gap}"{PNG}"}}'
    text = json.dumps({"message": text}) if inside else text
    taken: list[str] = []
    replaced(text, lambda _, payload: taken.append(payload))
    assert taken
    assert may_hold_media(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '[{"role": "tool", "tool_call_id": "call_0123456789abcdef", "content": "done"}]',
        '{"id": "123e4567-e89b-12d3-a456-426614174000"}',
        '{"content": "internationalization is a long word"}',
        '{"trace": "{\\"id\\": \\"0123456789abcdef0123456789abcdef\\"}"}',
    ],
)
def test_ids_and_long_words_are_no_reason_for_a_closer_look(text: str) -> None:
    assert may_hold_shapes(text)
    assert not may_hold_media(text.encode())


def test_where_group_after_group_has_something_to_change_most_are_not_tried() -> None:
    way = quick(TARGET, MASK, LIFTING)
    assert way is not None
    tried: list[bytes] = []
    look = way._glances.texts
    way = Quick(way._glances._replace(texts=lambda data: tried.append(data) is None and look(data)))
    assert way.written([span(number, {"a": f"{number} {SECRET}"}) for number in range(1, 6_001)]) == (
        [None] * 6_000,
        [None] * 6_000,
    )
    assert len(tried) < 30
    plain = [span(number, {"a": f"v{number}"}) for number in range(1, 2_001)]
    assert None not in way.written(plain).told[-1_000:]
    assert None not in way.written(plain).told


# -- memory and threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"endpoint": "ingestion"}])
def test_what_is_remembered_is_bounded_and_holds_no_long_text(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (_shapes, _quick, _looking):
        monkeypatch.setattr(room, "MAX_SHAPES", 20, raising=False)
        monkeypatch.setattr(room, "MAX_WORDS", 50, raising=False)
    way = quick(TARGET._replace(**changes), MASK, LIFTING)
    assert way is not None
    for number in range(1, 300):
        attributes = {f"k{number}": f"v{number}", "long": f"{number} " * 100, "many": ("a", f"{number} " * 100)}
        spans = [span(number, attributes, name=f"n{number}", flags=number), span(number, attributes, name="long " * 20)]
        assert repr(ready(spans, MASK, LIFTING, way).spans) == repr(ready(spans, MASK, LIFTING).spans)
    (memory,) = way._memories
    bounds = {"_kinds": 20, "_shapes": 20, "_fine_keys": 20, "_words": 50, "_names": 50, "_tails": 20}
    known = {name: len(getattr(memory, name)) for name in bounds if hasattr(memory, name)}
    assert all(0 < count <= bounds[name] for name, count in known.items()), known
    for shape in memory._shapes.values():
        assert shape is not None
        assert all(not isinstance(value, str) or len(value) <= 64 for value in shape.last)
    assert all(len(word) <= 64 for word in memory._words if isinstance(word, str))


def test_several_threads_at_once_give_the_same_bytes() -> None:
    way = quick(TARGET, MASK, LIFTING)
    spans = [
        span(number, {"a": f"v{number % 7}", "b": number, "c": SECRET if number % 50 == 0 else "x"}) for number in range(1, 400)
    ]
    expected = body(spans, None)
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.extend(body(spans, way) == expected for _ in range(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 40
