"""What a run looks like while it trains: a sheet of stills and an animation, tracks over truth and result."""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from model.conditioning import MULTIPLE, Entity
from model.pipeline import DragAnythingPipeline
from model.vae import decode_frames
from training.config import Samples
from training.data.clips import Clips, Source
from training.stages.base import to_pixels

SHEET = 1_000_000_009  # the stage whose clips are shown, beyond any that is trained
COLUMNS = 5  # frames of a clip on the sheet
Frames = npt.NDArray[np.uint8]  # [F, H, W, 3]


@torch.no_grad()
def draw(pipeline: DragAnythingPipeline, source: Source, options: Samples, path: Path, *, video: bool) -> None:
    """Write `path`.png and `path`.webp: truth above, result below; a reconstruction where not `video`.

    Nothing of a video in a size that the pipeline does not make.
    """
    clips = source.batch(SHEET, 0, 0, options.count, options.frames)
    if video and any(side % MULTIPLE for side in clips.size):
        return
    pairs = []
    for b in range(options.count):
        truth = clips.frames[b].permute(0, 2, 3, 1).cpu().numpy()
        made = generate(pipeline, clips, b, options.steps) if video else reconstruct(pipeline, clips, b)
        if video:
            truth, made = _overlay(truth, clips, b), _overlay(made, clips, b)
        pairs.append(np.concatenate([truth, made], axis=1))  # [F, 2H, W, 3]
    stills = np.linspace(0, options.frames - 1, COLUMNS).round().astype(int)
    sheet = np.concatenate([np.concatenate(list(pair[stills]), axis=1) for pair in pairs], axis=0)
    Image.fromarray(sheet).save(path.with_suffix(".png"))
    first, *rest = (Image.fromarray(frame) for frame in np.concatenate(pairs, axis=2))
    first.save(path.with_suffix(".webp"), save_all=True, append_images=rest, duration=140, loop=0, quality=85)


def entities_of(clips: Clips, b: int) -> list[Entity]:
    """The entities of one clip, as the pipeline takes them."""
    return [
        Entity(
            mask=clips.masks[b, k].cpu().numpy(),
            points=clips.points[b, k].double().cpu().numpy(),
            scale=clips.scales[b, k].double().cpu().numpy(),
            visible=clips.visible[b, k].cpu().numpy(),
            control="entity" if clips.discs[b, k] else "point",
        )
        for k in clips.controlled[b].nonzero().flatten().tolist()
    ]


def generate(
    pipeline: DragAnythingPipeline, clips: Clips, b: int, steps: int, *, control_end: float = 1.0
) -> Frames:
    """The video that a pipeline makes of a clip's first frame and tracks; a still one if nothing is controlled."""
    width, height = clips.size
    first = clips.frames[b, 0].permute(1, 2, 0).cpu().numpy()
    entities = entities_of(clips, b)
    if not entities:
        return np.repeat(first[None], clips.frames.shape[1], axis=0)
    return pipeline(
        first,
        entities,
        num_frames=clips.frames.shape[1],
        num_inference_steps=steps,
        width=width,
        height=height,
        generator=torch.Generator().manual_seed(b),
        control_end=control_end,
    ).frames


@torch.no_grad()
def reconstruct(pipeline: DragAnythingPipeline, clips: Clips, b: int) -> Frames:
    """A clip encoded and decoded, in chunks as the pipeline decodes them."""
    pixels = to_pixels(clips.frames[b]).to(pipeline.device, pipeline.vae.dtype)
    latents = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    return decode_frames(pipeline.vae, latents, pipeline.card.defaults.decode_chunk_size)


def _overlay(frames: Frames, clips: Clips, b: int) -> Frames:
    """Tracks up to each frame, in white, with the current point in red."""
    shown = frames.copy()
    points = clips.points[b].double().cpu().numpy()
    for k in clips.controlled[b].nonzero().flatten().tolist():
        track = np.clip(points[k], -1e4, 1e4).round().astype(np.int32)
        for f in range(len(shown)):
            cv2.polylines(shown[f], [track[: f + 1]], False, (255, 255, 255), 1)
            cv2.circle(shown[f], (int(track[f, 0]), int(track[f, 1])), 2, (255, 0, 0), -1)
    return shown
