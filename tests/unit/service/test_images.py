"""Reading pictures and masks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from jobs.errors import InvalidRequest
from jobs.settings import Settings
from jobs.spec import MaskSource, Rle
from service.images import decode_rle, encode_mask, read_mask, read_picture
from tests import doors

SIZE = (doors.WIDTH, doors.HEIGHT)
EXPECTED = doors.square()
SETTINGS = Settings()


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def read(data: bytes, size: tuple[int, int] = SIZE) -> np.ndarray[Any, Any]:
    return read_mask(MaskSource(base64=doors.text(data)), "/mask", size, SETTINGS)


def palette(colours: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(EXPECTED, "P")
    image.putpalette([level for colour in colours for level in colour])
    return image


def transparent(colour: int) -> Image.Image:
    image = Image.new("RGBA", SIZE, (colour, colour, colour, 0))
    image.putalpha(Image.fromarray(EXPECTED * 255))
    return image


BLACK, WHITE = (0, 0, 0), (255, 255, 255)
GREY = Image.fromarray(EXPECTED * 255)
MASKS: dict[str, bytes] = {
    "grey": saved(GREY),
    "one bit": saved(GREY.convert("1")),
    "zeros and ones": saved(Image.fromarray(EXPECTED)),
    "colour": saved(GREY.convert("RGB")),
    "zeros and ones in colour": saved(Image.merge("RGB", [Image.fromarray(EXPECTED)] * 3)),
    "16 bits": saved(Image.fromarray(EXPECTED.astype(np.uint16) * 65535)),
    "16 bits at the threshold": saved(Image.fromarray(np.where(EXPECTED, 0x8000, 0x7FFF).astype(np.uint16))),
    "16 bits, eight of them used": saved(Image.fromarray(EXPECTED.astype(np.uint16) * 255)),
    "16 bits of zeros and ones": saved(Image.fromarray(EXPECTED.astype(np.uint16))),
    "palette": saved(palette([BLACK, WHITE])),
    "palette of zeros and ones": saved(palette([(0, 0, 0), (1, 1, 1)])),
    "opaque alpha": saved(GREY.convert("RGBA")),
    "grey and alpha": saved(GREY.convert("LA")),
    "transparent white": saved(transparent(255)),
    "jpeg": saved(GREY, "JPEG", quality=95),
    "webp": saved(GREY.convert("RGB"), "WEBP", lossless=True),
    "at the threshold": saved(Image.fromarray(np.where(EXPECTED, 128, 127).astype(np.uint8))),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_in_any_dress(name: str) -> None:
    mask = read(MASKS[name])
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, EXPECTED)


def test_an_inverted_palette_is_read_by_its_colours() -> None:
    assert np.array_equal(read(saved(palette([WHITE, BLACK]))), 1 - EXPECTED)


def test_transparent_black_is_no_mask() -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        read(saved(transparent(0)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_counts(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(saved(Image.new("RGB", SIZE), kind, exif=exif), "", SETTINGS)
    turned = orientation >= 5
    assert (picture.width, picture.height) == (SIZE[::-1] if turned else SIZE)


def test_a_mask_is_turned_by_its_own_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    lying = Image.fromarray(np.rot90(EXPECTED * 255).copy())
    assert np.array_equal(read(saved(lying, exif=exif)), EXPECTED)


def test_damaged_exif_is_refused_or_ignored() -> None:
    for exif in (b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"):
        try:
            picture = read_picture(saved(Image.new("RGB", SIZE), "JPEG", exif=exif), "", SETTINGS)
        except InvalidRequest:
            continue
        assert (picture.width, picture.height) == SIZE


def test_a_photo_of_several_pictures_is_a_jpeg() -> None:
    """As phones write them: JPEG with a second picture behind it."""
    data = saved(Image.new("RGB", SIZE), "MPO", save_all=True, append_images=[Image.new("RGB", SIZE)])
    assert read_picture(data, "", SETTINGS).media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("kind", "media_type"), [(".png", "image/png"), (".jpg", "image/jpeg"), (".webp", "image/webp")]
)
def test_the_kind_is_the_files_own(kind: str, media_type: str) -> None:
    data = doors.picture(kind=kind)
    picture = read_picture(data, "", SETTINGS)
    assert (picture.data, picture.media_type, picture.width, picture.height) == (data, media_type, *SIZE)


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused_wherever_it_ends(kind: str, share: float) -> None:
    data = doors.picture(300, 200, kind)
    with pytest.raises(InvalidRequest):
        read_picture(data[: int(len(data) * share)], "", SETTINGS)


def test_limits_are_the_settings() -> None:
    small = Settings(max_image_pixels=doors.WIDTH * doors.HEIGHT - 1)
    with pytest.raises(InvalidRequest, match="megapixels"):
        read_picture(doors.picture(), "", small)


def test_boxes_and_polygons_fill_what_they_enclose() -> None:
    box = read_mask(MaskSource(box=(20, 20, 45, 45)), "", SIZE, SETTINGS)
    assert np.array_equal(box, EXPECTED)
    assert read_mask(MaskSource(box=(-50, -50, 5, 5)), "", SIZE, SETTINGS).sum() == 25
    triangle = read_mask(MaskSource(polygon=[(10, 10), (50, 10), (10, 50)]), "", SIZE, SETTINGS)
    assert triangle[12, 12] == triangle[11, 40] == triangle[40, 11] == 1
    assert triangle[45, 45] == triangle[9, 20] == triangle[20, 9] == 0
    whole = read_mask(
        MaskSource(polygon=[(-999_999, -9), (999_999, -9), (999_999, 99), (-999_999, 99)]), "", SIZE, SETTINGS
    )
    assert whole.all()


def test_a_stored_mask_is_one_bit_deep() -> None:
    png = encode_mask(EXPECTED)
    with Image.open(io.BytesIO(png)) as image:
        assert (image.mode, image.size) == ("1", SIZE)
        assert np.array_equal(np.asarray(image), EXPECTED.astype(bool))


# -- COCO run lengths: an encoder written from the format's description -------------------------------------------


def runs_of(mask: np.ndarray[Any, Any]) -> list[int]:
    """Lengths of zeros and ones in turn, column by column, zeros first."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def text_of(runs: list[int]) -> str:
    """Five bits a character and one that says that more follow, offset 48; differences from the fourth run on."""
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)
ALPHABET = "".join(map(chr, range(48, 112)))


