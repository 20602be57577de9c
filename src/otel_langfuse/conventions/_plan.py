"""The key index: from the keys that a span carries to the rules that are worth asking, so that it pays only for those.

Spans of one instrumentation carry the same keys again and again, so the plan for a set of keys is made once and kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, Final, NamedTuple

from otel_langfuse.attributes import OBSERVATION_METADATA, TRACE_METADATA
from otel_langfuse.conventions._rule import Claims, Convention, Read, Rule, Source, always, present
from otel_langfuse.conventions._tools import may_hold_tools
from otel_langfuse.conventions._view import View

MAX_PLANS = 2_000  # about 2 KB each; hostile keys cannot make us keep more
MAX_PLANNED_KEYS = 300  # a span with more attributes is planned afresh each time


OLD_METADATA = "langfuse.metadata"  # of observation and trace
_WHOLE_METADATA = frozenset({OBSERVATION_METADATA, TRACE_METADATA, OLD_METADATA})

# Keys that, when filled, make a span update its trace (mapping.md 2.3).
TRACE_UPDATES = frozenset(
    {
        *(f"langfuse.trace.{part}" for part in ("name", "input", "output", "metadata", "public", "tags")),
        *("user.id", "session.id", "langfuse.user.id", "langfuse.session.id"),
        *(f"langfuse.observation.metadata.langfuse_{part}" for part in ("user_id", "session_id", "tags")),
        *(f"langfuse.trace.metadata.langfuse_{part}" for part in ("session_id", "user_id", "tags")),
        *(f"ai.telemetry.metadata.{part}" for part in ("sessionId", "userId", "tags")),
        "tag.tags",
    }
)


class Step(NamedTuple):
    """A rule as the loop wants it. ``only`` reads the one ``field`` of a rule that claims it with any value; else it is None."""

    id: str
    when: Read | None
    only: Read | None
    field: str
    fields: tuple[str, ...]
    reads: tuple[Read, ...]
    claims: Claims


_CONTAINERS = (list, dict)  # which JavaScript calls true, empty ones too

FIELDS: Final = (
    *("type", "name", "environment", "level", "status_message", "version", "input", "output", "model", "model_parameters"),
    *("usage_details", "cost_details", "prompt_name", "prompt_version", "completion_start_time"),
    *("trace_name", "user_id", "session_id", "release", "public", "tags", "trace_input", "trace_output"),
)
"""All that rules set, of observation and trace."""

NO_FIELDS: Final[dict[str, Any]] = dict.fromkeys(FIELDS)
"""To begin with. To be copied."""


def claim(view: View, groups: Iterable[tuple[str, tuple[Step, ...]]], fields: dict[str, Any]) -> dict[str, str]:
    """The first step of each group that claims it sets its fields. Returns group -> rule id."""
    claimed: dict[str, str] = {}
    for group, steps in groups:
        for rule_id, when, only, field, names, reads, claims in steps:
            if when is not None and not (asked := when(view)) and type(asked) not in _CONTAINERS:
                continue
            if only is not None:
                value = only(view)
                if value is None:
                    continue
                fields[field] = value
            else:
                values = tuple([read(view) for read in reads])
                if not claims(values):
                    continue
                fields.update(zip(names, values))  # noqa: B905 - made together, of one length
            claimed[group] = rule_id
            break
    return claimed


class Plan(NamedTuple):
    """What to do with spans of one shape.

    ``groups``: for each group the steps worth trying, best first. ``shown``: keys that Langfuse shows under
    ``metadata.attributes``. ``has_metadata``: there may be metadata of the user's; ``metadata``: see
    ``Index.metadata_entries``. ``starting``: for the prefixes of each source, the keys that start with one of them and the
    rest of each, in the span's order. ``trace_updates``: keys that, when filled, make a span update its trace, and
    ``has_trace_metadata``, which does so in any case (mapping.md 2.3). ``has_tools``: there may be tool definitions.
    """

    groups: tuple[tuple[str, tuple[Step, ...]], ...]
    shown: tuple[str, ...]
    has_metadata: bool
    metadata: tuple[tuple[str, str, str], ...]
    starting: Mapping[tuple[str, ...], tuple[tuple[str, str], ...]]
    trace_updates: tuple[str, ...]
    has_trace_metadata: bool
    has_tools: bool


class _Feeds:
    """From what a span carries to the sources, by ``id()``, that find something there or read without looking."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._always: set[int] = set()
        self._keys: dict[str, set[int]] = {}
        self._resource_keys: dict[str, set[int]] = {}
        self._event_names: dict[str, set[int]] = {}
        self._prefixes: dict[tuple[str, ...], set[int]] = {}
        for source in sources:
            if not source.looks:
                self._always.add(id(source))
            for index, names in (
                (self._keys, source.keys),
                (self._resource_keys, source.resource_keys),
                (self._event_names, source.events),
            ):
                for name in names:
                    index.setdefault(name, set()).add(id(source))
            for group in source.prefixes:
                self._prefixes.setdefault(group, set()).add(id(source))

    def __call__(self, keys: Set[str], resource_keys: Set[str], events: Set[str]) -> set[int]:
        found = set(self._always)
        for index, names in ((self._keys, keys), (self._resource_keys, resource_keys), (self._event_names, events)):
            found.update(*(index[name] for name in names if name in index))
        for group, fed in self._prefixes.items():
            if not fed <= found and any(key.startswith(group) for key in keys):
                found |= fed
        return found


