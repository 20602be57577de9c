from __future__ import annotations

import gzip
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from base64 import b64encode
from contextlib import closing

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

from otel_langfuse.model import Request
from otel_langfuse.transport import MAX_RESPONSE_BYTES, HttpTransport, basic_authorization, suppressed
from otel_langfuse.transport._http import reason
from servers import Server, Step, closed_port, half_body, hang, late, reset, status, trickle

SLACK_S = 0.4


def post(url: str, body: bytes = b"body") -> Request:
    return Request("otlp", url + "/v1/traces", {"content-type": "application/x-protobuf"}, body, ())


def test_sends_the_request_with_the_credentials_and_returns_what_came_back() -> None:
    with Server(status(202, b"hello", X_Some="thing")) as server:
        transport = HttpTransport(server.url, basic_authorization("pk", "sk"))
        response = transport.send(post(server.url), 5)
        assert (response.status, response.body, response.error) == (202, b"hello", None)
        assert response.headers["x-some"] == "thing"
        received = server.received[0]
        assert received.path == "/v1/traces"
        assert received.body == b"body"
        assert received.headers["content-type"] == "application/x-protobuf"
        assert received.headers["authorization"] == "Basic " + b64encode(b"pk:sk").decode()


def test_the_connection_is_kept() -> None:
    with Server() as server:
        transport = HttpTransport(server.url, {})
        for _ in range(5):
            assert transport.send(post(server.url), 5).status == 200
        assert len(server.clients) == 1


def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_langfuse.transport.MAX_IDLE_S", 0.1)
    with Server() as server:
        transport = HttpTransport(server.url, {})
        transport.send(post(server.url), 5)
        transport.send(post(server.url), 5)
        assert len(server.clients) == 1
        time.sleep(0.15)
        transport.send(post(server.url), 5)
        assert len(server.clients) == 2


def test_credentials_go_to_their_origin_only() -> None:
    with Server() as ours, Server() as other:
        transport = HttpTransport(ours.url, {"authorization": "Bearer SECRET"})
        transport.send(post(other.url), 5)
        transport.send(post(other.url.replace("127.0.0.1", "localhost")), 5)
        assert len(other.received) == 2
        assert all("authorization" not in received.headers for received in other.received)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed(code: int) -> None:
    with Server() as target, Server(status(code, Location=f"{target.url}/stolen")) as server:
        response = HttpTransport(server.url, {"authorization": "Bearer SECRET"}).send(post(server.url), 5)
        assert response.status == code
        assert not target.received


def test_an_error_status_is_an_answer_and_is_not_tried_again() -> None:
    with Server(status(503, b"down", Retry_After="7")) as server:
        response = HttpTransport(server.url, {}).send(post(server.url), 5)
        assert (response.status, response.body) == (503, b"down")
        assert response.headers["retry-after"] == "7"
        assert len(server.received) == 1


def test_a_refused_connection_is_an_error_of_one_line() -> None:
    with closed_port() as url:
        response = HttpTransport(url, {}).send(post(url), 5)
        assert response.status is None
        assert response.error == "ConnectionRefusedError: Connection refused"


def test_a_name_that_nobody_has_is_an_error() -> None:
    response = HttpTransport("http://nobody.invalid", {}).send(post("http://nobody.invalid"), 5)
    assert response.status is None
    assert response.error


def test_a_reset_connection_is_an_error() -> None:
    with Server(reset) as server:
        assert HttpTransport(server.url, {}).send(post(server.url), 5).status is None


def test_a_server_that_speaks_no_http_is_an_error() -> None:
    with Server(trickle(b"\x00\x1b[31mgarbage\r\n\r\n", b"", 60)) as server:
        response = HttpTransport(server.url, {}).send(post(server.url), 1)
        assert response.status is None
        assert response.error is not None
        assert response.error.isprintable(), "what a server sends may be meant for a terminal"
        assert "garbage" in response.error


def test_a_broken_body_leaves_the_status() -> None:
    with Server(half_body(200)) as server:
        response = HttpTransport(server.url, {}).send(post(server.url), 5)
        assert response.status == 200
        assert response.error


@pytest.mark.parametrize(
    "step",
    [
        hang,
        trickle(b"HTTP/1.1 200 OK\r\n", b"X", 0.05),
        trickle(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.02),
        trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"X", 0.05),
        trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nX\r\n", 0.05),
    ],
    ids=["nothing", "a header without end", "headers without end", "a body byte by byte", "chunks without end"],
)
def test_the_timeout_is_for_the_whole_call(step: object) -> None:
    with Server(step) as server:  # type: ignore[arg-type]
        begin = time.monotonic()
        response = HttpTransport(server.url, {}).send(post(server.url), 0.3)
        assert time.monotonic() - begin < 0.3 + SLACK_S
        assert response.error


