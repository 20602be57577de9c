"""What a processor may be told."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, TypedDict

from otel_langfuse.pipeline import filter as span_filter
from otel_langfuse.pipeline.mask import Mask
from otel_langfuse.pipeline.route import By
from otel_langfuse.pipeline.tail import Rule, Tail

FUNCTIONS: Final = ("mask", "mask_otel_spans", "should_export_span", "tail", "project", "default", "route")
"""Settings of a processor that come from no variable, so that they are in no table."""


class ProcessorSettings(TypedDict, total=False):
    """The settings of ``LangfuseSpanProcessor``, which says what each is; for functions that hand them on, too."""

    public_key: str | None
    secret_key: str | None
    base_url: str | None
    environment: str | None
    release: str | None
    project: str | None
    default: bool | None
    route: By | None
    mask: Mask | None
    mask_secrets: bool | None
    mask_timeout: float | None
    mask_otel_spans: Callable[..., Any] | None
    sample_rate: float | None
    tail: Tail | Sequence[Rule] | None
    filter: str | Sequence[str] | None
    should_export_span: span_filter.Predicate | None
    flush_at: int | None
    flush_interval: float | None
    max_queue_spans: int | None
    max_queue_bytes: int | None
    queue_policy: str | None
    max_wait_ms: float | None
    threads: int | None
    timeout: float | None
    spool_path: str | os.PathLike[str] | None
    spool_mode: str | None
    spool_after: float | None
    spool_max_bytes: int | None
    spool_max_age: float | None
    media: str | os.PathLike[str] | bool | None
    media_threads: int | None
    media_wait: float | None
    max_media_bytes: int | None
    flush_on_exit: bool | None
    trust_baggage: bool | None
    enabled: bool | None
    debug: bool | None
    max_retries: int | None
    prompt_cache_ttl: float | None
