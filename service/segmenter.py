"""The embedded segmenter: clicks or a box in, a mask out. numpy and OpenCV only, no weights.

It knows edges and colours and nothing of objects: many outlines are proposed, and the one is taken whose estimated
IoU is best. docs/segmentation.md says how good it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np
from numpy.typing import NDArray

from service import proposals
from service.images import Picture, shrink_picture
from service.proposals import Box, Mask, Pixel, Scene

ENGINE = "contours-1"
Point = tuple[float, float]
SIDE = 224
"""Pixels of the longer side that outlines are sought at."""
CLICKS = 3
"""Clicks that contours are sought around; the others still decide which outline is taken."""

_BINS, _LOWEST, _HIGHEST = 6, (0.0, -40.0, -40.0), (60.0, 50.0, 50.0)  # of lightness * 0.6, a and b
_WEIGHTS = np.array([0.30, 0.14, 0.28, -0.33, -0.19, -0.15, -0.032])
"""Of ``_measure``, from a ridge regression on the IoU of outlines with eleven hand-drawn masks."""
_VIOLATION = 0.5  # what a click on the wrong side costs
_BOX = 0.5  # what filling the box is worth


@dataclass(frozen=True, eq=False)
class Segment:
    """A mask, uint8 [H, W] of zeros and ones, and an estimate of its IoU with what was meant, 0..1."""

    mask: Mask
    score: float


class Segmenter:
    """Segments one picture, as often as asked.

    ``bgr`` [h, w, 3] is, at any size, an image of ``size`` (width, height), in whose pixels all else is.
    """

    def __init__(self, bgr: Mask, size: tuple[int, int]) -> None:
        self.size = size
        self._scene = proposals.look(_shrink(bgr))
        self._regions = proposals.Regions(self._scene)

    def segment(
        self, inside: Sequence[Point], outside: Sequence[Point] = (), box: Sequence[float] | None = None
    ) -> Segment:
        """Segment what clicks (x, y) and a box (x0, y0, x1, y1) mean; the same for the same input.

        Raises ValueError without a click inside and a box.
        """
        if not inside and box is None:
            raise ValueError("give at least one point inside, or a box")
        clicks = [self._pixel(point) for point in inside], [self._pixel(point) for point in outside]
        best, score = self._best(*clicks, None if box is None else self._limit(box))
        mask = np.asarray(cv2.resize(255 * best, self.size, interpolation=cv2.INTER_LINEAR) > 127, np.uint8)
        for points, value in ((outside, 0), (inside, 1)):
            for x, y in points:
                mask[int(y), int(x)] = value
        return Segment(mask, score)

    def _pixel(self, point: Point) -> Pixel:
        x, y = (
            min(int(p * new / old), new - 1)
            for p, old, new in zip(point, self.size, self._scene.size, strict=True)
        )
        return x, y

    def _limit(self, box: Sequence[float]) -> Box:
        (x0, y0), (x1, y1) = self._pixel((box[0], box[1])), self._pixel((box[2], box[3]))
        return x0, y0, x1 + 1, y1 + 1

    def _best(self, inside: list[Pixel], outside: list[Pixel], box: Box | None) -> tuple[Mask, float]:
        """The outline that promises most, with its estimated IoU; a disc or the box where nothing is found."""
        scene = self._scene
        colours = _quantize(scene)
        common = float(np.percentile(scene.edges, 95))
        best, most, score = _fallback(scene, inside, box), -np.inf, 0.0
        for proposed in self._propose(inside, outside, box):
            mask = _tidy(proposed, inside, box)
            facts = None if mask is None else _measure(mask, scene, colours, common)
            if mask is None or facts is None:
                continue
            estimate = float(_WEIGHTS @ facts)
            wrong = sum(not mask[y, x] for x, y in inside) + sum(bool(mask[y, x]) for x, y in outside)
            promise = estimate - _VIOLATION * wrong + (0 if box is None else _BOX * _fills(mask, box))
            if promise > most:
                best, most, score = mask, promise, estimate
        return best, float(np.clip(score, 0, 1))

    def _propose(self, inside: list[Pixel], outside: list[Pixel], box: Box | None) -> Iterator[Mask]:
        scene = self._scene
        if box is None:
            around = (proposals.contours(scene, click) for click in inside[:CLICKS])
            return chain(self._regions.around(inside, outside), proposals.discs(scene, inside, outside), *around)
        centre = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
        stretch = float(np.clip(np.sqrt((box[2] - box[0]) / (box[3] - box[1])), 0.2, 5))
        around = (proposals.contours(scene, click, [(stretch, 0.0)]) for click in [centre, *inside[:CLICKS]])
        regions = self._regions.around(inside or [centre], outside)
        return chain(regions, proposals.boxed(scene, box, inside, outside), *around)


def open_segmenter(picture: Picture, pointer: str) -> Segmenter:
    """A segmenter of an image that was found whole; ``pointer`` is where the request has it.

    Raises:
        InvalidRequest: the image's file turns out to be damaged.
    """
    rgb = shrink_picture(picture, pointer, 2 * SIDE)
    return Segmenter(np.ascontiguousarray(rgb[..., ::-1]), (picture.width, picture.height))


def _shrink(bgr: Mask) -> Mask:
    height, width = bgr.shape[:2]
    scale = min(1.0, SIDE / max(width, height))
    small = max(2, round(width * scale)), max(2, round(height * scale))
    return cv2.resize(bgr, small, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _fallback(scene: Scene, inside: list[Pixel], box: Box | None) -> Mask:
    mask = np.zeros(scene.edges.shape, np.uint8)
    if box is not None:
        mask[box[1] : box[3], box[0] : box[2]] = 1
    for pixel in inside:
        cv2.circle(mask, pixel, max(1, max(scene.size) // 16), 1, cv2.FILLED)
    return mask


def _tidy(mask: Mask, inside: list[Pixel], box: Box | None) -> Mask | None:
    """Only the parts that were clicked (without a click the largest), inside the box, with their holes filled."""
    if box is not None:
        clipped = np.zeros_like(mask)
        place = np.s_[box[1] : box[3], box[0] : box[2]]
        clipped[place] = mask[place]
        mask = clipped
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    wanted = {int(parts[y, x]) for x, y in inside if parts[y, x]}
    if not inside and len(stats) > 1:
        wanted = {1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())}
    if not wanted:
        return None
    kept = np.isin(parts, list(wanted)).astype(np.uint8)
    _, gaps = cv2.connectedComponents(1 - np.pad(kept, 1), connectivity=4)
    return np.asarray((gaps != gaps[0, 0])[1:-1, 1:-1], np.uint8)


def _quantize(scene: Scene) -> NDArray[np.int64]:
    """The bin of each pixel's colour, [H, W]."""
    low, high = np.array(_LOWEST), np.array(_HIGHEST)
    bins = np.clip((scene.features[..., :3] - low) / (high - low) * _BINS, 0, _BINS - 1).astype(np.int64)
    return np.asarray(bins @ np.array([_BINS**2, _BINS, 1]))


