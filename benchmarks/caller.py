"""What recording costs the thread that does it: our API beside plain OpenTelemetry calls that record the same.

``python -m benchmarks.caller SUBJECT COUNT`` measures one subject in a process of its own and prints CPU microseconds (of the
calling thread) for each observation or call.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.workloads import CHATS, STEPS, WORKLOADS, messages_of
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


def small(question: str, limit: int = 3) -> dict[str, Any]:
    return {"answer": question, "used": limit}


def _recording() -> TracerProvider:
    from otel_langfuse import LangfuseSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(LangfuseSpanProcessor(Nowhere(), flush_at=512, max_queue_spans=1_000_000))
    trace.set_tracer_provider(provider)
    return provider


def w1_bare(count: int) -> Callable[[], None]:
    tracer = _recording().get_tracer("benchmark", "1.0")
    return lambda: WORKLOADS["W1"](tracer, count)


def w1_ours(count: int) -> Callable[[], None]:
    from otel_langfuse import propagate_attributes, start_as_current_observation

    _recording()
    parameters, usage = {"temperature": 0.7, "max_tokens": 512}, {"input": 512, "output": 230, "total": 742}

    def observation(chat: Any, step: int) -> Any:
        name, kind = STEPS[step]
        if kind == "generation":
            return start_as_current_observation(
                name=name,
                as_type=kind,
                input=messages_of(chat, step),
                model="gpt-4o-mini",
                model_parameters=parameters,
            )
        return start_as_current_observation(name=name, as_type=kind, input=messages_of(chat, step))

    def answer(span: Any, chat: Any, step: int) -> None:
        output = {"role": "assistant", "content": chat.answers[step]}
        if STEPS[step][1] == "generation":
            span.update(output=output, usage_details=usage)
        else:
            span.update(output=output)

    def work() -> None:
        for i in range(count // len(STEPS)):
            chat = CHATS[i % len(CHATS)]
            with (
                propagate_attributes(user_id=chat.user, session_id=chat.session, tags=["bench", "rag"]),
                observation(chat, 0) as root,
            ):
                answer(root, chat, 0)
                for step in range(1, len(STEPS)):
                    with observation(chat, step) as span:
                        answer(span, chat, step)

    return work


def function_bare(count: int) -> Callable[[], None]:
    """What ``observe`` records of ``small``, its texts at hand without encoding anything."""
    tracer = _recording().get_tracer("benchmark", "1.0")
    attributes = {
        "langfuse.observation.type": "span",
        "langfuse.observation.input": json.dumps({"question": "why?", "limit": 3}),
        "langfuse.observation.output": json.dumps({"answer": "why?", "used": 3}),
    }

    def work() -> None:
        for _ in range(count):
            with tracer.start_as_current_span("small", attributes=attributes):
                small("why?")

    return work


def _calls(function: Callable[..., Any], count: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(count):
            function("why?")

    return work


def function_ours(count: int) -> Callable[[], None]:
    from otel_langfuse import observe

    _recording()
    return _calls(observe(small), count)


def function_alone(count: int) -> Callable[[], None]:
    return _calls(small, count)


def function_no_provider(count: int) -> Callable[[], None]:
    from otel_langfuse import observe

    return _calls(observe(small), count)


def function_not_sampled(count: int) -> Callable[[], None]:
    """Calls inside of a trace that is not sampled."""
    from otel_langfuse import observe

    trace.set_tracer_provider(TracerProvider(sampler=ParentBased(ALWAYS_OFF)))
    work = _calls(observe(small), count)

    def inside() -> None:
        with trace.get_tracer("benchmark").start_as_current_span("request"):
            work()

    return inside


def block_no_provider(count: int) -> Callable[[], None]:
    from otel_langfuse import start_as_current_observation

    def work() -> None:
        for _ in range(count):
            with start_as_current_observation(name="small", input="why?"):
                pass

    return work


def peer_block(count: int) -> Callable[[], None]:
    """W1 by the official SDK, where it is installed."""
    from langfuse import Langfuse, propagate_attributes  # type: ignore[import-not-found]

    client = Langfuse(public_key="pk-lf-1", secret_key="sk-lf-1", span_exporter=Nowhere(), flush_at=100_000, flush_interval=600)

    def work() -> None:
        for i in range(count // len(STEPS)):
            chat = CHATS[i % len(CHATS)]
            with propagate_attributes(user_id=chat.user, session_id=chat.session, tags=["bench", "rag"]):
                _nested(client, chat, 0)

    def _nested(client: Any, chat: Any, step: int) -> None:
        name, kind = STEPS[step]
        more = (
            {"model": "gpt-4o-mini", "model_parameters": {"temperature": 0.7, "max_tokens": 512}} if kind == "generation" else {}
        )
        with client.start_as_current_observation(name=name, as_type=kind, input=messages_of(chat, step), **more) as span:
            used = {"usage_details": {"input": 512, "output": 230, "total": 742}} if kind == "generation" else {}
            span.update(output={"role": "assistant", "content": chat.answers[step]}, **used)
            if step == 0:
                for below in range(1, len(STEPS)):
                    _nested(client, chat, below)

    return work


def peer_function(count: int) -> Callable[[], None]:
    from langfuse import Langfuse, observe

    Langfuse(public_key="pk-lf-1", secret_key="sk-lf-1", span_exporter=Nowhere(), flush_at=100_000, flush_interval=600)
    return _calls(observe()(small), count)


SUBJECTS: dict[str, Callable[[int], Callable[[], None]]] = {
    "W1, OpenTelemetry and json.dumps": w1_bare,
    "W1, start_as_current_observation": w1_ours,
    "W1, langfuse": peer_block,
    "function, start_as_current_span": function_bare,
    "function, observe": function_ours,
    "function, langfuse observe": peer_function,
    "function, alone": function_alone,
    "function, observe, no provider": function_no_provider,
    "function, observe, not sampled": function_not_sampled,
    "block, start_as_current_observation, no provider": block_no_provider,
}
"""Name -> what makes, once a process is set up for it, the work for so many observations or calls."""

WARM_UP = 200


def measure(subject: str, count: int) -> float:
    """CPU microseconds of the calling thread for each observation or call; the best of five fifths of the work."""
    make = SUBJECTS[subject]
    best = float("inf")
    work = make(max(count // 5, 5))
    work()  # warm
    gc.collect()
    for _ in range(5):
        start = time.thread_time()
        work()
        best = min(best, time.thread_time() - start)
    return best / max(count // 5, 5) * 1e6


if __name__ == "__main__":
    print(measure(sys.argv[1], int(sys.argv[2])))
