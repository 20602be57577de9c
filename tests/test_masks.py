"""The doors of the mask: settings, functions that take too long, the official SDK's own form."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_langfuse import (
    ConfigError,
    LangfuseOTLPExporter,
    LangfuseSpanProcessor,
    MaskOtelSpansResult,
    MaskRule,
    OtelSpanIdentifier,
    OtelSpanPatch,
)
from otel_langfuse.config import Config
from otel_langfuse.masks import MAX_STUCK, Watched, masking_for
from otel_langfuse.model import Resource, Scope, Span
from otel_langfuse.pipeline.mask import FAILED, masking

KEY = "sk" + "-lf-0123456789abcdef0123456789"


def through(processor_settings: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """What an exporter of somebody else's gets of a span, and what another processor on the same provider gets."""
    exporter, other = InMemorySpanExporter(), InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter, **processor_settings)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    provider.add_span_processor(SimpleSpanProcessor(other))
    provider.get_tracer("tests").start_span("name", attributes=attributes).end()
    assert processor.force_flush(10_000)
    processor.shutdown(0)
    (ours,), (others,) = exporter.get_finished_spans(), other.get_finished_spans()
    assert dict(others.attributes or {}) == attributes, "nobody else's spans are changed"
    return dict(ours.attributes or {})


# -- settings ----------------------------------------------------------------------------------------------------------------


def test_secrets_are_masked_without_any_setting_and_with_a_mask_for_something_else() -> None:
    assert through({}, {"a": KEY}) == {"a": "<masked: langfuse key>"}
    assert through({"mask": MaskRule(keys="x")}, {"a": KEY}) == {"a": "<masked: langfuse key>"}
    assert through({"mask_secrets": False}, {"a": KEY}) == {"a": KEY}
    assert through({"mask_secrets": False, "mask": ["secrets"]}, {"a": KEY}) == {"a": "<masked: langfuse key>"}


def test_what_the_environment_names_is_masked_whatever_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_MASK", "pii, secrets")
    assert through({"mask": str.upper}, {"a": "ada@example.com x"}) == {"a": "<masked: email> X"}
    monkeypatch.setenv("LANGFUSE_MASK", "")
    monkeypatch.setenv("LANGFUSE_MASK_SECRETS", "false")
    assert through({}, {"a": KEY}) == {"a": KEY}
    monkeypatch.setenv("LANGFUSE_MASK", "names")
    with pytest.raises(ConfigError, match="LANGFUSE_MASK='names': expected secrets, pii, content"):
        LangfuseSpanProcessor(InMemorySpanExporter())


def test_the_destinations_own_key_is_masked_though_it_looks_like_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_SECRET_KEY", "our-own-key")
    assert through({}, {"a": "with our-own-key in it"}) == {"a": "with <masked: own key> in it"}


def test_a_mask_stands_at_the_processor_or_at_its_exporter() -> None:
    exporter = LangfuseOTLPExporter(endpoint="http://127.0.0.1:9/v1/traces", mask="pii")
    assert LangfuseSpanProcessor(exporter).masking is exporter.mask
    for settings in ({"mask": "pii"}, {"mask_otel_spans": lambda params: None}):
        with pytest.raises(ConfigError, match="mask"):
            LangfuseSpanProcessor(exporter, **settings)
    plain = LangfuseOTLPExporter(endpoint="http://127.0.0.1:9/v1/traces")
    assert plain.mask is not None, "behind somebody else's processor it masks secrets itself"
    off = LangfuseOTLPExporter(endpoint="http://127.0.0.1:9/v1/traces", mask_secrets=False)
    assert off.mask is None
    assert LangfuseSpanProcessor(off).masking is not None


def test_a_masking_is_taken_as_it_is() -> None:
    made = masking("pii")
    assert masking_for(Config(), made) is made
    assert masking_for(Config(mask_secrets=False)) is None


# -- functions that take too long ---------------------------------------------------------------------------------------------