def test_a_server_that_never_reads_cannot_hold_a_large_body_longer_than_the_timeout() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        begin = time.monotonic()
        response = HttpTransport(url, {}).send(post(url, b"x" * 50_000_000), 0.3)
        assert time.monotonic() - begin < 5, "else for ever"
        assert response.error == "no answer within 0.3 s"


def test_a_server_that_reads_slowly_cannot_hold_a_large_body_longer_than_the_timeout() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        stopped = threading.Event()

        def read_slowly() -> None:
            connection, _ = listener.accept()
            with connection:
                while not stopped.wait(0.02):
                    connection.recv(1 << 16)

        thread = threading.Thread(target=read_slowly)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        begin = time.monotonic()
        response = HttpTransport(url, {}).send(post(url, b"x" * 50_000_000), 0.4)
        took = time.monotonic() - begin
        stopped.set()
        thread.join()
        assert took < 5, "it would take 16 s"
        assert response.error == "no answer within 0.4 s"


@pytest.mark.parametrize(("first_s", "second_s", "arrives"), [(5.0, 0.3, False), (0.3, 5.0, True)])
def test_on_a_connection_that_was_kept_each_call_has_its_own_time(first_s: float, second_s: float, arrives: bool) -> None:
    with Server(status(200), late(1.0, status(200))) as server:
        transport = HttpTransport(server.url, {})
        assert transport.send(post(server.url), first_s).status == 200
        begin = time.monotonic()
        assert (transport.send(post(server.url), second_s).status == 200) is arrives
        assert time.monotonic() - begin < (second_s if not arrives else 1.0) + SLACK_S
        assert len(server.clients) == 1


@pytest.mark.parametrize(
    ("step", "timeout_s"),
    [
        (status(202, b"hello", X_Some="thing"), 5.0),
        (status(204), 5.0),
        (status(307, Location="/elsewhere"), 5.0),
        (status(503, b"down", Retry_After="7"), 5.0),
        (status(200, b"x" * (2 * MAX_RESPONSE_BYTES)), 5.0),
        (status(200, gzip.compress(b"as it was sent"), Content_Encoding="gzip"), 5.0),
        (status(200, b"bye", Connection="close"), 5.0),
        (half_body(200), 5.0),
        (reset, 5.0),
        (hang, 0.3),
        (trickle(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.02), 0.3),
        (trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"X", 0.05), 0.3),
        (trickle(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nX\r\n", 0.05), 0.3),
        (trickle(b"garbage\r\n\r\n", b"", 60), 5.0),
    ],
)
def test_over_a_connection_that_was_kept_everything_is_as_over_a_new_one(step: Step, timeout_s: float) -> None:
    with Server(status(200), step, step, status(200, b"again")) as server:
        kept, new = HttpTransport(server.url, {}), HttpTransport(server.url, {})
        kept.send(post(server.url), 5)
        begin = time.monotonic()
        one = kept.send(post(server.url, b"twice"), timeout_s)
        assert time.monotonic() - begin < timeout_s + SLACK_S
        assert len(server.clients) == 1
        other = new.send(post(server.url, b"twice"), timeout_s)
        without_date = [{name: value for name, value in got.headers.items() if name != "date"} for got in (one, other)]
        assert without_date[0] == without_date[1]
        assert one.status == other.status
        assert (one.error is None) is (other.error is None)
        assert one.body == other.body or timeout_s < 1
        first, again = server.received[1:3]
        assert (first.path, first.body, first.headers) == (again.path, again.body, again.headers)
        assert kept.send(post(server.url), 5).body == b"again"


def test_a_kept_connection_that_the_server_has_closed_meanwhile_is_not_used_again() -> None:
    with Server(status(200, Connection="close"), status(200), half_body(200), status(200)) as server:
        transport = HttpTransport(server.url, {})
        found = [transport.send(post(server.url), 5) for _ in range(4)]
        assert [answer.status for answer in found] == [200] * 4
        assert [answer.error is None for answer in found] == [True, True, False, True]
        assert len(server.clients) == 3


def test_the_head_of_a_request_is_in_one_packet_with_its_body() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        transport = HttpTransport(url, {})
        sender = threading.Thread(target=transport.send, args=(post(url, b"the body"), 5.0))
        sender.start()
        connection, _ = listener.accept()
        with connection:
            packet = connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            sender.join(5)
        assert packet.startswith(b"POST ")
        assert packet.endswith(b"the body")


def test_no_more_of_an_answer_is_read_than_the_limit() -> None:
    with Server(status(200, b"x" * (3 * MAX_RESPONSE_BYTES))) as server:
        response = HttpTransport(server.url, {}).send(post(server.url), 5)
        assert len(response.body) == MAX_RESPONSE_BYTES


def test_credentials_are_in_no_repr_error_log_or_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = basic_authorization("pk-lf-1", "sk-lf-SECRET")
    token = secret["authorization"].split()[1]
    with Server(status(400, f"you sent {token}".encode()), reset) as server:
        transport = HttpTransport(server.url, secret)
        response = transport.send(post(server.url), 5)
        failed = transport.send(post(server.url), 5)
        for text in (repr(transport), repr(response), repr(failed), caplog.text):
            assert token not in text
            assert "SECRET" not in text


def test_what_it_sends_is_not_instrumented(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[object] = []

    class Look(logging.Handler):
        """Called by urllib3 in the middle of the request, on its thread."""

        def emit(self, record: logging.LogRecord) -> None:
            seen.append(otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY))

    caplog.set_level(logging.DEBUG, "urllib3.connectionpool")
    logger, look = logging.getLogger("urllib3.connectionpool"), Look()
    logger.addHandler(look)
    with Server() as server:
        HttpTransport(server.url, {}).send(post(server.url), 5)
    logger.removeHandler(look)
    assert seen
    assert set(seen) == {True}


def test_suppression_ends_with_its_block() -> None:
    with suppressed():
        assert otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) is True
        assert otel_context.get_value("suppress_instrumentation") is True
    assert otel_context.get_value(_SUPPRESS_INSTRUMENTATION_KEY) is None


