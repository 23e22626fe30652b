import hashlib
import io
import struct
import zipfile
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from worker.encode import MEDIA_TYPES, Format, encode, frames_zip, poster

Frames = npt.NDArray[np.uint8]
FORMATS: tuple[Format, ...] = ("mp4", "webm", "gif", "webp")
SATURATED = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255], [255, 0, 255], [0, 0, 0], [255] * 3]
)


def smooth(num_frames: int, height: int = 64, width: int = 128) -> Frames:
    """A soft pattern that drifts, as generated video does."""
    f, y, x = np.mgrid[0:num_frames, 0:height, 0:width]
    channels = [128 + 100 * np.sin((x + 2 * f) / 23), 128 + 90 * np.cos(y / 17), 100 + x / 2 + y / 2]
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def patches() -> Frames:
    """Eight saturated squares of 32 pixels, two frames."""
    rows = SATURATED.reshape(2, 4, 3).repeat(32, axis=0).repeat(32, axis=1)
    return np.stack([rows, rows]).astype(np.uint8)


def decoded(data: bytes, form: Format) -> Frames:
    if form == "webp":
        with Image.open(io.BytesIO(data)) as image:
            frames = []
            for index in range(getattr(image, "n_frames", 1)):
                image.seek(index)
                frames.append(np.asarray(image.convert("RGB")))
        return np.stack(frames)
    with av.open(io.BytesIO(data), "r") as container:
        return np.array([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], np.uint8)


def psnr(a: Frames, b: Frames) -> float:
    error = ((a.astype(np.float64) - b) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_the_quick_preset_is_another_file_that_looks_the_same() -> None:
    frames = smooth(14)
    slow, quick = (encode(frames, "mp4", 7, preset=preset) for preset in ("medium", "veryfast"))
    assert slow == encode(frames, "mp4", 7) != quick
    assert psnr(decoded(quick, "mp4"), frames) > psnr(decoded(slow, "mp4"), frames) - 1


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("num_frames", [1, 2, 14])
@pytest.mark.parametrize("still", [False, True])
def test_every_frame_comes_back_in_its_size(form: Format, num_frames: int, still: bool) -> None:
    frames = smooth(num_frames)
    if still:
        frames = frames[:1].repeat(num_frames, axis=0)
    assert decoded(encode(frames, form, 7), form).shape == frames.shape


@pytest.mark.parametrize(("form", "decibels"), [("mp4", 40), ("webm", 40), ("gif", 32), ("webp", 38)])
def test_pixels_come_back_nearly_equal(form: Format, decibels: float) -> None:
    frames = smooth(8)
    back = decoded(encode(frames, form, 8), form)
    assert [psnr(a, b) > decibels for a, b in zip(frames, back, strict=True)] == [True] * 8


@pytest.mark.parametrize("form", FORMATS)
def test_saturated_colours_survive(form: Format) -> None:
    middles = decoded(encode(patches(), form, 7), form)[-1, 16::32, 16::32].reshape(8, 3)
    assert np.abs(middles - SATURATED).max() <= 4


@pytest.mark.parametrize("form", ["mp4", "webm"])
def test_the_stream_says_limited_range_bt709(form: Format) -> None:
    with av.open(io.BytesIO(encode(smooth(2), form, 7)), "r") as container:
        context = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert context.pix_fmt == "yuv420p"
        assert tags == (1, 1, 1, 1)


@pytest.mark.parametrize("form", ["mp4", "webm"])
@pytest.mark.parametrize("fps", [1, 7, 7.5, 23.976, 30])
def test_rate_and_length_of_a_video(form: Format, fps: float) -> None:
    with av.open(io.BytesIO(encode(smooth(14), form, fps)), "r") as container:
        assert container.streams.video[0].average_rate == Fraction(fps).limit_denominator(1001)
        assert container.duration == pytest.approx(14 / fps * 1e6, abs=1000)


def delays_ms(data: bytes) -> list[int]:
    delays = []
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["loop"] == 0
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            image.load()
            delays.append(image.info["duration"])
    return delays


def test_gif_delays_are_whole_hundredths_that_add_up() -> None:
    delays = delays_ms(encode(smooth(14), "gif", 7))
    assert set(delays) == {140, 150}
    assert sum(delays) == 2000


def test_a_gif_is_never_faster_than_viewers_play_it() -> None:
    assert set(delays_ms(encode(smooth(6), "gif", 60))) == {20}


def test_webp_delays_add_up() -> None:
    assert sum(delays_ms(encode(smooth(14), "webp", 7))) == pytest.approx(2000, abs=1)


@pytest.mark.parametrize("form", FORMATS)
def test_same_frames_same_bytes(form: Format) -> None:
    assert len({hashlib.sha256(encode(smooth(5), form, 7)).digest() for _ in range(3)}) == 1


def boxes(data: bytes) -> list[str]:
    """The types of the top-level boxes of an ISO base media file, in order."""
    names, at = [], 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        names.append(name.decode())
        at += size
    return names


def test_the_index_of_an_mp4_comes_before_its_data() -> None:
    names = boxes(encode(smooth(3), "mp4", 7))
    assert names[0] == "ftyp"
    assert names.index("moov") < names.index("mdat")


@pytest.mark.parametrize(
    ("form", "start"), [("mp4", b"ftyp"), ("webm", b"\x1aE\xdf\xa3"), ("gif", b"GIF89a"), ("webp", b"RIFF")]
)
def test_files_are_what_their_media_type_says(form: Format, start: bytes) -> None:
    data = encode(smooth(2), form, 7)
    assert start in data[:8]
    assert MEDIA_TYPES[form].endswith(form)


def test_zip_holds_every_frame_exactly() -> None:
    frames = smooth(3)
    data = frames_zip(frames)
    assert data == frames_zip(frames)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["00000.png", "00001.png", "00002.png"]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        back = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]
    assert np.array_equal(back, frames)


def test_poster_is_a_jpeg_of_the_frame() -> None:
    frame = smooth(1)[0]
    with Image.open(io.BytesIO(poster(frame))) as image:
        assert image.format == "JPEG"
        assert psnr(np.asarray(image), frame) > 38


@pytest.mark.parametrize(
    ("frames", "form", "fps", "message"),
    [
        (np.zeros((2, 64, 64, 3), np.float32), "mp4", 7, "uint8"),
        (np.zeros((64, 64, 3), np.uint8), "mp4", 7, r"\[F, H, W, 3\]"),
        (np.zeros((0, 64, 64, 3), np.uint8), "mp4", 7, r"\[F, H, W, 3\]"),
        (np.zeros((2, 63, 64, 3), np.uint8), "mp4", 7, "even"),
        (np.zeros((2, 64, 64, 3), np.uint8), "avi", 7, "mp4, webm, gif, webp"),
        (np.zeros((2, 64, 64, 3), np.uint8), "mp4", 0, "fps"),
    ],
)
def test_bad_input_is_refused(frames: Frames, form: Format, fps: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(frames, form, fps)