def test_a_value_for_which_the_mask_takes_too_long_fails_and_the_others_do_not() -> None:
    release = threading.Event()

    def slow(data: str) -> str:
        if data == "hang":
            release.wait(30)
        return data.upper()

    watched = Watched(0.2)
    answers = watched(slow, ["a", "hang", "b"])
    assert [answer.value for answer in answers] == ["A", None, "B"]
    assert answers[1].error == "mask took longer than 0.2 s"
    release.set()


def test_a_mask_that_never_ends_is_not_asked_again_and_delivery_goes_on_until_it_does() -> None:
    release, calls = threading.Event(), []

    def hang(data: str) -> str:
        calls.append(data)
        release.wait(30)
        return data.upper()

    watched = Watched(0.05)
    began = time.monotonic()
    assert all(answer.error for answer in watched(hang, list(map(str, range(1000)))))
    assert all(answer.error for answer in watched(hang, ["more"]))
    assert time.monotonic() - began < 10
    assert len(calls) == MAX_STUCK
    release.set()
    deadline = time.monotonic() + 10
    while watched(hang, ["again"])[0].value != "AGAIN" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watched(hang, ["again"])[0].value == "AGAIN"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_asks_the_mask_though_it_hangs_in_its_parent() -> None:
    release = threading.Event()

    def hang_in_parent(data: str) -> str:
        if os.getpid() == parent:
            release.wait(30)
        return data.upper()

    parent, watched = os.getpid(), Watched(0.05)
    watched(hang_in_parent, ["x"] * (MAX_STUCK + 1))
    child = os.fork()
    if child == 0:
        os._exit(0 if watched(hang_in_parent, ["a"])[0].value == "A" else 1)
    release.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_the_interpreters_exit_comes_through_from_the_other_thread(error: type[BaseException]) -> None:
    def leave(_: str) -> str:
        raise error

    with pytest.raises(error):
        Watched(5)(leave, ["a"])


def test_where_no_thread_can_be_started_the_mask_is_asked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert [answer.value for answer in Watched(5)(str.upper, ["a", "b"])] == ["A", "B"]


def test_a_mask_that_hangs_costs_its_value_and_what_it_costs_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    def mask(data: str) -> str:
        if data == "hang":
            release.wait(30)
        return data

    assert through({"mask": mask, "mask_timeout": 0.1}, {"a": "hang", "b": "fine"}) == {"a": FAILED, "b": "fine"}
    release.set()
    assert "1 values are sent as '<masked: mask failed>': mask took longer than 0.1 s" in caplog.text


def test_a_function_is_called_on_no_thread_of_the_application_and_presets_start_none() -> None:
    seen: set[str] = set()

    def mask(data: str) -> str:
        seen.add(threading.current_thread().name)
        return data

    through({"mask": mask}, {"a": "b"})
    assert seen == {"otel-langfuse-mask"}


# -- mask_otel_spans ---------------------------------------------------------------------------------------------------------


def span(number: int, **attributes: Any) -> Span:
    return Span(f"{1:032x}", f"{number:016x}", None, f"n{number}", 1, 2, attributes, Resource({"r": "r"}), Scope("scope", "1"))


def patched(spans: list[Span], function: Callable[..., Any]) -> tuple[list[Any], int]:
    made = masking(secrets=False, mask_otel_spans=function)
    assert made is not None
    done = made.spans(spans)
    return [one.attributes for one in done.spans], done.failures


