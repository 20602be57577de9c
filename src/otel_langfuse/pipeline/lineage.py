"""Who stands above whom: so that a span whose parent was dropped gets the nearest kept ancestor as its parent.

A child mostly ends, and is sent, before its parent ends. So an ancestor that has ended is known to be kept or dropped; of one
that still runs the filter is asked with what the span carries by now. What can therefore not be exact: if a running ancestor
is dropped in the end although the filter would have kept it then (a predicate that looks at status or duration), the child
names a parent that is not sent. The other way round, the child only hangs higher in the tree than it could. Where whole traces
wait for their end (``tail=``), every ancestor has ended, and it is always exact.

Of a span that is kept whatever it will carry, below a parent that is, too, nothing is remembered at all: its children hang on it,
as on a parent that has ended and was kept.

Pure, and safe on any thread: each step is one operation on a dict. Bounded: of running spans, and of those that were dropped
(children may start after their parent's end), at most ``MAX_SPANS`` each are remembered, the latest. Spans are held weakly.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from weakref import ref

from opentelemetry.trace import TraceFlags

from otel_langfuse.span_context import KIND, SAMPLED, SPAN_ID, TRACE_FLAGS

MAX_SPANS: Final = 20_000


class Above(NamedTuple):
    """The parent that a span is sent with, None where it has none; and whether it is the first of its trace sent from here."""

    span_id: int | None
    is_first: bool


class Link(NamedTuple):
    """What stands above a span: ``parent`` where that is a span of this process that had not ended when this one started.

    Else ``span_id`` is its parent's, if it has one; ``is_outside`` where no span that is sent from this process can be that.
    ``sampled_out`` is the span's own, where it has ended, was dropped, and nothing else of it is remembered.
    """

    parent: Kin | None
    span_id: int | None
    is_outside: bool
    sampled_out: bool | None = None


_NOTHING: Final = Link(None, None, is_outside=True)


class Kin:
    """One span, and what stands above it. Made by ``Lineage`` without a constructor, which would be half of what it costs."""

    span_id: int
    span: Any  # a weak reference; None where nothing was seen of the start
    up: Link
    below: Link | None = None  # what is ``up`` for its children, once it has one
    kept: bool | None = None  # None while it runs
    is_root = True  # of what this process knows of the trace
    is_sure = False  # it will be kept whatever it carries
    sampled_out: bool | None = None  # with its trace, as its parent; None where that is not known


class Lineage:
    """The spans of one provider, as one processor sees them.

    Args:
        expects: whether a span that still runs would be kept if it ended now. What it raises counts as no.
    """

    def __init__(self, expects: Callable[[Any], bool]) -> None:
        self._expects = expects
        self.running: OrderedDict[int, Kin] = OrderedDict()
        """Those that run, by their ids."""
        self.ended: OrderedDict[int, Link] = OrderedDict()
        """What stands above those that ended and were dropped, by their ids. Not more: they are many, and memory is slow."""

    def start(self, span: Any, span_id: int, parent: Any) -> Kin:
        """A span starts; ``parent`` is its parent's ``SpanContext``, or None."""
        kin = Kin()
        kin.span_id = span_id
        kin.span = span if span is None else ref(span)
        running = self.running
        if parent is None:
            kin.up = _NOTHING
        else:
            above = parent[SPAN_ID] if type(parent) is KIND else parent.span_id
            known = running.get(above)
            if known is None:
                up = self.ended.get(above)
                if up is None:
                    kin.up = Link(None, above, parent.is_remote or not parent.trace_flags & TraceFlags.SAMPLED)
                else:
                    kin.sampled_out = up.sampled_out
                    kin.up = up = _shortened(up)
                    kin.is_root = up.parent is None
            else:
                kin.sampled_out = known.sampled_out
                up = known.below
                if up is None:
                    up = Link(known, None, is_outside=False)
                    if known.kept is None:
                        known.below = up
                if known.up.parent is not None:
                    known.up = _shortened(known.up)
                kin.up = up = up if known.kept is None else _shortened(up)
                kin.is_root = up.parent is None
        running[span_id] = kin
        if len(running) > MAX_SPANS:
            _drop_first(running)
        return kin

    def is_sent(self, parent: Any) -> bool:
        """Whether a span below ``parent`` (its ``SpanContext``) hangs on it for sure, as far as this process knows."""
        is_plain = type(parent) is KIND
        if self.running or self.ended:
            span_id = parent[SPAN_ID] if is_plain else parent.span_id
            known = self.running.get(span_id)
            if known is not None:
                return known.is_sure
            if span_id in self.ended:
                return False
        return bool((parent[TRACE_FLAGS] if is_plain else parent.trace_flags) & SAMPLED)

    def unknown(self, span_id: int, parent: Any) -> Kin:
        """A span that has ended, of whose start nothing is known (any more): what stands above it, as far as is known now."""
        kin = self.start(None, span_id, parent)
        kin.is_root = False
        return kin

    def kept(self, kin: Kin) -> None:
        """A span has ended, and is sent."""
        kin.kept = True
        kin.below = kin.span = None  # a cycle less
        self.running.pop(kin.span_id, None)

    def dropped(self, span_id: int) -> None:
        """A span has ended, and is not sent."""
        kin = self.running.get(span_id)
        if kin is not None:
            kin.kept = False
            kin.below = kin.span = None
            self.ended[span_id] = kin.up if kin.sampled_out is None else kin.up._replace(sampled_out=kin.sampled_out)
            self.running.pop(span_id, None)
            if len(self.ended) > MAX_SPANS:
                _drop_first(self.ended)

    def nearest(self, up: Link) -> Above:
        """The nearest kept ancestor of a span below this link, as far as can be known now."""
        while up.parent is not None:
            if self._is_kept(up.parent):
                return Above(up.parent.span_id, is_first=False)
            up = up.parent.up
        return Above(up.span_id, up.is_outside)

    def _is_kept(self, kin: Kin) -> bool:
        if kin.kept is not None:
            return kin.kept
        span = None if kin.span is None else kin.span()
        if span is None:  # it has ended just now, or nobody can end it any more
            return kin.kept is True
        try:
            return self._expects(span)
        except Exception:  # noqa: BLE001 - then nothing is hung below it, and no hole can be
            return False


def _shortened(up: Link) -> Link:
    """The same without spans that have ended, so that nothing holds them: however long a chain of spans grows, it is short."""
    while up.parent is not None and up.parent.kept is not None:
        up = Link(None, up.parent.span_id, is_outside=False) if up.parent.kept else up.parent.up
    return up


def _drop_first(spans: OrderedDict[int, Any]) -> None:
    """Of a plain dict, finding the first one takes the longer the more others were taken out before it."""
    with suppress(KeyError):  # another thread was at it
        spans.popitem(last=False)
