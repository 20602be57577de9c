"""Token counts back from Langfuse's disjoint buckets: the inverse of ``conventions/_usage.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._usage import AUDIO, CACHE_CREATION, CACHE_READ, INPUT, OUTPUT, REASONING, TOTAL, usage

_KNOWN_SPELLINGS = frozenset(INPUT + OUTPUT + TOTAL + CACHE_READ + CACHE_CREATION + REASONING + AUDIO)
# Names for parts of the buckets, which users of Langfuse's SDKs and Vercel's write beside ``input`` and ``output``.
_BUCKET_OF = {
    **dict.fromkeys((*CACHE_READ, "input_cache_read"), "input_cached_tokens"),
    **dict.fromkeys(
        (*CACHE_CREATION, "input_cache_write", "input_cache_creation_5m", "input_cache_creation_1h"), "input_cache_creation"
    ),
    **dict.fromkeys(REASONING, "output_reasoning_tokens"),
    **dict.fromkeys(AUDIO, "output_audio_tokens"),
}
_PARTS_OF_INPUT = ("input_cached_tokens", "input_cache_creation")
_PARTS_OF_OUTPUT = ("output_reasoning_tokens", "output_audio_tokens")
_WHOLES = frozenset({"input", "output", "total"})
_INTEGER = frozenset({int})
BUCKETS = frozenset({"input", "output", "total", *_PARTS_OF_INPUT, *_PARTS_OF_OUTPUT})


def inclusive(usage_details: Mapping[str, Any]) -> dict[str, float]:
    """Counts by bucket, with what was cached counted in ``input`` too and reasoning and audio in ``output``.

    So count both OpenTelemetry's and OpenInference's conventions. What is no number is left out. Counts in the spelling of
    a provider (``prompt_tokens`` ...), which Langfuse takes as they are, become buckets.
    """
    if not usage_details:
        return {}
    if _INTEGER.issuperset(map(type, usage_details.values())):
        numbers = dict(usage_details)
    else:
        numbers = {name: count for name, raw in usage_details.items() if (count := _count(raw)) is not None}
    if "input" not in numbers and "output" not in numbers and not _KNOWN_SPELLINGS.isdisjoint(numbers):
        numbers = usage(numbers) or {}
    elif not _BUCKET_OF.keys().isdisjoint(numbers):
        numbers = _merged(numbers)
    for whole, parts in (("input", _PARTS_OF_INPUT), ("output", _PARTS_OF_OUTPUT)):
        if whole in numbers:
            for name in parts:
                if name in numbers:
                    numbers[whole] += numbers[name]
    return numbers


def _merged(numbers: Mapping[str, float]) -> dict[str, float]:
    merged: dict[str, float] = {}
    for name, count in numbers.items():
        bucket = _BUCKET_OF.get(name, name)
        merged[bucket] = merged.get(bucket, 0) + count
    return merged


def told(usage_details: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float] | None:
    """``inclusive`` counts by a dialect's names for buckets; None where there are none."""
    if _WHOLES.issuperset(usage_details) and _INTEGER.issuperset(map(type, usage_details.values())):  # nearly always
        return {names[bucket]: count for bucket, count in usage_details.items()} or None
    return spelled(inclusive(usage_details), names) or None


def spelled(counts: Mapping[str, float], names: Mapping[str, str]) -> dict[str, float]:
    """The counts by a dialect's names for buckets. Other buckets keep theirs, where nothing would read them as another."""
    return {
        names.get(bucket, bucket): count
        for bucket, count in counts.items()
        if bucket in names or (bucket not in BUCKETS and bucket not in _KNOWN_SPELLINGS and not bucket.startswith("details."))
    }


def _count(raw: Any) -> float | None:
    if type(raw) is int:
        return raw
    if not isinstance(raw, (int, float, str)) or isinstance(raw, bool):
        return None
    number = float(js.number(raw))
    return js.whole(number) if math.isfinite(number) else None
