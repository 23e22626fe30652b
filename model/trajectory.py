"""Trajectories: a polyline in pixels of the submitted image becomes one point per frame. numpy only.

Coordinates are continuous, x to the right and y down; the image covers [0, width) x [0, height).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Easing = Literal["linear", "ease_in", "ease_out", "ease_in_out"]
Timing = Literal["arc_length", "per_point"]

_FAR = float(2**30)  # pixels; keeps centre plus radius inside int32

_EASINGS: dict[str, Callable[[Floats], Floats]] = {
    "linear": lambda t: t,
    "ease_in": lambda t: t**2,
    "ease_out": lambda t: 1 - (1 - t) ** 2,
    "ease_in_out": lambda t: np.where(t < 0.5, 2 * t**2, 1 - 2 * (1 - t) ** 2),
}


def ease(t: Floats, easing: Easing) -> Floats:
    """Quadratic easing of times in [0, 1] to progress in [0, 1] of the same shape; ValueError if unknown."""
    try:
        return _EASINGS[easing](t)
    except KeyError:
        raise ValueError(f"easing must be one of {', '.join(_EASINGS)}, not {easing!r}") from None


def progress(
    num_frames: int, *, easing: Easing = "linear", start_frame: int = 0, end_frame: int | None = None
) -> Floats:
    """How far a motion has come in each frame: float64 [F] in [0, 1].

    0 up to and including `start_frame`, 1 from `end_frame` (default: the last frame) on. With both equal it
    jumps after that frame. Raises ValueError unless 0 <= start_frame <= end_frame < num_frames.
    """
    end = num_frames - 1 if end_frame is None else end_frame
    if not 0 <= start_frame <= end < num_frames:
        raise ValueError(
            f"start_frame {start_frame} and end_frame {end} must satisfy "
            f"0 <= start_frame <= end_frame <= {num_frames - 1} (the last frame)"
        )
    frames = np.arange(num_frames, dtype=np.float64) - start_frame
    return ease(np.clip(frames / (end - start_frame) if end > start_frame else frames, 0, 1), easing)


def resample(
    points: npt.ArrayLike,
    num_frames: int,
    *,
    timing: Timing = "arc_length",
    easing: Easing = "linear",
    easings: Sequence[Easing] | None = None,
    start_frame: int = 0,
    end_frame: int | None = None,
) -> Floats:
    """Walk along a polyline [N, 2] and return the point of each frame, float64 [F, 2].

    The first point belongs to `start_frame`, the last to `end_frame`; before and after the entity holds.
    `arc_length` walks at constant speed, `per_point` spaces the vertices evenly in time, so that `num_frames`
    points come back unchanged, bit for bit. `easing` shapes the whole walk; `easings` shapes each of the
    N - 1 segments instead (a segment's share of the time stays that of `timing`). One point, or equal points,
    hold still. Raises ValueError for points that are not [N, 2], not finite or beyond 2^30 pixels, and for
    unknown names or counts that do not fit.
    """
    line = _finite_points(points)
    if easings is not None and len(easings) != len(line) - 1:
        raise ValueError(
            f"easings needs one entry per segment: {len(line) - 1} for {len(line)} points, not {len(easings)}"
        )
    whole: Easing = easing if easings is None else "linear"
    time = progress(num_frames, easing=whole, start_frame=start_frame, end_frame=end_frame)
    knots = _knots(line, timing)
    if len(line) == 1:
        return np.repeat(line, num_frames, axis=0)
    segment = np.clip(np.searchsorted(knots, time, side="right") - 1, 0, len(line) - 2)
    span = knots[segment + 1] - knots[segment]
    local = np.divide(time - knots[segment], span, out=np.ones_like(time), where=span > 0)
    for index, name in enumerate(easings or ()):
        local = np.where(segment == index, ease(local, name), local)
    first, last = line[segment], line[segment + 1]
    # This form of the blend is exact between equal points and at the start of a segment, but not at its end.
    walked: Floats = np.where(local[:, None] == 1, last, first + (last - first) * local[:, None])
    return walked


def camera(
    points: npt.ArrayLike,
    size: tuple[int, int],
    *,
    pan: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
    roll: float = 0.0,
    easing: Easing = "linear",
) -> Floats:
    """Add a camera's motion to tracks [..., F, 2] in an image of `size` (width, height); float64, same shape.

    The scene grows by `zoom` and turns clockwise by `roll` degrees about the image's centre, then shifts by
    `pan` pixels. All three are complete in the last frame; the first frame stays as it is. Zoom grows
    geometrically, which looks like constant speed. Raises ValueError if zoom is not positive and finite.
    """
    tracks = np.asarray(points, dtype=np.float64)
    if not (0 < zoom < float("inf") and np.isfinite([roll, *pan]).all()):
        raise ValueError(f"camera needs a finite pan and roll and a positive zoom: {pan=}, {roll=}, {zoom=}")
    time = progress(tracks.shape[-2], easing=easing)
    centre = np.array(size, dtype=np.float64) / 2
    angle, factor = np.deg2rad(roll) * time, zoom**time
    cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
    x, y = np.moveaxis(tracks - centre, -1, 0)
    turned = np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=-1)
    # Adding the difference leaves a track that the camera does not move bit-exact.
    moved: Floats = tracks + (turned - (tracks - centre)) + time[:, None] * np.array(pan, dtype=np.float64)
    return moved


def fit(points: npt.ArrayLike, original: tuple[int, int], target: tuple[int, int]) -> Floats:
    """Points [..., 2] of an image of size `original` (width, height) in one of size `target`, float64.

    Divides first, then multiplies, in double precision, as the reference does: the order decides last bits.
    """
    fitted: Floats = np.asarray(points, dtype=np.float64) / np.array(original) * np.array(target)
    return fitted


def scale(points: npt.ArrayLike, original: tuple[int, int], target: tuple[int, int]) -> npt.NDArray[np.int32]:
    """`fit`, truncated toward zero: int32 [..., 2], the reference's pixel positions.

    Not clamped to the image: points may lie outside of it. Beyond 2^30 pixels they stop there.
    """
    return np.clip(np.trunc(fit(points, original, target)), -_FAR, _FAR).astype(np.int32)


def _finite_points(points: npt.ArrayLike) -> Floats:
    line = np.asarray(points, dtype=np.float64)
    if line.ndim != 2 or line.shape[1] != 2 or not len(line):
        raise ValueError(f"points must be a list of at least one [x, y], not of shape {line.shape}")
    near = (np.abs(line) <= _FAR).all(axis=1)
    if not near.all():
        raise ValueError(f"point {int(np.argmin(near))} is not finite or lies beyond 2^30 pixels")
    return line


def _knots(line: Floats, timing: Timing) -> Floats:
    """The time in [0, 1] at which each vertex is reached, float64 [N]."""
    if timing == "per_point":
        return np.arange(len(line)) / max(len(line) - 1, 1)
    if timing != "arc_length":
        raise ValueError(f"timing must be arc_length or per_point, not {timing!r}")
    steps = np.diff(line, axis=0)
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    return walked / (walked[-1] or 1.0)
