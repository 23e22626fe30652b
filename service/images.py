"""Pictures and masks as users send them: checked before they are decoded, decoded before they are believed."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from jobs.errors import InvalidRequest
from jobs.settings import Settings
from jobs.spec import ImageSource, MaskSource, Rle

FORMATS = ("PNG", "JPEG", "WEBP")
MIN_SIDE = 16
MAX_CORNER = 1_000_000
"""Pixels, of a polygon's corner in any direction."""
_ORIENTATION = 0x0112
_START_OF_SCAN = 0xDA
_DAMAGED = "The image file is truncated or damaged."
_SIDEWAYS = (5, 6, 7, 8)

# Pillow's own limit warns through process-wide filters, which threads share; every size is checked below.
Image.MAX_IMAGE_PIXELS = None

Mask = NDArray[np.uint8]
"""[H, W], zeros and ones."""


@dataclass(frozen=True)
class Picture:
    """An image that was decoded once and found whole; ``width`` and ``height`` count after EXIF orientation."""

    data: bytes
    media_type: str
    width: int
    height: int


def decode_base64(text: str, pointer: str, max_bytes: int) -> bytes:
    """The bytes of a standard base64 text.

    Raises:
        InvalidRequest: the text is no base64, or more than ``max_bytes`` come out of it.
    """
    if len(text) * 3 // 4 > max_bytes + 2:
        raise InvalidRequest.at(pointer, f"This is larger than {max_bytes >> 20} MB; send a smaller file.")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        hint = "; leave the data: prefix out" if text.startswith("data:") else ""
        raise InvalidRequest.at(pointer, f"This is not standard base64{hint}.") from None


def read_picture(data: bytes, pointer: str, settings: Settings) -> Picture:
    """Check an image file by decoding it, but for a JPEG that is seen to reach its end.

    Raises:
        InvalidRequest: not a PNG, JPEG or WebP, truncated, too small, or too many pixels.
    """
    with _open(data, pointer, settings) as image:
        size = image.size
        # Some phones write several pictures into one JPEG, which Pillow calls an MPO.
        media_type = "image/jpeg" if image.format == "MPO" else f"image/{str(image.format).lower()}"
        if image.format != "JPEG" or not _reaches_its_end(data):
            _load(image, pointer)
        width, height = size[::-1] if _orientation(image, pointer) in _SIDEWAYS else size
    return Picture(data, media_type, width, height)


def shrink_picture(picture: Picture, pointer: str, side: int) -> NDArray[np.uint8]:
    """The picture as RGB [h, w, 3], turned upright, its longer side ``side`` pixels at most.

    Raises:
        InvalidRequest: the file turns out to be damaged.
    """
    with Image.open(io.BytesIO(picture.data), formats=FORMATS) as image:
        image.draft("RGB", (side, side))  # a large JPEG is decoded at a fraction of its size
        _load(image, pointer)
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
    return np.asarray(small)


def read_mask(source: MaskSource, pointer: str, size: tuple[int, int], settings: Settings) -> Mask:
    """A mask [H, W] of zeros and ones, from any of its notations.

    Raises:
        InvalidRequest: not readable, of another size than ``size`` = (width, height), or empty.
    """
    width, height = size
    if source.base64 is not None:
        pointer += "/base64"
        mask = _read_mask_file(decode_base64(source.base64, pointer, settings.max_image_bytes), pointer, settings)
    elif source.rle is not None:
        pointer += "/rle"
        if source.rle.size != (height, width):
            _refuse_size(source.rle.size[::-1], size, pointer)
        mask = decode_rle(source.rle, pointer)
    elif source.polygon is not None:
        pointer += "/polygon"
        corners = np.asarray(source.polygon)
        if np.abs(corners).max() > MAX_CORNER:
            raise InvalidRequest.at(pointer, f"A corner lies more than {MAX_CORNER} pixels away.")
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [corners.round().astype(np.int32)], (1,))
    else:
        assert source.box is not None
        pointer += "/box"
        mask = _fill_box(source.box, size, pointer)
    if mask.shape != (height, width):
        _refuse_size((mask.shape[1], mask.shape[0]), size, pointer)
    if not mask.any():
        raise InvalidRequest.at(pointer, "The mask is empty: no pixel of the image belongs to the entity.")
    return np.asarray(mask, np.uint8)


