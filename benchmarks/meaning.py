"""What it costs to know what spans mean: translating them, writing them in a dialect, looking for corrections; each with its bar.

The base is OpenTelemetry's own encoder on the same spans. Old: spans of a model client as Traceloop's instrumentations of 2024
made them, with one attribute for each part of each message.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.measure import Table, interleaved, ratio, rows, us_each
from benchmarks.workloads import CHATS, Collector, sdk_spans
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind

NOW = "2026-01-01T00:00:00.000Z"
TRANSLATING, DIALECT, LOOK_US = 0.8, 0.5, 5.0
"""At most: translating and encoding to ingestion JSON, and what writing a whole dialect adds to translating, as shares of what
the stock encoder takes; and the look at a span that needs no correction, in microseconds."""


class Subject(NamedTuple):
    """What is timed, and the bar that it is held to: a share of the stock encoder, or microseconds."""

    work: Callable[[], object]
    share: float | None = None
    us: float | None = None

    def verdict(self, cost_us: float, ratio: float) -> str:
        """The bar, and whether it was met."""
        if self.share is None and self.us is None:
            return "-"
        met = ratio <= self.share if self.share is not None else cost_us <= (self.us or 0)
        bar = f"{self.share:.2f}" if self.share is not None else f"{self.us:.1f} us"
        return f"{bar}, {'met' if met else 'MISSED'}"


def old_spans(count: int) -> list[ReadableSpan]:
    """Spans with flat messages, which every reader has to put together again."""
    collector = Collector()
    provider = TracerProvider()
    provider.add_span_processor(collector)
    tracer = provider.get_tracer("opentelemetry.instrumentation.openai", "0.33.0")
    for i in range(count):
        chat = CHATS[i % len(CHATS)]
        with tracer.start_as_current_span("openai.chat", kind=SpanKind.CLIENT) as span:
            span.set_attributes(_old_attributes(chat))
    return collector.spans


def _old_attributes(chat: Any) -> dict[str, Any]:
    return {
        "llm.request.type": "chat",
        "gen_ai.system": "OpenAI",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.max_tokens": 512,
        "llm.headers": "None",
        "llm.is_streaming": False,
        "gen_ai.openai.api_base": "https://api.openai.com/v1/",
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": f"You answer from this context: {chat.context}",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": chat.question,
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.openai.system_fingerprint": "fp_44709d6fcb",
        "llm.usage.total_tokens": 742,
        "gen_ai.usage.completion_tokens": 230,
        "gen_ai.usage.prompt_tokens": 512,
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": chat.answers[0],
        "traceloop.association.properties.user_id": chat.user,
    }


SPANS: Mapping[str, Callable[[int], list[ReadableSpan]]] = {
    "W1": lambda count: sdk_spans("W1", count),
    "W4": lambda count: sdk_spans("W4", count),
    "old": old_spans,
}
STOCK = "stock: encode, serialize"


def subjects(stock: list[ReadableSpan]) -> dict[str, Subject]:
    """What is timed of the same spans, the stock encoder first."""
    from otel_langfuse.encode import dialect, ingestion
    from otel_langfuse.spans import from_sdk
    from otel_langfuse.translate import translate_all

    spans, _ = from_sdk(stock)
    translated = translate_all(spans)

    def ingested() -> object:
        return ingestion.requests(translate_all(spans), url="", headers={}, max_request_bytes=10**9, now=NOW, seen=set())

    found = {
        STOCK: Subject(lambda: encode_spans(stock).SerializeToString()),
        "translate": Subject(lambda: translate_all(spans)),
        "translate, encode JSON": Subject(ingested, share=TRANSLATING),
    }
    for name in dialect.DIALECTS:
        if not dialect.speaks(spans[0], name):

            def written(name: dialect.Dialect = name) -> object:
                return dialect.with_said(spans, dialect.said_of(spans, translated, name))

            found[f"write {name}"] = Subject(written, share=DIALECT)
            found[f"translate, write {name}"] = Subject(lambda name=name: dialect.in_dialect(spans, name))
    needs_none = all(one is other for one, other in zip(dialect.corrected(spans), spans, strict=True))
    if needs_none:
        found["look for corrections"] = Subject(lambda: dialect.corrected(spans), us=LOOK_US)
    return found


def meaning(rounds: int, count: int) -> Table:
    """Each of them beside the stock encoder, on each kind of spans."""
    lines = ["| spans | what | CPU us a span | ratio | at most |", "|---|---|--:|--:|---|"]
    for workload, make in SPANS.items():
        found = subjects(make(count))
        samples = interleaved(rounds, {name: us_each(subject.work, count) for name, subject in found.items()})
        verdicts = {
            name: subject.verdict(statistics.median(samples[name]), ratio(samples, name, STOCK))
            for name, subject in found.items()
        }
        lines += rows(samples, STOCK, (workload,), verdicts)
    return f"## Meaning\n\n{' '.join((__doc__ or '').split())} {count} spans of ours, read already.", lines
