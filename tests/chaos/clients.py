"""What clients do: cancel, and send the same request many times at once."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Barrier

from tests.chaos.audit import Auditor
from tests.chaos.driver import LONG, body
from tests.chaos.rig import Rig
from tests.chaos.row import Outcome, Scale, spread

SEED = 6
MOST_STEPS_MORE = 1


def cancels(rig: Rig, scale: Scale) -> Outcome:
    """Cancel jobs somewhere in their denoising. The clock runs from the request to the end on record."""
    dice = random.Random(SEED)
    took_ms: list[float] = []
    steps_more: list[int] = []
    statuses: Counter[str] = Counter()
    for _ in range(scale.cancels):
        job = rig.submit(f"cancels-{time.time_ns()}", 0, **LONG)["id"]
        rig.driver.await_step(job, dice.randint(1, LONG["num_inference_steps"] // 2))
        asked = time.time()
        acknowledged = rig.driver.cancel(job)
        end = rig.driver.await_end(job)
        took_ms.append(1000 * (datetime.fromisoformat(end["finished_at"]).timestamp() - asked))
        steps_more.append(end["progress"]["step"] - acknowledged["progress"]["step"])
        statuses[end["status"]] += 1
    return Outcome(
        {
            "each ends as canceled": statuses == {"canceled": scale.cancels},
            "at most one more step is made": max(steps_more) <= MOST_STEPS_MORE,
        },
        {"ended_ms": spread(took_ms, 0), "most_steps_more": max(steps_more)},
    )


def identical_posts(rig: Rig, scale: Scale) -> Outcome:
    """Send one request with one key from many clients at the same moment; those told to wait repeat it."""
    key, request = f"identical-{time.time_ns()}", body(0)
    start = Barrier(scale.posts)

    def send(_: int) -> tuple[int, str]:
        start.wait()
        status = rig.driver.post(key, request).status_code
        return status, rig.driver.submit(key, request)["id"]

    with Auditor.of(rig.stack) as auditor:
        recorded, stored = auditor.count(), len([*auditor.storage.job_ids()])
        with ThreadPoolExecutor(scale.posts) as pool:
            answers = list(pool.map(send, range(scale.posts)))
        recorded, stored = auditor.count() - recorded, len([*auditor.storage.job_ids()]) - stored
        jobs = {job for _, job in answers}
        for job in jobs:
            rig.driver.await_end(job)
        findings = auditor.audit(jobs)
    statuses = Counter(status for status, _ in answers)
    return Outcome(
        {
            "one job": len(jobs) == recorded == 1,
            "one set of inputs": stored == 1,
            "each is accepted or told to wait": set(statuses) <= {202, 409},
            **findings.promises,
        },
        {"posts": scale.posts, "first_answers": dict(sorted(statuses.items())), "made": len(jobs)},
    )
