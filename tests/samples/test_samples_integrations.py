"""The integrations, as tutorials teach them: each runs unchanged but for its imports, and arrives as meant."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from langfuse_server import PUBLIC, SECRET, LangfuseServer
from otel_langfuse import Langfuse, get_client
from otel_langfuse.classic import trace_id_of
from otel_langfuse.decorators import langfuse_context, observe

sys.path.insert(0, str(Path(__file__).parents[2] / "conformance" / "capture"))

from model_server import ANSWER, model_server


def masked(data: Any) -> Any:
    return data.replace("secret", "***") if isinstance(data, str) else data


def test_openai(server: LangfuseServer) -> None:
    pytest.importorskip("openai")
    from otel_langfuse.openai import openai  # noqa: PLC0415

    get_client()
    with model_server() as models:
        client = openai.OpenAI(base_url=f"{models.url}/v1", api_key="sk-none")

        @observe()
        def story(topic: str) -> str:
            made = client.chat.completions.create(
                model="gpt-4.1",
                messages=[{"role": "user", "content": topic}],
                name="my-generation",
                trace_id="abc-123",
                session_id="s",
                user_id="u",
                tags=["x"],
                metadata={"k": "v"},
            )
            langfuse_context.update_current_observation(output="told")
            return str(made.choices[0].message.content)

        assert story("a secret") == ANSWER
    langfuse_context.flush()
    one = server.one("my-generation")
    assert one.trace_id == trace_id_of("abc-123") != server.one("story").trace_id
    assert (one.trace.session_id, one.trace.user_id, one.trace.tags, one.metadata["k"]) == ("s", "u", ["x"], "v")
    assert (one.type, one.model) == ("generation", "gpt-4.1-2025-04-14")
    assert server.one("story").output == ANSWER


def test_langchain(server: LangfuseServer) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.language_models.fake import FakeListLLM  # noqa: PLC0415
    from langchain_core.prompts import PromptTemplate  # noqa: PLC0415

    from otel_langfuse.callback import CallbackHandler  # noqa: PLC0415

    handler = CallbackHandler(
        public_key=PUBLIC,
        secret_key=SECRET,
        trace_name="langchain-run",
        user_id="u",
        session_id="s",
        tags=["x"],
        metadata={"k": "v"},
        version="1",
        release="r",
        environment="staging",
        mask=masked,
    )
    chain = PromptTemplate.from_template("{input}") | FakeListLLM(responses=["a secret"])
    predefined_run_id = uuid.uuid4()
    chain.invoke({"input": "..."}, config={"callbacks": [handler], "run_id": predefined_run_id})
    langfuse = Langfuse()
    langfuse.score(trace_id=str(predefined_run_id), name="liked", value=1)
    langfuse.flush()
    root = server.one("RunnableSequence")
    assert (root.trace.name, root.trace.user_id, root.trace.session_id, root.trace.tags) == ("langchain-run", "u", "s", ["x"])
    assert (root.trace_id, root.output, root.environment, root.version) == (predefined_run_id.hex, "a ***", "staging", "1")
    assert (root.trace.release, root.trace.metadata["k"]) == ("r", "v")
    assert server.score("liked")["traceId"] == root.trace_id
    assert server.one("FakeListLLM").type == "generation"
