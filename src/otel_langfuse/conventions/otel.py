"""What plain OpenTelemetry says of any span: name, status, resource, and conventions that are not about LLMs."""

from __future__ import annotations

from opentelemetry.semconv.attributes.service_attributes import SERVICE_VERSION

from otel_langfuse.attributes import SESSION_ID, USER_ID
from otel_langfuse.conventions._rule import Convention, Rule, truthy
from otel_langfuse.conventions._sources import (
    as_text,
    attr,
    computed,
    const,
    filled,
    first,
    resource_attr,
    resource_filled,
    seen,
)

STATUS_ERROR = 2
_ENVIRONMENT_NAME = "deployment.environment.name"
_ENVIRONMENT_OLD = "deployment.environment"  # its name before semantic conventions 1.27

CONVENTION = Convention(
    name="otel",
    rules=(
        Rule("otel/type/span", sets={"type": const("span")}, spec="mapping.md 11, else SPAN"),
        Rule(
            "otel/type/model",
            when=filled("model"),
            sets={"type": computed(lambda _: "generation", attr("model"))},
            spec="mapping.md 11.10",
        ),
        Rule("otel/model/bare", sets={"model": filled("model")}, spec="mapping.md 12"),
        Rule("otel/name/span", sets={"name": seen(lambda view: view.span.name)}, spec="mapping.md 6"),
        Rule(
            "otel/io/bare",
            sets={"input": attr("input"), "output": attr("output")},
            claims=truthy,
            spec="mapping.md 9.15",
        ),
        Rule(
            "otel/level/status",
            sets={"level": seen(lambda view: "ERROR" if view.span.status_code == STATUS_ERROR else None)},
            spec="mapping.md 5, level",
        ),
        Rule("otel/level/default", sets={"level": const("DEFAULT")}, spec="mapping.md 5, level"),
        Rule(
            "otel/status_message/status",
            sets={"status_message": seen(lambda view: view.span.status_message)},
            spec="mapping.md 5, statusMessage",
        ),
        Rule(
            "otel/version/service",
            sets={"version": resource_attr(SERVICE_VERSION)},
            spec="mapping.md 4, version",
        ),
        Rule(
            "otel/environment/name",
            sets={"environment": first(filled(_ENVIRONMENT_NAME), resource_filled(_ENVIRONMENT_NAME))},
            spec="mapping.md 7",
        ),
        Rule(
            "otel/environment/deployment",
            sets={"environment": first(filled(_ENVIRONMENT_OLD), resource_filled(_ENVIRONMENT_OLD))},
            spec="mapping.md 7",
        ),
        Rule("otel/user_id/attribute", sets={"user_id": as_text(filled(USER_ID))}, spec="mapping.md 4, userId"),
        Rule(
            "otel/session_id/attribute",
            sets={"session_id": as_text(filled(SESSION_ID))},
            spec="mapping.md 4, sessionId",
        ),
    ),
)
