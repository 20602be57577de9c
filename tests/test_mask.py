from __future__ import annotations

import json
from typing import Any

import pytest

from otel_langfuse import MaskRule
from otel_langfuse.errors import ConfigError
from otel_langfuse.model import MASK_PRESETS, Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.pipeline.mask import FAILED, masking

SECRET = "SECRET"
PARAMETERS = "langfuse.observation.model.parameters"


def span(**changes: Any) -> Span:
    plain = Span("0" * 31 + "1", "0" * 15 + "1", None, "name", 1, 2, {}, Resource(), Scope("scope"))
    return plain._replace(**changes)


def everywhere() -> Span:
    """A span with a secret in every place that can hold a text."""
    return span(
        name=f"name {SECRET}",
        status_message=f"status {SECRET}",
        attributes={
            "text": SECRET,
            "list": (SECRET, 1),
            "nested": {"a": [{"b": SECRET}]},
            "bytes": SECRET.encode() + b"\xff",
            "number": 1,
        },
        events=(SpanEvent(f"event {SECRET}", 1, {"exception.message": SECRET}),),
        links=(SpanLink("a" * 32, "b" * 16, "", {"link": SECRET}),),
        resource=Resource({"resource": SECRET}),
        scope=Scope("scope", "1", {"scope": SECRET}),
    )


def hide(data: Any) -> Any:
    return json.loads(json.dumps(data).replace(SECRET, "***"))


def masked(spans: list[Span], mask: Any = None, **settings: Any) -> tuple[list[Span], int, str]:
    made = masking(mask, **{"secrets": False, **settings})
    assert made is not None
    return made.spans(spans)


def attributes(given: dict[str, Any], mask: Any, **settings: Any) -> Any:
    return masked([span(attributes=given)], mask, **settings)[0][0].attributes


# -- functions ---------------------------------------------------------------------------------------------------------------


def test_every_text_of_a_span_is_masked() -> None:
    spans, failures, _ = masked([everywhere()], hide)
    assert SECRET not in repr(spans)
    assert failures == 0
    assert spans[0].name == "name ***"
    assert spans[0].attributes["nested"] == {"a": [{"b": "***"}]}
    assert spans[0].attributes["bytes"] == b"***\xff"
    assert spans[0].attributes["number"] == 1


def broken(data: Any) -> Any:
    raise ValueError(data)


def leaves(data: Any) -> Any:
    raise GeneratorExit(data)


@pytest.mark.parametrize("mask", [broken, leaves, lambda data: None, lambda data: 7, lambda data: {"x": data}])
def test_it_fails_closed_value_by_value(mask: Any) -> None:
    spans, failures, detail = masked([everywhere()], mask)
    assert SECRET not in repr(spans)
    assert SECRET not in detail
    assert failures > 8
    assert spans[0].name == FAILED
    assert spans[0].attributes["list"] == (FAILED, 1)


def test_a_value_for_which_the_mask_fails_costs_the_others_nothing() -> None:
    def picky(data: str) -> str:
        if data == SECRET:
            raise RuntimeError
        return data

    spans, failures, _ = masked([span(attributes={"a": SECRET, "b": "fine"})], picky)
    assert spans[0].attributes == {"a": FAILED, "b": "fine"}
    assert failures == 1


@pytest.mark.parametrize("mask", [hide, "secrets", "pii", MaskRule(pattern="x")])
def test_what_cannot_be_looked_through_does_not_leave(mask: Any) -> None:
    deep: Any = SECRET
    for _ in range(200):
        deep = [deep]
    spans, failures, _ = masked([span(attributes={"deep": deep, "object": object()})], mask)
    assert SECRET not in repr(spans)
    assert spans[0].attributes == {"deep": FAILED, "object": FAILED}
    assert failures == 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_interpreters_exit_passes_through(error: type[BaseException]) -> None:
    def leave(_: str) -> str:
        raise error

    with pytest.raises(error):
        masked([span()], leave)


@pytest.mark.parametrize("mask", [hide, ["secrets", "pii", "content", hide], MaskRule(attributes="other")])
def test_a_span_in_which_nothing_changes_stays_the_same_object(mask: Any) -> None:
    plain = span(
        name="chat",
        attributes={"gen_ai.operation.name": "chat", "user.id": ("b", "c"), "session.id": "1"},
        events=(SpanEvent("exception", 1, {"exception.type": "ValueError"}),),
        links=(SpanLink("a" * 32, "b" * 16),),
    )
    assert masked([plain], mask)[0][0] is plain


