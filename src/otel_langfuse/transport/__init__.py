"""``send(Request) -> Response``: the only socket, and the only place where credentials are.

It never raises for network trouble, never retries and never follows redirects. One pool of kept-alive connections for each
origin, by urllib3. TLS certificates are verified against the system's store (``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` as OpenSSL
has them), or certifi's where the system has none. Proxies: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` (host
names and their suffixes, or ``*``), read at the first request, as ``urllib.request`` reads them; of an http(s) proxy only.
All of this holds for gRPC, too (``_grpc``), but for its own way to find the system's store, and https to a proxy.
"""

from __future__ import annotations

import base64
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit

from opentelemetry import context as otel_context

from otel_langfuse import threads
from otel_langfuse.errors import ConfigError
from otel_langfuse.model import Request, Response

from ._tls import NO_TLS, Tls, checked

__all__ = [
    "MAX_IDLE_S",
    "MAX_RESPONSE_BYTES",
    "HttpTransport",
    "Tls",
    "Transport",
    "basic_authorization",
    "new_transport",
    "suppressed",
]

Origin: TypeAlias = "tuple[str, str, int]"
"""Scheme, host in lower case, port."""

MAX_RESPONSE_BYTES: Final = 1 << 20
"""More of a body than this is not read."""

MAX_IDLE_S: Final = 4.0
"""A connection that was idle for longer is not used again. Node's servers, Langfuse among them, close theirs after five
seconds, which is how often we flush: a request that crosses such an end is lost on the way, and has to be sent again."""

_SUPPRESS_KEYS: Final = tuple(
    key
    for key in (
        getattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY", None),
        getattr(otel_context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None),
        "suppress_instrumentation",
    )
    if key
)
"""The context keys by which instrumentations know that they are to look away (protocol.md 5)."""


class Transport(Protocol):
    """What an exporter sends by."""

    def send(self, request: Request, timeout_s: float) -> Response:
        """Sends a request and returns what came back; see ``HttpTransport.send``."""

    def close(self) -> None:
        """Closes idle connections. A later ``send`` opens new ones."""


@contextmanager
def suppressed() -> Iterator[None]:
    """While this is open, instrumentations record nothing on this thread: our own requests are not to be traced."""
    context = otel_context.get_current()
    for key in _SUPPRESS_KEYS:
        context = otel_context.set_value(key, True, context)
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def basic_authorization(public_key: str, secret_key: str) -> dict[str, str]:
    """The header by which Langfuse knows a project (api.md 1.2)."""
    return {"authorization": "Basic " + base64.b64encode(f"{public_key}:{secret_key}".encode()).decode()}


def new_transport(protocol: str, url: str, credentials: Mapping[str, str], tls: Tls = NO_TLS) -> Transport:
    """A transport for OTLP's ``grpc``, or for one of its protocols over HTTP.

    Raises:
        ConfigError: grpcio is not installed, or a file of ``tls`` cannot be used.
    """
    checked(tls)
    if protocol != "grpc":
        return HttpTransport(url, credentials, tls=tls)
    try:
        from ._grpc import GrpcTransport  # noqa: PLC0415 - grpcio is an extra, and slow to import
    except ImportError:
        raise ConfigError("protocol='grpc': expected grpcio, which pip install 'otel-langfuse[otlp]' brings") from None
    return GrpcTransport(url, credentials, tls=tls)


