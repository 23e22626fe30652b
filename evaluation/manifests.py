"""The scores that jobs have in their manifests, as a table: for videos that a service made and nobody kept the
masks of."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from evaluation.setscores import SIDE


class ManifestBroken(Exception):
    """A folder without manifests, or a file that is none."""


def table(folders: dict[str, Path]) -> dict[str, Any]:
    """A row for each folder, of all manifests below it, and the still baseline of each.

    ObjMC as the worker measured it (docs/evaluation.md), means over videos, in pixels of a frame of 256 x 256.
    """
    if not folders:
        raise ManifestBroken("name a folder with manifests")
    rows = []
    count = 0
    trackers: set[str] = set()
    for name, folder in folders.items():
        scored = [_read(path) for path in sorted(folder.rglob("*manifest*.json"))]
        if not scored:
            raise ManifestBroken(f"there is no manifest below {folder}")
        count += len(scored)
        known = [(scores, factor) for scores, factor in scored if scores]
        trackers |= {scores["tracker"] for scores, _ in known}
        entities = sum(len(scores["entities"]) for scores, _ in known)
        for row, figure in ((name, "objmc_px"), (f"{name}, still", "objmc_px_still")):
            found = [scores[figure] * factor for scores, factor in known if scores[figure] is not None]
            rows.append(
                {
                    "row": row,
                    "entities": entities,
                    "objmc": fmean(found) if found else None,
                    "seen": fmean(s["visibility"] for s, _ in known) if known and figure == "objmc_px" else None,
                }
            )
    return {"clips": count, "skipped": {}, "tracker": ", ".join(sorted(trackers)) or "none", "rows": rows}


def _read(path: Path) -> tuple[dict[str, Any], float]:
    """The scores of a manifest, empty where its video has none, and what its pixels are worth."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        request = manifest["request"]
        diagonal = float(np.hypot(request["width"], request["height"]))
        return manifest["scores"] or {}, SIDE * 2**0.5 / diagonal
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestBroken(f"{path} is no manifest: {error!r}") from error
