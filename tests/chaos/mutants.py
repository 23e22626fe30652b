"""``python -m tests.chaos.mutants``: does the suite notice when one of the engine's guards is missing?

Copies the project, takes out one guard at a time, and runs the short form of the row that should notice. Prints
mutant, row, outcome; exits with 1 where a mutant survives, or where a row fails without any.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns
from tempfile import TemporaryDirectory
from typing import Any

from local.stack import ROOT
from tests.chaos.rig import say
from tests.harness import clean_environ

LEFT_OUT = ignore_patterns(".*", "__pycache__", "out", "data", "build", "dist")
TIMEOUT_S = 600


@dataclass(frozen=True)
class Mutant:
    """``text``, which occurs once in ``file``, becomes ``instead``; ``row`` should notice."""

    name: str
    file: str
    text: str
    instead: str
    row: int


MUTANTS = (
    Mutant(
        "no fencing: any attempt holds a running job",
        "jobs/lua/prelude.lua",
        "return held[1] == 'running' and held[2] == attempt_id",
        "return held[1] == 'running'",
        row=4,
    ),
    Mutant(
        "the decision is put more than once",
        "jobs/storage.py",
        'ContentType=media_type, IfNoneMatch="*"',
        "ContentType=media_type",
        row=4,
    ),
    Mutant(
        "a late attempt keeps its objects",
        "worker/executor.py",
        "self._delete(mine)",
        "pass",
        row=4,
    ),
    Mutant(
        "a dead attempt's objects stay",
        "worker/executor.py",
        "self._delete(job_prefix(job_id), keep=[inputs_prefix(job_id), decision_key(job_id), _files_of(decided)])",
        "pass",
        row=1,
    ),
    Mutant(
        "the janitor takes no job back",
        "worker/janitor.py",
        "if self.store.reclaim(job_id):",
        "if False:",
        row=1,
    ),
    Mutant(
        "the pulse keeps no lease",
        "worker/pulse.py",
        "for attempt in self.attempts.copy():",
        "for attempt in list[Attempt]():",
        row=3,
    ),
    Mutant(
        "a drained job is not handed back",
        "worker/executor.py",
        "if self._store.hand_back(attempt.job_id, attempt.id):",
        "if False:",
        row=5,
    ),
    Mutant(
        "handing back spends an attempt",
        "jobs/lua/requeue.lua",
        "redis.call('HINCRBY', job, 'attempt', -1)",
        "",
        row=5,
    ),
    Mutant(
        "nobody looks whether the job is canceled",
        "worker/attempt.py",
        'if self._verdict == "cancel":',
        "if False:",
        row=6,
    ),
    Mutant(
        "idempotency keys are not looked up",
        "service/intake.py",
        "earlier = services.store.reserve(sender.owner, key, fingerprint)",
        "earlier = None",
        row=7,
    ),
    Mutant(
        "a webhook that failed is not sent again",
        "jobs/lua/settle.lua",
        "post(host, id, now + ARGV[5])",
        "withdraw(host, id)",
        row=8,
    ),
    Mutant(
        "a webhook that a dead sender held is forgotten",
        "jobs/lua/take.lua",
        "post(host, id, now + ARGV[3])",
        "withdraw(host, id)",
        row=8,
    ),
    Mutant(
        "no limit to crashes",
        "jobs/lua/requeue.lua",
        ">= tonumber(ARGV[3]) then",
        ">= 1e9 then",
        row=14,
    ),
    Mutant(
        "no watchdog",
        "worker/watchdog.py",
        "return faulthandler.dump_traceback_later(max(left, 0.001), exit=True)",
        "return None",
        row=15,
    ),
)


def main(wanted: Sequence[str]) -> int:
    """Try the mutants whose names contain one of the words; all of them for none."""
    mutants = [m for m in MUTANTS if not wanted or any(word in m.name for word in wanted)]
    with TemporaryDirectory(prefix="chaos-mutants-") as folder:
        copy = Path(folder) / "project"
        copytree(ROOT, copy, ignore=LEFT_OUT)
        rows = sorted({mutant.row for mutant in mutants})
        say(f"without any mutant: rows {rows}")
        sound = all(line["ok"] for line in _run(copy, rows))
        print("| guard taken out | row | noticed by |\n| --- | --- | --- |")
        print(f"| none | {rows} | {'nothing to notice' if sound else '**broken without any**'} |", flush=True)
        survivors = [mutant for mutant in mutants if not _is_caught(copy, mutant)]
    return 1 if survivors or not sound else 0


def _is_caught(copy: Path, mutant: Mutant) -> bool:
    file = copy / mutant.file
    original = file.read_text()
    if original.count(mutant.text) != 1:
        raise SystemExit(f"{mutant.name}: {mutant.text!r} is not once in {mutant.file}; correct the mutant")
    say(f"{mutant.name}: row {mutant.row}")
    file.write_text(original.replace(mutant.text, mutant.instead))
    try:
        broken = [promise for line in _run(copy, [mutant.row]) for promise in line["broken"]]
    finally:
        file.write_text(original)
    print(f"| {mutant.name} | {mutant.row} | {'; '.join(broken) or '**nothing: it survives**'} |", flush=True)
    return bool(broken)


def _run(copy: Path, rows: Sequence[int]) -> list[dict[str, Any]]:
    asked = ["--short", "--rows", ",".join(map(str, rows)), "--dir", str(copy / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *asked],
        cwd=copy,
        env=clean_environ(),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
