"""Values of model parameters, which Langfuse keeps as text or number (mapping.md 12)."""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions import _javascript as js

_PLAIN = frozenset({str, int, float})


def plain_parameters(parameters: Any) -> dict[str, Any]:
    """Text and numbers as they are, anything else as its JSON text: ``true`` is "true", null is "null"."""
    if type(parameters) is dict and _PLAIN.issuperset(map(type, parameters.values())):
        return parameters
    return {name: value if type(value) in _PLAIN else js.stringify(value) for name, value in js.as_object(parameters).items()}
