from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags

from otel_langfuse import (
    ConfigError,
    LangfuseOTLPExporter,
    LangfuseSpanProcessor,
    SqliteExporter,
    is_default_export_span,
    is_genai_span,
    is_known_llm_instrumentor,
    is_langfuse_span,
)
from otel_langfuse.exporters.entry_points import LangfuseTracesExporter
from otel_langfuse.pipeline import _llm
from otel_langfuse.pipeline._llm import MAX_KEYS
from otel_langfuse.pipeline.filter import MAX_SCOPES, Words, keep
from servers import Server, provider_with, sdk_spans


def test_the_predicate_decides_and_gets_the_sdks_span() -> None:
    llm, http = sdk_spans(["llm", "http"])
    assert keep(llm, lambda span: span.name == "llm") == (True, "")
    assert keep(http, lambda span: span.name == "llm") == (False, "")


def test_any_answer_counts_by_its_truth() -> None:
    assert keep(None, lambda _: "yes")[0] is True  # type: ignore[arg-type, return-value]
    assert keep(None, lambda _: None)[0] is False  # type: ignore[arg-type, return-value]


def test_a_predicate_that_raises_drops_the_span_and_the_detail_shows_no_content() -> None:
    def broken(_: object) -> bool:
        raise KeyError("SECRET")

    assert keep(None, broken) == (False, "should_export_span raised KeyError")


# -- words -------------------------------------------------------------------------------------------------------------

# What the official SDK 5.0.4 keeps by default (its span_filter.py; api.md 9.4). It is not our list: ours are the tables.
OFFICIAL = [
    *("langfuse-sdk", "agent_framework", "autogen-core", "ai", "haystack", "langsmith", "litellm", "openinference"),
    *("pydantic-ai", "strands-agents", "vllm"),
    *(
        f"opentelemetry.instrumentation.{name}"
        for name in (
            *("agno", "alephalpha", "anthropic", "bedrock", "cohere", "crewai", "google_generativeai", "groq", "haystack"),
            *("langchain", "llamaindex", "mistralai", "ollama", "openai", "openai_agents", "openai_v2", "replicate"),
            *("sagemaker", "together", "transformers", "vertexai", "voyageai", "watsonx", "writer"),
        )
    ),
]


@pytest.mark.parametrize("scope", OFFICIAL)
def test_llm_keeps_every_scope_that_the_official_filter_keeps_and_those_under_it(scope: str) -> None:
    llm = Words(["llm"])
    assert llm(scope, {})
    assert llm(f"{scope}.chat", {})
    assert not llm(f"{scope}x", {})
    assert not llm(f"my.{scope}", {})


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.anything",
        "gen_ai.prompt.0.content",
        "llm.token_count.total",
        "openinference.span.kind",
        "traceloop.span.kind",
        "langfuse.observation.type",
        "langfuse.observation.input",
        "ai.operationId",
        "genkit:name",
        "mlflow.spanType",
    ],
)
def test_llm_keeps_spans_of_any_scope_that_carry_what_a_family_reads(key: str) -> None:
    llm = Words(["llm"])
    for _ in range(2):  # the second time from memory
        assert llm("my.app", {"a": 1, key: "x"})


