"""``python -m bench.render``: this project's denoising beside a plain one, in one process, in turn.

Variants: `plain` (diffusers' modules, everything in every step), `hoisted` (the condition embedding once),
`compiled` (torch.compile of plain), `exact` (ours), `sparse` (ours, the ControlNet in every second step), `fast`
(ours, fewer steps of ays). All get the same noise, conditions and weights in the same dtype. Ours keeps freed
memory, as the worker does; plain, hoisted and compiled do not. `error_vs_fp32` is the distance of ours from plain
in float32, which runs once for it where the dtype is another. Where `wall_over_cpu` is far above 1 with one
thread, other work disturbed the run. `--grow` measures how the cost grows instead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.render.grow import grow
from bench.render.measure import (
    Timing,
    median_ms,
    peak_tflops,
    ratio,
    relative,
    resident_mb,
    step_tflop,
    timed,
)
from bench.render.plain import Plain
from bench.render.subjects import SUBJECTS, Subject, build, condition
from model import Conditions, DragAnythingPipeline
from model.blocks import Savings
from model.memory import keep_freed_memory

SLOWER = ("plain", "hoisted", "compiled")
GIVES_BACK = (*SLOWER, "without_kept_memory", "plain_decoding")  # freed memory, as a process usually does


def main(arguments: list[str] | None = None) -> None:
    """Measure and print: a table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.render", description=__doc__)
    parser.add_argument("--preset", choices=SUBJECTS, default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on cuda, else float32")
    parser.add_argument("--rounds", type=int, help="5, of mid 1")
    parser.add_argument("--steps", type=int, help="of every variant but fast")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    parser.add_argument("--ablate", action="store_true", help="ours without each of its savings, too")
    parser.add_argument("--grow", action="store_true", help="cost against frames, resolution and entities")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    subject, dtype = SUBJECTS[options.preset], options.dtype or ("float32", "bfloat16")[options.device == "cuda"]
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here: use --device cpu")
    with contextlib.redirect_stdout(sys.stderr), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind: torch.dtype = getattr(torch, dtype)
        if options.grow:
            record = grow(subject, options.device, kind, options.rounds or 3)
        else:
            steps, rounds = options.steps or subject.steps, options.rounds or subject.rounds
            choice = {"compiled": not options.no_compile, "ablated": options.ablate}
            record = measure(subject, options.device, kind, steps, rounds, **choice)
    record = {**_machine(options.device, dtype), "preset": subject.name, **record}
    if options.json:
        print(json.dumps(record, indent=2))
    else:
        print("\n".join(f"{name:28} {value}" for name, value in record.items()))


def measure(
    subject: Subject, device: str, dtype: torch.dtype, steps: int, rounds: int, **choice: bool
) -> dict[str, Any]:
    """All figures of one run; `choice`: which variants there are beside the usual ones."""
    pipeline = build(subject, device, dtype)
    made = Timing()
    timed(made, lambda: condition(pipeline, subject).noise, pipeline.device)  # warms up
    c = condition(pipeline, subject)
    variants = _variants(pipeline, subject, c, **choice)
    counts = {name: subject.fast_steps if name == "fast" else steps for name in variants}
    for name in list(variants):
        _warm_up(variants, name)
    timings = {name: Timing() for name in variants}
    latents: dict[str, Tensor] = {}
    for number in range(rounds):
        for name, run in variants.items():
            _say(f"round {number + 1} of {rounds}: {name}")
            keep_freed_memory(name not in GIVES_BACK)
            latents[name] = timed(timings[name], partial(run, counts[name]), pipeline.device)
            _say(f"  {timings[name].wall[-1] / counts[name]:.3f} s per step")
    wanted, precise = latents["plain"], timings["plain"]
    if dtype != torch.float32:
        _say("plain in float32, once")
        keep_freed_memory(False)
        plain, precise = Plain(pipeline, torch.float32), Timing()
        with torch.backends.cudnn.flags(allow_tf32=False):
            wanted = timed(precise, lambda: plain.denoise(c, steps, subject.high), pipeline.device)
    tflop, peak = step_tflop(subject, dtype), peak_tflops(pipeline.device, dtype)
    ours, whole = timings["exact"], steps == subject.steps  # fast always takes all of its own
    seconds = median_ms(ours.wall, steps) / 1e3
    return {
        "rounds": rounds,
        "steps": steps,
        "fast_steps": subject.fast_steps,
        **{f"ratio_exact_vs_{name}": _ratio(timings.get(name), ours) for name in SLOWER},
        "ratio_exact_vs_plain_fp32": round(median_ms(precise.wall) / median_ms(ours.wall), 3),
        "ratio_sparse_vs_exact": ratio(ours.wall, timings["sparse"].wall),
        "ratio_fast_vs_plain": ratio(timings["plain"].wall, timings["fast"].wall) if whole else None,
        "cpu_ratio_exact_vs_plain": ratio(timings["plain"].cpu, ours.cpu),
        "wall_over_cpu": ratio(ours.wall, ours.cpu),
        "ms_per_step": median_ms(ours.wall, steps),
        "error_vs_fp32": relative(latents["exact"], wanted),
        "drift_of_sparse": relative(latents["sparse"], latents["exact"]),
        "drift_of_fast": relative(latents["fast"], latents["exact"]) if whole else None,
        "tflop_per_step": round(tflop, 4),
        "tflops": float(f"{tflop / seconds:.3g}"),
        "peak_tflops": peak,
        "share_of_peak": float(f"{tflop / seconds / peak:.3g}"),
        "resident_mb": resident_mb(),
        "variants": {
            name: {
                "ms_per_step": median_ms(timing.wall, counts[name]),
                "cpu_ms_per_step": median_ms(timing.cpu, counts[name]),
                "error_vs_fp32": None if name in ("sparse", "fast") else relative(latents[name], wanted),
                "peak_mb": timing.peak_mb,
            }
            for name, timing in timings.items()
        },
        "stages_ms": _stages(pipeline, subject, latents["exact"], rounds),
    }


def _variants(
    pipeline: DragAnythingPipeline, subject: Subject, c: Conditions, *, compiled: bool, ablated: bool
) -> dict[str, Callable[[int], Tensor]]:
    """Latents after as many steps as asked for."""
    high, plain = subject.high, Plain(pipeline, pipeline.unet.dtype)

    def ours(steps: int, **options: Any) -> Tensor:
        return pipeline.denoise(c, num_inference_steps=steps, max_guidance_scale=high, **options)

    variants: dict[str, Callable[[int], Tensor]] = {
        "plain": lambda steps: plain.denoise(c, steps, high),
        "hoisted": lambda steps: plain.denoise(c, steps, high, hoisted=True),
        "exact": ours,
        "sparse": lambda steps: ours(steps, control_every=2),
        "fast": lambda steps: ours(steps, sampler="ays"),
    }
    if ablated:
        variants["without_kept_memory"] = ours
        variants["plain_with_kept_memory"] = variants["plain"]
        for name in Savings.__dataclass_fields__:
            variants[f"without_{name}"] = partial(ours, savings=Savings(**{name: False}))
    if compiled:
        other = Plain(pipeline, pipeline.unet.dtype)
        other.compile()
        variants["compiled"] = lambda steps: other.denoise(c, steps, high)
    else:
        _say("--no-compile: the ratio to torch.compile is null")
    return variants


def _warm_up(variants: dict[str, Callable[[int], Tensor]], name: str) -> None:
    """One step; torch.compile, which may find no compiler, is left out where it fails."""
    _say(f"warming up {name}")
    try:
        variants[name](1)
    except Exception as error:
        if name != "compiled":
            raise
        _say(f"torch.compile failed, so its ratio is null: {type(error).__name__}: {error}")
        del variants[name]


def _stages(pipeline: DragAnythingPipeline, subject: Subject, latents: Tensor, rounds: int) -> dict[str, float]:
    """Conditioning, of a new picture and of one seen before, and decoding, beside the stock VAE's."""
    plain, chunk = Plain(pipeline, pipeline.unet.dtype), pipeline.card.defaults.decode_chunk_size
    stages: dict[str, Callable[[], Tensor]] = {
        "conditioning": lambda: _afresh(pipeline, subject),
        "conditioning_again": lambda: condition(pipeline, subject).control,
        "decoding": lambda: torch.from_numpy(pipeline.decode(latents, chunk)),
        "plain_decoding": lambda: plain.decode(latents, chunk),
    }
    timings = {name: Timing() for name in stages}
    for number in range(rounds + 1):
        for name, run in stages.items():
            keep_freed_memory(name not in GIVES_BACK)
            timed(timings[name] if number else Timing(), run, pipeline.device)
    return {name: median_ms(timing.wall) for name, timing in timings.items()}


def _afresh(pipeline: DragAnythingPipeline, subject: Subject) -> Tensor:
    pipeline.memo.clear()
    return condition(pipeline, subject).control


def _ratio(slow: Timing | None, fast: Timing) -> float | None:
    return ratio(slow.wall, fast.wall) if slow is not None and slow.wall else None


def _machine(device: str, dtype: str) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": name,
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "dtype": dtype,
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
