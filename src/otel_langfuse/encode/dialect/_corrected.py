"""Our corrections as explicit ``langfuse.*`` attributes, for Langfuse's own server, which reads without them.

Most spans need none, and pay for a look: what a span of this shape (scope, keys, names of span events) could need is worked
out once and kept; then only the rules that could be overruled by a correction are asked. The argument why that is enough: in
a group whose winner is no correction, the server has the same winner, because its order is ours without the corrections.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import compress
from operator import itemgetter
from typing import Any, NamedTuple, cast

from otel_langfuse import attributes as key
from otel_langfuse.conventions import CORRECTED_INDEX, by_id
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._batch import RESPONSE_IDS
from otel_langfuse.conventions._corrections import SCRUBBED, TRACE_UPDATES
from otel_langfuse.conventions._openai import is_strict
from otel_langfuse.conventions._plan import Plan, Step
from otel_langfuse.conventions._repairs import MAX_TRACE_NAME
from otel_langfuse.conventions._view import ResourceView, ScopeView, View
from otel_langfuse.model import Resource, Span
from otel_langfuse.translate import translate_all

from ._explicit import (
    FULL_TIME,
    MORE_METADATA,
    SERVER_RULES,
    explicit,
    is_common,
    is_event_list,
    is_prompt,
    unknown_to_server,
)

MAX_LOOKS = 2_000
"""Shapes that are kept, at about 1 KB each. Hostile keys cannot make us keep more."""

_MAX_KEYS = 600
_PLAIN = frozenset({str, int, bool})
_SERVICE_VERSION = "service.version"

# Keys of fields that Langfuse's schema takes only as text, or that its server fails on (mapping.md 16, 1.2).
_TEXTS = frozenset(
    {
        *("langfuse.version", key.TRACE_NAME, key.OBSERVATION_STATUS_MESSAGE, key.OBSERVATION_MODEL),
        *("gen_ai.response.model", "gen_ai.request.model", "ai.model.id", "llm.response.model", "llm.model_name", "model"),
        *("embedding.model_name", "genkit:name", "ai.toolCall.name", "ai.operationId", "operation.name"),
    }
)
_PROMPT_KEYS = frozenset(
    {key.OBSERVATION_PROMPT_NAME, key.OBSERVATION_PROMPT_VERSION, "langfuse.prompt.name", "langfuse.prompt.version"}
)


def _has_costs_as_numbers(value: Any) -> bool:
    parsed = js.parse_or_none(value) if isinstance(value, str) else None
    return not isinstance(parsed, dict) or not any(isinstance(cost, str) for cost in parsed.values())


def _has_buckets(value: Any) -> bool:
    return not isinstance(value, str) or "_tokens" not in value or not is_strict(js.parse_or_none(value))


def _is_full_time(value: Any) -> bool:
    return isinstance(value, str) and FULL_TIME.match(value) is not None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TRACE_NAME


def _is_no_scrub(value: Any) -> bool:
    return not (isinstance(value, str) and value.startswith(SCRUBBED))


# Further keys whose value may need a repair, and what is fine there.
_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "events": is_event_list,
    key.OBSERVATION_COST_DETAILS: _has_costs_as_numbers,
    key.OBSERVATION_USAGE_DETAILS: _has_buckets,
    key.OBSERVATION_COMPLETION_START_TIME: _is_full_time,
    **dict.fromkeys((key.TRACE_NAME, "gen_ai.tool.name", "logfire.msg", "genkit:name", "ai.toolCall.name"), _is_name),
    **dict.fromkeys((key.USER_ID, key.SESSION_ID), _is_no_scrub),
    "ai.telemetry.metadata.langfusePrompt": lambda _value: False,
}


class _Look(NamedTuple):
    """What to look at on spans of one shape."""

    needs: bool  # they need a correction in any case
    counts: bool  # they may tell of tokens
    groups: tuple[tuple[Step, ...], ...]  # of each group that a correction may win, the rules up to the last correction
    floats: tuple[str, ...]  # keys of floats, and of other values whose type does not say that the server gets them as they are
    others: tuple[str, ...]
    checks: tuple[tuple[str, Callable[[Any], bool]], ...]
    has_prompt: bool
    plan: Plan


# Corrections that have to be asked; the others are what ``_CHECKS`` looks for.
_CORRECTIONS = by_id().keys() - SERVER_RULES - {"corrections/user_id/scrubbed", "corrections/session_id/scrubbed"}

_looks: dict[Any, _Look] = {}


class _Noted(dict[str, Any]):
    """Attributes that note which of them somebody has read."""

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        super().__init__(attributes)
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        self.read.update(self.keys())
        return super().__iter__()

    def values(self) -> Any:
        self.read.update(self.keys())
        return super().values()

    def items(self) -> Any:
        self.read.update(self.keys())
        return super().items()


class Glance:
    """What spans of one shape may need a correction for; see ``encode._shapes.Look``. For one thread at a time.

    What the rules say is remembered by all that they have read to say it: they are functions of the span, so that of equal
    values they say the same. Where they read what is new on every span, nothing is remembered.
    """

    __slots__ = ("_look", "_names", "_resource", "_scope", "_verdicts", "counts")

    def __init__(self, look: _Look, span: Span) -> None:
        self._look = look
        self.counts = look.counts
        self._resource = span.resource, ResourceView(span.resource)  # of the latest batch
        self._scope = span.scope, ScopeView(span.scope)
        self._names: tuple[str, ...] | None = ()  # what rules read; None where nothing is remembered
        self._verdicts: dict[Any, bool] = {}

    @property
    def is_always_fine(self) -> bool:
        """Whether there is nothing to be asked of any of them."""
        return not (self._look.groups or self._look.checks or self._look.has_prompt)

    def is_fine(self, span: Span) -> bool:
        """Whether this one needs no correction. It has no value but texts, booleans, finite numbers and lists of texts."""
        look, attributes = self._look, span.attributes
        if look.groups and self._corrects(span):
            return False
        for name, is_fine in look.checks:
            if not is_fine(attributes[name]):
                return False
        return not look.has_prompt or is_prompt(attributes)

    def _corrects(self, span: Span) -> bool:
        """Whether a rule does."""
        if self._resource[0] is not span.resource or self._scope[0] is not span.scope:
            if self._resource[0] != span.resource or self._scope[0] != span.scope:
                self._verdicts.clear()
            self._resource = span.resource, ResourceView(span.resource)
            self._scope = span.scope, ScopeView(span.scope)
        names = self._names
        if names is None:
            return self._found(span, span.attributes)
        attributes = span.attributes
        said = (span.name, span.status_code, *[attributes[name] for name in names])
        verdict = self._verdicts.get(said)
        return self._noted(span, names, said) if verdict is None else verdict

    def _noted(self, span: Span, names: tuple[str, ...], said: tuple[Any, ...]) -> bool:
        noted = _Noted(span.attributes)
        verdict = self._found(span._replace(attributes=noted), noted)
        read = noted.read.intersection(span.attributes)
        if not read.issubset(names):
            self._names = tuple(read.union(names))
            self._verdicts.clear()
        elif len(self._verdicts) >= _MANY or any(type(value) is str and len(value) > _SHORT for value in said):
            self._names = None
            self._verdicts.clear()
        else:
            self._verdicts[said] = verdict
        return verdict

    def _found(self, span: Span, attributes: Mapping[str, Any]) -> bool:
        view = View(span, attributes, self._resource[1], self._scope[1], _no_content)  # type: ignore[arg-type]
        view.plan = self._look.plan
        return any(_wins_correction(steps, view) for steps in self._look.groups)


_MANY = 100
_SHORT = 200


def glance(span: Span) -> Glance | None:
    """What spans of this one's shape may need a correction for; None if they need one in any case."""
    look = _look(span, _Origins())
    return None if look.needs else Glance(look, span)