@given(hnp.arrays(np.uint8, SHAPES, elements=st.integers(0, 1)))
def test_run_lengths_come_back(mask: np.ndarray[Any, Any]) -> None:
    size, runs = mask.shape, runs_of(mask)
    assert np.array_equal(decode_rle(Rle(size=size, counts=runs), ""), mask)
    assert np.array_equal(decode_rle(Rle(size=size, counts=text_of(runs)), ""), mask)


@given(
    st.text(max_size=30)
    | st.text("0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmno", max_size=30)
)
def test_any_text_is_a_mask_or_an_error(text: str) -> None:
    try:
        mask = decode_rle(Rle(size=(4, 5), counts=text), "")
    except InvalidRequest:
        return
    assert mask.shape == (4, 5)


# What pycocotools 2.0 writes.
KNOWN: list[tuple[np.ndarray[Any, Any], str]] = [
    (EXPECTED, "dX1i0W100000000000000000000000000000000000000000000000\\U3"),
    (np.array([[1, 1, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], np.uint8), "071L0"),
]


@pytest.mark.parametrize(("mask", "text"), KNOWN)
def test_known_texts(mask: np.ndarray[Any, Any], text: str) -> None:
    assert text_of(runs_of(mask)) == text
    assert np.array_equal(decode_rle(Rle(size=mask.shape, counts=text), ""), mask)
