"""Calls of one request and one answer over gRPC, by grpcio. Loaded only where an exporter asks for gRPC.

It knows no OTLP: a ``Request``'s URL is the server and the method's path, its body is the message, and what the wire calls
``grpc-encoding`` says whether grpcio is to compress it. Retries, and what to do about an answer, are ``retry``'s; grpcio's own
are switched off.
"""

from __future__ import annotations

import base64
import os
import ssl
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import google.rpc.error_details_pb2
import google.rpc.status_pb2  # noqa: F401 - what ``retry_grpc`` reads answers with
import grpc
import grpc.experimental

from otel_langfuse import retry_grpc
from otel_langfuse.model import Request, Response

from . import _http, origin_of, suppressed, words_of
from ._tls import NO_TLS, Tls

with suppress(ImportError):  # what grpcio loads with its first channel; like the two above, not to be loaded first by a worker
    import_module("grpc._channel")

_OURS: Final = frozenset({"content-type", "user-agent", "te", "grpc-encoding", "grpc-accept-encoding", "grpc-timeout"})
"""Headers of a request that grpcio writes by itself."""

_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),  # nobody but the user says how we send
    # A new channel is a new connection; and a forked child's never one of those that its parent left in the global pool.
    ("grpc.use_local_subchannel_pool", 1),
)


_DEAD: Final = frozenset({4, 14})
"""DEADLINE_EXCEEDED, UNAVAILABLE: perhaps it is the connection, or the address, that is of no use any more."""


class _Line:
    """A channel, and how many calls are on it."""

    __slots__ = ("calls", "channel")

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.calls = 0


