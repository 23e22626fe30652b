"""Where the image of a request comes from: its own text, an upload, or an address."""

from __future__ import annotations

import re
import time

from jobs.errors import InvalidRequest, NotFound
from jobs.fetching import Fetcher
from jobs.outbound import Dialer, OutboundError
from jobs.spec import ImageSource
from jobs.storage import upload_key
from service.auth import Caller
from service.images import decode_base64
from service.state import Doors

_ID = re.compile("[0-9a-f]{32}")


class Sources:
    """Reads the images of one request; the same one again, as the jobs of a batch often have it, at no cost."""

    def __init__(self, sender: Caller, services: Doors) -> None:
        self._owner = sender.owner
        self._storage = services.storage
        self._settings = services.settings
        self._fetching_ends: float | None = None
        self._last: tuple[ImageSource, bytes] | None = None

    def read(self, source: ImageSource, pointer: str) -> bytes:
        """The bytes of an image file, as they are.

        Raises:
            InvalidRequest: there is none, or it is too large.
        """
        if self._last is None or self._last[0] != source:
            self._last = source, self._read(source, pointer)
        return self._last[1]

    def _read(self, source: ImageSource, pointer: str) -> bytes:
        if source.base64 is not None:
            return decode_base64(source.base64, pointer, self._settings.max_image_bytes)
        if source.upload is not None:
            return self._open(source.upload, pointer)
        assert source.url is not None
        return self._fetch(source.url, pointer)

    def _open(self, upload_id: str, pointer: str) -> bytes:
        if not _ID.fullmatch(upload_id):
            raise InvalidRequest.at(pointer, "This is no id that POST /v1/uploads has given.")
        try:
            headers, chunks = self._storage.open(upload_key(self._owner, upload_id))
        except NotFound:
            detail = "There is nothing: no file was put to the upload's put_url, or it was deleted a day later."
            raise InvalidRequest.at(pointer, detail) from None
        if int(headers["content-length"]) > self._settings.max_image_bytes:
            most = self._settings.max_image_bytes >> 20
            raise InvalidRequest.at(pointer, f"This is larger than {most} MB; send a smaller file.")
        return b"".join(chunks)

    def _fetch(self, url: str, pointer: str) -> bytes:
        settings = self._settings
        if not settings.fetch_urls:
            raise InvalidRequest.at(pointer, "This server fetches no images; send base64 or an upload.")
        if self._fetching_ends is None:
            self._fetching_ends = time.monotonic() + settings.fetch_timeout_s
        fetcher = Fetcher(Dialer(settings.fetch_ports))
        try:
            return fetcher.fetch(url, settings.max_image_bytes, self._fetching_ends - time.monotonic())
        except OutboundError as error:
            raise InvalidRequest.at(pointer, str(error)) from None
