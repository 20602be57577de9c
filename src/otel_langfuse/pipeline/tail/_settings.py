"""What ``tail=`` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from otel_langfuse.errors import ConfigError
from otel_langfuse.pipeline.tail._rules import Rule

MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Tail:
    """The rules of tail sampling, and the bounds of what waits for their verdict.

    Over a bound the trace that waits longest is not judged by the rules any more: ``over_bound`` says what becomes of it.

    Args:
        rules: at least one; the first that wants a trace keeps it, and where none does, it is dropped.
        max_traces: that wait, at most. Of the last 10,000 others the verdict is remembered, for spans that end late.
        max_spans: that wait, at most.
        max_bytes: that they hold, at most; the same estimate as for ``max_queue_bytes``.
        max_wait_s: seconds that a trace waits from its first start or end here, at most.
        over_bound: ``keep`` or ``drop``.

    Raises:
        ConfigError: something of it cannot work.
    """

    rules: Sequence[Rule]
    max_traces: int = 10_000
    max_spans: int = 50_000
    max_bytes: int = 64 * MIB
    max_wait_s: float = 300.0
    over_bound: str = "keep"

    def __post_init__(self) -> None:
        rules: Any = self.rules
        if not isinstance(rules, (list, tuple)) or isinstance(rules, Rule) or not rules:
            raise ConfigError(f"tail={_short(rules)}: expected a list of one or more rules: keep_errors(), keep_rate(0.1) ...")
        for rule in rules:
            if not isinstance(rule, Rule):
                raise ConfigError(f"tail=[{_short(rule)}]: expected what keep_errors(), keep_rate(0.1) and the others return")
        for name in ("max_traces", "max_spans", "max_bytes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"tail=Tail({name}={_short(value)}): expected a whole number from 1")
        if isinstance(self.max_wait_s, bool) or not isinstance(self.max_wait_s, (int, float)) or not 0 < self.max_wait_s < 1e9:
            raise ConfigError(f"tail=Tail(max_wait_s={_short(self.max_wait_s)}): expected seconds above 0")
        if self.over_bound not in ("keep", "drop"):
            raise ConfigError(f"tail=Tail(over_bound={_short(self.over_bound)}): expected keep or drop")
        if any(rule.reads_observations for rule in rules):
            import_module("otel_langfuse.translate")  # not first on the worker; see ``prepare.load_translation``


def checked(tail: Any) -> Tail:
    """What was given as ``tail=``: a ``Tail``, or its rules alone.

    Raises:
        ConfigError: it is neither.
    """
    return tail if isinstance(tail, Tail) else Tail(tail)


def _short(value: Any) -> str:
    return repr(value)[:100]
