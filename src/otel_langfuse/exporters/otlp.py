"""OTLP to Langfuse, or to any collector: protobuf or JSON over HTTP, or gRPC."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from otel_langfuse.config import Config, otlp_variables, sqlite_path
from otel_langfuse.encode.otlp import GRPC_PATH, Protocol
from otel_langfuse.errors import ConfigError
from otel_langfuse.pipeline.mask import Mask
from otel_langfuse.prepare import Target, load_dialects
from otel_langfuse.transport import Tls, basic_authorization, new_transport

from . import missing_keys
from ._headers import SDK_NAME_HEADER, checked_headers, checked_metadata, langfuse_headers, user_agent
from ._network import DeliverySettings, NetworkExporter, config_of
from ._otel_env import PROTOCOLS, collector, grpc_server, http_endpoint

if TYPE_CHECKING:
    from typing_extensions import Unpack

OTLP_PATH: Final = "/api/public/otel/v1/traces"
INGESTION_VERSION: Final = "4"
"""Makes Langfuse write spans where they can be read within seconds; larger numbers are refused (api.md 3.5)."""


DIALECTS: Final = ("langfuse", "gen_ai", "openinference")


class LangfuseOTLPExporter(NetworkExporter):
    """Sends spans by OTLP, to Langfuse or, with ``endpoint``, to any collector.

    Nothing of ``OTEL_EXPORTER_OTLP_*`` is read here: it is for other exporters, and may hold another vendor's keys. For a
    collector that it names there is ``for_collector()``.

    Args:
        public_key: of the Langfuse project; else ``LANGFUSE_PUBLIC_KEY``.
        secret_key: else ``LANGFUSE_SECRET_KEY``.
        base_url: else ``LANGFUSE_BASE_URL`` or ``LANGFUSE_HOST``; ``/api/public/otel/v1/traces`` is added.
        endpoint: of a collector, as it is. Over HTTP the whole URL of its trace route (for most with the path ``/v1/traces``);
            for gRPC http://host:port, or https://host:port for TLS. Langfuse's keys and headers are never sent there.
        protocol: ``http/protobuf`` (default), ``http/json``, or ``grpc``, which Langfuse does not speak and which needs the
            extra ``otel-langfuse[otlp]``.
        headers: sent to ``endpoint`` only; over gRPC as metadata.
        timeout: seconds for one request, from connecting to the last byte; default 5.
        compression: ``gzip`` (default) or ``none``.
        certificate_file: PEM file of the authorities that are trusted instead of the system's; for Langfuse else
            ``LANGFUSE_CERTIFICATE``.
        client_certificate_file: PEM file of our own certificate (mTLS); for Langfuse else ``LANGFUSE_CLIENT_CERTIFICATE``.
        client_key_file: PEM file of its private key, unless it is in the same file; for Langfuse else ``LANGFUSE_CLIENT_KEY``.
        max_request_bytes: size of a request before compression; default 4 MiB. Larger batches are split; a span that alone is
            larger is sent alone, and where the destination will not take it (413), its largest values are cut.
        dialect: ``gen_ai``, ``openinference`` or ``langfuse``: spans of other families get its attributes beside their own, so
            that the collector sees what they mean. By default a collector gets spans as they are, and Langfuse our corrections
            alone, as ``langfuse.*`` attributes.
        dialect_only: instead of their own attributes for the same things, not beside them.
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
        endpoint: str | None = None,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        compression: str | None = None,
        certificate_file: str | os.PathLike[str] | None = None,
        client_certificate_file: str | os.PathLike[str] | None = None,
        client_key_file: str | os.PathLike[str] | None = None,
        max_request_bytes: int | None = None,
        dialect: str | None = None,
        dialect_only: bool = False,
        mask: Mask | None = None,
        **delivery: Unpack[DeliverySettings],
    ) -> None:
        config = config_of(
            delivery,
            public_key=public_key,
            secret_key=secret_key,
            base_url=base_url,
            timeout=timeout,
            compression=compression,
            max_request_bytes=max_request_bytes,
            certificate_file=certificate_file,
            client_certificate_file=client_certificate_file,
            client_key_file=client_key_file,
        )
        spoken = _protocol(protocol)
        if endpoint is None:
            if headers is not None:
                raise ConfigError("headers=...: expected together with endpoint=, where they are sent")
            self._init_langfuse(config, mask, spoken, _dialect(dialect, only=dialect_only))
            return
        if public_key is not None or secret_key is not None or base_url is not None:
            raise ConfigError("endpoint=...: expected without public_key, secret_key and base_url, which are never sent there")
        url = _endpoint(endpoint, spoken)
        credentials = checked_metadata(headers or {}) if spoken == "grpc" else checked_headers(headers or {})
        files = (certificate_file, client_certificate_file, client_key_file)  # the environment's are for Langfuse
        tls = Tls(*(None if path is None else os.fspath(path) for path in files))
        transport = new_transport(spoken, url, credentials, tls)
        target = _target(url, {"user-agent": user_agent()}, config, spoken, _dialect(dialect, only=dialect_only))
        super().__init__(target, transport, timeout_s=config.timeout_s, mask=mask, config=config)

    @classmethod
    def from_config(cls, config: Config, *, mask: Mask | None = None) -> LangfuseOTLPExporter:
        """An exporter to the Langfuse server that a checked configuration names."""
        exporter = cls.__new__(cls)
        exporter._init_langfuse(config, mask)  # noqa: SLF001 - our own
        return exporter

    @classmethod
    def for_collector(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        max_request_bytes: int | None = None,
        dialect: str | None = None,
        dialect_only: bool = False,
        mask: Mask | None = None,
        **delivery: Unpack[DeliverySettings],
    ) -> LangfuseOTLPExporter:
        """An exporter to the collector that ``OTEL_EXPORTER_OTLP_*`` name, by OpenTelemetry's rules.

        Read are ``ENDPOINT``, ``PROTOCOL`` (``http/protobuf`` where none is named), ``HEADERS``, ``TIMEOUT`` (in seconds; 10),
        ``COMPRESSION`` (``gzip`` where none is named), ``CERTIFICATE``, ``CLIENT_CERTIFICATE``, ``CLIENT_KEY`` and, for gRPC,
        ``INSECURE``; each with ``TRACES_`` before its name wins over the one without. The endpoint is by default
        http://localhost:4318/v1/traces, for gRPC http://localhost:4317.

        Args:
            environ: variable -> text; by default the process's environment.
            max_request_bytes: as above, like the others.
            dialect: None leaves spans as they are.
            dialect_only: whether it takes the place of the spans' own attributes.
            mask: function of one text.
            delivery: see ``DeliverySettings``.

        Raises:
            ConfigError: a variable cannot work.
        """
        found = collector(otlp_variables() if environ is None else otlp_variables(environ))
        return cls(
            endpoint=found.endpoint,
            protocol=found.protocol,
            headers=found.headers,
            timeout=found.timeout_s,
            compression=found.compression or "gzip",
            certificate_file=found.certificate_file,
            client_certificate_file=found.client_certificate_file,
            client_key_file=found.client_key_file,
            max_request_bytes=max_request_bytes,
            dialect=dialect,
            dialect_only=dialect_only,
            mask=mask,
            **delivery,
        )

    @property
    def replaces(self) -> bool:
        """Whether it sends to Langfuse itself; see ``LangfuseExporter.replaces``."""
        return SDK_NAME_HEADER in self.target.headers

    def _init_langfuse(
        self, config: Config, mask: Mask | None, protocol: Protocol = "http/protobuf", wording: Mapping[str, Any] | None = None
    ) -> None:
        if sqlite_path(config.base_url) is not None:
            raise ConfigError(f"base_url={config.base_url!r}: expected http(s)://... for OTLP")
        if protocol == "grpc":
            raise ConfigError(
                "protocol='grpc': expected http/protobuf or http/json, which are what Langfuse speaks; grpc is for collectors, "
                "with endpoint="
            )
        missing = missing_keys(config)
        self.public_key = config.public_key or ""
        credentials = {} if missing else basic_authorization(str(config.public_key), str(config.secret_key))
        headers = {**langfuse_headers(config), "x-langfuse-ingestion-version": INGESTION_VERSION}
        target = _target(config.base_url + OTLP_PATH, headers, config, protocol, {**(wording or {}), "corrections": True})
        tls = Tls(config.certificate_file, config.client_certificate_file, config.client_key_file)
        transport = new_transport(protocol, config.base_url, credentials, tls)
        super().__init__(target, transport, timeout_s=config.timeout_s, mask=mask, config=config, missing=missing)


