"""``from otel_langfuse.openai import openai``: the openai library itself, whose calls are recorded once this is imported.

All of its clients' chat completions, completions, responses and embeddings become generations and embeddings, under whatever
observation is current. A call may say more about them, which OpenAI is not told:

- ``name`` of the observation, ``langfuse_prompt`` (a prompt to link), ``metadata`` (any mapping; OpenAI gets it, too, with
  ``store=True``);
- ``session_id``, ``user_id``, ``tags`` of its trace, also as ``langfuse_session_id``, ``langfuse_user_id`` and
  ``langfuse_tags`` in ``metadata``;
- ``trace_id`` and ``parent_observation_id``: a trace to join, by any text (see ``Langfuse.trace``); ``langfuse_public_key``: its
  project.

The settings that the classic drop-in has on the module are read with each call: ``openai.langfuse_public_key``, ``_secret_key``,
``_host``, ``_debug``, ``_enabled``, ``_sample_rate``, ``_environment`` and ``_mask`` are those of ``Langfuse``; so are
``openai.langfuse_auth_check()`` and ``openai.flush_langfuse()`` there.

What a call returns and raises is the library's own. A stream's class becomes a subclass of the same name that looks at what
passes; its observation ends when it is read to its end, closed, or gone. ``uninstrument()`` takes all of it back. Calls that
another instrumentation of the library records are recorded by that alone. Needs the openai library.
"""

from __future__ import annotations

import openai
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from .integrations.openai import instrument, uninstrument

instrument()

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI", "instrument", "openai", "uninstrument"]
