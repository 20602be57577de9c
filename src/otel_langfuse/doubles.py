"""Spans that two parts of ours would send to the same project: whose they are, when nobody has joined the two.

``OTEL_TRACES_EXPORTER=langfuse`` puts an exporter of ours behind OpenTelemetry's own processor, and the application may add a
``LangfuseSpanProcessor`` for the same project beside it. The processor gets the spans: it masks, propagates and filters as the
application says. It notes each span that it sees start or end here, and the exporter leaves out what is noted; so it does not
matter which TracerProvider they are on, which was first, or whether one of them is shut down.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from contextlib import suppress
from typing import Any, Final

MAX_SPANS: Final = 100_000
"""Notes that are kept, at most; then the oldest is forgotten, and its span sent twice."""


class Doubles:
    """The spans of one project that a processor has. Made by exporters that would send them as well. For any thread."""

    def __init__(self, project: object) -> None:
        self.project = project
        self._noted: OrderedDict[int, None] = OrderedDict()

    def note(self, context: Any) -> None:
        """A processor has the span of this context."""
        noted = self._noted
        noted[_key(context)] = None
        if len(noted) > MAX_SPANS:
            with suppress(KeyError):  # another thread was at it
                noted.popitem(last=False)

    def take(self, context: Any) -> bool:
        """Whether a processor has it; asked once for each span."""
        return bool(self._noted) and self._noted.pop(_key(context), self) is None


def _key(context: Any) -> int:
    key: int = context.trace_id << 64 | context.span_id
    return key


_known: Final[list[weakref.ref[Doubles]]] = []


def for_exporter(project: object) -> Doubles:
    """What an exporter to this project is to ask. Processors that are made from now on tell it."""
    found = for_processor(project)
    if found is None:
        found = Doubles(project)
        _known[:] = [*(reference for reference in _known if reference() is not None), weakref.ref(found)]
    return found


def for_processor(project: object) -> Doubles | None:
    """What a processor for this project is to tell; None if there is no such exporter."""
    living = (doubles for reference in _known if (doubles := reference()) is not None)
    return next((doubles for doubles in living if doubles.project == project), None)
