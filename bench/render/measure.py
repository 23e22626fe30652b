"""Timing, counting and comparing: nothing here knows which variant it looks at."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.render.subjects import Subject, blank
from model.blocks import prepare

PEAK_SIZE = {"cpu": 4096, "cuda": 8192}


@dataclass
class Timing:
    """Seconds of each round, on the clock and of the processor; peak memory of the device in MB."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_mb: float | None = None


def timed(timing: Timing, action: Callable[[], Tensor], device: torch.device) -> Tensor:
    """Run an action, wait for the device, and note what it took."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    wall, cpu = time.perf_counter(), time.process_time()
    result = action()
    if on_gpu:
        torch.cuda.synchronize(device)
        timing.peak_mb = round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
    timing.wall.append(time.perf_counter() - wall)
    timing.cpu.append(time.process_time() - cpu)
    return result


def ratio(slow: list[float], fast: list[float]) -> float:
    """How often the fast one fits into the slow one: the median over rounds, each with its own neighbour."""
    return round(statistics.median(a / b for a, b in zip(slow, fast, strict=True)), 3)


def median_ms(seconds: list[float], parts: int = 1) -> float:
    """Milliseconds of one of `parts` equal parts."""
    return round(1e3 * statistics.median(seconds) / parts, 2)


def relative(found: Tensor, wanted: Tensor) -> float:
    """The L2 norm of the difference over that of what is wanted."""
    difference = (found.double() - wanted.double()).norm() / wanted.double().norm()
    return float(f"{float(difference):.3g}")


def peak_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """What a large square matmul reaches here: the best of ten."""
    size = PEAK_SIZE[device.type]
    a = torch.randn(size, size, device=device).to(dtype)
    timing = Timing()
    for _ in range(10):
        timed(timing, lambda: a @ a, device)
    return float(f"{2 * size**3 / min(timing.wall) / 1e12:.3g}")


@torch.no_grad()
def step_tflop(subject: Subject, dtype: torch.dtype) -> float:
    """What one exact step has to compute, after everything that is computed once: counted without storage."""
    nets = blank(subject.name, dtype)
    unet, controlnet = nets["unet"], nets["controlnet"]
    halves = 1 if subject.high <= 1 else 2
    h, w = subject.height // 8, subject.width // 8

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    context, times = empty(halves, 1, unet.config.cross_attention_dim), torch.empty(1, device="meta")
    ids = torch.empty(1, 3, device="meta")
    steers, predicts = (prepare(net, times, context, ids, subject.frames) for net in (controlnet, unet))
    x = empty(halves, subject.frames, unet.config.in_channels, h, w)
    condition = empty(subject.frames, unet.config.block_out_channels[0], h, w)
    with FlopCounterMode(display=False) as counter:
        residuals = controlnet(x, times[0], context, ids, condition, 1.0, steers)
        unet(x, times[0], context, ids, residuals, predicts)
    return float(counter.get_total_flops()) / 1e12


def resident_mb() -> float:
    """The most memory that this process ever held; it never falls, so variants can not be told apart by it."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
