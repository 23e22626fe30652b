"""Files by https address, without opening a way into the network that the service is in.

A name is resolved once, each of its addresses must be public (RFC 6890), and the connection goes to one of those:
a second resolution could answer otherwise. Hosts are names only, for an address can be spelt in too many ways.
A redirect is an address like the first one.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin, urlsplit

MAX_URL = 2048
MAX_NAME = 253
MAX_REDIRECTS = 3
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "DragAnything"}
_TEXT = re.compile(r"[!-\[\]-~]+")  # printable ASCII without the backslash, which browsers read as a slash
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"({_LABEL}\.)+(?=[a-z]){_LABEL}", re.IGNORECASE)  # a number at the end would be an address
_REDIRECTS = (301, 302, 303, 307, 308)
_UNICAST = IPv6Network("2000::/3")
_RELAYS = IPv4Network("192.88.99.0/24")  # 6to4's, which Python counts as public (RFC 7526)

Resolve = Callable[[str, int], Sequence[str]]
Connect = Callable[[str, int, float], socket.socket]


class FetchError(Exception):
    """A file can not be had; the message is for the user."""


@dataclass(frozen=True)
class Target:
    """What an address means: ``path`` has the query."""

    host: str
    port: int
    path: str


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connect(address: str, port: int, timeout_s: float) -> socket.socket:
    """A connection to an address."""
    return socket.create_connection((address, port), timeout_s)


@dataclass(frozen=True)
class Fetcher:
    """Fetches from public addresses. ``ports`` are those that may be named; 443 needs no naming."""

    ports: Sequence[int] = (443,)
    resolve: Resolve = resolve
    connect: Connect = connect
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context

    def fetch(self, url: str, max_bytes: int, within_s: float) -> bytes:
        """The file at an https address.

        Raises:
            FetchError: the address is not allowed, or answers no file of at most ``max_bytes`` in time.
        """
        ends = time.monotonic() + within_s
        for _ in range(1 + MAX_REDIRECTS):
            answer = self._get(read_url(url, self.ports), max_bytes, ends)
            if isinstance(answer, bytes):
                return answer
            try:
                url = urljoin(url, answer)
            except ValueError:
                raise FetchError("The address redirects to what is none.") from None
        raise FetchError(f"The address redirects more than {MAX_REDIRECTS} times.")

    def _get(self, target: Target, max_bytes: int, ends: float) -> bytes | str:
        """The file, or the address that a redirect names."""
        try:
            addresses = self.resolve(target.host, target.port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or not all(map(is_public, addresses)):  # one answer: what names mean inside is not told
            raise FetchError("The host's name does not lead to public addresses.")
        try:
            with self._dial(addresses, target.port, ends) as raw, self._secure(raw, target.host, ends) as tls:
                return _read(_ask(tls, target), max_bytes)
        except (OSError, HTTPException) as error:
            told = "took too long" if time.monotonic() >= ends else "could not be fetched"
            raise FetchError(f"The address {told}.") from error

    def _dial(self, addresses: Sequence[str], port: int, ends: float) -> socket.socket:
        """A connection to the first address that takes one."""
        for address in addresses:
            with suppress(OSError):
                return self.connect(address, port, _left(ends))
        raise ConnectionError

    @contextmanager
    def _secure(self, raw: socket.socket, host: str, ends: float) -> Iterator[ssl.SSLSocket]:
        """TLS for the name, whatever the address; cut off when the time has ended, however slowly it drips."""
        tls = self.trust().wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
        cut = threading.Timer(_left(ends), _cut, [tls])
        cut.daemon = True
        with tls:
            cut.start()
            try:
                tls.do_handshake()
                yield tls
            finally:
                cut.cancel()
                _left(ends)  # what was cut off looks like an end


def read_url(url: str, ports: Sequence[int]) -> Target:
    """Take an address apart, once; what connects sees the parts alone.

    Raises:
        FetchError: it is no plain https address of a named host.
    """
    if len(url) > MAX_URL or not _TEXT.fullmatch(url):
        raise FetchError(f"An address has at most {MAX_URL} characters, percent-encoded, all of them ASCII.")
    try:
        parts = urlsplit(url)
        port = 443 if parts.port is None else parts.port
    except ValueError:
        raise FetchError("This is not an address.") from None
    if parts.scheme != "https":
        raise FetchError("Only https:// addresses are fetched.")
    if "@" in parts.netloc:
        raise FetchError("Leave the user and the password out of the address.")
    if "[" in parts.netloc or len(parts.hostname or "") > MAX_NAME or not _NAME.fullmatch(parts.hostname or ""):
        raise FetchError("The host must be a full DNS name, such as images.example.com.")
    if port not in ports:
        raise FetchError(f"Only port {', '.join(map(str, ports))} is asked.")
    return Target(str(parts.hostname), port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody on the internet can reach, and means no other one."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):  # mapped, NAT64 and compatible addresses lie outside of the unicast block
        return ip in _UNICAST and ip.is_global and ip.sixtofour is None and ip.teredo is None
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in _RELAYS


def _ask(tls: ssl.SSLSocket, target: Target) -> HTTPResponse:
    connection = HTTPSConnection(target.host, target.port, context=tls.context)
    connection.sock = tls  # so it opens none of its own
    connection.request("GET", target.path, headers=HEADERS)
    return connection.getresponse()


def _read(answer: HTTPResponse, max_bytes: int) -> bytes | str:
    location = answer.headers.get("Location")
    if answer.status in _REDIRECTS and location is not None:
        return location
    if answer.status != 200:
        raise FetchError(f"The address answers {answer.status}, not 200.")
    data = b"" if (answer.length or 0) > max_bytes else answer.read(max_bytes + 1)
    if not 0 < len(data) <= max_bytes:
        raise FetchError(f"The address has no file, or one of more than {max_bytes >> 20} MB.")
    return data


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _cut(tls: ssl.SSLSocket) -> None:
    with suppress(OSError):  # closed by now
        socket.socket.shutdown(tls, socket.SHUT_RDWR)  # SSLSocket's own would wait for the reader
