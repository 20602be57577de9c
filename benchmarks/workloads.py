"""The spans that everything is measured with; plain OpenTelemetry calls, as a user or an instrumentation makes them.

W1: a nested trace of a retrieval-augmented chat, five observations, each with 2 KB of chat messages in and 1 KB out,
usage, model, parameters, user, session and tags. W2: tiny spans. W3: 200 KB in one attribute. W4: spans as an
auto-instrumentation of a model client makes them, 25 gen_ai attributes. Text is pseudo-English from 3000 words, so that
it compresses as text does; the context that was retrieved is repeated within a trace, as it is in reality.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import Span, SpanKind, Tracer

_random = random.Random(20261120)
_SYLLABLES = [c + v + e for c in "bcdfglmnprst" for v in "aeiou" for e in ("", "n", "r", "st", "ck")]
_WORDS = ["".join(_random.choices(_SYLLABLES, k=_random.randint(1, 4))) for _ in range(3000)]


def _text(size: int) -> str:
    return " ".join(_random.choices(_WORDS, k=size // 3 + 1))[:size]  # a word has two letters at least


class Chat(NamedTuple):
    """What one trace is about."""

    question: str
    context: str
    answers: tuple[str, ...]  # one for each step
    user: str
    session: str


CHATS = [
    Chat(_text(300), _text(1500), tuple(_text(900) for _ in range(5)), f"user-{i % 17}", f"session-{i % 29}") for i in range(240)
]
LARGE = [_text(200_000) for _ in range(4)]
STEPS = (
    ("rag", "chain"),
    ("retrieve", "retriever"),
    ("rerank", "tool"),
    ("plan", "generation"),
    ("answer", "generation"),
)


def _w1(tracer: Tracer, count: int) -> None:
    for i in range(count // len(STEPS)):
        chat = CHATS[i % len(CHATS)]
        with tracer.start_as_current_span("rag") as root:
            _w1_attributes(root, chat, 0)
            for step in range(1, len(STEPS)):
                with tracer.start_as_current_span(STEPS[step][0]) as span:
                    _w1_attributes(span, chat, step)


def messages_of(chat: Chat, step: int) -> list[dict[str, str]]:
    """What one step of W1 is given."""
    return [
        {"role": "system", "content": f"You {STEPS[step][0]} from this context: {chat.context}"},
        {"role": "user", "content": chat.question},
    ]


def _w1_attributes(span: Span, chat: Chat, step: int) -> None:
    kind = STEPS[step][1]
    attributes: dict[str, Any] = {
        "langfuse.observation.type": kind,
        "langfuse.observation.input": json.dumps(messages_of(chat, step)),
        "langfuse.observation.output": json.dumps({"role": "assistant", "content": chat.answers[step]}),
        "user.id": chat.user,
        "session.id": chat.session,
        "langfuse.trace.tags": ["bench", "rag"],
    }
    if kind == "generation":
        attributes["langfuse.observation.model.name"] = "gpt-4o-mini"
        attributes["langfuse.observation.model.parameters"] = '{"temperature": 0.7, "max_tokens": 512}'
        attributes["langfuse.observation.usage_details"] = '{"input": 512, "output": 230, "total": 742}'
    span.set_attributes(attributes)


def _w2(tracer: Tracer, count: int) -> None:
    for _ in range(count):
        tracer.start_span("tiny").end()


def _w3(tracer: Tracer, count: int) -> None:
    for i in range(count):
        with tracer.start_as_current_span("large") as span:
            span.set_attribute("langfuse.observation.input", LARGE[i % len(LARGE)])


def _w4(tracer: Tracer, count: int) -> None:
    for i in range(count):
        chat = CHATS[i % len(CHATS)]
        with tracer.start_as_current_span("chat gpt-4o-mini", kind=SpanKind.CLIENT) as span:
            span.set_attributes(_w4_attributes(chat))


def _w4_attributes(chat: Chat) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.system": "openai",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.7,
        "gen_ai.request.top_p": 0.95,
        "gen_ai.request.max_tokens": 512,
        "gen_ai.request.frequency_penalty": 0.1,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.seed": 42,
        "gen_ai.request.stop_sequences": ["stop", "end"],
        "gen_ai.request.choice.count": 1,
        "gen_ai.output.type": "text",
        "gen_ai.response.id": "chatcmpl-9f86d081884c7d659a2feaa0c55ad015",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 512,
        "gen_ai.usage.output_tokens": 230,
        "gen_ai.conversation.id": chat.session,
        "gen_ai.openai.request.service_tier": "auto",
        "gen_ai.openai.response.system_fingerprint": "fp_44709d6fcb",
        "server.address": "api.openai.com",
        "server.port": 443,
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": chat.context}]}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": chat.answers[0]}]}]),
    }


WORKLOADS: dict[str, Callable[[Tracer, int], None]] = {"W1": _w1, "W2": _w2, "W3": _w3, "W4": _w4}
"""Name -> a function that makes (a multiple of five for W1) that many spans with a tracer."""


SCOPES: Mapping[str, str] = {"W4": "opentelemetry.instrumentation.openai_v2"}
"""Who makes the spans, where it is not the application: by this a filter knows whether they have to do with models."""

APPLICATION = "benchmark"


def make_spans(provider: TracerProvider, workload: str, count: int) -> None:
    """Makes the spans of a workload with the tracer of those who make them."""
    WORKLOADS[workload](provider.get_tracer(SCOPES.get(workload, APPLICATION), "1.0"), count)


class Collector(SpanProcessor):
    """Keeps the finished spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def sdk_spans(workload: str, count: int) -> list[ReadableSpan]:
    """Finished spans of one workload."""
    collector = Collector()
    provider = TracerProvider()
    provider.add_span_processor(collector)
    make_spans(provider, workload, count)
    return collector.spans
