"""Where Langfuse's classic client has its handler for LangChain: ``from otel_langfuse.callback import CallbackHandler``."""

from __future__ import annotations

from .langchain import CallbackHandler

__all__ = ["CallbackHandler"]
