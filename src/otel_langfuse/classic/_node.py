"""What is known of one classic trace or observation: its span, and how it is told things when that has ended.

A span must end, and programs of the classic client end half of theirs, because there a trace needed no end and an observation was
stored when it began. So a node ends when it is told to; when the last handle of it or of anything below it is gone; a trace
whose observations have all ended, at ``flush``; and all of them at the end of the process or of the client. One that was not
told when ends with the last observation below it, or with the last that was said of it.

What is said of a node after its end is sent as the whole span again, with the same ids and start: Langfuse and the local store
then replace the first by it. To any other destination goes a further span, named so, with what was said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import INVALID_SPAN, Span

from otel_langfuse import attributes as names
from otel_langfuse import model
from otel_langfuse.propagation import of_all_spans, project_of, set_attributes, tell_late
from otel_langfuse.spans import from_sdk
from otel_langfuse.tracing import _ending
from otel_langfuse.tracing._metadata import merged
from otel_langfuse.tracing._origin import NOTES
from otel_langfuse.tracing.fields import OBSERVATION, TRACE, added, attribute_of, set_on

from . import _known

if TYPE_CHECKING:
    import weakref

    from otel_langfuse.client import Client

    from ._fields import Given

UPDATED: Final = f"{names.OBSERVATION_METADATA}.updates_observation"
"""On a span that only says something about another one that had ended: the other one's id."""

_ERROR: Final = 2  # OTLP's number


