"""Files by https address, from those that may be asked. A redirect is an address like the first one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urljoin

from jobs.outbound import Dialer, OutboundError

MAX_REDIRECTS = 3
HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "DragAnything"}
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Fetcher:
    """Fetches what the dialer reaches."""

    dialer: Dialer

    def fetch(self, url: str, max_bytes: int, within_s: float) -> bytes:
        """The file at an https address.

        Raises:
            OutboundError: the address is not allowed, or answers no file of at most ``max_bytes`` in time.
        """
        ends = time.monotonic() + within_s
        for _ in range(1 + MAX_REDIRECTS):
            with self.dialer.ask("GET", url, ends, HEADERS) as response:
                answer = _read(response, max_bytes)
            if isinstance(answer, bytes):
                return answer
            try:
                url = urljoin(url, answer)
            except ValueError:
                raise OutboundError("The address redirects to what is none.") from None
        raise OutboundError(f"The address redirects more than {MAX_REDIRECTS} times.")


def _read(answer: HTTPResponse, max_bytes: int) -> bytes | str:
    """The file, or the address that a redirect names."""
    location = answer.headers.get("Location")
    if answer.status in _REDIRECTS and location is not None:
        return location
    if answer.status != 200:
        raise OutboundError(f"The address answers {answer.status}, not 200.")
    data = b"" if (answer.length or 0) > max_bytes else answer.read(max_bytes + 1)
    if not 0 < len(data) <= max_bytes:
        raise OutboundError(f"The address has no file, or one of more than {max_bytes >> 20} MB.")
    return data
