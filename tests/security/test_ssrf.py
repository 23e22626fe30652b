"""Images by address: nothing that a user writes, or a name server or a redirect answers, leads into our network.

Names are resolved by a table and every connection is diverted to a server of the test: nothing leaves the machine.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs.fetching import Fetcher
from jobs.outbound import Dialer, OutboundError, is_public
from jobs.settings import Settings
from jobs.spec import JobSpec
from jobs.store import Store
from service import sources
from service.app import create_app
from tests import doors
from tests.internet import HOST, OTHER, PUBLIC, SECOND, Network, Server, ok, redirect

PNG = doors.picture()
MAX = 1_000_000

HOSTILE_URLS = [
    "",
    "images.example.com/a.png",
    "//images.example.com/a.png",
    "http://images.example.com/a.png",
    "HTTP://images.example.com/",
    "ftp://images.example.com/a.png",
    "file:///etc/passwd",
    "file://images.example.com/etc/passwd",
    "gopher://images.example.com:443/_x",
    "dict://images.example.com:443/x",
    "data:image/png;base64,AAAA",
    "jar:https://images.example.com!/",
    "unix:///run/redis.sock",
    "https:///a.png",
    "https:/images.example.com/a.png",
    "https:images.example.com",
    "https://",
    "https://?x",
    "https://#x",
    "https://:443/",
    "https://user@images.example.com/",
    "https://user:password@images.example.com/",
    "https://:@images.example.com/",
    "https://@images.example.com/",
    "https://images.example.com@127.0.0.1/",
    "https://127.0.0.1#@images.example.com/",
    "https://127.0.0.1\\@images.example.com/",
    "https://images.example.com\\@127.0.0.1/",
    "https://images.example.com\\.127.0.0.1/",
    "https://images.example.com:80/",
    "https://images.example.com:22/",
    "https://images.example.com:6379/",
    "https://images.example.com:0/",
    "https://images.example.com:65536/",
    "https://images.example.com:-1/",
    "https://images.example.com:4 43/",
    "https://images.example.com:443@127.0.0.1/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://metadata/computeMetadata/v1/",
    "https://127.0.0.1/",
    "https://127.0.0.1:443/",
    "https://127.1/",
    "https://127.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://2130706433/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0177.0.0.01/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x7f.1/",
    "https://0X7F.0X0.0X0.0X1/",
    "https://a.0x7f/",
    "https://127.0.0.1./",
    "https://127%2e0%2e0%2e1/",
    "https://127。0。0。1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://0251.0376.0251.0376/",
    "https://100.100.100.200/",
    "https://10.0.0.1/",
    "https://192.168.0.1/",
    "https://93.184.215.14/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00:ec2::254]/",
    "https://[v1.x]/",
    "https://[::1/",
    "https://images.example.com]/",
    "https://images.example.com/a b.png",
    "https://images.example.com/a\r\nHost: internal\r\n\r\n",
    "https://images.example.com/a\nX: y",
    "https://images.example.com\t.evil.example/",
    " https://images.example.com/",
    "https://images.example.com/ ",
    "https://images.example.com/\0",
    "https://images.example.com%00.evil.example/",
    "https://images.example.com%0d%0a/",
    "https://images_example.com,127.0.0.1/",
    "https://-images.example.com/",
    "https://images..example.com/",
    "https://.example.com/",
    "https://" + "a" * 64 + ".example.com/",
    "https://" + "a." * 130 + "com/",
    "https://images.example.com/" + "a" * 2048,
]

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.9.0.1",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:93.184.215.14",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "fc00::1", "fd00:ec2::254",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip


def fetch(
    network: Network, url: str = f"https://{HOST}/a.png", *, max_bytes: int = MAX, within_s: float = 20
) -> bytes:
    return Fetcher(network.dialer).fetch(url, max_bytes, within_s)


@pytest.fixture
def network(network: Network, server: Server) -> Network:
    server.script = lambda tls: tls.sendall(ok(PNG))
    return network


def test_a_public_file_is_fetched_from_the_address_that_was_checked(network: Network, server: Server) -> None:
    assert fetch(network, f"https://{HOST}/a%20b.png?size=1#top") == PNG
    assert network.resolved == [(HOST, 443)]
    assert network.connected == [(PUBLIC, 443)]
    assert server.asked_names == [HOST]
    lines = server.heads[0].decode().split("\r\n")
    assert lines[0] == "GET /a%20b.png?size=1 HTTP/1.1"
    assert f"Host: {HOST}" in lines


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_a_hostile_address_reaches_nobody(network: Network, url: str) -> None:
    with pytest.raises(OutboundError):
        fetch(network, url)
    assert (network.resolved, network.connected) == ([], [])


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_a_name_that_leads_inside_is_not_followed(network: Network, address: str) -> None:
    assert not is_public(address)
    for addresses in ([address], [PUBLIC, address], [address, PUBLIC]):
        network.names[HOST] = addresses
        with pytest.raises(OutboundError, match="public"):
            fetch(network)
    assert network.connected == []


@pytest.mark.parametrize("address", [PUBLIC, SECOND, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2a00:1450::1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_an_unknown_name_and_an_inner_one_look_the_same(network: Network) -> None:
    told = set()
    for host, addresses in (("unknown.example", None), ("inner.example", ["10.0.0.1"]), ("empty.example", [])):
        if addresses is not None:
            network.names[host] = addresses
        with pytest.raises(OutboundError) as error:
            fetch(network, f"https://{host}/")
        told.add(str(error.value))
    assert len(told) == 1


def test_a_name_is_resolved_once(network: Network, server: Server) -> None:
    """A name server that answers a public address first, and an inner one to whoever asks again."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    rebinding = Fetcher(Dialer((443,), lambda *_: next(answers), network.connect, server.trust))
    assert rebinding.fetch(f"https://{HOST}/", MAX, 20) == PNG
    assert network.connected == [(PUBLIC, 443)]


