"""The loop: batches in, weights out, resumable at any time.

Everything random depends on the position (seed, stage, step, rank) alone, so a resumed run repeats the
uninterrupted one; on the CPU bit for bit. Stages that end by the clock can be resumed, but not repeated.
"""

import sys
import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor
from tqdm.auto import tqdm

from model.pipeline import DragAnythingPipeline
from training import batches, checkpoint, networks, samples, stages
from training.batches import Batch
from training.config import AnyStage, Config, VideoStage
from training.data.clips import Source
from training.data.seeds import generator
from training.data.signal import build
from training.data.sources import open_source
from training.ema import Average
from training.log import Log
from training.stages.base import Stage

NOISE = 3  # purpose of the random numbers that are not data
BAD_STEPS = 20  # steps in a row without a finite gradient, after which a run gives up
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TrainingError(RuntimeError):
    """A run that cannot begin, or cannot go on."""


@dataclass(eq=False)
class Current:
    """The stage that is being trained."""

    options: AnyStage
    source: Source  # the stage's own data, or the run's
    stage: Stage
    wrapped: Any  # the stage, as several processes share it
    optimizer: Any
    average: Average
    bad: int = 0  # steps without a finite gradient, in a row

    @property
    def parameters(self) -> list[Tensor]:
        """What the optimizer changes."""
        return [value for group in self.optimizer.param_groups for value in group["params"]]


