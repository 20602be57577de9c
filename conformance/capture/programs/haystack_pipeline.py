"""A program that uses Haystack."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from haystack import Document, Pipeline
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.retrievers.in_memory import InMemoryBM25Retriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import tool

from programs.weather import FAILING, QUESTION, SYSTEM
from programs.weather import weather as look_up


@tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return look_up(city)


def _model() -> Any:
    return OpenAIChatGenerator(model="gpt-4.1", max_retries=0, generation_kwargs={"temperature": 0.2})


def _ask(model: Any, question: str) -> None:
    pipeline = Pipeline()
    pipeline.add_component("model", model)
    pipeline.run({"model": {"messages": [ChatMessage.from_system(SYSTEM), ChatMessage.from_user(question)]}})


def chat() -> None:
    """A model alone in a pipeline."""
    _ask(_model(), QUESTION)


def retrieval() -> None:
    """Documents found and put into the prompt."""
    store = InMemoryDocumentStore()
    store.write_documents([Document(id="a", content="Paris is sunny."), Document(id="b", content="London is not.")])
    template = [ChatMessage.from_user("Known: {% for d in documents %}{{ d.content }} {% endfor %}Asked: {{ question }}")]
    pipeline = Pipeline()
    pipeline.add_component("retriever", InMemoryBM25Retriever(store))
    pipeline.add_component("prompt", ChatPromptBuilder(template=template, required_variables="*"))
    pipeline.add_component("model", _model())
    pipeline.connect("retriever.documents", "prompt.documents")
    pipeline.connect("prompt.prompt", "model.messages")
    pipeline.run({"retriever": {"query": "Paris"}, "prompt": {"question": QUESTION}})


def agent() -> None:
    """An agent with a tool."""
    Agent(chat_generator=_model(), tools=[get_weather], system_prompt=SYSTEM).run(messages=[ChatMessage.from_user(QUESTION)])


def embeddings() -> None:
    """A text as a vector."""
    pipeline = Pipeline()
    pipeline.add_component("embedder", OpenAITextEmbedder(model="text-embedding-3-small"))
    pipeline.run({"embedder": {"text": "Paris is sunny."}})


def error() -> None:
    """The model is over its rate limit."""
    with suppress(Exception):
        _ask(_model(), FAILING)


SCENARIOS = {f.__name__: f for f in (chat, retrieval, agent, embeddings, error)}
