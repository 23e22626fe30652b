"""``python -m worker.main``: load the models once, then render until told to stop.

The first SIGTERM lets the running job end within ``drain_s``; after that the job goes back to the queue at its
next step, without spending an attempt.
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import time

import structlog
import torch

from evaluation.cotracker import CoTracker, TrackerMissing
from evaluation.tracking import FlowTracker, Tracker
from jobs.connection import Misconfigured, connect_patiently
from jobs.logs import configure_logs
from jobs.models import ModelCard
from jobs.registry import Registry
from jobs.settings import Settings, settings
from jobs.storage import Storage
from jobs.tracing import configure_traces
from model import DragAnythingPipeline
from model.memory import keep_freed_memory
from worker.executor import Executor
from worker.manifest import versions
from worker.pulse import Pulse
from worker.telemetry import note_model, serve_metrics
from worker.warm import WarmWorker

log = structlog.get_logger()

MAX_AREA = 4
"""A job may ask for this many times the native area."""


def main() -> None:
    """Serve until a signal comes."""
    keep_freed_memory()
    config = settings()
    configure_logs(config)
    configure_traces("worker")
    try:
        run(config)
    except (Misconfigured, TrackerMissing) as error:
        sys.exit(str(error))


def run(config: Settings) -> None:
    """Load, announce, serve, retire."""
    tracker = open_tracker(config)
    serve_metrics(config)
    pipelines = {name: load(name, config) for name in config.models}
    redis = connect_patiently(config)
    storage = Storage(config, patient=True)
    storage.create_bucket()
    registry = Registry(redis, config.lease_s)
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    cards = [describe(pipeline) for pipeline in pipelines.values()]
    for card in cards:
        registry.announce(name, card)
    drained = threading.Event()
    with Pulse(registry, name, cards, config.heartbeat_s) as pulse:
        executor = Executor(pipelines, redis, storage, config, pulse, drained, tracker)
        worker = WarmWorker(redis, name, list(pipelines), executor.execute_next)
        threading.Thread(target=_drain, args=(worker.stopping, drained, config.drain_s), daemon=True).start()
        log.info("worker_ready", worker=name, models=list(pipelines))
        worker.run()
        executor.close()
    log.info("worker_stopped", worker=name)


def load(name: str, config: Settings) -> DragAnythingPipeline:
    """A model, on its device."""
    started = time.monotonic()
    pipeline = DragAnythingPipeline.from_pretrained(name, device=config.device, dtype=config.dtype)
    note_model(name, pipeline.card.device, pipeline.card.dtype, time.monotonic() - started)
    return pipeline


def open_tracker(config: Settings) -> Tracker:
    """The tracker that scores videos.

    Raises:
        TrackerMissing: CoTracker was asked for and can not be loaded.
    """
    if config.cotracker_dir is None:
        return FlowTracker()
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return CoTracker(config.cotracker_dir, device)


def describe(pipeline: DragAnythingPipeline) -> ModelCard:
    """The card that the doors show."""
    card, native = pipeline.card, pipeline.card.defaults
    return ModelCard(
        name=card.name,
        width=native.width,
        height=native.height,
        max_pixels=MAX_AREA * native.width * native.height,
        num_frames=native.num_frames,
        max_frames=native.max_frames,
        num_inference_steps=native.num_inference_steps,
        max_inference_steps=native.max_inference_steps,
        min_guidance_scale=native.min_guidance_scale,
        max_guidance_scale=native.max_guidance_scale,
        fps=native.fps,
        decode_chunk_size=native.decode_chunk_size,
        motion_bucket_id=native.motion_bucket_id,
        noise_aug_strength=native.noise_aug_strength,
        samplers=native.samplers,
        tiers=("exact", "fast"),
        fast_num_inference_steps=native.fast_num_inference_steps,
        licences=tuple(dict.fromkeys(card.licences.values())),
        weights_sha256=card.weights_sha256["combined"],
        device=card.device,
        dtype=card.dtype,
        versions=versions(),
    )


def _drain(stopping: threading.Event, drained: threading.Event, drain_s: float) -> None:
    stopping.wait()
    log.info("worker_stopping", drain_s=drain_s)
    drained.wait(drain_s)
    drained.set()


if __name__ == "__main__":
    main()
