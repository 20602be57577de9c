"""``OTEL_EXPORTER_OTLP_*``, by OpenTelemetry's rules, for collectors only. Nothing of it is ever read for Langfuse.

Rules: https://opentelemetry.io/docs/specs/otel/protocol/exporter/. Each variable with ``TRACES_`` in it wins over, and replaces
whole, the one without. Where the specification and the Python SDK differ, it is as in Python: ``TIMEOUT`` is in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeVar
from urllib.parse import unquote

from otel_langfuse.config import web_url
from otel_langfuse.encode.otlp import Protocol
from otel_langfuse.errors import ConfigError

GENERAL: Final = "OTEL_EXPORTER_OTLP_"
TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_"
PATH: Final = "/v1/traces"
DEFAULT_ENDPOINTS: Final[Mapping[str, str]] = {"grpc": "http://localhost:4317"}
DEFAULT_ENDPOINT: Final = "http://localhost:4318" + PATH
DEFAULT_TIMEOUT_S: Final = 10.0

PROTOCOLS: Final[tuple[Protocol, ...]] = ("http/protobuf", "http/json", "grpc")

T = TypeVar("T")


class Collector(NamedTuple):
    """What the environment says about a collector, checked. None where it says nothing; the endpoint is as it is sent to."""

    endpoint: str
    protocol: Protocol
    headers: Mapping[str, str]
    timeout_s: float
    compression: str | None
    certificate_file: str | None
    client_certificate_file: str | None
    client_key_file: str | None


def collector(variables: Mapping[str, str], protocol: Protocol | None = None) -> Collector:
    """Reads what ``config.otlp_variables`` found.

    Args:
        variables: name -> text, none of them blank.
        protocol: instead of ``OTEL_EXPORTER_OTLP_PROTOCOL``; that of the endpoint's port and path.

    Raises:
        ConfigError: a variable cannot work; it is named, headers and logins are not shown.
    """
    protocol = protocol or _read(variables, "PROTOCOL", _protocol, " or ".join(PROTOCOLS)) or "http/protobuf"
    return Collector(
        _endpoint(variables, protocol),
        protocol,
        _read(variables, "HEADERS", _headers, "name=value,name=value with values percent-encoded", secret=True) or {},
        _read(variables, "TIMEOUT", _seconds, "a number of seconds above 0") or DEFAULT_TIMEOUT_S,
        _read(variables, "COMPRESSION", _compression, "gzip or none; deflate is not supported, as Langfuse and others refuse it"),
        _read(variables, "CERTIFICATE", _file, "the path of a PEM file"),
        _read(variables, "CLIENT_CERTIFICATE", _file, "the path of a PEM file"),
        _read(variables, "CLIENT_KEY", _file, "the path of a PEM file"),
    )


def _read(variables: Mapping[str, str], name: str, check: Callable[[str], T], expected: str, *, secret: bool = False) -> T | None:
    """The value of the variable for traces, else of that for all signals; None if neither is set."""
    variable = TRACES + name if TRACES + name in variables else GENERAL + name
    text = variables.get(variable)
    if text is None:
        return None
    try:
        return check(text.strip())
    except ValueError:
        shown = "***" if secret or any(sign in text for sign in "@?") else repr(text)[:100]
        raise ConfigError(f"{variable}={shown}: expected {expected}") from None


def _endpoint(variables: Mapping[str, str], protocol: Protocol) -> str:
    """For HTTP the endpoint for traces as it is, the general one with the signal's path; for gRPC only the server counts."""
    default = DEFAULT_ENDPOINTS.get(protocol, DEFAULT_ENDPOINT)
    if protocol == "grpc":
        scheme = "http://" if _read(variables, "INSECURE", _truth, "true or false") else "https://"
        expected = "http(s)://host:port without a path, or host:port, for gRPC"
        return (
            _read(variables, "ENDPOINT", lambda text: grpc_server(text if "://" in text else scheme + text), expected) or default
        )
    expected = "http(s)://host[:port][/path] without credentials"
    found = _read(variables, "ENDPOINT", http_endpoint, expected)
    if found is None or TRACES + "ENDPOINT" in variables:
        return found or default
    return found.rstrip("/") + PATH


def http_endpoint(text: str) -> str:
    """An endpoint over HTTP, as it was given: also with a slash at its end.

    Raises:
        ValueError: it is not http(s)://host[:port][/path], or holds credentials.
    """
    url = web_url(text)
    return url + "/" if text.strip().endswith("/") else url


def grpc_server(text: str) -> str:
    """The server of a gRPC endpoint, as http(s)://host[:port].

    Raises:
        ValueError: it is something else, or has a path, which only HTTP has a use for.
    """
    url = web_url(text)
    if url.count("/") > 2:
        raise ValueError
    return url


def _protocol(text: str) -> Protocol:
    for protocol in PROTOCOLS:
        if text.lower() == protocol:
            return protocol
    raise ValueError


def _headers(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if any(not sign or not name.strip() for name, sign, _ in pairs):
        raise ValueError
    return {unquote(name).strip(): unquote(value).strip() for name, _, value in pairs}


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError
    return seconds


def _compression(text: str) -> str:
    if text.lower() not in ("gzip", "none"):
        raise ValueError
    return text.lower()


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError
    return text