def _protocol(value: str | None) -> Protocol:
    for protocol in PROTOCOLS:
        if value == protocol or value is None:
            return protocol
    raise ConfigError(f"protocol={str(value)[:100]!r}: expected {' or '.join(PROTOCOLS)}")


def _endpoint(value: str, protocol: Protocol) -> str:
    try:
        return grpc_server(value) + GRPC_PATH if protocol == "grpc" else http_endpoint(value)
    except ValueError:
        form = (
            "http(s)://host:port without a path, for gRPC"
            if protocol == "grpc"
            else "http(s)://host[:port]/path without credentials"
        )
        raise ConfigError(f"endpoint=...: expected {form}") from None


def _dialect(value: str | None, *, only: bool) -> dict[str, Any]:
    if value is not None and value not in DIALECTS:
        raise ConfigError(f"dialect={str(value)[:100]!r}: expected {' or '.join(DIALECTS)}")
    if only and value is None:
        raise ConfigError("dialect_only=True: expected together with dialect=, which is what is left then")
    return {"dialect": value, "dialect_only": only}


def _target(url: str, headers: Mapping[str, str], config: Config, protocol: Protocol, wording: Mapping[str, Any]) -> Target:
    compression = cast('Literal["gzip", "none"]', config.compression)
    target = Target("otlp", url, headers, config.max_request_bytes, compression, protocol, **wording)
    if target.corrections or target.dialect is not None:
        load_dialects()
    return target
