"""Parity of the control signal: demo folders and golden cases, byte for byte. Needs no torch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.parity import Array, Check, compare, guard, read_arrays, read_json
from model import conditioning, painting, trajectory
from model.conditioning import Bytes, ConditionError, Conditioning, Entity, Size

_INT32_MAX = np.iinfo(np.int32).max  # the reference's radius of a mask without background is FLT_MAX


def check_conditions(root: Path) -> Iterator[Check]:
    """Check `conditions/<demo>/`: the picture and masks under `input/` against `expected.json`."""
    for folder in _folders(root / "conditions"):
        name = f"conditions/{folder.name}"
        yield from guard(f"{name}/expected.json", _check_demo(name, folder))


def check_edge(root: Path) -> Iterator[Check]:
    """Check `edge/<name>/`, synthetic inputs, against their `golden.npz` and the common `meta.json`."""
    yield from guard("edge/meta.json", _check_edges(root / "edge"))


def check_cases(root: Path) -> Iterator[Check]:
    """Check what the control signal contributes to `cases/<name>/golden.npz`."""
    for folder in _folders(root / "cases"):
        yield from guard(f"cases/{folder.name}/golden.npz", _check_case(f"cases/{folder.name}", folder))


def _check_demo(name: str, folder: Path) -> Iterator[Check]:
    expected = read_json(folder / "expected.json")
    image, entities = conditioning.load_demo(folder / "input")
    original = image.shape[1], image.shape[0]
    yield compare(f"{name}/image_size_wh", original, expected["image_size_wh"])
    for key, wanted in expected["sizes"].items():
        yield from guard(f"{name}/{key}", _check_size(f"{name}/{key}", entities, original, key, wanted))


def _check_size(
    name: str, entities: Sequence[Entity], original: Size, key: str, wanted: dict[str, Any]
) -> Iterator[Check]:
    height, width, asked = (int(part) for part in key.replace("/F", "x").split("x"))
    size = width, height
    yield from _check_masks(name, entities, size, wanted)
    if "error" in wanted:
        yield _check_failing(name, entities, original, size, asked, wanted["error"])
        return
    frames = wanted["frames"]
    made = conditioning.build(_cut(entities, frames), original, size, frames)
    counts = np.bincount(made.labels.ravel(), minlength=len(entities) + 1)
    three_channels = made.heat[..., None].repeat(3, axis=-1)
    yield compare(f"{name}/trajectories", made.points, wanted["trajectories"])
    yield compare(f"{name}/sides", made.sides, _per_frame(wanted["sides"], frames))
    yield compare(f"{name}/label_counts", counts, wanted["label_counts"])
    yield _compare_digest(f"{name}/label_sha256", made.labels, wanted["label_sha256"])
    yield compare(f"{name}/gaussian_sum", three_channels.sum(dtype=np.int64), wanted["gaussian_sum"])
    yield _compare_digest(f"{name}/gaussian_sha256", three_channels, wanted["gaussian_sha256"])


def _check_masks(name: str, entities: Sequence[Entity], size: Size, wanted: dict[str, Any]) -> Iterator[Check]:
    shapes = [conditioning.measure(entity.mask, size) for entity in entities]
    radii = [min(radius, _INT32_MAX) for radius in wanted["radii"]]
    yield compare(f"{name}/radii", [shape.radius for shape in shapes], radii)
    # The reference lists no mask that came out empty on the latent grid.
    pixels = [int(shape.latent.sum()) for shape in shapes if not shape.vanished]
    yield compare(f"{name}/latent_mask_pixels", pixels, wanted["latent_mask_pixels"])
    for index, digest in enumerate(wanted.get("mask_full_sha256", ())):
        yield _compare_digest(f"{name}/mask_full_sha256/{index}", shapes[index].full, digest)


def _check_failing(
    name: str, entities: Sequence[Entity], original: Size, size: Size, frames: int, error: str
) -> Check:
    """Where the reference crashes, a valid signal and a documented error are both right."""
    note = "valid output"
    try:
        conditioning.build(_cut(entities, frames), original, size, frames)
    except ConditionError as refusal:
        note = f"refused: {refusal}"
    return Check(f"{name}/error", None, None, True, f"{error} in the reference; {note}")


def _check_edges(folder: Path) -> Iterator[Check]:
    meta = read_json(folder / "meta.json")
    size, original = (meta["width"], meta["height"]), (meta["source_wh"][0], meta["source_wh"][1])
    for case, wanted in meta["cases"].items():
        name = f"edge/{case}"
        yield from guard(name, _check_edge(name, folder / case, original, size, meta["frames"], wanted))
    for stray in _folders(folder):
        if stray.name not in meta["cases"]:
            yield Check(f"edge/{stray.name}", None, None, False, "meta.json does not list it")


def _check_edge(
    name: str, folder: Path, original: Size, size: Size, asked: int, wanted: dict[str, Any]
) -> Iterator[Check]:
    entities = conditioning.load_entities(folder)
    yield from _check_masks(name, entities, size, wanted)
    if "error" in wanted:
        yield _check_failing(name, entities, original, size, asked, wanted["error"])
        return
    frames = wanted["frames"]
    entities = _cut(entities, frames)
    points, sides = _painted(entities, original, size)
    drawn = [(points[e, f], sides[e, f]) for f in range(frames) for e in range(len(points))]
    centres, radii = zip(*wanted["circles"], strict=True)
    yield compare(f"{name}/centres", [centre for centre, _ in drawn], centres)
    yield compare(f"{name}/sides", [side for _, side in drawn], radii)
    try:
        made = conditioning.build(entities, original, size, frames)
        heat, labels, note = made.heat, made.labels, ""
    except ConditionError as refusal:
        # Stricter than the reference by design; the steps, without the checks, must still agree with it.
        heat, labels = painting.paint(points, sides, size)
        note = f"painted unchecked, since a job is refused: {refusal}"
    golden = read_arrays(folder / "golden.npz")
    yield replace(compare(f"{name}/gaussian", heat, golden["gaussian"]), note=note)
    yield replace(compare(f"{name}/label_map", labels, golden["label_map"]), note=note)


def _painted(entities: Sequence[Entity], original: Size, size: Size) -> tuple[Array, Array]:
    """Centres [E, F, 2] and sides [E, F] of the entities that the reference paints, and counts, in frame 0."""
    shapes = [conditioning.measure(entity.mask, size) for entity in entities]
    kept = [
        (entity.points, shape.side) for entity, shape in zip(entities, shapes, strict=True) if not shape.vanished
    ]
    points = trajectory.scale(np.stack([track for track, _ in kept]), original, size)
    return points, _per_frame([side for _, side in kept], points.shape[1])


def _check_case(name: str, folder: Path) -> Iterator[Check]:
    meta, golden = read_json(folder / "meta.json"), read_arrays(folder / "golden.npz")
    frames, original = meta["num_frames"], (meta["source_size_wh"][0], meta["source_size_wh"][1])
    entities = _cut(conditioning.load_entities(folder / "input"), frames)
    made: Conditioning = conditioning.build(entities, original, (meta["width"], meta["height"]), frames)
    yield compare(f"{name}/trajectories", made.points, golden["trajectories"])
    yield compare(f"{name}/radii", made.radii, golden["radii"])
    yield compare(f"{name}/sides", made.sides, _per_frame(golden["sides"].tolist(), frames))
    yield compare(f"{name}/latent_masks", made.latent_masks, golden["latent_masks"])
    yield compare(f"{name}/gaussian", made.heat, golden["gaussian"])
    yield compare(f"{name}/label_map", made.labels, golden["label_map"])


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir())


def _cut(entities: Sequence[Entity], frames: int) -> list[Entity]:
    return [replace(entity, points=entity.points[:frames]) for entity in entities]


def _per_frame(values: Sequence[int], frames: int) -> Array:
    return np.repeat(np.array(values)[:, None], frames, axis=1)


def _compare_digest(name: str, found: Bytes, golden: str) -> Check:
    digest = hashlib.sha256(found.tobytes()).hexdigest()
    if digest == golden:
        return Check(name, 0.0, 0.0, True)
    return Check(name, None, None, False, f"sha256 {digest[:12]} instead of {golden[:12]}")
