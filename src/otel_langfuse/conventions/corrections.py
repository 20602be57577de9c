"""Where we knowingly read more than Langfuse's server does: on by default, off with ``corrections=False`` (``--as-server``).

Rules here are rows like any other, with the reason for each; ``precedence.CORRECTED`` says whom they overrule. What they read,
and how, is in ``_corrections.py``. What concerns a finished observation (``_repairs.py``) or several of a batch (``_batch.py``)
is not a row. Each has an entry in ``conformance/known.toml``.
"""

from __future__ import annotations

from otel_langfuse import attributes as key
from otel_langfuse.conventions import _corrections as read
from otel_langfuse.conventions import _javascript as js
from otel_langfuse.conventions._messages import INPUT_MESSAGES, OUTPUT_MESSAGES, SYSTEM_INSTRUCTIONS
from otel_langfuse.conventions._openai import usage_buckets
from otel_langfuse.conventions._rule import Convention, Rule, always, truthy
from otel_langfuse.conventions._sources import (
    as_text,
    attr,
    computed,
    filled,
    first,
    first_filled,
    json_at,
    json_attr,
    lookup,
    seen,
    total_cost,
    under,
)
from otel_langfuse.model import OBSERVATION_TYPES

CONVENTION = Convention(
    name="corrections",
    metadata=((read.ASSOCIATIONS, ""),),
    not_metadata=(*read.USER_ASSOCIATIONS, *read.SESSION_ASSOCIATIONS),
    rules=(
        Rule(
            "corrections/type/any_case",
            sets={"type": lookup(attr(key.OBSERVATION_TYPE), {name: name for name in OBSERVATION_TYPES}, str.lower)},
            spec="mapping.md 11.1",
            reason="an explicit type in capitals is ignored by the server",
        ),
        Rule(
            "corrections/type/openinference_kind",
            sets={"type": lookup(attr("openinference.span.kind"), {**read.OPENINFERENCE_KINDS}, str.upper)},
            spec="mapping.md 11.2; https://arize-ai.github.io/openinference/spec/semantic_conventions.html",
            reason="kinds that the server does not know become plain spans",
        ),
        Rule(
            "corrections/type/operation",
            sets={"type": lookup(attr("gen_ai.operation.name"), read.OPERATIONS, str.lower)},
            spec="mapping.md 11.3; families.md 2",
            reason="operations that instrumentations really send and the server does not know",
        ),
        Rule(
            "corrections/type/traceloop_workflow",
            sets={"type": lookup(attr("traceloop.span.kind"), {"workflow": "chain"})},
            spec="families.md",
            reason="Traceloop's LangChain workflows call themselves agents, whatever they run",
        ),
        Rule(
            "corrections/type/logfire_log",
            sets={"type": lookup(attr("logfire.span_type"), {"log": "event"})},
            spec="https://logfire.pydantic.dev/docs/",
            reason="a log record of logfire is a moment, not a span",
        ),
        Rule(
            "corrections/type/traceloop_kind",
            sets={"type": lookup(attr("traceloop.span.kind"), read.TRACELOOP_KINDS)},
            spec="mapping.md 11, not consulted",
            reason="workflows, agents and tools of Traceloop's decorators are plain spans on the server",
        ),
        Rule(
            "corrections/type/mlflow",
            sets={"type": lookup(computed(read.unquoted, attr("mlflow.spanType")), read.MLFLOW_TYPES)},
            spec="mapping.md 11, not consulted; families.md 1",
            reason="MLflow says the type in so many words; the server guesses from a stray model attribute",
        ),
        Rule(
            "corrections/type/agent_name",
            sets={"type": seen(read.agent_without_operation, attr("agent_name"), attr("gen_ai.agent.name"))},
            spec="mapping.md 11, not consulted",
            reason="agent runs of older pydantic-ai and logfire are spans, or generations because they name a model",
        ),
        Rule(
            "corrections/type/stray_model",
            sets={"type": seen(read.stray_model, attr("model"))},
            spec="mapping.md 11.10",
            reason="any span with an attribute called model becomes a generation on the server, a car's model too",
        ),
        Rule(
            "corrections/status_message/exception",
            sets={"status_message": seen(read.exception_text, events=(read.EXCEPTION,))},
            spec="mapping.md 8.5",
            reason="the server drops exception span events, so a failed span would not say why",
        ),
        Rule(
            "corrections/status_message/error_type",
            when=seen(lambda view: view.span.status_code == read.STATUS_ERROR and not view.span.status_message),
            sets={"status_message": as_text(filled("error.type"))},
            spec="https://opentelemetry.io/docs/specs/semconv/registry/attributes/error/",
            reason="a failed span that names only its error.type would not say why",
        ),
        Rule(
            "corrections/level/logfire",
            sets={"level": computed(read.logfire_level, attr("logfire.level_num"))},
            spec="https://logfire.pydantic.dev/docs/",
            reason="logfire's levels are not read by the server",
        ),
        Rule(
            "corrections/name/logfire_stream",
            sets={"name": seen(read.logfire_name, attr("logfire.msg_template"))},
            spec="families.md 6",
            reason="a message with the time that a stream took is a new name for every call",
        ),
        Rule(
            "corrections/name/model_call",
            sets={"name": seen(read.not_the_tools_name, attr("gen_ai.tool.name"))},
            spec="mapping.md 6",
            reason="a model's call that names the tool it chose would be called like the tool",
        ),
        Rule(
            "corrections/level/exception",
            sets={"level": seen(read.exception_level, events=(read.EXCEPTION,))},
            spec="mapping.md 8.5",
            reason="a span that recorded an exception and set no status is shown as if nothing had happened",
        ),
        Rule(
            "corrections/io/system_instructions",
            when=filled(SYSTEM_INSTRUCTIONS),
            sets={
                "input": seen(read.instructions_alone, attr(SYSTEM_INSTRUCTIONS)),
                "output": seen(
                    lambda view: view.attributes.get(OUTPUT_MESSAGES) if read.instructions_alone(view) else None,
                    attr(OUTPUT_MESSAGES),
                ),
            },
            claims=truthy,
            spec="mapping.md 9.21",
            reason="system instructions without input messages are lost on the server",
        ),
        Rule(
            "corrections/io/messages_over_flat",
            when=under("gen_ai.prompt.", "gen_ai.completion."),
            sets={
                "input": seen(read.fuller(0), attr(INPUT_MESSAGES), attr(OUTPUT_MESSAGES)),
                "output": seen(read.fuller(1), attr(INPUT_MESSAGES), attr(OUTPUT_MESSAGES)),
            },
            spec="mapping.md 9.18",
            reason="a few flat keys left beside messages that say more make the server show the few",
        ),
        Rule(
            "corrections/io/mlflow",
            sets={
                "input": computed(read.unquoted, attr("mlflow.spanInputs")),
                "output": computed(read.unquoted, attr("mlflow.spanOutputs")),
            },
            claims=truthy,
            spec="families.md 1",
            reason="MLflow encodes every value as JSON, plain text too, so that texts would show in quotes",
        ),
        Rule(
            "corrections/model/mlflow",
            when=filled("mlflow.spanType"),
            sets={"model": computed(read.unquoted, first_filled("mlflow.llm.model", "model"))},
            spec="families.md 1",
            reason="MLflow's model is JSON-encoded, and the one that answered is not read by the server",
        ),
        Rule(
            "corrections/model/embedding",
            sets={"model": filled("embedding.model_name")},
            spec="https://arize-ai.github.io/openinference/spec/semantic_conventions.html",
            reason="OpenInference's name for an embedding's model is not read, so that its tokens have no price",
        ),
        Rule(
            "corrections/model/invocation_parameters",
            when=seen(lambda view: view.attributes.get("openinference.span.kind") == "LLM"),
            sets={"model": json_at("llm.invocation_parameters", "model")},
            spec="mapping.md 12",
            reason="a failed call of OpenInference names its model only in its parameters",
        ),
        Rule(
            "corrections/usage/mlflow",
            sets={"usage_details": computed(read.mlflow_usage, json_attr("mlflow.chat.tokenUsage"))},
            spec="families.md",
            reason="MLflow's token counts are not read by the server",
        ),
        Rule(
            "corrections/usage/openlit",
            scope="openlit*",
            sets={"usage_details": seen(read.with_cached, read.ALL_COUNTS)},
            spec="mapping.md 13.5; families.md 5",
            reason="openlit does not count cached tokens in the input, from which the server takes them",
        ),
        Rule(
            "corrections/usage/spellings",
            when=seen(lambda _view: True, *(attr(prefix + name) for prefix in read.COUNTS for name in read.SPELLINGS)),
            sets={"usage_details": seen(read.spelled, read.ALL_COUNTS)},
            spec="mapping.md 13.5; families.md 5",
            reason="cached and reasoning tokens under other names would count twice",
        ),
        Rule(
            "corrections/usage/raw",
            sets={"usage_details": computed(usage_buckets, json_attr("gen_ai.usage.raw"))},
            spec="https://logfire.pydantic.dev/docs/",
            reason="logfire's plain counts leave out cached and reasoning tokens, which its raw usage tells",
        ),
        Rule(
            "corrections/cost/zero",
            when=seen(lambda view: js.number(view.attributes["gen_ai.usage.cost"]) == 0),
            sets={"cost_details": seen(lambda _view: None, attr("gen_ai.usage.cost"))},
            claims=always,
            spec="mapping.md 13, costDetails",
            reason="openlit says 0 for models that it has no price of, and then Langfuse would not price them either",
        ),
        Rule(
            "corrections/cost/total",
            sets={"cost_details": first(total_cost("gen_ai.cost.total_cost"), total_cost("operation.cost"))},
            spec="families.md",
            reason="litellm's and pydantic-ai's names for the cost are not read by the server",
        ),
        Rule(
            "corrections/completion_start_time/first_token",
            sets={
                "completion_start_time": seen(
                    read.first_token, *(attr(name) for name in read.FIRST_TOKEN_SECONDS), events=read.FIRST_TOKEN_EVENTS
                )
            },
            spec="https://opentelemetry.io/docs/specs/semconv/gen-ai/",
            reason="the server reads the time of the first token only of Langfuse's and Vercel's attributes",
        ),
        Rule(
            "corrections/user_id/scrubbed",
            when=read.scrubbed(key.USER_ID),
            sets={"user_id": seen(lambda _view: None, attr(key.USER_ID))},
            claims=always,
            spec="https://logfire.pydantic.dev/docs/how-to-guides/scrubbing/",
            reason="a user that logfire scrubbed is nobody, not one user of everything",
        ),
        Rule(
            "corrections/session_id/scrubbed",
            when=read.scrubbed(key.SESSION_ID),
            sets={"session_id": seen(lambda _view: None, attr(key.SESSION_ID))},
            claims=always,
            spec="https://logfire.pydantic.dev/docs/how-to-guides/scrubbing/",
            reason="a session that logfire scrubbed (its default for the word) is not one session of everybody",
        ),
        Rule(
            "corrections/user_id/association",
            sets={
                "user_id": as_text(
                    first_filled(*read.USER_ASSOCIATIONS, *("llm.user", "enduser.id", "gen_ai.user", "gen_ai.request.user"))
                )
            },
            spec="families.md 11; https://opentelemetry.io/docs/specs/semconv/registry/attributes/enduser/",
            reason="Traceloop's and OpenTelemetry's own names for the user are not read by the server",
        ),
        Rule(
            "corrections/session_id/association",
            sets={"session_id": as_text(first_filled(*read.SESSION_ASSOCIATIONS))},
            spec="families.md 11",
            reason="Traceloop's name for the session is not read by the server",
        ),
    ),
)
