"""A program that uses LangChain and LangGraph."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import openai
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnablePassthrough
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from programs.weather import FAILING, QUESTION, SESSION, SYSTEM, request_span, weather

PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), ("human", "{question}")])


class Shelf(BaseRetriever):
    """A retriever that always finds the same two documents."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        del query, run_manager
        return [Document("Paris is sunny.", metadata={"source": "a"}), Document("London is not.", metadata={"source": "b"})]


@tool
def get_weather(city: str) -> str:
    """The weather in a city, now."""
    return weather(city)


def _model(**more: Any) -> Any:
    return ChatOpenAI(model="gpt-4.1", temperature=0.2, max_retries=0, **more)


def chain() -> None:
    """A prompt, a model, a parser; in a session."""
    config: Any = {"metadata": {"session_id": SESSION}, "tags": ["weather"], "run_name": "weather chain"}
    (PROMPT | _model() | StrOutputParser()).invoke({"question": QUESTION}, config=config)


def stream() -> None:
    """The model alone, in pieces."""
    for _ in _model(stream_usage=True).stream(QUESTION):
        pass


def retrieval() -> None:
    """Documents found and put into the prompt."""
    prompt = ChatPromptTemplate.from_messages([("system", "You know: {known}"), ("human", "{question}")])
    known = {"known": Shelf(), "question": RunnablePassthrough()}
    (known | prompt | _model() | StrOutputParser()).invoke(QUESTION)


def agent() -> None:
    """LangChain's agent on LangGraph, with a tool; inside a request."""
    with request_span():
        create_agent(_model(), tools=[get_weather], system_prompt=SYSTEM, name="weather_agent").invoke(
            {"messages": [{"role": "user", "content": QUESTION}]}
        )


def error() -> None:
    """The model is over its rate limit."""
    with suppress(openai.RateLimitError):
        (PROMPT | _model()).invoke({"question": FAILING})


SCENARIOS = {f.__name__: f for f in (chain, stream, retrieval, agent, error)}
