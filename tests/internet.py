"""The internet as the tests have it: names from a table, and one server that speaks TLS for all of them.

Every connection is diverted to that server: nothing leaves the machine.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from email import message_from_bytes
from pathlib import Path

import pytest

from jobs.outbound import Dialer

HOST, OTHER = "images.example.com", "cdn.example.net"
PUBLIC, SECOND = "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
OPENSSL = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test"


class Network:
    """A resolver and a connector that write down what they are asked, and answer from a table and one server."""

    def __init__(self, server: Server) -> None:
        self.names: dict[str, Sequence[str]] = {HOST: [PUBLIC], OTHER: [PUBLIC]}
        self.resolved: list[tuple[str, int]] = []
        self.connected: list[tuple[str, int]] = []
        self.refused: set[str] = set()
        self._server = server
        self.dialer = Dialer((443,), self.resolve, self.connect, server.trust)

    def resolve(self, host: str, port: int) -> Sequence[str]:
        self.resolved.append((host, port))
        if host not in self.names:
            raise socket.gaierror
        return self.names[host]

    def connect(self, address: str, port: int, timeout_s: float) -> socket.socket:
        self.connected.append((address, port))
        if address in self.refused:
            raise ConnectionRefusedError
        return socket.create_connection(self._server.address, timeout_s)


class Server:
    """Speaks TLS for the two names. ``script`` writes what it likes; ``receive``, where set, is given each
    request's headers and body instead, and says the status of the answer."""

    def __init__(self, directory: Path) -> None:
        cert, key = str(directory / "cert.pem"), str(directory / "key.pem")
        command = OPENSSL.split()
        command += ["-addext", f"subjectAltName=DNS:{HOST},DNS:{OTHER}", "-keyout", key, "-out", cert]
        subprocess.run(command, check=True, capture_output=True)
        self._cert = cert
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(cert, key)
        self._context.sni_callback = lambda _, name, __: self.asked_names.append(name)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.closing = threading.Event()
        self.reset()
        threading.Thread(target=self._serve, daemon=True).start()

    def reset(self) -> None:
        self.asked_names: list[str | None] = []
        self.heads: list[bytes] = []
        self.script: Callable[[ssl.SSLSocket], None] = lambda tls: tls.sendall(ok(b""))
        self.receive: Callable[[dict[str, str], bytes], int] | None = None

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._cert)

    def close(self) -> None:
        self.closing.set()
        self._listener.close()

    def _serve(self) -> None:
        while not self.closing.is_set():
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=[raw], daemon=True).start()

    def _talk(self, raw: socket.socket) -> None:
        try:
            with raw, self._context.wrap_socket(raw, server_side=True) as tls:
                with tls.makefile("rb") as request:
                    head = b"".join(iter(request.readline, b"\r\n"))
                    headers = message_from_bytes(head.partition(b"\r\n")[2])
                    body = request.read(int(headers.get("Content-Length", "0")))
                if not head:
                    return
                self.heads.append(head)
                if self.receive is None:
                    self.script(tls)
                else:
                    status = self.receive(dict(headers.items()), body)
                    tls.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        except OSError:
            pass  # hung up on


def ok(body: bytes, *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def redirect(to: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command, which makes the certificate")
    server = Server(tmp_path_factory.mktemp("tls"))
    yield server
    server.close()


@pytest.fixture
def network(server: Server) -> Network:
    server.reset()
    return Network(server)
