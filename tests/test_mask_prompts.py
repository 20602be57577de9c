"""Variables of prompts leave on spans alone, and are masked there."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_langfuse import LangfuseOTLPExporter, LangfuseSpanProcessor, MaskRule
from otel_langfuse.prompts import Prompt
from otel_langfuse.testing import capture
from otel_langfuse.tracing import start_as_current_observation
from servers import Server

SECRET = "sk-" + "lf-0123456789abcdef0123"
TEXT = Prompt("greet", 3, "My key is {{key}}, and I am {{name}}.")
CHAT = Prompt("greet", 3, [{"role": "user", "content": "{{key}}"}, {"type": "placeholder", "name": "history"}])


def sent_with(mask: Any, record: Any) -> bytes:
    """All bytes that leave when ``record`` is given a tracer."""
    with Server() as server:
        exporter = LangfuseOTLPExporter(
            base_url=server.url, protocol="http/json", compression="none", public_key="pk-lf-1", secret_key="sk-lf-none"
        )
        processor = LangfuseSpanProcessor(exporter, mask=mask, filter="all")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        record(provider)
        assert processor.force_flush(5_000)
        processor.shutdown(5_000)
        return b"\n".join(gzip.decompress(one.body) if one.body[:2] == b"\x1f\x8b" else one.body for one in server.received)


def official(prompt: Prompt) -> Any:
    def record(provider: TracerProvider) -> None:
        variables = {"key": SECRET, "name": "ada@example.com", "history": [{"role": "user", "content": f"x {SECRET}"}]}
        with provider.get_tracer("langfuse-sdk").start_as_current_span("root") as span:
            span.set_attribute("langfuse.observation.prompt.name", prompt.name)
            span.set_attribute("langfuse.observation.prompt.version", prompt.version)
            compiled = prompt.compile(**variables)
            span.set_attribute("langfuse.observation.input", compiled if isinstance(compiled, str) else json.dumps(compiled))
            span.set_attribute("langfuse.observation.metadata.variables", json.dumps(variables))

    return record


def families(provider: TracerProvider) -> None:
    variables = json.dumps({"key": SECRET, "name": "ada@example.com"})
    with provider.get_tracer("openinference.instrumentation.openai").start_as_current_span("chat") as span:
        span.set_attribute("llm.prompt_template.template", "My key is {key}, and I am {name}")
        span.set_attribute("llm.prompt_template.variables", variables)
    with provider.get_tracer("opentelemetry.instrumentation.openai.v1").start_as_current_span("chat") as span:
        span.set_attribute("traceloop.prompt.template", "My key is {key}, and I am {name}")
        span.set_attribute("traceloop.prompt.template_variables", variables)


@pytest.mark.parametrize("record", [official(TEXT), official(CHAT), families], ids=["text", "chat", "families"])
@pytest.mark.parametrize("mask", ["pii", "content", lambda data: 1 / 0], ids=["pii", "content", "raises"])
def test_variables_of_prompts_do_not_leave(mask: Any, record: Any) -> None:
    sent = sent_with(mask, record)
    assert b'"spanId"' in sent
    assert SECRET.encode() not in sent
    assert b"ada@example.com" not in sent


def test_a_rule_names_them_where_they_are_apart() -> None:
    sent = sent_with(MaskRule(fields="variables", text="GONE"), families)
    assert sent.count(b"GONE") == 2
    assert b"ada@" not in sent
    assert b"My key is {key}" in sent


def test_the_link_to_a_prompt_and_its_template_stay() -> None:
    sent = sent_with(None, official(TEXT))
    assert b"greet" in sent
    assert b"My key is <masked: langfuse key>, and I am ada@example.com." in sent


def test_a_prompt_that_is_given_to_a_generation_is_linked_and_its_variables_are_masked() -> None:
    with capture() as seen:
        compiled = TEXT.compile(key=SECRET, name="n")
        with start_as_current_observation(name="g", as_type="generation", prompt=TEXT, input=compiled):
            pass
    (one,) = seen
    assert (one.prompt_name, one.prompt_version) == ("greet", 3)
    assert SECRET not in repr(one)
    assert "<masked: langfuse key>" in repr(one.input)
