"""A real forward proxy on loopback: it takes CONNECT, tunnels, and keeps what it was asked and how much went through."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress


class Proxy(socketserver.ThreadingTCPServer):
    """A proxy on 127.0.0.1. ``asked`` are the heads of the requests that it got, ``sent_bytes`` what clients sent after that."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.asked: list[str] = []
        self.sent_bytes = 0

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[str]:
        """What it was asked to connect to."""
        return [head.split()[1] for head in self.asked]


class _Tunnel(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := self.request.recv(4096)):
                return
            head += part
        self.server.asked.append(head.decode("latin-1"))
        method, target = head.split()[:2]
        if method != b"CONNECT":
            self.request.sendall(b"HTTP/1.1 405 only CONNECT\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = target.decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port)), 5) as upstream:
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(upstream, self.request), daemon=True)
            back.start()
            self.server.sent_bytes += _pump(self.request, upstream)
            back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> int:
    total = 0
    with suppress(OSError):
        while part := source.recv(1 << 16):
            sink.sendall(part)
            total += len(part)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
    return total
