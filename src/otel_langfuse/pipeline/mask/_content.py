"""No prompt or completion at all: the preset ``content``. What is known to be structure stays; everything else goes.

It names what stays and not what goes, so that an instrumentation that nobody has seen yet gives nothing away. Numbers and truth
values stay, because they are usage, times and settings; lists of numbers go, because they are embeddings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from otel_langfuse.pipeline.mask._ask import Work, parsed
from otel_langfuse.pipeline.mask._draft import Place

GONE: Final = "<masked: content>"
_MAX_STRUCTURE: Final = 200
"""Characters of a value that may be an id or a name."""

# Keys of texts that stay: models, ids, types, names of operations, times, addresses of services. ``*``: any one segment or more.
_STRUCTURE: Final = """
ai.model.id ai.model.provider ai.operationId operation.name ai.response.id ai.response.model ai.response.timestamp
ai.response.finishReason ai.toolCall.id ai.toolCall.name ai.telemetry.functionId ai.settings.*
gen_ai.operation.name gen_ai.system gen_ai.provider.name gen_ai.output.type gen_ai.conversation.id gen_ai.sdk.version
gen_ai.request.model gen_ai.request.encoding_formats gen_ai.request.reasoning_effort gen_ai.request.service_tier
gen_ai.response.id gen_ai.response.model gen_ai.response.finish_reasons gen_ai.response.reasoning_effort
gen_ai.agent.id gen_ai.agent.name gen_ai.agent.call.id gen_ai.tool.name gen_ai.tool.type gen_ai.tool.call.id
gen_ai.task.id gen_ai.task.name gen_ai.task.parent.id gen_ai.task.status gen_ai.workflow.name gen_ai.evaluation.name
gen_ai.openai.*.service_tier gen_ai.openai.*.system_fingerprint openai.*.service_tier openai.*.system_fingerprint
openai.api.type anthropic.message.stop_reason anthropic.response.service_tier anthropic.thinking.type
openinference.span.kind input.mime_type output.mime_type llm.model_name llm.provider llm.system llm.finish_reason
llm.request.type llm.request.model llm.request.model_name llm.response.model llm.response.model_name llm.response.id
llm.openai.id llm.openai.model llm.openai.object llm.openai.service_tier llm.openai.system_fingerprint
embedding.model_name reranker.model_name tool.name agent.name agent_name graph.node.id graph.node.parent_id
llm.prompt_template.version traceloop.span.kind traceloop.entity.name traceloop.workflow.name
traceloop.association.properties.user_id traceloop.association.properties.userId
traceloop.association.properties.session_id traceloop.association.properties.sessionId
traceloop.association.properties.ls_provider traceloop.association.properties.ls_model_name
langfuse.observation.type langfuse.observation.level langfuse.observation.model.name langfuse.observation.prompt.name
langfuse.observation.completion_start_time langfuse.environment langfuse.release langfuse.version
langfuse.user.id langfuse.session.id user.id session.id enduser.id
genkit:type genkit:metadata:subtype genkit:state mlflow.spanType mlflow.llm.model mlflow.message.format mlflow.traceRequestId
haystack.component.type haystack.component.name haystack.component.fully_qualified_type haystack.tool.name
litellm.call_id litellm.trace_id litellm.provider.model logfire.span_type logfire.exception.fingerprint
flue.tool.name flue.task.id flue.task.agent openlit.agent.version_hash
model model_name error.type exception.type error.code
http.method http.request.method http.route http.scheme url.scheme server.address network.protocol.*
rpc.system rpc.service rpc.method db.system db.system.name db.operation.name messaging.system messaging.operation.name
code.function code.function.name code.namespace code.filepath code.file.path thread.name
service.* telemetry.* deployment.* host.name host.arch os.type os.version process.runtime.* k8s.* cloud.* container.id
""".split()  # noqa: SIM905 - two hundred strings
# JSON objects of numbers and settings: their numbers stay, and texts under these names.
_SETTINGS: Final = frozenset(
    (
        *("langfuse.observation.model.parameters", "langfuse.observation.usage_details", "langfuse.observation.cost_details"),
        *("llm.invocation_parameters", "embedding.invocation_parameters", "mlflow.chat.tokenUsage", "gen_ai.usage.raw"),
        *("llm.openai.usage", "model_config"),
    )
)
_SETTING_NAMES: Final = frozenset(("model", "encoding_format", "reasoning_effort", "service_tier", "tool_choice", "effort"))
_EVENTS: Final = re.compile(r"exception|gen_ai\.[a-z_.]{1,60}|First Token Stream Event|mlflow\.chunk\.item\.\d{1,9}")


_OPERATIONS: Final = frozenset(
    (
        *("chat", "completion", "text_completion", "generate_content", "embeddings", "embedding", "execute_tool", "invoke_agent"),
        *("create_agent", "invoke_workflow", "retrieval", "rerank", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"),
        *("haystack.pipeline.run", "haystack.component.run", "haystack.agent.run", "ai.generateText", "ai.streamText"),
    )
)


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(name).replace(r"\*", ".+") for name in names))


_KEPT: Final = _pattern(_STRUCTURE)


def mask_content(places: Iterable[Place], _: Work) -> None:
    """Leaves structure and usage on the spans, and nothing of what was said."""
    for place in places:
        new = _of(place)
        if new is not place.value:
            place.holder[place.key] = new


def names_itself(name: str, attributes: Mapping[str, Any]) -> bool:
    """Whether a span is called by an operation's name and by values of its own that stay: ``chat gpt-4o``."""
    known = {word for key, value in attributes.items() if isinstance(value, str) and _stays(key, value) for word in value.split()}
    return len(name) <= _MAX_STRUCTURE and all(word in known or word in _OPERATIONS for word in name.split())


def _stays(key: str, value: Any) -> bool:
    return _is_structure(key) and _is_short(value)


@lru_cache(4096)  # what instrumentations call their attributes; keys that somebody makes up push each other out
def _is_structure(key: str) -> bool:
    return _KEPT.fullmatch(key) is not None


def _of(place: Place) -> Any:
    value = place.value
    if place.where == "event" and isinstance(value, str):
        return value if _EVENTS.fullmatch(value) else GONE
    if place.where == "span" and place.key == "name" and names_itself(value, place.beside):
        return value
    if place.where not in ("span", "value") and _stays(place.key, value):
        return value
    return _settings(value) if place.key in _SETTINGS else _gone(value)


def _is_short(value: Any) -> bool:
    """Whether it may be an id or a name, or a list of such."""
    if isinstance(value, str):
        return len(value) <= _MAX_STRUCTURE
    if isinstance(value, (list, tuple)):
        return all(isinstance(item, str) and len(item) <= _MAX_STRUCTURE for item in value)
    return isinstance(value, (bool, int, float))


def _gone(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)) or value in ("", (), []):
        return value
    return GONE


def _settings(value: Any) -> Any:
    settings = parsed(value) if isinstance(value, str) else value
    if not isinstance(settings, Mapping):
        return _gone(value)
    kept = _numbers(settings)
    return value if kept == settings else json.dumps(kept)


def _numbers(value: Any, name: str = "", depth: int = 0) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping) and depth < 8:
        return {key: _numbers(item, key, depth + 1) for key, item in value.items()}
    if isinstance(value, str) and name in _SETTING_NAMES and len(value) <= _MAX_STRUCTURE:
        return value
    return GONE if not isinstance(value, Sequence) or value else value
