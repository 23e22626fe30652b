"""Real Redis servers in the shapes that are found in the field: with ACLs, behind TLS, under Sentinel."""

from __future__ import annotations

import select
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from local.ports import HOST, choose
from local.process import Process
from local.valkey import binary

PASSWORD = "hunter2"
SENTINEL_PASSWORD = "correct horse"
TLS_HELLO = b"\x16"

OPENSSL = """\
[req]
prompt = no
distinguished_name = name
[name]
CN = throw-away
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1
"""


@dataclass(frozen=True)
class Server:
    """A Valkey, or a sentinel. A dead one stays dead."""

    port: int
    process: Process
    password: str

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@{self.address}/0"

    @contextmanager
    def client(self) -> Iterator[Redis]:
        with Redis(port=self.port, password=self.password, decode_responses=True) as client:
            yield client


@contextmanager
def valkey(directory: Path, *lines: str) -> Iterator[Server]:
    """A server with a password and these lines in its configuration."""
    own = (f"requirepass {PASSWORD}", f"primaryauth {PASSWORD}", 'save ""', "repl-diskless-sync-delay 0")
    with _serve(directory, [*own, *lines], [], PASSWORD) as server:
        yield server


@contextmanager
def sentinel(directory: Path, primary_port: int) -> Iterator[Server]:
    """A sentinel that alone decides, within a second or two, that the primary is down."""
    lines = (
        f"sentinel monitor mymaster {HOST} {primary_port} 1",
        f"sentinel auth-pass mymaster {PASSWORD}",
        "sentinel down-after-milliseconds mymaster 300",
        "sentinel failover-timeout mymaster 1000",
        f'requirepass "{SENTINEL_PASSWORD}"',
    )
    with _serve(directory, lines, ["--sentinel"], SENTINEL_PASSWORD) as server:
        yield server


@contextmanager
def _serve(directory: Path, lines: Any, flags: list[str], password: str) -> Iterator[Server]:
    directory.mkdir()
    port = choose(1)[0]
    path = directory / "server.conf"
    path.write_text("\n".join([f"bind {HOST}", f"port {port}", f"dir {directory}", *lines]))
    process = Process(directory.name, [str(binary()), str(path), *flags], log=directory / "log", env={})
    process.start()
    server = Server(port, process, password)
    try:
        until(lambda: answers(server))
        yield server
    finally:
        process.stop()


def answers(server: Server) -> bool:
    """Whether it answers PING."""
    server.process.check()
    with suppress(RedisError), server.client() as client:
        return bool(client.ping())
    return False


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    """Ask until the answer is yes."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


class Authority:
    """A throw-away certificate authority, by the openssl command."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._directory = directory
        (directory / "openssl.conf").write_text(OPENSSL)
        self.file, self._key = self._create("authority")

    def issue(self) -> tuple[Path, Path]:
        """A certificate for 127.0.0.1, and its key."""
        return self._create("leaf", "-CA", str(self.file), "-CAkey", str(self._key))

    def _create(self, kind: str, *signed: str) -> tuple[Path, Path]:
        cert, key = (self._directory / f"{kind}.{end}" for end in ("pem", "key"))
        command = [
            "openssl",
            "req",
            "-x509",
            "-config",
            str(self._directory / "openssl.conf"),
            "-extensions",
            kind,
        ]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *signed]
        subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
        return cert, key


class Front(socketserver.ThreadingTCPServer):
    """Forwards connections to a server: TLS where the client begins with it, else as they come."""

    daemon_threads = True

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        super().__init__((HOST, 0), _Forward)
        self.behind = (HOST, port)
        self.context = context
        self.accepted = 0
        self.refuses = False
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def server_close(self) -> None:
        self.shutdown()
        self._thread.join()
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is what some tests are about."""


class _Forward(socketserver.BaseRequestHandler):
    server: Front
    request: socket.socket

    def handle(self) -> None:
        self.server.accepted += 1
        if self.server.refuses:
            return
        client = self.request
        if client.recv(1, socket.MSG_PEEK) == TLS_HELLO and self.server.context:
            client = self.server.context.wrap_socket(client, server_side=True)
        with client, socket.create_connection(self.server.behind) as behind, suppress(OSError):
            while _pass_on(client, behind):
                pass


def _pass_on(client: socket.socket, behind: socket.socket) -> bool:
    """Wait for either side and give to the other what it sent; no when it has closed."""
    held = isinstance(client, ssl.SSLSocket) and client.pending()
    readable = [client] if held else select.select([client, behind], [], [])[0]
    for source in readable:
        data = source.recv(2**16)
        (behind if source is client else client).sendall(data)
        if not data:
            return False
    return True
