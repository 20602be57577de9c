"""What LangChain says to a callback, as fields of an observation: messages in OpenAI's shape, models, parameters, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from json import dumps
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langchain_core.prompt_values import PromptValue

from otel_langfuse.classic._usage import used

_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "HumanMessageChunk": "user"}
_DEPTH: Final = 4
"""How deep inputs and outputs of chains are searched for messages."""

_MODEL_KEYS: Final = ("model", "model_name", "model_id", "deployment_name", "azure_deployment", "model_path")
_PARAMETERS: Final = (
    *("temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample"),
    *("max_new_tokens", "n", "seed", "stop", "frequency_penalty", "presence_penalty", "repetition_penalty", "reasoning_effort"),
    *("service_tier", "tool_choice", "parallel_tool_calls"),
)
_LS: Final = {"ls_temperature": "temperature", "ls_max_tokens": "max_tokens", "ls_stop": "stop"}
"""What every chat model says of itself in the metadata of its runs."""

_USAGES: Final = ("token_usage", "usage", "usage_metadata", "amazon-bedrock-invocationMetrics")
_COUNTS: Final = {
    "input": ("prompt_token_count", "inputTokenCount", "input_token_count", "prompt_eval_count"),
    "output": ("candidates_token_count", "outputTokenCount", "generated_token_count", "eval_count"),
    "total": ("total_token_count", "totalTokenCount"),
}
"""Names that only some providers have for them."""


def name_of(serialized: Mapping[str, Any] | None, given: Any, otherwise: str) -> str:
    """Of a run: the name it was given, else that of its class."""
    if given:
        return str(given)
    identity = (serialized or {}).get("id")
    found = (serialized or {}).get("name") or (identity[-1] if isinstance(identity, list) and identity else None)
    return str(found or otherwise)


# -- messages ----------------------------------------------------------------------------------------------------------------


def plain(value: Any, depth: int = 0) -> Any:
    """The same value, with the messages in it as JSON in OpenAI's shape."""
    if isinstance(value, BaseMessage):
        return message(value)
    if isinstance(value, PromptValue):
        return plain(value.to_messages(), depth)
    if depth < _DEPTH:
        if type(value) is dict:
            return {key: plain(one, depth + 1) for key, one in value.items()}
        if type(value) in (list, tuple):
            return [plain(one, depth + 1) for one in value]
    return value


def message(said: BaseMessage) -> dict[str, Any]:
    """One message: role and content, and of tools and names what it has."""
    role = getattr(said, "role", None) or _ROLES.get(said.type, said.type.removesuffix("MessageChunk").lower())
    made: dict[str, Any] = {"role": role, "content": said.content}
    for name in ("name", "tool_call_id", "artifact"):
        if (value := getattr(said, name, None)) is not None:
            made[name] = value
    calls = [_call(call) for call in getattr(said, "tool_calls", None) or ()]
    more = {key: value for key, value in said.additional_kwargs.items() if value and key not in ("tool_calls", "refusal")}
    if calls:
        made["tool_calls"] = calls
    elif theirs := said.additional_kwargs.get("tool_calls"):
        made["tool_calls"] = theirs
    if broken := getattr(said, "invalid_tool_calls", None):
        made["invalid_tool_calls"] = broken
    return {**more, **made}


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = call.get("args")
    text = arguments if isinstance(arguments, str) else dumps(arguments, default=str, ensure_ascii=False)
    return {"id": call.get("id"), "type": "function", "function": {"name": call.get("name"), "arguments": text}}


def asked(messages: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """The input of a generation: what it was asked, beside the tools that it was offered."""
    said = messages[0] if len(messages) == 1 else messages
    tools = params.get("tools") or params.get("functions")
    return (
        {"tools": [_tool(tool) for tool in tools], "messages": plain(said)} if isinstance(tools, list) and tools else plain(said)
    )


def _tool(tool: Any) -> Any:
    """As JSON, also where a model was given the tool itself."""
    name, description = getattr(tool, "name", None), getattr(tool, "description", None)
    if isinstance(tool, dict) or name is None:
        return tool
    return {"type": "function", "function": {"name": name, "description": description, "parameters": getattr(tool, "args", None)}}


# -- models --------------------------------------------------------------------------------------------------------------------


def model_of(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """The name of the model that is called."""
    found = next((params[key] for key in _MODEL_KEYS if params.get(key)), None) or metadata.get("ls_model_name")
    return None if found is None else str(found)


def parameters(params: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """What it was told beside its input."""
    found = {name: metadata[key] for key, name in _LS.items() if metadata.get(key) is not None}
    found |= {key: params[key] for key in _PARAMETERS if params.get(key) is not None}
    return found or None


def answered(result: LLMResult | None) -> dict[str, Any]:
    """The fields of what a model has answered; of nothing, none."""
    rows = [generation for generations in (result.generations if result else ()) for generation in generations]
    if result is None or not rows:
        return {}
    messages: list[Any] = [getattr(row, "message", None) for row in rows]
    outputs = [row.text if said is None else message(said) for row, said in zip(rows, messages, strict=True)]
    about: list[Any] = [
        getattr(said, "response_metadata", None) or row.generation_info or {} for row, said in zip(rows, messages, strict=True)
    ]
    overall = result.llm_output or {}
    fields: dict[str, Any] = {"output": outputs[0] if len(outputs) == 1 else outputs}
    names = (one.get("model_name") or one.get("model") for one in (*about, overall) if isinstance(one, Mapping))
    if name := next((name for name in names if name), None):
        fields["model"] = name
    if reason := next((one.get("finish_reason") or one.get("stop_reason") for one in about if isinstance(one, Mapping)), None):
        fields["metadata"] = {"finish_reason": reason}
    if counts := _usage(messages, [*about, overall]):
        fields["usage_details"] = counts
    return fields


def _usage(messages: Iterable[Any], about: Iterable[Any]) -> dict[str, int]:
    """LangChain's own counts, else those of the provider, wherever it puts them."""
    for said in messages:
        if counts := _counts(getattr(said, "usage_metadata", None)):
            return counts
    for one in about:
        for key in _USAGES:
            if isinstance(one, Mapping) and (counts := _counts(one.get(key))):
                return counts
    return {}


def _counts(usage: Any) -> dict[str, int]:
    if not usage:
        return {}
    given = dict(usage) if isinstance(usage, Mapping) else vars(usage)
    for name, keys in _COUNTS.items():
        number = next((given.pop(key) for key in keys if key in given), None)
        if number is not None:
            given[name] = sum(number) if isinstance(number, list) else number
    return dict(used(given).counts)