class Index:
    """Conventions in an order of precedence. Immutable but for its memory of plans; used from any thread."""

    def __init__(
        self,
        conventions: Iterable[Convention],
        precedence: Mapping[str, tuple[str, ...]],
        more_trace_updates: Iterable[str] = (),
    ) -> None:
        self._trace_updates = TRACE_UPDATES.union(more_trace_updates)
        self.conventions = tuple(conventions)
        rules = {rule.id: rule for convention in self.conventions for rule in convention.rules}
        self._ranked = tuple((group, tuple(rules[name] for name in names)) for group, names in precedence.items())
        self._feeds = _Feeds(source for rule in rules.values() for source in _sources(rule))
        self._steps = {rule.id: _step(rule) for rule in rules.values()}
        self._hidden_keys, self._hidden_prefixes = _content_keys(self.conventions)
        self._metadata = tuple(entry for convention in self.conventions for entry in convention.metadata)
        self._not_metadata = frozenset(key for convention in self.conventions for key in convention.not_metadata)
        self._plans: dict[Any, Plan] = {}

    def plan(self, view: View) -> Plan:
        """The plan for this span's shape: its keys, its resource's keys, its scope and the names of its span events."""
        events = tuple(event.name for event in view.span.events) if view.span.events else ()
        keys = tuple(view.attributes)
        shape = (view.resource.shape, view.scope.name, events, keys)
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._make(view, frozenset(keys), frozenset(events))
            if len(keys) <= MAX_PLANNED_KEYS and len(events) <= MAX_PLANNED_KEYS:
                if len(self._plans) >= MAX_PLANS:
                    self._plans.clear()
                self._plans[shape] = plan
        return plan

    def _make(self, view: View, keys: frozenset[str], events: frozenset[str]) -> Plan:
        fed = self._feeds(keys, view.resource.attributes.keys(), events)

        def worth_asking(rule: Rule) -> bool:
            if rule.when is not None and id(rule.when) not in fed:
                return False
            if not (rule.claims is always and rule.scope is not None) and fed.isdisjoint(map(id, rule.sets.values())):
                return False
            return rule.is_for(view.scope.name)

        rules = tuple((group, tuple(filter(worth_asking, ranked))) for group, ranked in self._ranked)
        groups = {some for _, asked in rules for rule in asked for source in _sources(rule) for some in source.prefixes}
        entries = self.metadata_entries(view.attributes)
        return Plan(
            groups=tuple((group, tuple(self._steps[rule.id] for rule in some)) for group, some in rules if some),
            shown=tuple(
                key for key in view.attributes if key not in self._hidden_keys and not key.startswith(self._hidden_prefixes)
            ),
            has_metadata=bool(entries) or not keys.isdisjoint(_WHOLE_METADATA),
            metadata=entries,
            starting={some: _starting(view.attributes, some) for some in groups},
            trace_updates=tuple(self._trace_updates.intersection(keys)),
            has_trace_metadata=any(key.startswith(TRACE_METADATA) for key in keys),
            has_tools=any(map(may_hold_tools, keys)),
        )

    def metadata_entries(self, keys: Iterable[str]) -> tuple[tuple[str, str, str], ...]:
        """Keys that hold one entry of user metadata each: (key, key of the whole that it belongs to, name)."""
        return tuple(
            (key, whole, key[len(prefix) :])
            for key in keys
            for prefix, whole in self._metadata
            if key.startswith(prefix) and key not in self._not_metadata
        )


def _sources(rule: Rule) -> Iterable[Source]:
    return rule.sets.values() if rule.when is None else (*rule.sets.values(), rule.when)


def _starting(keys: Iterable[str], prefixes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((key, key[len(prefix) :]) for key in keys for prefix in prefixes if key.startswith(prefix))


def _step(rule: Rule) -> Step:
    fields, reads = tuple(rule.sets), tuple(source.read for source in rule.sets.values())
    return Step(
        id=rule.id,
        when=None if rule.when is None else rule.when.read,
        only=reads[0] if len(reads) == 1 and rule.claims is present else None,
        field=fields[0],
        fields=fields,
        reads=reads,
        claims=rule.claims,
    )


def _content_keys(conventions: Iterable[Convention]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Keys and prefixes under input and output: prompts and completions, which are not shown as metadata (mapping.md 8.4)."""
    keys: set[str] = set()
    prefixes: set[str] = set()
    for convention in conventions:
        for rule in convention.rules:
            if rule.group == "io":
                for source in rule.sets.values():
                    keys |= source.keys
                    prefixes.update(*source.prefixes)
        keys |= {key for key in convention.content if not key.endswith("*")}
        prefixes |= {key.removesuffix("*") for key in convention.content if key.endswith("*")}
    for convention in conventions:
        keys -= set(convention.not_content)
    return frozenset(keys), tuple(sorted(prefixes))
