"""What of a provider's spans is for one destination, and below which parents: head sampling, filter, tail sampling, lineage.

``Choice`` belongs to a processor. ``start`` and ``why_not`` run on the application's threads, ``chosen`` on the worker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from opentelemetry.trace import DEFAULT_TRACE_STATE, TraceFlags, format_span_id

from . import attributes as names
from .batch import Batch, Sending
from .ended import Ended, attributes_of, copied, span_of
from .errors import Drop, DropReason
from .model import Span
from .neighbours import Member
from .pipeline import filter as span_filter
from .pipeline import sample
from .pipeline.lineage import Kin, Lineage, Link
from .pipeline.tail import Tail, Trace, WaitingTraces, Whole, verdict
from .propagation import projects, stamped
from .span_context import KIND, SAMPLED, SPAN_ID, TRACE_FLAGS, TRACE_STATE
from .spans import IS_REMOTE, Reader, from_sdk, unreadable, with_attributes
from .stats import Ledger

_ATTRIBUTES: Final = Span._fields.index("attributes")

MAX_TOLD: Final = 10_000
"""Traces of which is remembered what another service, or their parent, has decided."""

KEPT: Final[tuple[DropReason | None, str]] = (None, "")
"""There is no reason why a span is not for this destination."""

_NEVER_FIRST: Final = frozenset({("litellm", "raw_gen_ai_request")})
"""Scope and name of spans that repeat their parent's content and never stand for a trace (api.md 4, app root)."""


