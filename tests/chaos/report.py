"""``python -m tests.chaos.report RESULTS``: the lines of a run as a Markdown table, for docs/reliability.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FRAME = {"row", "name", "promises", "broken", "seconds", "ok"}
"""What every line has; the rest are the row's own figures."""
UNITS = {"s": "s", "ms": "ms", "mb": "MB"}


def table(lines: Iterable[str]) -> str:
    """The latest line of each row."""
    latest: dict[int, dict[str, Any]] = {}
    for text in lines:
        line = json.loads(text)
        latest[line["row"]] = line
    head = ["| # | what is done | promises | measured | took |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(_written(latest[number]) for number in sorted(latest))])


def _written(line: dict[str, Any]) -> str:
    broken = "; ".join(line["broken"])
    promises = f"{line['promises']} of {line['promises']} kept" if line["ok"] else f"**broken: {broken}**"
    figures = "; ".join(_said(name, value) for name, value in line.items() if name not in FRAME)
    return f"| {line['row']} | {line['name']} | {promises} | {figures} | {line['seconds']:.0f} s |"


def _said(name: str, value: object) -> str:
    words, _, unit = name.rpartition("_")
    words, unit = (words, f" {UNITS[unit]}") if unit in UNITS else (name, "")
    if isinstance(value, dict):
        told = ", ".join(_said(str(part), each) for part, each in value.items()) + unit
    else:
        told = (f"{value:.3g}" if isinstance(value, float) else str(value)) + unit
    return f"{words.replace('_', ' ')}{':' if isinstance(value, dict) else ''} {told}"


if __name__ == "__main__":
    print(table(line for path in sys.argv[1:] for line in Path(path).read_text().splitlines()))
