"""Tables of ``evaluation.benchmark`` in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

COLUMNS = {
    "objmc": "ObjMC",
    "objmc_paper": "ObjMC, paper",
    "seen": "seen",
    "mask_iou": "mask IoU",
    "fid": "FID",
    "fvd": "FVD",
}


def markdown(table: dict[str, Any]) -> str:
    """The scores; ObjMC by kind of control, by size of motion and by frame."""
    rows = table["rows"]
    found = f"{table['clips']} clips, {rows[0]['entities']} entities, tracker {table['tracker']}."
    if table["skipped"]:
        found += f" {len(table['skipped'])} videos could not be used."
    lines = ([row["row"], *(_number(row.get(key)) for key in COLUMNS)] for row in rows)
    parts = [found, _grid(["row", *COLUMNS.values()], lines)]
    kinds = [kind for kind, value in rows[0].get("objmc_by_kind", {}).items() if value is not None]
    if kinds:
        lines = ([row["row"], *(_number(row["objmc_by_kind"][kind]) for kind in kinds)] for row in rows)
        parts += ["ObjMC by kind of control:", _grid(["row", *kinds], lines)]
    travels = [travel for travel in rows[0].get("objmc_by_travel", []) if travel["entities"]]
    if travels:
        heads = [_range(travel) for travel in travels]
        lines = (
            [row["row"], *(_number(travel["objmc"]) for travel in row["objmc_by_travel"] if travel["entities"])]
            for row in rows
        )
        parts += ["ObjMC by size of motion, in parts of the frame's diagonal:", _grid(["row", *heads], lines)]
    length = max(len(row.get("objmc_by_frame", [])) for row in rows)
    if length:
        chosen = sorted({round(1 + k * (length - 1) / 6) for k in range(7)})
        lines = ([row["row"], *(_number(row["objmc_by_frame"][f - 1]) for f in chosen)] for row in rows)
        parts += ["ObjMC by frame:", _grid(["row", *map(str, chosen)], lines)]
    return "\n\n".join(parts) + "\n"


def _range(travel: dict[str, Any]) -> str:
    return f"above {travel['above']:g}" if travel["to"] is None else f"{travel['above']:g} to {travel['to']:g}"


def _grid(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ruler, *lines])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
