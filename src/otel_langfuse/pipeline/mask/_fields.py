"""Which attributes hold which field of an observation, in any family: what the conventions' tables say."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from otel_langfuse.conventions import CONVENTIONS
from otel_langfuse.pipeline.mask._draft import Place

# The privacy-relevant attributes that no rule reads, because Langfuse shows them as metadata or not at all.
_MORE: Final = {
    "input": (
        *(
            "gen_ai.task.input",
            "gen_ai.tool.args",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.definitions",
            "traceloop.entity.input",
        ),
        *("llm.openai.messages", "llm.openai.tools", "llm.openai.input", "llm.openai.prompt", "llm.prompt_template.*"),
        *("llm.tools.*", "llm.request.functions.*", "embedding.embeddings.*", "tool.parameters", "tool_arguments", "ai.prompt*"),
        *("haystack.*.input", "haystack.*.input_data", "haystack.agent.tools", "mlflow.spanInputs", "mlflow.chat.tools"),
        *("request_data", "flue.task.prompt", "db.statement", "db.query.text"),
    ),
    "output": (
        *("gen_ai.task.output", "gen_ai.tool.call.result", "traceloop.entity.output", "llm.openai.choices", "llm.openai.output"),
        *(
            "retrieval.documents.*",
            "reranker.output_documents.*",
            "tool_response",
            "final_result",
            "response_data",
            "mlflow.spanOutputs",
        ),
        *("haystack.*.output", "haystack.*.output_data", "flue.task.result", "flue.turn.output", "ai.response.*", "ai.result.*"),
    ),
    "metadata": ("metadata", "metadata.*"),
    "variables": ("llm.prompt_template.variables", "traceloop.prompt.template_variables*"),
    "user_id": ("gen_ai.request.user", "llm.openai.user", "user", "user.email", "user.name", "user.full_name"),
}
_SAME: Final = {"trace_input": "input", "trace_output": "output"}
_OWN: Final = {"name": "name", "status_message": "status_message"}  # fields of the span itself


class _Keys(NamedTuple):
    keys: frozenset[str]
    prefixes: tuple[str, ...]
    middles: tuple[tuple[str, str], ...]
    events: frozenset[str]

    def has(self, key: str) -> bool:
        if key in self.keys or key.startswith(self.prefixes):
            return True
        return any(key.startswith(start) and key.endswith(end) for start, end in self.middles)


@cache
def table() -> dict[str, _Keys]:
    """Field -> the attributes and span events that hold it."""
    found: dict[str, tuple[set[str], set[str], set[tuple[str, str]], set[str]]] = {}
    for convention in CONVENTIONS:
        for rule in convention.rules:
            for field, source in rule.sets.items():
                keys, prefixes, _, events = found.setdefault(_SAME.get(field, field), (set(), set(), set(), set()))
                keys |= source.keys
                prefixes.update(prefix for some in source.prefixes for prefix in some)
                events |= source.events
        for prefix, whole in convention.metadata:
            found.setdefault("metadata", (set(), set(), set(), set()))[0].update((whole, "langfuse.metadata"))
            found["metadata"][1].add(prefix)
    for field, names in _MORE.items():
        for name in names:
            keys, prefixes, middles, _ = found.setdefault(field, (set(), set(), set(), set()))
            start, star, end = name.partition("*")
            if not star:
                keys.add(name)
            elif end:
                middles.add((start, end))
            else:
                prefixes.add(start)
    return {
        field: _Keys(frozenset(keys - {""}), tuple(prefixes), tuple(middles), frozenset(events))
        for field, (keys, prefixes, middles, events) in found.items()
    }


def holds(place: Place, field: str) -> bool:
    """Whether what stands at a place is (part of) a field."""
    if place.where in ("span", "event"):
        return place.where == "span" and _OWN.get(field) == place.key
    if place.where == "value":
        return place.key == field
    keys = table().get(field)
    if keys is None:
        return False
    if place.where == "event attribute" and place.event in keys.events:
        return True
    return keys.has(place.key)


def fields() -> frozenset[str]:
    """The fields that there are."""
    return frozenset(table()) | {"comment"}
