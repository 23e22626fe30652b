"""Tracks in the format that the published VIPSeg trajectories have: CoTracker's points, one file per video.

A file maps the id of a segment to one [x, y] per frame, in pixels of the video, possibly negative or outside.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt


class TracksError(ValueError):
    """A file of tracks that makes no sense."""


def read(path: Path) -> dict[int, npt.NDArray[np.float64]]:
    """Tracks [F, 2] by id. Raises TracksError; a missing file is one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tracks = {int(key): np.array(points, np.float64) for key, points in content.items()}
    except OSError as error:
        raise TracksError(f"{path}: {error.strerror}") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise TracksError(f"{path} must map ids to lists of [x, y]: {error}") from None
    for key, points in tracks.items():
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise TracksError(f"{path}: the track of {key} must be a list of finite [x, y]")
    return tracks


def write(path: Path, tracks: dict[int, npt.NDArray[np.float64]]) -> None:
    """Write tracks, in whole pixels as the published ones are."""
    content = {str(key): np.trunc(points).astype(int).tolist() for key, points in tracks.items()}
    path.write_text(json.dumps(content), encoding="utf-8")
