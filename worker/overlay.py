"""The video with the asked paths drawn over it, so that one can see at a glance whether entities obeyed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Line = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

LONGER_SIDE = 576
"""Output pixels that the longer side has at least: thin lines stay readable over a tiny video."""

# Okabe and Ito, "Color Universal Design" (2008), without black, the brightest contrasts first.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
_FAR = 1 << 15  # pixels; OpenCV draws with 32-bit fixed-point coordinates
_BITS = 4  # of a sub-pixel


def overlay(
    frames: Frames,
    points: npt.NDArray[np.generic],
    sides: npt.NDArray[np.generic],
    labels: Sequence[str] | None = None,
    tracked: npt.NDArray[np.floating] | None = None,
    visible: npt.NDArray[np.bool_] | None = None,
) -> Frames:
    """Draw each entity's whole path faintly, the path so far strongly, its disc and its start.

    Args:
        frames: uint8 [F, H, W, 3] RGB.
        points: [E, F, 2] centres of the discs (x, y), in pixels of ``frames``; may lie outside.
        sides: [E, F] radii of the discs in pixels (the half side of the heat map's box).
        labels: [E] names, written at the discs; an empty one is left out.
        tracked: [E, F, 2] where a tracker saw the entities, drawn dashed in white; NaN where it saw none.
        visible: bool [E, F]; False leaves out that tracked point.

    Returns:
        uint8 [F, s*H, s*W, 3], s the smallest whole factor that makes the longer side 576 pixels or more.
    """
    scale = -(-LONGER_SIDE // max(frames.shape[1:3]))
    paths, radii = _scaled(points, scale), np.clip(np.asarray(sides, np.float64) * scale, 0, _FAR)
    seen = None if tracked is None else _scaled(tracked, scale)
    if seen is not None and visible is not None:
        seen[~visible] = np.nan
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    names = [_text(label, size) for label in labels or ()]
    drawn = [_Canvas(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)) for frame in frames]
    for now, canvas in enumerate(drawn):
        for index, path in enumerate(paths):
            _entity(canvas, path, now, radii[index, now], PALETTE[index % len(PALETTE)])
        for track in seen if seen is not None else ():
            _track(canvas, track[: now + 1])
        for name, path, radius in zip(names, paths, radii[:, now], strict=False):
            canvas.write(name, path[now], radius)
    return np.stack([canvas.picture for canvas in drawn])


class _Canvas:
    """An RGB picture and one unit of length, so that lines keep their weight relative to the picture."""

    def __init__(self, picture: Frames) -> None:
        self.picture = np.ascontiguousarray(picture)
        self.unit = _unit(picture.shape[:2])

    def line(self, line: Line, colour: Colour, weight: float, alpha: float = 1.0) -> None:
        """``line`` [N, 2], ``weight`` in units."""
        mask = self._mask()
        if len(line) > 1:
            cv2.polylines(mask, [_fixed(line)], False, 255, self._px(weight), cv2.LINE_AA, _BITS)
        self._blend(mask, colour, alpha)

    def ring(self, centre: Line, radius: float, colour: Colour, weight: float, alpha: float = 1.0) -> None:
        """``radius`` in pixels."""
        self._circle(centre, radius, colour, self._px(weight), alpha)

    def dot(self, centre: Line, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        """``radius`` in units."""
        self._circle(centre, radius * self.unit, colour, cv2.FILLED, alpha)

    def write(self, text: tuple[Mask, Mask], centre: Line, radius: float) -> None:
        """A label and its halo above a disc, or below it where there is no room above."""
        ink, halo = text
        height, width = ink.shape
        room = np.array(self.picture.shape[1::-1]) - (width, height)
        if not width or (room < 0).any():
            return
        away = radius + 2 * self.unit
        corner = centre - (width / 2, away + height)
        if corner[1] < 0:
            corner[1] = centre[1] + away
        x, y = np.clip(corner, 0, room).astype(int)
        for mask, colour in ((halo, BLACK), (ink, WHITE)):
            whole = self._mask()
            whole[y : y + height, x : x + width] = mask
            self._blend(whole, colour, 1.0)

    def _circle(self, centre: Line, radius: float, colour: Colour, weight: int, alpha: float) -> None:
        mask = self._mask()
        fixed = round(radius * (1 << _BITS))
        cv2.circle(mask, _fixed(centre).tolist(), fixed, 255, weight, cv2.LINE_AA, _BITS)
        self._blend(mask, colour, alpha)

    def _px(self, weight: float) -> int:
        return max(1, round(weight * self.unit))

    def _mask(self) -> Mask:
        return np.zeros(self.picture.shape[:2], np.uint8)

    def _blend(self, mask: Mask, colour: Colour, alpha: float) -> None:
        x, y, width, height = cv2.boundingRect(mask)
        part = np.s_[y : y + height, x : x + width]
        weight = mask[part][..., None] * np.float32(alpha / 255)
        below = self.picture[part]
        self.picture[part] = np.rint(below + (np.array(colour, np.float32) - below) * weight)


def _entity(canvas: _Canvas, path: Line, now: int, radius: float, colour: Colour) -> None:
    start, here = path[0], path[now]
    canvas.line(path, BLACK, 4, 0.35)
    canvas.line(path, colour, 2, 0.65)
    canvas.line(path[: now + 1], BLACK, 5, 0.6)
    canvas.dot(start, 5, BLACK, 0.6)
    canvas.ring(here, radius, BLACK, 4, 0.6)
    canvas.line(path[: now + 1], colour, 3)
    canvas.dot(start, 3.5, colour)
    canvas.ring(here, radius, colour, 2)


def _track(canvas: _Canvas, track: Line) -> None:
    dashes = list(_dashes(track, on=6 * canvas.unit, off=8 * canvas.unit))
    for colour, weight, alpha in ((BLACK, 4, 0.6), (WHITE, 2, 1.0)):
        for dash in dashes:
            canvas.line(dash, colour, weight, alpha)
    if np.isfinite(track[-1]).all():
        canvas.dot(track[-1], 4.5, BLACK, 0.6)
        canvas.dot(track[-1], 3, WHITE)


def _dashes(track: Line, on: float, off: float) -> Iterator[Line]:
    """Cut a line [N, 2] by its length; a NaN leaves a gap, and dashes stay in place as the line grows."""
    known = np.ma.masked_invalid(track[:, 0])
    for run in np.ma.clump_unmasked(known):  # type: ignore[no-untyped-call]
        part = track[run]
        ends = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(part, axis=0), axis=1))])
        for start in np.arange(0, ends[-1], on + off):
            stop = min(start + on, ends[-1])
            cuts = np.array([start, *ends[(ends > start) & (ends < stop)], stop])
            yield np.stack([np.interp(cuts, ends, part[:, axis]) for axis in (0, 1)], axis=1)


def _text(label: str, size: tuple[int, int]) -> tuple[Mask, Mask]:
    """A label's ink and its halo, uint8 [h, w] coverages."""
    unit = _unit(size)
    font, height, weight, halo = cv2.FontFace("sans"), round(15 * unit), 500, round(2 * unit)
    x, y, width, rows = cv2.getTextSize((1, 1), label, (0, 0), font, height, weight)
    ink = np.zeros((rows + 2 * halo, width + 2 * halo if label else 0), np.uint8)
    if not label:
        return ink, ink
    cv2.putText(ink, label, (halo - x, halo - y), 255, font, height, weight)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * halo + 1, 2 * halo + 1))
    return ink, cv2.dilate(ink, disc).astype(np.uint8)


def _unit(size: Sequence[int]) -> float:
    return max(1.0, max(size) / LONGER_SIDE)


def _scaled(points: npt.NDArray[np.generic], scale: int) -> Line:
    """Pixel coordinates after scaling up, where the centre of a pixel keeps its place."""
    return np.clip((np.asarray(points, np.float64) + 0.5) * scale - 0.5, -_FAR, _FAR)


def _fixed(points: Line) -> npt.NDArray[np.int32]:
    return np.rint(points * (1 << _BITS)).astype(np.int32)
