"""Traceloop / OpenLLMetry: ``traceloop.*`` on its own decorators; its model calls speak ``gen_ai.*`` (``genai.py``)."""

from __future__ import annotations

from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import attr

_LIBRARIES = (
    "agno alephalpha anthropic cohere crewai groq haystack langchain llamaindex mistralai ollama openai replicate sagemaker "
    "together transformers voyageai watsonx writer"
)

CONVENTION = Convention(
    name="traceloop",
    scopes=tuple(f"opentelemetry.instrumentation.{library}" for library in _LIBRARIES.split()),
    rules=(
        Rule(
            "traceloop/io/entity",
            sets={"input": attr("traceloop.entity.input"), "output": attr("traceloop.entity.output")},
            claims=truthy,
            spec="mapping.md 9.13",
        ),
    ),
)
