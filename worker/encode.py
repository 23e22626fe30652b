"""Frames to files: the video, a zip of PNG frames, a poster. The same frames give the same bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, cast

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation
from av.video.stream import VideoStream
from PIL import Image

from jobs.state import ENDING_FRAME

Frames = npt.NDArray[np.uint8]
Format = Literal["mp4", "webm", "gif", "webp"]
Preset = Literal["medium", "veryfast"]


@dataclass(frozen=True)
class _Codec:
    encoder: str
    pixels: str
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)


_GIF_FPS = 50
_CODECS: dict[str, _Codec] = {
    "mp4": _Codec("libx264", "yuv420p", {"crf": "18"}, {"movflags": "+faststart"}),
    "webm": _Codec(
        "libvpx-vp9", "yuv420p", {"crf": "18", "b": "0", "deadline": "good", "cpu-used": "2", "row-mt": "0"}
    ),
    "gif": _Codec("gif", "pal8", {}, {"loop": "0"}),
    # The encoder libwebp_anim and Pillow merge equal frames, so that a still video would lose some.
    "webp": _Codec("libwebp", "bgra", {"quality": "90", "compression_level": "4"}, {"loop": "0"}),
}

MEDIA_TYPES: dict[str, str] = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "gif": "image/gif",
    "webp": "image/webp",
    "zip": "application/zip",
    "jpeg": "image/jpeg",
}


def encode(frames: Frames, format: Format, fps: float, *, preset: Preset = "medium") -> bytes:  # noqa: A002 - the word of the API
    """Encode RGB frames; decoding gives the same number of frames again.

    H.264 and VP9 are 4:2:0 in limited-range BT.709 and say so; GIF has one palette of 256 colours for all
    frames; WebP is lossy; GIF and WebP loop for ever. GIF counts time in hundredths of a second and WebP
    in thousandths: there each frame *starts* at the nearest tick, so at 7 fps a GIF frame lasts 14 or 15
    hundredths and the whole is off by less than one. A GIF plays at 50 fps at most, since viewers slow
    delays of less than two hundredths down to ten.

    Args:
        frames: uint8 [F, H, W, 3], F >= 1, H and W even.
        format: ``mp4`` (H.264, index first), ``webm`` (VP9), ``gif`` or ``webp``.
        fps: frames per second, > 0 and at most 1000.
        preset: of x264; the other formats have none.

    Raises:
        ValueError: another shape, dtype, format or rate.
    """
    _check(frames)
    if format not in _CODECS:
        raise ValueError(f"format must be one of {', '.join(_CODECS)}, not {format!r}")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must be above 0 and at most 1000, not {fps}")
    codec = _CODECS[format]
    if format == "mp4":
        codec = replace(codec, options=codec.options | {"preset": preset})
    rate = Fraction(min(fps, _GIF_FPS) if format == "gif" else fps).limit_denominator(1001)
    pictures = _paletted(frames, rate) if format == "gif" else _planar(frames, codec.pixels)
    with TemporaryDirectory() as folder:  # a file: moving the index of an mp4 to its front reads it again
        path = Path(folder, f"video.{format}")
        _write(path, codec, pictures, rate, frames.shape[2], frames.shape[1])
        return path.read_bytes()


def frames_zip(frames: Frames) -> bytes:
    """uint8 [F, H, W, 3] RGB as ``00000.png``, ``00001.png``, … in a zip that stores them as they are."""
    _check(frames)
    return _zip((f"{index:05d}.png", frame) for index, frame in enumerate(frames))


def ending_zip(frame: Frames, masks: Sequence[npt.NDArray[np.bool_] | None]) -> bytes:
    """The last frame, RGB [H, W, 3], and where each entity is in it, [H, W]; one that is not seen is left out."""
    _check(frame[None])
    seen = [(f"{index}.png", mask * np.uint8(255)) for index, mask in enumerate(masks) if mask is not None]
    return _zip([(ENDING_FRAME, frame), *seen])


def poster(frame: Frames) -> bytes:
    """One RGB frame, uint8 [H, W, 3], as a JPEG."""
    _check(frame[None])
    return _image(frame, "JPEG", quality=92, subsampling=0, optimize=True)


def _zip(pictures: Iterable[tuple[str, Frames]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, picture in pictures:
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, _image(picture, "PNG"))
    return file.getvalue()


def _check(frames: Frames) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 [F, H, W, 3], not {frames.dtype} {list(frames.shape)}")
    if frames.shape[1] % 2 or frames.shape[2] % 2:
        raise ValueError(f"width and height must be even, not {frames.shape[2]}x{frames.shape[1]}")


def _write(
    path: Path, codec: _Codec, pictures: Iterable[av.VideoFrame], rate: Fraction, width: int, height: int
) -> None:
    with av.open(path, "w", container_options=codec.container | {"fflags": "+bitexact"}) as output:
        stream = output.add_stream(codec.encoder, rate=rate, options=codec.options | {"flags": "+bitexact"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, codec.pixels
        stream.thread_count = 1
        if codec.pixels == "yuv420p":
            _tag(stream.codec_context)
        for index, picture in enumerate(pictures):
            picture.pts, picture.time_base, picture.duration = index, 1 / rate, 1
            output.mux(stream.encode(picture))
        output.mux(stream.encode())


def _image(frame: Frames, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, kind, **options)
    return file.getvalue()


def _planar(frames: Frames, pixels: str) -> Iterator[av.VideoFrame]:
    accurate = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    for frame in frames:
        yield _picture(frame).reformat(
            format=pixels,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=accurate,
            threads=1,
        )


def _paletted(frames: Frames, rate: Fraction) -> Iterable[av.VideoFrame]:
    """One palette for the whole video and an ordered dither: neither flickers where the video holds still."""
    graph = Graph()
    source = graph.add_buffer(
        width=frames.shape[2], height=frames.shape[1], format=av.VideoFormat("rgb24"), time_base=1 / rate
    )
    split, palette = graph.add("split"), graph.add("palettegen", "reserve_transparent=0:stats_mode=full")
    use, sink = graph.add("paletteuse", "dither=bayer:bayer_scale=3"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for index, frame in enumerate(frames):
        picture = _picture(frame)
        picture.pts, picture.time_base = index, 1 / rate
        source.push(picture)
    source.push(None)
    for _ in frames:
        yield cast("av.VideoFrame", sink.pull())


def _picture(frame: Frames) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")


def _tag(context: av.VideoCodecContext) -> None:
    context.colorspace = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
