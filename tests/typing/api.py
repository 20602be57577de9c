"""Typed user code: `mypy --strict` reads this file and must find nothing. It is never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from typing_extensions import assert_type

import otel_langfuse
from otel_langfuse import (
    Client,
    Config,
    ConfigError,
    DropReason,
    LangfuseIngestionExporter,
    LangfuseOTLPExporter,
    LangfuseSpanProcessor,
    MaskOtelSpansParams,
    MaskOtelSpansResult,
    MaskRule,
    OtelSpanPatch,
    SqliteExporter,
    Stats,
    propagate_attributes,
)


def mask(data: str) -> str:
    return data.replace("secret", "***")


def mask_spans(*, params: MaskOtelSpansParams) -> MaskOtelSpansResult | None:
    return MaskOtelSpansResult({name: OtelSpanPatch(delete_attributes=("prompt",)) for name in params.spans})


def only_llm(span: ReadableSpan) -> bool:
    return span.name.startswith("chat")


def processors(provider: TracerProvider) -> None:
    provider.add_span_processor(LangfuseSpanProcessor())
    provider.add_span_processor(LangfuseSpanProcessor(ConsoleSpanExporter()))
    provider.add_span_processor(LangfuseSpanProcessor(exporter=LangfuseIngestionExporter()))
    provider.add_span_processor(BatchSpanProcessor(LangfuseOTLPExporter()))
    provider.add_span_processor(BatchSpanProcessor(SqliteExporter("traces.db")))


def all_settings() -> LangfuseSpanProcessor:
    return LangfuseSpanProcessor(
        public_key="pk-lf-1",
        secret_key="sk-lf-1",
        base_url="https://langfuse.example.com",
        environment="staging",
        release="1.2.3",
        mask=["pii", MaskRule(fields="user_id", action="hash", hash_key=b"0123456789"), mask],
        mask_secrets=True,
        mask_timeout=1.0,
        mask_otel_spans=mask_spans,
        sample_rate=0.5,
        should_export_span=only_llm,
        flush_at=100,
        flush_interval=1.5,
        max_queue_spans=1_000,
        max_queue_bytes=1_000_000,
        queue_policy="drop_oldest",
        max_wait_ms=50,
        threads=2,
        timeout=2.5,
        spool_path=Path("spool.db"),
        spool_mode="always",
        spool_after=10,
        spool_max_bytes=1_000_000,
        spool_max_age=3600,
        project="tenant-a",
        default=False,
        route="tenant.id",
        trust_baggage=True,
        enabled=True,
    )


def wrong_settings() -> None:
    LangfuseSpanProcessor(flush_at="100")  # type: ignore[arg-type]
    LangfuseSpanProcessor(flush_att=100)  # type: ignore[call-arg]
    LangfuseSpanProcessor("https://langfuse.example.com")  # type: ignore[arg-type]
    otel_langfuse.configure(sample_rate="all")  # type: ignore[arg-type]
    otel_langfuse.configure(sample_rat=0.5)  # type: ignore[call-arg]
    LangfuseOTLPExporter(headers={"x-key": 1})  # type: ignore[dict-item]


def exporters(headers: Mapping[str, str]) -> None:
    LangfuseOTLPExporter(endpoint="http://localhost:4318/v1/traces", headers=headers, timeout=5.0, compression="gzip")
    LangfuseIngestionExporter(public_key="pk-lf-1", secret_key="sk-lf-1", base_url=None)


def client() -> None:
    langfuse = otel_langfuse.configure(base_url="sqlite:///traces.db", environment="dev")
    assert_type(langfuse, Client)
    assert_type(langfuse.flush(timeout=1.0), bool)
    assert_type(langfuse.shutdown(), bool)
    assert_type(langfuse.processor, LangfuseSpanProcessor)
    assert_type(langfuse.processor.force_flush(1_000), bool)
    stats = langfuse.stats()
    assert_type(stats, Stats)
    assert_type(stats.exported, int)
    assert_type(stats.spooled, int)
    assert_type(stats.dropped, Mapping[str, int])
    lost = stats.dropped.get(DropReason.QUEUE_FULL, 0)
    assert_type(lost, int)


def contexts() -> str:
    with propagate_attributes(user_id="ada", session_id="s", tags=["a"], metadata={"plan": "pro"}, version="2"):
        return "the body's own type is kept"


def projects() -> None:
    with otel_langfuse.project("tenant-a"):
        assert_type(otel_langfuse.get_client(), otel_langfuse.Langfuse)
    assert_type(otel_langfuse.get_client(public_key="tenant-a").flush(), bool)
    assert_type(otel_langfuse.flush(1.0), bool)
    otel_langfuse.configure(project="tenant-b", default=True, route=lambda span: span.name)
    otel_langfuse.configure(default="yes")  # type: ignore[arg-type]


def settings() -> None:
    try:
        config = Config.from_env({"LANGFUSE_TIMEOUT": "2"}, base_url="https://langfuse.example.com")
    except ConfigError as error:
        print(isinstance(error, ValueError))
        return
    assert_type(config.timeout_s, float)
    config.timeout_s = 3.0  # type: ignore[misc]  # frozen
