"""Spans that are only looked at, because they are to be said in other words: which of their texts nobody has seen yet."""

from __future__ import annotations

from itertools import compress
from operator import is_not

from otel_langfuse.model import Attributes, Span

from ._shapes import MAX_WORDS, Memory, Said, Shape
from ._wire import LONGEST


class Looking(Memory):
    """What is remembered where spans are looked at: the short texts that were seen, and what of each shape is the same again."""

    def forget(self) -> None:
        """Forgets everything that holds a text of a span."""
        super().forget()
        self._words: set[str] = set()

    def written(self, span: Span, texts: list[bytes]) -> Said | None:
        """See ``Memory.written``; nothing is written."""
        (_, _, _, name, _, _, attributes, _, scope, _, _, message, events, links, state, _, dropped_attributes, dropped_events,
         dropped_links, media) = span  # fmt: skip
        if events or links or message or state or dropped_attributes or dropped_events or dropped_links or media:
            return None
        if name not in self._words:
            self._see(name, texts)
        key = (scope.name, tuple(attributes))
        shape = self._shapes.get(key) or self._of_kinds(key, span)
        if shape is None or not self._looked(shape, attributes, texts):
            shape = self._of_kinds(key, span)
            if shape is None or not self._looked(shape, attributes, texts):
                return None
        if shape.look is not None and not shape.look.is_fine(span):
            return None
        return None, shape.counts

    def _looked(self, shape: Shape, attributes: Attributes, texts: list[bytes]) -> bool:
        """Adds what is new; False if they are of other kinds than the shape's, or such as no rule is asked about."""
        values = tuple(attributes.values())
        kinds, last, words = shape.kinds, shape.last, self._words
        for place in compress(shape.places, map(is_not, values, last)):
            value = values[place]
            kind = type(value)
            if kind is not kinds[place]:
                return False
            if kind is str:
                if len(value) > LONGEST:
                    texts.append(value.encode())
                    continue
                if value not in words:
                    self._see(value, texts)
            elif kind is tuple:
                if not value:
                    return False
                for item in value:
                    if item not in words:
                        self._see(item, texts)
                continue  # it may be long
            elif kind is float and value - value != 0:
                return False
            last[place] = value
        return True

    def _see(self, word: str, texts: list[bytes]) -> None:
        texts.append(word.encode())  # which raises where it is no text
        if len(word) <= LONGEST:
            if len(self._words) >= MAX_WORDS:
                self._words.clear()
            self._words.add(word)
