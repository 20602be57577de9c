"""What OpenAI has answered, as fields of an observation. Answers of other servers may lack anything."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_langfuse.classic._usage import used

_BYTES_OF_A_NUMBER: Final = 4

_AMISS: Final = {"failed": "ERROR", "incomplete": "WARNING"}
"""Status of an answer of the Responses API -> level."""


def answered(kind: str, response: Any, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a whole answer says.

    Args:
        kind: ``chat``, ``completion``, ``responses`` or ``embedding``.
        response: one of the library's models, or anything that looks like it.
        parameters: of the request, to which the answer's service tier is added: it is the one that has answered.
    """
    fields = {"model": part(response, "model"), **_ANSWERS[kind](response), **usage_fields(part(response, "usage"))}
    tier = part(response, "service_tier")
    if tier is not None:
        fields["model_parameters"] = {**parameters, "service_tier": tier}
    return fields


def usage_fields(usage: Any) -> dict[str, Any]:
    """Counts, those of cached, reasoning and audio tokens apart; and the price, where the server says it (OpenRouter's does)."""
    if usage is None:
        return {}
    fields: dict[str, Any] = {}
    if counts := used(usage).counts:
        fields["usage_details"] = dict(counts)
    cost = part(usage, "cost")
    if isinstance(cost, (int, float)) and not isinstance(cost, bool):
        fields["cost_details"] = {"total": float(cost)}
    return fields


def part(value: Any, name: str) -> Any:
    """A field of a model or of a JSON object; None if it is not there."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def plain(value: Any) -> Any:
    """One of the library's models as JSON, without what is null."""
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    dump = getattr(value, "model_dump", None)
    if not callable(dump):
        return value
    try:
        return dump(mode="json", exclude_none=True, warnings=False)
    except Exception:  # noqa: BLE001 - a class of the user's, which its own schema cannot write; its picture is safe
        return value


def _chat(response: Any) -> dict[str, Any]:
    choices = part(response, "choices") or ()
    messages = [plain(part(choice, "message")) for choice in choices]
    return {"output": _only(messages), "metadata": _finish_reason(choices)}


def _completion(response: Any) -> dict[str, Any]:
    choices = part(response, "choices") or ()
    return {"output": _only([part(choice, "text") for choice in choices]), "metadata": _finish_reason(choices)}


def _finish_reason(choices: Any) -> dict[str, Any] | None:
    reasons = [part(choice, "finish_reason") for choice in choices]
    return {"finish_reason": _only(reasons)} if any(reasons) else None


def _only(values: list[Any]) -> Any:
    """The only one as it is; several as a list."""
    return values[0] if len(values) == 1 else values or None


def _responses(response: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"output": _only(plain(part(response, "output") or []))}
    if identity := part(response, "id"):
        fields["metadata"] = {"response_id": identity}
    if level := _AMISS.get(part(response, "status") or ""):
        why = part(part(response, "error"), "message") or part(part(response, "incomplete_details"), "reason")
        fields |= {"level": level, "status_message": why or part(response, "status")}
    return fields


def _embedding(response: Any) -> dict[str, Any]:
    """Not the vectors, which nobody reads: how many, and of how many numbers."""
    data = part(response, "data") or ()
    vector = part(data[0], "embedding") if data else None
    size = len(b64decode(vector)) // _BYTES_OF_A_NUMBER if isinstance(vector, str) else len(vector or ())
    return {"output": {"dimensions": size, "count": len(data)}}


_ANSWERS: Final[Mapping[str, Callable[[Any], dict[str, Any]]]] = {
    "chat": _chat,
    "completion": _completion,
    "responses": _responses,
    "embedding": _embedding,
}