def test_resources_and_scopes_that_spans_share_are_masked_once_and_stay_shared() -> None:
    calls: list[str] = []

    def count(data: str) -> Any:
        calls.append(data)
        return hide(data)

    resource, scope = Resource({"r": f"resource {SECRET}"}), Scope("s", None, {"s": f"scope {SECRET}"})
    for mask in (count, "secrets"):
        text = SECRET if mask is count else "password=hunter2"
        resource, scope = Resource({"r": f"resource {text}"}), Scope("s", None, {"s": f"scope {text}"})
        spans, _, _ = masked([span(resource=resource, scope=scope) for _ in range(30)], mask)
        assert text not in repr(spans)
        assert spans[0].resource is spans[29].resource
        assert spans[0].scope is spans[29].scope
        assert resource.attributes["r"].endswith(text), "the original is never changed"
    assert sum("resource" in call or "scope" in call for call in calls) == 2


def test_a_mask_may_take_its_value_by_position_or_as_data() -> None:
    def keyword(*, data: str, **_: Any) -> str:
        return data.upper()

    for mask in (keyword, lambda value: value.upper(), str.upper):
        assert attributes({"a": "b"}, mask) == {"a": "B"}


@pytest.mark.parametrize("mask", [7, True, "mask", "", ["pii", 7], lambda: "", lambda a, b: "", lambda *, value: ""])
def test_what_cannot_be_a_mask_is_refused(mask: Any) -> None:
    with pytest.raises(ConfigError, match="mask"):
        masking(mask)


def test_a_function_is_given_the_json_that_an_attribute_holds_and_its_answer_is_json_again() -> None:
    given: list[Any] = []

    def by_name(data: Any) -> Any:
        given.append(data)
        return {**data, "ssn": "***"} if isinstance(data, dict) else data

    text = '{"ssn": "1-2", "big": 12345678901234567890123, "half": "\\ud800"}'
    after = attributes({"a": text, "b": "{no json", "c": "[1,  2]", "d": '"text"'}, by_name)
    assert json.loads(after["a"]) == {"ssn": "***", "big": 12345678901234567890123, "half": "\ud800"}
    assert after["a"].encode()
    assert {key: after[key] for key in "bcd"} == {"b": "{no json", "c": "[1,  2]", "d": '"text"'}
    assert [type(one) for one in given] == [str, dict, str, list, str]  # the span's name, and four attributes


def test_an_answer_that_changes_what_it_was_given_in_its_place_counts() -> None:
    def in_place(data: Any) -> Any:
        if isinstance(data, dict):
            data["ssn"] = "***"
        return data

    assert json.loads(attributes({"a": '{"ssn": "1-2"}'}, in_place)["a"]) == {"ssn": "***"}


@pytest.mark.parametrize("answer", [None, 7, {"x": object()}, {1, 2}])
def test_an_answer_that_json_cannot_hold_is_none(answer: Any) -> None:
    assert attributes({"a": '{"ssn": "1-2"}'}, lambda data: answer if isinstance(data, dict) else data) == {"a": FAILED}


def test_a_text_as_answer_for_json_is_sent_as_it_is() -> None:
    assert attributes({"a": '{"x": 1}'}, lambda data: data if isinstance(data, str) else "gone") == {"a": "gone"}


def test_functions_and_rules_go_in_order_and_presets_see_what_they_leave() -> None:
    mask = ["pii", lambda data: data + "c", MaskRule(pattern="bc", text=" ada@example.com")]
    assert attributes({"x": "ab"}, mask) == {"x": "a <masked: email>"}


def test_what_is_on_no_span_is_masked_alike() -> None:
    rules = [MaskRule(fields="comment", pattern="ada"), MaskRule(keys="ssn"), "pii", "secrets"]
    made = masking(rules, secrets=False)
    assert made is not None
    assert made.value("by ada, bob@example.com", "comment") == ("by <masked>, <masked: email>", 0)
    value = {"ssn": "1-2", "by": ["ada", "a@example.com"], "token": "x", "n": 1}
    after = {"ssn": "<masked>", "by": ["ada", "<masked: email>"], "token": "<masked: named secret>", "n": 1}
    assert made.value(value, "metadata") == (after, 0)
    whole = masking(lambda data: {**data, "a": "***"})
    assert whole is not None
    assert whole.value({"a": "b"}, "variables") == ({"a": "***"}, 0)
    assert whole.value("text", "comment") == (FAILED, 1)
    content = masking("content")
    assert content is not None
    assert content.value("text", "comment") == ("<masked: content>", 0)