class HttpTransport:
    """Sends over HTTP/1.1.

    Args:
        url: any URL of the destination. Its scheme, host and port are the only ones that get ``credentials``.
        credentials: headers that nobody else may see; never in a ``Request``, a ``Response`` or an error.
        tls: files for https; read whenever a connection is made, so they may be renewed. The same origin's only.

    May be used by several threads at once. A forked child opens connections of its own.
    """

    def __init__(self, url: str, credentials: Mapping[str, str], *, tls: Tls = NO_TLS) -> None:
        self._origin = origin_of(url)
        self._credentials = dict(credentials)
        self._secrets = words_of(self._credentials)
        self._tls = tls
        # Loaded with the first transport, not with the package, which must be cheap to import; and not first by a worker,
        # because a process may fork at any time, and a child waits forever for what another thread was loading.
        from . import _http  # noqa: PLC0415

        self._http = _http
        self._reset()
        _TRANSPORTS.add(self)

    def __repr__(self) -> str:
        return f"HttpTransport({self._origin!r})"

    def _reset(self) -> None:
        """Forgets all connections without closing them: in a forked child they are the parent's."""
        self._lock = threads.Lock()
        self._pools: dict[tuple[Origin, int], Any] = {}
        self._used_at: dict[tuple[Origin, int], float] = {}

    def send(self, request: Request, timeout_s: float, *, method: str = "POST") -> Response:
        """Sends a request.

        Args:
            request: to be sent to its ``url``; its headers get the credentials only if the origin is ours.
            timeout_s: seconds for all of it. A server that trickles its answer byte by byte does not extend it. Resolving the
                name, and each step of a TLS or proxy handshake, are bounded only each by itself.
            method: of HTTP.

        Returns:
            The status, the headers with names in lower case and at most ``MAX_RESPONSE_BYTES`` of the body, as far as it
            arrived in time; or no status but an error, which is one line without any credential.
        """
        with suppressed(), self._http.deadline(timeout_s):
            try:
                return self._send(request, timeout_s, method)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong on a network is an answer, not an exception
                return Response(None, error=self._http.reason(error, timeout_s))

    def close(self) -> None:
        """Closes idle connections. A later ``send`` opens new ones."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.clear()

    def _send(self, request: Request, timeout_s: float, method: str) -> Response:
        origin = origin_of(request.url)
        headers = {**request.headers, **self._credentials} if origin == self._origin else dict(request.headers)
        answer = self._pool(origin).request(method, request.url, request.body, headers, timeout_s)
        body, error = self._read(answer)
        kept = {name.lower(): value for name, value in answer.response.headers.items()}
        for secret in self._secrets:  # a proxy's error page may show the request that it got
            body = body.replace(secret, b"***")
        return Response(answer.response.status, kept, body, error)

    def _read(self, answer: Any) -> tuple[bytes, str | None]:
        """The body, as far as it comes. The connection is kept only if all of it came."""
        parts: list[bytes] = []
        left = MAX_RESPONSE_BYTES
        try:
            while left and (part := answer.read(left)):
                parts.append(part)
                left -= len(part)
        except Exception as error:  # noqa: BLE001 - the status is known; the body is of less interest
            answer.end(keep=False)
            return b"".join(parts), f"{type(error).__name__} while reading the answer"
        answer.end(keep=left > 0)
        return b"".join(parts), None

    def _pool(self, origin: Origin) -> Any:
        # gevent's sockets work only in the thread that made them: then each thread has a pool of its own.
        key = (origin, threads.get_ident() if threads.is_patched() else 0)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                pool = self._pools[key] = self._http.Pool(*origin, self._tls if origin == self._origin else NO_TLS)
            now = time.monotonic()
            if now - self._used_at.get(key, now) > MAX_IDLE_S:
                pool.clear()
            self._used_at[key] = now
            return pool


def words_of(credentials: Mapping[str, str]) -> tuple[bytes, ...]:
    """What must not be seen in an answer: every word of the credentials that is too long to be there by chance."""
    return tuple(word.encode() for value in credentials.values() for word in value.split() if len(word) >= 8)


def origin_of(url: str) -> Origin:
    """Who is to get the credentials: the server that a URL names."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


# -- forks -------------------------------------------------------------------------------------------------------------

_TRANSPORTS: weakref.WeakSet[HttpTransport] = weakref.WeakSet()


def _forget_parent() -> None:
    for transport in list(_TRANSPORTS):
        transport._reset()  # noqa: SLF001 - our own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
