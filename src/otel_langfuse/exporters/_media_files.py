"""Media beside the spans: files in a folder, or wherever a URL of ``fsspec`` leads."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from otel_langfuse import threads as threading  # the operating system's, also under gevent
from otel_langfuse.errors import ConfigError, Drop, DropReason
from otel_langfuse.model import Media
from otel_langfuse.pipeline.media import file_name
from otel_langfuse.retry import backoff_s

from ._media import Patience

MAX_TRIES: Final = 3


class FileSender:
    """Writes each content once, under the name of its hash; whole, or not at all.

    Args:
        write: (name of the file, content).
    """

    def __init__(self, write: Callable[[str, bytes], None]) -> None:
        self._write = write

    def deliver(self, media: Media, patience: Patience) -> Drop | None:
        """See ``MediaSender``."""
        for attempt in range(MAX_TRIES):
            try:
                self._write(file_name(media.content_type, media.content), media.content)
            except Exception as error:  # noqa: BLE001 - whatever a file system raises; its text may hold credentials
                drop = Drop(DropReason.SEND_FAILED, 1, f"{type(error).__name__} while writing a file")
            else:
                return None
            if attempt + 1 == MAX_TRIES or not patience.wait(backoff_s(attempt, random.random())):
                break
        return drop

    def close(self) -> None:
        """Nothing is open."""


def file_sender(place: str) -> tuple[str, FileSender]:
    """Where files are as markers name it, and what writes them.

    Args:
        place: a folder, which is made if its parent exists, or a URL with a scheme, for ``fsspec``.

    Raises:
        ConfigError: it cannot be written to.
    """
    place = place.removeprefix("file://")
    if "://" in place:
        return place, FileSender(_Remote(place).write)
    folder = Path(place).absolute()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"media={place!r}: expected a folder, or the name of one in a folder that exists: {error}") from None
    return folder.as_posix(), FileSender(lambda name, content: _write(folder / name, content))


def _write(path: Path, content: bytes) -> None:
    if path.exists():  # its name is its hash
        return
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class _Remote:
    """A place that ``fsspec`` knows. A forked child opens it anew: some of its file systems have threads of their own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: tuple[int, Any, str] | None = None
        try:
            self._open()
        except Exception as error:  # noqa: BLE001 - of any driver of any storage; its text may hold credentials
            hint = "pip install 'otel-langfuse[media]' brings it" if isinstance(error, ImportError) else "see its documentation"
            raise ConfigError(
                f"media={url!r}: expected a folder, or a URL that fsspec can open ({hint}): {type(error).__name__}"
            ) from None

    def write(self, name: str, content: bytes) -> None:
        files, folder = self._open()
        path = f"{folder.rstrip('/')}/{name}"
        if files.exists(path):
            return
        try:
            files.pipe_file(path, content)
        except FileNotFoundError:  # those that are like a disk want the folder first
            files.makedirs(folder, exist_ok=True)
            files.pipe_file(path, content)

    def _open(self) -> tuple[Any, str]:
        if self._opened is None or self._opened[0] != os.getpid():
            from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

            files, folder = url_to_fs(self._url, skip_instance_cache=self._opened is not None)
            self._opened = (os.getpid(), files, folder)
        return self._opened[1], self._opened[2]
