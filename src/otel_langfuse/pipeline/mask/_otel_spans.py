"""``mask_otel_spans=``, as the official SDK has it: one function for a batch of spans, which answers with changes of attributes.

The shapes are those of ``langfuse.types`` 5.0.4, whose own classes are taken as answers, too. Where the official SDK drops the
batch, or a span, we mask: the attributes of a span for which there is no good answer are replaced, and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from otel_langfuse.model import Span
from otel_langfuse.pipeline.mask._ask import Work
from otel_langfuse.pipeline.mask._draft import Batch, Draft
from otel_langfuse.pipeline.mask._values import FAILED

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class OtelSpanIdentifier:
    """Names a span in a batch: ids as lower-case hex, 32 and 16 digits."""

    trace_id: str
    span_id: str


@dataclass(frozen=True)
class OtelSpanData:
    """A span as the function sees it. Its attributes can be changed by an ``OtelSpanPatch``, and nothing else."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    instrumentation_scope_name: str | None
    instrumentation_scope_version: str | None
    attributes: Mapping[str, Any]
    resource_attributes: Mapping[str, Any]


@dataclass(frozen=True)
class MaskOtelSpansParams:
    """What the function is given, as ``params=``: every span of a batch, by its identifier."""

    spans: Mapping[OtelSpanIdentifier, OtelSpanData]


@dataclass(frozen=True)
class OtelSpanPatch:
    """Changes of one span's attributes: first these are deleted, then those are set."""

    set_attributes: Mapping[str, Any] = field(default_factory=dict)
    delete_attributes: Sequence[str] = ()


@dataclass(frozen=True)
class MaskOtelSpansResult:
    """The function's answer: changes by identifier. A span that is not in it, or with None, stays as it is."""

    span_patches: Mapping[OtelSpanIdentifier, OtelSpanPatch | None] = field(default_factory=dict)


def mask_by_function(batch: Batch, function: Callable[..., Any], work: Work) -> None:
    """Applies the function to a batch. Spans without a good answer keep no attribute's value.

    A batch in which spans have the same ids, which happens with spans that were not made by an SDK, is asked about in parts.
    """
    left = list(batch.drafts)
    while left:
        part: dict[OtelSpanIdentifier, Draft] = {}
        left = [draft for draft in left if part.setdefault(_identifier(draft), draft) is not draft]
        _mask_part(part, function, work)


def _identifier(draft: Draft) -> OtelSpanIdentifier:
    return OtelSpanIdentifier(draft.old.trace_id, draft.old.span_id)


def _mask_part(part: Mapping[OtelSpanIdentifier, Draft], function: Callable[..., Any], work: Work) -> None:
    params = MaskOtelSpansParams(MappingProxyType({name: _data(draft) for name, draft in part.items()}))
    (answer,) = work.run(lambda given: function(params=given), [params])
    if answer.error is None and answer.value is None:
        return
    patches = getattr(answer.value, "span_patches", None)
    if answer.error is not None or not isinstance(patches, Mapping):
        why = answer.error or f"mask_otel_spans returned {type(answer.value).__name__}"
        for draft in part.values():
            _fail(draft, why, work)
        return
    by_ids = {_ids(name): patch for name, patch in patches.items()}
    for name, draft in part.items():
        patch = by_ids.pop(_ids(name), None)
        if patch is not None:
            _apply(draft, patch, work)
    if by_ids:
        # It meant to mask a span, and named one that there is none of: which one, nobody knows.
        for draft in part.values():
            _fail(draft, "mask_otel_spans answered for a span that it was not given", work)


def _ids(name: Any) -> tuple[Any, Any]:
    """By their ids, because the official SDK's own identifiers are of another class."""
    return getattr(name, "trace_id", None), getattr(name, "span_id", None)


def _data(draft: Draft) -> OtelSpanData:
    span: Span = draft.old
    return OtelSpanData(
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.name,
        span.scope.name,
        span.scope.version,
        MappingProxyType(dict(draft.attributes)),
        MappingProxyType(dict(span.resource.attributes)),
    )


def _apply(draft: Draft, patch: Any, work: Work) -> None:
    changes = getattr(patch, "set_attributes", None)
    deleted = getattr(patch, "delete_attributes", None)
    if not isinstance(changes, Mapping) or isinstance(deleted, (str, bytes)) or not isinstance(deleted, Sequence):
        _fail(draft, f"mask_otel_spans answered {type(patch).__name__} for a span", work)
        return
    for key in deleted:
        draft.attributes.pop(key, None)
    for key, value in changes.items():
        if not isinstance(key, str) or not key:
            work.failed("mask_otel_spans set an attribute whose key is no text")
        elif _is_attribute(value):
            draft.attributes[key] = value
        else:
            draft.attributes[key] = work.failed(f"mask_otel_spans set {type(value).__name__}")


def _is_attribute(value: Any) -> bool:
    scalars = (str, bool, int, float)
    return isinstance(value, scalars) or (isinstance(value, (list, tuple)) and all(isinstance(item, scalars) for item in value))


def _fail(draft: Draft, why: str, work: Work) -> None:
    for key in draft.attributes:
        draft.attributes[key] = FAILED
    work.failed(why)
