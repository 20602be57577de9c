"""urllib3's pools, with one deadline for a whole call."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - what ``socket`` wants at the first connection: not to be loaded first by a worker
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from http.client import HTTPConnection as HTTPConnectionOfPython
from http.client import IncompleteRead
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ClosedPoolError
from urllib3.util import parse_url
from urllib3.util.wait import wait_for_read, wait_for_write

from ._tls import NO_TLS, Tls

# -- pools, proxies, certificates --------------------------------------------------------------------------------------


class Pool:
    """Connections to one origin that are kept alive, through a proxy where the environment asks for one.

    urllib3's manager makes them, and does all that belongs to a connection that is to be made. What goes over one that is there
    already is handed to that connection itself: that takes half of the time.
    """

    def __init__(self, scheme: str, host: str, port: int, tls: Tls = NO_TLS) -> None:
        self._manager = _new_manager(scheme, host, tls)
        self._is_direct = not isinstance(self._manager, urllib3.ProxyManager)
        self._origin = host, port, scheme
        self._kept: Any = None

    def request(self, method: str, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer:
        """Sends a request, within the ``deadline`` that is open; its answer is not read yet, and must be ended.

        Raises:
            Exception: whatever goes wrong on a network.
        """
        pool = self._kept
        connection = None if pool is None else pool.kept()
        if connection is not None:
            return Answer(_exchanged(connection, method, url, body, headers), pool, connection)
        response = self._manager.request(
            method,
            url,
            body=body,
            headers=headers,
            timeout=_timeout(timeout_s),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        if self._is_direct:
            self._kept = self._manager.connection_from_host(*self._origin)
        return Answer(response)

    def clear(self) -> None:
        """Closes those that nobody uses just now."""
        self._kept = None
        self._manager.clear()


class Answer(NamedTuple):
    """What comes back: urllib3's response, or, over a connection that was kept, the one of ``http.client``."""

    response: Any
    pool: Any = None
    connection: Any = None

    def read(self, most_bytes: int) -> bytes:
        """So much of the body, at most, and as it was sent; nothing at its end.

        Raises:
            Exception: it ends too soon, or takes too long.
        """
        part: bytes = self.response.read(most_bytes)
        if not part and self.connection is not None and self.response.length:
            raise IncompleteRead(part, self.response.length)
        return part

    def end(self, *, keep: bool) -> None:
        """Gives the connection back, if all of the answer was read, or closes it."""
        if self.connection is None:
            (self.response.release_conn if keep else self.response.close)()
        elif keep:
            self.pool.give_back(self.connection)
        else:
            self.connection.close()


def _exchanged(connection: Any, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Any:
    """What comes back over a connection that is there already."""
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it closed
            connection.request(method, _request_uri(url), body=body, headers=headers, preload_content=False, decode_content=False)
        return HTTPConnectionOfPython.getresponse(connection)  # not yet wrapped in urllib3's, which costs as much again
    except BaseException:
        connection.close()
        raise


@lru_cache(maxsize=64)
def _request_uri(url: str) -> str:
    return parse_url(url).request_uri


def _new_manager(scheme: str, host: str, tls: Tls) -> urllib3.PoolManager:
    address = proxy(scheme, host)
    options: dict[str, Any] = {"num_pools": 2, "maxsize": 10}
    if scheme == "https":
        options["ca_certs"] = tls.certificate_file or certificates()
        options["cert_file"], options["key_file"] = tls.client_certificate_file, tls.client_key_file
    if address is None:
        manager: urllib3.PoolManager = urllib3.PoolManager(**options)
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


def _timeout(timeout_s: float) -> urllib3.Timeout:
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


_MAX_HEAD_BYTES: Final = 16 * 1024


def _done(sock: Any, work: Callable[[Any], int | None], data: Any) -> int:
    """How much of ``data`` was sent or read, as soon as the socket lets ``work`` do it and as long as the call has time."""
    while True:
        _time_left_s()
        waits = wait_for_read
        try:
            count = work(data)
            if count is not None:
                return count
        except ssl.SSLWantReadError:
            pass
        except (BlockingIOError, ssl.SSLWantWriteError):
            waits = wait_for_write
        if not waits(sock, _time_left_s()):
            raise TimeoutError("timed out")


class _TimedSocket:
    """A connected socket whose every read and write gets what is left of the call's time, not the whole again.

    The head of a request is sent together with the first of its body. Nothing waits for the socket before it was tried: each wait
    lets go of the interpreter's lock, as each read and write does, and where the application computes, 5 ms pass until it is got
    back: a batch that is sent in twelve such steps is slower than an application that makes 512 spans meanwhile.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        sock.settimeout(0)
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, _: float | None) -> None:
        """What urllib3 would set for each answer is not needed: see ``_done``."""

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
                part = part[_done(self._sock, self._sock.send, part[: 1 << 18]) :]  # noqa: PLW2901 - what is left of it


class _TimedReader(io.RawIOBase):
    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until both are closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return _done(self._sock, self._raw.readinto, buffer)

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


class _KeptMixin(HTTPConnectionPool):
    def kept(self) -> Any:
        """A connection that was used before and is still there; None where there is none."""
        try:
            connection = self._get_conn()
        except ClosedPoolError:
            return None
        if not connection.is_closed:
            return connection
        self._put_conn(connection)
        return None

    def give_back(self, connection: Any) -> None:
        """The connection may be used again."""
        self._put_conn(connection)


class _Pool(_KeptMixin):
    ConnectionCls = _Connection


class _SecurePool(_KeptMixin, HTTPSConnectionPool):
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
