"""urllib3's pools, with one deadline for a whole call."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - what ``socket`` wants at the first connection: not to be loaded first by a worker
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from ._tls import NO_TLS, Tls

# -- pools, proxies, certificates --------------------------------------------------------------------------------------


def new_pool(scheme: str, host: str, tls: Tls = NO_TLS) -> Any:
    """A pool of kept-alive connections to a host, through a proxy where the environment asks for one."""
    address = proxy(scheme, host)
    options: dict[str, Any] = {"num_pools": 2, "maxsize": 10}
    if scheme == "https":
        options["ca_certs"] = tls.certificate_file or certificates()
        options["cert_file"], options["key_file"] = tls.client_certificate_file, tls.client_key_file
    if address is None:
        manager = urllib3.PoolManager(**options)
    else:
        parts = urlsplit(address)
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=login)
        manager = urllib3.ProxyManager(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", **options)
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return manager


def proxy(scheme: str, host: str) -> str | None:
    """The URL of the proxy that the environment names for a host, perhaps with a login; None for none."""
    if proxy_bypass(host):
        return None
    proxies = getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def certificates() -> str | None:
    """None for the system's store; certifi's file where the system has none and certifi is installed."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        return None
    try:
        import certifi  # noqa: PLC0415 - seldom needed
    except ImportError:
        return None
    return str(certifi.where())


def timeout(timeout_s: float) -> urllib3.Timeout:
    """For one request: half of it to connect, because a name may have two addresses, and each gets that much."""
    return urllib3.Timeout(connect=timeout_s / 2, read=timeout_s)


# -- one deadline for the whole call -----------------------------------------------------------------------------------

_call: Final = threading.local()


@contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """While this is open, every read and write of this thread gets what is left of ``timeout_s``."""
    _call.deadline = time.monotonic() + timeout_s
    try:
        yield
    finally:
        del _call.deadline


def _time_left_s() -> float:
    left: float = _call.deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


_SLACK_S: Final = 0.05
"""By this much a read or a write may outlast the call. To set a socket's timeout lets go of the interpreter's lock, like every
read and write; where the application computes, each of them waits 5 ms to get it back, and a batch that is sent in twelve such
steps is slower than an application that makes 512 spans meanwhile."""

_MAX_HEAD_BYTES: Final = 16 * 1024


def _give(sock: Any) -> None:
    """Lets the next read or write take what is left of the call's time."""
    left_s = _time_left_s()
    given_s = sock.gettimeout()
    if given_s is None or not left_s <= given_s <= left_s + _SLACK_S:
        sock.settimeout(left_s + _SLACK_S)


class _TimedSocket:
    """A connected socket whose every read and write gets what is left of the call's time, not the whole again.

    The head of a request is sent together with the first of its body.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, _: float | None) -> None:
        """What urllib3 would set for each answer is set where it is needed: see ``_give``."""

    def sendall(self, data: Any) -> None:
        if not self._head and len(data) <= _MAX_HEAD_BYTES:
            self._head = bytes(data)
            return
        self._send(data)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        if self._head:
            self._send(b"")
        return io.BufferedReader(_TimedReader(self._sock))

    def _send(self, data: Any) -> None:
        view = memoryview(data).cast("B")
        first, self._head = self._head + bytes(view[: 1 << 18]), b""
        for part in (memoryview(first), view[1 << 18 :]):
            while part:
                _give(self._sock)
                part = part[self._sock.send(part[: 1 << 18]) :]  # noqa: PLW2901 - what is left of it


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until both are closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        _give(self._sock)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = _TimedSocket(self.sock)


class _SecureConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = _TimedSocket(self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


# -- errors ------------------------------------------------------------------------------------------------------------

_USERINFO: Final = re.compile(r"//[^/\s@]*@")


def reason(error: BaseException, timeout_s: float) -> str:
    """One line about an error, from its innermost cause, without anything that a URL or an object may carry."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:.3g} s"
    if isinstance(error, socket.gaierror):
        return "the host name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    shown = " ".join("".join(c if c.isprintable() else " " for c in text[:600]).split())  # it may quote what a server sent
    return _USERINFO.sub("//***@", f"{type(error).__name__}: {shown[:150]}")
