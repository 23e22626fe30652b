"""Videos as files: what was made is kept without loss, what others made is read."""

from __future__ import annotations

import base64
import io
import zipfile
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from evaluation.clips import Clip

Frames = npt.NDArray[np.uint8]
PICTURES = {".png", ".jpg", ".jpeg"}


class VideosMissing(Exception):
    """A video that was to be measured is not there, or is none."""


def png(pixels: npt.NDArray[np.uint8]) -> str:
    """A picture [H, W, 3], or a mask [H, W], as a request takes it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def unzip(data: bytes) -> Frames:
    """The frames of a job's artifact ``frames``."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return np.stack([_picture(io.BytesIO(archive.read(name))) for name in sorted(archive.namelist())])


def _picture(file: Path | io.BytesIO) -> Frames:
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


def save(frames: Frames, folder: Path) -> None:
    """Keep a video as pictures without loss: 00000.png, 00001.png, …; the folder is there when all of them are."""
    part = folder.with_name(folder.name + ".part")
    part.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(part / f"{index:05d}.png", compress_level=1)
    part.replace(folder)


def load(root: Path, clip: Clip) -> Frames:
    """The video for a clip out of a folder: pictures below ``root/<clip>``, or a file ``root/<clip>.mp4``, say.

    What is longer than the clip is cut; what has another size is resized to the clip's.

    Raises:
        VideosMissing: there is none, or it is too short.
    """
    folder = root / clip.name
    if folder.is_dir():
        pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
        frames = [_picture(path) for path in pictures[: len(clip.frames)]]
    else:
        files = [path for path in root.glob(f"{clip.name}.*") if path.is_file()]
        frames = _decode(files[0], len(clip.frames)) if files else []
    if len(frames) < len(clip.frames):
        raise VideosMissing(f"{folder} has {len(frames)} frames, {len(clip.frames)} are needed")
    resized = [cv2.resize(frame, clip.size, interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(resized).astype(np.uint8)


def _decode(file: Path, count: int) -> list[Frames]:
    try:
        with av.open(str(file)) as container:
            decoded = islice(container.decode(video=0), count)
            return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in decoded]
    except (av.FFmpegError, IndexError) as error:
        raise VideosMissing(f"{file} is no video: {error}") from error