def test_presets_are_named_once_for_settings_and_masks() -> None:
    assert all(masking(name, secrets=False) is not None for name in MASK_PRESETS)
    assert masking(secrets=False) is None
    assert masking() is not None


def test_of_content_structure_and_usage_stay_and_texts_go() -> None:
    given = {
        PARAMETERS: '{"temperature": 0.7, "stop": ["Ada"], "reasoning_effort": "low", "x": {"y": "Ada"}}',
        "langfuse.observation.usage_details": '{"input": 512}',
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.tool.name": "look up",
        "user.id": "ada",
        "gen_ai.usage.input_tokens": 512,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.agent.name": "x" * 201,
        "embedding.vector": (0.5, 0.25),
        "langfuse.trace.tags": ("about ada",),
        "unheard.of": "Ada",
        "empty": "",
    }
    gone = "<masked: content>"
    (after,), _, _ = masked([span(name="chat gpt-4o", status_message="Ada", attributes=given)], "content")
    assert json.loads(after.attributes[PARAMETERS]) == {
        "temperature": 0.7,
        "stop": gone,
        "reasoning_effort": "low",
        "x": {"y": gone},
    }
    assert (after.name, after.status_message) == ("chat gpt-4o", gone)
    changed = {key: value for key, value in after.attributes.items() if value != given[key]}
    assert changed.keys() - {PARAMETERS} == {
        *("gen_ai.agent.name", "embedding.vector", "langfuse.trace.tags", "unheard.of"),
    }
    assert masked([span(name="chat about ada", attributes=given)], "content")[0][0].name == gone


# -- rules -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "given", "after"),
    [
        (
            MaskRule(attributes="http.*.authorization"),
            {"http.x.authorization": "a", "http": "b"},
            {"http.x.authorization": "<masked>", "http": "b"},
        ),
        (MaskRule(attributes=["a", "b"], action="remove"), {"a": "1", "b": 2, "c": "3"}, {"c": "3"}),
        (MaskRule(attributes="tags"), {"tags": ("a", "b")}, {"tags": ("<masked>", "<masked>")}),
        (MaskRule(attributes="n"), {"n": 41}, {"n": "<masked>"}),
        (
            MaskRule(attributes="a", pattern=r"EMP-\d+", text="EMP"),
            {"a": "see EMP-12 and EMP-3", "b": "EMP-4"},
            {"a": "see EMP and EMP", "b": "EMP-4"},
        ),
        (MaskRule(pattern=r"\d+", action="remove"), {"a": "x1y22", "b": ["3z"]}, {"a": "xy", "b": ["z"]}),
        (MaskRule(attributes="card", action="last4"), {"card": "4111111111111111"}, {"card": "****1111"}),
        (MaskRule(attributes="card", action="last4"), {"card": "12345678901"}, {"card": "****"}),
        (
            MaskRule(keys="Card-Number"),
            {"a": '{"x": [{"card_number": "4"}]}', "b.cardNumber": "4"},
            {"a": '{"x": [{"card_number": "<masked>"}]}', "b.cardNumber": "<masked>"},
        ),
        (
            MaskRule(keys="ssn", action="remove"),
            {"a": '{"args": "{\\"ssn\\": 1, \\"x\\": 2}"}'},
            {"a": '{"args": "{\\"x\\": 2}"}'},
        ),
        (MaskRule(keys="name", pattern="A"), {"a": '{"name": "Ada", "x": "Ada"}'}, {"a": '{"name": "<masked>da", "x": "Ada"}'}),
        (
            MaskRule(paths="$.user.email"),
            {"a": '{"user": {"email": "x", "id": 1}}'},
            {"a": '{"user": {"email": "<masked>", "id": 1}}'},
        ),
        (
            MaskRule(paths="messages[*].content"),
            {"a": '{"messages": [{"content": "x"}, {"content": ["y"]}]}'},
            {"a": '{"messages": [{"content": "<masked>"}, {"content": ["<masked>"]}]}'},
        ),
        (MaskRule(paths="[-1]", action="remove"), {"a": "[1, 2, 3]"}, {"a": "[1, 2]"}),
        (
            MaskRule(paths="..email"),
            {"a": '[{"email": "x"}, {"y": {"email": "z"}}]'},
            {"a": '[{"email": "<masked>"}, {"y": {"email": "<masked>"}}]'},
        ),
        (MaskRule(paths="$['a.b'].*"), {"a": '{"a.b": {"c": 1}, "d": 2}'}, {"a": '{"a.b": {"c": "<masked>"}, "d": 2}'}),
        (
            MaskRule(allow=["gen_ai.*", "user.id"]),
            {"gen_ai.x": "1", "user.id": "2", "other": 3},
            {"gen_ai.x": "1", "user.id": "2"},
        ),
    ],
)
def test_rules(rule: MaskRule, given: dict[str, Any], after: dict[str, Any]) -> None:
    assert attributes(given, rule) == after


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("input", "langfuse.observation.input"),
        ("input", "gen_ai.input.messages"),
        ("input", "gen_ai.prompt.0.content"),
        ("input", "input.value"),
        ("input", "llm.input_messages.0.message.content"),
        ("input", "traceloop.entity.input"),
        ("input", "gen_ai.task.input"),
        ("input", "gen_ai.tool.args"),
        ("input", "llm.openai.messages"),
        ("input", "embedding.embeddings.0.embedding.text"),
        ("input", "llm.prompt_template.variables"),
        ("input", "llm.tools.0.tool.json_schema"),
        ("input", "haystack.component.input"),
        ("input", "mlflow.spanInputs"),
        ("output", "langfuse.observation.output"),
        ("output", "gen_ai.output.messages"),
        ("output", "output.value"),
        ("output", "retrieval.documents.0.document.content"),
        ("output", "haystack.agent.step.llm.output"),
        ("output", "ai.response.text"),
        ("metadata", "langfuse.trace.metadata.tenant"),
        ("metadata", "ai.telemetry.metadata.x"),
        ("metadata", "metadata"),
        ("model_parameters", "langfuse.observation.model.parameters"),
        ("model_parameters", "gen_ai.request.temperature"),
        ("tags", "langfuse.trace.tags"),
        ("tags", "tag.tags"),
        ("user_id", "user.id"),
        ("user_id", "langfuse.user.id"),
        ("session_id", "session.id"),
        ("session_id", "gen_ai.conversation.id"),
    ],
)
def test_a_field_is_known_in_every_family(field: str, key: str) -> None:
    after = attributes({key: "x", "service.note": "y"}, MaskRule(fields=field))
    assert after == {key: "<masked>", "service.note": "y"}


