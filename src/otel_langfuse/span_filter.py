"""Questions about a span, for ``should_export_span``: those that the official SDK has for it, answered by our tables.

    configure(should_export_span=lambda span: is_default_export_span(span) or span.name == "checkout")

Each takes a span as OpenTelemetry's SDK has it (``ReadableSpan``). None of them raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .pipeline._llm import SCOPES, has_llm_attributes, is_llm_scope

KNOWN_LLM_INSTRUMENTATION_SCOPE_PREFIXES: Final = SCOPES
"""Instrumentation scopes of LLM applications; each stands for those under it, too."""

_OURS: Final = frozenset({"otel-langfuse", "langfuse-sdk"})


def is_default_export_span(span: Any) -> bool:
    """Whether the default filter towards Langfuse keeps the span: of a known scope, or with what only such spans carry."""
    return is_llm_scope(_scope(span)) or has_llm_attributes(_attributes(span))


def is_langfuse_span(span: Any) -> bool:
    """Whether it was made by this package, or by Langfuse's own SDK."""
    return _scope(span) in _OURS


def is_genai_span(span: Any) -> bool:
    """Whether it carries an attribute of OpenTelemetry's GenAI conventions (``gen_ai.*``)."""
    return any(str(key).startswith("gen_ai.") for key in _attributes(span))


def is_known_llm_instrumentor(span: Any) -> bool:
    """Whether its instrumentation scope is a known one, whatever it carries."""
    return is_llm_scope(_scope(span))


def _scope(span: Any) -> str:
    return str(getattr(getattr(span, "instrumentation_scope", None), "name", "") or "")


def _attributes(span: Any) -> Mapping[str, Any]:
    found = getattr(span, "attributes", None)
    return found if isinstance(found, Mapping) else {}
