"""Every row, at full length and in short."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from typing import Any

from tests.chaos.breakers import hung_device, poison_pill
from tests.chaos.clients import cancels, identical_posts
from tests.chaos.crashes import random_and_armed_kills
from tests.chaos.drains import drained_workers
from tests.chaos.life import any_order_of_calls
from tests.chaos.outages import redis_away, s3_away
from tests.chaos.receivers import unreliable_receiver
from tests.chaos.rig import Rig
from tests.chaos.row import Outcome, Row, Scale
from tests.chaos.soak import soak
from tests.chaos.zombies import frozen_workers
from tests.harness import LIVE_KNOBS

ROWS = (
    Row(1, "workers killed", random_and_armed_kills, {"DRAGANYTHING_MAX_ATTEMPTS": "100"}, resumable=True),
    Row(2, "Redis killed and away", redis_away),
    Row(3, "S3 away during an upload", s3_away),
    Row(4, "workers frozen and woken", frozen_workers),
    Row(5, "workers drained", drained_workers, {"DRAGANYTHING_DRAIN_S": "0.1"}),
    Row(6, "jobs canceled", cancels),
    Row(7, "identical requests", identical_posts),
    Row(8, "webhooks that fail", unreliable_receiver, workers=1),
    Row(12, "any order of calls", any_order_of_calls, workers=0),
    Row(13, "soak", soak, workers=1),
    Row(14, "a job that kills its workers", poison_pill, {"DRAGANYTHING_MAX_ATTEMPTS": "3"}),
    Row(15, "a device that hangs", hung_device, {"DRAGANYTHING_STALL_S": "10"}),
)

SHORT = Scale(
    jobs=8,
    points=("mid_upload", "after_commit"),  # other rows reach most of the others
    spare=False,
    between_kills_s=(1.0, 3.0),
    most_kills=1,
    redis_kills=1,
    redis_jobs=4,
    away_s=3.0,  # longer than a lease
    answer_s=None,
    frozen_s=None,
    drains=2,
    cancels=3,
    posts=30,
    webhooks=12,
    webhook_kills=1,
    outlast_leases=False,
    examples=20,
    soak=12,
    window=4,
    most_mb_per_100_jobs=None,
)
SHORT_KNOBS = LIVE_KNOBS | {
    "DRAGANYTHING_MAX_ATTEMPTS": "2",
    "DRAGANYTHING_DRAIN_S": "0.1",
    "DRAGANYTHING_STALL_S": "15",  # a first step takes 5 s where other tests have the cores
}


def run(row: Row, scale: Scale, directory: Path, knobs: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a row on a rig of its own, under ``directory``: what goes on its line. ``knobs`` replace the row's."""
    home = directory / f"row{row.number}"
    if not row.resumable or knobs is not None:
        rmtree(home, ignore_errors=True)
    started = time.monotonic()
    try:
        with Rig.standing(home, row.knobs if knobs is None else knobs, row.workers) as rig:
            outcome = row.run(rig, scale)
    except Exception as error:  # noqa: BLE001 - the other rows are still to be run
        outcome = Outcome({f"the row runs to its end ({type(error).__name__}: {error})": False})
    return line(row, outcome, time.monotonic() - started)


def line(row: Row, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """A row as one JSON object."""
    return {
        "row": row.number,
        "name": row.name,
        **outcome.figures,
        "promises": len(outcome.promises),
        "broken": outcome.broken,
        "seconds": round(seconds, 1),
        "ok": not outcome.broken,
    }