def test_a_proxy_of_the_environment_is_used_unless_no_proxy_names_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(status(200, b"by proxy")) as proxy, Server(status(200, b"direct")) as server:
        monkeypatch.setenv("http_proxy", proxy.url.replace("://", "://user:p%40ss@"))
        monkeypatch.setenv("no_proxy", "elsewhere")
        request = post(server.url)
        assert HttpTransport(server.url, {}).send(request, 5).body == b"by proxy"
        assert proxy.received[0].path == request.url
        assert proxy.received[0].headers["proxy-authorization"] == "Basic " + b64encode(b"user:p@ss").decode()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert HttpTransport(server.url, {}).send(request, 5).body == b"direct"
        assert "proxy-authorization" not in server.received[0].headers


def test_the_login_of_a_proxy_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for proxy in ("http://user:SECRET@127.0.0.1:1", "socks5://user:SECRET@127.0.0.1:1", "http://user:SECRET@[broken"):
        monkeypatch.setenv("http_proxy", proxy)
        response = HttpTransport("http://host.invalid", {}).send(post("http://host.invalid"), 2)
        assert response.status is None
        assert response.error is not None
        assert "SECRET" not in response.error


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, "-out", certificate, "-keyout", key]
    subprocess.run(make, check=True, capture_output=True)
    return certificate, key


def over_tls(server: Server, certificate: tuple[str, str]) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server.url.replace("http://", "https://")


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[str, str]) -> None:
    with Server() as server:
        url = over_tls(server, certificate)
        response = HttpTransport(url, {"authorization": "Bearer SECRET"}).send(post(url), 5)
        assert response.status is None
        assert response.error is not None
        assert response.error.startswith("the certificate is not trusted")
        assert not server.received


def test_the_systems_store_of_certificates_decides_and_the_timeout_holds_over_tls(
    certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    with Server(status(200, b"ok"), trickle(b"HTTP/1.1 200 OK\r\n", b"X", 0.05)) as server:
        url = over_tls(server, certificate)
        transport = HttpTransport(url, {})
        assert transport.send(post(url, b"x" * 1_000_000), 5).body == b"ok"
        assert len(server.received[0].body) == 1_000_000
        begin = time.monotonic()
        assert transport.send(post(url), 0.3).error == "no answer within 0.3 s"
        assert time.monotonic() - begin < 0.3 + SLACK_S


def test_what_an_exception_says_is_shown_without_logins() -> None:
    assert reason(ValueError("no http://user:SECRET@host/ here"), 1) == "ValueError: no http://***@host/ here"


def test_many_threads_may_send_at_once() -> None:
    with Server() as server:
        transport = HttpTransport(server.url, {})
        statuses: list[int | None] = []

        def send() -> None:
            statuses.extend(transport.send(post(server.url), 5).status for _ in range(10))

        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_does_not_use_its_parents_connection() -> None:
    with Server() as server:
        transport = HttpTransport(server.url, {})
        transport.send(post(server.url, b"parent"), 5)
        with transport._lock:  # as another thread might hold it at that moment
            pid = os.fork()
            if pid == 0:
                os._exit(0 if transport.send(post(server.url, b"child"), 5).status == 200 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert transport.send(post(server.url, b"parent again"), 5).status == 200
        assert [received.body for received in server.received] == [b"parent", b"child", b"parent again"]


def test_it_can_be_used_again_after_it_was_closed() -> None:
    with Server() as server:
        transport = HttpTransport(server.url, {})
        transport.send(post(server.url), 5)
        transport.close()
        assert transport.send(post(server.url), 5).status == 200