def _measure(mask: Mask, scene: Scene, colours: NDArray[np.int64], common: float) -> NDArray[np.float64] | None:
    """What speaks for an outline, [7]: 1; edges along it, mean and weakest fifth; the likeness of the colours on
    both sides (Bhattacharyya); the share of it that is the picture's border; the logarithm of its area's share and
    the square of that. None for what is tiny or nearly everything."""
    area = float(mask.mean())
    if not 0.0015 <= area <= 0.8:
        return None
    square = np.ones((3, 3), np.uint8)
    inner = mask - cv2.erode(mask, square, borderType=cv2.BORDER_CONSTANT, borderValue=(1,))
    outline = (inner > 0) | (cv2.dilate(mask, square) > mask)
    reach = max(2, int(0.35 * np.sqrt(mask.sum() / np.pi)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    ring = cv2.dilate(mask, disc) > mask
    if not ring.any():
        return None
    along = cv2.dilate(scene.edges, square)[outline]
    histograms = [np.bincount(colours[part], minlength=_BINS**3) / part.sum() for part in (mask > 0, ring)]
    cut = int(mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum())
    mean, weak = along.mean(), np.percentile(along, 20)
    return np.array(
        [
            1,
            mean / (mean + common + 1e-6),
            weak / (weak + common + 1e-6),
            np.sqrt(histograms[0] * histograms[1]).sum(),
            cut / (cut + outline.sum() / 2),
            np.log(area),
            np.log(area) ** 2,
        ]
    )


def _fills(mask: Mask, box: Box) -> float:
    """The IoU of a mask's bounding box with a box that it lies in."""
    _, _, width, height = cv2.boundingRect(mask)
    return width * height / ((box[2] - box[0]) * (box[3] - box[1]))
