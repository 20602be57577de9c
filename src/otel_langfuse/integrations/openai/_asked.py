"""What a call of the openai library was given: what of it is meant for us, and what of the rest is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import openai
from opentelemetry.trace.propagation import get_current_span

from otel_langfuse.classic import _known, get_client, observation_id_of, trace_id_of
from otel_langfuse.tracing import TraceContext
from otel_langfuse.tracing._origin import NOTES
from otel_langfuse.tracing.ids import EXTERNAL_ID

OWN: Final = (
    "name",
    "metadata",
    "langfuse_prompt",
    "langfuse_public_key",
    "trace_id",
    "parent_observation_id",
    "session_id",
    "user_id",
    "tags",
)
"""Keyword arguments that Langfuse's own drop-in takes, in its classic and its newer versions."""

_IN_METADATA: Final = {"langfuse_session_id": "session_id", "langfuse_user_id": "user_id", "langfuse_tags": "tags"}
"""Keys of ``metadata`` by which version 3 and later say what is of the trace."""

_PARAMETERS: Final = (
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "seed", "stop"),
    *("frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "service_tier", "reasoning_effort", "verbosity"),
    *("parallel_tool_calls", "truncation", "modalities", "dimensions", "encoding_format"),
)
_NESTED: Final = (
    ("reasoning", "effort", "reasoning_effort"),
    ("reasoning", "summary", "reasoning_summary"),
    ("text", "verbosity", "verbosity"),
)
_FORMATS: Final = ("response_format", "text_format")
_TOOLS: Final = ("tools", "tool_choice", "functions", "function_call")

_NAMES: Final = {"embedding": "OpenAI-embedding"}
_NAME: Final = "OpenAI-generation"

_UNSET: Final = tuple(found for name in ("NotGiven", "Omit") if isinstance(found := getattr(openai, name, None), type))


class Asked(NamedTuple):
    """One call, sorted: ``fields`` of the observation, ``trace`` of its trace."""

    name: str
    fields: dict[str, Any]
    trace: dict[str, Any]
    trace_context: TraceContext | None
    public_key: str | None


def taken(kwargs: dict[str, Any], own: frozenset[str]) -> dict[str, Any]:
    """Takes out of a call's keyword arguments what is meant for us.

    ``metadata`` is for both: OpenAI gets it where the call says ``store=True``, as with Langfuse's own drop-in, and without the
    keys that are ours; else it is not told what was written for Langfuse.
    """
    found = {name: kwargs.pop(name) for name in own & kwargs.keys() if not isinstance(kwargs[name], _UNSET)}
    metadata = found.get("metadata")
    if metadata is not None and kwargs.get("store") is True:
        if isinstance(metadata, Mapping):
            metadata = {key: one for key, one in metadata.items() if key not in _IN_METADATA}
        kwargs["metadata"] = metadata
    return found


def asked(kind: str, kwargs: Mapping[str, Any], ours: Mapping[str, Any]) -> Asked:
    """Sorts what a call was given.

    Args:
        kind: ``chat``, ``completion``, ``responses`` or ``embedding``.
        kwargs: what OpenAI is given.
        ours: what ``taken`` took.
    """
    given = {key: value for key, value in kwargs.items() if value is not None and not isinstance(value, _UNSET)}
    metadata, trace = _metadata(ours)
    metadata |= {key: _schema(given[key]) for key in _FORMATS if key in given}
    fields = {
        "model": given.get("model"),
        "input": _INPUTS[kind](given),
        "model_parameters": parameters(given) or None,
        "metadata": metadata or None,
        "prompt": ours.get("langfuse_prompt"),
    }
    context = _trace_context(ours, trace)
    return Asked(str(ours.get("name") or _NAMES.get(kind, _NAME)), fields, trace, context, ours.get("langfuse_public_key"))


def _metadata(ours: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the observation, and of the trace what the call or the metadata says of it."""
    given = ours.get("metadata")
    if given is not None and not isinstance(given, Mapping):
        dump = getattr(given, "model_dump", None)
        given = dump(mode="json") if callable(dump) else {"metadata": given}
    rest = dict(given or {})
    trace = {field: rest.pop(key) for key, field in _IN_METADATA.items() if key in rest}
    trace |= {field: ours[field] for field in _IN_METADATA.values() if ours.get(field) is not None}
    return rest, trace


def _trace_context(ours: Mapping[str, Any], trace: dict[str, Any]) -> TraceContext | None:
    """The trace that was named, any text, and the parent in it; None where that is where the program is anyway."""
    named, parent = ours.get("trace_id"), ours.get("parent_observation_id")
    if not named:
        if parent:
            NOTES.note("parent_observation_id", "parent_observation_id is left out: expected trace_id beside it")
        return None
    trace_id = trace_id_of(str(named))
    if trace_id != str(named):
        trace["metadata"] = {EXTERNAL_ID: str(named)}
    if parent:
        return {"trace_id": trace_id, "parent_span_id": observation_id_of(str(parent))}
    if f"{get_current_span().get_span_context().trace_id:032x}" == trace_id:
        return None
    root = _known.find(get_client(public_key=ours.get("langfuse_public_key")).client, trace_id) if _known.is_used() else None
    return {"trace_id": trace_id} if root is None else {"trace_id": trace_id, "parent_span_id": root.id}


def parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the model was told beside its input: only what the call says, no defaults."""
    found = {key: given[key] for key in _PARAMETERS if key in given}
    for outer, inner, name in _NESTED:
        holder = given.get(outer)
        value = holder.get(inner) if isinstance(holder, Mapping) else getattr(holder, inner, None)
        if value is not None:
            found[name] = value
    return found


def _schema(value: Any) -> Any:
    """Of a class that the answer is to be parsed into: its JSON schema."""
    made = getattr(value, "model_json_schema", None)
    return made() if isinstance(value, type) and callable(made) else value


# -- inputs ------------------------------------------------------------------------------------------------------------------


def _with_tools(given: Mapping[str, Any], key: str, value: Any) -> Any:
    tools = {name: given[name] for name in _TOOLS if name in given}
    return value if not tools else {**tools, key: value} if value is not None else tools


def _chat(given: Mapping[str, Any]) -> Any:
    return _with_tools(given, "messages", given.get("messages"))


def _responses(given: Mapping[str, Any]) -> Any:
    """As messages, the instructions before them."""
    said, instructions = given.get("input"), given.get("instructions")
    if instructions is not None:
        system = {"role": "system", "content": instructions}
        said = (
            [system, *said]
            if isinstance(said, list)
            else [system]
            if said is None
            else [system, {"role": "user", "content": said}]
        )
    return _with_tools(given, "input", said)


_INPUTS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "chat": _chat,
    "responses": _responses,
    "completion": lambda given: given.get("prompt"),
    "embedding": lambda given: given.get("input"),
}
