"""What several dialects tell that is no field of an observation: provider, names of tools and agents, documents, errors.

They are among the span's own attributes, which translating shows in the metadata, or on the span itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ._json import as_text, parsed
from ._row import Subject, shown_first

# Other spellings -> the one of OpenTelemetry's conventions.
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
PROVIDERS: Mapping[str, str] = {
    **dict.fromkeys(("azure", "az.ai.openai", "azure_openai", "azureopenai"), "azure.ai.openai"),
    "az.ai.inference": "azure.ai.inference",
    **dict.fromkeys(("aws", "amazon", "bedrock", "aws_bedrock", "amazon-bedrock"), "aws.bedrock"),
    **dict.fromkeys(("google", "google_genai", "google_generativeai", "google.generative-ai"), "gcp.gen_ai"),
    **dict.fromkeys(("gemini", "google_gemini"), "gcp.gemini"),
    **dict.fromkeys(("vertexai", "vertex_ai", "google_vertexai", "google.vertex"), "gcp.vertex_ai"),
    **dict.fromkeys(("mistral", "mistralai"), "mistral_ai"),
    "xai": "x_ai",
    **dict.fromkeys(("watsonx", "watsonx.ai"), "ibm.watsonx.ai"),
    "moonshot": "moonshot_ai",
}
_NAMES = frozenset(PROVIDERS.values()) | {"openai", "anthropic", "cohere", "groq", "deepseek", "perplexity"}
# Names of libraries that speak to one provider only: how the names of instrumentations end.
_LIBRARIES = frozenset(
    {
        "openai",
        "anthropic",
        "cohere",
        "groq",
        "mistralai",
        "bedrock",
        "vertexai",
        "google_genai",
        "google_generativeai",
        "watsonx",
    }
)
_KEYS = (
    "gen_ai.provider.name",
    "gen_ai.system",
    "llm.provider",
    "llm.system",
    "ai.model.provider",
    "mlflow.llm.provider",
    "traceloop.association.properties.ls_provider",
)


def provider(subject: Subject) -> str | None:
    """Who answered, as OpenTelemetry names it; None where neither an attribute nor the instrumentation's name says."""
    found = shown_first(subject, *_KEYS) or as_text(subject.observation.metadata.get("ls_provider"))
    if not found:
        library = subject.scope.rpartition(".")[2]
        found = library if library in _LIBRARIES else None
        if found is None:
            return None
    return _official(found)


@lru_cache(maxsize=256)
def _official(said: str) -> str:
    name = said.strip('"').lower()
    first = name.partition(".")[0]  # Vercel: "openai.chat"
    return next((PROVIDERS.get(some, some) for some in (name, first) if some in PROVIDERS or some in _NAMES), name)


def tool(subject: Subject) -> str | None:
    """The tool's name: what the span says, else the observation's name."""
    said = shown_first(subject, "gen_ai.tool.name", "tool.name", "ai.toolCall.name", "flue.tool.name", "traceloop.entity.name")
    return said or as_text(subject.observation.name)


def tool_call_id(subject: Subject) -> str | None:
    return shown_first(subject, "gen_ai.tool.call.id", "tool.id", "ai.toolCall.id", "flue.tool.call_id")


def agent(subject: Subject) -> str | None:
    """The agent's name: what the span says, else the observation's name."""
    said = shown_first(subject, "gen_ai.agent.name", "agent.name", "agent_name", "traceloop.entity.name")
    return said or as_text(subject.observation.name)


def finish_reasons(subject: Subject) -> list[str] | None:
    """Why each of the answers ended."""
    found = [message["finish_reason"] for message in subject.conversation("output").messages if "finish_reason" in message]
    if found:
        return found
    said = parsed(shown_first(subject, "gen_ai.response.finish_reasons", "llm.finish_reason", "ai.response.finishReason"))
    reasons = said if isinstance(said, list) else [said]
    return [reason for reason in reasons if isinstance(reason, str) and reason] or None


def error_type(subject: Subject) -> str | None:
    """A class of errors, for observations that failed: what the span says, or the exception that it recorded.

    ``_OTHER`` where neither is known. https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/
    """
    if subject.observation.level != "ERROR":
        return None
    said = shown_first(subject, "error.type")
    if said is not None:
        return said
    for event in reversed(subject.span.events if subject.span is not None else ()):
        kind = event.attributes.get("exception.type") if event.name == "exception" else None
        if isinstance(kind, str) and kind:
            return kind
    return "_OTHER"


_TEXT = ("page_content", "content", "text", "document", "pageContent")


def documents(subject: Subject) -> list[dict[str, Any]]:
    """Documents of a retriever's output: ``content``, and ``id``, ``score`` and ``metadata`` where they are known."""
    found = subject.parsed("output")
    if isinstance(found, dict):
        found = next(
            (found[key] for key in ("documents", "docs", "results", "matches") if isinstance(found.get(key), list)), None
        )
    if not isinstance(found, list):
        return []
    made = []
    for item in found:
        inner = item.get("document") if isinstance(item, dict) else None
        document = _document({**item, **inner} if isinstance(inner, dict) else item)
        if document is None:
            return []
        made.append(document)
    return made


def _document(item: Any) -> dict[str, Any] | None:
    if isinstance(item, str):
        return {"content": item}
    if not isinstance(item, dict):
        return None
    text = next((item[key] for key in _TEXT if isinstance(item.get(key), str)), None)
    known: dict[str, Any] = {"content": text, "id": item.get("id"), "score": _score(item), "metadata": item.get("metadata")}
    return None if text is None and known["id"] is None else {name: value for name, value in known.items() if value is not None}


def _score(item: Mapping[str, Any]) -> float | None:
    score = item.get("score", item.get("relevance_score"))
    return score if isinstance(score, (int, float)) and not isinstance(score, bool) else None