class GrpcTransport:
    """Sends over gRPC, all requests on one HTTP/2 connection.

    After an answer that says that the server cannot be reached, or none in time, the next request makes a new connection, to
    whatever address the name then has.

    Args:
        url: any URL of the destination; ``https`` is TLS. Only its scheme, host and port are sent to.
        credentials: metadata that nobody else may see; never in a ``Request``, a ``Response`` or an error.
        tls: files for https; read whenever a connection is made, so they may be renewed. Without ``certificate_file`` the
            system's store if that is one file, else the certificates that grpcio brings along.

    May be used by several threads at once. A forked child opens a connection of its own.
    """

    def __init__(self, url: str, credentials: Mapping[str, str], *, tls: Tls = NO_TLS) -> None:
        self._origin = origin_of(url)
        self._credentials = dict(credentials)
        self._secrets = tuple(word.decode() for word in words_of(self._credentials))
        self._tls = tls
        self._line: _Line | None = None
        self.reset()
        _TRANSPORTS.add(self)

    def __repr__(self) -> str:
        return f"GrpcTransport({self._origin!r})"

    def reset(self) -> None:
        """In a forked child: forgets the parent's connection without closing it."""
        if self._line is not None:
            _PARENTS.append(self._line)  # to let go of it might close it
        self._line = None
        self._lock = threading.RLock()

    def send(self, request: Request, timeout_s: float) -> Response:
        """Sends a request.

        Args:
            request: its ``url`` is of our origin, and its path names the method.
            timeout_s: seconds for all of it, from resolving the name to the end of the answer.

        Returns:
            The HTTP status that means the same as gRPC's; the trailers, ``grpc-status`` and ``grpc-message`` as headers (see
            ``retry_grpc``); and the message that came. Or no status but an error, which is one line without any credential.
        """
        if origin_of(request.url) != self._origin:
            return Response(None, error="the request is for another server")
        line = None
        with suppressed():
            try:
                line = self._enter(request)
                return self._call(line.channel, request, timeout_s)
            except grpc.RpcError as error:
                return self._answer(line, error)
            except Exception as error:  # noqa: BLE001 - whatever goes wrong on a network is an answer, not an exception
                return Response(None, error=_http.reason(error, timeout_s))
            finally:
                self._leave(line)

    def close(self) -> None:
        """Closes the connection; calls that are on it end as cancelled. A later ``send`` opens a new one."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.channel.close()

    def _call(self, channel: Any, request: Request, timeout_s: float) -> Response:
        sent = {name.lower(): value for name, value in request.headers.items()} | self._credentials
        method = channel.unary_unary(urlsplit(request.url).path)
        body, _ = method.with_call(
            request.body,
            timeout=timeout_s,
            metadata=[(name, value) for name, value in sent.items() if name not in _OURS],
            compression=grpc.Compression.Gzip if sent.get("grpc-encoding") == "gzip" else grpc.Compression.NoCompression,
        )
        return Response(200, {retry_grpc.STATUS: "0"}, body)

    def _answer(self, line: _Line | None, error: Any) -> Response:
        """What a status other than OK comes to."""
        code = int(error.code().value[0])
        if code in _DEAD:
            with self._lock:
                if self._line is line:
                    self._line = None
        headers: dict[str, str] = {}
        for name, value in error.trailing_metadata() or ():
            headers[name] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        message = error.details() or ""
        for secret in self._secrets:  # a proxy's error may show what it got
            message = message.replace(secret, "***")
        headers |= {retry_grpc.STATUS: str(code), retry_grpc.MESSAGE: message}
        return Response(retry_grpc.http_status(code), headers)

    # -- connections ---------------------------------------------------------------------------------------------------

    def _enter(self, request: Request) -> _Line:
        with self._lock:
            if self._line is None:
                self._line = _Line(self._new_channel(request.headers.get("user-agent", "")))
            self._line.calls += 1
            return self._line

    def _leave(self, line: _Line | None) -> None:
        """Closes a connection that was given up when the last call on it has ended: a channel does not do that by itself."""
        if line is None:
            return
        with self._lock:
            line.calls -= 1
            unused = line.calls == 0 and line is not self._line
        if unused:
            line.channel.close()

    def _new_channel(self, user_agent: str) -> Any:
        scheme, host, port = self._origin
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        proxy = _http.proxy(scheme, host)
        options = [
            *_OPTIONS,
            ("grpc.primary_user_agent", user_agent),
            ("grpc.http_proxy", proxy) if proxy else ("grpc.enable_http_proxy", 0),
        ]
        if scheme == "http":
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, self._ssl_credentials(), options)

    def _ssl_credentials(self) -> Any:
        certificate = self._tls.client_certificate_file
        return grpc.ssl_channel_credentials(
            root_certificates=_content(self._tls.certificate_file or ssl.get_default_verify_paths().cafile),
            private_key=_content(self._tls.client_key_file or certificate),
            certificate_chain=_content(certificate),
        )

    # -- forks ---------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Lets no call begin until the fork is over; and ends those that are on their way where a child could not live with them.

        With ``GRPC_ENABLE_FORK_SUPPORT`` grpcio closes, in the child, the parent's channels, and waits for ever for the calls
        on them to end, whose threads are not there (grpcio 1.85.1). They end as cancelled, so are sent again.
        """
        self._lock.acquire(timeout=1)
        if self._line is not None and self._line.calls and _closes_after_fork():
            line, self._line = self._line, None
            line.channel.close()

    def after_fork_in_parent(self) -> None:
        """Lets calls begin again."""
        with suppress(RuntimeError):  # the lock was not to be had
            self._lock.release()


def _content(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _closes_after_fork() -> bool:
    try:
        from grpc._cython import cygrpc  # noqa: PLC0415 - grpcio's own; where it is not there, nothing was measured
    except ImportError:
        return False
    return bool(getattr(cygrpc, "_GRPC_ENABLE_FORK_SUPPORT", False))


_TRANSPORTS: weakref.WeakSet[GrpcTransport] = weakref.WeakSet()
_PARENTS: Final[list[_Line]] = []
_forking: list[GrpcTransport] = []


def _before() -> None:
    _forking[:] = list(_TRANSPORTS)
    for transport in _forking:
        transport.before_fork()


def _in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()


def _in_child() -> None:
    for transport in list(_TRANSPORTS):
        transport.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
