"""The dialect of OpenInference, which Phoenix and Arize read.

https://arize-ai.github.io/openinference/spec/semantic_conventions.html
Plain spans and events have no kind there: they speak it only as far as input, output, user, session, tags and metadata go.

Beside other attributes ``input.value`` and ``output.value`` are the observation's own content, word for word, because
Langfuse reads them before most families' keys (mapping.md 9.14). Left out are: content where the span has one of these two
keys already and Langfuse reads it elsewhere; parameters that name a model, and the kind of a span that has such, where the
observation has no model, because our correction would take it from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from otel_langfuse.conventions import _javascript as js

from . import _facts as facts
from ._counts import told
from ._json import as_text, object_json, parsed, to_json
from ._parts import Part
from ._row import Row, Subject, shown_first

KINDS = {
    "generation": "LLM",
    "embedding": "EMBEDDING",
    "agent": "AGENT",
    "tool": "TOOL",
    "retriever": "RETRIEVER",
    "chain": "CHAIN",
    "guardrail": "GUARDRAIL",
    "evaluator": "EVALUATOR",
}
_KINDS = frozenset(KINDS)
_GENERATION, _EMBEDDING, _AGENT = frozenset({"generation"}), frozenset({"embedding"}), frozenset({"agent"})
_TOOL, _RETRIEVER = frozenset({"tool"}), frozenset({"retriever"})
_EVERY: frozenset[str] = frozenset()

MAX_ITEMS = 500
"""Messages, documents or texts that are flattened; all of them are in ``input.value`` or ``output.value``."""

TOKEN_COUNTS = {
    "input": "prompt",
    "output": "completion",
    "total": "total",
    "input_cached_tokens": "prompt_details.cache_read",
    "input_cache_creation": "prompt_details.cache_write",
    "output_reasoning_tokens": "completion_details.reasoning",
    "output_audio_tokens": "completion_details.audio",
}
"""Bucket -> what stands after ``llm.token_count.``."""

COSTS = {"input": "prompt", "output": "completion", "total": "total"}

# OpenTelemetry's name of a provider -> ``llm.provider`` and ``llm.system``, where they differ from it.
_PROVIDERS: Mapping[str, tuple[str, str | None]] = {
    "azure.ai.openai": ("azure", "openai"),
    "azure.ai.inference": ("azure", None),
    "aws.bedrock": ("aws", None),
    "gcp.gen_ai": ("google", None),
    "gcp.gemini": ("google", None),
    "gcp.vertex_ai": ("google", "vertexai"),
    "mistral_ai": ("mistralai", "mistralai"),
    "x_ai": ("xai", "xai"),
    "moonshot_ai": ("moonshot", None),
    **{name: (name, None) for name in ("groq", "perplexity")},
}

_SPEC = "https://arize-ai.github.io/openinference/spec/semantic_conventions.html"
_TOOLS = "https://arize-ai.github.io/openinference/spec/tool_calling.html"
_EMBEDDINGS = "https://arize-ai.github.io/openinference/spec/embedding_spans.html"


# -- what may stand beside other attributes -----------------------------------------------------------------------------


def _content_is_free(subject: Subject) -> bool:
    given = subject.given or {}
    return ("input.value" not in given and "output.value" not in given) or subject.rule("io") == "openinference/io/value"


def _names_no_model(subject: Subject) -> bool:
    """Whether our correction finds no model in parameters of a call that has none (corrections/model/invocation_parameters)."""
    if subject.observation.model is not None or subject.given is None:
        return True
    parameters = parsed(subject.given.get("llm.invocation_parameters"))
    return not (isinstance(parameters, dict) and "model" in parameters)


# -- values -------------------------------------------------------------------------------------------------------------


def _content(side: str) -> Callable[[Subject], str | None]:
    return lambda subject: as_text(_side(subject, side))


def _side(subject: Subject, side: str) -> Any:
    """Input or output; the input without tool definitions where these stand in attributes, which Langfuse moves into it."""
    in_attributes = subject.given is not None or (subject.observation.type in KINDS and subject.tools())
    if in_attributes:
        return subject.content(side)
    return subject.own(side)


def _mime_type(side: str) -> Callable[[Subject], str | None]:
    def value(subject: Subject) -> str | None:
        content = _side(subject, side)
        if content is None:
            return None
        found = subject.parsed(side) if content is subject.own(side) else parsed(content)
        return "application/json" if isinstance(found, (dict, list)) else "text/plain"

    return value


def _model(subject: Subject) -> str | None:
    return as_text(subject.observation.model) or None


def _provider(place: int) -> Callable[[Subject], str | None]:
    def value(subject: Subject) -> str | None:
        name = subject.once(facts.provider)
        return None if name is None else _PROVIDERS.get(name, (name, name))[place]

    return value


def _parameters(subject: Subject) -> str | None:
    observation = subject.observation
    if not observation.model_parameters:
        return None
    if observation.type == "generation" and observation.model is None and "model" in observation.model_parameters:
        return None
    return object_json({name: value for name, value in observation.model_parameters.items() if value is not None})


_PLAIN = tuple((f"{place}.message.role", f"{place}.message.content") for place in range(32))
"""The two keys that most messages have."""


def _messages(side: str) -> Callable[[Subject], dict[str, Any] | None]:
    def value(subject: Subject) -> dict[str, Any] | None:
        found = subject.conversation(side)
        said = found.messages
        if found.instructions:
            said = [{"role": "system", "parts": found.instructions}, *said]
        flat: dict[str, Any] = {}
        place = 0
        for message in said:
            parts = message["parts"]
            if place < len(_PLAIN) and len(parts) == 1 and parts[0]["type"] == "text" and "name" not in message:
                role, content = _PLAIN[place]
                flat[role], flat[content] = message["role"], parts[0]["content"]
                place += 1
                continue
            for one in _flat_messages(message):
                if place >= MAX_ITEMS:
                    return flat
                prefix = f"{place}.message."
                for rest, item in one.items():
                    flat[prefix + rest] = item
                place += 1
        return flat or None

    return value


def _flat_messages(message: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """One message, and one more for each further result of a tool in it."""
    parts = message["parts"]
    if len(parts) == 1 and parts[0]["type"] == "text" and "name" not in message:
        yield {"role": message["role"], "content": parts[0]["content"]}
        return
    flat: dict[str, Any] = {"role": message["role"]}
    if "name" in message:
        flat["name"] = message["name"]
    calls, contents, results = 0, [], []
    for part in parts:
        kind = part["type"]
        if kind == "tool_call":
            flat |= _flat_call(f"tool_calls.{calls}.tool_call.", part)
            calls += 1
        elif kind == "tool_call_response":
            results.append(part)
        else:
            contents.append(part)
    if len(contents) == 1 and contents[0]["type"] == "text":
        flat["content"] = contents[0]["content"]
    else:
        for place, part in enumerate(contents[:MAX_ITEMS]):
            flat |= {f"contents.{place}.message_content.{rest}": item for rest, item in _flat_content(part).items()}
    if contents or calls or not results:
        yield flat
    for part in results:
        yield _flat_result(part)


def _flat_call(prefix: str, part: Part) -> dict[str, Any]:
    arguments = part.get("arguments")
    flat = {"id": part.get("id"), "function.name": part.get("name") or "", "function.arguments": as_text(arguments)}
    return {prefix + rest: item for rest, item in flat.items() if item is not None}


def _flat_result(part: Part) -> dict[str, Any]:
    flat = {"role": "tool", "tool_call_id": part.get("id"), "content": as_text(part.get("response"))}
    return {rest: item for rest, item in flat.items() if item is not None}


def _flat_content(part: Part) -> dict[str, Any]:
    kind = part["type"]
    if kind in ("text", "reasoning"):
        return {"type": kind, "text": as_text(part.get("content")) or ""}
    address = _address(part)
    modality = part.get("modality")
    if address is not None and modality in ("image", "audio", "video"):
        return {"type": modality, f"{modality}.{modality}.url": address}
    return {"type": "text", "text": to_json(part)}


def _address(part: Part) -> str | None:
    if part["type"] == "uri":
        return as_text(part.get("uri"))
    if part["type"] == "blob" and isinstance(part.get("content"), str):
        return f"data:{part.get('mime_type') or ''};base64,{part['content']}"
    return None


def _finish_reason(subject: Subject) -> str | None:
    found = facts.finish_reasons(subject)
    return found[0] if found else None


def _tools(subject: Subject) -> dict[str, Any] | None:
    return {f"{place}.tool.json_schema": to_json(tool) for place, tool in enumerate(subject.tools())} or None


def _token_counts(subject: Subject) -> dict[str, float] | None:
    return told(subject.observation.usage_details, TOKEN_COUNTS)


def _costs(subject: Subject) -> dict[str, float] | None:
    """In USD. The total is the sum of its two parts where it is not told."""
    details = subject.observation.cost_details
    if not details:
        return None
    numbers = {bucket: js.number(details[bucket]) for bucket in COSTS if isinstance(details.get(bucket), (int, float, str))}
    known = {COSTS[bucket]: cost for bucket, cost in numbers.items() if cost - cost == 0}
    if "total" not in known and known:
        known["total"] = sum(known.values())
    return known or None


def _documents(subject: Subject) -> dict[str, Any] | None:
    flat: dict[str, Any] = {}
    for place, document in enumerate(facts.documents(subject)[:MAX_ITEMS]):
        for name, item in document.items():
            value = item if name in ("id", "score") and isinstance(item, (str, int, float)) else as_text(item)
            flat[f"{place}.document.{name}"] = value
    return flat or None


def _embedded_texts(subject: Subject) -> dict[str, Any] | None:
    given = subject.parsed("input")
    if isinstance(given, dict):
        given = given.get("input")
    texts = given if isinstance(given, list) else [given]
    flat = {f"{place}.embedding.text": text for place, text in enumerate(texts[:MAX_ITEMS]) if isinstance(text, str) and text}
    return flat or None


ROWS = (
    Row("type", "openinference.span.kind", lambda s: KINDS[s.observation.type], _SPEC, _KINDS, _names_no_model),
    Row("model", "llm.model_name", _model, _SPEC, _KINDS - _EMBEDDING),
    Row("model", "embedding.model_name", _model, _EMBEDDINGS, _EMBEDDING),
    Row("provider", "llm.provider", _provider(0), _SPEC, _GENERATION),
    Row("provider", "llm.system", _provider(1), _SPEC, _GENERATION),
    Row("input", "input.value", _content("input"), _SPEC, _EVERY, _content_is_free),
    Row("input", "input.mime_type", _mime_type("input"), _SPEC, _EVERY, _content_is_free),
    Row("output", "output.value", _content("output"), _SPEC, _EVERY, _content_is_free),
    Row("output", "output.mime_type", _mime_type("output"), _SPEC, _EVERY, _content_is_free),
    Row("messages", "llm.input_messages.N", _messages("input"), _SPEC, _GENERATION, _content_is_free),
    Row("messages", "llm.output_messages.N", _messages("output"), _SPEC, _GENERATION, _content_is_free),
    Row("finish_reasons", "llm.finish_reason", _finish_reason, _SPEC, _GENERATION),
    Row("tools", "llm.tools.N", _tools, _TOOLS, _KINDS),
    Row("model_parameters", "llm.invocation_parameters", _parameters, _SPEC, _KINDS),
    Row("model_parameters", "embedding.invocation_parameters", _parameters, _EMBEDDINGS, _EMBEDDING),
    Row("usage_details", "llm.token_count.*", _token_counts, _SPEC, _KINDS),
    Row("cost_details", "llm.cost.*", _costs, _SPEC, _KINDS),
    Row("embeddings", "embedding.embeddings.N", _embedded_texts, _EMBEDDINGS, _EMBEDDING),
    Row("documents", "retrieval.documents.N", _documents, _SPEC, _RETRIEVER),
    Row("tool.name", "tool.name", facts.tool, _SPEC, _TOOL),
    Row("tool.call_id", "tool.id", facts.tool_call_id, _SPEC, _TOOL),
    Row("tool.description", "tool.description", lambda s: shown_first(s, "gen_ai.tool.description"), _SPEC, _TOOL),
    Row("tool.parameters", "tool.parameters", lambda s: shown_first(s, "gen_ai.tool.json_schema"), _SPEC, _TOOL),
    Row("agent.name", "agent.name", facts.agent, _SPEC, _AGENT),
    Row("trace.user_id", "user.id", lambda s: as_text(s.observation.trace.user_id), _SPEC),
    Row("trace.session_id", "session.id", lambda s: as_text(s.observation.trace.session_id), _SPEC),
    Row("trace.tags", "tag.tags", lambda s: list(s.observation.trace.tags) or None, _SPEC),
    Row("metadata", "metadata", lambda s: object_json(s.user_metadata()), _SPEC),
)
