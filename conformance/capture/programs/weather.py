"""What all programs are about, so that their spans can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

SYSTEM = "You are a concise weather assistant."
QUESTION = "What is the weather in Paris?"
FAILING = "Please fail with 429."
USER, SESSION = "customer-42", "conversation-7"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel, in base64."""

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where."}},
    "required": ["city"],
    "additionalProperties": False,
}


def weather(city: str) -> str:
    """The weather in a city, now."""
    return f"21 degrees and sunny in {city}"


@contextmanager
def request_span() -> Iterator[None]:
    """A span of the application, as a web framework makes them, with OpenTelemetry's names for the user and the session."""
    about = {"http.request.method": "POST", "url.path": "/ask", "user.id": USER, "session.id": SESSION}
    with trace.get_tracer("shop.web", "1.0").start_as_current_span("POST /ask", attributes=about, kind=trace.SpanKind.SERVER):
        yield
