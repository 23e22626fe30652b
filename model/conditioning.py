"""The control signal: masks and one point per frame become heat maps and label maps. numpy and OpenCV only.

Follows the published DragAnything demo bit for bit, integer resampling and overwriting boxes included: it is
the signal that the networks know. What goes beyond it (discs that change their size, hidden frames, point
control, subpixel rendering, masks too small for the latent grid) leaves the demo's own inputs as they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from model import painting, trajectory

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int32]
Size = tuple[int, int]  # width, height, as OpenCV and Pillow order them

MAX_ENTITIES = 255  # labels are uint8 and 0 means none
MAX_SIDE = 50  # pixels of the output, whatever its size: the reference's cap
MULTIPLE = 64  # the networks halve the latents, an eighth of the image, three times
CELL = 8  # pixels of the output per latent cell and axis

_MAX_RADIUS = np.iinfo(np.int32).max  # OpenCV answers FLT_MAX for a mask without background


class ConditionError(ValueError):
    """An input from which no control signal can be built.

    `entity` is the index of the entity at fault, None where it is none's; `field` names what is wrong:
    "mask", "points", "scale", "visible", "control", "image", "entities", "num_frames", "size" or "original".
    """

    def __init__(self, message: str, *, field: str, entity: int | None = None) -> None:
        super().__init__(message if entity is None else f"entity {entity}: {message}")
        self.entity = entity
        self.field = field


@dataclass(frozen=True, eq=False)
class Entity:
    """What moves, and where to: coordinates and mask in pixels of the original image."""

    mask: npt.NDArray[np.bool_] | Bytes  # [OH, OW], 0 or 1
    points: npt.NDArray[np.float64]  # [F, 2], (x, y) of the disc's centre in each frame
    scale: npt.NDArray[np.float64] | None = None  # [F], factors of the disc's radius
    visible: npt.NDArray[np.bool_] | None = None  # [F], frames in which it is painted
    control: Literal["entity", "point"] = "entity"  # point: only the Gaussian, no disc (drag-pixel baseline)


@dataclass(frozen=True, eq=False)
class Shape:
    """What a mask amounts to at the output's size."""

    full: Bytes  # [H, W], 0 or 1
    latent: Bytes  # [H/8, W/8], 0 or 1: where the entity's features are averaged
    radius: int  # pixels, of the largest disc inside `full`
    vanished: bool  # `latent` came out empty and stands in for it (see `measure`)

    @property
    def side(self) -> int:
        """The radius that is painted."""
        return min(self.radius, MAX_SIDE)


@dataclass(frozen=True, eq=False)
class Conditioning:
    """The control signal of a clip, and the measures that it was painted with."""

    heat: Bytes  # [F, H, W]
    labels: Bytes  # [F, H, W], 0 = none, k = the k-th entity, counted from 1 in the order given
    latent_masks: Bytes  # [E, H/8, W/8], 0 or 1
    points: Ints  # [E, F, 2], centres in pixels of the output
    radii: Ints  # [E], before the cap
    sides: Ints  # [E, F], radii as painted


def build(
    entities: Sequence[Entity], original: Size, size: Size, num_frames: int, *, subpixel: bool = False
) -> Conditioning:
    """Build the control signal of `num_frames` frames at `size` for an image of size `original`.

    Both sizes are (width, height). `subpixel` paints at fractional centres, for slow motion; the published
    networks have only seen whole ones. Raises ConditionError for what the reference crashes on or misreads.
    """
    _check_frame(entities, original, size, num_frames)
    for index, entity in enumerate(entities):
        if (problem := _problem(entity, original, num_frames)) is not None:
            raise ConditionError(problem[1], field=problem[0], entity=index)
    shapes = [measure(entity.mask, size) for entity in entities]
    tracks = np.stack([entity.points for entity in entities])
    points = trajectory.scale(tracks, original, size)
    sides = np.stack([_sides(*pair, num_frames, size) for pair in zip(shapes, entities, strict=True)])
    shown = [np.ones(num_frames, bool) if entity.visible is None else entity.visible for entity in entities]
    heat, labels = painting.paint(
        trajectory.fit(tracks, original, size) if subpixel else points,
        sides,
        size,
        visible=np.stack(shown),
        discs=[entity.control == "entity" for entity in entities],
    )
    return Conditioning(
        heat=heat,
        labels=labels,
        latent_masks=np.stack([shape.latent for shape in shapes]),
        points=points,
        radii=np.array([shape.radius for shape in shapes], np.int32),
        sides=sides,
    )