def needs_around(span: Span) -> bool:
    """Whether every span of this resource needs a correction."""
    return not _is_fine(span.resource, _Origins())


def corrected(spans: Sequence[Span], told: Sequence[bool | None] = ()) -> Sequence[Span]:
    """The spans of one batch, such that Langfuse's server stores what we read of them with our corrections.

    Langfuse's server reads no corrections; they are written as ``langfuse.*`` attributes, for the corrected fields alone.
    Besides: attributes that its server does not know are kept as metadata on spans of Langfuse's own scopes (it drops them
    there); an empty list becomes the text ``[]``, which it reads as one, and a mapping or bytes JSON text, where it would
    store their OTLP encoding; what it would refuse a whole request for is taken out of its way.

    Args:
        spans: As they are to be sent; ``translate_all`` with and without corrections says what differs.
        told: For each of them, where ``Glance`` has found it fine already, whether it may tell of tokens; else None.

    Returns:
        As many spans, in order; the same object for each that needs nothing, and ``spans`` itself where none does.
    """
    doubtful: list[int] = []
    counting: list[int] = []
    if told and None not in told:
        counting += compress(range(len(spans)), cast("Sequence[bool]", told))
        repeating = _may_repeat(spans, counting) if len(counting) > 1 else ()
        return _explicit(spans, sorted(repeating)) if repeating else spans
    origins = _Origins()
    for place, span in enumerate(spans):
        known = told[place] if told else None
        if known is not None:
            if known:
                counting.append(place)
            continue
        look = _look(span, origins)
        if look.counts:
            counting.append(place)
        if look.needs or _is_doubtful(span, look, origins):
            doubtful.append(place)
    repeating = _may_repeat(spans, counting) if len(counting) > 1 else ()
    if not doubtful and not repeating:
        return spans
    return _explicit(spans, sorted({*doubtful, *repeating}))


