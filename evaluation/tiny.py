"""How well a model drags: `python -m evaluation.tiny --seed S --clips N [--weights DIR] [--json]`.

Synthetic clips of one to three entities before a still camera, from pictures and seeds that training never uses.
Each is made with control, without it, and not at all (the first frame, frozen). Sprites are found by appearance in
all of them, in the truth, which calibrates the tracker, and in the truth behind the VAE, the best within reach.
Distances are pixels, over frames in which the entity is seen.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from evaluation.tracker import Template, explain, match
from model.pipeline import DragAnythingPipeline
from training import linear_code
from training.config import Synthetic
from training.data.bank import load
from training.data.clips import Clips
from training.data.scenes import Scene, render
from training.data.seeds import EVALUATE, TRAIN
from training.data.synthetic import SyntheticSource, to_clips
from training.samples import generate, reconstruct
from training.stages.video import mute

MOVES = 8.0  # pixels: entities whose track goes at least this far count as moving
JUST_MOVES = 0.5  # pixels: entities whose track goes less far hold still
SEEN = 0.5  # of the first frame's visible pixels, scale considered: less is not looked for
FEWEST = 16  # pixels of an entity, likewise
JUST_VISIBLE = 2 / 255  # of the range: less is rounding
CROP = 64  # pixels of the crops that the VAE is measured on
VARIANTS = ("truth", "reconstructed", "frozen", "control", "uncontrolled")


@dataclass(frozen=True, eq=False)
class Found:
    """Distances of one entity in one variant, by frame in which it is seen; NaN where it is not."""

    blob: Tensor  # [F]
    template: Tensor  # [F]


def scenes_of(width: int, height: int) -> Synthetic:
    """The kind of scene that is evaluated on."""
    return Synthetic(
        sizes=((width, height),),
        max_entities=3,
        entities=(1.0, 1.0, 1.0),
        camera=(1.0, 0.0, 0.0, 0.0),
        leaving_share=0.0,
        turning_share=0.0,
        light_share=0.0,
        point_share=0.0,
    )


Make = Callable[[Clips], dict[str, Tensor]]  # one clip: its videos by variant, [F, 3, H, W] in 0..1


@dataclass(frozen=True)
class Followed:
    """What was found in the videos of each variant: of the entities that move, and of those that hold still."""

    moving: dict[str, list[Found]] = field(default_factory=lambda: defaultdict(list))
    holding: dict[str, list[Found]] = field(default_factory=lambda: defaultdict(list))


def follow(size: tuple[int, int], seed: int, count: int, frames: int, make: Make) -> Followed:
    """Look for the controlled entities of `count` unseen clips in every video that is made of them."""
    device = torch.device("cpu")  # scenes are the same wherever the model runs
    source = SyntheticSource(scenes_of(*size), seed, device, split="held_out", purpose=EVALUATE)
    followed = Followed()
    for clip in tqdm(range(count), desc="clips", disable=None):
        scene = source.scene(0, clip, 0, 1, frames)
        clips = to_clips(scene, source.bank)
        videos = make(clips)
        for k in clips.controlled[0, 1:].nonzero().flatten().tolist():
            track = clips.points[0, k + 1]
            travelled = float((track - track[0]).norm(dim=1).max())
            if JUST_MOVES <= travelled < MOVES:
                continue
            kind = followed.moving if travelled >= MOVES else followed.holding
            for name, found in _find(scene, source, videos, k, track).items():
                kind[name].append(found)
    return followed


def evaluate(pipeline: DragAnythingPipeline, seed: int, count: int, frames: int, steps: int) -> dict[str, Any]:
    """All figures but the VAE's, as plain data."""
    default = pipeline.card.defaults
    seconds: list[float] = []

    def make(clips: Clips) -> dict[str, Tensor]:
        videos = {"truth": to_video(clips), "frozen": to_video(clips)[:1].expand(frames, -1, -1, -1)}
        videos["reconstructed"] = to_tensor(reconstruct(pipeline, clips, 0))
        began = time.perf_counter()
        videos["control"] = to_tensor(generate(pipeline, clips, 0, steps))
        seconds.append(time.perf_counter() - began)
        videos["uncontrolled"] = to_tensor(generate(pipeline, clips, 0, steps, control_end=0.0))
        return videos

    found = follow((default.width, default.height), seed, count, frames, make)
    return {
        "seed": seed,
        "clips": count,
        "frames": frames,
        "steps": steps,
        "width": default.width,
        "height": default.height,
        "seconds_per_clip": sum(seconds) / max(count, 1),
        "moving_entities": len(found.moving["truth"]),
        "objmc": _summarise({name: [f.blob for f in entities] for name, entities in found.moving.items()}),
        "objmc_template": _summarise(
            {name: [f.template for f in entities] for name, entities in found.moving.items()}
        ),
        "anchor_drift": drift([f.blob for f in found.holding["control"]]),
    }


def limit_control(pipeline: DragAnythingPipeline, control: str) -> None:
    """Let a pipeline see of the entities what a training with this `control` shows it."""
    pipeline.controlnet.controlnet_cond_embedding.register_forward_pre_hook(
        lambda _module, inputs: (*mute(control, inputs[0], inputs[1]), inputs[2])
    )


