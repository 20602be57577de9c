"""What our OTLP exporter writes on spans: corrections towards Langfuse, a dialect towards whoever wants one."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_langfuse import ConfigError, LangfuseOTLPExporter, LangfuseSpanProcessor
from otel_langfuse.spans import from_otlp
from otel_langfuse.translate import translate, translate_all
from servers import Server

KEYS = {"public_key": "pk-lf-1", "secret_key": "sk-lf-1"}
TRACELOOP = {
    "traceloop.span.kind": "agent",
    "traceloop.association.properties.user_id": "u-1",
    "traceloop.entity.input": '{"q":1}',
}
MESSAGES = '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]'
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4.1",
    "gen_ai.input.messages": MESSAGES,
    "gen_ai.usage.input_tokens": 7,
    "gen_ai.usage.output_tokens": 2,
}


def arrived(exporter: LangfuseOTLPExporter, server: Server, *attributes: dict[str, Any]) -> list[Any]:
    provider = TracerProvider()
    processor = LangfuseSpanProcessor(exporter, filter="all")
    provider.add_span_processor(processor)
    for number, some in enumerate(attributes):
        provider.get_tracer("app").start_span(f"span {number}", attributes=some).end()
    assert processor.force_flush(10_000)
    processor.shutdown()
    return [span for request in server.received for span in from_otlp(request.body)]


def test_langfuse_gets_our_corrections_as_its_own_attributes_and_stores_our_reading() -> None:
    with Server() as server:
        span, plain = arrived(LangfuseOTLPExporter(**KEYS, base_url=server.url), server, TRACELOOP, {"http.method": "GET"})
    assert span.attributes["langfuse.observation.type"] == "agent"
    assert translate(span, corrections=False).type == "agent"
    assert translate(span, corrections=False).trace.user_id == "u-1"
    assert span.attributes["traceloop.span.kind"] == "agent"
    assert plain.attributes == {"http.method": "GET", "langfuse.internal.is_app_root": True}


def test_a_collector_gets_spans_as_they_are() -> None:
    with Server() as server:
        spans = arrived(LangfuseOTLPExporter(endpoint=server.url + "/v1/traces"), server, TRACELOOP, CHAT)
    assert [span.attributes for span in spans] == [TRACELOOP, CHAT]


def test_a_collector_that_wants_a_dialect_gets_it_beside_what_there_is() -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(endpoint=server.url + "/v1/traces", dialect="openinference")
        (span,) = arrived(exporter, server, CHAT)
    assert span.attributes["openinference.span.kind"] == "LLM"
    assert span.attributes["llm.model_name"] == "gpt-4.1"
    assert span.attributes["llm.token_count.prompt"] == 7
    assert span.attributes["llm.input_messages.0.message.content"] == "hi"
    assert span.attributes["gen_ai.request.model"] == "gpt-4.1"


def test_dialect_only_leaves_out_what_the_dialect_says_instead() -> None:
    with Server() as server:
        exporter = LangfuseOTLPExporter(endpoint=server.url + "/v1/traces", dialect="openinference", dialect_only=True)
        (span,) = arrived(exporter, server, {**CHAT, "http.method": "POST"})
    assert span.attributes["openinference.span.kind"] == "LLM"
    assert span.attributes["http.method"] == "POST"
    assert not [key for key in span.attributes if key.startswith("gen_ai.")]


def test_a_call_recorded_twice_counts_once_on_langfuse_too() -> None:
    call = {**CHAT, "gen_ai.response.id": "r-1"}
    provider = TracerProvider()
    with Server() as server:
        processor = LangfuseSpanProcessor(LangfuseOTLPExporter(**KEYS, base_url=server.url))
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("app")
        with tracer.start_as_current_span("outer", attributes=call), tracer.start_as_current_span("inner", attributes=call):
            pass
        processor.shutdown()
        spans = [span for request in server.received for span in from_otlp(request.body)]
    usage = {observation.name: observation.usage_details for observation in translate_all(spans, corrections=False)}
    assert usage == {"outer": {"input": 7, "output": 2}, "inner": {}}


@pytest.mark.parametrize(
    ("settings", "words"), [({"dialect": "klingon"}, "dialect='klingon'"), ({"dialect_only": True}, "dialect_only")]
)
def test_a_wrong_dialect_is_refused_when_the_exporter_is_made(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LangfuseOTLPExporter(endpoint="http://127.0.0.1:1/v1/traces", **settings)
