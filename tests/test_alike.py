"""What is remembered of spans that are alike changes nothing: not a value, not a rule, whatever came before."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_langfuse import translate as room
from otel_langfuse.conventions import CORRECTED_INDEX, _alike, _recipe, by_id
from otel_langfuse.conventions._alike import Alike
from otel_langfuse.conventions._plan import Index, Step, claim
from otel_langfuse.conventions._rule import Convention, Rule, Source
from otel_langfuse.conventions._sources import attr, computed, seen
from otel_langfuse.conventions._trial import StandIn, Subject, tried
from otel_langfuse.conventions._view import ResourceView, ScopeView, View
from otel_langfuse.model import Observation, Resource, Scope, Span, SpanEvent
from otel_langfuse.spans import from_otlp, from_sdk
from otel_langfuse.translate import translate_all

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import meaning, workloads

ROOT = Path(__file__).parents[1]
RESOURCE, SCOPE = Resource({"service.name": "shop", "service.version": "1.2"}), Scope("scope", "1.0")
CASES = [json.loads(path.read_text())["request"] for path in sorted((ROOT / "conformance" / "cases").rglob("*.json"))]
RULES = by_id()
KEYS = sorted(
    {key for rule in RULES.values() for source in (*rule.sets.values(), rule.when) if source for key in source.keys}
    | {
        prefix + rest
        for rule in RULES.values()
        for source in rule.sets.values()
        for some in source.prefixes
        for prefix in some
        for rest in ("", ".0.role", "input_tokens", "temperature")
    }
    | {"langfuse.internal.as_root", "langfuse.observation.metadata.k", "langfuse.trace.metadata.k", "langfuse.metadata.tools"}
    | {"langfuse.observation.metadata", "ai.telemetry.metadata.k", "__proto__", "other", "another", "gen_ai.tool.definitions"}
)
SCOPES = sorted({rule.scope for rule in RULES.values() if rule.scope and "*" not in rule.scope} | {"scope", "langfuse-sdk", ""})
TEXTS = [
    *("", "x", "text", "1", "0", "true", "chat", "generation", "GENERATION", "span", "LLM", "agent", "model", "2026-01-01"),
    *('{"a":1}', '{"a":2,"input":3}', "[]", '["a","b"]', '"quoted"', "null", "bad{", '[{"role":"user","content":"hi"}]', "a,b"),
    *('{"input": 512, "output": 230}', '{"name": "t", "tools": [{"name": "f"}]}', "[Scrubbed due to 'session']", "x" * 300),
    *('{"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}', "{duration}", "it took 3 s", "log", "langfuse-prod"),
]
OTHERS: list[Any] = [
    *(0, 1, 17, 2**53 - 1, 2**53, -(2**60), True, False, 0.0, -0.0, 0.7, 1.0, 1e21, float("nan"), float("inf"), None),
    *((), ("a",), ("a", "b"), ("",), ("x" * 300,), (1, 2), (True,), (1.0,), ["a"], b"bytes", {"a": 1}),
]


def keys_of(rule: Rule) -> list[str]:
    sources = [source for source in (*rule.sets.values(), rule.when) if source is not None]
    prefixed = {prefix + rest for source in sources for some in source.prefixes for prefix in some for rest in ("a", ".0.b")}
    return sorted({key for source in sources for key in source.keys} | prefixed)


def span(number: int, attributes: dict[str, Any], **changes: Any) -> Span:
    start = 1_700_000_000_000_000_000 + number
    made = Span(f"{number:032x}", f"{number:016x}", None, "call", start, start + 9, attributes, RESOURCE, SCOPE, flags=0x100)
    return made._replace(**changes)


def by_sdk(one: Span) -> Span:
    """The span as ``from_sdk`` would have read it: sequences are tuples."""
    return one._replace(attributes={key: tuple(v) if isinstance(v, list) else v for key, v in one.attributes.items()})


def alone(one: Span) -> Observation:
    """By somebody who has seen nothing before."""
    (made,) = room._translated([one], CORRECTED_INDEX, Alike(CORRECTED_INDEX))
    return made


def assert_same(memory: Alike, spans: Sequence[Span]) -> None:
    made = room._translated(spans, CORRECTED_INDEX, memory)
    assert list(map(repr, made)) == [repr(alone(one)) for one in spans]


def found(memory: Alike, spans: Sequence[Span]) -> list[bool]:
    """Which of the spans are found to be like another."""
    origins = room._Origins(CORRECTED_INDEX, memory)
    return [room._of_alike(one, memory, origins.of(one)) is not None for one in spans]


# -- the same observations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", ["W1", "W2", "W4", "old"])
def test_spans_of_the_benchmark_are_found_alike_and_give_the_same_observations(workload: str) -> None:
    spans, _ = from_sdk(meaning.old_spans(200) if workload == "old" else workloads.sdk_spans(workload, 200))
    memory = Alike(CORRECTED_INDEX)
    for _ in range(3):
        assert_same(memory, spans)
    assert all(found(memory, spans))


def test_every_case_of_every_family_gives_the_same_observations_also_after_all_others() -> None:
    memory = Alike(CORRECTED_INDEX)
    for _ in range(4):
        for case in CASES:
            spans = from_otlp(case)
            assert_same(memory, spans)
            assert_same(memory, [by_sdk(one) for one in spans])


def test_most_cases_that_are_plain_are_found_alike() -> None:
    memory = Alike(CORRECTED_INDEX)
    plain = [by_sdk(one) for case in CASES for one in from_otlp(case) if not (one.events or one.status_message)]
    for one in plain:
        room._translated([one] * 3, CORRECTED_INDEX, memory)
    count = sum(found(memory, [one])[0] for one in plain)
    assert count > 0.8 * len(plain), (count, len(plain))


values = st.sampled_from(TEXTS) | st.sampled_from(OTHERS)
changed_a_little = st.tuples(st.integers(0, 7), values)


@st.composite
def streams(draw: Callable[..., Any]) -> list[Span]:
    """Spans of which many have the keys of another, and most of its values."""
    spans: list[Span] = []
    for _ in range(draw(st.integers(1, 3))):
        attributes = draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS) | values, max_size=8))
        changes = draw(
            st.fixed_dictionaries(
                {"scope": st.sampled_from(SCOPES).map(lambda name: Scope(name or None, "1.0"))},
                optional={
                    "resource": st.sampled_from(
                        [Resource({}), Resource({"langfuse.environment": "Prod"}), Resource({"tools": 1})]
                    ),
                    "parent_span_id": st.just("0" * 15 + "1"),
                    "status_code": st.sampled_from([1, 2]),
                },
            )
        )
        for number in range(draw(st.integers(2, 9))):
            if attributes:
                place, value = draw(changed_a_little)
                attributes = {**attributes, list(attributes)[place % len(attributes)]: value}
            more = draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "name": st.sampled_from(["", "other", "on_exit", "agent_turn", "haystack.agent.run", "x" * 1001]),
                        "status_message": st.sampled_from(["", "no"]),
                        "start_time_unix_nano": st.sampled_from([None, 5]),
                        "events": st.just((SpanEvent("exception", 5, {"exception.message": "m"}),)),
                    },
                )
                if draw(st.integers(0, 4)) == 0
                else st.just({})
            )
            spans.append(span(number + 1, attributes, **{**changes, **more}))
    return spans


@given(streams(), st.booleans())
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
def test_spans_of_any_kind_in_any_order_give_the_same_observations(spans: list[Span], at_once: bool) -> None:
    memory = Alike(CORRECTED_INDEX)
    for _ in range(3):
        for batch in [spans] if at_once else [[one] for one in spans]:
            assert_same(memory, batch)


@pytest.mark.parametrize("name", [*RULES, None])
def test_any_value_after_any_other_under_a_key_that_a_rule_reads_gives_the_same_observations(name: str | None) -> None:
    rule = None if name is None else RULES[name]
    scope = Scope("scope" if rule is None else (rule.scope or "scope").replace("*", ".x"))
    base = dict.fromkeys(["other", "user.id", "langfuse.observation.metadata.k"] if rule is None else keys_of(rule)[:8], "text")
    values = [*TEXTS, *OTHERS]
    chance = random.Random(name)
    for key in base:
        memory = Alike(CORRECTED_INDEX)
        spans = [span(1, {**base, key: value}, scope=scope) for value in values]
        expected = [repr(alone(one)) for one in spans]
        order = [place for place in range(len(spans)) for _ in range(3)]
        for place in (*order, *chance.choices(range(len(spans)), k=len(spans))):
            (made,) = room._translated([spans[place]], CORRECTED_INDEX, memory)
            assert repr(made) == expected[place], (key, values[place])


def test_whether_it_is_a_root_is_told_by_every_span_itself() -> None:
    root = "langfuse.internal.as_root"
    for parent in (None, "", "0" * 15 + "1"):
        values = ["true", "true", "true", "false", "x", True, "true", False, 1, 0, "true"] * 3
        spans = [span(1, {root: value, "langfuse.trace.input": "text"}, parent_span_id=parent) for value in values]
        for batch in (spans, sorted(spans, key=lambda one: str(one.attributes[root]))):
            assert_same(Alike(CORRECTED_INDEX), batch)


@pytest.mark.parametrize("key", ["langfuse.trace.input", "langfuse.trace.output"])
@pytest.mark.parametrize("value", [("a", "b"), "text", "", 1, True])
def test_what_a_span_below_the_root_tells_of_its_trace_is_as_received(key: str, value: Any) -> None:
    for more in ({}, {"langfuse.trace.metadata.k": "v"}):
        spans = [span(number, {key: value, **more}, parent_span_id="0" * 15 + "1") for number in range(1, 8)]
        assert_same(Alike(CORRECTED_INDEX), spans)


def test_one_unusual_value_is_no_reason_not_to_remember_others() -> None:
    memory = Alike(CORRECTED_INDEX)
    for value in [float("nan")] * 5 + [0.5] * 5 + [float("inf"), 1.5]:
        assert_same(memory, [span(1, {"other": value})])
    assert found(memory, [span(1, {"other": 2.5})]) == [True]
    assert found(memory, [span(1, {"other": float("nan")})]) == [False]


def test_of_spans_with_values_of_unusual_kinds_no_recipe_is_made() -> None:
    memory = Alike(CORRECTED_INDEX)
    for number in range(1, 9):
        assert_same(memory, [span(number, {"other": b"bytes", "another": ["a"]})])
    ((family,),) = [list(known.values()) for known in memory._origins.values()]
    assert [shape.recipes for shape in family.shapes.values()] == [{}]


# -- every rule ----------------------------------------------------------------------------------------------------------------


STEPS = {step.id: step for step in CORRECTED_INDEX._steps.values()}


def view_of(step: Step, attributes: dict[str, Any], scope: str, index: Index = CORRECTED_INDEX) -> Subject:
    one = span(1, attributes, scope=Scope(scope))
    received = {key: list(value) if isinstance(value, tuple) else value for key, value in attributes.items()}
    resource, around = ResourceView(RESOURCE), ScopeView(one.scope)
    plan = index.plan(View(one, received, resource, around, lambda _: (None, None)))
    return Subject(one, received, plan, resource, around)


def assert_holds(step: Step, subject: Subject, other: Subject) -> bool:
    """What a trial said of one span is true of another of the same shape. Returns whether anything was said."""
    trial = tried(step, subject)
    if trial.parts or any(
        repr(subject.attributes[key]) != repr(other.attributes.get(key)) for key in trial.keys & subject.attributes.keys()
    ):
        return False
    if any(key is not None and other.attributes[key].startswith(beginning) for key, beginning in trial.beginnings):
        return False
    fields: dict[str, Any] = {}
    claimed = bool(claim(other.view(), (("", (step,)),), fields))
    assert claimed == (trial.fields is not None)
    for field, value in (trial.fields or {}).items():
        if isinstance(value, StandIn) and type(value) is StandIn:
            expected = other.span.name if value.key is None else other.attributes[value.key]
            assert fields[field] is expected
        else:
            assert repr(fields[field]) == repr(_recipe._filled(value, other.attributes))
    return True


@pytest.mark.parametrize("name", STEPS)
@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_a_trial_of_a_rule_says_is_true_of_every_span_of_the_shape(name: str, data: st.DataObject) -> None:
    rule = RULES[name]
    names = data.draw(st.lists(st.sampled_from(keys_of(rule) or ["other"]), min_size=1, max_size=4, unique=True))
    more = data.draw(st.lists(st.sampled_from(KEYS), max_size=2, unique=True))
    texts = st.sampled_from([text for text in TEXTS if text])
    first = {key: data.draw(texts | st.sampled_from([1, True, 0.5, ("a",), ""])) for key in dict.fromkeys((*names, *more))}
    first.pop("__proto__", None)
    other = {key: data.draw(texts) if isinstance(value, str) and value else value for key, value in first.items()}
    scope = (rule.scope or "scope").replace("*", ".x")
    try:
        claim(view_of(STEPS[name], other, scope).view(), (("", (STEPS[name],)),), {})
    except (KeyError, AttributeError):
        return  # not worth asking of such a span: the plan says so
    assert_holds(STEPS[name], view_of(STEPS[name], first, scope), view_of(STEPS[name], other, scope))


def step_of(*sources: Source) -> Step:
    rule = Rule("test/name/slug", sets={f"f{place}": source for place, source in enumerate(sources)}, spec="")
    return Index([Convention("test", (rule,))], {"name": (rule.id,)})._steps[rule.id]


@pytest.mark.parametrize(
    "wrong",
    [
        seen(lambda view: "plain" if type(view.attributes.get("a")) is str else None, attr("a")),
        computed(lambda value: value if type(value) is not str else None, attr("a")),
    ],
)
def test_a_rule_that_asks_for_exactly_text_is_found_out(wrong: Source) -> None:
    step = step_of(wrong)
    one, other = (view_of(step, {"a": text}, "scope") for text in ("text", "other"))
    with pytest.raises(AssertionError):
        assert_holds(step, one, other)


@pytest.mark.parametrize(
    "examines",
    [
        *(str.lower, len, list, hash, str, repr, json.loads, "".join, lambda v: v == "a", lambda v: "a" in v, lambda v: v + "a"),
        *(lambda v: v[:1], lambda v: f"{v}", lambda v: {v: 1}, lambda v: v.strip(), lambda v: v in {"a"}, format),
        *(lambda v: v.startswith(("a", "b")), lambda v: v < "a", lambda v: (v, v), lambda v: [{v}]),
    ],
)
def test_whatever_is_done_with_a_text_is_noted(examines: Callable[[Any], Any]) -> None:
    step = step_of(seen(lambda view: examines(view.attributes["a"]), attr("a")), attr("b"))
    trial = tried(step, view_of(step, {"a": '["a"]', "b": "text", "c": "unread"}, "scope"))
    assert trial.keys == {"a", "b"}


def test_a_text_that_is_only_carried_is_not_noted() -> None:
    step = step_of(seen(lambda view: view.attributes["a"] if view.attributes.get("b") else None, attr("a")))
    trial = tried(step, view_of(step, {"a": "long", "b": "text"}, "scope"))
    assert not trial.keys
    assert trial.fields is not None
    assert type(trial.fields["f0"]) is StandIn


# -- rules of one's own --------------------------------------------------------------------------------------------------------


def rules_of(**sources: Source) -> Index:
    """Rules that set one field each."""
    plain = {"type": computed(lambda: "span"), "level": computed(lambda: "DEFAULT"), "name": seen(lambda view: view.span.name)}
    rules = {field: Rule(f"test/{field}/slug", {field: source}, "") for field, source in {**plain, **sources}.items()}
    return Index(
        [Convention("test", tuple(rules.values()), content=("hidden",))], {field: (rule.id,) for field, rule in rules.items()}
    )


def assert_same_by(index: Index, values: Sequence[dict[str, Any]], **changes: Sequence[Any]) -> Alike:
    """Spans with these attributes, one after the other."""
    memory = Alike(index)
    for number, attributes in enumerate(values):
        one = span(number + 1, attributes, **{name: some[number] for name, some in changes.items()})
        (made,), (expected,) = (room._translated([one], index, some) for some in (memory, Alike(index)))
        assert repr(made) == repr(expected), number
    return memory


def test_zero_is_not_minus_zero() -> None:
    index = rules_of(input=computed(lambda value: [value], attr("a")))
    assert_same_by(index, [{"a": value} for value in [0.0] * 8 + [-0.0] * 3 + [0.0] * 3])


def test_what_has_changed_in_a_span_that_is_unlike_is_not_forgotten() -> None:
    index = rules_of(usage_details=computed(lambda value: {"input": value}, attr("a")))
    assert_same_by(index, [*[{"a": 1000, "b": "text"}] * 8, {"a": 2000, "b": 7}, *[{"a": 2000, "b": "text"}] * 3])


def test_a_rule_that_looks_at_another_key_by_and_by_is_asked_when_that_changes() -> None:
    def read(view: View) -> Any:
        return {"input": view.attributes["a"]} if view.attributes["a"] else {"input": view.attributes["b"], "other": [1]}

    index = rules_of(usage_details=seen(read, attr("a")))
    values = [*[{"a": 1000, "b": 2000}] * 8, *[{"a": 0, "b": 2000}] * 8, *[{"a": 0, "b": 3000}] * 3]
    assert_same_by(index, values)
    long = "sesame" * 100
    for count in range(len(values)):
        memory = assert_same_by(index, [{**value, "b": long} for value in values[:count]])
        assert not [text for text in texts_in(memory, set()) if "sesame" in text]


def test_a_rule_that_looks_at_a_key_that_is_not_shown_by_and_by_is_asked_when_that_changes() -> None:
    index = rules_of(version=seen(lambda view: "x" if view.attributes["a"] else view.attributes["hidden"].upper(), attr("a")))
    texts = ["text"] * 16 + ["other", "another", "another", "other"]
    assert_same_by(index, [{"a": 1000 if place < 8 else 0, "hidden": text} for place, text in enumerate(texts)])


def test_a_rule_that_looks_at_the_span_is_asked_for_every_one() -> None:
    index = rules_of(
        status_message=computed(str, seen(lambda view: view.span.start_time_unix_nano)),
        version=seen(lambda view: "x" if view.attributes["a"] else str(view.span.kind), attr("a")),
        input=seen(lambda view: {"kind": str(view.span.kind)}),
    )
    values = [*[{"a": 1000}] * 8, *[{"a": 0}] * 20]
    assert_same_by(index, values, kind=[1] * 8 + [2, 3] * 10)


def test_a_rule_that_does_not_win_any_more_leaves_its_place_to_others() -> None:
    first = Rule("test/name/first", {"name": computed(lambda value: value if value > 5 else None, attr("a"))}, "")
    second = Rule("test/name/second", {"name": attr("b")}, "")
    plain = rules_of().conventions[0].rules
    order = {"type": ("test/type/slug",), "level": ("test/level/slug",), "name": (first.id, second.id)}
    index = Index([Convention("test", (*plain, first, second))], order)
    assert_same_by(index, [{"a": value, "b": "text"} for value in [9] * 8 + [1] * 8 + [9] * 3 + [1, 9] * 20])


def test_a_span_without_a_name_is_unlike_others() -> None:
    index = rules_of(version=seen(lambda view: view.span.name or "none"))
    assert_same_by(index, [{}] * 12, name=["call"] * 6 + ["", "call"] * 3)


def test_of_spans_with_a_message_or_attributes_that_are_no_dict_nothing_is_remembered() -> None:
    for changes in ({"status_message": "sesame"}, {"attributes": MappingProxyType({"other": "sesame"})}):
        memory = Alike(CORRECTED_INDEX)
        for number in range(1, 8):
            assert_same(memory, [span(number, {"other": "text"})._replace(**changes)])
        assert "sesame" not in texts_in(memory, set())


def test_a_span_whose_name_begins_as_a_rule_asks_is_unlike_others() -> None:
    index = rules_of(version=seen(lambda view: "special" if view.span.name.startswith("special") else None))
    assert_same_by(index, [{}] * 12, name=["call"] * 6 + ["special call", "call"] * 3)


def test_what_a_rule_makes_of_texts_holds_the_texts_of_each_span() -> None:
    index = rules_of(
        input=seen(lambda view: [{"a": view.attributes["a"], "b": ["fixed", view.attributes["b"], 1]}], attr("a")),
        output=seen(lambda view: (view.attributes["a"],), attr("a")),
        version=seen(lambda view: {"name": view.span.name}),
    )
    memory = assert_same_by(index, [{"a": f"a {n}", "b": f"b {n}"} for n in range(20)], name=[f"call {n}" for n in range(20)])
    assert found(memory, [span(1, {"a": "x", "b": "y"})]) == [True]


def test_types_that_go_by_a_name_a_number_or_a_beginning_are_told_apart() -> None:
    index = rules_of(type=computed(lambda name: "tool" if name == "b" else "span", seen(lambda view: view.span.name)))
    assert_same_by(index, [{}] * 20, name=["a", "a", "a", "b"] * 5)
    index = rules_of(type=computed(str, attr("a")))
    assert_same_by(index, [{"a": value} for value in [0.0] * 5 + [-0.0, 0.0, 0, 0] * 4])
    index = rules_of(type=seen(lambda view: "tool" if view.attributes["a"].startswith("t") else "span"))
    assert_same_by(index, [{"a": value} for value in ["a", "b", "c", "d", "tool"] * 4])


def test_a_list_as_type_is_never_found_alike() -> None:
    index = rules_of(type=seen(lambda view: ["span"]))
    memory = assert_same_by(index, [{}] * 8)
    assert found(memory, [span(1, {})]) == [False]


def test_a_type_that_goes_by_more_than_attributes_and_name_is_never_found_alike() -> None:
    index = rules_of(type=seen(lambda view: "tool" if view.span.kind == 3 else "span"))
    memory = assert_same_by(index, [{}] * 12, kind=[1, 1, 1, 3] * 3)
    assert found(memory, [span(1, {})]) == [False]


# -- memory, privacy, threads --------------------------------------------------------------------------------------------------


def texts_in(value: Any, known: set[int]) -> list[str]:
    """All texts that are held by a value."""
    if id(value) in known:
        return []
    known.add(id(value))
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        parts: list[Any] = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = list(value)
    elif type(value).__module__ in (_alike.__name__, _recipe.__name__):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        parts = [getattr(value, name) for name in slots] if slots else list(vars(value).values())
    else:
        parts = []
    return [text for part in parts for text in texts_in(part, known)]


def test_long_texts_are_not_remembered_nor_what_is_made_of_them() -> None:
    memory = Alike(CORRECTED_INDEX)
    secret = "sesame"
    long = json.dumps({"temperature": 0.5, "note": secret + "y" * 300})
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": secret * 100,
        "langfuse.observation.model.parameters": long,
        "langfuse.observation.metadata.k": secret * 100,
        "other": secret * 100,
        "tags": (secret * 100,),
    }
    for number in range(1, 20):
        assert_same(memory, [span(number, dict(attributes))])
    assert found(memory, [span(1, attributes)]) == [True]
    assert not [text for text in texts_in(memory, set()) if secret in text]


def test_a_long_value_after_a_short_one_takes_its_place() -> None:
    memory = Alike(CORRECTED_INDEX)
    for number, text in enumerate(["short", "short", "short", "sesame", "long " * 100, "longer " * 100], 1):
        assert_same(memory, [span(number, {"other": text, "user.id": text})])
    assert "sesame" not in texts_in(memory, set())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_alike, "MAX_VALUES", 100)
    monkeypatch.setattr(_alike, "MAX_SEEN", 50)
    monkeypatch.setattr(_alike, "MAX_CREDIT", 1_000.0)
    memory = Alike(CORRECTED_INDEX)
    for number in range(1, 300):
        one = span(number, {f"k{number}": "v", "b": 1}, resource=Resource({"service.name": f"s{number % 40}"}))
        for _ in range(3):
            assert_same(memory, [one])
    families = [family for known in memory._origins.values() for family in known.values()]
    assert len(memory._origins) <= 101
    assert 0 < len(families) <= 100
    assert len(memory._seen) <= 50


@pytest.mark.parametrize(
    "attributes",
    [{f"k{number}": "v" for number in range(200)}, {"k" * 9_000: "v"}, {"__proto__": "v"}, {"gen_ai.tool.definitions": "[]"}],
)
def test_of_unusual_keys_nothing_is_remembered(attributes: dict[str, Any]) -> None:
    memory = Alike(CORRECTED_INDEX)
    for number in range(1, 5):
        assert_same(memory, [span(number, attributes)])
    assert found(memory, [span(1, attributes)]) == [False]


def test_where_spans_of_a_shape_are_never_alike_they_are_no_longer_looked_at() -> None:
    memory = Alike(CORRECTED_INDEX)
    room._translated([span(n, {"langfuse.observation.type": f"type {n}"}) for n in range(1, 800)], CORRECTED_INDEX, memory)
    ((family,),) = [list(known.values()) for known in memory._origins.values()]
    assert [shape.recipes for shape in family.shapes.values()] == [None]


def spoil(value: Any) -> None:
    """Changes all that can be changed in it, but what is the resource's and the scope's, as all spans of these share it."""
    if isinstance(value, dict):
        for name in value.keys() - {"resourceAttributes", "scope"}:
            spoil(value[name])
        value["changed"] = True
    elif isinstance(value, (list, tuple)):
        for part in value:
            spoil(part)
        if isinstance(value, list):
            value.append("changed")


def test_nobody_who_changes_an_observation_changes_another() -> None:
    attributes = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.parameters": '{"a": "b", "stop": {"x": ["y"]}}',
        "langfuse.observation.usage_details": '{"input": 1, "deep": {"list": [1, {"a": 1}]}}',
        "langfuse.trace.tags": ("a", "b"),
        "langfuse.observation.metadata.k": "v",
    }
    spans = [span(number, dict(attributes)) for number in range(1, 6)]
    expected = list(map(repr, map(alone, spans)))
    memory = Alike(CORRECTED_INDEX)
    for _ in range(3):
        for one, wanted in zip(spans, expected, strict=True):
            assert all(found(memory, [one] * 4)[3:])
            (made,) = room._translated([one], CORRECTED_INDEX, memory)
            assert repr(made) == wanted
            spoil(made)


def test_several_threads_at_once_give_the_same_observations() -> None:
    spans = [
        span(number, {"user.id": f"u{number % 7}", "langfuse.observation.type": ("span", "tool")[number % 2], "n": number % 3})
        for number in range(1, 300)
    ]
    expected = list(map(repr, translate_all(spans)))
    same: list[bool] = []

    def work() -> None:
        same.extend(list(map(repr, translate_all(spans))) == expected for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 40
