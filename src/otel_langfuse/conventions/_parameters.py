"""Values of model parameters, which Langfuse keeps as text or number (mapping.md 12)."""

from __future__ import annotations

from typing import Any

from otel_langfuse.conventions import _javascript as js

_PLAIN = frozenset({str, int, float})
_FINISHED = "vercel/parameters/scope"


def finished_parameters(parameters: Any, rule: str | None) -> Any:
    """What a rule gave, as Langfuse keeps it: as it is where the Vercel rule did, which keeps nulls (mapping.md 12).

    What is finished stays as it is.
    """
    return parameters if rule == _FINISHED else plain_parameters(parameters)


def plain_parameters(parameters: Any) -> dict[str, Any]:
    """Text and numbers as they are, anything else as its JSON text: ``true`` is "true", null is "null"."""
    if type(parameters) is dict and _PLAIN.issuperset(map(type, parameters.values())):
        return parameters
    return {name: value if type(value) in _PLAIN else js.stringify(value) for name, value in js.as_object(parameters).items()}
