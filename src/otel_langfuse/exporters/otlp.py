"""OTLP over HTTP with protobuf bodies: to Langfuse, or to any collector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

from otel_langfuse.config import Config, sqlite_path, web_url
from otel_langfuse.errors import ConfigError
from otel_langfuse.pipeline.mask import Mask
from otel_langfuse.prepare import Target
from otel_langfuse.transport import HttpTransport, basic_authorization

from . import missing_keys
from ._headers import checked_headers, langfuse_headers, user_agent
from ._network import NetworkExporter

OTLP_PATH: Final = "/api/public/otel/v1/traces"
INGESTION_VERSION: Final = "4"
"""Makes Langfuse write spans where they can be read within seconds; larger numbers are refused (api.md 3.5)."""


class LangfuseOTLPExporter(NetworkExporter):
    """Sends spans by OTLP (http/protobuf), to Langfuse or, with ``endpoint``, to any collector.

    Args:
        public_key: of the Langfuse project; else ``LANGFUSE_PUBLIC_KEY``.
        secret_key: else ``LANGFUSE_SECRET_KEY``.
        base_url: else ``LANGFUSE_BASE_URL`` or ``LANGFUSE_HOST``; ``/api/public/otel/v1/traces`` is added.
        endpoint: the whole URL of a collector's trace route, as it is (for most with the path ``/v1/traces``). Langfuse's
            keys and headers are never sent there.
        headers: sent to ``endpoint`` only. ``OTEL_EXPORTER_OTLP_HEADERS`` are not read: they are for other exporters.
        timeout: seconds for one request, from connecting to the last byte; default 5.
        compression: ``gzip`` (default) or ``none``.
        max_request_bytes: size of a request before compression; default 4 MiB. Larger batches are split; a span that alone is
            larger is sent alone.
        mask: function of one text that is applied to every text of a span before it leaves.

    Raises:
        ConfigError: a setting cannot work.
    """

    def __init__(
        self,
        *,
        public_key: str | None = None,
        secret_key: str | None = None,
        base_url: str | None = None,
        endpoint: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        compression: str | None = None,
        max_request_bytes: int | None = None,
        mask: Mask | None = None,
    ) -> None:
        config = Config.from_env(
            public_key=public_key,
            secret_key=secret_key,
            base_url=base_url,
            timeout=timeout,
            compression=compression,
            max_request_bytes=max_request_bytes,
        )
        if endpoint is None:
            if headers is not None:
                raise ConfigError("headers=...: expected together with endpoint=, where they are sent")
            self._init_langfuse(config, mask)
            return
        if public_key is not None or secret_key is not None or base_url is not None:
            raise ConfigError("endpoint=...: expected without public_key, secret_key and base_url, which are never sent there")
        try:
            url = web_url(endpoint)
        except ValueError:
            raise ConfigError("endpoint=...: expected http(s)://host[:port]/path without credentials") from None
        credentials = checked_headers(headers or {})
        as_given = url + "/" if endpoint.strip().endswith("/") else url
        target = _target(as_given, {"user-agent": user_agent()}, config)
        super().__init__(target, HttpTransport(url, credentials), timeout_s=config.timeout_s, mask=mask)

    @classmethod
    def from_config(cls, config: Config, *, mask: Mask | None = None) -> LangfuseOTLPExporter:
        """An exporter to the Langfuse server that a checked configuration names."""
        exporter = cls.__new__(cls)
        exporter._init_langfuse(config, mask)  # noqa: SLF001 - our own
        return exporter

    def _init_langfuse(self, config: Config, mask: Mask | None) -> None:
        if sqlite_path(config.base_url) is not None:
            raise ConfigError(f"base_url={config.base_url!r}: expected http(s)://... for OTLP")
        missing = missing_keys(config)
        credentials = {} if missing else basic_authorization(str(config.public_key), str(config.secret_key))
        headers = {**langfuse_headers(config), "x-langfuse-ingestion-version": INGESTION_VERSION}
        target = _target(config.base_url + OTLP_PATH, headers, config)
        transport = HttpTransport(config.base_url, credentials)
        super().__init__(target, transport, timeout_s=config.timeout_s, mask=mask, missing=missing)


def _target(url: str, headers: Mapping[str, str], config: Config) -> Target:
    compression = cast('Literal["gzip", "none"]', config.compression)
    return Target("otlp", url, headers, config.max_request_bytes, compression)
