"""The tracks of a request, laid out per frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.errors import InvalidRequest
from jobs.spec import EntityRequest, GenerateRequest
from model import trajectory


def lay_out_track(
    item: EntityRequest, pointer: str, request: GenerateRequest, size: tuple[int, int], num_frames: int
) -> trajectory.Floats:
    """The track of one entity, float64 [F, 2] in pixels of the submitted image, the camera's move included."""
    asked = item.trajectory
    points = np.asarray(asked.points, np.float64)
    if asked.space == "normalized":
        points = points * np.array(size)
    closed = len(points) > 1 and (points[0] == points[-1]).all()
    there_and_back = _there_and_back(num_frames) if request.loop and not closed else np.arange(num_frames)
    try:
        track = trajectory.resample(
            points,
            int(there_and_back.max()) + 1,
            timing=asked.timing,
            easing=asked.easing,
            easings=asked.easings,
            start_frame=asked.start_frame or 0,
            end_frame=asked.end_frame,
        )
    except ValueError as error:
        raise InvalidRequest.at(pointer, f"{error}.") from None
    return follow_camera(track[there_and_back], request, size)


def lay_out_scale(item: EntityRequest, request: GenerateRequest, num_frames: int) -> trajectory.Floats | None:
    """How large one entity is in each frame, as factors of its size in the image, float64 [F]; None: as there."""
    if item.scale is None:
        return None
    there_and_back = _there_and_back(num_frames) if request.loop else np.arange(num_frames)
    factors: trajectory.Floats = np.linspace(item.scale.start, item.scale.end, int(there_and_back.max()) + 1)
    return factors[there_and_back]


def follow_camera(track: trajectory.Floats, request: GenerateRequest, size: tuple[int, int]) -> trajectory.Floats:
    """A track [F, 2] as the camera's move of the request carries it."""
    move = request.camera
    if move is None:
        return track
    frames = np.arange(len(track))
    times = _there_and_back(len(track)) if request.loop else frames
    every = np.repeat(track[:, None], int(times.max()) + 1, axis=1)  # each point at each time of the camera
    moved = trajectory.camera(every, size, pan=move.pan, zoom=move.zoom, roll=move.roll, easing=move.easing)
    return np.asarray(moved[frames, times])


def _there_and_back(num_frames: int) -> NDArray[np.intp]:
    """The frame of the way out that each frame of a loop shows, int [F]; the last shows the first."""
    frames = np.arange(num_frames)
    return np.minimum(frames, num_frames - 1 - frames)
