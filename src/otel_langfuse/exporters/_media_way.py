"""Which way the media of a destination go, from its settings."""

from __future__ import annotations

from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.errors import ConfigError
from otel_langfuse.pipeline.media import Lifting, load_fields
from otel_langfuse.transport import Tls, basic_authorization

from . import missing_keys
from ._headers import langfuse_headers
from ._media import MEDIA_BYTES, MediaSender, MediaWay


def media_way(config: Config, *, to_langfuse: bool, name: str) -> MediaWay | None:
    """The way that media go; None if they stay where they are, in the texts.

    Args:
        config: ``media`` says it; by default they are sent where spans go to Langfuse, and stay where they are elsewhere.
        to_langfuse: whether the spans go there.
        name: of the destination, for logs.

    Raises:
        ConfigError: this way cannot be gone.
    """
    way = config.media or ("send" if to_langfuse else "keep")
    if way == "off":  # Langfuse's own switch: it is about Langfuse
        way = "cut" if to_langfuse else "keep"
    if way == "keep":
        return None
    max_bytes = min(config.max_media_bytes, config.max_queue_bytes - MEDIA_BYTES)
    sender: MediaSender | None = None
    if way == "cut":
        lifting = Lifting("cut", max_bytes)
    elif way == "send":
        lifting, sender = Lifting("send", max_bytes), _to_langfuse(config)
    else:
        from ._media_files import file_sender  # noqa: PLC0415 - seldom needed

        folder, sender = file_sender(way)
        lifting = Lifting("write", max_bytes, folder)
    load_fields()
    return MediaWay(
        lifting,
        sender,
        name=name,
        max_queue_bytes=config.max_queue_bytes,
        threads=config.media_threads,
        wait_s=config.media_wait_s,
    )


def _to_langfuse(config: Config) -> MediaSender:
    if sqlite_path(config.base_url) is not None or missing_keys(config):
        raise ConfigError(
            "media='send': expected together with a Langfuse server, by LANGFUSE_BASE_URL, LANGFUSE_PUBLIC_KEY and "
            "LANGFUSE_SECRET_KEY"
        )
    from ._media_api import LangfuseMediaSender  # noqa: PLC0415 - as above

    return LangfuseMediaSender(
        config.base_url,
        langfuse_headers(config),
        basic_authorization(str(config.public_key), str(config.secret_key)),
        tls=Tls(config.certificate_file, config.client_certificate_file, config.client_key_file),
        timeout_s=config.timeout_s,
    )
