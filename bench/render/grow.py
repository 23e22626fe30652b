"""How a job's cost grows: each of frames, pixels and entities alone, the rest as the preset has it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bench.render.measure import Timing, median_ms, timed
from bench.render.subjects import Subject, build, condition
from model import DragAnythingPipeline
from model.plan import plan

STEPS = 2
FRAMES = (4, 8, 14, 20)
SIZES = ((128, 64), (192, 128), (256, 192), (384, 256))
ENTITIES = (1, 2, 4, 8)


def grow(subject: Subject, device: str, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    """Milliseconds of the processor (of the clock on a GPU) per stage, computed memory, and the powers between."""
    pipeline = build(subject, device, dtype)
    frames = {n: (replace(subject, frames=n), 1) for n in FRAMES}
    pixels = {w * h: (replace(subject, width=w, height=h), 1) for w, h in SIZES}
    return {
        "rounds": rounds,
        "frames": _table(pipeline, frames, rounds),
        "pixels": _table(pipeline, pixels, rounds),
        "entities": _table(pipeline, {n: (subject, n) for n in ENTITIES}, rounds),
    }


def _table(
    pipeline: DragAnythingPipeline, cases: dict[int, tuple[Subject, int]], rounds: int
) -> dict[str, dict[str, float]]:
    timings = {size: {stage: Timing() for stage in ("conditioning", "step", "decoding")} for size in cases}
    for _ in range(rounds):
        for size, (subject, count) in cases.items():
            _once(pipeline, subject, count, timings[size])
    gpu = pipeline.device.type == "cuda"
    table: dict[str, dict[str, float]] = {
        str(size): {
            f"{stage}_ms": median_ms(t.wall if gpu else t.cpu, STEPS if stage == "step" else 1)
            for stage, t in stages.items()
        }
        for size, stages in timings.items()
    }
    for size, (subject, _count) in cases.items():
        table[str(size)]["activations_mb"] = _activations_mb(pipeline, subject)
    columns = {key: [row[key] for row in table.values()] for key in next(iter(table.values()))}
    return {**table, "power": {key: _power(cases, values) for key, values in columns.items()}}


def _once(pipeline: DragAnythingPipeline, subject: Subject, count: int, timings: dict[str, Timing]) -> None:
    device = pipeline.device
    conditions = condition(pipeline, subject, count)
    pipeline.memo.clear()
    timed(timings["conditioning"], lambda: condition(pipeline, subject, count).control, device)
    latents = timed(
        timings["step"],
        lambda: pipeline.denoise(conditions, num_inference_steps=STEPS, max_guidance_scale=subject.high),
        device,
    )
    timed(timings["decoding"], lambda: torch.from_numpy(pipeline.decode(latents)), device)


def _activations_mb(pipeline: DragAnythingPipeline, subject: Subject) -> float:
    """Counted without storage, for the embedded model only."""
    if subject.name == "mid":
        return float("nan")
    planned = plan(
        "tiny" if subject.name == "tiny" else "draganything",
        num_frames=subject.frames,
        width=subject.width,
        height=subject.height,
        dtype=pipeline.card.dtype,
        guidance=subject.high > 1,
    )
    return round(max(stage.activations for stage in planned.stages) / 1e6, 1)


def _power(sizes: Iterable[int], values: list[float]) -> float:
    """The exponent of the power law through the points, by least squares in logarithms."""
    return round(float(np.polyfit(np.log(list(sizes)), np.log(values), 1)[0]), 2)
