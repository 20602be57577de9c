"""Changes content for privacy: every text on a span goes through the user's function, on the worker. Pure.

Covered: attribute values, at any depth; span name and status message; names and attributes of span events; attributes of
links, resource and scope. It fails closed, value by value: where the function raises or answers with anything but text,
``FAILED`` is sent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from otel_langfuse.errors import ConfigError
from otel_langfuse.model import Attributes, Resource, Scope, Span, SpanEvent, SpanLink

_Part = TypeVar("_Part", Span, SpanEvent, SpanLink, Resource, Scope)

FAILED: Final = "<masked: mask failed>"
_MAX_DEPTH: Final = 64

Mask: TypeAlias = Callable[..., Any]
"""``mask(data)`` or ``mask(data=...)``: a text -> the text that may leave."""


class Masked(NamedTuple):
    """Spans that may leave, one for each that was given, the same object where nothing changed.

    ``failures`` counts the values for which the mask failed; ``detail`` names the error of the last one, not the value.
    """

    spans: list[Span]
    failures: int
    detail: str


def checked(mask: Any) -> Callable[[str], Any]:
    """The user's function as one that takes a text by position.

    Raises:
        ConfigError: it cannot be called with one value, neither by position nor as ``data=``.
    """
    if not callable(mask):
        raise ConfigError(f"mask={type(mask).__name__}: expected a function of one value, mask(data) or mask(data=...)")
    function: Callable[..., Any] = mask
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some built-ins have none
        return function
    if _binds(signature, ""):
        return function
    if _binds(signature, data=""):
        return lambda data: function(data=data)
    raise ConfigError("mask=...: expected a function of one value, mask(data) or mask(data=...)")


def _binds(signature: inspect.Signature, *args: str, **kwargs: str) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def mask_spans(spans: Sequence[Span], mask: Callable[[str], Any]) -> Masked:
    """Masks a batch. Resources and scopes that spans share stay shared.

    Args:
        spans: of one batch.
        mask: as ``checked`` returns it. The interpreter's exit (``SystemExit``, ``KeyboardInterrupt``) passes through.
    """
    work = _Work(mask)
    return Masked([work.span(span) for span in spans], work.failures, work.detail)


def mask_value(value: Any, mask: Callable[[str], Any], failures: list[str]) -> Any:
    """A value of no span, with every text in it masked; why that failed, where it did, is added to ``failures``."""
    work = _Work(mask)
    masked = work.value(value, 0)
    failures.extend([work.detail] * work.failures)
    return masked


class _Work:
    """One batch's masking: the function, what failed, and the shared parts that are done."""

    def __init__(self, mask: Callable[[str], Any]) -> None:
        self._mask = mask
        self._resources: dict[int, Resource] = {}  # by id(): the spans keep the originals alive meanwhile
        self._scopes: dict[int, Scope] = {}
        self.failures = 0
        self.detail = ""

    def span(self, span: Span) -> Span:
        changed = {
            "name": self.text(span.name),
            "status_message": self.text(span.status_message),
            "attributes": self.attributes(span.attributes),
            "events": self.parts(span.events, self.event),
            "links": self.parts(span.links, self.link),
            "resource": self.shared(span.resource, self._resources),
            "scope": self.shared(span.scope, self._scopes),
        }
        return _replaced(span, changed)

    def event(self, event: SpanEvent) -> SpanEvent:
        return _replaced(event, {"name": self.text(event.name), "attributes": self.attributes(event.attributes)})

    def link(self, link: SpanLink) -> SpanLink:
        return _replaced(link, {"attributes": self.attributes(link.attributes)})

    def shared(self, part: Any, done: dict[int, Any]) -> Any:
        masked = done.get(id(part))
        if masked is None:
            masked = done[id(part)] = _replaced(part, {"attributes": self.attributes(part.attributes)})
        return masked

    def parts(self, parts: tuple[Any, ...], one: Callable[[Any], Any]) -> tuple[Any, ...]:
        masked = tuple(one(part) for part in parts)
        return parts if all(new is old for new, old in zip(masked, parts, strict=True)) else masked

    def attributes(self, attributes: Attributes) -> Attributes:
        masked = {key: self.value(value, 0) for key, value in attributes.items()}
        return attributes if all(masked[key] is attributes[key] for key in masked) else masked

    def value(self, value: Any, depth: int) -> Any:
        """The value with every text in it masked; the same object where nothing changed."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if depth >= _MAX_DEPTH:
            return self.failed("nested too deeply")
        if isinstance(value, bytes):
            text = value.decode("utf-8", "surrogateescape")
            masked = self.text(text)
            return value if masked == text else str(masked).encode("utf-8", "surrogateescape")
        if isinstance(value, Mapping):
            changed = {key: self.value(item, depth + 1) for key, item in value.items()}
            return value if all(changed[key] is value[key] for key in changed) else changed
        if isinstance(value, Sequence):
            items = tuple(self.value(item, depth + 1) for item in value)
            return value if all(new is old for new, old in zip(items, value, strict=True)) else items
        return self.failed(f"a value of type {type(value).__name__}")

    def text(self, text: Any) -> Any:
        if text is None:
            return None
        try:
            masked = self._mask(text)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a user's mask raises, the value must not leave
            return self.failed(f"mask raised {type(error).__name__}")
        if not isinstance(masked, str):
            return self.failed(f"mask returned {type(masked).__name__}, not str")
        return text if masked == text else masked

    def failed(self, detail: str) -> str:
        self.failures += 1
        self.detail = detail
        return FAILED


def _replaced(part: _Part, changed: Mapping[str, Any]) -> _Part:
    new = {name: value for name, value in changed.items() if value is not getattr(part, name)}
    return part._replace(**new) if new else part
