"""The real openai client under OpenTelemetry's own instrumentation of it: its calls become generations by themselves.

The model is a scripted server on loopback. Leave base_url out twice to talk to OpenAI, and to send to Langfuse.
"""

from __future__ import annotations

import os

import openai
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

import otel_langfuse
from otel_langfuse.local.demo.server import model_server

# The instrumentation records prompts and completions only when asked to.
os.environ.setdefault("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_only")

# -- all that it takes -----------------------------------------------------------------------------------------------------
langfuse = otel_langfuse.configure(base_url="sqlite:///auto_instrumented.db")
OpenAIInstrumentor().instrument()

# -- the application -------------------------------------------------------------------------------------------------------
with model_server() as url, otel_langfuse.propagate_attributes(user_id="ada"):
    client = openai.OpenAI(base_url=url, api_key="not needed here")
    question = "Can I return a lamp?"
    completion = client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": question}])
    print(completion.choices[0].message.content)

langfuse.flush()
print(langfuse.stats())
