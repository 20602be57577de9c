"""The SpanExporter doors: prepare, then send. And which of them a ``Config`` asks for."""

from __future__ import annotations

import logging

from otel_langfuse.config import Config, sqlite_path

from ._base import MEDIA_END_S, LangfuseExporter, note_failures
from ._media import MediaWay

__all__ = [
    "MEDIA_END_S",
    "LangfuseExporter",
    "MediaWay",
    "exporter_for",
    "media_way_for",
    "missing_keys",
    "note_failures",
]


def exporter_for(config: Config) -> LangfuseExporter | None:
    """The exporter that a configuration asks for: the local store for a ``sqlite:`` URL, else OTLP to Langfuse.

    Returns:
        None if it cannot be reached, because the keys are missing; a warning then says what to set.

    Raises:
        ConfigError: the directory of the local store does not exist.
    """
    path = sqlite_path(config.base_url)
    if path is not None:
        from .sqlite import SqliteExporter  # noqa: PLC0415 - who sends elsewhere need not load SQLite

        return SqliteExporter.from_config(path, config)
    if missing := missing_keys(config):
        logging.getLogger("otel_langfuse").warning("otel-langfuse: nothing is sent: %s", missing)
        return None
    from .otlp import LangfuseOTLPExporter  # noqa: PLC0415 - as above

    return LangfuseOTLPExporter.from_config(config)


def media_way_for(config: Config, name: str) -> MediaWay | None:
    """The way that media go for an exporter that is not ours; see ``MediaWay``.

    Raises:
        ConfigError: this way cannot be gone.
    """
    from ._media_way import media_way  # noqa: PLC0415 - as above

    return media_way(config, to_langfuse=False, name=name)


def missing_keys(config: Config) -> str:
    """What to set before Langfuse can be reached; empty when nothing is missing."""
    keys = {"LANGFUSE_PUBLIC_KEY": config.public_key, "LANGFUSE_SECRET_KEY": config.secret_key}
    missing = [name for name, value in keys.items() if value is None]
    if not missing:
        return ""
    return (
        f"set {' and '.join(missing)} to send to Langfuse at {config.base_url}, "
        "or LANGFUSE_BASE_URL=sqlite:///langfuse.db to keep observations in a local file"
    )
