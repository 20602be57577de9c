"""AWS Lambda freezes the process once an invocation has answered, and never lets it end: so each delivers before it answers.

On Lambda leave base_url out, and set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY; here the spans go into lambda_handler.db.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

import otel_langfuse

Handler = Callable[[dict[str, Any], Any], Any]

# Once for each process, before its first invocation. flush_at=1: each span is sent as soon as it has ended, while the
# handler goes on, so that little is left to wait for at the end.
langfuse = otel_langfuse.configure(
    base_url=os.environ.get("LANGFUSE_BASE_URL", "sqlite:///lambda_handler.db"),
    flush_at=1,
)
tracer = trace.get_tracer("lambda_handler")


def delivering(handler: Handler) -> Handler:
    """A handler that delivers its spans before it answers, but leaves half a second for the answer."""

    @functools.wraps(handler)
    def wrapped(event: dict[str, Any], context: Any) -> Any:
        try:
            return handler(event, context)
        finally:
            left_s = context.get_remaining_time_in_millis() / 1000
            langfuse.flush(timeout=max(left_s - 0.5, 0.0))  # not shutdown(): the next invocation finds this process again

    return wrapped


@delivering
def handler(event: dict[str, Any], _context: Any) -> dict[str, str]:
    """What Lambda calls."""
    with otel_langfuse.propagate_attributes(user_id=event["user"]), tracer.start_as_current_span("answer") as span:
        answer = f"{event['question']} Good question."
        span.set_attributes({"langfuse.observation.input": event["question"], "langfuse.observation.output": answer})
        return {"answer": answer}


if __name__ == "__main__":  # instead of Lambda, two invocations from here

    class Context:
        """As much of Lambda's as is used above."""

        def get_remaining_time_in_millis(self) -> int:
            return 3000

    for question in ("Why?", "Why not?"):
        print(handler({"user": "ada", "question": question}, Context()))
        print(langfuse.stats())