def test_the_function_sees_every_span_and_its_answer_changes_attributes() -> None:
    seen: list[Any] = []

    def mask(*, params: Any) -> Any:
        seen.extend(params.spans.values())
        patches = {name: OtelSpanPatch({"b": "new"}, ("a",)) for name, one in params.spans.items() if "a" in one.attributes}
        return MaskOtelSpansResult(patches)

    assert patched([span(1, a="x", c=1), span(2, c="y"), span(3, a="z", b="old")], mask) == (
        [{"c": 1, "b": "new"}, {"c": "y"}, {"b": "new"}],
        0,
    )
    assert [(one.span_id, one.name, one.instrumentation_scope_name) for one in seen] == [
        (f"{n:016x}", f"n{n}", "scope") for n in (1, 2, 3)
    ]
    assert seen[0].resource_attributes == {"r": "r"}
    with pytest.raises(TypeError):
        seen[0].attributes["a"] = "changed"


def test_no_answer_and_no_patch_leave_the_spans_as_they_are() -> None:
    spans = [span(1, a="x"), span(2, a="y")]
    for answer in (None, MaskOtelSpansResult(), MaskOtelSpansResult({OtelSpanIdentifier(f"{1:032x}", f"{1:016x}"): None})):
        made = masking(secrets=False, mask_otel_spans=lambda params, answer=answer: answer)
        assert made is not None
        assert all(new is old for new, old in zip(made.spans(spans).spans, spans, strict=True))


@dataclass(frozen=True)
class TheirIdentifier:
    """The official SDK's own class has the same fields, and is another."""

    trace_id: str
    span_id: str


@dataclass(frozen=True)
class TheirPatch:
    set_attributes: dict[str, Any] = field(default_factory=dict)
    delete_attributes: tuple[str, ...] = ()


def test_the_official_sdks_own_classes_are_understood() -> None:
    answer = SimpleNamespace(span_patches={TheirIdentifier(f"{1:032x}", f"{1:016x}"): TheirPatch(delete_attributes=("a",))})
    assert patched([span(1, a="x", b="y")], lambda *, params: answer) == ([{"b": "y"}], 0)


def broken(*, params: Any) -> Any:
    raise ValueError(params)


@pytest.mark.parametrize("function", [broken, lambda params: 7, lambda params: SimpleNamespace(span_patches=[])])
def test_without_an_answer_no_value_leaves_and_the_batch_goes_on(function: Any) -> None:
    assert patched([span(1, a="x"), span(2, b="y")], function) == ([{"a": FAILED}, {"b": FAILED}], 2)


def first(answer: Any) -> Callable[..., Any]:
    return lambda params: MaskOtelSpansResult({next(iter(params.spans)): answer})


def test_a_bad_patch_costs_its_span_and_a_bad_value_its_attribute() -> None:
    for bad in (7, OtelSpanPatch(None), OtelSpanPatch({}, "a"), OtelSpanPatch({}, None)):  # type: ignore[arg-type]
        assert patched([span(1, a="x"), span(2, a="y")], first(bad)) == ([{"a": FAILED}, {"a": "y"}], 1)
    bad_value = OtelSpanPatch({"a": object(), "b": ["new"], "": "x"})
    assert patched([span(1, a="x")], first(bad_value)) == ([{"a": FAILED, "b": ["new"]}], 2)


def test_a_patch_for_an_unknown_span_lets_nothing_of_the_batch_leave() -> None:
    answer = MaskOtelSpansResult({OtelSpanIdentifier("0" * 32, "0" * 16): OtelSpanPatch(delete_attributes=("a",))})
    assert patched([span(1, a="x"), span(2, a="y")], lambda params: answer) == ([{"a": FAILED}, {"a": FAILED}], 2)


def test_spans_with_the_same_ids_are_asked_about_one_after_the_other() -> None:
    function = lambda params: MaskOtelSpansResult({name: OtelSpanPatch(delete_attributes=("a",)) for name in params.spans})  # noqa: E731
    assert patched([span(1, a="x"), span(1, a="y", b="z")], function) == ([{}, {"b": "z"}], 0)


def test_secrets_that_the_function_sets_are_masked() -> None:
    assert through({"mask_otel_spans": first(OtelSpanPatch({"a": KEY}))}, {"b": "x"}) == {"a": "<masked: langfuse key>", "b": "x"}
