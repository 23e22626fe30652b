"""Batches ahead of their use: the next one is made, on a stream of its own, while one is trained on."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.data.clips import Clips
from training.data.signal import Signal


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips, their control signal where a stage needs one, and how far the stage was when they were asked for."""

    clips: Clips
    signal: Signal | None
    progress: float


def ahead(make: Callable[[int], Batch], first: int, device: torch.device) -> Generator[Batch, None, None]:
    """`make(first)`, `make(first + 1)` and so on, each begun when the one before is handed out."""
    stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def run(position: int) -> Batch:
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            batch = make(position)
        if stream is not None:
            stream.synchronize()
        return batch

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        coming = pool.submit(run, first)
        while True:
            first += 1
            batch = coming.result()
            coming = pool.submit(run, first)
            if stream is not None:
                _keep(batch)
            yield batch


def _keep(batch: Batch) -> None:
    """Tell the allocator that another stream uses what this one made, or it would be overwritten too early."""
    for part in (batch.clips, batch.signal):
        for value in vars(part).values() if part is not None else ():
            if isinstance(value, Tensor):
                value.record_stream(torch.cuda.current_stream())