@pytest.mark.parametrize(
    ("scope", "attributes"),
    [
        ("opentelemetry.instrumentation.fastapi", {"http.method": "GET", "http.route": "/"}),
        ("opentelemetry.instrumentation.httpx", {}),
        ("logfire", {"logfire.msg": "hello", "logfire.span_type": "span"}),
        ("my.app", {"input": "x", "model": "x", "user.id": "u", "session.id": "s", "langfuse.environment": "prod"}),
        ("my.app", {"langfuse.trace.tags": ("a",), "langfuse.trace.metadata.k": "v", "langfuse.version": "1"}),
        ("", {"gen_airy.x": 1}),
    ],
)
def test_llm_drops_what_is_neither_also_if_something_was_propagated_onto_it(scope: str, attributes: dict[str, Any]) -> None:
    llm = Words(["llm"])
    for _ in range(2):
        assert not llm(scope, attributes)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["all"], {"ai", "shop.cart", "shop", "httpx"}),
        (["llm"], {"ai"}),
        (["llm", "shop*"], {"ai", "shop.cart", "shop"}),
        (["shop.*"], {"shop.cart"}),
        (["!httpx"], {"ai", "shop.cart", "shop"}),
        (["all", "!shop*"], {"ai", "httpx"}),
        (["shop*", "!*.cart"], {"shop"}),
        (["!llm"], {"shop.cart", "shop", "httpx"}),
        (["llm", "!ai"], set()),
        (["?hop"], {"shop"}),
    ],
)
def test_words_add_and_take_away(words: list[str], kept: set[str]) -> None:
    chosen = Words(words)
    assert {scope for scope in ("ai", "shop.cart", "shop", "httpx") if chosen(scope, {})} == kept
    assert chosen.keeps_all == (words == ["all"])


def test_without_llm_spans_are_dropped_by_what_they_carry_too() -> None:
    rest = Words(["!llm"])
    assert rest("my.app", {"a": 1})
    assert not rest("my.app", {"gen_ai.system": "x"})


def test_what_is_remembered_of_keys_and_scopes_is_bounded() -> None:
    llm = Words(["llm"])
    for number in range(MAX_KEYS + 2_000):
        assert not llm(f"scope{number}", {f"key{number}": 1})
        assert llm(f"scope{number}", {f"gen_ai.{number}": 1})
    assert len(llm.scopes) <= MAX_SCOPES
    assert len(_llm._others) + len(_llm._marks) <= MAX_KEYS + 2


# -- towards whom ------------------------------------------------------------------------------------------------------


def end_both(processor: LangfuseSpanProcessor) -> None:
    provider = provider_with(processor)
    provider.get_tracer("opentelemetry.instrumentation.openai").start_span("llm").end()
    provider.get_tracer("opentelemetry.instrumentation.fastapi").start_span("http").end()


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["llm"]),
        ({"filter": "all"}, ["llm", "http"]),
        ({"filter": ["*fastapi"]}, ["http"]),
        ({"should_export_span": lambda span: True}, ["llm", "http"]),
        ({"should_export_span": lambda span: True, "filter": "llm"}, ["llm"]),
        ({"should_export_span": lambda span: False, "filter": "all"}, []),
    ],
)
def test_to_langfuse_go_spans_of_llm_applications_unless_told_otherwise(settings: Any, names: list[str]) -> None:
    with Server() as server:
        processor = LangfuseSpanProcessor(base_url=server.url, public_key="pk", secret_key="sk", **settings)
        end_both(processor)
        assert processor.shutdown()
        assert server.names == names
        stats = processor.stats()
        assert stats.started == 2
        assert stats.dropped == ({"filtered": 2 - len(names)} if len(names) < 2 else {})


def test_to_others_goes_everything_unless_told_otherwise(tmp_path: Path) -> None:
    with Server() as server:
        for settings, names in (({}, ["llm", "http"]), ({"filter": "llm"}, ["llm"])):
            exporters = (
                LangfuseOTLPExporter(endpoint=f"{server.url}/v1/traces"),
                InMemorySpanExporter(),
                SqliteExporter(tmp_path / f"{len(names)}.db"),
            )
            for exporter in exporters:
                processor = LangfuseSpanProcessor(exporter, **settings)  # type: ignore[arg-type]
                end_both(processor)
                assert processor.shutdown()
                assert processor.stats().exported == len(names), (exporter, settings)
        assert server.names == ["llm", "http", "llm"]


def test_the_filter_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFUSE_FILTER", "llm, !*openai")
    exporter = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter)
    end_both(processor)
    assert processor.shutdown()
    assert processor.stats().dropped == {"filtered": 2}


