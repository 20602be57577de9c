"""Langfuse's own attributes, as its SDKs (this one too) set them. mapping.md 3 to 5, 9.1, 11.0, 11.1, 12, 13, 14."""

from __future__ import annotations

import re
from typing import Any

from otel_langfuse import attributes as key
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._rule import Convention, Rule
from otel_langfuse.conventions._sources import (
    as_text,
    attr,
    computed,
    filled,
    filled_or_attr,
    first,
    first_attr,
    first_filled,
    json_object,
    lookup,
    resource_attr,
    resource_filled,
    seen,
    tags,
)
from otel_langfuse.conventions._view import View
from otel_langfuse.model import OBSERVATION_TYPES

IN_OBSERVATION = "langfuse.observation.metadata."
IN_TRACE = "langfuse.trace.metadata."

# The server reads these names in any case, after trimming (mapping.md 5).
LEVELS = {
    **dict.fromkeys(("DEBUG", "TRACE", "VERBOSE"), "DEBUG"),
    **dict.fromkeys(("DEFAULT", "INFO", "LOG", "NOTICE", "OK", "SUCCESS"), "DEFAULT"),
    **dict.fromkeys(("WARNING", "WARN"), "WARNING"),
    **dict.fromkeys(("ERROR", "FATAL", "CRITICAL"), "ERROR"),
}

# What only a generation has; SDKs for Python up to 3.3 sent generations as spans (mapping.md 11.0).
GENERATION_KEYS = (
    key.OBSERVATION_MODEL,
    key.OBSERVATION_COST_DETAILS,
    key.OBSERVATION_USAGE_DETAILS,
    key.OBSERVATION_COMPLETION_START_TIME,
    key.OBSERVATION_MODEL_PARAMETERS,
    key.OBSERVATION_PROMPT_NAME,
    key.OBSERVATION_PROMPT_VERSION,
)
_OLD_SDK = re.compile(r"(?:[0-2]\.|3\.[0-3](?:\.|$))")


def _generation_of_old_sdk(view: View) -> str | None:
    attributes = view.attributes
    if attributes.get(key.OBSERVATION_TYPE) != "span" or view.resource.attributes.get("telemetry.sdk.language") != "python":
        return None
    if view.scope.version and not _OLD_SDK.match(view.scope.version):
        return None
    return "generation" if any(name in attributes for name in GENERATION_KEYS) else None


def details(value: Any, parsed: Any) -> dict[str, Any] | None:
    """Usage or cost as a JSON object (13.1). Other JSON, and other types, are an empty object; no JSON is nothing."""
    if not js.truthy(value):
        return None
    if not isinstance(value, str):
        return {}
    if isinstance(parsed, dict):
        return parsed
    return None if parsed is None and value.strip() != "null" else {}


def public(value: Any) -> bool | None:
    """Exactly true or the text "true"; anything else that is there is false (mapping.md 4)."""
    return None if value is None else value is True or value == "true"


def _valid_time(value: Any) -> Any:
    """The time as it was sent if JavaScript would take it for one; old SDKs put it into quotes once more (mapping.md 5)."""
    if js.is_date(value):
        return value
    inner = js.parse_or_none(value) if isinstance(value, str) else None
    return inner if inner is not None and js.is_date(inner) else None


