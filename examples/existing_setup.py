"""A FastAPI application with an OpenTelemetry set-up and an exporter of its own: two lines send its spans to Langfuse as well."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from otel_langfuse import LangfuseSpanProcessor, propagate_attributes  # 1

# -- what the application had before ---------------------------------------------------------------------------------------
provider = TracerProvider(resource=Resource({"service.name": "answers"}))
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=lambda span: f"console: {span.name}\n")))
trace.set_tracer_provider(provider)

# -- what it gains: the import above, and this line. Without base_url it sends to Langfuse, with the keys of the environment --
langfuse = LangfuseSpanProcessor(base_url="sqlite:///existing_setup.db")
provider.add_span_processor(langfuse)  # 2

app = FastAPI()
tracer = trace.get_tracer("answers")


@app.get("/answer")
def answer(question: str, user: str) -> dict[str, str]:
    """Answer a question. The span of the model's call hangs below that of the request, and both carry the user."""
    with (
        propagate_attributes(user_id=user, session_id=f"{user}-today"),
        tracer.start_as_current_span("chat toy-1", attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "toy-1"}),
    ):
        return {"answer": f"{question} Good question."}


FastAPIInstrumentor.instrument_app(app)

if __name__ == "__main__":  # instead of uvicorn, one request from here
    with TestClient(app) as client:
        print(client.get("/answer", params={"question": "Why?", "user": "ada"}).json())
    provider.shutdown()
    print(langfuse.stats())
