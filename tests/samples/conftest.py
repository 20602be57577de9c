"""Programs as people have written them find their server by the environment, and set up OpenTelemetry themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langfuse_server import PUBLIC, SECRET, LangfuseServer
from opentelemetry import trace
from opentelemetry.util._once import Once

from otel_langfuse.classic import _client, _known
from otel_langfuse.tracing import _origin


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangfuseServer]:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", Once())
    monkeypatch.setattr(_client, "_made", {})
    _known._start_anew()
    _origin.register()
    _origin.NOTES._reset()
    with LangfuseServer() as running:
        monkeypatch.setenv("LANGFUSE_BASE_URL", running.url)
        monkeypatch.setenv("LANGFUSE_PUBLIC_KEY", PUBLIC)
        monkeypatch.setenv("LANGFUSE_SECRET_KEY", SECRET)
        yield running
        for client in list(_client._made.values()):
            client.shutdown(5)
        _origin.register()
