"""Make the request bodies `examples/<name>.json` from the folders `examples/<name>/`.

A folder holds `image.jpg` and `scene.json`: per entity a label, a polygon around it and its trajectory, in pixels
of the image. Each polygon becomes a mask, `<label>.png` beside it, and all of it a body for `POST /v1/generate`.
"""

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HERE = Path(__file__).parent


def write_mask(path: Path, polygon: list[list[float]], size: tuple[int, int]) -> None:
    """Fill a polygon with white on a black picture of `size` (width, height)."""
    outline = np.floor(np.array(polygon)).astype(np.int32)
    mask = cv2.fillPoly(np.zeros(size[::-1], np.uint8), [outline], 255)
    cv2.imwrite(str(path), mask)


def inline(path: Path) -> dict[str, str]:
    """A file as the request carries it."""
    return {"base64": base64.b64encode(path.read_bytes()).decode()}


def request(folder: Path) -> dict[str, Any]:
    """Write a folder's masks and return its request body."""
    scene = json.loads((folder / "scene.json").read_text())
    height, width = cv2.imread(str(folder / "image.jpg")).shape[:2]
    entities = []
    for entity in scene.pop("entities"):
        path = folder / f"{entity['label']}.png"
        write_mask(path, entity.pop("polygon"), (width, height))
        entities.append({"label": entity["label"], "mask": inline(path), "trajectory": entity["trajectory"]})
    return {"image": inline(folder / "image.jpg"), "entities": entities, **scene}


if __name__ == "__main__":
    for image in sorted(HERE.glob("*/image.jpg")):
        body = request(image.parent)
        (HERE / f"{image.parent.name}.json").write_text(json.dumps(body, indent=2) + "\n")