def measure(mask: npt.NDArray[np.bool_] | Bytes, size: Size) -> Shape:
    """Bring a mask of any size, values 0 and 1, to an output of `size` (width, height) and measure it.

    OpenCV's bilinear uint8 resize looks at four input pixels per output pixel, so a small or thin mask can
    come out empty on the latent grid, and the entity would have no features. Then the latent cells that hold
    the most of its pixels (or at least half as many) take its place; only an empty mask stays empty.
    """
    binary = mask.astype(np.uint8)
    width, height = size
    full = _resize(binary, size)
    latent = _resize(binary, (width // CELL, height // CELL))
    vanished = not latent.any()
    if vanished and binary.any():
        latent = _fullest_cells(binary, latent.shape)
    largest = float(cv2.distanceTransform(full, cv2.DIST_L2, cv2.DIST_MASK_5).max())
    return Shape(full, latent, int(min(largest, _MAX_RADIUS)), vanished)


def binary_mask_reference(bgr: Bytes) -> Bytes:
    """Read a mask picture, uint8 BGR [OH, OW, 3], as the reference does: uint8 [OH, OW], 0 or 1.

    Only an exact 255 counts, so a JPEG's 254 makes a hole. Turning three channels of zeros and ones into grey
    then leaves 1 where green is 1, since the weights of red and blue together do not round up to it.
    """
    return np.asarray(bgr[..., 1] == 255, np.uint8)


def load_demo(folder: Path) -> tuple[Bytes, list[Entity]]:
    """Read a demo folder of the reference: demo.jpg, demo.json and the masks that it names.

    Returns the picture, uint8 RGB [OH, OW, 3], and the entities in the file's order with their points as
    written, one per frame: their numbers may differ, while `build` wants equal ones. Raises OSError for a
    missing file and ConditionError for one that makes no sense.
    """
    return np.ascontiguousarray(_read_picture(folder / "demo.jpg")[..., ::-1]), load_entities(folder)


def load_entities(folder: Path) -> list[Entity]:
    """The entities of `load_demo`, without the picture."""
    try:
        entries = list(json.loads((folder / "demo.json").read_text(encoding="utf-8")).values())
        named = [(Path(entry["mask_name"]), np.array(entry["trajectory"], np.float64)) for entry in entries]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConditionError(
            f"demo.json must map each entity to a mask_name and a trajectory of [x, y] points: {error!r}",
            field="entities",
        ) from error
    for index, (name, _) in enumerate(named):
        if name.name != str(name):
            raise ConditionError(f"the mask must lie beside demo.json, not at {name}", field="mask", entity=index)
    return [Entity(binary_mask_reference(_read_picture(folder / name)), points) for name, points in named]


def _resize(mask: Bytes, size: Size) -> Bytes:
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _read_picture(path: Path) -> Bytes:
    """Read uint8 BGR [OH, OW, 3] as stored, whatever the EXIF orientation."""
    content = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(content) else None
    if picture is None:
        raise ConditionError(f"{path.name} is not a picture", field="image")
    return picture.astype(np.uint8, copy=False)


def _sides(shape: Shape, entity: Entity, num_frames: int, size: Size) -> Ints:
    """The radius to paint in each frame, int32 [F].

    A scaled radius is truncated. It stays at 1 pixel or more (unless the mask itself has less) and within the
    image's longer side.
    """
    if entity.scale is None:
        return np.full(num_frames, shape.side, np.int32)
    return np.clip(np.trunc(shape.side * entity.scale), min(shape.side, 1), max(size)).astype(np.int32)


def _fullest_cells(mask: Bytes, cells: tuple[int, ...]) -> Bytes:
    """Lay a grid (rows, columns) over the mask: cells with at least half as many of its pixels as the fullest."""
    rows, columns = np.nonzero(mask)
    cell = np.ravel_multi_index((rows * cells[0] // mask.shape[0], columns * cells[1] // mask.shape[1]), cells)
    counts = np.bincount(cell, minlength=cells[0] * cells[1]).reshape(cells)
    return np.asarray(2 * counts >= counts.max(), np.uint8)


def _check_frame(entities: Sequence[Entity], original: Size, size: Size, num_frames: int) -> None:
    if not 1 <= len(entities) <= MAX_ENTITIES:
        raise ConditionError(f"need 1 to {MAX_ENTITIES} entities, not {len(entities)}", field="entities")
    if num_frames < 1:
        raise ConditionError(f"need at least one frame, not {num_frames}", field="num_frames")
    if min(original) < 1:
        raise ConditionError(f"the original image has no pixels: {original}", field="original")
    if min(size) < MULTIPLE or size[0] % MULTIPLE or size[1] % MULTIPLE:
        raise ConditionError(
            f"width and height must be positive multiples of {MULTIPLE}, not {size[0]} x {size[1]}",
            field="size",
        )


def _problem(entity: Entity, original: Size, num_frames: int) -> tuple[str, str] | None:
    """What is wrong with an entity: the field and a sentence about it."""
    mask, points, (width, height) = entity.mask, entity.points, original
    if mask.shape != (height, width):
        found = " x ".join(map(str, mask.shape[::-1]))
        return "mask", f"the mask must have the image's size, {width} x {height}, not {found}"
    if mask.dtype not in (np.bool_, np.uint8) or mask.max() > 1:
        return (
            "mask",
            f"the mask must be bool, or uint8 with values 0 and 1, not {mask.dtype} up to {mask.max()}",
        )
    if not mask.any():
        return "mask", "the mask is empty: mark the pixels that belong to the entity"
    if points.shape != (num_frames, 2):
        return (
            "points",
            f"need one [x, y] for each of {num_frames} frames, not an array of shape {points.shape}",
        )
    if not np.isfinite(points).all():
        return "points", "points must be finite numbers"
    if entity.scale is not None and (
        entity.scale.shape != (num_frames,) or not np.isfinite(entity.scale).all() or entity.scale.min() <= 0
    ):
        return "scale", f"need one positive, finite factor for each of {num_frames} frames"
    if entity.visible is not None and (entity.visible.shape != (num_frames,) or entity.visible.dtype != np.bool_):
        return "visible", f"need one bool for each of {num_frames} frames"
    if entity.control not in ("entity", "point"):
        return "control", f"control must be entity or point, not {entity.control!r}"
    return None
