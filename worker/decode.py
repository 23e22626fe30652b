"""Files of ours back to frames: what ``worker.encode`` made. Which kind a file is, its first bytes say."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from itertools import islice

import av
import numpy as np
from PIL import Image, ImageSequence

from jobs.spec import MAX_VIDEO_FRAMES
from worker.encode import Frames

_DEMUXERS = {b"ftyp": "mp4", b"\x1a\x45\xdf\xa3": "matroska", b"GIF8": "gif"}
"""Named, as a demuxer that libav may choose itself could open addresses that a file contains."""


def decode(data: bytes, size: tuple[int, int]) -> Frames:
    """The RGB frames, uint8 [F, H, W, 3], of a video or a zip of frames.

    Raises:
        ValueError: it is none, damaged, of another size than (width, height), or too long.
    """
    try:
        frames = list(islice(_frames(data), MAX_VIDEO_FRAMES + 1))
    except Exception as error:  # libav and Pillow raise whatever a damaged file leads them to
        raise ValueError(f"the video can not be decoded: {error}") from error
    if not 1 <= len(frames) <= MAX_VIDEO_FRAMES or {frame.shape for frame in frames} != {(size[1], size[0], 3)}:
        shape = [len(frames), *frames[0].shape] if frames else []
        raise ValueError(f"the video is {shape}, not of {size[0]} x {size[1]} and 1 to {MAX_VIDEO_FRAMES} frames")
    return np.stack(frames)


def _frames(data: bytes) -> Iterator[Frames]:
    if data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in sorted(archive.namelist()):
                with Image.open(archive.open(name), formats=("PNG",)) as image:
                    yield np.asarray(image.convert("RGB"))
    elif data.startswith(b"RIFF"):
        with Image.open(io.BytesIO(data), formats=("WEBP",)) as image:
            for frame in ImageSequence.Iterator(image):
                yield np.asarray(frame.convert("RGB"))
    else:
        demuxer = next(name for start, name in _DEMUXERS.items() if start in data[:8])
        with av.open(io.BytesIO(data), "r", format=demuxer) as container:
            for picture in container.decode(video=0):
                yield np.asarray(picture.to_ndarray(format="rgb24"), np.uint8)
