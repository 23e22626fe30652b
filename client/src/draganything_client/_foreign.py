"""Requests out of other tools' files: demo folders, arrays of tracks, trajectory strings. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._spec import entity, spec

MAX_ENTITIES = 16
REFERENCE_FRAMES = 20
"""Frames that the reference's script makes, whatever its demo has."""
Line = list[tuple[float, float]]


class NotUnderstood(ValueError):
    """A file that is none of the known formats, or lacks something; says what to do."""


@dataclass(frozen=True)
class Options:
    """What a file may leave open: the picture, masks, which tracks, how many frames, what the points refer to."""

    image: Path | None = None
    masks: Sequence[Path] = ()
    tracks: Sequence[int] = ()
    frames: int | None = None
    canvas: tuple[float, float] | None = None
    visibility: Path | None = None


@dataclass(frozen=True)
class Drawn:
    """Lines with one point per frame, and what else a file says."""

    lines: list[Line]
    labels: list[str] = field(default_factory=list)
    image: Path | None = None
    masks: Sequence[Path] = ()
    num_frames: int | None = None


def read(path: Path, options: Options) -> dict[str, Any]:
    """A request for ``generate``, out of a file or folder.

    Raises:
        NotUnderstood: it is none of the known formats, or something is missing.
        OSError: a file can not be read.
    """
    return _as_request(_select(_read(path, options), options.tracks), options)


def _read(path: Path, options: Options) -> Drawn:
    if path.is_dir():
        return read_demo(path / "demo.json", options.frames)
    if path.suffix in (".npy", ".npz", ".pth", ".pt"):
        from ._arrays import read_arrays

        return Drawn(read_arrays(path, options.visibility))
    if path.suffix not in (".json", ".txt"):
        raise NotUnderstood(f"{path}: give a demo folder, .json, .txt, .npy, .npz or .pth")
    document = _loads(path.read_text(encoding="utf-8"), str(path))
    if isinstance(document, Mapping):
        if "entities" in document:
            raise NotUnderstood(f"{path} is a request already: give it to `draganything generate`")
        return read_demo(path, options.frames)
    return Drawn(read_strings(document, str(path)))


def read_demo(path: Path, frames: int | None = None) -> Drawn:
    """A demo folder of the reference: ``demo.json`` beside ``demo.jpg`` and masks.

    An object, in drawing order, of ``{"mask_name": file, "trajectory": [[x, y], …]}`` in pixels of the picture,
    one point per frame; ``comment`` is for people. Of the trajectories the first 20 points count, or ``frames``. A
    pixel of a mask counts from 128 on here, only at 255 there.

    Source: https://github.com/showlab/DragAnything, ``demo.py``, ``get_condition``.
    """
    if not path.exists():
        raise NotUnderstood(f"{path.parent} has no demo.json")
    document = _loads(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(document, Mapping) or not document:
        raise NotUnderstood(f"{path} must be an object of entities")
    lines, masks = [], []
    for label, item in document.items():
        if not isinstance(item, Mapping) or not isinstance(item.get("mask_name"), str) or "trajectory" not in item:
            raise NotUnderstood(f"{path}: {label!r} needs mask_name and trajectory")
        lines.append(_line(item["trajectory"], f"{path}: the trajectory of {label!r}"))
        masks.append(_beside(path, item["mask_name"]))
    count = min(frames or REFERENCE_FRAMES, len(lines[0]))
    images = [image for image in (path.with_suffix(suffix) for suffix in (".jpg", ".png")) if image.exists()]
    return Drawn(
        [(line + line[-1:] * count)[:count] for line in lines],
        list(document),
        images[0] if images else None,
        masks,
        count,
    )


def _beside(path: Path, name: str) -> Path:
    """A file in the same folder: a demo from elsewhere must not lead to others."""
    file = path.parent / name
    if file.resolve().parent != path.parent.resolve():
        raise NotUnderstood(f"{path}: {name!r} is not a file of this folder")
    return file


def read_strings(document: Any, name: str) -> list[Line]:
    """ComfyUI trajectory strings: ``[{"x": 1, "y": 2}, …]``, or a list of such lists or strings, one per track;
    one point per frame, in pixels of the editor's canvas.

    Source: the ``coord_str`` of ``SplineEditor`` in https://github.com/kijai/ComfyUI-KJNodes
    (``nodes/curve_nodes.py``), as ComfyUI's ``comfy_extras/nodes_wan.py`` (``parse_json_tracks``) reads it, single
    quotes included.
    """
    if not isinstance(document, list) or not document:
        raise NotUnderstood(f'{name} is no trajectory string: [{{"x": 1, "y": 2}}, …]')
    if isinstance(document[0], Mapping):
        document = [document]
    tracks = [_loads(track, name) if isinstance(track, str) else track for track in document]
    return [_line(track, f"{name}: track {index}") for index, track in enumerate(tracks)]


def _line(points: Any, name: str) -> Line:
    """Points as [x, y] or {"x": x, "y": y}."""
    try:
        pairs = [(point["x"], point["y"]) if isinstance(point, Mapping) else tuple(point) for point in points]
        line = [(float(x), float(y)) for x, y in pairs]
    except (TypeError, ValueError, KeyError):
        raise NotUnderstood(f"{name} must be a list of points with x and y") from None
    if not line or not all(abs(value) < float("inf") for point in line for value in point):
        raise NotUnderstood(f"{name} must have points, and finite ones")
    return line


def _loads(text: str, name: str) -> Any:
    for form in (text, text.replace("'", '"')):
        try:
            return json.loads(form)
        except ValueError as error:
            problem = error
    raise NotUnderstood(f"{name} is not JSON: {problem}")


def _select(drawn: Drawn, tracks: Sequence[int]) -> Drawn:
    count = len(drawn.lines)
    wrong = [index for index in tracks if not 0 <= index < count]
    if wrong:
        raise NotUnderstood(f"there is no track {wrong[0]}: they are 0 to {count - 1}")
    if not tracks and count > MAX_ENTITIES:
        raise NotUnderstood(f"{count} tracks, and a job takes {MAX_ENTITIES}: choose with --track 0 --track 5 …")
    chosen = list(tracks) or list(range(count))
    labels = drawn.labels or [f"track {index}" for index in range(count)]
    return Drawn(
        [drawn.lines[index] for index in chosen],
        [labels[index] for index in chosen],
        drawn.image,
        [drawn.masks[index] for index in chosen] if drawn.masks else (),
        drawn.num_frames,
    )


def _as_request(drawn: Drawn, options: Options) -> dict[str, Any]:
    image, masks = options.image or drawn.image, options.masks or drawn.masks
    if image is None:
        raise NotUnderstood("the file has no picture: give the first frame with --image")
    if len(masks) not in (0, len(drawn.lines)):
        raise NotUnderstood(f"{len(masks)} masks for {len(drawn.lines)} tracks: give one for each, or none")
    placed: dict[str, Any] = {"timing": "per_point"}
    lines = drawn.lines
    if options.canvas is not None:
        width, height = options.canvas
        placed["space"] = "normalized"
        lines = [[(x / width, y / height) for x, y in line] for line in lines]
    entities = [
        entity(masks[index] if masks else None, path=line, label=drawn.labels[index], **placed)
        for index, line in enumerate(lines)
    ]
    num_frames = options.frames if drawn.num_frames is None else drawn.num_frames
    return spec(image, entities, **({} if num_frames is None else {"num_frames": num_frames}))
