"""Token counts under the many names that instrumentations use, as Langfuse's buckets (mapping.md 13.5)."""

from __future__ import annotations

import math
from typing import Any

from otel_langfuse.conventions import _javascript as js

# Spellings of one count, the first that is there wins (mapping.md 13.5). The rest of the key after gen_ai.usage. or
# llm.token_count.
INPUT = ("prompt_tokens", "input_tokens", "prompt")
OUTPUT = ("completion_tokens", "output_tokens", "completion")
TOTAL = ("total_tokens", "total")
CACHE_READ = (
    "cache_read.input_tokens",
    "cache_read_input_tokens",
    "cache_read_tokens",
    "details.cache_read_tokens",
    "details.cache_read_input_tokens",
    "prompt_details.cache_read",
    "input_cached_tokens",
)
CACHE_CREATION = (
    "cache_creation.input_tokens",
    "cache_creation_input_tokens",
    "cache_write_tokens",
    "details.cache_write_tokens",
    "details.cache_creation_input_tokens",
    "prompt_details.cache_write",
    "input_cache_creation",
)
REASONING = ("reasoning.output_tokens", "completion_details.reasoning")
AUDIO = ("completion_details.audio",)
# Spelling -> the count that it is of, and its rank among the spellings of that.
_SPELLINGS = {
    name: (count, rank)
    for count, names in enumerate((INPUT, OUTPUT, TOTAL, CACHE_READ, CACHE_CREATION, REASONING, AUDIO))
    for rank, name in enumerate(names)
}


def usage(counts: dict[str, Any] | None) -> dict[str, float] | None:
    """Token counts as Langfuse's disjoint buckets: what is cached is not in ``input``, reasoning not in ``output``."""
    if not counts:
        return None
    found: list[float | None] = [None] * 7
    ranks = [len(_SPELLINGS)] * 7
    buckets: dict[str, float] = {}
    for name, raw in counts.items():
        value = raw if type(raw) is int else js.number(raw)
        if value != value:  # noqa: PLR0124 - NaN is the only value unequal to itself
            continue
        spelling = _SPELLINGS.get(name)
        if spelling is None:
            buckets[name.removeprefix("details.")] = value
        elif spelling[1] < ranks[spelling[0]]:
            found[spelling[0]], ranks[spelling[0]] = value, spelling[1]
    given, produced, total, cached, created, reasoning, audio = found
    if given is not None:
        buckets["input"] = max(given - (cached or 0) - (created or 0), 0)
    if produced is not None:
        buckets["output"] = max(produced - (reasoning or 0) - (audio or 0), 0)
    wholes = zip(_WHOLE, (total, cached, created, reasoning, audio), strict=True)
    buckets.update([(bucket, count) for bucket, count in wholes if count is not None])
    return buckets


_WHOLE = ("total", "input_cached_tokens", "input_cache_creation", "output_reasoning_tokens", "output_audio_tokens")


def first_count(counts: dict[str, Any], names: tuple[str, ...]) -> float | None:
    """The first of several spellings of one count that is a number."""
    numbers = (js.number(counts[name]) for name in names if name in counts)
    return next((number for number in numbers if math.isfinite(number)), None)
