"""The inputs of a manifest: files that come with it, or what the job still has that it came with."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.errors import InvalidRequest, NotFound
from jobs.spec import Blob, ImageSource, JobSpec, MaskSource
from service.auth import Caller
from service.images import Mask, Picture, decode_base64, encode_mask, image_pointer, read_mask, read_picture
from service.layout import BACKGROUND
from service.sources import Sources
from service.state import Doors

SPEC = "/manifest/request"
"""Where a replay's body has the spec."""
_INPUT = re.compile(r"jobs/(?P<job>[0-9a-f]{32})/inputs/[\w.]{1,100}", re.ASCII)


def holds_background(spec: JobSpec) -> bool:
    """Whether the first entity is what no other mask covers."""
    return len(spec.entities) > 1 and spec.entities[0].label == BACKGROUND


@dataclass(frozen=True)
class Scene:
    """A picture, and masks with the files that they are stored as, in the order of a manifest's entities."""

    picture: Picture
    masks: list[Mask]
    mask_files: list[bytes]
    prefix: bytes | None


class Finder:
    """Finds the inputs of a manifest: files that come with it, or what the job has that it came with."""

    def __init__(
        self,
        spec: JobSpec,
        image: ImageSource | None,
        masks: Sequence[MaskSource | None],
        sender: Caller,
        services: Doors,
    ) -> None:
        self._spec, self._image_file, self._mask_files = spec, image, masks
        self._sender, self._services = sender, services
        self._size = (self._spec.image.width, self._spec.image.height)

    def find(self) -> Scene:
        """Picture and masks, each with the hash that the manifest says.

        Raises:
            InvalidRequest: a file is another one.
            NotFound: neither a file nor a stored input is there.
        """
        given, tracks = self._given(), self._spec.entities
        image = self._image()
        stored = [
            None if source else self._stored(track.mask) for track, source in zip(tracks, given, strict=True)
        ]
        lacking = [index for index in range(len(tracks)) if given[index] is None and stored[index] is None]
        derived = lacking[:1] == [0] and holds_background(self._spec)
        prefix = None if self._spec.prefix is None else self._stored(self._spec.prefix)
        missing = ["the image"] if image is None else []
        missing += [f"the mask of {tracks[index].label!r}" for index in lacking[derived:]]
        if image is None or missing:
            raise _gone(missing)
        picture = self._picture(image)
        masks = [self._mask(index, given[index], stored[index]) for index in range(derived, len(tracks))]
        if derived:
            masks.insert(0, self._rest([mask for mask, _ in masks]))
        if prefix is None and self._spec.prefix is not None:
            raise NotFound("The video that this one extends is not stored any more, or not yours.")
        return Scene(picture, [mask for mask, _ in masks], [data for _, data in masks], prefix)

    def _given(self) -> list[MaskSource | None]:
        """The mask files by entity."""
        masks, count = self._mask_files, len(self._spec.entities)
        if holds_background(self._spec) and len(masks) == count - 1:
            return [None, *masks]
        if len(masks) not in (0, count):
            raise InvalidRequest.at(
                "/masks", f"The manifest has {count} entities: give one mask for each, or none."
            )
        return list(masks) or [None] * count

    def _image(self) -> bytes | None:
        blob, source = self._spec.image, self._image_file
        if source is None:
            return self._stored(blob)
        pointer = image_pointer(source)
        data = Sources(self._sender, self._services).read(source, pointer)
        if _hash(data) != blob.sha256:
            raise InvalidRequest.at(pointer, f"This is not the image of the manifest, {blob.sha256[:64]}.")
        return data

    def _picture(self, data: bytes) -> Picture:
        picture = read_picture(data, f"{SPEC}/image", self._services.settings)
        if (picture.width, picture.height) != self._size:
            raise InvalidRequest.at(f"{SPEC}/image", f"The image has {picture.width} x {picture.height} pixels.")
        return picture

    def _mask(self, index: int, source: MaskSource | None, stored: bytes | None) -> tuple[Mask, bytes]:
        settings, track = self._services.settings, self._spec.entities[index]
        if source is None:
            assert stored is not None
            held = MaskSource(base64=base64.b64encode(stored).decode())
            return read_mask(held, f"{SPEC}/entities/{index}/mask", self._size, settings), stored
        pointer = f"/masks/{index - (len(self._spec.entities) - len(self._mask_files))}"
        mask = read_mask(source, pointer, self._size, settings)
        forms = [encode_mask(mask)]
        if source.base64 is not None:  # the stored file itself, perhaps written by another release of the encoder
            forms.append(decode_base64(source.base64, pointer, settings.max_image_bytes))
        for form in forms:
            if _hash(form) == track.mask.sha256:
                return mask, form
        raise InvalidRequest.at(pointer, f"This is not the mask of {track.label!r} in the manifest.")

    def _rest(self, masks: list[Mask]) -> tuple[Mask, bytes]:
        """The background: what no other mask covers."""
        mask = np.logical_not(np.maximum.reduce(masks)).astype(np.uint8)
        data = encode_mask(mask)
        if _hash(data) != self._spec.entities[0].mask.sha256:
            raise _gone([f"the mask of {BACKGROUND!r}"])
        return mask, data

    def _stored(self, blob: Blob) -> bytes | None:
        """An input of a job of the caller's own."""
        place = _INPUT.fullmatch(blob.key)
        if place is None:
            return None
        try:
            self._services.store.get(place["job"], self._sender.owner)
            data = self._services.storage.get(blob.key)
        except NotFound:
            return None
        return data if _hash(data) == blob.sha256 else None


def _gone(missing: list[str]) -> NotFound:
    return NotFound(
        f"Not stored any more, or not yours: {', '.join(missing)[:1000]}. Give the files: image and masks here,"
        " --image and --mask on the command line."
    )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
