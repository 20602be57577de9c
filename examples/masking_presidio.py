"""Names of people have no form that a pattern could know: Microsoft's Presidio finds them, with a language model of its own.

    pip install presidio-analyzer presidio-anonymizer && python -m spacy download en_core_web_lg

Any library that takes a text and returns a text fits in the same way (llm-guard's scanners, a service of yours). It runs on our
worker, never in your threads; a text for which it fails or takes longer than `mask_timeout` is sent as `<masked: mask failed>`.
Here into masking_presidio.db beside you, to be looked at with `otel-langfuse show --db masking_presidio.db`.
"""

from __future__ import annotations

import json
from typing import Any

from opentelemetry import trace
from presidio_analyzer import AnalyzerEngine  # type: ignore[import-not-found]
from presidio_anonymizer import AnonymizerEngine  # type: ignore[import-not-found]

import otel_langfuse

analyzer, anonymizer = AnalyzerEngine(), AnonymizerEngine()  # once: the model takes seconds to load


def without_names(data: Any) -> Any:
    """Whatever an attribute holds: a text, or what its JSON says."""
    if isinstance(data, dict):
        return {key: without_names(item) for key, item in data.items()}
    if isinstance(data, list):
        return [without_names(item) for item in data]
    if not isinstance(data, str) or " " not in data:  # a single word is an id, a model, a role
        return data
    found = analyzer.analyze(text=data, language="en", entities=["PERSON", "LOCATION"])
    return anonymizer.anonymize(text=data, analyzer_results=found).text


# "pii" is quicker and surer than a model at what has a form; both see every text.
langfuse = otel_langfuse.configure(base_url="sqlite:///masking_presidio.db", mask=["pii", without_names], mask_timeout=10)

with trace.get_tracer("masking").start_as_current_span("chat toy-1") as span:
    question = [{"role": "user", "content": "I am Ada Lovelace, ada@example.com. Where is my lamp?"}]
    span.set_attributes(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "toy-1",
            "gen_ai.input.messages": json.dumps(question),
            "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": "On its way, Ada Lovelace."}]),
        }
    )

langfuse.flush()
print(langfuse.stats())
