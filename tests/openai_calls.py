"""The real openai library's clients of model servers on loopback, for whatever tests what becomes of their calls.

A module of tests gets the fixtures with ``pytest_plugins = ["openai_calls"]``.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import openai
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance" / "capture"))

from model_server import ANSWER, ModelServer, model_server

from otel_langfuse.testing import Captured, capture

__all__ = ["ANSWER", "HI", "TOOL", "ModelServer", "async_client_of", "client_of"]

HI = [{"role": "user", "content": "hi"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@cache
def _authorities() -> ssl.SSLContext:
    """What every client would read anew, which takes longer than its calls here."""
    return ssl.create_default_context()


def client_of(url: str, **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="sk-none", http_client=openai.DefaultHttpxClient(verify=_authorities()), **more)


def async_client_of(url: str, **more: Any) -> openai.AsyncOpenAI:
    http_client = openai.DefaultAsyncHttpxClient(verify=_authorities())
    return openai.AsyncOpenAI(base_url=url, api_key="sk-none", http_client=http_client, **more)


@pytest.fixture(scope="module")
def models() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.fixture
def client(models: ModelServer) -> openai.OpenAI:
    return client_of(f"{models.url}/v1", max_retries=0)


@pytest.fixture
def async_client(models: ModelServer) -> openai.AsyncOpenAI:
    return async_client_of(f"{models.url}/v1", max_retries=0)


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture(fixed=False) as observations:
        yield observations
