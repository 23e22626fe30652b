"""How an entity looks in a video's first frame, and where a later frame looks like that. OpenCV and numpy only.

A motion is a similarity, float64 [2, 3]: it takes pixel indices (x, y) of the first frame to those of a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Field = npt.NDArray[np.float32]

SAMPLES = 600
"""Pixels of a mask that are compared, about."""
FEWEST = 6
"""Pixels from which a motion is estimated, at least."""
CLIP = 48.0
"""Grey levels: a pixel that differs by more is covered by something else, and counts no more than this."""
ROUNDS = 8
SETTLED = 0.01
"""Pixels: a smaller correction is the last."""
DAMPING = 0.15
LARGEST = 0.4
"""Of the frame: a larger entity is not searched for, there is nowhere that it could hide."""


@dataclass(frozen=True, eq=False)
class Look:
    """The pixels of an entity: all of them in ``crop``, some of them in ``samples``."""

    crop: Frame  # [h, w, 3]
    mask: Frame  # [h, w], 0 or 1
    corner: Floats  # (x, y) of the crop in the frame
    share: float  # of the frame
    samples: Floats  # [N, 2]
    colours: Floats  # [N, 3]
    slopes: Floats  # [N, 3, 4], of the colours by growth, turn, x and y
    middle: Floats  # (x, y) of the samples
    radius: float  # root mean square of their distances from it

    @classmethod
    def of(cls, frame: Frame, mask: npt.NDArray[np.bool_]) -> Look:
        """Look at the entity under a mask [H, W], which must not be empty, in a frame [H, W, 3]."""
        rows, columns = np.nonzero(mask)
        part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        step = max(1, round((len(rows) / SAMPLES) ** 0.5))
        kept = (rows % step == 0) & (columns % step == 0)
        if kept.sum() < FEWEST:
            kept[:] = True
        places = rows[kept], columns[kept]
        samples = np.stack(places[::-1], axis=1).astype(np.float64)
        middle = samples.mean(axis=0)
        radius = float(np.sqrt(((samples - middle) ** 2).sum(axis=1).mean())) or 1.0
        x, y = ((samples - middle) / radius).T[:, :, None]
        across, down = (cv2.Sobel(frame, cv2.CV_64F, *axis, scale=1 / 8)[places] for axis in ((1, 0), (0, 1)))
        return cls(
            crop=np.ascontiguousarray(frame[part]),
            mask=mask[part].astype(np.uint8),
            corner=np.array([columns.min(), rows.min()], np.float64),
            share=float(mask.mean()),
            samples=samples,
            colours=frame[places].astype(np.float64),
            slopes=np.stack([across * x + down * y, down * x - across * y, across, down], axis=-1),
            middle=middle,
            radius=radius,
        )

    @property
    def contrast(self) -> float:
        """Mean difference of the colours from their mean, in grey levels."""
        return float(np.abs(self.colours - self.colours.mean(axis=0)).mean())

    def error(self, frame: Frame, motion: Floats) -> float:
        """Mean difference to the first frame in grey levels, at most ``CLIP``; what is outside differs by that."""
        differences, inside = self._differences(frame, motion)
        return float(np.where(inside, np.minimum(np.abs(differences).mean(axis=1), CLIP), CLIP).mean())

    def follow(self, motion: Floats, forth: Field, back: Field) -> Floats | None:
        """Where optical flow [H, W, 2] takes a motion; None where too few pixels agree on it.

        Only pixels count that the flow ``back`` returns to where they came from.
        """
        places = apply(motion, self.samples)
        moved = places + _sample(forth, places)
        returned = moved + _sample(back, moved)
        good = _inside(places, forth.shape) & (np.linalg.norm(returned - places, axis=1) < 1)
        if good.sum() < max(FEWEST, len(places) / 10):
            return None
        found, _ = cv2.estimateAffinePartial2D(self.samples[good], moved[good], ransacReprojThreshold=1.0)
        return None if found is None or not 0.25 < np.hypot(found[0, 0], found[1, 0]) < 4 else found

    def find(self, frame: Frame, motion: Floats) -> Floats | None:
        """The motion shifted to where the look, as it is turned and grown by now, fits best nearby."""
        if self.share > LARGEST:
            return None
        linear = motion[:, :2]
        size = np.array(self.mask.shape[::-1])
        middle = (size - 1) / 2
        now = np.ceil(np.abs(linear) @ size).astype(int)
        turn = np.hstack([linear, ((now - 1) / 2 - linear @ middle)[:, None]])
        look = cv2.warpAffine(self.crop, turn, now.tolist(), borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(self.mask, turn, now.tolist(), flags=cv2.INTER_NEAREST)
        if not mask.any():
            return None
        reach = max(12, min(frame.shape[:2]) // 4)
        corner = apply(motion, (self.corner + middle)[None])[0] - (now - 1) / 2
        first = np.clip(np.rint(corner).astype(int) - reach, -now, np.array(frame.shape[1::-1]) - 2 * reach)
        area = _cut(frame, first, now + 2 * reach)
        errors = cv2.matchTemplate(area, look, cv2.TM_SQDIFF, mask=cv2.merge([mask] * 3))
        row, column = np.unravel_index(int(errors.argmin()), errors.shape)
        return np.hstack([linear, (motion[:, 2] + first + (column, row) - corner)[:, None]])

    def settle(self, frame: Frame, motion: Floats) -> Floats:
        """The motion, corrected until the frame looks like the first one, where that makes it better.

        Gauss-Newton steps on the difference of colours (inverse compositional: Baker and Matthews 2004).
        """
        best, least = motion, self.error(frame, motion)
        damping = np.eye(4) * DAMPING * len(self.samples)
        for _ in range(ROUNDS):
            differences, inside = self._differences(frame, motion)
            good = inside & (np.abs(differences).mean(axis=1) < CLIP)
            if good.sum() < FEWEST:
                break
            slopes = self.slopes[good].reshape(-1, 4)
            step = np.linalg.solve(slopes.T @ slopes + damping, slopes.T @ differences[good].ravel())
            motion = compose(motion, inverse(self._similarity(step)))
            if (error := self.error(frame, motion)) < least:
                best, least = motion, error
            if np.abs(step).max() < SETTLED:
                break
        return best

    def _similarity(self, step: Floats) -> Floats:
        """Growth and turn in pixels at the radius, and a shift."""
        a, b = step[:2] / self.radius
        linear = np.array([[1 + a, -b], [b, 1 + a]])
        return np.hstack([linear, (self.middle + step[2:] - linear @ self.middle)[:, None]])

    def _differences(self, frame: Frame, motion: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
        places = apply(motion, self.samples)
        return _sample(frame, places) - self.colours, _inside(places, frame.shape)


def apply(motion: Floats, points: Floats) -> Floats:
    """Move points [N, 2]."""
    moved: Floats = points @ motion[:, :2].T + motion[:, 2]
    return moved


def compose(one: Floats, other: Floats) -> Floats:
    """First ``other``, then ``one``."""
    return np.hstack([one[:, :2] @ other[:, :2], (one[:, :2] @ other[:, 2] + one[:, 2])[:, None]])


def inverse(motion: Floats) -> Floats:
    """The motion back."""
    linear = np.linalg.inv(motion[:, :2])
    return np.hstack([linear, (-linear @ motion[:, 2])[:, None]])


def _inside(places: Floats, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    height, width = shape[:2]
    return np.asarray(((places >= -0.5) & (places <= (width - 0.5, height - 0.5))).all(axis=1))


def _sample(field: npt.NDArray[np.generic], places: Floats) -> Floats:
    """Values of a field [H, W, C] between its pixels: [N, C]."""
    spots = np.clip(places, -(1 << 14), 1 << 14).astype(np.float32)[None]
    found = cv2.remap(np.asarray(field), spots, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return np.asarray(found[0], np.float64)


def _cut(frame: Frame, first: npt.NDArray[np.int_], size: npt.NDArray[np.int_]) -> Frame:
    """A rectangle of a frame; beyond its border stands what is nearest."""
    height, width = frame.shape[:2]
    columns = np.clip(np.arange(first[0], first[0] + size[0]), 0, width - 1)
    rows = np.clip(np.arange(first[1], first[1] + size[1]), 0, height - 1)
    return np.asarray(frame[rows[:, None], columns])
