"""The last step of every mask: patterns, in all texts of a batch. What holds none of them is read once and stays as it is.

Covered are all texts of a span: name, status message, trace state, attributes with their keys, span events, links, resource and
scope. Batches are looked at in groups of ``GROUP`` spans: looking is cheapest at a few
dozen kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from otel_langfuse.model import Attributes, Resource, Scope, Span, SpanEvent, SpanLink
from otel_langfuse.pipeline.mask._scan import Scanner
from otel_langfuse.pipeline.mask._values import PLAIN, NotLookedThroughError, gather, replaced

_Part = TypeVar("_Part", Span, SpanEvent, SpanLink, Resource, Scope)

GROUP: Final = 12
_SHORT: Final = 48
_MAX_KEY: Final = 200
_MAX_KNOWN: Final = 5_000
_LISTS: Final = frozenset({tuple, list})
NAMED: Final = "<masked: named secret>"
_FIELDS: Final = ("name", "version", "schema_url", "status_message", "trace_state")


class Texts:
    """Masks texts by patterns, and by what attributes are called.

    Args:
        scanner: finds the patterns.
        names: whether an attribute's key says that its value is a secret; None: no key does.

    Safe on several threads.
    """

    def __init__(self, scanner: Scanner, names: Callable[[str], bool] | None) -> None:
        self._scanner = scanner
        self._names = names
        self._known: set[str] = set()  # short texts and keys that were looked at, and hold nothing

    def value(self, value: Any) -> Any:
        """A value of any JSON type with every text in it masked.

        Raises:
            NotLookedThroughError: it cannot be looked through.
        """
        texts: list[str] = []
        gather(value, texts)
        changed = self._scanner.changed(texts) if texts else {}
        new = replaced(value, lambda text: changed.get(text, text), keys=True) if changed else value
        return new if self._names is None else without_named(new, self._names)

    def spans(self, spans: Sequence[Span], failed: Callable[[str], str]) -> list[Span]:
        """The spans, the same objects where nothing was found.

        Args:
            spans: of one batch.
            failed: is told of each value that cannot be looked through, and says what stands for it.
        """
        shared = self._shared(spans, failed)
        made: list[Span] = []
        for start in range(0, len(spans), GROUP):
            group = spans[start : start + GROUP]
            texts: list[str] = []
            short: list[str] = []
            is_plain = not shared
            for span in group:
                if not self._gather(span, texts, short):
                    is_plain = False
            changed = self._changed(texts, short, failed)
            rewrite = None if is_plain and not changed else _Rewrite(changed, self._names, shared, failed)
            made += group if rewrite is None else map(rewrite.span, group)
        return made

    def may_change(self, data: bytes) -> bool:
        """Whether any of these texts, joined by NUL and as UTF-8, would not stay as it is."""
        return self._scanner.finds(data)

    def may_change_under(self, keys: Sequence[str]) -> bool:
        """Whether any of these attributes would not stay as it is for its key: that holds a secret, or says that there is one."""
        return any(map(self._is_named, keys)) or bool(self._scanner.changed(keys))

    def may_change_around(self, span: Span) -> bool:
        """Whether the span's resource or scope would not stay as it is."""
        return bool(self._shared((span,), str))

    def _changed(self, texts: list[str], short: list[str], failed: Callable[[str], str]) -> dict[str, str]:
        """What becomes of texts; short ones of which nothing does are not looked at again."""
        if short:
            texts = texts + short
        if not texts:
            return {}
        try:
            changed = self._scanner.changed(texts)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, what was not looked at must not leave
            why = f"{type(error).__name__} while looking for patterns"
            return {text: failed(why) for text in texts}
        if short:
            if len(self._known) > _MAX_KNOWN:
                self._known.clear()
            self._known.update(
                text for text in short if len(text) <= _MAX_KEY and text not in changed and not self._is_named(text)
            )
        return changed

    def _is_named(self, key: str) -> bool:
        return self._names is not None and self._names(key)

    def _shared(self, spans: Sequence[Span], failed: Callable[[str], str]) -> dict[int, Any]:
        """Resources and scopes that change, by id(); the spans keep the originals alive meanwhile."""
        parts: dict[int, Any] = {id(part): part for span in spans for part in (span.resource, span.scope)}
        shared: dict[int, Any] = {}
        for part in parts.values():
            texts: list[str] = []
            is_plain = self._attributes(part.attributes, texts, texts)
            texts += filter(None, (getattr(part, name, None) for name in ("name", "version", "schema_url")))
            changed = self._changed(texts, [], failed)
            if changed or not is_plain:
                new = _Rewrite(changed, self._names, {}, failed).part(part)
                if new is not part:
                    shared[id(part)] = new
        return shared

    def _gather(self, span: Span, texts: list[str], short: list[str]) -> bool:
        """Adds the texts of a span that are not known, and apart those that may be; whether that is all there is to it."""
        is_plain = self._attributes(span.attributes, texts, short)
        if span.name not in self._known:
            (short if len(span.name) <= _SHORT else texts).append(span.name)
        if span.status_message:
            texts.append(span.status_message)
        if span.trace_state:
            texts.append(span.trace_state)
        for event in span.events:
            texts.append(event.name)
            is_plain &= self._attributes(event.attributes, texts, short)
        for link in span.links:
            texts.append(link.trace_state)
            is_plain &= self._attributes(link.attributes, texts, short)
        return is_plain

    def _attributes(self, attributes: Attributes, texts: list[str], short: list[str]) -> bool:
        known = self._known
        is_plain = attributes.keys() <= known or self._new_keys(attributes, short)
        for value in attributes.values():
            kind = type(value)
            if kind is str:
                if len(value) > _SHORT:
                    texts.append(value)
                elif value not in known:
                    short.append(value)
            elif kind not in PLAIN and not _gathered(value, texts):
                is_plain = False
        return is_plain

    def _new_keys(self, attributes: Attributes, short: list[str]) -> bool:
        """Adds keys that are not known; whether none of them calls its value a secret."""
        new = [key for key in attributes if key not in self._known]
        named = [key for key in new if self._is_named(key)]
        short += new if not named else (key for key in new if key not in named)
        return not named


