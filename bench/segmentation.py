"""How good the embedded segmenter is: ``python -m bench.segmentation`` measures it for docs/segmentation.md."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.segmenter import Segment, Segmenter

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "training" / "data" / "pictures"
CLICKS = 2
"""First clicks of each object: one in its middle (or where its track starts), the other at random inside."""

Mask = NDArray[np.uint8]
Point = tuple[float, float]

# Drawn by hand, coarsely, in units of 6/7 pixel.
OUTLINES = {
    (
        "face",
        "astronaut",
    ): "135,90 140,40 180,15 225,18 258,45 264,80 255,110 240,120 222,155 205,164 185,160 165,140 150,112",
    ("helmet", "astronaut"): "245,400 255,360 285,320 330,303 380,312 415,340 435,385 438,447 245,447",
    (
        "shuttle",
        "astronaut",
    ): "346,25 360,0 378,0 383,35 392,40 397,55 396,150 411,190 405,205 385,205 378,235 352,235"
    " 347,205 310,195 322,165 340,150 338,70 330,140 328,50 335,40 344,60",
    (
        "man",
        "camera",
    ): "130,97 72,130 42,170 22,240 17,290 0,290 0,447 132,447 130,360 162,290 182,250 217,270 242,268"
    " 257,245 257,205 287,180 287,150 242,175 217,180 224,165 219,130 235,110 237,78 202,56 170,58 146,78",
    ("tower", "camera"): "360,108 378,108 378,166 360,166",
}
ELLIPSES = {("clock", "clock"): ((212, 153), (70, 59), 0), ("eye", "chelsea"): ((171, 115), (34, 30), 15)}


@dataclass(frozen=True, eq=False)
class Thing:
    """Something in a picture: uint8 BGR [H, W, 3], its mask [H, W], and a first click."""

    name: str
    picture: Mask
    mask: Mask
    click: Point


def things() -> Iterator[Thing]:
    """Those of the examples, then those that are outlined here."""
    for scene in (ROOT / "examples" / name for name in ("quickstart", "cat", "coffee")):
        for entity in json.loads((scene / "scene.json").read_text())["entities"]:
            mask = (_read(scene / f"{entity['label']}.png")[..., 0] > 127).astype(np.uint8)
            x, y = entity["trajectory"]["points"][0]
            yield Thing(entity["label"], _read(scene / "image.jpg"), mask, (x, y))
    for (name, file), text in OUTLINES.items():
        picture = _read(PICTURES / f"{file}.jpg")
        corners = np.array([corner.split(",") for corner in text.split()], np.float64) * 6 / 7
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(mask, [corners.round().astype(np.int32)], (1,))
        yield Thing(name, picture, mask, _deepest(mask)[1])
    for (name, file), (centre, axes, angle) in ELLIPSES.items():
        picture = _read(PICTURES / f"{file}.jpg")
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.ellipse(mask, centre, axes, angle, 0, 360, (1,), cv2.FILLED)
        yield Thing(name, picture, mask, _deepest(mask)[1])


def _read(path: Path) -> Mask:
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return picture.astype(np.uint8)


def _depth(mask: Mask) -> NDArray[np.float32]:
    return np.asarray(cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)


def _deepest(mask: Mask) -> tuple[float, Point]:
    """How far the border is where it is farthest, and where that is."""
    depth = _depth(mask)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(depth.max()), (float(x), float(y))


def first_clicks(thing: Thing) -> list[Point]:
    """The thing's own, and random ones that keep some distance from its border."""
    depth = _depth(thing.mask)
    rows, columns = np.nonzero(depth >= 0.3 * depth.max())
    chosen = np.random.default_rng(0).choice(len(rows), CLICKS - 1)
    return [thing.click, *((float(columns[i]), float(rows[i])) for i in chosen)]


def correct(thing: Thing, found: Mask, inside: list[Point], outside: list[Point]) -> None:
    """Add the click of a user who sees what is missing or too much: into the middle of the larger error."""
    missing, surplus = _deepest(thing.mask & (1 - found)), _deepest(found & (1 - thing.mask))
    if missing[0] >= surplus[0]:
        inside.append(missing[1])
    else:
        outside.append(surplus[1])


def iou(one: Mask, other: Mask) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def measure(thing: Thing) -> dict[str, list[tuple[float, float, float]]]:
    """For each kind of prompt the IoU, the score and the seconds (of one core) of every answer."""
    size = (thing.mask.shape[1], thing.mask.shape[0])
    rows: dict[str, list[tuple[float, float, float]]] = {}

    def ask(kind: str, inside: list[Point], outside: list[Point], box: list[float] | None = None) -> Segment:
        begun = time.process_time()
        found = Segmenter(thing.picture, size).segment(inside, outside, box)
        seconds = time.process_time() - begun
        rows.setdefault(kind, []).append((iou(found.mask, thing.mask), found.score, seconds))
        return found

    for click in first_clicks(thing):
        inside, outside = [click], list[Point]()
        found = ask("1 click", inside, outside)
        for kind in ("2 clicks", "3 clicks"):
            correct(thing, found.mask, inside, outside)
            found = ask(kind, inside, outside)
    x, y, width, height = cv2.boundingRect(thing.mask)
    ask("box", [], [], [x, y, x + width, y + height])
    return rows


def main() -> None:
    """Print the mean IoU per thing and prompt, then means over things, and how the score relates to the IoU."""
    cv2.setNumThreads(1)
    measured = {thing.name: measure(thing) for thing in things()}
    kinds = list(next(iter(measured.values())))
    print("|", " | ".join(["object", *kinds]), "|")
    for name, rows in measured.items():
        print("|", " | ".join([name, *(f"{np.mean([row[0] for row in rows[kind]]):.2f}" for kind in kinds)]), "|")
    means = [np.mean([np.mean([row[0] for row in rows[kind]]) for rows in measured.values()]) for kind in kinds]
    print("|", " | ".join(["mean", *(f"{mean:.2f}" for mean in means)]), "|")
    for kind in kinds:
        table = np.array([row for rows in measured.values() for row in rows[kind]])
        likeness = np.corrcoef(table[:, 0], table[:, 1])[0, 1]
        print(f"{kind}: mean score {table[:, 1].mean():.2f}, correlation with the IoU {likeness:.2f},", end=" ")
        print(f"{table[:, 2].mean():.2f} s, at most {table[:, 2].max():.2f} s")


if __name__ == "__main__":
    main()
