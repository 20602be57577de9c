"""A secret of its own in every place of spans that can hold a text, by plain OpenTelemetry calls, as instrumentations do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags, TracerProvider, TraceState

# Attributes under which instrumentations of every family keep texts.
KEYS = """
langfuse.observation.input langfuse.observation.output langfuse.observation.metadata.note langfuse.observation.model.name
langfuse.observation.model.parameters langfuse.observation.status_message langfuse.observation.prompt.name langfuse.trace.name
langfuse.trace.input langfuse.trace.output langfuse.trace.metadata.note langfuse.trace.tags langfuse.release user.id session.id
gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions gen_ai.prompt.0.content gen_ai.completion.0.content
gen_ai.tool.name gen_ai.tool.call.arguments gen_ai.tool.call.result gen_ai.tool.definitions gen_ai.tool.args gen_ai.task.input
gen_ai.task.output gen_ai.request.stop_sequences gen_ai.request.model gen_ai.conversation.id
input.value output.value llm.input_messages.0.message.content llm.output_messages.0.message.content llm.prompts.0.prompt.text
llm.invocation_parameters llm.prompt_template.template llm.prompt_template.variables llm.tools.0.tool.json_schema
retrieval.documents.0.document.content embedding.embeddings.0.embedding.text reranker.query tool.parameters metadata tag.tags
traceloop.entity.input traceloop.entity.output traceloop.association.properties.tenant
llm.openai.messages llm.openai.choices llm.openai.tools hidden_params
ai.prompt ai.prompt.messages ai.response.text ai.response.object ai.toolCall.args ai.toolCall.result ai.telemetry.metadata.note
genkit:input genkit:output genkit:metadata:note
pydantic_ai.all_messages all_messages_events final_result tool_arguments tool_response model_request_parameters
logfire.msg logfire.msg_template request_data response_data prompt events
mlflow.spanInputs mlflow.spanOutputs mlflow.chat.tools
haystack.component.input haystack.component.output haystack.pipeline.input_data haystack.agent.step.llm.output
gcp.vertex.agent.llm_request gcp.vertex.agent.llm_response gcp.vertex.agent.tool_call_args
lk.chat_ctx lk.input_text lk.response.text lk.function_tool.output
flue.task.prompt flue.task.result flue.turn.output
http.request.header.cookie http.url url.full db.statement db.query.text exception.message unheard.of
""".split()  # noqa: SIM905 - a hundred strings


class Places:
    """Records the spans.

    Args:
        form: makes the secret of a number.
        keys: attributes that hold one.
    """

    def __init__(self, form: Callable[[int], str], keys: Iterable[str] = KEYS) -> None:
        self._form = form
        self._keys = tuple(keys)
        self.secrets: dict[str, str] = {}
        """Place -> the secret that stands there."""

    def at(self, place: str) -> str:
        """The secret of a place."""
        return self.secrets.setdefault(place, self._form(len(self.secrets) + 1))

    def resource(self) -> Resource:
        """What the provider is to be made with."""
        return Resource({"service.name": "leaks", "resource.note": self.at("resource attribute")})

    def record(self, provider: TracerProvider) -> None:
        """Makes the spans."""
        tracer: Any = provider.get_tracer(
            f"openinference.instrumentation.{self.at('scope name')}",
            f"1 {self.at('scope version')}",
            attributes={"note": self.at("scope attribute")},
        )
        there = SpanContext(
            1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("v", self.at("trace state"))])
        )
        with tracer.start_as_current_span("chat", links=[Link(there, {"note": self.at("link attribute")})]) as span:
            span.set_attributes({"openinference.span.kind": "LLM", "gen_ai.operation.name": "chat"})
            for key in self._keys:
                span.set_attribute(key, self.at(key))
            span.set_attribute("list", ["x", self.at("in a list")])
            span.set_attribute("json", json.dumps({"a": [{"b": f"text\n{self.at('inside JSON')}"}]}))
            span.set_attribute("json in json", json.dumps({"a": json.dumps({"b": f"text\n{self.at('inside JSON in JSON')}"})}))
            span.set_attribute(f"key {self.at('attribute key')}", 1)
            span.add_event(f"event {self.at('span event name')}", {"note": self.at("span event attribute")})
            span.add_event("gen_ai.user.message", {"content": self.at("message in a span event")})
        with tracer.start_as_current_span(f"chat {self.at('span name')}") as span:
            span.set_status(Status(StatusCode.ERROR, f"failed: {self.at('status message')}"))
        with suppress(ValueError), tracer.start_as_current_span("chat"):
            raise ValueError(self.at("exception"))

    def leaked(self, wire: bytes) -> list[str]:
        """The places whose secret is in what was sent."""
        return [place for place, secret in self.secrets.items() if secret.encode() in wire]