class Run:
    """One training run in its output folder."""

    def __init__(self, config: Config, *, resume: bool = False) -> None:
        """Raises CheckpointError where nothing can be resumed, TrainingError where a run would be overwritten."""
        self.config = config
        self.folder = config.out
        self.saved = self.folder / "checkpoint.pt"
        if self.saved.exists() and not resume:
            raise TrainingError(
                f"{self.folder} holds a run already: pass --resume to continue it, or another --out"
            )
        unused = DistributedDataParallelKwargs(
            find_unused_parameters=True
        )  # attention to one token has no queries
        self.accelerator = Accelerator(mixed_precision=config.precision, kwargs_handlers=[unused])
        self.device = self.accelerator.device
        self.first = self.accelerator.is_main_process
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parts = networks.build(config.networks, config.seed, self.device, DTYPES[config.precision])
        self.source = open_source(config.data, config.seed, self.device)
        self.stage_index, self.step, self.seconds = 0, 0, 0.0
        self.state: dict[str, Any] | None = None
        if resume:
            self._read()
        self.log = Log(self.folder, (self.stage_index, self.step), active=self.first)
        self.stopping = False  # set it to end the run after the current step

    def anneal(self, steps: int) -> bool:
        """Let the rate of the current stage fall to zero in so many steps, in a folder of its own, and end there.

        The run itself stays as it is and can be resumed; what was annealed cannot.
        """
        self.folder = self.folder / "annealed"
        self.folder.mkdir(exist_ok=True)
        self.saved = self.folder / "checkpoint.pt"
        self.log = Log(self.folder, (self.stage_index, self.step), active=self.first)
        last = self.step + steps
        changes = {"steps": last, "minutes": None, "decay_from": self.step / last}
        options = self.config.stages[self.stage_index].model_copy(update=changes)
        with self.log:
            return self._train_stage(options, float("inf"))

    def train(self, max_minutes: float | None = None) -> bool:
        """Run until done, stopped or `max_minutes` are over; leaves a checkpoint. True if the run is complete."""
        deadline = float("inf") if max_minutes is None else time.monotonic() + 60 * max_minutes
        with self.log:
            while self.stage_index < len(self.config.stages):
                if not self._train_stage(self.config.stages[self.stage_index], deadline):
                    return False
        return True

    def _train_stage(self, options: AnyStage, deadline: float) -> bool:
        current = self._enter(options)
        done = self._steps(current, deadline)
        if not done:
            self._write(current, final=True)
            self._export(current.average)
            return False
        current.average.copy_to_parameters()
        current.stage.finish(current.source, self.stage_index)
        self.stage_index, self.step, self.seconds = self.stage_index + 1, 0, 0.0
        self._write(None, final=True)
        self._export(None)
        self.accelerator.free_memory()
        return True

    def _enter(self, options: AnyStage) -> Current:
        """Prepare a stage, with what a checkpoint kept of it."""
        stage = stages.make(options, self.parts, self.config)
        source = self.source
        if options.data is not None:
            source = open_source(options.data, self.config.seed, self.device)
        if self.step == 0:
            stage.begin(source, self.stage_index)
        modules = {name: self.parts.modules[name] for name in stage.trained}
        if self.config.compile:
            for module in modules.values():
                module.compile()
        parameters: dict[str, Tensor] = {
            f"{name}.{key}": value for name, module in modules.items() for key, value in module.named_parameters()
        }
        optimizer: Any = torch.optim.AdamW(
            parameters.values(), lr=options.lr, betas=options.betas, weight_decay=options.weight_decay
        )
        wrapped, optimizer = self.accelerator.prepare(stage, optimizer)
        average = Average(parameters, options.ema)
        if self.state is not None and self.state["optimizer"] is not None:
            optimizer.load_state_dict(self.state["optimizer"])
            average.load_state_dict(self.state["average"])
            if self.accelerator.scaler is not None and self.state["scaler"]:
                self.accelerator.scaler.load_state_dict(self.state["scaler"])
        self.state = None
        return Current(options, source, stage, wrapped, optimizer, average)

    def _steps(self, current: Current, deadline: float) -> bool:
        """Train the stage; True if it is done."""
        options = current.options
        began, saved = time.monotonic() - self.seconds, time.monotonic()
        label = f"{self.stage_index} {options.kind}"
        bar: Any = tqdm(total=options.steps, initial=self.step, desc=label, disable=None if self.first else True)
        plain = networks.plain_attention(self.device)
        with bar, plain, closing(self._batches(current)) as coming:
            while (progress := self._progress(options, self.step)) < 1:
                rate = options.lr * _rate(options, self.step, progress)
                figures = self._update(current, coming, rate)
                self.step += 1
                self.seconds, stop = self._agree(
                    time.monotonic() - began, self.stopping or time.monotonic() > deadline
                )
                bar.update()
                if self.step % self.config.log_every == 0 or self.step == 1:
                    self._report(options, {**figures, "lr": rate}, bar)
                if self.step % self.config.samples.every == 0 and self.first and options.kind != "entity":
                    self._sample(current)
                if time.monotonic() - saved > 60 * self.config.checkpoint_minutes:
                    self._write(current)
                    saved = time.monotonic()
                if stop:
                    return False
        return True

    def _update(self, current: Current, coming: Generator[Batch, None, None], rate: float) -> dict[str, Any]:
        """One step of the optimizer; the figures that it came with."""
        figures = self._accumulate(current, coming)
        for group in current.optimizer.param_groups:
            group["lr"] = rate
        norm = self.accelerator.clip_grad_norm_(current.parameters, current.options.clip)
        # the loss scaler of fp16 skips steps by itself
        finite = self.config.precision == "fp16" or bool(torch.isfinite(norm))
        current.bad = 0 if finite else current.bad + 1
        if current.bad > BAD_STEPS:
            raise TrainingError(f"no finite gradient for {BAD_STEPS} steps: try a lower rate or precision 'no'")
        if finite:
            current.optimizer.step()
            current.average.update()
        current.optimizer.zero_grad()
        return {**figures, "norm": norm}

    def _accumulate(self, current: Current, coming: Generator[Batch, None, None]) -> dict[str, Any]:
        """Gradients of all micro-steps; loss and figures, averaged over them."""
        parts, rank = current.options.accumulate, self.accelerator.process_index
        figures: dict[str, Any] = {}
        for micro in range(parts):
            batch = next(coming)
            position = (self.config.seed, NOISE, self.stage_index, self.step * parts + micro, rank)
            random = generator(self.device, *position)
            with nullcontext() if micro + 1 == parts else self.accelerator.no_sync(current.wrapped):
                loss, found = current.wrapped(batch.clips, batch.signal, random, batch.progress)
                self.accelerator.backward(loss / parts)
            for name, value in {"loss": loss, **found}.items():
                figures[name] = figures.get(name, 0.0) + value.detach() / parts
        return figures

    def _batches(self, current: Current) -> Generator[Batch, None, None]:
        """The batches from the current step on."""
        options, rank, index = current.options, self.accelerator.process_index, self.stage_index
        source = current.stage.source(current.source)

        def make(position: int) -> Batch:
            progress = self._progress(options, position // options.accumulate)
            frames = current.stage.frames(progress)
            clips = source.batch(index, position, rank, options.batch, frames)
            return Batch(clips, build(clips) if current.stage.needs_signal else None, progress)

        return batches.ahead(make, self.step * options.accumulate, self.device)

    def _agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The largest of what the processes say: they must anneal and stop together."""
        if self.accelerator.num_processes == 1:
            return seconds, stop
        said = torch.tensor([seconds, float(stop)], device=self.device)
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX)
        return float(said[0]), bool(said[1])

    def _progress(self, options: AnyStage, step: int) -> float:
        """How much of the stage is done, by steps or by the clock, whichever is further."""
        done = step / options.steps
        return done if options.minutes is None else max(done, self.seconds / 60 / options.minutes)

    def _report(self, options: AnyStage, figures: dict[str, Any], bar: Any) -> None:
        seen = self.step * options.batch * options.accumulate * self.accelerator.num_processes
        record = {name: float(value) for name, value in figures.items()}
        self.log.write(self.stage_index, options.kind, self.step, record, clips=seen, seconds=self.seconds)
        told = {"loss": f"{record['loss']:.4f}", "clips_per_s": f"{seen / max(self.seconds, 1e-9):.1f}"}
        bar.set_postfix(told)
        if bar.disable and self.first:  # not a terminal: lines instead
            place = f"{self.stage_index} {options.kind} {self.step}/{options.steps}"
            print(place, told, file=sys.stderr, flush=True)

    def _sample(self, current: Current) -> None:
        path = self.folder / "samples" / f"{self.stage_index}-{self.step:07d}"
        path.parent.mkdir(exist_ok=True)
        pipeline = self._export(current.average)
        samples.draw(pipeline, current.source, self.config.samples, path, video=current.stage.needs_signal)

    def _export(self, average: Average | None) -> DragAnythingPipeline:
        """Leave weights that the pipeline loads: all of them, or the ControlNet where all else is published."""
        averaged = {} if average is None else average.by_part()
        pipeline = networks.pipeline_of(self.parts, averaged, self.device)
        only = None if self.config.networks.scratch else "controlnet"
        if self.first:
            networks.export(pipeline, self.folder / "weights", only)
        return pipeline

    def _write(self, current: Current | None, *, final: bool = False) -> None:
        """Keep a checkpoint; a disk that is full costs this one, not the run, unless it is the last."""
        if not self.first:
            return
        scaler = self.accelerator.scaler
        content = {
            "config": self.config.model_dump_json(),
            "stage": self.stage_index,
            "step": self.step,
            "seconds": self.seconds,
            "networks": {name: self.parts.modules[name].state_dict() for name in self._touched()},
            "optimizer": None if current is None else current.optimizer.state_dict(),
            "average": None if current is None else current.average.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        try:
            checkpoint.write(self.saved, content)
        except checkpoint.CheckpointError as error:
            if final:
                raise
            tqdm.write(f"{error}; the former checkpoint is still there, training goes on")

    def _read(self) -> None:
        self.state = state = checkpoint.read(self.saved)
        self.stage_index, self.step, self.seconds = state["stage"], state["step"], state["seconds"]
        for name, values in state["networks"].items():
            self.parts.modules[name].load_state_dict(values)

    def _touched(self) -> list[str]:
        """The parts that any stage trains."""
        kinds = {"vae": ("vae",), "entity": ("entity_encoder",)}
        trained = [s.train if isinstance(s, VideoStage) else kinds[s.kind] for s in self.config.stages]
        return sorted({name for names in trained for name in names})


def _rate(options: AnyStage, step: int, progress: float) -> float:
    """Warm up, stay, fall to zero."""
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    fall = 1.0 if progress < options.decay_from else (1 - progress) / max(1 - options.decay_from, 1e-9)
    return warm * fall
