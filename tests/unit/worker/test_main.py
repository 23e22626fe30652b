"""``python -m worker.main`` with the real networks: killed in the middle of a job, and drained."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jobs.registry import Registry
from jobs.settings import Settings
from jobs.state import Stage, Status
from jobs.storage import Storage, attempt_prefix, decision_key, job_prefix
from jobs.store import Store
from model.presets import PRESETS
from tests.harness import until
from tests.unit.worker.scenes import ROOT, environ, lapse, submit
from worker.janitor import Janitor

GUARD_S = 120
"""The longest that loading the model, or a job, may take on a busy machine."""


@contextmanager
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker that looks for jobs."""
    knobs = {"heartbeat_s": 0.1, "lease_s": 1000.0, "drain_s": 0.1, "device": "cpu"}
    env = environ(settings, **knobs) | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-m", "worker.main"], cwd=ROOT, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def denoising(store: Store, job_id: str) -> bool:
    progress = store.get(job_id).progress
    return progress.stage is Stage.DENOISING and progress.step > 0


def test_one_worker_is_killed_and_the_next_is_drained(store: Store, storage: Storage, settings: Settings) -> None:
    janitor, registry = Janitor(store.redis, storage, settings), Registry(store.redis, settings.lease_s)
    job_id = submit(store, storage, num_inference_steps=20)
    with worker(settings) as victim:
        until(lambda: denoising(store, job_id), GUARD_S)
        victim.kill()
        victim.wait()
    killed = store.get(job_id)
    assert (killed.status, killed.attempt) == (Status.RUNNING, 1)
    card, native = registry.card("tiny"), PRESETS["tiny"].defaults
    assert (card.width, card.height, card.num_frames) == (native.width, native.height, native.num_frames)
    assert (card.max_pixels >= card.width * card.height, len(card.weights_sha256)) == (True, 64)

    lapse(store, job_id)
    janitor.sweep()
    with worker(settings) as survivor:
        until(lambda: store.get(job_id).status.terminal, GUARD_S)
        record = store.get(job_id)
        assert (record.status, record.attempt) == (Status.SUCCEEDED, 2)
        assert record.result is not None
        assert record.attempt_id not in (None, killed.attempt_id)
        prefix = attempt_prefix(job_id, str(record.attempt_id))
        keys = {artifact.key for artifact in record.result.artifacts.values()}
        kept = set(storage.list(job_prefix(job_id))) - {decision_key(job_id)}
        assert {key for key in kept if "/inputs/" not in key} == keys
        assert all(key.startswith(prefix) for key in keys)

        endless = submit(store, storage, num_inference_steps=5000)
        until(lambda: denoising(store, endless), GUARD_S)
        survivor.send_signal(signal.SIGTERM)
        assert survivor.wait(GUARD_S) == 0
    handed_back = store.get(endless)
    assert (handed_back.status, handed_back.attempt) == (Status.QUEUED, 0)
    assert store.queued("tiny") == [endless]
    assert storage.list(job_prefix(endless)) == [
        job_prefix(endless) + name for name in ("inputs/image.png", "inputs/mask.png")
    ]
