"""The adapter speaks CoTracker's language; the stand-in has the same call signature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.cotracker import CoTracker, TrackerMissing

HUBCONF = """
import torch


class Predictor(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(2, 1, bias=False)  # its weight is how far points go in a frame

    def forward(self, video, queries=None, grid_size=0):
        assert video.shape == (1, 4, 3, 16, 24) and video.max() > 1 and video.dtype == torch.float32
        assert (queries[..., 0] == 0).all()
        time = torch.arange(4.0)[None, :, None, None]
        tracks = queries[:, None, :, 1:] + time * self.model.weight[0]
        return tracks, tracks[..., 1] < 10


def cotracker3_offline(*, pretrained=True, **options):
    assert not pretrained  # it would download
    return Predictor()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    torch.save({"weight": torch.tensor([[2.0, 1.0]])}, tmp_path / "scaled_offline.pth")
    return tmp_path


def test_points_go_in_and_tracks_come_out(folder: Path) -> None:
    frames = np.full((4, 16, 24, 3), 200, np.uint8)
    masks = np.ones((3, 16, 24), bool)
    masks[2] = False
    points = np.array([[3.5, 4.25], [19, 8.5], [5, 5]])
    tracks, visible = CoTracker(folder).track(frames, masks, points)
    assert np.allclose(tracks, points[:, None] + np.arange(4)[:, None] * (2, 1))
    assert visible.tolist() == [[True] * 4, [True, True, False, False], [False] * 4]


@pytest.mark.parametrize("name", ["hubconf.py", "scaled_offline.pth"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(TrackerMissing, match=name):
        CoTracker(folder)


def test_other_weights_are_refused(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3, 3)}, folder / "scaled_offline.pth")
    with pytest.raises(TrackerMissing, match="can not be loaded"):
        CoTracker(folder)
