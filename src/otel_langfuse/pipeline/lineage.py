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

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple
from weakref import ref

from opentelemetry.trace import SpanContext, TraceFlags

from otel_langfuse.span_context import SAMPLED, SPAN_ID, TRACE_FLAGS

MAX_SPANS: Final = 20_000


class Above(NamedTuple):
    """The parent that a span is sent with, None where it has none; and whether it is the first of its trace sent from here."""

    span_id: int | None
    is_first: bool


class Link(NamedTuple):
    """What stands above a span: ``parent`` where that is a span of this process that had not ended when this one started.

    Else ``span_id`` is its parent's, if it has one; ``is_outside`` where no span that is sent from this process can be that.
    """

    parent: Kin | None
    span_id: int | None
    is_outside: bool


_NOTHING: Final = Link(None, None, is_outside=True)


class Kin:
    """One span, and what stands above it. Made by ``Lineage`` without a constructor, which would be half of what it costs."""

    __slots__ = ("below", "is_root", "is_sure", "kept", "sampled_out", "span", "span_id", "up")

    span_id: int
    span: Any  # a weak reference; None where nothing was seen of the start
    up: Link
    below: Link | None  # what is ``up`` for its children, once it has one
    kept: bool | None  # None while it runs
    is_root: bool  # of what this process knows of the trace
    is_sure: bool  # it will be kept whatever it carries
    sampled_out: bool | None  # with its trace, as its parent; None where that is not known


class Lineage:
    """The spans of one provider, as one processor sees them.

    Args:
        expects: whether a span that still runs would be kept if it ended now. What it raises counts as no.
    """

    def __init__(self, expects: Callable[[Any], bool]) -> None:
        self._expects = expects
        self.running: dict[int, Kin] = {}
        """Those that run, by their ids."""
        self._dropped: dict[int, Kin] = {}

    def start(self, span: Any, span_id: int, parent: Any) -> Kin:
        """A span starts; ``parent`` is its parent's ``SpanContext``, or None."""
        kin = Kin()
        kin.span_id = span_id
        kin.span = span if span is None else ref(span)
        kin.kept = kin.below = kin.sampled_out = None
        kin.is_root = True
        kin.is_sure = False
        running = self.running
        if parent is None:
            kin.up = _NOTHING
        else:
            above = parent.span_id
            known = running.get(above)
            if known is None:
                known = self._dropped.get(above)
            if known is None:
                kin.up = Link(None, above, parent.is_remote or not parent.trace_flags & TraceFlags.SAMPLED)
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
        is_plain = type(parent) is SpanContext
        if self.running or self._dropped:
            span_id = parent[SPAN_ID] if is_plain else parent.span_id
            known = self.running.get(span_id)
            if known is not None:
                return known.is_sure
            if span_id in self._dropped:
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
            self._dropped[span_id] = kin
            self.running.pop(span_id, None)
            if len(self._dropped) > MAX_SPANS:
                _drop_first(self._dropped)

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


def _drop_first(spans: dict[int, Kin]) -> None:
    with suppress(RuntimeError, StopIteration):  # another thread was at it: the next one drops it
        spans.pop(next(iter(spans)), None)