def test_the_next_address_is_tried(network: Network) -> None:
    network.names[HOST] = [PUBLIC, SECOND]
    network.refused = {PUBLIC}
    assert fetch(network) == PNG
    assert network.connected == [(PUBLIC, 443), (SECOND, 443)]


def test_the_certificate_must_be_the_names(network: Network, server: Server) -> None:
    network.names["evil.example"] = [PUBLIC]
    with pytest.raises(OutboundError, match="could not be reached"):
        fetch(network, "https://evil.example/")
    assert server.heads == []


def test_an_untrusted_certificate_is_refused(network: Network, server: Server) -> None:
    with pytest.raises(OutboundError, match="could not be reached"):
        Fetcher(Dialer((443,), network.resolve, network.connect)).fetch(f"https://{HOST}/", MAX, 20)
    assert server.heads == []


def test_other_ports_where_configured(network: Network, server: Server) -> None:
    fetcher = Fetcher(Dialer((443, 8443), network.resolve, network.connect, server.trust))
    assert fetcher.fetch(f"https://{HOST}:8443/", MAX, 20) == PNG
    assert network.connected == [(PUBLIC, 8443)]
    assert f"Host: {HOST}:8443".encode() in server.heads[0]


# -- redirects ---------------------------------------------------------------------------------------------------


def following(server: Server, *targets: str) -> None:
    answers = iter([*map(redirect, targets), ok(PNG)])
    server.script = lambda tls: tls.sendall(next(answers))


@pytest.mark.parametrize("target", ["/b.png", f"https://{OTHER}/b.png", f"//{OTHER}/b.png", "?b"])
def test_a_redirect_is_followed(network: Network, server: Server, target: str) -> None:
    following(server, target)
    assert fetch(network) == PNG
    name = OTHER if OTHER in target else HOST
    assert network.resolved == [(HOST, 443), (name, 443)]
    assert server.asked_names == [HOST, name]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect(network: Network, server: Server, status: int) -> None:
    answers = iter([redirect("/b", status), ok(PNG)])
    server.script = lambda tls: tls.sendall(next(answers))
    assert fetch(network) == PNG


def test_three_redirects_are_enough(network: Network, server: Server) -> None:
    following(server, "/1", "/2", "/3")
    assert fetch(network) == PNG
    following(server, "/1", "/2", "/3", "/4")
    with pytest.raises(OutboundError, match="redirects"):
        fetch(network)
    assert len(server.heads) == 4 + 4


