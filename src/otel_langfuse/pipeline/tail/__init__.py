"""Tail sampling: whole traces are kept or dropped when their last local root ends, by rules. Pure.

A local root is a span whose parent is in no other span of this process: where a trace starts, or enters the process. Until it
ends the spans of its trace wait; then the first rule that wants the trace keeps it, and where none does, it is dropped. What
rules see are the spans that the filter has kept. Spans that end later follow what was decided.

Each service decides about its own part of a trace. Only ``keep_rate`` decides alike in all of them.
"""

from __future__ import annotations

from otel_langfuse.pipeline.tail._rules import (
    Rule,
    Whole,
    keep_cost_over,
    keep_errors,
    keep_if,
    keep_level,
    keep_name,
    keep_rate,
    keep_slower_than,
    keep_tag,
    keep_tokens_over,
    keep_type,
)
from otel_langfuse.pipeline.tail._settings import Tail, checked
from otel_langfuse.pipeline.tail._waiting import Trace, WaitingTraces

__all__ = [
    "Rule",
    "Tail",
    "Trace",
    "WaitingTraces",
    "Whole",
    "checked",
    "keep_cost_over",
    "keep_errors",
    "keep_if",
    "keep_level",
    "keep_name",
    "keep_rate",
    "keep_slower_than",
    "keep_tag",
    "keep_tokens_over",
    "keep_type",
    "verdict",
]


def verdict(rules: tuple[Rule, ...], whole: Whole) -> tuple[bool, str]:
    """Whether a trace is kept, and what went wrong: a rule that raises keeps it, because it may have been meant to."""
    for rule in rules:
        try:
            if rule.keeps(whole):
                return True, ""
        except Exception as error:  # noqa: BLE001, PERF203 - a user's rule
            return True, f"{rule.name} raised {type(error).__name__}"
    return False, ""
