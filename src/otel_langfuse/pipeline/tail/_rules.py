"""The rules of tail sampling: each is made by a function that says what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from otel_langfuse import attributes as names
from otel_langfuse.errors import ConfigError
from otel_langfuse.model import OBSERVATION_TYPES, Observation, Span
from otel_langfuse.pipeline import sample

LEVELS: Final = ("DEBUG", "DEFAULT", "WARNING", "ERROR")

_ERROR_STATUS: Final = 2
_ERROR_LEVELS: Final = frozenset({"ERROR", "FATAL", "CRITICAL"})  # as the server reads the attribute (mapping.md 5)
_TOTAL: Final = "total"


class Whole:
    """The local part of a trace, for rules to look at. Observations are made only when a rule asks for them."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self._observations: list[Observation] | None = None

    @property
    def observations(self) -> list[Observation]:
        """What Langfuse would store for the spans, in their order."""
        if self._observations is None:
            from otel_langfuse.translate import translate_all  # noqa: PLC0415 - rules that look at spans only need no tables

            self._observations = translate_all(self.spans)
        return self._observations

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        starts = [span.start_time_unix_nano for span in self.spans if span.start_time_unix_nano is not None]
        ends = [span.end_time_unix_nano for span in self.spans if span.end_time_unix_nano is not None]
        return (max(ends) - min(starts)) / 1e9 if starts and ends else 0.0


class Rule(NamedTuple):
    """One rule: what it is called, and whether it keeps a trace. Runs on the worker."""

    name: str
    keeps: Callable[[Whole], bool]
    reads_observations: bool = False


def keep_errors() -> Rule:
    """Traces with an error: a span with the status error, or with Langfuse's level ERROR set on it."""

    def is_error(span: Span) -> bool:
        level = span.attributes.get(names.OBSERVATION_LEVEL)
        return span.status_code == _ERROR_STATUS or (level is not None and str(level).strip().upper() in _ERROR_LEVELS)

    return Rule("keep_errors()", lambda whole: any(map(is_error, whole.spans)))


def keep_slower_than(seconds: float) -> Rule:
    """Traces that took longer, from the first start to the last end of their spans here."""
    limit = _number("keep_slower_than", "seconds", seconds)
    return Rule(f"keep_slower_than({limit:g})", lambda whole: whole.seconds > limit)


def keep_level(level: str) -> Rule:
    """Traces with an observation of this level or above: ``DEBUG``, ``DEFAULT``, ``WARNING``, ``ERROR``."""
    if level not in LEVELS:
        raise ConfigError(f"keep_level({level!r}): expected {' or '.join(LEVELS)}")
    wanted = frozenset(LEVELS[LEVELS.index(level) :])
    return _of_observations(f"keep_level({level!r})", lambda observation: observation.level in wanted)


def keep_type(*types: str) -> Rule:
    """Traces with an observation of one of these types: ``generation``, ``agent``, ``tool`` ..."""
    wanted = _texts("keep_type", types)
    if unknown := [name for name in wanted if name not in OBSERVATION_TYPES]:
        raise ConfigError(f"keep_type({unknown[0]!r}): expected {' or '.join(OBSERVATION_TYPES)}")
    return _of_observations(f"keep_type{wanted}", lambda observation: observation.type in wanted)


def keep_tokens_over(tokens: float) -> Rule:
    """Traces whose observations used more tokens together, input and output."""
    limit = _number("keep_tokens_over", "tokens", tokens)
    return _of_sum(f"keep_tokens_over({limit:g})", limit, lambda observation: observation.usage_details)


def keep_cost_over(usd: float) -> Rule:
    """Traces whose observations say that they cost more together, in USD. What Langfuse's server computes is not known here."""
    limit = _number("keep_cost_over", "usd", usd)
    return _of_sum(f"keep_cost_over({limit:g})", limit, lambda observation: observation.cost_details)


def keep_name(*globs: str) -> Rule:
    """Traces of which the name, or the name of an observation, matches one of the globs; upper and lower case differ."""
    wanted = _texts("keep_name", globs)

    def matches(observation: Observation) -> bool:
        said = [name for name in (observation.name, observation.trace.name) if isinstance(name, str)]
        return any(fnmatchcase(name, glob) for name in said for glob in wanted)

    return _of_observations(f"keep_name{wanted}", matches)


def keep_tag(*tags: str) -> Rule:
    """Traces with one of these tags."""
    wanted = frozenset(_texts("keep_tag", tags))
    return _of_observations(f"keep_tag{tags}", lambda observation: not wanted.isdisjoint(map(str, observation.trace.tags)))


def keep_rate(sample_rate: float) -> Rule:
    """This share of traces, 0.0 to 1.0, chosen by trace id, so alike in every service. Meant as the last rule, for the rest."""
    rate = _number("keep_rate", "sample_rate", sample_rate)
    if rate > 1:
        raise ConfigError(f"keep_rate({rate:g}): expected a number from 0 to 1")
    bound = sample.bound(rate)

    def keeps(whole: Whole) -> bool:
        span = whole.spans[0]
        return sample.keep(int(span.trace_id, 16), bound, sample.members(span.trace_state))

    return Rule(f"keep_rate({rate:g})", keeps)


def keep_if(keeps: Callable[[Sequence[Observation]], object]) -> Rule:
    """Traces for which a function of their observations says so. If it raises, the trace is kept."""
    if not callable(keeps):
        raise ConfigError(f"keep_if({type(keeps).__name__}): expected a function of observations")
    return Rule("keep_if(...)", lambda whole: bool(keeps(whole.observations)), reads_observations=True)


# -- words that the rules are made of ------------------------------------------------------------------------------------------


def _of_observations(name: str, wants: Callable[[Observation], bool]) -> Rule:
    return Rule(name, lambda whole: any(map(wants, whole.observations)), reads_observations=True)


def _of_sum(name: str, limit: float, details: Callable[[Observation], Mapping[str, Any]]) -> Rule:
    def keeps(whole: Whole) -> bool:
        return sum(_total(details(observation)) for observation in whole.observations) > limit

    return Rule(name, keeps, reads_observations=True)


def _total(details: Mapping[str, Any]) -> float:
    """The total where it is told, else ``input`` and ``output``, of which finer ones are parts (mapping.md 13)."""
    if isinstance(total := details.get(_TOTAL), (int, float)):
        return total
    sides = [details[side] for side in ("input", "output") if side in details] or list(details.values())
    return sum(number for number in sides if isinstance(number, (int, float)))


def _number(rule: str, what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ConfigError(f"{rule}({value!r}): expected {what} as a number from 0")
    return float(value)


def _texts(rule: str, values: Iterable[Any]) -> tuple[str, ...]:
    texts = tuple(values)
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ConfigError(f"{rule}{texts!r}: expected one or more texts")
    return texts