class Choice:
    """One destination's choice.

    Args:
        bound: of head sampling, as ``sample.bound`` makes it.
        words: the filter, or None where ``predicate`` says it alone.
        predicate: ``should_export_span``.
        tail: the rules of tail sampling, if there are any.
        member: says whose a span is, where several projects share a provider.
        static: attributes of every span here that says nothing else (environment, release).
        marks: whether the first span of a trace is marked even where the filter keeps everything.
        ledger: notes what went wrong.
    """

    def __init__(
        self,
        *,
        bound: int,
        words: span_filter.Words | None,
        predicate: span_filter.Predicate | None,
        tail: Tail | None,
        member: Member,
        static: Mapping[str, str],
        marks: bool,
        ledger: Ledger,
    ) -> None:
        self._member = member
        self._projects = None if member.route.identity is None else member.route.names
        self._static = static
        self._bound = bound
        self._words = None if words is None or words.keeps_all else words
        self._predicate = predicate
        self._rules = () if tail is None else tuple(tail.rules)
        self._ledger = ledger
        self._told: OrderedDict[int, bool] = OrderedDict()
        route = member.route
        filters = self._words is not None or predicate is not None
        drops = filters or route.is_named or route.is_default is not None or route.by is not None
        self._marks = marks or filters
        self.lineage = Lineage(self._expects) if drops or tail is not None or bound < sample.ALL else None
        says_all = predicate is None and tail is None and bound >= sample.ALL and route.by is None
        self._scopes = self._words.scopes if self._words is not None and says_all else None  # else something else counts, too
        # Id of a tracer's scope -> itself, which is held so that no other one has its id: of those whose spans are all kept ...
        self._sure: dict[int, Any] = {}
        self._unsure: dict[int, Any] = {}  # ... and of all others
        self.tells_at_end = self.lineage is None or self._scopes is not None
        """Whether ``at_end`` ever tells something."""
        self._asks_at_start = tail is not None or bound < sample.ALL
        self._places = drops or tail is not None
        self.waiting: WaitingTraces[Ended] | None = None if tail is None else WaitingTraces(tail)

    @property
    def changes(self) -> bool:
        """Whether what ``chosen`` returns may differ from what was queued, but for what was said of a trace since then."""
        return self._marks or self._places or bool(self._static)

    # -- the application's threads ---------------------------------------------------------------------------------------------

    def start(self, span: Any, lineage: Lineage, batch: Batch[Any]) -> None:
        """A span starts. Of one that is sent whatever it will carry, below the parent that it names, nothing is remembered.

        This and ``at_end`` run for each span, so they read the slots behind the SDK's properties; without these, the properties.
        """
        try:
            context, parent, scope = span._context, span._parent, span._instrumentation_scope  # noqa: SLF001
        except AttributeError:
            context, parent, scope = span.context, span.parent, span.instrumentation_scope
        may_be = self._scopes is not None and self._unsure.get(id(scope)) is not scope
        is_sure = may_be and self._is_sure(context, scope)
        if is_sure and (parent is None or lineage.is_sent(parent)):
            return
        kin = lineage.start(span, context[SPAN_ID] if type(context) is KIND else context.span_id, parent)
        if is_sure:
            kin.is_sure = True
        if self._asks_at_start and kin.is_root:
            self._sample(span, context, kin, batch)

    def _is_sure(self, context: Any, scope: Any) -> bool:
        """Whether a span of this context and scope is kept whatever it carries."""
        if projects or not self._member.takes_all or type(context) is not KIND or not context[TRACE_FLAGS] & SAMPLED:
            return False
        return context[TRACE_STATE] is DEFAULT_TRACE_STATE and (self._sure.get(id(scope)) is scope or self._is_sure_of(scope))

    def _is_sure_of(self, scope: Any) -> bool:
        """Whether spans of this scope are; False as long as none has ended yet."""
        if scope is None or self._scopes is None or scope.name not in self._scopes:
            return False
        is_sure = self._scopes[scope.name] is True
        known = self._sure if is_sure else self._unsure
        if len(known) >= span_filter.MAX_SCOPES:  # somebody makes a tracer for each request
            known.clear()
        known[id(scope)] = scope
        return is_sure

    def _sample(self, span: Any, context: Any, kin: Kin, batch: Batch[Any]) -> None:
        """The first span of a trace starts: whether the trace is sampled, and if so, that it is waited for."""
        if kin.sampled_out is None:
            kin.sampled_out = not self._is_sampled(span, context)
        waiting = self.waiting
        if waiting is not None and not kin.sampled_out and context.trace_flags & TraceFlags.SAMPLED:
            batch.hold(lambda now: waiting.begin(context.trace_id, now))

    def at_end(self, span: Any) -> bool | None:
        """What becomes of a finished span, as far as that can be told quickly: for most spans of an application that is all.

        Only to be asked where every span of the provider is for this destination, and no context names a project.

        Returns:
            True: it is sent, below the parent that it names. False: the filter leaves it out, which is noted and counted. None:
            more has to be asked.
        """
        lineage, words = self.lineage, self._words
        try:
            context = span._context  # noqa: SLF001
            if type(context) is not KIND or context[TRACE_STATE] is not DEFAULT_TRACE_STATE or not context[TRACE_FLAGS] & SAMPLED:
                return None
            if lineage is None:
                return True
            scope = span._instrumentation_scope  # noqa: SLF001
            if self._scopes is None or words is None or scope is None:
                return None
            if self._sure.get(id(scope)) is not scope:
                if words(scope.name, attributes_of(span)):
                    return None
                lineage.dropped(context[SPAN_ID])
                self._ledger.refuse(DropReason.FILTERED)
                return False
            parent = span._parent  # noqa: SLF001
            if lineage.running or lineage.ended:  # it may be among them, or its parent, which may not be sent
                return (context[SPAN_ID] not in lineage.running and (parent is None or lineage.is_sent(parent))) or None
            return parent is None or (type(parent) is KIND and bool(parent[TRACE_FLAGS] & SAMPLED)) or None
        except Exception:  # noqa: BLE001 - of a foreign span: what is wrong with it, the long way says
            return None

    def why_not(self, span: Any, context: Any, attributes: Mapping[str, Any], kin: Kin | None) -> tuple[DropReason | None, str]:
        """Why a finished span is not for this destination, or None; and what went wrong."""
        if kin is not None and kin.sampled_out is not None:
            if kin.sampled_out:
                return DropReason.SAMPLED_OUT, ""
        elif (self._bound < sample.ALL or context.trace_state) and not self._is_sampled(span, context):
            return DropReason.SAMPLED_OUT, ""
        words, predicate = self._words, self._predicate
        if words is not None:
            scope = span.instrumentation_scope
            if not words("" if scope is None else scope.name, attributes):
                return DropReason.FILTERED, ""
        if predicate is not None:
            kept, detail = span_filter.keep(span, predicate)
            if not kept:
                return DropReason.FILTERED, detail
        return KEPT

    def hold(self, span: Any, attributes: Mapping[str, Any], size_bytes: int, kin: Kin | None, batch: Batch[Any]) -> None:
        """Lets a span that is kept wait for its trace. To be called only where anything waits."""
        waiting = self.waiting
        if waiting is None:
            raise TypeError("there is no tail=")

        def make(trace: Trace[Ended]) -> tuple[Ended, int]:
            return (span, attributes, up, trace, trace.members), size_bytes

        up = None if kin is None else kin.up
        is_root = kin is not None and kin.is_root
        batch.hold(lambda now: waiting.ended(span.context.trace_id, make, now, is_root=is_root))

    def dropped(self, context: Any, kin: Kin | None, batch: Batch[Any]) -> None:
        """A span ended that is not kept: it may have been the root that its trace waits for."""
        waiting = self.waiting
        if waiting is not None and kin is not None and kin.is_root and not kin.sampled_out:
            batch.hold(lambda _: waiting.end(context.trace_id))

    def is_open(self, trace_id: str) -> bool:
        """Whether tail sampling has still to judge a trace."""
        try:
            return self.waiting is not None and self.waiting.is_open(int(trace_id, 16))
        except ValueError:
            return False

    def trace_is_kept(self, trace_id: str) -> bool:
        """Whether what belongs to a trace is sent, as far as it is known: by its id, and by the verdict of tail sampling."""
        try:
            key = int(trace_id, 16)
        except ValueError:
            return True
        judged = None if self.waiting is None else self.waiting.verdict(key)
        if judged is None:
            judged = self._told.get(key)
        return sample.trace_is_kept(trace_id, self._bound / sample.ALL) if judged is None else judged

    def _is_sampled(self, span: Any, context: Any) -> bool:
        """By head sampling. Where not the id alone decides it is remembered, for what belongs to the trace."""
        parent, state = span.parent, context.trace_state
        sampled = parent is None or bool(parent.trace_flags & TraceFlags.SAMPLED)
        kept = sample.keep(context.trace_id, self._bound, state or {}, parent_sampled=sampled)
        if state or not sampled:
            told = self._told
            told[context.trace_id] = kept
            if len(told) > MAX_TOLD:
                with suppress(KeyError):  # another thread was at it
                    told.popitem(last=False)
        return kept

    def _expects(self, span: Any) -> bool:
        """Whether a span that still runs would be kept if it ended now."""
        context = span.context
        if not context.trace_flags & TraceFlags.SAMPLED or self._member.refusal(span)[0] is not None:
            return False
        return self.why_not(span, context, copied(span.attributes), None) is KEPT

    # -- the worker's thread ---------------------------------------------------------------------------------------------------

    def chosen(self, sending: Sending[Any]) -> Chosen:
        """Steps 5 and 6 of the house: reads a batch, and reports what cannot be read and what tail sampling drops."""
        items, spans = self._read(sending)
        late = stamped(spans, self._projects)
        if late is not spans:
            same = zip(items, spans, late, strict=True)
            items = [item if new is old else _changed(item) for item, old, new in same]
            spans = list(late)
        if self._rules:
            items, spans = self._judged(items, spans, sending)
        if self._marks or self._places:
            for place, item in enumerate(items):
                if type(item) is tuple and (placed := self._placed(item[2], spans[place])) is not spans[place]:
                    items[place], spans[place] = None, placed
        return Chosen(items, spans)

    def _read(self, sending: Sending[Any]) -> tuple[list[Any], list[Span]]:
        """The items of a batch and what they are read as; those that cannot be read are reported and left out.

        A span that was queued alone, above which nothing is known, is marked here, if it is the first of its trace: at once, as
        to make another one of it afterwards costs as much as reading it.
        """
        items: list[Any] = []
        spans: list[Span] = []
        read, static, marks = Reader().read, self._static, self._marks
        for item in sending.items:
            found = item
            try:
                is_alone = type(item) is not tuple
                original, own = (item, attributes_of(item)) if is_alone else item[:2]
                if static and not static.keys() <= own.keys():
                    own = {**static, **own}
                    found = (original, own, None, None, None) if is_alone else (original, own, *item[2:])
                if marks and is_alone and _is_first(item):
                    own, found = _marked(own), None
                spans.append(read(original, own))
                items.append(found)
            except Exception as error:  # noqa: BLE001 - whatever a foreign span raises costs only that one
                sending.dropped(unreadable(error))
        return items, spans

    def _judged(self, items: list[Any], spans: list[Span], sending: Sending[Any]) -> tuple[list[Any], list[Span]]:
        for trace, mine, known in _by_trace(items, spans):
            others = [item for item in trace.whole if format_span_id(item[0].context.span_id) not in known]
            if trace.kept is None:  # looked at after that, because they are cleared when there is a verdict
                trace.kept = self._verdict(mine, others)
        kept = [place for place, item in enumerate(items) if item[3] is None or item[3].kept]
        for item in items:
            if item[4] is not None:
                item[4].clear()  # now that there is a verdict, no rule will look at them
        if len(kept) < len(items):
            sending.dropped(Drop(DropReason.SAMPLED_OUT, len(items) - len(kept)))
        return [items[place] for place in kept], [spans[place] for place in kept]

    def _verdict(self, mine: Sequence[Span], others: Sequence[Ended]) -> bool:
        """Asks the rules. Spans of the trace that are in other batches are read here once more."""
        read, _ = from_sdk([item[0] for item in others], [{**self._static, **item[1]} for item in others])
        kept, detail = verdict(self._rules, Whole([*mine, *stamped(read, self._projects)]))
        if detail:
            self._ledger.note("tail", f"a trace is kept because a rule of tail= failed: {detail}")
        return kept

    def _placed(self, up: Link | None, span: Span) -> Span:
        """The span below its nearest kept ancestor; marked, if it is the first of its trace."""
        if up is None or not self._places or self.lineage is None:
            is_first = span.parent_span_id is None or bool(span.flags & IS_REMOTE)
        else:
            above = self.lineage.nearest(up)
            is_first = above.is_first
            parent = None if above.span_id is None else f"{above.span_id:016x}"
            if parent != span.parent_span_id:
                remote = IS_REMOTE if is_first and parent is not None else 0
                span = span._replace(parent_span_id=parent, flags=span.flags & ~IS_REMOTE | remote)
        if not (is_first and self._marks):
            return span
        if span.parent_span_id is not None and (span.scope.name, span.name) in _NEVER_FIRST:
            return span
        marked = _marked(span.attributes)
        return Span._make((*span[:_ATTRIBUTES], marked, *span[_ATTRIBUTES + 1 :]))  # ``_replace`` takes thrice as long


