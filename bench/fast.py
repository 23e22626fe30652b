"""``python -m bench.fast``: what each approximation of the fast tier saves, and what it does to the video.

Every combination gets the same conditions and the same noise, on clips that training never uses. `latents` is the
distance of its latents from the exact tier's (relative L2), `frames_db` that of its pixels (PSNR), `objmc` how far
the moving entities are from their tracks (pixels, and as a share of the frozen first frame's), `template` the same
by exact appearance. Times are of denoising alone, all combinations of a clip in turn.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from evaluation.tiny import Followed, Found, drift, figures_of, follow, ratio, to_tensor, to_video
from model.pipeline import DragAnythingPipeline
from training.data.clips import Clips
from training.samples import entities_of

EXACT, FROZEN = "exact", "frozen"


def combinations(steps: int, fast_steps: int) -> dict[str, dict[str, Any]]:
    """Options of `DragAnythingPipeline.denoise` by name; the exact tier is the first."""
    return {
        EXACT: {"num_inference_steps": steps},
        "ControlNet in every second step": {"num_inference_steps": steps, "control_every": 2},
        f"{fast_steps} of Euler": {"num_inference_steps": fast_steps},
        f"{fast_steps} of ays": {"num_inference_steps": fast_steps, "sampler": "ays"},
        f"{steps} of ays": {"num_inference_steps": steps, "sampler": "ays"},
    }


@dataclass(frozen=True)
class Measured:
    """One combination, clip by clip."""

    seconds: list[float] = field(default_factory=list)
    latents: list[float] = field(default_factory=list)  # relative L2 to the exact tier's
    frames_db: list[float] = field(default_factory=list)  # PSNR to the exact tier's; none of the exact tier


def compare(pipeline: DragAnythingPipeline, seed: int, count: int) -> dict[str, dict[str, float | None]]:
    """The figures of every combination."""
    default = pipeline.card.defaults
    measured: dict[str, Measured] = defaultdict(Measured)
    size = (default.width, default.height)
    found = follow(size, seed, count, default.num_frames, lambda clips: _make(pipeline, clips, measured))
    still = _objmc(found.moving[FROZEN])
    return {name: _row(name, measured, found, still) for name in measured}


def _make(pipeline: DragAnythingPipeline, clips: Clips, measured: dict[str, Measured]) -> dict[str, Tensor]:
    """The videos of one clip in every combination, and its first frame, frozen."""
    default = pipeline.card.defaults
    conditions = pipeline.condition(
        clips.frames[0, 0].permute(1, 2, 0).numpy(),
        entities_of(clips, 0),
        num_frames=default.num_frames,
        width=default.width,
        height=default.height,
        generator=torch.Generator().manual_seed(0),
    )
    videos = {FROZEN: to_video(clips)[:1].expand(default.num_frames, -1, -1, -1)}
    exact: Tensor | None = None
    for name, options in combinations(default.num_inference_steps, default.fast_num_inference_steps).items():
        began = time.perf_counter()
        latents = pipeline.denoise(conditions, **options)
        measured[name].seconds.append(time.perf_counter() - began)
        videos[name] = to_tensor(pipeline.decode(latents))
        exact = latents if exact is None else exact
        measured[name].latents.append(float((latents - exact).norm() / exact.norm()))
        if name != EXACT:
            error = (videos[name] - videos[EXACT]).square().mean()
            measured[name].frames_db.append(float(-10 * error.log10()))
    return videos


def _row(
    name: str, measured: dict[str, Measured], found: Followed, still: dict[str, float | None]
) -> dict[str, float | None]:
    own, pairs = measured[name], zip(measured[EXACT].seconds, measured[name].seconds, strict=True)
    row: dict[str, float | None] = {
        "seconds": statistics.median(own.seconds),
        "faster": statistics.median(exact / seconds for exact, seconds in pairs),
        "latents": statistics.mean(own.latents),
        "frames_db": statistics.mean(own.frames_db) if own.frames_db else None,
        "anchor_drift_px": drift([f.blob for f in found.holding[name]])["mean"],
    }
    for key, distance in _objmc(found.moving[name]).items():
        row |= {f"{key}_px": distance, f"{key}_of_still": ratio(distance, still[key])}
    return row


def _objmc(found: list[Found]) -> dict[str, float | None]:
    return {
        "objmc": figures_of([f.blob for f in found])["mean"],
        "template": figures_of([f.template for f in found])["mean"],
    }


def main(arguments: list[str] | None = None) -> None:
    """Print one line per combination, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.fast", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--device")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    pipeline = DragAnythingPipeline.from_pretrained("tiny", device=options.device)
    rows = compare(pipeline, options.seed, options.clips)
    if options.json:
        print(json.dumps({"seed": options.seed, "clips": options.clips, "combinations": rows}))
        return
    for name, figures in rows.items():
        told = "  ".join(f"{key} {value:.3g}" for key, value in figures.items() if value is not None)
        print(f"{name:32} {told}")


if __name__ == "__main__":
    main()
