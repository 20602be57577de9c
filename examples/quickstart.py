"""One line sends spans; here into quickstart.db beside you, to be looked at with `otel-langfuse show --db quickstart.db`.

Leave base_url out, and set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, to send the same to Langfuse.
"""

from __future__ import annotations

import json

from opentelemetry import trace

import otel_langfuse

langfuse = otel_langfuse.configure(base_url="sqlite:///quickstart.db")
tracer = trace.get_tracer("quickstart")


def ask(question: str) -> str:
    """Stands for a call of a model. An instrumentation of your client library sets such attributes for you."""
    with tracer.start_as_current_span("chat toy-1") as span:
        answer = f"{len(question.split())} words, and not one of them a lie."
        span.set_attributes(
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.request.model": "toy-1",
                "gen_ai.input.messages": json.dumps([{"role": "user", "content": question}]),
                "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": answer}]),
                "gen_ai.usage.input_tokens": len(question) // 4,
                "gen_ai.usage.output_tokens": len(answer) // 4,
            }
        )
        return answer


with (
    otel_langfuse.propagate_attributes(user_id="ada", session_id="first-steps", tags=["quickstart"]),
    tracer.start_as_current_span("count words", attributes={"langfuse.observation.type": "chain"}),
):
    print(ask("How many words has this question?"))

langfuse.flush()
print(langfuse.stats())