CONVENTION = Convention(
    name="langfuse",
    scopes=("langfuse-sdk", "langfuse-sdk.*", "otel-langfuse"),
    metadata=(
        (IN_OBSERVATION, key.OBSERVATION_METADATA),
        (IN_TRACE, key.TRACE_METADATA),
        ("langfuse.metadata.", ""),
    ),
    content=(key.TRACE_INPUT, key.TRACE_OUTPUT, key.TRACE_METADATA + "*", key.OBSERVATION_METADATA + "*"),
    rules=(
        Rule(
            "langfuse/type/old_sdk",
            scope="langfuse-sdk",
            sets={"type": seen(_generation_of_old_sdk, attr(key.OBSERVATION_TYPE))},
            spec="mapping.md 11.0",
        ),
        Rule(
            "langfuse/type/explicit",
            sets={"type": lookup(attr(key.OBSERVATION_TYPE), {name: name for name in OBSERVATION_TYPES})},
            spec="mapping.md 11.1",
        ),
        Rule(
            "langfuse/type/model",
            when=filled(key.OBSERVATION_MODEL),
            sets={"type": computed(lambda _: "generation", attr(key.OBSERVATION_MODEL))},
            spec="mapping.md 11.10",
        ),
        Rule(
            "langfuse/io/observation",
            sets={"input": attr(key.OBSERVATION_INPUT), "output": attr(key.OBSERVATION_OUTPUT)},
            spec="mapping.md 9.1",
        ),
        Rule(
            "langfuse/trace_io/trace",
            sets={
                "trace_input": filled_or_attr(key.TRACE_INPUT, key.OBSERVATION_INPUT),
                "trace_output": filled_or_attr(key.TRACE_OUTPUT, key.OBSERVATION_OUTPUT),
            },
            spec="mapping.md 9.1",
        ),
        Rule(
            "langfuse/model/name",
            sets={"model": filled(key.OBSERVATION_MODEL)},
            spec="mapping.md 12",
        ),
        Rule(
            "langfuse/parameters/json",
            but_scope="ai",
            sets={"model_parameters": json_object(key.OBSERVATION_MODEL_PARAMETERS)},
            spec="mapping.md 12.1",
        ),
        Rule(
            "langfuse/usage/details",
            sets={
                "usage_details": seen(
                    lambda view: details(
                        view.attributes.get(key.OBSERVATION_USAGE_DETAILS), view.json(key.OBSERVATION_USAGE_DETAILS)
                    ),
                    attr(key.OBSERVATION_USAGE_DETAILS),
                )
            },
            spec="mapping.md 13.1",
        ),
        Rule(
            "langfuse/cost/details",
            sets={
                "cost_details": seen(
                    lambda view: details(
                        view.attributes.get(key.OBSERVATION_COST_DETAILS), view.json(key.OBSERVATION_COST_DETAILS)
                    ),
                    attr(key.OBSERVATION_COST_DETAILS),
                )
            },
            spec="mapping.md 13, costDetails",
        ),
        Rule(
            "langfuse/prompt_name/attribute",
            sets={"prompt_name": first_attr(key.OBSERVATION_PROMPT_NAME, "langfuse.prompt.name")},
            spec="mapping.md 14",
        ),
        Rule(
            "langfuse/prompt_version/attribute",
            sets={"prompt_version": first_attr(key.OBSERVATION_PROMPT_VERSION, "langfuse.prompt.version")},
            spec="mapping.md 14",
        ),
        Rule(
            "langfuse/level/attribute",
            sets={"level": lookup(attr(key.OBSERVATION_LEVEL), LEVELS, lambda text: text.strip().upper())},
            spec="mapping.md 5, level",
        ),
        Rule(
            "langfuse/status_message/attribute",
            sets={"status_message": attr(key.OBSERVATION_STATUS_MESSAGE)},
            spec="mapping.md 5, statusMessage",
        ),
        Rule(
            "langfuse/completion_start_time/attribute",
            sets={"completion_start_time": computed(_valid_time, attr(key.OBSERVATION_COMPLETION_START_TIME))},
            spec="mapping.md 5, completionStartTime",
        ),
        Rule("langfuse/version/span", sets={"version": attr(key.VERSION)}, spec="mapping.md 4, version"),
        Rule(
            "langfuse/release/attribute",
            sets={"release": first(attr(key.RELEASE), resource_attr(key.RELEASE))},
            spec="mapping.md 4, release",
        ),
        Rule(
            "langfuse/environment/attribute",
            sets={"environment": first(filled(key.ENVIRONMENT), resource_filled(key.ENVIRONMENT))},
            spec="mapping.md 7",
        ),
        Rule("langfuse/trace_name/attribute", sets={"trace_name": attr(key.TRACE_NAME)}, spec="mapping.md 4, name"),
        Rule(
            "langfuse/user_id/attribute",
            sets={"user_id": as_text(filled("langfuse.user.id"))},
            spec="mapping.md 4, userId",
        ),
        Rule(
            "langfuse/user_id/metadata",
            sets={"user_id": as_text(first_filled(IN_OBSERVATION + "langfuse_user_id", IN_TRACE + "langfuse_user_id"))},
            spec="mapping.md 4, userId",
        ),
        Rule(
            "langfuse/session_id/attribute",
            sets={"session_id": as_text(filled("langfuse.session.id"))},
            spec="mapping.md 4, sessionId",
        ),
        Rule(
            "langfuse/session_id/metadata",
            sets={"session_id": as_text(first_filled(IN_OBSERVATION + "langfuse_session_id", IN_TRACE + "langfuse_session_id"))},
            spec="mapping.md 4, sessionId",
        ),
        Rule(
            "langfuse/public/attribute",
            sets={"public": computed(public, first_attr(key.TRACE_PUBLIC, "langfuse.public"))},
            spec="mapping.md 4, public",
        ),
        Rule(
            "langfuse/tags/attribute",
            sets={"tags": tags(key.TRACE_TAGS, "langfuse.tags", IN_OBSERVATION + "langfuse_tags", IN_TRACE + "langfuse_tags")},
            spec="mapping.md 4, tags",
        ),
    ),
)
