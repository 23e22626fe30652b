"""``python -m tests.chaos``: put the reliability of the whole service to the test, with real servers and deaths.

Prints one JSON line for each row and appends it to ``results.jsonl`` in the directory; exits with 1 where a
promise was broken. Row 1 can be interrupted and called again: it goes on with its jobs.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from local.ports import bypass_proxies
from tests.chaos.rig import say
from tests.chaos.row import Scale
from tests.chaos.rows import ROWS, SHORT, SHORT_KNOBS, run


def main() -> int:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    numbers = [row.number for row in ROWS]
    parser.add_argument("--rows", help=f"numbers, with commas between them, of {numbers}; left out, all")
    parser.add_argument("--jobs", type=int, help="of row 1")
    parser.add_argument("--short", action="store_true", help="a small number of everything, and fast leases")
    parser.add_argument("--dir", type=Path, default=Path("out/chaos"), help="data, logs and results")
    arguments = parser.parse_args()
    asked = numbers if arguments.rows is None else [int(number) for number in arguments.rows.split(",")]
    if unknown := set(asked) - set(numbers):
        parser.error(f"there is no row {unknown}; there are {numbers}")
    scale = SHORT if arguments.short else Scale()
    scale = replace(scale, jobs=arguments.jobs or scale.jobs)
    bypass_proxies()
    kept = True
    for row in (row for row in ROWS if row.number in asked):
        say(f"row {row.number}: {row.name}")
        result = run(row, scale, arguments.dir, SHORT_KNOBS if arguments.short else None)
        text = json.dumps(result)
        print(text, flush=True)
        with (arguments.dir / "results.jsonl").open("a") as file:
            file.write(text + "\n")
        kept &= result["ok"]
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