def test_fields_of_the_span_itself_and_of_span_events() -> None:
    event = SpanEvent("gen_ai.user.message", 1, {"content": "x"})
    (after,), _, _ = masked([span(status_message="s", events=(event,))], MaskRule(fields=["name", "status_message", "input"]))
    assert (after.name, after.status_message) == ("<masked>", "<masked>")
    assert after.events[0] == SpanEvent("gen_ai.user.message", 1, {"content": "<masked>"})
    (after,), _, _ = masked([span(status_message="s")], MaskRule(fields=["name", "status_message"], action="remove"))
    assert (after.name, after.status_message) == ("<masked>", None)


def test_a_hash_keeps_users_apart_and_is_another_with_another_key() -> None:
    def hashed(user: str, key: str) -> str:
        text: str = attributes({"user.id": user}, MaskRule(fields="user_id", action="hash", hash_key=key))["user.id"]
        return text

    assert hashed("ada", "key-of-ours") == hashed("ada", "key-of-ours") != hashed("bob", "key-of-ours")
    assert hashed("ada", "key-of-ours") != hashed("ada", "key-of-them")
    assert "ada" not in hashed("ada", "key-of-ours")
    assert "key-of-ours" not in repr(MaskRule(fields="user_id", action="hash", hash_key="key-of-ours"))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attributes": "a", "allow": "b"},
        {"attributes": "a", "action": "shred"},
        {"attributes": "a", "action": "hash"},
        {"attributes": "a", "action": "hash", "hash_key": "short"},
        {"attributes": [7]},
        {"fields": "inputs"},
        {"paths": "a[b"},
        {"paths": "$"},
        {"pattern": "("},
        {"pattern": "x*"},
        {"pattern": b"x"},
        {"pattern": r"(a+)+$"},
        {"pattern": r"(\w|x*)*y"},
    ],
)
def test_a_rule_that_cannot_work_is_refused(settings: Any) -> None:
    with pytest.raises(ConfigError, match="MaskRule"):
        MaskRule(**settings)
