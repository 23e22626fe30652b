"""A receiver of webhooks, as ``docs/webhooks.md`` asks for it, that writes everything down."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass
class Inbox:
    """``answer`` says the status of a message's n-th try, counted from one."""

    secret: str
    answer: Callable[[str, int], int] = lambda _, __: 200
    tries: Counter[str] = field(default_factory=Counter)
    """By webhook-id."""
    accepted: Counter[str] = field(default_factory=Counter)
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The latest of each message."""
    forged: int = 0
    """Whose signature does not verify."""
    together: int = 0
    """That came while another try of theirs was not answered yet."""
    first_at: dict[str, float] = field(default_factory=dict)
    """When each came first, in seconds since the epoch."""
    _open: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer to one request."""
        message_id = str(headers["webhook-id"])
        with self._lock:
            self.tries[message_id] += 1
            number = self.tries[message_id]
            self.together += bool(self._open[message_id])
            self._open[message_id] += 1
            self.first_at.setdefault(message_id, time.time())
        try:
            event = Webhook(self.secret).verify(body, {**headers})
        except WebhookVerificationError:
            self.forged += 1
            return 401
        else:
            status = self.answer(message_id, number)
            with self._lock:
                self.events[message_id] = event
                self.accepted[message_id] += 200 <= status < 300
            return status
        finally:
            with self._lock:
                self._open[message_id] -= 1


@contextmanager
def listening(inbox: Inbox) -> Any:
    """The inbox behind plain HTTP on loopback: its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # its sender has died in the middle of it: no message, and nobody to answer
                self.close_connection = True
                return
            self.send_response(inbox.receive(dict(self.headers), body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/hook?token=hunter2"
        finally:
            server.shutdown()
