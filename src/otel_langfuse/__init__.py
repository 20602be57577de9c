"""OpenTelemetry spans as Langfuse observations. Importing this loads nothing but names; each loads what it needs when used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client, configure
    from .config import Config
    from .errors import ConfigError, DropReason
    from .exporters.ingestion import LangfuseIngestionExporter
    from .exporters.otlp import LangfuseOTLPExporter
    from .exporters.sqlite import SqliteExporter
    from .model import Stats
    from .processor import LangfuseSpanProcessor
    from .propagation import propagate_attributes

    __version__: str

__all__ = [
    "Client",
    "Config",
    "ConfigError",
    "DropReason",
    "LangfuseIngestionExporter",
    "LangfuseOTLPExporter",
    "LangfuseSpanProcessor",
    "SqliteExporter",
    "Stats",
    "__version__",
    "configure",
    "propagate_attributes",
]

_HOMES = {
    "Client": ".client",
    "Config": ".config",
    "ConfigError": ".errors",
    "DropReason": ".errors",
    "LangfuseIngestionExporter": ".exporters.ingestion",
    "LangfuseOTLPExporter": ".exporters.otlp",
    "LangfuseSpanProcessor": ".processor",
    "SqliteExporter": ".exporters.sqlite",
    "Stats": ".model",
    "configure": ".client",
    "propagate_attributes": ".propagation",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - seldom asked for

        try:
            value: Any = version("otel-langfuse")
        except PackageNotFoundError:  # run from its source without being installed
            value = "0"
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