def _explicit(spans: Sequence[Span], places: Sequence[int]) -> list[Span]:
    result = list(spans)
    for place, better in zip(places, translate_all([spans[place] for place in places]), strict=True):
        result[place] = explicit(spans[place], better)
    return result


class _Origins:
    """Resources and scopes of a batch, each looked at once."""

    __slots__ = ("_resources", "_scopes", "fine")

    def __init__(self) -> None:
        self.fine: dict[int, bool] = {}  # by the identity of a resource: nothing on it needs a repair
        self._resources: dict[int, ResourceView] = {}
        self._scopes: dict[int, ScopeView] = {}

    def view(self, span: Span, plan: Plan | None) -> View:
        """The span as rules see it, but for values that are no text, number or boolean: of those there are none."""
        resource = self._resources.get(id(span.resource))
        if resource is None:
            resource = self._resources[id(span.resource)] = ResourceView(span.resource)
        scope = self._scopes.get(id(span.scope))
        if scope is None:
            scope = self._scopes[id(span.scope)] = ScopeView(span.scope)
        view = View(span, span.attributes, resource, scope, _no_content)  # type: ignore[arg-type]
        if plan is not None:
            view.plan = plan
        return view


def _no_content(_view: View) -> tuple[Any, Any]:
    """Whether a span event gives content does not depend on what is inside (genai/io/content_events)."""
    return None, None


# -- the quick look -----------------------------------------------------------------------------------------------------


def _look(span: Span, origins: _Origins) -> _Look:
    attributes = span.attributes
    shape: tuple[Any, ...] = (span.scope.name, *attributes, *map(type, attributes.values()))
    if span.events:
        shape = (len(span.events), *[event.name for event in span.events], *shape)
    look = _looks.get(shape)
    if look is None:
        look = _made(span, origins)
        if len(shape) <= _MAX_KEYS:
            if len(_looks) >= MAX_LOOKS:
                _looks.clear()
            _looks[shape] = look
    return look


