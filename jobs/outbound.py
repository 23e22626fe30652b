"""Requests to addresses that users name, without opening a way into the network that the service is in.

A name is resolved once, each of its addresses must be public (RFC 6890), and the connection goes to one of those:
a second resolution could answer otherwise. Hosts are names only, for an address can be spelt in too many ways.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

MAX_URL = 2048
MAX_NAME = 253
_TEXT = re.compile(r"[!-\[\]-~]+")  # printable ASCII without the backslash, which browsers read as a slash
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"({_LABEL}\.)+(?=[a-z]){_LABEL}", re.IGNORECASE)  # a number at the end would be an address
_UNICAST = IPv6Network("2000::/3")
_RELAYS = IPv4Network("192.88.99.0/24")  # 6to4's, which Python counts as public (RFC 7526)
_PORTS = {"https": 443, "http": 80}

Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float], socket.socket]


class OutboundError(Exception):
    """An address is not allowed, or can not be asked; the message is for the user, and holds no part of it."""


@dataclass(frozen=True)
class Target:
    """What an address means: ``path`` has the query."""

    host: str
    port: int
    path: str
    secure: bool = True


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connect(address: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to an address."""
    return socket.create_connection((address, port), timeout_s)


@dataclass(frozen=True)
class Dialer:
    """Asks public addresses over TLS. ``ports`` are those that may be named; 443 needs no naming.

    ``private``, for development: every address and port is allowed, with and without TLS.
    """

    ports: Sequence[int] = (443,)
    resolve: Resolve = resolve
    connect: Connect = connect
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context
    private: bool = False

    @contextmanager
    def ask(
        self, method: str, url: str, ends: float, headers: Mapping[str, str], body: bytes | None = None
    ) -> Iterator[HTTPResponse]:
        """The answer to one request, its body still to be read; ``ends`` is on the monotonic clock.

        Raises:
            OutboundError: the address is not allowed, or does not answer in time; also while the block reads.
        """
        target = self.read(url)
        addresses = self.locate(target)
        try:
            with self._dial(addresses, target.port, ends) as raw, self._limit(raw, target, ends) as stream:
                yield _ask(stream, target, method, headers, body)
        except (OSError, HTTPException) as error:
            told = "took too long" if time.monotonic() >= ends else "could not be reached"
            raise OutboundError(f"The address {told}.") from error

    def read(self, url: str) -> Target:
        """Take an address apart, once; what connects sees the parts alone.

        Raises:
            OutboundError: it is no plain https address of a named host.
        """
        if len(url) > MAX_URL or not _TEXT.fullmatch(url):
            raise OutboundError(f"An address is ASCII, percent-encoded, and has at most {MAX_URL} characters.")
        try:
            parts = urlsplit(url)
            port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
        except ValueError:
            raise OutboundError("This is not an address.") from None
        secure, host = parts.scheme == "https", parts.hostname or ""
        if not secure and not (self.private and parts.scheme == "http"):
            raise OutboundError("Only https:// addresses are allowed.")
        if "@" in parts.netloc:
            raise OutboundError("Leave the user and the password out of the address.")
        if not (host if self.private else _is_name(host) and "[" not in parts.netloc):
            raise OutboundError("The host must be a full DNS name, such as images.example.com.")
        if port not in self.ports and not self.private:
            raise OutboundError(f"Only port {', '.join(map(str, self.ports))} is allowed.")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(host, port, path, secure)

    def locate(self, target: Target) -> Sequence[str]:
        """The addresses of a host, all of them public.

        Raises:
            OutboundError: they are not, or there is none.
        """
        try:
            addresses = self.resolve(target.host, target.port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or not (self.private or all(map(is_public, addresses))):
            # one answer: what names mean inside is not told
            raise OutboundError("The host's name does not lead to public addresses.")
        return addresses

    def _dial(self, addresses: Sequence[str], port: int, ends: float) -> socket.socket:
        """A connection to the first address that takes one."""
        for address in addresses:
            with suppress(OSError):
                return self.connect(address, port, _left(ends))
        raise ConnectionError

    @contextmanager
    def _limit(self, raw: socket.socket, target: Target, ends: float) -> Iterator[socket.socket]:
        """TLS for the name, whatever the address; cut off when the time has ended, however slowly it drips."""
        stream = raw
        if target.secure:
            stream = self.trust().wrap_socket(raw, server_hostname=target.host, do_handshake_on_connect=False)
        cut = threading.Timer(_left(ends), _cut, [stream])
        cut.daemon = True
        with stream:
            cut.start()
            try:
                if isinstance(stream, ssl.SSLSocket):
                    stream.do_handshake()
                yield stream
            finally:
                cut.cancel()
                _left(ends)  # what was cut off looks like an end


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody on the internet can reach, and means no other one."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):  # mapped, NAT64 and compatible addresses lie outside of the unicast block
        return ip in _UNICAST and ip.is_global and ip.sixtofour is None and ip.teredo is None
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in _RELAYS


def _is_name(host: str) -> bool:
    return len(host) <= MAX_NAME and bool(_NAME.fullmatch(host))


def _ask(
    stream: socket.socket, target: Target, method: str, headers: Mapping[str, str], body: bytes | None
) -> HTTPResponse:
    connection = (
        HTTPSConnection(target.host, target.port, context=stream.context)
        if isinstance(stream, ssl.SSLSocket)
        else HTTPConnection(target.host, target.port)
    )
    connection.sock = stream  # so it opens none of its own
    connection.request(method, target.path, body, dict(headers))
    return connection.getresponse()


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _cut(stream: socket.socket) -> None:
    with suppress(OSError):  # closed by now
        socket.socket.shutdown(stream, socket.SHUT_RDWR)  # SSLSocket's own would wait for the reader