class Node:
    """One trace or observation. Its methods never raise.

    Args:
        client: what records it.
        span: of it.
        trace_id: of its trace, where nothing is recorded; 32 hex digits.
        id: of it, likewise; 16 hex digits.
        up: what it is in, as far as that is known here.
        root: of its trace, where it is in something that is not known here; None if the root is not known, either.
        is_apart: whether it is in something that is not known here, so that it is no root itself.
        is_owned: False: somebody else's span, which is not ours to end.
    """

    __slots__ = (
        "__weakref__",
        "children_ns",
        "client",
        "ended_ns",
        "holder",
        "id",
        "is_open",
        "is_owned",
        "is_stale",
        "is_trace",
        "last_ns",
        "late",
        "late_name",
        "open_below",
        "own_id",
        "pid",
        "root",
        "shared",
        "span",
        "trace_id",
        "trace_own_id",
        "up",
    )

    def __init__(
        self,
        client: Client,
        span: Span,
        trace_id: str,
        id: str,  # noqa: A002 - its name
        up: Node | None,
        *,
        root: Node | None = None,
        is_apart: bool = False,
        is_owned: bool = True,
    ) -> None:
        context = span.get_span_context()
        real = span.is_recording()
        self.client = client
        self.span = span
        self.trace_id = f"{context.trace_id:032x}" if real else trace_id
        self.id = f"{context.span_id:016x}" if real else id
        self.own_id = self.id  # what the caller calls it
        self.trace_own_id = self.trace_id
        self.up = up
        self.root: Node | None = up.root if up is not None else root if is_apart else self
        self.is_trace = False  # made by ``trace()``: a container, not a call
        self.is_owned = is_owned
        self.is_open = real
        self.is_stale = False  # what was sent ends too early
        self.open_below = 0
        self.last_ns = time_ns()
        self.children_ns = 0
        self.ended_ns = 0
        self.shared: dict[str, Any] = {}
        self.late: dict[str, Any] = {}
        self.late_name: str | None = None
        self.holder: weakref.ref[Any] | None = None
        self.pid = os.getpid()
        if is_owned:
            _known.add(self)

    def above(self) -> list[Node]:
        """Those that it is in, from the nearest to the root."""
        found: list[Node] = []
        node = self.up
        while node is not None:
            found.append(node)
            node = node.up
        return found

    # -- telling -----------------------------------------------------------------------------------------------------------

    def tell(self, said: Given) -> None:
        """Adds to the observation, and to its trace, or replaces what they say."""
        with _known.turn():
            self._tell(said)

    def _tell(self, said: Given) -> None:
        attributes = added(OBSERVATION, said.fields, {})
        if said.is_generation and self._of(names.OBSERVATION_TYPE) in (None, "span"):
            attributes[names.OBSERVATION_TYPE] = "generation"
        of_trace = added(TRACE, said.trace, {})
        if self.is_trace and said.name:
            of_trace[names.TRACE_NAME] = said.name
        root = self.root or self
        if of_trace and root is not self:
            root.tell_trace(of_trace)
        elif of_trace:
            attributes |= self._joined(of_trace)
        if attributes or said.name:
            self._set(attributes, said.name)
        if said.start_ns is not None:
            self._start_at(said.start_ns)

    def _start_at(self, start_ns: int) -> None:
        """Says when it has started, as long as it has not ended: a span that is sent again is known by its start."""
        if start_ns == getattr(self.span, "start_time", None):
            return
        if self.span.is_recording() and getattr(self.span, "_start_time", None) is not None:
            self.span._start_time = start_ns  # type: ignore[attr-defined]  # noqa: SLF001 - of the SDK's spans
        else:
            NOTES.note("value start_time", "start_time is left out: expected it when the observation starts, or before its end")

    def tell_trace(self, attributes: Mapping[str, Any]) -> None:
        """Says something of the trace, of which this is the root, or the only span that is known."""
        self._set(self._joined(attributes), None)

    def _joined(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """The same, with the tags that it has already; shared with what is below, before it begins and after it has ended."""
        made = dict(attributes)
        if tags := made.get(names.TRACE_TAGS):
            had = self._of(names.TRACE_TAGS)
            made[names.TRACE_TAGS] = tuple(dict.fromkeys([*(had if isinstance(had, (list, tuple)) else ()), *tags]))
        self.shared.update(of_all_spans(made))
        tell_late(self.trace_id, made, project_of(self.span))
        return made

    def _of(self, key: str) -> Any:
        return self.late[key] if key in self.late else attribute_of(self.span, key)

    def _set(self, attributes: dict[str, Any], name: str | None) -> None:
        self.last_ns = time_ns()
        span = self.span
        try:
            if span.is_recording():
                if name is not None:
                    span.update_name(name)
                for held in (names.OBSERVATION_METADATA, names.TRACE_METADATA):
                    attributes = merged(span, held, attributes)
                set_on(span, attributes)
                if not span.is_recording() and any(attribute_of(span, key) != value for key, value in attributes.items()):
                    self._set_late(attributes, name)  # another thread was faster
            elif self.ended_ns or not self.is_owned:
                self._set_late(attributes, name)
        except Exception as error:  # noqa: BLE001 - of a foreign span
            NOTES.note("update", f"an update is lost: {type(error).__name__}")

    # -- ending ------------------------------------------------------------------------------------------------------------

    def end(self, end_ns: int | None = None) -> None:
        """Ends it, now or then. What had ended already ends then only if that is said."""
        if self.span.is_recording():
            self._end(end_ns or time_ns())
        elif self.ended_ns and end_ns:
            self.ended_ns = end_ns
            self.send_again()

    def settle(self) -> None:
        """Nobody will end it any more: it ends with what was last below it."""
        if self.span.is_recording() and self.is_owned:
            self._end(self.children_ns or self.last_ns)
        elif self.is_stale:
            self.is_stale = False
            self.send_again()

    def _end(self, end_ns: int) -> None:
        self.ended_ns = end_ns
        _ending.end(self.span, end_ns)
        _known.ended(self, end_ns)

    def child_ended(self, end_ns: int) -> None:
        """Something below it has ended."""
        self.children_ns = max(self.children_ns, end_ns)
        if self.is_trace and 0 < self.ended_ns < end_ns:
            self.ended_ns = end_ns
            self.is_stale = True

    # -- after the end -----------------------------------------------------------------------------------------------------

    def _set_late(self, attributes: Mapping[str, Any], name: str | None) -> None:
        self.late.update(attributes)
        self.late_name = name or self.late_name
        self.is_stale = False
        if not self.send_again():
            self._say_beside(attributes, name)

    def send_again(self) -> bool:
        """Sends the whole span again, with what was said since. False where the destination would keep both."""
        try:
            spans, _ = from_sdk([self.span])  # type: ignore[list-item]  # what is no SDK span, cannot be read
            return bool(spans) and self.client.sender.replace(self._changed(spans[0]), self.span)
        except Exception as error:  # noqa: BLE001 - a foreign span
            NOTES.note("update", f"an update after the end is sent as a span of its own: {type(error).__name__}")
            return False

    def _changed(self, span: model.Span) -> model.Span:
        changed = span._replace(
            name=self.late_name or span.name,
            attributes={**span.attributes, **self.late},
            end_time_unix_nano=self.ended_ns or span.end_time_unix_nano,
        )
        if self.late.get(names.OBSERVATION_LEVEL) == "ERROR":
            changed = changed._replace(status_code=_ERROR, status_message=self.late.get(names.OBSERVATION_STATUS_MESSAGE))
        return changed

    def _say_beside(self, attributes: Mapping[str, Any], name: str | None) -> None:
        from ._start import begin_below  # noqa: PLC0415 - which makes nodes

        span = begin_below(self, f"{name or getattr(self.span, 'name', 'observation')} (update)")
        if span is not INVALID_SPAN and span.is_recording():
            set_attributes(span, {**attributes, UPDATED: self.id})
            _ending.end(span)
