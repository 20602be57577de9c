from __future__ import annotations

from typing import Any

import pytest

from otel_langfuse.errors import ConfigError
from otel_langfuse.model import Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.pipeline.mask import FAILED, checked, mask_spans

SECRET = "SECRET"


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


def hide(data: str) -> str:
    return data.replace(SECRET, "***")


def test_every_text_of_a_span_is_masked() -> None:
    masked, failures, _ = mask_spans([everywhere()], hide)
    assert SECRET not in repr(masked)
    assert failures == 0
    assert masked[0].name == "name ***"
    assert masked[0].attributes["nested"] == {"a": ({"b": "***"},)}
    assert masked[0].attributes["bytes"] == b"***\xff"
    assert masked[0].attributes["number"] == 1


def broken(data: str) -> str:
    raise ValueError(data)


@pytest.mark.parametrize("mask", [broken, lambda data: None, lambda data: 7, lambda data: {"x": data}])
def test_it_fails_closed_value_by_value(mask: Any) -> None:
    masked, failures, detail = mask_spans([everywhere()], mask)
    assert SECRET not in repr(masked)
    assert SECRET not in detail
    assert failures > 8
    assert masked[0].name == FAILED
    assert masked[0].attributes["list"] == (FAILED, 1)


def test_a_value_for_which_the_mask_fails_costs_the_others_nothing() -> None:
    def picky(data: str) -> str:
        if data == SECRET:
            raise RuntimeError
        return data

    masked, failures, _ = mask_spans([span(attributes={"a": SECRET, "b": "fine"})], picky)
    assert masked[0].attributes == {"a": FAILED, "b": "fine"}
    assert failures == 1


def test_what_cannot_be_looked_through_does_not_leave() -> None:
    deep: Any = SECRET
    for _ in range(200):
        deep = [deep]
    masked, failures, _ = mask_spans([span(attributes={"deep": deep, "object": object()})], hide)
    assert SECRET not in repr(masked)
    assert masked[0].attributes["object"] == FAILED
    assert failures == 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_interpreters_exit_passes_through(error: type[BaseException]) -> None:
    def leave(_: str) -> str:
        raise error

    with pytest.raises(error):
        mask_spans([span()], leave)


def test_a_span_in_which_nothing_changes_stays_the_same_object() -> None:
    plain = span(attributes={"a": ("b", 1), "c": {"d": "e"}, "f": b"g"}, events=(SpanEvent("e", 1, {"a": "b"}),))
    assert mask_spans([plain], hide).spans[0] is plain


def test_resources_and_scopes_that_spans_share_are_masked_once_and_stay_shared() -> None:
    calls: list[str] = []

    def count(data: str) -> str:
        calls.append(data)
        return hide(data)

    resource, scope = Resource({"r": f"resource {SECRET}"}), Scope("s", None, {"s": f"scope {SECRET}"})
    masked, _, _ = mask_spans([span(resource=resource, scope=scope) for _ in range(3)], count)
    assert masked[0].resource is masked[2].resource
    assert masked[0].scope is masked[2].scope
    assert sum("resource" in call or "scope" in call for call in calls) == 2
    assert resource.attributes["r"].endswith(SECRET), "the original is never changed"


def test_a_mask_may_take_its_value_by_position_or_as_data() -> None:
    def keyword(*, data: str, **_: Any) -> str:
        return data.upper()

    assert checked(keyword)("a") == "A"
    assert checked(lambda value: value + "!")("a") == "a!"
    assert checked(str.upper)("a") == "A"


@pytest.mark.parametrize("mask", [7, "mask", lambda: "", lambda a, b: "", lambda *, value: ""])
def test_what_cannot_be_a_mask_is_refused(mask: Any) -> None:
    with pytest.raises(ConfigError, match="mask"):
        checked(mask)
