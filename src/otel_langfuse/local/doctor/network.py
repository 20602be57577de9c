"""From a host name to an encrypted connection, step by step, each within a limit."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

from otel_langfuse.transport import Tls
from otel_langfuse.transport._http import certificates, proxy

from .findings import Finding, fail, ok, skip, warn

EXPIRES_SOON_DAYS: Final = 14

_SELF_SIGNED: Final = {18, 19, 20, 21}  # X509_V_ERR_*: nothing leads from the certificate to an authority that is trusted
_EXPIRED, _NOT_YET, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64

T = TypeVar("T")


class Peer(NamedTuple):
    """Whom to connect to, what for, and how to call the setting that names it."""

    host: str
    port: int
    is_secure: bool
    setting: str
    tls: Tls


def peer_of(url: str, setting: str, tls: Tls) -> Peer:
    """The server of a URL."""
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    return Peer(parts.hostname or "", parts.port or (443 if is_secure else 80), is_secure, setting, tls)


def reach(peer: Peer, timeout_s: float) -> Iterator[Finding]:
    """Resolves the name, connects, and greets by TLS; stops at the first failure. A proxy does the rest by itself."""
    through = proxy("https" if peer.is_secure else "http", peer.host)
    if through is not None:
        peer = peer_of(through, "the proxy variables", Tls())
        yield ok("proxy", f"requests go through {peer.host}:{peer.port}, as HTTP_PROXY, HTTPS_PROXY or ALL_PROXY say")
    addresses, finding = _resolve(peer, timeout_s)
    yield finding
    if not addresses:
        return
    connected, finding = _connect(peer, addresses, timeout_s)
    yield finding
    if connected is None:
        return
    with connected:
        if through is not None:
            yield skip("TLS", "the proxy makes the connection to the server")
        elif peer.is_secure:
            yield _greet(peer, connected)
        else:
            yield skip("TLS", "http:// has none")


def _resolve(peer: Peer, timeout_s: float) -> tuple[list[Any], Finding]:
    try:
        found = _within(timeout_s, lambda: socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM))
    except TimeoutError:
        text = f"no answer about {peer.host} within {timeout_s:g} s"
        return [], fail("name", text, "check this machine's name servers (/etc/resolv.conf)")
    except (OSError, UnicodeError) as error:
        text = f"{peer.host} cannot be resolved: {getattr(error, 'strerror', None) or error}"
        return [], fail("name", text, f"check the spelling of {peer.setting}, and this machine's name servers")
    addresses = list(dict.fromkeys(address[4][0] for address in found))
    return found, ok("name", f"{peer.host} is {', '.join(map(str, addresses[:4]))}")


def _connect(peer: Peer, addresses: list[Any], timeout_s: float) -> tuple[socket.socket | None, Finding]:
    deadline = time.monotonic() + timeout_s
    reason = "no address"
    remedy = f"check host and port of {peer.setting}, and whether a firewall or a proxy is between"
    for family, kind, number, _, address in addresses:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        connection = socket.socket(family, kind, number)
        connection.settimeout(left_s)
        try:
            connection.connect(address)
        except TimeoutError:
            reason = f"no answer within {timeout_s:g} s"
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if isinstance(error, ConnectionRefusedError):
                remedy = f"nothing listens there: check the port of {peer.setting}, and that the server runs"
        else:
            connection.settimeout(timeout_s)
            return connection, ok("connection", f"port {peer.port} answers")
        connection.close()
    return None, fail("connection", f"{peer.host} port {peer.port}: {reason}", remedy)


def _greet(peer: Peer, connection: socket.socket) -> Finding:
    try:
        with context(peer.tls).wrap_socket(connection, server_hostname=peer.host) as secure:
            return _expiry(secure.getpeercert() or {}, secure.version() or "TLS")
    except ssl.SSLCertVerificationError as error:
        return fail("TLS", f"the certificate is not trusted: {error.verify_message}", _remedy(peer, error.verify_code))
    except ssl.SSLError as error:
        remedy = (
            f"if the server speaks plain HTTP, {peer.setting} is to begin with http://; if it asks for a certificate of ours, "
        )
        return fail("TLS", f"no secure connection: {error.reason or error}", remedy + "name it by LANGFUSE_CLIENT_CERTIFICATE")
    except OSError as error:
        return fail("TLS", f"no secure connection: {error}", f"check that {peer.setting} names a port that speaks TLS")


def context(tls: Tls) -> ssl.SSLContext:
    """As the transport verifies: the system's authorities, or those of a file."""
    made = ssl.create_default_context(cafile=tls.certificate_file or certificates())
    if tls.client_certificate_file is not None:
        made.load_cert_chain(tls.client_certificate_file, tls.client_key_file, password="")
    return made


def _remedy(peer: Peer, code: int) -> str:
    if code in (_EXPIRED, _NOT_YET):
        return "renew the server's certificate; or this machine's clock is wrong"
    if code in (_OTHER_HOST, _OTHER_ADDRESS):
        return f"{peer.setting} must name the server as its certificate does"
    if code in _SELF_SIGNED:
        return "name the PEM file of the authority that signed it by LANGFUSE_CERTIFICATE (for a collector: certificate_file=)"
    return "have the server's certificate looked at"


def _expiry(certificate: dict[str, Any], version: str) -> Finding:
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), timezone.utc)
    left = expires - datetime.now(timezone.utc)
    text = f"{version}, the certificate is trusted until {expires:%Y-%m-%d}"
    if left.days < EXPIRES_SOON_DAYS:
        return warn("TLS", text, "renew it soon: from then on nothing is delivered")
    return ok("TLS", text)


def _within(timeout_s: float, ask: Callable[[], T]) -> T:
    """The answer of a call that has no timeout of its own.

    Raises:
        TimeoutError: there was none in time; the call is left behind.
    """
    answers: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - raised below, on the other thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError
    return answers[0]
