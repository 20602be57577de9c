"""The embedded default: observations into a local SQLite file."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import Any, Final

from otel_langfuse.batch import Sending
from otel_langfuse.config import Config
from otel_langfuse.errors import Drop, DropReason
from otel_langfuse.model import Observation, Span
from otel_langfuse.pipeline.mask import Mask
from otel_langfuse.prepare import load_translation, observations
from otel_langfuse.retry import backoff_s, one_line
from otel_langfuse.store import Store, StoreError

from ._base import LangfuseExporter
from ._media_way import media_way

BUSY_TIMEOUT_S: Final = 0.5
"""How long one try waits for other processes' locks."""


class SqliteExporter(LangfuseExporter):
    """Writes observations into a SQLite file, which ``otel-langfuse show`` reads; also while it is written.

    Args:
        path: of the file; made if there is none, its directory must exist. A relative path is taken from the working
            directory of now.
        timeout: seconds that one call of ``export`` takes at most while others lock the file. Behind our processor it tries
            again for as long as the queue holds what ends; each try waits ``BUSY_TIMEOUT_S`` at most, so that a shutdown can
            end it in time.
        mask: what is masked before anything is stored, where no processor of ours stands before this; see
            ``LangfuseSpanProcessor``, also for the next.
        mask_secrets: whether keys, tokens and passwords are masked although ``mask`` does not name them; default True.
        media: ``keep`` (default): images, sounds and documents stay in the texts; ``cut``; or a folder or ``fsspec`` URL where
            they are written, and the texts name the file.

    Raises:
        ConfigError: the directory does not exist, or ``media`` cannot work.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        timeout: float = 5.0,
        mask: Mask | None = None,
        mask_secrets: bool | None = None,
        media: str | os.PathLike[str] | None = None,
    ) -> None:
        masks = Config.from_env(mask_secrets=mask_secrets)
        self._init(path, timeout, mask, Config.from_env({}, media=media), masks)

    @classmethod
    def from_config(cls, path: str, config: Config) -> SqliteExporter:
        """An exporter into this file, with a checked configuration's way for media and masks."""
        exporter = cls.__new__(cls)
        exporter._init(path, 5.0, None, config, config)  # noqa: SLF001 - our own
        return exporter

    def _init(self, path: str | os.PathLike[str], timeout: float, mask: Mask | None, config: Config, masks: Config) -> None:
        name = f"sqlite:{os.fspath(path)}"
        media = media_way(config, to_langfuse=False, name=name)
        super().__init__(name=name, timeout_s=timeout, mask=mask, media=media, config=masks)
        self._store = Store(path, busy_timeout_s=min(BUSY_TIMEOUT_S, timeout / 2))
        load_translation()

    def deliver(self, spans: Sequence[Span], sending: Sending[Any]) -> None:
        """Writes all of them in one transaction; see ``LangfuseExporter.deliver``."""
        translated, drops = observations(spans)
        for drop in drops:
            sending.dropped(drop)
        attempt = 0
        while (error := self._write(translated)) is not None:
            if not error.retryable or not sending.wait(backoff_s(attempt, random.SystemRandom().random())):
                sending.dropped(Drop(DropReason.SEND_FAILED, len(translated), one_line(str(error))))
                return
            attempt += 1
        sending.exported(len(translated))

    def close(self) -> None:
        """Closes the file."""
        self._store.close()

    def _write(self, translated: Sequence[Observation]) -> StoreError | None:
        try:
            self._store.write(translated)
        except StoreError as error:
            return error
        return None
