"""A service that answers what a test tells it to, over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

TIME = "2026-01-02T03:04:05Z"


@dataclass(frozen=True)
class Answer:
    """JSON for anything but bytes; ``Drop`` breaks the connection after ``chunks``."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """A chunked answer; ``whole`` says whether it ends as it should or breaks off."""

    chunks: Sequence[bytes] = ()
    whole: bool = True
    media_type: str = "text/event-stream"


class Drop:
    """The connection breaks before any answer."""


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


Reply = Answer | Stream | Drop | Callable[[], Any]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that leaves early is no error."""


class Service:
    """``service.on("GET", "/v1/jobs/j1", first, second)``: answers in order, the last one again and again."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._routes: dict[tuple[str, str], list[Reply]] = {}
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def on(self, method: str, path: str, *replies: Reply) -> None:
        self._routes[method, path] = list(replies)

    def count(self, method: str, path: str) -> int:
        return sum((seen.method, seen.path) == (method, path) for seen in self.seen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _reply(self, seen: Seen) -> Any:
        self.seen.append(seen)
        replies = self._routes.get((seen.method, seen.path))
        if not replies:
            return problem(404, "not_found", "There is nothing at this address.")
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply() if callable(reply) and not isinstance(reply, type) else reply

    def _handler(service) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                parts = urlsplit(self.path)
                content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                is_json = headers.get("content-type", "").startswith("application/json")
                body = json.loads(content) if content and is_json else content or None
                query = dict(parse_qsl(parts.query))
                reply = service._reply(Seen(self.command, parts.path, query, headers, body))
                match reply:
                    case Answer():
                        self._send(reply)
                    case Stream():
                        self._stream(reply)
                    case _:
                        self._break()

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - names of the base class

            def _send(self, answer: Answer) -> None:
                content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _stream(self, stream: Stream) -> None:
                self.send_response(200)
                self.send_header("Content-Type", stream.media_type)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for chunk in stream.chunks:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                if stream.whole:
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    self._break()

            def _break(self) -> None:
                self.close_connection = True
                self.connection.shutdown(SHUT_RDWR)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def job(status: str = "queued", job_id: str = "j1", **fields: Any) -> dict[str, Any]:
    """A job as the service writes it."""
    stage = {"queued": "queued", "running": "denoising"}.get(status, "done")
    made: dict[str, Any] = {
        "id": job_id,
        "object": "job",
        "status": status,
        "model": "tiny",
        "created_at": TIME,
        "started_at": None if status == "queued" else TIME,
        "finished_at": None,
        "expires_at": TIME,
        "progress": {"stage": stage, "step": 0, "steps": 25, "fraction": 0.0, "preview_url": None},
        "queue_position": None,
        "eta_s": None,
        "attempt": 1,
        "result": result() if status == "succeeded" else None,
        "error": {"code": "worker_crashed", "detail": "The worker died."} if status == "failed" else None,
        "warnings": [],
        "urls": {"self": "http://x/v1/jobs/j1"},
    }
    return made | fields


def running(step: int) -> dict[str, Any]:
    """A job at a denoising step."""
    progress = {"stage": "denoising", "step": step, "steps": 25, "fraction": step / 25, "preview_url": None}
    return job("running", progress=progress)


def result(**fields: Any) -> dict[str, Any]:
    """What a succeeded job has."""
    links = {f"{name}_url": f"http://s3/{name}.mp4?sig" for name in ("video", "overlay", "poster", "manifest")}
    facts = {"width": 576, "height": 320, "num_frames": 14, "fps": 7, "duration_s": 2.0, "seed": 7}
    return links | facts | {"timings_s": {"denoising": 1.5}, "scores": None} | fields


def problem(status: int, code: str, detail: str, **more: Any) -> Answer:
    """A problem document; ``errors`` and ``headers`` as keywords."""
    headers = {"Content-Type": "application/problem+json"} | more.pop("headers", {})
    body = {"type": f"https://problems/{code}", "title": code.replace("_", " "), "status": status}
    return Answer(body | {"detail": detail, "code": code} | more, status, headers)


def event(data: dict[str, Any], name: str = "snapshot") -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


SPEC = {"image": {"base64": "aW1hZ2U="}, "entities": []}
QUEUED = Answer(job(), 202)
DONE = job("succeeded")
BUSY = problem(503, "queue_full", "Later.", headers={"Retry-After": "7"})
CARD = {
    "name": "tiny",
    "width": 192,
    "height": 128,
    "num_frames": 14,
    "max_frames": 25,
    "num_inference_steps": 8,
    "max_inference_steps": 50,
    "fps": 7,
    "licences": ["Apache-2.0"],
    "weights_sha256": "ab" * 32,
    "max_pixels": 331776,
}

MANIFEST: dict[str, Any] = {
    "format": "draganything.manifest.v1",
    "request": {"seed": 7, "entities": []},
    "model": {"name": "tiny", "weights_sha256": {"combined": "ab" * 32}, "device": "cpu", "dtype": "float32"},
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "frames_sha256": "ef" * 32,
    "artifacts": {},
    "timings_s": {"denoising": 1.5},
}
