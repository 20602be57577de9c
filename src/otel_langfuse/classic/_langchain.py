"""The way from the classic client up to the handler for LangChain, which is there only where langchain-core is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def langchain_handler(**settings: Any) -> Any:
    """Makes an ``otel_langfuse.callback.CallbackHandler``.

    Raises:
        ModuleNotFoundError: langchain-core is not installed.
    """
    # By its public name and when it is asked for, because it stands above: it is made of the classic client.
    return import_module("otel_langfuse.callback").CallbackHandler(**settings)