def reconstruction(pipeline: DragAnythingPipeline, seed: int) -> dict[str, float]:
    """PSNR on crops of the held-out photographs: the VAE, and the best linear code, fitted to training clips."""
    bank = load("held_out", "cpu")
    squares = bank.squares[: bank.natural]
    crops = (
        squares.unfold(2, CROP, CROP).unfold(3, CROP, CROP).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, CROP, CROP)
    )
    pixels = crops * 2 - 1
    channels = pipeline.vae.config.latent_channels
    train = SyntheticSource(Synthetic(), seed, torch.device("cpu"), purpose=TRAIN)
    seen = [train.batch(0, step, 0, 16, 1).frames[:, 0].float() / 127.5 - 1 for step in range(6)]
    code = linear_code.fit(torch.cat(seen), channels)
    with torch.no_grad():
        given = pixels.to(pipeline.device, pipeline.vae.dtype)
        made = (
            pipeline.vae.decode(pipeline.vae.encode(given).latent_dist.mode(), num_frames=1).sample.float().cpu()
        )
    vae = float(linear_code.psnr(made, pixels))
    linear = float(linear_code.psnr(code.decode(code.encode(pixels)), pixels))
    return {"psnr": vae, "linear_psnr": linear, "gain": vae - linear, "channels": channels, "crops": len(pixels)}


def _find(
    scene: Scene, source: SyntheticSource, videos: dict[str, Tensor], k: int, track: Tensor
) -> dict[str, Found]:
    """Look for entity k in every video, [F, 3, H, W] in 0..1."""
    truth, covers = render(scene, source.bank)
    without, _ = render(scene, source.bank, skip=k)
    truth, without, masks = truth[0], without[0], (covers[0, k] > 0.98).float()
    expected = masks[0].sum() * scene.scales[0, k] ** 2
    seen = (masks.sum(dim=(1, 2)) >= SEEN * expected) & (masks.sum(dim=(1, 2)) >= FEWEST)
    changed = ((truth - without).abs().amax(dim=1) > JUST_VISIBLE) | (covers[0, k] > 0.5)  # with edges and shadow
    whole = [Template(truth[f], changed[f].float(), track[f]) for f in range(len(track))]
    inner = [Template(truth[f], masks[f], track[f]) for f in range(len(track))]
    found = {}
    for name, video in videos.items():
        blob, exact = torch.full((2, len(track)), torch.nan)
        for f in seen.nonzero().flatten().tolist():
            if f == 0:
                continue  # the first frame is given
            plates = torch.stack([without[f], without[0]])
            blob[f] = (explain(video[f], plates, [whole[f], whole[0]]) - track[f]).norm()
            exact[f] = (match(video[f], [inner[f], inner[0]]) - track[f]).norm()
        found[name] = Found(blob, exact)
    return found


def to_video(clips: Clips) -> Tensor:
    """The truth, [F, 3, H, W] in 0..1."""
    return clips.frames[0].float() / 255


def to_tensor(frames: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Frames, uint8 [F, H, W, 3], as [F, 3, H, W] in 0..1."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def _summarise(distances: dict[str, list[Tensor]]) -> dict[str, Any]:
    """Per variant: mean over entities, median, last frame, share within 5 px; and the ratios that matter."""
    figures: dict[str, Any] = {name: figures_of(distances.get(name, [])) for name in VARIANTS}
    control = figures["control"]["mean"]
    figures["of_still"] = ratio(control, figures["frozen"]["mean"])
    figures["of_uncontrolled"] = ratio(control, figures["uncontrolled"]["mean"])
    return figures


def figures_of(distances: list[Tensor]) -> dict[str, float | None]:
    """Distances of entities, NaN where not seen: the mean over entities, median, last frame, share within 5 px."""
    kept = [d[~d.isnan()] for d in distances if not d.isnan().all()]
    if not kept:
        return {"mean": None, "median": None, "last": None, "within_5px": None}
    means = torch.stack([d.mean() for d in kept])
    return {
        "mean": float(means.mean()),
        "median": float(means.median()),
        "last": float(torch.stack([d[-1] for d in kept]).mean()),
        "within_5px": float((means <= 5).float().mean()),
    }


def drift(distances: list[Tensor]) -> dict[str, float | int | None]:
    """How far entities that hold still are from their place: the mean, and the mean of each one's largest."""
    kept = [d[~d.isnan()] for d in distances if not d.isnan().all()]
    if not kept:
        return {"entities": 0, "mean": None, "largest_mean": None}
    return {
        "entities": len(kept),
        "mean": float(torch.stack([d.mean() for d in kept]).mean()),
        "largest_mean": float(torch.stack([d.max() for d in kept]).mean()),
    }


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b where there are both."""
    return None if a is None or not b else a / b


def main(arguments: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.tiny", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--weights", type=Path, help="a folder that training exported; default: the preset tiny")
    parser.add_argument(
        "--control", choices=("both", "gaussian", "entity"), default="both", help="what it is told"
    )
    parser.add_argument("--device")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(arguments)
    folder = options.weights
    parts = (
        {}
        if folder is None
        else {"svd": folder, "controlnet": folder / "controlnet", "entity_encoder": folder / "entity_encoder"}
    )
    pipeline = DragAnythingPipeline.from_pretrained("tiny", **parts, device=options.device)
    limit_control(pipeline, options.control)
    default = pipeline.card.defaults
    figures = evaluate(
        pipeline,
        options.seed,
        options.clips,
        options.frames or default.num_frames,
        options.steps or default.num_inference_steps,
    )
    figures["told"] = options.control
    figures["vae"] = reconstruction(pipeline, options.seed)
    print(
        json.dumps(figures) if options.json else "\n".join(f"{key:<40}{value}" for key, value in _lines(figures))
    )
    return 0


def _lines(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{key}.")
        else:
            yield prefix + key, f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
