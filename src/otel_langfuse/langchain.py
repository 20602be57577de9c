"""``from otel_langfuse.langchain import CallbackHandler``; see ``integrations.langchain``. Needs langchain-core."""

from __future__ import annotations

from .integrations.langchain import CallbackHandler

__all__ = ["CallbackHandler"]
