from __future__ import annotations

import hashlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from socket import SHUT_WR, create_connection, socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from jobs.errors import NotFound, Unavailable
from jobs.settings import Settings
from jobs.storage import Storage, attempt_prefix, job_prefix
from local.ports import HOST, choose

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

TEN = b"0123456789"


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return Storage(settings)


def test_put_and_get(storage: Storage) -> None:
    artifact = storage.put("jobs/a/video.mp4", TEN, "video/mp4")
    assert (artifact.key, artifact.media_type, artifact.bytes) == ("jobs/a/video.mp4", "video/mp4", 10)
    assert artifact.sha256 == hashlib.sha256(storage.get(artifact.key)).hexdigest()


@pytest.mark.parametrize(
    ("byte_range", "body", "content_range"),
    [
        (None, TEN, None),
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=5-", b"56789", "bytes 5-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=99-", TEN, None),
        ("lines=1-2", TEN, None),
    ],
)
def test_open(storage: Storage, byte_range: str | None, body: bytes, content_range: str | None) -> None:
    storage.put("a", TEN, "video/mp4")
    headers, chunks = storage.open("a", byte_range)
    assert b"".join(chunks) == body
    assert headers.pop("content-range", None) == content_range
    assert headers == {"content-type": "video/mp4", "content-length": str(len(body)), "accept-ranges": "bytes"}


def test_open_comes_in_pieces(storage: Storage) -> None:
    storage.put("a", bytes(200_000), "video/mp4")
    _, chunks = storage.open("a")
    assert [len(chunk) for chunk in chunks] == [2**16] * 3 + [200_000 - 3 * 2**16]


def test_anyone_with_the_link_can_fetch(storage: Storage) -> None:
    storage.put("a b/ü.mp4", TEN, "video/mp4")
    url = storage.link("a b/ü.mp4", "video.mp4")
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, TEN)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == 'inline; filename="video.mp4"'
    assert httpx.get(url, headers={"Range": "bytes=2-4"}).content == b"234"
    assert httpx.get(url.replace("%C3%BC", "u")).status_code == 403
    assert httpx.get(url.partition("?")[0]).status_code == 403


def test_links_lead_to_the_public_address(settings: Settings) -> None:
    public = settings.model_copy(update={"s3_public_endpoint": "https://objects.example.com", "link_ttl_s": 60})
    url = Storage(public).link("a")
    assert url.startswith(f"https://objects.example.com/{settings.s3_bucket}/a?")
    assert "X-Amz-Expires=60" in url


def test_delete_takes_a_prefix_and_no_more(storage: Storage) -> None:
    mine, other = attempt_prefix("a", "1"), attempt_prefix("a", "2")
    for key in (mine + "video.mp4", mine + "poster.jpg", other + "video.mp4", job_prefix("b") + "image"):
        storage.put(key, b"", "text/plain")
    assert storage.delete(mine) == 2
    assert storage.list("jobs/") == [other + "video.mp4", "jobs/b/image"]
    assert storage.delete(mine) == 0
    assert storage.delete(job_prefix("a")) == 1
    assert storage.list("") == ["jobs/b/image"]


@pytest.mark.parametrize("read", [Storage.get, Storage.open])
def test_no_such_object(storage: Storage, read: Callable[[Storage, str], object]) -> None:
    with pytest.raises(NotFound, match="missing"):
        read(storage, "missing")


def test_the_bucket(settings: Settings, s3: S3Client) -> None:
    storage = Storage(settings.model_copy(update={"s3_bucket": "another"}))
    with pytest.raises(NotFound):
        storage.check()
    together = threading.Barrier(6)

    def create(_: int) -> None:
        together.wait()
        storage.create_bucket()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(create, range(6)))
    storage.check()
    s3.delete_bucket(Bucket="another")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.check(),
        lambda storage: storage.create_bucket(),
        lambda storage: storage.put("a", b"", "text/plain"),
        lambda storage: storage.get("a"),
        lambda storage: storage.open("a"),
        lambda storage: storage.list("a"),
        lambda storage: storage.delete("a"),
    ],
    ids=["check", "create_bucket", "put", "get", "open", "list", "delete"],
)
def test_a_dead_store_is_unavailable(settings: Settings, call: Callable[[Storage], object]) -> None:
    (port,) = choose(1)
    storage = Storage(settings.model_copy(update={"s3_endpoint": f"http://{HOST}:{port}"}))
    with pytest.raises(Unavailable) as caught:
        call(storage)
    assert caught.value.retry_after_s


@contextmanager
def flaky(endpoint: str | None, drops: int) -> Iterator[str]:
    """The address of a server that hangs up on the first connections and passes the others on."""
    target = urlsplit(endpoint or "")
    remaining = iter(range(drops))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if next(remaining, None) is not None:
                return
            with create_connection((str(target.hostname), int(target.port or 80))) as upstream:
                back = threading.Thread(target=pump, args=(upstream, self.request), daemon=True)
                back.start()
                pump(self.request, upstream)
                back.join()

    with socketserver.ThreadingTCPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_address[1]}"
        server.shutdown()


def pump(source: socket, sink: socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)
        sink.shutdown(SHUT_WR)


@pytest.mark.parametrize("patient", [True, False])
def test_patience(settings: Settings, patient: bool) -> None:
    with flaky(settings.s3_endpoint, drops=2) as endpoint:
        storage = Storage(settings.model_copy(update={"s3_endpoint": endpoint}), patient=patient)
        if not patient:
            with pytest.raises(Unavailable):
                storage.put("a", TEN, "text/plain")
        else:
            storage.put("a", TEN, "text/plain")
            assert storage.get("a") == TEN
        storage._client.close()