@pytest.mark.parametrize("words", ["", " ", "a,,b", "!", [], [""], 7, ["a", 7]])
def test_a_filter_that_says_nothing_is_refused(words: Any) -> None:
    with pytest.raises(ConfigError, match="filter="):
        LangfuseSpanProcessor(InMemorySpanExporter(), filter=words)


def test_where_all_is_left_out_by_default_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with Server() as server:
        processor = LangfuseSpanProcessor(base_url=server.url, public_key="pk", secret_key="sk")
        provider_with(processor).get_tracer("my.app").start_span("mine").end()
        assert processor.force_flush()
        processor.force_flush()
        processor.shutdown()
    lines = [record.getMessage() for record in caplog.records if "LANGFUSE_FILTER=all" in record.getMessage()]
    assert len(lines) == 1


def test_what_the_agent_adds_filters_too() -> None:
    with Server() as server:
        exporter = LangfuseTracesExporter(base_url=server.url, public_key="pk", secret_key="sk")
        spans = [*sdk_spans(["http"]), *sdk_spans(["llm"], **{"gen_ai.system": "x"})]
        assert exporter.export(spans) is SpanExportResult.SUCCESS
        assert server.names == ["llm"]
        assert exporter.stats().dropped == {"filtered": 1}
        exporter.shutdown()


def test_a_span_without_a_scope_is_asked_what_it_carries_also_after_spans_of_a_scope_that_is_kept() -> None:
    exporter = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(exporter, filter="llm")
    provider = provider_with(processor)
    for name in ("first", "second"):
        provider.get_tracer("openinference.a").start_span(name).end()
    for name, attributes in (("no model", {}), ("a model", {"gen_ai.request.model": "m"})):
        context = SpanContext(7, len(name), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        processor.on_end(ReadableSpan(name=name, context=context, attributes=attributes, instrumentation_scope=None))
    processor.force_flush()
    assert {span.name for span in exporter.get_finished_spans()} == {"first", "second", "a model"}
    assert processor.stats().dropped == {"filtered": 1}


# -- the official SDK's questions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "attributes", "answers"),
    [
        ("langfuse-sdk", {}, (True, True, False, True)),
        ("otel-langfuse", {}, (True, True, False, True)),
        ("openinference.instrumentation.langchain", {}, (True, False, False, True)),
        ("openinferences", {}, (False, False, False, False)),
        ("app", {"gen_ai.request.model": "m"}, (True, False, True, False)),
        ("app", {"gen_ai": 1, "http.method": "GET"}, (False, False, False, False)),
        (None, {"gen_ai.system": "openai"}, (True, False, True, False)),
        (None, None, (False, False, False, False)),
    ],
)
def test_the_official_sdks_questions_about_a_span(scope: str | None, attributes: Any, answers: tuple[bool, ...]) -> None:
    made = None if scope is None else InstrumentationScope(scope)
    span = ReadableSpan(
        "s", SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)), attributes=attributes, instrumentation_scope=made
    )
    questions = (is_default_export_span, is_langfuse_span, is_genai_span, is_known_llm_instrumentor)
    assert tuple(question(span) for question in questions) == answers
    assert Words(["llm"])(scope or "", attributes or {}) is answers[0], "the same as the default filter"


def test_they_make_up_a_filter_and_no_object_makes_them_raise() -> None:
    memory = InMemorySpanExporter()
    processor = LangfuseSpanProcessor(memory, should_export_span=lambda span: is_default_export_span(span) or span.name == "kept")
    provider = provider_with(processor)
    for scope, name in (("app", "kept"), ("app", "other"), ("langsmith", "chain")):
        provider.get_tracer(scope).start_span(name).end()
    processor.force_flush()
    assert [span.name for span in memory.get_finished_spans()] == ["kept", "chain"]
    processor.shutdown()
    assert not any(question(object()) for question in (is_default_export_span, is_langfuse_span, is_genai_span))
