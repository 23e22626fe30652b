"""Guards in front of the application: who may speak to it, and how much may be said."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.errors import DragAnythingError, Forbidden, TooLarge
from service.auth import has_key
from service.problems import answer


class BodyLimit:
    """Refuses a body over the limit: at once where its length is announced, else when it gets too long."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request unless its body is too large."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdigit() and int(announced) > self.max_bytes:
            await answer(self._refusal())(scope, receive, send)
            return
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise _Exceeded
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, counted, watched)
        except _Exceeded:
            if not started:
                await answer(self._refusal())(scope, receive, send)

    def _refusal(self) -> DragAnythingError:
        return TooLarge(f"A body may have {self.max_bytes >> 20} MB at most.")


class _Exceeded(BaseException):
    """Not an ``Exception``: no handler in between may turn it into something else."""


class LoopbackGuard:
    """Refuses foreign Host and Origin headers: a web page elsewhere can not reach a service on this machine
    through its visitor's browser, nor by rebinding its own name to loopback. A key can not be sent that way, so
    with ``spare_keys`` its callers are not asked."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...], spare_keys: bool) -> None:
        self.app = app
        self.allowed = frozenset(host.lower() for host in allowed_hosts)
        self.spare_keys = spare_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request unless it comes from elsewhere."""
        spared = self.spare_keys and has_key(scope)
        if scope["type"] == "http" and "*" not in self.allowed and not spared:
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            hosts = [headers.get("host", "")] + ([origin.partition("://")[2]] if origin else [])
            if not self.allowed.issuperset(map(_name, hosts)):
                error = Forbidden("This host is not served; see the setting DRAGANYTHING_ALLOWED_HOSTS.")
                await answer(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _name(host: str) -> str:
    """A host without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
