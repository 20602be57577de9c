"""100,000 tiny spans through the processor into a sink of its own process: nothing is lost that ``stats()`` does not name."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_langfuse import LangfuseSpanProcessor
from servers import Server

pytestmark = pytest.mark.usefixtures("every_span")

SPANS = 100_000


def sink(pipe: Connection) -> None:
    """Parses what it gets; says where it is, and, when asked, the ids of the spans that it got."""
    with Server() as server:
        pipe.send(server.url)
        pipe.recv()
        pipe.send([span.span_id for received in server.taken for span in received.spans])


def test_of_100000_spans_each_arrives_once_or_is_named_in_the_account(remarks: list[str]) -> None:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=sink, args=(theirs,), daemon=True)
    process.start()
    try:
        processor = LangfuseSpanProcessor(base_url=ours.recv(), public_key="pk", secret_key="sk")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        tracer = provider.get_tracer("many")
        begin = time.monotonic()
        for _ in range(SPANS):
            tracer.start_span("s").end()
        ended = time.monotonic()
        processor.force_flush()
        processor.shutdown()
        done = time.monotonic()
        stats = processor.stats()
        ours.send("how many?")
        ids = ours.recv()
    finally:
        process.terminate()
        process.join()
    remarks.append(
        f"many spans: {SPANS:,} ended in {ended - begin:.1f} s, {stats.exported:,} delivered after {done - begin:.1f} s, "
        f"dropped {dict(stats.dropped)}"
    )
    assert stats.started == SPANS
    assert stats.queued == 0
    assert stats.exported + sum(stats.dropped.values()) == SPANS
    assert stats.dropped.keys() <= {"queue_full"}
    assert len(ids) == stats.exported, "the sink really got them"
    assert len(set(ids)) == len(ids), "each once"