def encode_mask(mask: Mask) -> bytes:
    """A black and white PNG of one bit per pixel."""
    _, png = cv2.imencode(".png", mask * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
    return png.tobytes()


def decode_rle(rle: Rle, pointer: str) -> Mask:
    """A COCO run-length mask: runs of zeros and ones in turn, column by column.

    Raises:
        InvalidRequest: the runs do not fill the size exactly, or the compressed text is broken.
    """
    height, width = rle.size
    runs = _decompress(rle.counts, pointer) if isinstance(rle.counts, str) else rle.counts
    if min(runs, default=0) < 0 or sum(runs) != height * width:  # Python's integers: these can not wrap around
        raise InvalidRequest.at(f"{pointer}/counts", f"The runs must add up to {height} x {width} pixels.")
    values = np.arange(len(runs)) % 2
    return np.repeat(values.astype(np.uint8), runs).reshape(width, height).T.copy()


def _decompress(text: str, pointer: str) -> list[int]:
    """COCO's text form: six bits a character, low first; from the fourth run on, relative to two runs before."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise InvalidRequest.at(f"{pointer}/counts", "This is not COCO's compressed run-length text.")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise InvalidRequest.at(f"{pointer}/counts", "The compressed run-length text ends in the middle of a run.")
    return runs


def _read_mask_file(data: bytes, pointer: str, settings: Settings) -> Mask:
    with _open(data, pointer, settings) as image:
        _load(image, pointer)
        ImageOps.exif_transpose(image, in_place=True)
        levels = _levels(image)
    return (levels > 0 if levels.max() <= 1 else levels >= 128).view(np.uint8)


def _levels(image: Image.Image) -> Mask:
    """Grey levels [H, W], 0 to 255. What is transparent is black, whatever colour lies beneath."""
    if image.mode.startswith("I"):  # 16 bits per pixel
        deep = np.asarray(image)
        return np.asarray(deep >> 8 if deep.max() > 255 else deep, np.uint8)
    if image.has_transparency_data:
        grey, alpha = np.moveaxis(np.asarray(image.convert("RGBA").convert("LA")), -1, 0)
        return np.asarray(cv2.multiply(grey, alpha, scale=1 / 255), np.uint8)
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def _fill_box(box: tuple[float, float, float, float], size: tuple[int, int], pointer: str) -> Mask:
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise InvalidRequest.at(pointer, "A box is [x0, y0, x1, y1] with x0 < x1 and y0 < y1.")
    width, height = size
    columns, rows = (
        np.clip([x0, x1], 0, width).round().astype(int),
        np.clip([y0, y1], 0, height).round().astype(int),
    )
    mask = np.zeros((height, width), np.uint8)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = 1
    return mask


def _open(data: bytes, pointer: str, settings: Settings) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception:  # noqa: BLE001 - Pillow's readers raise whatever a damaged file leads them to
        raise InvalidRequest.at(pointer, "This is not a PNG, JPEG or WebP image.") from None
    if image.width * image.height > settings.max_image_pixels:
        most = f"{settings.max_image_pixels / 1e6:g} megapixels"
        raise InvalidRequest.at(pointer, f"The image has more than {most}; send a smaller one.")
    if min(image.size) < MIN_SIDE:
        raise InvalidRequest.at(pointer, f"An image has at least {MIN_SIDE} x {MIN_SIDE} pixels.")
    return image


def _load(image: Image.Image, pointer: str) -> None:
    try:
        image.load()
    except Exception:  # noqa: BLE001 - as in _open
        raise InvalidRequest.at(pointer, _DAMAGED) from None


def _orientation(image: Image.Image, pointer: str) -> int:
    """The EXIF orientation, 1 to 8."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - as in _open
        raise InvalidRequest.at(pointer, _DAMAGED) from None


def _reaches_its_end(jpeg: bytes) -> bool:
    """Whether a JPEG has a scan and ends with the end marker, which no scan contains (ITU T.81, B.1.1.5).

    Walks over the segments before the scan, for one of them may be a thumbnail with an end marker of its own.
    """
    place = 2
    while jpeg[place : place + 1] == b"\xff":
        if jpeg[place + 1] == _START_OF_SCAN:
            return jpeg.endswith(b"\xff\xd9")
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4])
    return False


def _refuse_size(got: tuple[int, int], size: tuple[int, int], pointer: str) -> None:
    detail = (
        f"The mask is {got[0]} x {got[1]}, the image {size[0]} x {size[1]} pixels; a mask has the image's size."
    )
    raise InvalidRequest.at(pointer, detail)


def image_pointer(source: ImageSource) -> str:
    """Where a request has its image."""
    return "/image/" + next(name for name in ("base64", "url", "upload") if getattr(source, name) is not None)
