"""Langfuse's own ingestion API, for servers before 4, which know no OTLP or not well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_langfuse.config import Config, sqlite_path
from otel_langfuse.errors import ConfigError
from otel_langfuse.pipeline.mask import Mask
from otel_langfuse.prepare import Target, load_translation
from otel_langfuse.transport import Tls, basic_authorization, new_transport

from . import missing_keys
from ._headers import langfuse_headers
from ._network import DeliverySettings, NetworkExporter, config_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

INGESTION_PATH: Final = "/api/public/ingestion"
MAX_INGESTION_BYTES: Final = 3_500_000
"""What Langfuse promises to take in one request (api.md 1.4; it really refuses from 4.5 MB on)."""


class LangfuseIngestionExporter(NetworkExporter):
    """Sends observations, translated here, to ``{base_url}/api/public/ingestion``; for older servers.

    Newer servers refuse observations there, one by one: that is logged, naming OTLP as the way, and they count as
    ``rejected``. Requests are not compressed, because the route does not inflate.

    Args:
        public_key: of the Langfuse project; else ``LANGFUSE_PUBLIC_KEY``.
        secret_key: else ``LANGFUSE_SECRET_KEY``.
        base_url: else ``LANGFUSE_BASE_URL`` or ``LANGFUSE_HOST``.
        timeout: seconds for one request, from connecting to the last byte; default 5.
        max_request_bytes: size of a request; default and at most 3.5 MB. Of an observation that alone is larger, the largest
            values are cut.
        mask: what is masked before anything leaves, where no processor of ours stands before this; see
            ``LangfuseSpanProcessor``.
        delivery: ``spool_path=``, ``media=`` and ``mask_secrets=``, and what belongs to them; see ``DeliverySettings``.

    Raises:
        ConfigError: a setting cannot work.
    """

    def __init__(
        self,
        *,
        public_key: str | None = None,
        secret_key: str | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_request_bytes: int | None = None,
        mask: Mask | None = None,
        **delivery: Unpack[DeliverySettings],
    ) -> None:
        config = config_of(
            delivery,
            public_key=public_key,
            secret_key=secret_key,
            base_url=base_url,
            timeout=timeout,
            max_request_bytes=max_request_bytes,
        )
        self._init(config, mask)

    @classmethod
    def from_config(cls, config: Config, *, mask: Mask | None = None) -> LangfuseIngestionExporter:
        """An exporter to the Langfuse server that a checked configuration names."""
        exporter = cls.__new__(cls)
        exporter._init(config, mask)  # noqa: SLF001 - our own
        return exporter

    def _init(self, config: Config, mask: Mask | None) -> None:
        if sqlite_path(config.base_url) is not None:
            raise ConfigError(f"base_url={config.base_url!r}: expected http(s)://... for the ingestion API")
        missing = missing_keys(config)
        self.public_key = config.public_key or ""
        credentials = {} if missing else basic_authorization(str(config.public_key), str(config.secret_key))
        limit = min(config.max_request_bytes, MAX_INGESTION_BYTES)
        target = Target("ingestion", config.base_url + INGESTION_PATH, langfuse_headers(config), limit, "none")
        tls = Tls(config.certificate_file, config.client_certificate_file, config.client_key_file)
        transport = new_transport("http/json", config.base_url, credentials, tls)
        load_translation()
        super().__init__(target, transport, timeout_s=config.timeout_s, mask=mask, config=config, missing=missing)
