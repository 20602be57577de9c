"""``from otel_langfuse.openai import openai``: the openai library itself, whose calls are recorded once this is imported.

All of its clients' chat completions, completions, responses and embeddings become observations; see ``integrations.openai``
for what a call may say about them (``name=``, ``metadata=``, ``session_id=`` ...). Needs the openai library.
"""

from __future__ import annotations

import openai
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from .integrations.openai import instrument, uninstrument

instrument()

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI", "instrument", "openai", "uninstrument"]
