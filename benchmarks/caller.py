"""What a call of an observed function costs the thread that makes it, beside plain OpenTelemetry calls that record the same.

``python -m benchmarks.caller SUBJECT COUNT`` measures one subject in a process of its own, since a process has one
TracerProvider, and prints CPU microseconds of the calling thread for each call.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.environments import python_of
from benchmarks.measure import ENVIRON, Table, interleaved, ratio, rows
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

Work = Callable[[int], None]
"""So many calls."""

BURST = 400
BARE, OURS = "start_as_current_span, the same attributes", "observe"
MAX_DISABLED_US = 1.0
MAX_RATIO = 1.5


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


def small(question: str, limit: int = 3) -> dict[str, Any]:
    return {"answer": question, "used": limit}


def _recording() -> TracerProvider:
    from otel_langfuse import LangfuseSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(LangfuseSpanProcessor(_Nowhere(), flush_at=10_000, flush_interval=600))
    trace.set_tracer_provider(provider)
    return provider


def _calls(function: Callable[..., Any], count: int) -> None:
    for _ in range(count):
        function("why?")


def alone() -> Work:
    return partial(_calls, small)


def bare() -> Work:
    """What ``observe`` records of ``small``, its texts at hand without encoding anything."""
    tracer = _recording().get_tracer("benchmark", "1.0")
    attributes = {
        "langfuse.observation.type": "span",
        "langfuse.observation.input": '{"question":"why?","limit":3}',
        "langfuse.observation.output": '{"answer":"why?","used":3}',
    }

    def work(count: int) -> None:
        for _ in range(count):
            with tracer.start_as_current_span("small", attributes=attributes):
                small("why?")

    return work


def ours() -> Work:
    _recording()
    return no_provider()


def no_provider() -> Work:
    from otel_langfuse import observe

    return partial(_calls, observe(small))


def disabled() -> Work:
    from otel_langfuse import configure

    configure(enabled=False)
    return no_provider()


def not_sampled() -> Work:
    """Calls inside of a trace that is not sampled."""
    trace.set_tracer_provider(TracerProvider(sampler=ParentBased(ALWAYS_OFF)))
    observed = no_provider()

    def work(count: int) -> None:
        with trace.get_tracer("benchmark").start_as_current_span("request"):
            observed(count)

    return work


def disabled_block() -> Work:
    from otel_langfuse import configure, start_as_current_observation

    configure(enabled=False)

    def work(count: int) -> None:
        for _ in range(count):
            with start_as_current_observation(name="small", input="why?"):
                pass

    return work


def langfuse() -> Work:
    from langfuse import Langfuse, observe  # type: ignore[import-not-found]

    Langfuse(public_key="pk-lf-1", secret_key="sk-lf-1", span_exporter=_Nowhere(), flush_at=2_048, flush_interval=600)
    return partial(_calls, observe()(small))


SUBJECTS: dict[str, Callable[[], Work]] = {
    BARE: bare,
    OURS: ours,
    "the function alone": alone,
    "observe, disabled": disabled,
    "start_as_current_observation, disabled": disabled_block,
    "observe, no provider": no_provider,
    "observe, in a trace that is not sampled": not_sampled,
    "langfuse, observe": langfuse,
}
"""Name -> what makes the work, in a process that is set up for it. The peer's name is its environment's, too."""

OFF = ("observe, disabled", "start_as_current_observation, disabled", "observe, no provider")


def measure(subject: str, count: int) -> float:
    """CPU microseconds of the calling thread for each call, the queue emptied between bursts."""
    work = SUBJECTS[subject]()
    work(BURST)
    spent = 0.0
    for _ in range(count // BURST):
        start = time.thread_time()
        work(BURST)
        spent += time.thread_time() - start
        if isinstance(provider := trace.get_tracer_provider(), TracerProvider):
            provider.force_flush()
    return spent / (count // BURST * BURST) * 1e6


def calling(rounds: int, count: int, *, peers: bool) -> Table:
    def once(subject: str) -> float:
        command = [python_of(subject), "-m", "benchmarks.caller", subject, str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRON, timeout=300)
        if done.returncode:
            raise SystemExit(f"{subject}: {done.stderr[-2000:]}")
        return float(done.stdout.splitlines()[-1])

    compared = [name for name in SUBJECTS if peers or not name.startswith("langfuse")]
    samples = interleaved(rounds, {name: lambda name=name: once(name) for name in compared})
    found = ratio(samples, OURS, BARE)
    off = max(sorted(samples[name])[len(samples[name]) // 2] for name in OFF)
    ratio_says, off_says = ("met" if is_met else "**missed**" for is_met in (found <= MAX_RATIO, off < MAX_DISABLED_US))
    heading = (
        "## Calls of a small function\n\nCPU of the calling thread for each call. Targets: observed, at most "
        f"{MAX_RATIO} times a span with the same attributes: {ratio_says} ({found:.2f}); where nothing is recorded, under "
        f"{MAX_DISABLED_US} microsecond: {off_says} ({off:.2f})."
    )
    return heading, ["| what | CPU us a call | ratio |", "|---|--:|--:|", *rows(samples, BARE)]


if __name__ == "__main__":
    print(measure(sys.argv[1], int(sys.argv[2])))