@pytest.mark.parametrize("target", [url for url in HOSTILE_URLS if "://" in url and url.isprintable()])
def test_a_redirect_to_a_hostile_address_reaches_nobody(network: Network, server: Server, target: str) -> None:
    server.script = lambda tls: tls.sendall(redirect(target))
    with pytest.raises(OutboundError):
        fetch(network)
    # some are a way to say "here again"
    assert set(network.resolved) == {(HOST, 443)}
    assert set(network.connected) == {(PUBLIC, 443)}


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "64:ff9b::a00:1"])
def test_a_redirect_to_a_name_that_leads_inside_is_not_followed(
    network: Network, server: Server, address: str
) -> None:
    network.names[OTHER] = [address]
    following(server, f"https://{OTHER}/")
    with pytest.raises(OutboundError, match="public"):
        fetch(network)
    assert network.connected == [(PUBLIC, 443)]


# -- what is answered --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        ok(b""),
        ok(b"a" * (MAX + 1)),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * (MAX + 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"fffff\r\n"
        + b"a" * 0xFFFFF
        + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"-ERR unknown command 'GET'\r\n",
        b"",
    ],
    ids=range(14),
)
def test_what_is_no_file_within_the_limit_is_refused(network: Network, server: Server, answer: bytes) -> None:
    server.script = lambda tls: tls.sendall(answer)
    with pytest.raises(OutboundError):
        fetch(network)


def test_a_file_of_exactly_the_limit_is_taken(network: Network, server: Server) -> None:
    server.script = lambda tls: tls.sendall(ok(bytes(MAX)))
    assert fetch(network) == bytes(MAX)


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 Continue\r\n"]
)
def test_who_drips_is_cut_off(network: Network, server: Server, start: bytes) -> None:
    """Each byte would renew a socket's own timeout."""
    gone = threading.Event()

    def drip(tls: ssl.SSLSocket) -> None:
        try:
            tls.sendall(start)
            while not server.closing.wait(0.02):
                tls.sendall(b"x")
        except OSError:
            gone.set()
            raise

    server.script = drip
    with pytest.raises(OutboundError, match="too long"):
        fetch(network, within_s=0.5)
    assert gone.wait(20)


def test_silence_in_the_handshake_is_cut_off(network: Network) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        diverted = Dialer(
            (443,),
            network.resolve,
            lambda *_: socket.create_connection(silent.getsockname(), 20),
            network.dialer.trust,
        )
        with pytest.raises(OutboundError, match="too long"):
            Fetcher(diverted).fetch(f"https://{HOST}/", MAX, 0.3)


# -- through the API ---------------------------------------------------------------------------------------------


@pytest.fixture
def fetching(
    settings: Settings, redis: Redis, network: Network, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """The API, allowed to fetch."""
    monkeypatch.setattr(sources, "Fetcher", lambda _: Fetcher(network.dialer))
    doors.announce(redis)
    app = create_app(settings.model_copy(update={"fetch_urls": True}))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def send(client: TestClient, url: str) -> Any:
    return client.post("/v1/generate", json=doors.request(image={"url": url}))


def test_an_image_by_address_becomes_an_input(fetching: TestClient, store: Store) -> None:
    answer = send(fetching, f"https://{HOST}/a.png")
    assert answer.status_code == 202, answer.text
    spec = JobSpec.model_validate(store.get(answer.json()["id"]).spec)
    assert (spec.image.width, spec.image.height) == (doors.WIDTH, doors.HEIGHT)


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://unknown.example/", "file:///etc/passwd"])
def test_a_refused_address_is_pointed_at(fetching: TestClient, redis: Redis, url: str) -> None:
    before = doors.keys(redis)
    answer = send(fetching, url)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/image/url")
    assert doors.keys(redis) == before


def test_what_is_fetched_must_be_an_image(fetching: TestClient, server: Server) -> None:
    server.script = lambda tls: tls.sendall(ok(b"root:x:0:0:"))
    answer = send(fetching, f"https://{HOST}/a.png")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/image/url")
    assert "root" not in answer.text


def test_it_is_off_by_default(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "Fetcher", lambda _: pytest.fail("it fetches"))
    answer = send(client, f"https://{HOST}/a.png")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/image/url")