class Chosen(NamedTuple):
    """The spans of a batch that stay, as ours; and what was queued of each, or None where ours says something else."""

    items: list[Any]
    spans: list[Span]

    def originals(self) -> list[Any]:
        """For each the SDK's own span that says the same, for whom takes those; None where there is none."""
        return [None if item is None or span_of(item) is None else _completed(item) for item in self.items]


def _completed(item: Any) -> Any:
    """The SDK's span, with the attributes that every one of this destination gets, and no other one's."""
    if type(item) is not tuple or item[1] is attributes_of(item[0]):
        return span_of(item)
    return with_attributes(item[0], item[1])


def _changed(item: Any) -> Any:
    """What was queued of a span of which ours says something else by now."""
    return (None, *item[1:]) if type(item) is tuple else None


def _is_first(span: Any) -> bool:
    """Whether an SDK span stands for its trace here, by what it says itself."""
    parent = span.parent
    if parent is None:
        return True
    return bool(parent.is_remote) and (getattr(span.instrumentation_scope, "name", None), span.name) not in _NEVER_FIRST


def _marked(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the first span of a trace."""
    marked = dict(attributes)  # a copy in one piece, where ``{**...}`` puts key after key
    marked[names.IS_APP_ROOT] = True
    return marked


def _by_trace(items: Sequence[Ended], read: Sequence[Span]) -> list[tuple[Trace[Ended], list[Span], set[str]]]:
    """The traces of a batch that waited: what is read of each here, and these spans' ids."""
    found: dict[int, tuple[Trace[Ended], list[Span], set[str]]] = {}
    for item, span in zip(items, read, strict=True):
        if item[3] is not None:
            _, spans, known = found.setdefault(id(item[3]), (item[3], [], set()))
            spans.append(span)
            known.add(span.span_id)
    return list(found.values())
