"""How good the embedded tracker is: ``python -m bench.tracking`` measures it for docs/evaluation.md.

Synthetic clips with exact tracks, from pictures and seeds that training never uses: entities and camera move,
grow, turn, cover each other and leave the frame. Errors are pixels, over the frames after the first in which the
tracked point is seen in truth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from evaluation.cotracker import CoTracker
from evaluation.tracking import FlowTracker, Tracker
from training.config import Synthetic
from training.data.scenes import render
from training.data.seeds import EVALUATE
from training.data.synthetic import SyntheticSource, to_clips

SCENES = Synthetic(sizes=((192, 128),), max_entities=3, entities=(1.0, 1.0, 1.0))
TRACKERS: dict[str, Tracker] = {
    "flow, search, anchor": FlowTracker(),
    "flow alone": FlowTracker(search=False, anchor=False),
    "template search alone": FlowTracker(flow=False, anchor=False),
}


@dataclass(frozen=True, eq=False)
class Clip:
    """A video with what is known of its entities."""

    frames: NDArray[np.uint8]  # [F, H, W, 3]
    masks: NDArray[np.bool_]  # [E, H, W], of the first frame
    tracks: NDArray[np.float64]  # [E, F, 2]
    visible: NDArray[np.bool_]  # [E, F]


def clips(seed: int, count: int, frames: int) -> Iterator[Clip]:
    """The background is an entity too."""
    source = SyntheticSource(SCENES, seed, torch.device("cpu"), split="held_out", purpose=EVALUATE)
    for index in range(count):
        scene = source.scene(0, index, 0, 1, frames)
        made, (_, covers) = to_clips(scene, source.bank), render(scene, source.bank)
        sprites = covers[0].numpy()  # [E, F, H, W]
        shown = np.concatenate([1 - sprites.sum(axis=0, keepdims=True), sprites]) > 0.5
        tracks = made.points[0].numpy().astype(np.float64)
        visible = np.array([_seen(*pair) for pair in zip(shown, tracks, strict=True)])
        kept = (
            made.masks[0].numpy().any(axis=(1, 2)) & visible[:, 0] & np.array([True, *scene.present[0].tolist()])
        )
        pictures = np.ascontiguousarray(made.frames[0].permute(0, 2, 3, 1).numpy())
        yield Clip(pictures, made.masks[0].numpy()[kept], tracks[kept], visible[kept])


def _seen(shown: NDArray[np.bool_], track: NDArray[np.float64]) -> NDArray[np.bool_]:
    height, width = shown.shape[1:]
    x, y = np.floor(track).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    return np.asarray(inside & shown[np.arange(len(track)), y.clip(0, height - 1), x.clip(0, width - 1)])


def measure(tracker: Tracker, videos: list[Clip]) -> dict[str, Any]:
    """Errors of a tracker and the seconds of a core that it takes for a clip."""
    errors: dict[str, list[NDArray[np.float64]]] = {"all": [], "moving": [], "holding": []}
    found: list[NDArray[np.bool_]] = []
    begun = time.process_time()
    tracked = [tracker.track(v.frames, v.masks, v.tracks[:, 0]) for v in tqdm(videos, disable=None)]
    seconds = (time.process_time() - begun) / len(videos)
    for video, (tracks, visible) in zip(videos, tracked, strict=True):
        for truth, guess, seen, claimed in zip(video.tracks, tracks, video.visible, visible, strict=True):
            later = seen & (np.arange(len(seen)) > 0)
            distances = np.linalg.norm(guess - truth, axis=1)[later]
            moves = np.ptp(truth, axis=0).max() > 0.5
            errors["all"].append(distances)
            errors["moving" if moves else "holding"].append(distances)
            found.append(claimed[later])
    figures = {name: _figures(np.concatenate(parts or [np.zeros(0)])) for name, parts in errors.items()}
    recall = float(np.concatenate(found).mean())
    return {"tracker": tracker.name, "seen_of_visible": recall, "seconds_per_clip": seconds, **figures}


def _figures(errors: NDArray[np.float64]) -> dict[str, float | int | None]:
    if not len(errors):
        return {"points": 0, "median": None, "p90": None, "mean": None}
    median, p90 = np.percentile(errors, (50, 90))
    return {"points": len(errors), "median": float(median), "p90": float(p90), "mean": float(errors.mean())}


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.tracking", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--cotracker", type=Path, help="folder of CoTracker's code and weights: measure it too")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    trackers = TRACKERS | ({"CoTracker 3": CoTracker(options.cotracker)} if options.cotracker else {})
    videos = list(clips(options.seed, options.clips, options.frames))
    rows = {name: measure(tracker, videos) for name, tracker in trackers.items()}
    if options.json:
        print(json.dumps({"seed": options.seed, "clips": options.clips, "trackers": rows}))
        return
    for name, row in rows.items():
        for kind in ("all", "moving", "holding"):
            part = row[kind]
            shown = " ".join(f"{key} {part[key]:.2f}" for key in ("median", "p90", "mean") if part["points"])
            print(f"{name:<24}{kind:<9}{part['points']:>6} points  {shown}")
        print(f"{'':<24}seen {row['seen_of_visible']:.1%}, {row['seconds_per_clip']:.2f} s a clip")


if __name__ == "__main__":
    main()
