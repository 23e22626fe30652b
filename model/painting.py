"""Painting discs and their Gaussians, frame by frame. numpy and OpenCV only."""

from collections.abc import Sequence
from functools import cache, lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

_SHORTEST_SIDE = 3  # a Gaussian is painted into boxes longer than this on both axes
_RADIUS, _SIGMA = 100, 40  # pixels of the template
_FRACTION_BITS = 4  # of a centre that OpenCV's shifted circle is given


@cache
def template() -> Bytes:
    """The Gaussian that fills every box: uint8 [200, 200], 255 at [100, 100], 11 at the rim, then 0."""
    distance = np.arange(2 * _RADIUS, dtype=np.float64) - _RADIUS
    square = distance[:, None] ** 2 + distance**2
    density = np.exp(-square / (2 * _SIGMA**2)) / (2 * np.pi * _SIGMA**2)
    disc = np.zeros(density.shape, np.float32)
    cv2.circle(disc, (_RADIUS, _RADIUS), _RADIUS, 1.0, -1)
    heat = density.astype(np.float32) * disc
    heat /= heat.max()
    return np.asarray(heat / heat.max() * np.float32(255), np.uint8)


def paint(
    points: Ints | Floats,
    sides: Ints,
    size: tuple[int, int],
    *,
    visible: npt.NDArray[np.bool_] | None = None,
    discs: Sequence[bool] | None = None,
) -> tuple[Bytes, Bytes]:
    """Paint E entities into F frames of `size` (width, height): heat and labels, both uint8 [F, H, W].

    `points` [E, F, 2] are centres in pixels of the output, `sides` [E, F] radii, `visible` bool [E, F],
    `discs` one flag per entity (False: no labels). Later entities overwrite earlier ones, in their whole box.
    Integer centres are painted as the reference does, float ones at their fraction of a pixel.
    """
    width, height = size
    num_entities, num_frames = sides.shape
    heat = np.zeros((num_frames, height, width), np.uint8)
    labels = np.zeros_like(heat)
    whole = np.issubdtype(points.dtype, np.integer)
    stamp, disc = (_stamp, _disc) if whole else (_stamp_between, _disc_between)
    for entity in range(num_entities):
        frames = range(num_frames) if visible is None else np.flatnonzero(visible[entity])
        for frame in frames:
            (x, y), side = points[entity, frame].tolist(), int(sides[entity, frame])
            stamp(heat[frame], x, y, side)
            near = -side - 1 < x < width + side and -side - 1 < y < height + side
            if near and (discs is None or discs[entity]):
                disc(labels[frame], x, y, side, entity + 1)
    return heat, labels


def box(x: float, y: float, side: int, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The box (x0, y0, x1, y1) that a Gaussian fills, ends exclusive; None if it is too short to be painted.

    It never reaches the image's last row and column, and lies half a pixel up and left of the disc.
    """
    x0, x1 = max(x - side, 0), min(x + side, size[0] - 1)
    y0, y1 = max(y - side, 0), min(y + side, size[1] - 1)
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) > _SHORTEST_SIDE else None


def _stamp(heat: Bytes, x: int, y: int, side: int) -> None:
    """Fill the box with the whole template: where the border cuts the box, it squeezes the Gaussian."""
    if (found := box(x, y, side, heat.shape[::-1])) is not None:
        x0, y0, x1, y1 = map(int, found)
        heat[y0:y1, x0:x1] = _resized(x1 - x0, y1 - y0)


@lru_cache(maxsize=16)
def _resized(width: int, height: int) -> Bytes:
    return np.asarray(cv2.resize(template(), (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _disc(labels: Bytes, x: int, y: int, side: int, label: int) -> None:
    cv2.circle(labels, (x, y), side, label, -1)


def _stamp_between(heat: Bytes, x: float, y: float, side: int) -> None:
    """`_stamp` into a box with fractional edges: the pixels whose centres it covers sample the template."""
    if (found := box(x, y, side, heat.shape[::-1])) is None:
        return
    x0, y0, x1, y1 = found
    left, top, right, bottom = (int(np.ceil(edge - 0.5)) for edge in found)
    stretch_x, stretch_y = 2 * _RADIUS / (x1 - x0), 2 * _RADIUS / (y1 - y0)
    to_template = np.array(
        [
            [stretch_x, 0, (left + 0.5 - x0) * stretch_x - 0.5],
            [0, stretch_y, (top + 0.5 - y0) * stretch_y - 0.5],
        ]
    )
    heat[top:bottom, left:right] = cv2.warpAffine(
        template(),
        to_template,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _disc_between(labels: Bytes, x: float, y: float, side: int, label: int) -> None:
    one = 1 << _FRACTION_BITS
    cv2.circle(labels, (round(x * one), round(y * one)), side * one, label, -1, cv2.LINE_8, _FRACTION_BITS)