def _gathered(value: Any, texts: list[str]) -> bool:
    """Adds the texts of a value that is none itself; whether it is a flat list, and nothing of it needs another look."""
    if type(value) in _LISTS:
        for item in value:
            if type(item) is str:
                texts.append(item)
            elif type(item) not in PLAIN:
                break
        else:
            return True
    try:
        gather(value, texts)
    except NotLookedThroughError:
        return False  # what was gathered of it does no harm
    return False


class _Rewrite:
    """Puts on spans what stands for their texts now."""

    def __init__(
        self,
        changed: Mapping[str, str],
        names: Callable[[str], bool] | None,
        shared: Mapping[int, Any],
        failed: Callable[[str], str],
    ) -> None:
        self._changed = changed
        self._names = names
        self._shared = shared
        self._failed = failed

    def text(self, text: str) -> str:
        return self._changed.get(text, text)

    def span(self, span: Span) -> Span:
        new = {
            "events": self.parts(span.events),
            "links": self.parts(span.links),
            "resource": self._shared.get(id(span.resource), span.resource),
            "scope": self._shared.get(id(span.scope), span.scope),
        }
        return _replace(self.part(span), new)

    def parts(self, parts: tuple[Any, ...]) -> tuple[Any, ...]:
        new = tuple(map(self.part, parts))
        return parts if all(one is other for one, other in zip(new, parts, strict=True)) else new

    def part(self, part: _Part) -> _Part:
        """A span, span event, link, resource or scope with other texts and attributes."""
        new: dict[str, Any] = {"attributes": self.attributes(part.attributes)}
        for name in _FIELDS:
            text = getattr(part, name, None)
            if text and text in self._changed:
                # A trace state that holds a pattern has no form any more in which it could be sent.
                new[name] = "" if name == "trace_state" else self._changed[text]
        return _replace(part, new)

    def attributes(self, attributes: Attributes) -> Attributes:
        new = {self.text(key): self.value(key, value) for key, value in attributes.items()}
        same = new.keys() == attributes.keys() and all(new[key] is attributes[key] for key in attributes)
        return attributes if same else new

    def value(self, key: str, value: Any) -> Any:
        if type(value) is not str:
            try:
                gather(value, [])
            except NotLookedThroughError as error:
                return self._failed(str(error))
        new = replaced(value, self.text, keys=True)
        if self._names is None:
            return new
        if self._names(key):
            return whole(new)
        return without_named(new, self._names)


def _replace(part: _Part, new: Mapping[str, Any]) -> _Part:
    changed = {name: value for name, value in new.items() if value is not getattr(part, name)}
    return part._replace(**changed) if changed else part


def whole(value: Any) -> Any:
    """What stands for the value of an attribute that its key calls a secret; a number is none."""
    if isinstance(value, str):
        return NAMED if value and not value.startswith("<masked") else value
    if isinstance(value, (tuple, list)):
        return tuple(map(whole, value))
    return NAMED if isinstance(value, (bytes, Mapping)) and value else value


def without_named(value: Any, names: Callable[[str], bool]) -> Any:
    """A value without what keys inside of it call a secret; the same object where there is none."""
    if isinstance(value, Mapping):
        new = {key: whole(item) if names(str(key)) else without_named(item, names) for key, item in value.items()}
        return value if all(new[key] is value[key] for key in new) else new
    if isinstance(value, (list, tuple)):
        items = [without_named(item, names) for item in value]
        return value if all(one is other for one, other in zip(items, value, strict=True)) else type(value)(items)
    return value
