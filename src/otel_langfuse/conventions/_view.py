"""A span as Langfuse's server sees it: its attributes after their way through OTLP, and the words to ask about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from otel_langfuse.conventions import _javascript as js
from otel_langfuse.model import Attributes, Resource, Scope, Span, SpanEvent

if TYPE_CHECKING:
    from otel_langfuse.conventions._plan import Plan

_PLAIN = frozenset({str, bool})
_MAX = js.MAX_SAFE_INTEGER
ReadContent = Callable[["View"], tuple[Any, Any]]


def received(value: Any, *, plain: bool = False) -> Any:
    """An attribute's value as the server has it after OTLP and JSON (mapping.md 1.2).

    NaN and infinity are null, integers above 2**53 are rounded, an empty sequence, bytes and mappings are the text of their
    OTLP encoding, None (an AnyValue that says nothing) is the text ``{}``. With ``plain``, our correction of that, an empty
    sequence is an empty list, a mapping an object, bytes their base64 text and None null.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if -js.MAX_SAFE_INTEGER <= value <= js.MAX_SAFE_INTEGER else float(value)
    if kind is float:
        return None if value - value != 0 else value  # only NaN and the infinities are not 0 here
    if kind is list or (kind is tuple and (value or plain)):
        return [received(item, plain=plain) for item in value]
    if plain and not isinstance(value, (str, int, float)):
        return _plain(value)
    return js.stringify(otlp_value(value)) if not isinstance(value, (str, int, float)) else received(_base(value))


def _plain(value: Any, depth: int = 0) -> Any:
    """A value that is not text, number or boolean as JSON. Deeper than 100 levels it ends."""
    if depth > 100 or value is None:
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return _base64(bytes(value))
    return received(value)


def _base(value: Any) -> Any:
    """An instance of a subclass (an enum with a string value, say) as its plain type."""
    for kind in (str, bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str(value)


def otlp_value(value: Any, depth: int = 0) -> dict[str, Any]:
    """An OTLP AnyValue in its JSON form (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding)."""
    if depth > 100:
        return {}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, (bytes, bytearray)):
        return {"bytesValue": _base64(bytes(value))}
    if isinstance(value, Mapping):
        pairs = [{"key": str(k), "value": otlp_value(v, depth + 1)} for k, v in value.items()]
        return {"kvlistValue": {"values": pairs} if pairs else {}}
    if isinstance(value, (list, tuple)):
        items = [otlp_value(item, depth + 1) for item in value]
        return {"arrayValue": {"values": items} if items else {}}
    return {}


def _base64(value: bytes) -> str:
    import binascii  # noqa: PLC0415 - rarely needed

    return binascii.b2a_base64(value, newline=False).decode()


def received_attributes(attributes: Attributes, *, plain: bool = False) -> tuple[dict[str, Any], list[str]]:
    """``received`` for every attribute, and the keys of those that are not text.

    The same dict where nothing of it is received otherwise. ``__proto__`` vanishes, as it does in a JavaScript object
    (mapping.md 1.2).
    """
    others: list[str] = []
    changed: dict[str, Any] = {}
    for key, value in attributes.items():
        kind = type(value)
        if kind is not str:
            others.append(key)
            if kind is not bool and (kind is not int or not -_MAX <= value <= _MAX) and (kind is not float or value - value != 0):
                changed[key] = received(value, plain=plain)
    if changed or type(attributes) is not dict or "__proto__" in attributes:
        attributes = {**attributes, **changed}
        attributes.pop("__proto__", None)
    return attributes, others


class ResourceView:
    """A resource as received, with what it says to every one of its spans."""

    __slots__ = ("attributes", "metadata", "shape")

    def __init__(self, resource: Resource) -> None:
        self.attributes, _ = received_attributes(resource.attributes)
        self.shape = "\0".join(self.attributes)
        self.metadata: Mapping[str, Any] = {}  # user metadata that stands on the resource


class ScopeView:
    """A scope as received. ``is_sdk``: one of Langfuse's own (mapping.md 3)."""

    __slots__ = ("is_sdk", "metadata", "name", "version")

    def __init__(self, scope: Scope) -> None:
        self.name = scope.name or ""
        self.version = scope.version
        self.is_sdk = self.name.startswith("langfuse-sdk")
        known = {"name": scope.name, "version": scope.version, "droppedAttributesCount": scope.dropped_attributes_count}
        self.metadata: dict[str, Any] = {key: value for key, value in known.items() if value is not None}
        self.metadata["attributes"], _ = received_attributes(scope.attributes)


class View:
    """One span under translation. ``content`` reads input and output of another view, for nested span events."""

    __slots__ = ("_parsed", "attributes", "content", "plan", "resource", "scope", "span")

    def __init__(
        self, span: Span, attributes: dict[str, Any], resource: ResourceView, scope: ScopeView, content: ReadContent
    ) -> None:
        self.span = span
        self.attributes = attributes
        self.resource = resource
        self.scope = scope
        self.content = content
        self.plan: Plan  # set by whoever reads the span by rules
        self._parsed: dict[str, Any] | None = None

    def json(self, key: str) -> Any:
        """The attribute as JSON; None where it is absent or not JSON. Parsed once for all who ask."""
        cache = self._parsed
        if cache is None:
            cache = self._parsed = {}
        if key not in cache:
            value = self.attributes.get(key)
            cache[key] = None if value is None else js.parse_or_none(value)
        return cache[key]

    def starting(self, prefixes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
        """The keys that start with one of a source's prefixes, and the rest of each, in the span's order."""
        return self.plan.starting[prefixes]

    def inside(self, event: SpanEvent) -> View:
        """The same span as if it had only the attributes of one of its span events."""
        bare = self.span._replace(events=())
        return View(bare, received_attributes(event.attributes)[0], self.resource, self.scope, self.content)
