"""What only a socket or another process can show: bodies over the limit, and the memory that a bomb takes."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs.settings import Settings
from local.stack import Stack
from service.app import create_app
from tests import doors
from tests.harness import settings_of

LIMIT = 1_000_000


@pytest.fixture(scope="module")
def address(servers: Stack) -> Iterator[tuple[str, int]]:
    settings = settings_of(servers).model_copy(update={"max_body_bytes": LIMIT})
    with doors.serving(create_app(settings)) as address:
        yield address


def talk(address: tuple[str, int], head: str, *parts: bytes) -> tuple[int, dict[str, object]]:
    """Send a request as it is written here; the status and the problem of the answer."""
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(f"{head}\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode())
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent
        answer = b""
        while (match := re.search(rb"content-length: (\d+)\r\n.*?\r\n\r\n", answer, re.DOTALL)) is None or len(
            answer
        ) - match.end() < int(match[1]):
            received = connection.recv(65536)
            if not received:
                break
            answer += received
    head_, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head_
    return int(head_.split()[1]), json.loads(body)


def test_an_announced_length_over_the_limit_is_refused_at_once(address: tuple[str, int], redis: Redis) -> None:
    # nothing of the body is sent: waiting for it would never end
    status, problem = talk(address, "POST /v1/generate HTTP/1.1", f"Content-Length: {LIMIT + 1}\r\n\r\n".encode())
    assert (status, problem["code"]) == (413, "body_too_large")
    assert doors.keys(redis) == set()


def test_the_limit_holds_at_every_address(address: tuple[str, int]) -> None:
    length = f"Content-Length: {10**18}\r\n\r\n".encode()
    for path in ("/v1/jobs/x/cancel", "/nothing", "/livez"):
        assert talk(address, f"POST {path} HTTP/1.1", length)[0] == 413


def test_a_chunked_body_is_refused_once_it_is_too_long(address: tuple[str, int], redis: Redis) -> None:
    piece = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
    head = "POST /v1/generate HTTP/1.1\r\nTransfer-Encoding: chunked"
    status, problem = talk(address, head, b"\r\n", *[piece] * 20)  # no end: the limit comes first
    assert (status, problem["code"]) == (413, "body_too_large")
    assert doors.keys(redis) == set()


def test_a_body_of_the_very_limit_is_read(address: tuple[str, int]) -> None:
    length = f"Content-Length: {LIMIT}\r\n\r\n".encode()
    status, problem = talk(address, "POST /v1/generate HTTP/1.1", length, b" " * LIMIT)
    assert (status, problem["code"]) == (400, "malformed_json")


BOMB = """
import resource, sys
from jobs.errors import InvalidRequest
from jobs.settings import Settings
from service.images import read_picture
from tests.security.files import bomb, text_bomb
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
files = [bomb(60_000, 60_000), bomb(2**31 - 1, 2**31 - 1), text_bomb()]
before = peak()
for data in files:
    try: read_picture(data, "", Settings())
    except InvalidRequest: continue
    sys.exit("accepted")
print(peak() - before)
"""


def test_a_bomb_takes_no_memory() -> None:
    run = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=60, check=True)
    assert int(run.stdout) < 100, "MB"  # of pixels that would take 10 GB


def test_details_tell_no_secrets(settings: Settings) -> None:
    dead = settings.model_copy(
        update={"redis_url": "redis://:hunter2@127.0.0.1:1/0", "s3_endpoint": "http://127.0.0.1:1"}
    )
    with TestClient(create_app(dead), base_url="http://localhost") as client:
        answers = [client.get("/readyz"), client.get("/v1/models"), client.get("/v1/jobs/x")]
        answers.append(client.post("/v1/generate", json=doors.request()))
    assert [answer.status_code for answer in answers] == [503] * 4
    for answer in answers:
        assert not re.search(r"hunter2|127\.0\.0\.1|Traceback|\.py", answer.text)
