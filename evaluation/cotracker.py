"""CoTracker 3 as the tracker, where its code and weights are at hand: nothing of it is downloaded or shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.look import Floats
from evaluation.tracking import Bools, Frames

ENTRY, CHECKPOINT = "cotracker3_offline", "scaled_offline.pth"


class TrackerMissing(Exception):
    """A folder from which CoTracker can not be loaded; the message says what is wrong with it."""


class CoTracker:
    """Follows each entity by its one point, as the paper does (Karaev et al. 2024, arXiv 2410.11831)."""

    name = "cotracker3"

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        """``folder``: a checkout of its repository with ``scaled_offline.pth`` beside ``hubconf.py``.

        Raises:
            TrackerMissing: the folder does not hold that.
        """
        for name in ("hubconf.py", CHECKPOINT):
            if not (folder / name).is_file():
                raise TrackerMissing(
                    f"there is no {name} in {folder}: CoTracker needs a checkout of its repository with the"
                    f" weights {CHECKPOINT} in it; leave the setting out for the embedded tracker"
                )
        try:
            self._predict: Any = torch.hub.load(str(folder), ENTRY, source="local", pretrained=False)  # type: ignore[no-untyped-call]
            weights = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
            self._predict.model.load_state_dict(weights)
        except Exception as error:  # whatever foreign code and a foreign file lead to
            raise TrackerMissing(f"CoTracker can not be loaded from {folder}: {error}") from error
        self._predict.eval().to(device)
        self._device = device

    @torch.no_grad()
    def track(self, frames: Frames, masks: Bools, points: Floats) -> tuple[Floats, Bools]:
        """See ``evaluation.tracking.Tracker``. An empty mask is never seen."""
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float().to(self._device)  # [1, F, 3, H, W]
        starts = np.concatenate([np.zeros((len(points), 1)), points - 0.5], axis=1)  # (frame, x, y)
        queries = torch.from_numpy(starts)[None].float().to(self._device)
        tracks, visible = self._predict(video, queries=queries)  # [1, F, E, 2], [1, F, E]
        tracks = tracks[0].transpose(0, 1).double().cpu().numpy() + 0.5
        tracks[:, 0] = points
        seen = visible[0].bool().reshape(len(frames), -1).T.cpu().numpy()
        size = frames.shape[2], frames.shape[1]
        inside = (tracks >= 0).all(axis=-1) & (tracks < size).all(axis=-1)
        there = np.asarray(masks.any(axis=(1, 2)))
        return tracks, seen & inside & there[:, None]