def _made(span: Span, origins: _Origins) -> _Look:
    plan = CORRECTED_INDEX.plan(origins.view(span, None))
    attributes = span.attributes
    keys = attributes.keys()
    return _Look(
        needs=not keys.isdisjoint(TRACE_UPDATES)
        or any(type(attributes[name]) is not str for name in _TEXTS.intersection(keys))
        or bool(unknown_to_server(span, plan.shown))
        or any(name.startswith(MORE_METADATA) for name in keys),
        counts=any(group == "usage" for group, _ in plan.groups),
        groups=tuple(some for _, steps in plan.groups if (some := _up_to_last(steps))),
        floats=tuple(name for name, value in attributes.items() if type(value) is float),
        others=tuple(name for name, value in attributes.items() if type(value) not in _PLAIN and type(value) is not float),
        checks=tuple((name, is_fine) for name, is_fine in _CHECKS.items() if name in keys),
        has_prompt=not keys.isdisjoint(_PROMPT_KEYS),
        plan=plan,
    )


def _up_to_last(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps up to the last correction that may win: those after it are the server's too."""
    last = max((place for place, step in enumerate(steps) if step.id in _CORRECTIONS), default=-1)
    return tuple(steps[: last + 1])


def _is_doubtful(span: Span, look: _Look, origins: _Origins) -> bool:
    """Whether the values of this span may need a correction."""
    attributes = span.attributes
    for name in look.floats:
        if attributes[name] - attributes[name] != 0:  # NaN, and what is infinite
            return True
    for name in look.others:
        if not is_common(attributes[name]):
            return True
    if len(span.name) > MAX_TRACE_NAME or not _is_fine(span.resource, origins):
        return True
    if look.groups:
        view = origins.view(span, look.plan)
        for steps in look.groups:
            if _wins_correction(steps, view):
                return True
    for name, is_fine in look.checks:
        if not is_fine(attributes[name]):
            return True
    return look.has_prompt and not is_prompt(attributes)


def _is_fine(resource: Resource, origins: _Origins) -> bool:
    fine = origins.fine.get(id(resource))
    if fine is None:
        fine = origins.fine[id(resource)] = isinstance(resource.attributes.get(_SERVICE_VERSION), (str, type(None)))
    return fine


def _wins_correction(steps: Sequence[Step], view: View) -> bool:
    for step in steps:
        if step.when is not None and not js.truthy(step.when(view)):
            continue
        if step.only is not None:
            if step.only(view) is not None:
                return step.id not in SERVER_RULES
        elif step.claims(tuple([read(view) for read in step.reads])):
            return step.id not in SERVER_RULES
    return False


# -- tokens that several spans tell of ----------------------------------------------------------------------------------

_IDS: Callable[[Span], tuple[str, str]] = itemgetter(Span._fields.index("trace_id"), Span._fields.index("span_id"))


def _may_repeat(spans: Sequence[Span], counting: Sequence[int]) -> Collection[int]:
    """Places of spans that may tell of the same tokens: one inside the other, with all between, or of one response."""
    if len({spans[place].trace_id for place in counting}) == len(counting):
        return ()
    by_id: Mapping[Any, int] = dict(zip(map(_IDS, spans), range(len(spans)), strict=True))
    if len(by_id) < len(spans):  # the same id twice: no telling which is meant
        return range(len(spans))
    counted = set(counting)
    involved: set[int] = set(_of_one_response(spans, counting))
    for place in counting:
        path = [place]
        for above in _above(spans, place, by_id):
            path.append(above)
            if above in counted:  # and what is around that, it finds itself
                involved.update(path)
                break
    return involved


def _of_one_response(spans: Sequence[Span], counting: Sequence[int]) -> Iterator[int]:
    first: dict[tuple[str, Any], int] = {}
    for place in counting:
        span = spans[place]
        response = next((span.attributes[name] for name in RESPONSE_IDS if span.attributes.get(name)), None)
        if isinstance(response, str):
            other = first.setdefault((span.trace_id, response), place)
            if other != place:
                yield from (other, place)


def _above(spans: Sequence[Span], place: int, by_id: Mapping[tuple[str, str], int]) -> Iterator[int]:
    seen = {place}
    parent = spans[place].parent_span_id
    while parent:
        above = by_id.get((spans[place].trace_id, parent))
        if above is None or above in seen:
            return
        seen.add(above)
        yield above
        parent = spans[above].parent_span_id
