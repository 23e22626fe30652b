"""Advice on a control signal: what is allowed but rarely wanted. numpy and OpenCV only."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from model import conditioning, painting
from model.conditioning import Conditioning, Entity, Size

ERASED_SHARE = 0.1  # of an entity's heat: beyond that not only the faint rim is gone


class Advice(NamedTuple):
    """A remark about one entity, by its index; `code` is stable, `detail` is for people."""

    code: str
    detail: str
    entity: int


def advise(entities: Sequence[Entity], made: Conditioning, original: Size) -> list[Advice]:
    """Remark on the entities (given for an image of size `original`) that `made` was built from.

    Codes: `trajectory_leaves_image`, `trajectory_starts_outside_mask`, `motion_too_fast` (the discs of
    consecutive frames do not touch, so the entity is nowhere in both), `radius_too_small` (no Gaussian is
    painted), `mask_vanishes_at_latent_size`, `entities_overlap` (in the first frame others erase more than a
    tenth of the entity's heat). Pure; entities in order, overlaps last.
    """
    size = made.heat.shape[2], made.heat.shape[1]
    single = chain.from_iterable(
        chain(_on_track(index, entity, original), _on_disc(index, entity, made, size))
        for index, entity in enumerate(entities)
    )
    return [*single, *_on_overlaps(entities, made, size)]


def _on_track(index: int, entity: Entity, original: Size) -> Iterator[Advice]:
    outside = np.any((entity.points < 0) | (entity.points >= np.array(original)), axis=1)
    if outside.any():
        frame = int(np.argmax(outside))
        x, y = entity.points[frame]
        yield Advice(
            "trajectory_leaves_image",
            f"from frame {frame} on, at ({x:.0f}, {y:.0f}), the track lies outside of the"
            f" {original[0]} x {original[1]} image in {outside.sum()} of {len(outside)} frames",
            index,
        )
    x, y = np.floor(entity.points[0]).astype(int)
    if outside[0] or not entity.mask[y, x]:
        yield Advice(
            "trajectory_starts_outside_mask",
            f"the track starts at ({x}, {y}), outside of the entity's mask: the entity may not follow it",
            index,
        )


def _on_disc(index: int, entity: Entity, made: Conditioning, size: Size) -> Iterator[Advice]:
    steps = np.hypot(*np.diff(made.points[index].astype(np.float64), axis=0).T)
    reach = (made.sides[index][1:] + made.sides[index][:-1]).astype(np.float64)
    if (steps > reach).any():
        frame = int(np.argmax(steps - reach))
        yield Advice(
            "motion_too_fast",
            f"between frames {frame} and {frame + 1} the entity jumps {steps[frame]:.0f} pixels, further than"
            f" its disc is wide ({reach[frame]:.0f}): use more frames or a shorter track",
            index,
        )
    if painting.box(size[0] // 2, size[1] // 2, int(made.sides[index].max()), size) is None:
        yield Advice(
            "radius_too_small",
            f"the mask is too thin at {size[0]} x {size[1]} (inner radius {made.radii[index]} pixels) for a"
            " Gaussian to be painted: use a larger mask or a larger output",
            index,
        )
    if conditioning.measure(entity.mask, size).vanished:
        yield Advice(
            "mask_vanishes_at_latent_size",
            "the mask covers no cell of the latent grid: the features of the nearest cells stand in for it",
            index,
        )


def _on_overlaps(entities: Sequence[Entity], made: Conditioning, size: Size) -> Iterator[Advice]:
    shown = np.array([entity.visible is None or entity.visible[0] for entity in entities])
    for index in np.flatnonzero(shown).tolist():
        one = slice(index, index + 1)
        alone = painting.paint(made.points[one, :1], made.sides[one, :1], size)[0][0].astype(np.int64)
        total, erasing = alone.sum(), []
        for later in (np.flatnonzero(shown[index + 1 :]) + index + 1).tolist():
            x, y = made.points[later, 0].tolist()
            found = painting.box(x, y, int(made.sides[later, 0]), size)
            x0, y0, x1, y1 = map(int, found or (0, 0, 0, 0))
            if alone[y0:y1, x0:x1].any():
                erasing.append(str(later))
                alone[y0:y1, x0:x1] = 0
        if alone.sum() < (1 - ERASED_SHARE) * total:
            yield Advice(
                "entities_overlap",
                f"in the first frame {1 - alone.sum() / total:.0%} of the entity's heat is erased by entity"
                f" {', '.join(erasing)}: list it after them, or move the start of its track",
                index,
            )
