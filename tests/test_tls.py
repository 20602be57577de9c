"""TLS with one's own authority and certificate, proxies and redirects, over HTTP and gRPC; with certificates made here."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_langfuse import ConfigError, LangfuseIngestionExporter, LangfuseOTLPExporter, LangfuseSpanProcessor, retry
from otel_langfuse.model import Request
from otel_langfuse.transport import HttpTransport, Tls
from proxies import Proxy
from servers import Server, multi_status, provider_with, sdk_spans, status

OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.usefixtures("every_span"),
    pytest.mark.skipif(OPENSSL is None, reason="no openssl to make certificates with"),
]
SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
HTTP, GRPC = "http/protobuf", "grpc"


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.05)


class Files(NamedTuple):
    """Paths of PEM files: an authority; what it vouches for, a server at 127.0.0.1 and a client; and another authority."""

    authority: str
    server: str
    server_key: str
    client: str
    client_key: str
    client_with_key: str
    locked_key: str
    other_authority: str


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run([str(OPENSSL), *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    for name in ("authority", "other"):
        usage = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]  # which Python 3.13 insists on
        openssl(folder, "req", "-x509", *key, *usage, "-subj", f"/CN={name}", "-out", f"{name}.pem", "-keyout", f"{name}.key")
    (folder / "san").write_text(
        "subjectAltName=IP:127.0.0.1\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n"
    )
    for name in ("server", "client"):
        openssl(folder, "req", *key[:-2], "-subj", f"/CN={name}", "-out", f"{name}.csr", "-keyout", f"{name}.key")
        signed = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2", "-extfile", "san"]
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    openssl(folder, "ec", "-aes128", "-passout", "pass:secret", "-in", "client.key", "-out", "locked.key")
    both = (folder / "client.pem").read_text() + (folder / "client.key").read_text()
    (folder / "client_with_key.pem").write_text(both)
    names = (
        "authority.pem",
        "server.pem",
        "server.key",
        "client.pem",
        "client.key",
        "client_with_key.pem",
        "locked.key",
        "other.pem",
    )
    return Files(*(str(folder / name) for name in names))


class Secure(NamedTuple):
    """A running server that speaks TLS, and the names of the spans that it took."""

    url: str
    names: Callable[[], list[str]]


@contextmanager
def https(files: Files, *, wants_client: bool = False) -> Iterator[Secure]:
    with Server() as server:
        wrap(server, files, wants_client=wants_client)
        yield Secure(server.url.replace("http://", "https://") + "/v1/traces", lambda: server.names)


def wrap(server: Server, files: Files, *, wants_client: bool = False) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server, files.server_key)
    if wants_client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.authority)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


@contextmanager
def grpcs(files: Files, *, wants_client: bool = False) -> Iterator[Secure]:
    grpc = pytest.importorskip("grpc")
    from grpc_servers import GrpcServer  # noqa: PLC0415 - needs grpc

    pair = Path(files.server_key).read_bytes(), Path(files.server).read_bytes()
    authority = Path(files.authority).read_bytes() if wants_client else None
    with GrpcServer(credentials=grpc.ssl_server_credentials([pair], authority, wants_client)) as server:
        yield Secure(server.url, lambda: server.names)


SERVERS: dict[str, Any] = {HTTP: https, GRPC: grpcs}


def takes(url: str, protocol: str, **settings: Any) -> None:
    """One export arrives."""
    exporter = LangfuseOTLPExporter(endpoint=url, protocol=protocol, timeout=5, **settings)
    assert exporter.export(sdk_spans(["a"])) is SUCCESS
    exporter.shutdown()


def refuses(url: str, protocol: str, **settings: Any) -> str:
    """One export does not arrive; returns what is said of it."""
    exporter = LangfuseOTLPExporter(endpoint=url, protocol=protocol, timeout=0.3, **settings)
    assert exporter.export(sdk_spans(["a"])) is FAILURE
    response = exporter._outgoing._transport.send(Request("otlp", exporter.target.url, {}, b"", ()), 2)
    exporter.shutdown()
    return f"{response.error} {response.headers.get('grpc-message')}"


# -- whom we trust -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", SERVERS)
def test_an_authority_of_ones_own_is_trusted_and_no_other(files: Files, protocol: str) -> None:
    with SERVERS[protocol](files) as server:
        takes(server.url, protocol, certificate_file=files.authority)
        assert server.names() == ["a"]
        for refused in ({}, {"certificate_file": files.other_authority}):
            assert "certificate" in refuses(server.url, protocol, **refused).lower()
        assert server.names() == ["a"]


@pytest.mark.parametrize("protocol", SERVERS)
def test_the_systems_store_is_replaced_not_added_to(files: Files, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", files.authority)
    with SERVERS[protocol](files) as server:
        takes(server.url, protocol)
        refuses(server.url, protocol, certificate_file=Path(files.other_authority))


@pytest.mark.parametrize("protocol", SERVERS)
def test_a_file_that_was_renewed_is_read_with_the_next_connection(files: Files, protocol: str, tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    shutil.copy(files.other_authority, authority)
    with SERVERS[protocol](files) as server:
        exporter = LangfuseOTLPExporter(endpoint=server.url, protocol=protocol, certificate_file=authority, timeout=1)
        assert exporter.export(sdk_spans(["a"])) is FAILURE
        shutil.copy(files.authority, authority)
        assert exporter.export(sdk_spans(["b"])) is SUCCESS
        exporter.shutdown()


# -- who we are --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", SERVERS)
def test_a_server_that_wants_to_know_who_we_are_gets_our_certificate(files: Files, protocol: str) -> None:
    with SERVERS[protocol](files, wants_client=True) as server:
        pair = {"client_certificate_file": files.client, "client_key_file": files.client_key}
        takes(server.url, protocol, certificate_file=files.authority, **pair)
        one = {"client_certificate_file": files.client_with_key}
        takes(server.url, protocol, certificate_file=files.authority, **one)
        refuses(server.url, protocol, certificate_file=files.authority)
        assert server.names() == ["a", "a"]


def test_our_certificate_is_shown_to_its_server_only(files: Files) -> None:
    tls = Tls(files.authority, files.client, files.client_key)
    with https(files, wants_client=True) as ours, https(files, wants_client=True) as other:
        transport = HttpTransport(ours.url, {}, tls=tls)
        assert transport.send(Request("otlp", ours.url, {}, b"", ()), 5).status == 200
        assert transport.send(Request("otlp", other.url, {}, b"", ()), 5).status is None


# -- settings ----------------------------------------------------------------------------------------------------------


def wrong_settings(files: Files, folder: Path) -> dict[str, tuple[dict[str, str], str]]:
    garbage = folder / "garbage.pem"
    garbage.write_text("no PEM at all")
    client = {"client_certificate_file": files.client}
    return {
        "missing": ({"certificate_file": str(folder / "nowhere.pem")}, r"certificate_file='.*nowhere\.pem': expected a PEM file"),
        "garbage": ({"certificate_file": str(garbage)}, r"certificate_file='.*garbage\.pem': expected a PEM file"),
        "directory": ({"certificate_file": str(folder)}, "certificate_file=.*expected a PEM file"),
        "key alone": ({"client_key_file": files.client_key}, "client_key_file=.*together with client_certificate_file"),
        "no key": (client, r"client_certificate_file=.*expected PEM files of a certificate and its private key"),
        "another's key": ({**client, "client_key_file": files.server_key}, "client_certificate_file=.*private key"),
        "locked key": ({**client, "client_key_file": files.locked_key}, "without a passphrase"),
    }


@pytest.mark.parametrize("protocol", SERVERS)
@pytest.mark.parametrize("which", ["missing", "garbage", "directory", "key alone", "no key", "another's key", "locked key"])
def test_files_that_cannot_work_are_refused_when_the_exporter_is_made(
    files: Files, protocol: str, which: str, tmp_path: Path
) -> None:
    settings, message = wrong_settings(files, tmp_path)[which]
    with pytest.raises(ConfigError, match=message):
        LangfuseOTLPExporter(endpoint="https://127.0.0.1:9", protocol=protocol, **settings)
    if which != "missing":
        with pytest.raises(ConfigError, match=message):
            LangfuseOTLPExporter(public_key="pk", secret_key="sk", base_url="https://127.0.0.1:9", **settings)


def test_a_locked_key_does_not_make_openssl_ask_at_the_terminal(files: Files) -> None:
    program = (
        "import sys; from otel_langfuse import LangfuseOTLPExporter as E, ConfigError\n"
        "try: E(endpoint='https://127.0.0.1:9', client_certificate_file=sys.argv[1], client_key_file=sys.argv[2])\n"
        "except ConfigError: sys.exit(3)"
    )
    leader, follower = os.openpty()
    try:
        command = [sys.executable, "-c", program, files.client, files.locked_key]
        done = subprocess.run(
            command, stdin=follower, stdout=follower, stderr=follower, timeout=20, check=False, start_new_session=True
        )
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 3


def test_langfuse_has_variables_for_it_and_they_are_not_for_collectors(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "LANGFUSE_CERTIFICATE": files.authority,
        "LANGFUSE_CLIENT_CERTIFICATE": files.client,
        "LANGFUSE_CLIENT_KEY": files.client_key,
        "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
        "LANGFUSE_SECRET_KEY": "sk-lf-SECRET",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Server(status(200), multi_status(lambda _: None)) as server:
        wrap(server, files, wants_client=True)
        url = server.url.replace("http://", "https://")
        monkeypatch.setenv("LANGFUSE_BASE_URL", url)
        processor = LangfuseSpanProcessor()
        provider_with(processor).get_tracer("t").start_span("a").end()
        assert processor.force_flush()
        processor.shutdown()
        assert LangfuseIngestionExporter().export(sdk_spans(["b"])) is SUCCESS
        assert [received.path for received in server.received] == ["/api/public/otel/v1/traces", "/api/public/ingestion"]
        refuses(url + "/v1/traces", HTTP)
        assert len(server.received) == 2


# -- proxies and redirects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", SERVERS)
def test_through_a_proxy_the_server_is_verified_and_the_proxy_sees_no_key(
    files: Files, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy() as proxy, SERVERS[protocol](files) as server:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://user:p%40ss@"))
        monkeypatch.setenv("no_proxy", "elsewhere")
        monkeypatch.setenv("NO_PROXY", "elsewhere")
        secret = {"headers": {"authorization": "Bearer SECRET-KEY"}}
        takes(server.url, protocol, certificate_file=files.authority, **secret)
        assert server.names() == ["a"]
        host = server.url.split("/")[2]
        assert set(proxy.targets) == {host}
        login = "Basic " + b64encode(b"user:p@ss").decode()
        assert all(login in head and "SECRET" not in head for head in proxy.asked)
        asked = len(proxy.asked)
        refuses(server.url, protocol, certificate_file=files.other_authority)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        asked = len(proxy.asked)
        takes(server.url, protocol, certificate_file=files.authority)
        assert len(proxy.asked) == asked


def test_a_proxy_that_is_not_there_is_an_error_without_its_login(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://user:SECRET@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "elsewhere")
    monkeypatch.setenv("NO_PROXY", "elsewhere")
    for protocol, serve in SERVERS.items():
        with serve(files) as server:
            assert "SECRET" not in refuses(server.url, protocol, certificate_file=files.authority)
            assert not server.names()


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_takes_no_key_elsewhere(files: Files, code: int) -> None:
    with Server() as thief, Server(status(code, Location=f"{thief.url}/v1/traces")) as server:
        wrap(server, files)
        base = server.url.replace("http://", "https://")
        keys = {"public_key": "pk-lf-1", "secret_key": "sk-lf-SECRET", "base_url": base}
        assert LangfuseOTLPExporter(certificate_file=files.authority, **keys).export(sdk_spans(["a"])) is FAILURE
        headers = {"authorization": "Bearer SECRET"}
        refuses(base + "/v1/traces", HTTP, certificate_file=files.authority, headers=headers)
        assert len(server.received) >= 2
        assert not thief.received
