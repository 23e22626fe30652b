"""Guesses at the outline of what was clicked, from edges and colours alone. numpy and OpenCV only.

Three families: closed contours around the click (a shortest closed path in polar coordinates, after Mishra,
Aloimonos and Fah, "Active Segmentation with Fixation", ICCV 2009), regions that grow by merging watershed basins
(in the manner of Arbelaez et al., "Contour Detection and Hierarchical Image Segmentation", PAMI 2011), and GrabCut
of discs (Rother, Kolmogorov and Blake, 2004).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Pixel = tuple[int, int]
Box = tuple[int, int, int, int]

_DIRECTIONS = 8
_WIDTHS = ((1.5, 3.0), (3.5, 6.0))  # pixels across and along an edge
_ANGLES, _RADII = 96, 44
_SCALES = (0.035, 0.06, 0.1, 0.16, 0.25, 0.36)  # expected radii, shares of the diagonal
_STRETCHES = ((1.0, 0.0), (1.9, 0.0), (1.9, 0.25), (1.9, 0.5), (1.9, 0.75))  # of the circle, and its turn / pi
_STEPS = range(-2, 3)  # radii between neighbouring angles
_BEND, _DETOUR = 0.1, 0.12  # cost of a step, and of leaving the expected radius
_DISCS = (0.07, 0.13, 0.2, 0.3, 0.42)  # radii, shares of the longer side
_GRABCUT_SIDE, _GRABCUT_ROUNDS = 144, 3
_FEW = 10  # pixels; GrabCut's colour models have five parts each


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and where its edges are."""

    bgr: Mask  # [H, W, 3]
    features: Floats  # [H, W, 4]: Lab and the local deviation of lightness
    oriented: Floats  # [8, H, W], the strength of an edge across each direction
    edges: Floats  # [H, W], the strongest of them

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        return self.edges.shape[1], self.edges.shape[0]


def look(bgr: Mask) -> Scene:
    """Find the edges of colour and texture in a picture, uint8 BGR [H, W, 3]."""
    lab = cv2.cvtColor(bgr.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    light = lab[..., 0]
    around = cv2.GaussianBlur((light - cv2.GaussianBlur(light, (0, 0), 2)) ** 2, (0, 0), 3)
    features = np.dstack([0.6 * light, lab[..., 1], lab[..., 2], 0.8 * np.sqrt(around)]).astype(np.float32)
    responses = [_respond(features, *widths) for widths in _WIDTHS]
    oriented = np.asarray(np.mean(responses, axis=0), np.float32)
    return Scene(bgr, features, oriented, oriented.max(0))


def _directions() -> Floats:
    angles = np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _respond(features: Floats, across: float, along: float) -> Floats:
    """The difference between the two sides of every pixel, [8, H, W]: derivatives of long Gaussians."""
    reach = int(np.ceil(2.5 * along))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    responses = []
    for cosine, sine in _directions():
        u, v = x * cosine + y * sine, y * cosine - x * sine
        kernel = -u * np.exp(-(u**2) / (2 * across**2) - v**2 / (2 * along**2))
        sides = cv2.filter2D(features, -1, 2 * kernel / np.abs(kernel).sum(), borderType=cv2.BORDER_REPLICATE)
        responses.append(np.sqrt((sides**2).sum(-1)))
    return np.stack(responses)


def contours(scene: Scene, centre: Pixel, stretches: Sequence[tuple[float, float]] = _STRETCHES) -> Iterator[Mask]:
    """Closed contours around a pixel along strong edges, one for each expected radius and stretch."""
    diagonal = float(np.hypot(*scene.size))
    radii = np.geomspace(2.5, 0.62 * diagonal, _RADII)
    detours = [(np.log(radii / (share * diagonal)) / 0.5) ** 2 for share in _SCALES]
    costs, places = [], []
    for stretch, turn in stretches:
        places_here, strength = _unroll(scene, centre, radii, stretch, turn)
        costs += [1 - strength + _DETOUR * detour for detour in detours]
        places += [places_here] * len(detours)
    for place, path in zip(places, _closed_paths(np.stack(costs)), strict=True):
        corners = place[np.arange(_ANGLES), path]
        mask = np.zeros(scene.edges.shape, np.uint8)
        cv2.fillPoly(mask, [corners.round().astype(np.int32)], (1,))
        yield mask


def _unroll(
    scene: Scene, centre: Pixel, radii: NDArray[np.float64], stretch: float, turn: float
) -> tuple[Floats, Floats]:
    """The places (x, y) of an elliptic polar grid, [A, R, 2], and the strength 0..1 of edges along its rings."""
    angles = 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    cosine, sine = np.cos(np.pi * turn), np.sin(np.pi * turn)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    outward = rotation @ np.stack([stretch * np.cos(angles), np.sin(angles) / stretch])
    normal = rotation @ np.stack([np.cos(angles) / stretch, stretch * np.sin(angles)])
    normal /= np.linalg.norm(normal, axis=0)
    places = (outward.T[:, None] * radii[:, None] + np.array(centre)).astype(np.float32)
    strength = np.zeros((_ANGLES, len(radii)), np.float32)
    for response, direction in zip(scene.oriented, _directions(), strict=True):
        found = cv2.remap(
            response, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        strength = np.maximum(strength, found * ((direction @ normal) ** 2).astype(np.float32)[:, None])
    strength /= strength + 2 * np.median(scene.edges) + 2
    beyond = ((places < 0) | (places > np.array(scene.size) - 1)).any(-1)
    strength[beyond] = 0.4  # the picture's border is neither an edge nor none
    return places, strength


def _closed_paths(costs: NDArray[np.float64]) -> Ints:
    """The cheapest ring through each of K cost tables [K, A, R]: the radius at every angle, [K, A].

    Dynamic programming over three turns, of which the middle one is closed in all but rare cases.
    """
    tables, angles, radii = costs.shape
    total = costs[:, 0]
    choices = []
    for turn in range(1, 3 * angles):
        padded = np.pad(total, ((0, 0), (2, 2)), constant_values=np.inf)
        options = np.stack([padded[:, 2 + step : 2 + step + radii] + _BEND * abs(step) for step in _STEPS])
        choice = options.argmin(0)
        choices.append(choice)
        total = np.take_along_axis(options, choice[None], 0)[0] + costs[:, turn % angles]
    place = total.argmin(1)
    path = [place]
    for choice in reversed(choices):
        place = place + choice[np.arange(tables), place] - 2
        path.append(place)
    return np.stack(path[::-1][angles : 2 * angles], axis=1).astype(np.int32)


class Regions:
    """A picture's watershed basins, merged two by two where the edge between them is weakest."""

    def __init__(self, scene: Scene) -> None:
        self.basins = _basins(scene.edges)
        self.count = int(self.basins.max()) + 1
        self.parents = _merge(self.basins, scene, self.count)

    def around(self, inside: Sequence[Pixel], outside: Sequence[Pixel]) -> Iterator[Mask]:
        """Every region that contains the first pixel; then the largest ones around each without any outside."""
        paths = [self._path(pixel) for pixel in inside]
        for node in paths[0]:
            yield self._mask({node})
        away = {node for pixel in outside for node in self._path(pixel)}
        free = [[node for node in path if node not in away] for path in paths]
        if outside and all(free):
            yield self._mask({path[-1] for path in free})

    def _path(self, pixel: Pixel) -> list[int]:
        node = int(self.basins[pixel[1], pixel[0]])
        path = [node]
        while (node := self.parents[node]) >= 0:
            path.append(node)
        return path

    def _mask(self, nodes: set[int]) -> Mask:
        held = np.zeros(len(self.parents), np.uint8)
        held[list(nodes)] = 1
        for node in range(len(self.parents) - 1, -1, -1):  # parents come after their parts
            if self.parents[node] >= 0:
                held[node] |= held[self.parents[node]]
        return held[self.basins]


def _basins(edges: Floats) -> Ints:
    smooth = cv2.GaussianBlur(edges, (0, 0), 1)
    lowest = (smooth <= cv2.erode(smooth, np.ones((5, 5))) + 1e-6).astype(np.uint8)
    _, seeds = cv2.connectedComponents(lowest)
    level = np.clip(255 * edges / (np.percentile(edges, 99.5) + 1e-6), 0, 255).astype(np.uint8)
    basins = cv2.watershed(cv2.merge([level] * 3), seeds)
    while (lines := basins <= 0).any():
        if lines.all():
            return np.zeros(edges.shape, np.int32)
        grown = cv2.dilate(np.maximum(basins, 0).astype(np.float32), np.ones((3, 3)))
        basins = np.where(lines, grown.astype(np.int32), basins)
    return np.unique(basins, return_inverse=True)[1].reshape(edges.shape).astype(np.int32)


def _merge(basins: Ints, scene: Scene, count: int) -> list[int]:
    """The parent of each basin and region, -1 for the last: parts come before the whole."""
    borders = _borders(basins, scene.edges, count)
    flat = basins.ravel()
    areas = np.bincount(flat, minlength=count).astype(float).tolist()
    sums = [np.bincount(flat, scene.features[..., c].ravel(), count) for c in range(scene.features.shape[2])]
    means = list(np.stack(sums, axis=1) / np.array(areas)[:, None])
    parents = [-1] * count

    def weight(one: int, other: int) -> float:
        strength, length = borders[one][other]
        smaller = min(areas[one], areas[other])
        difference = float(np.abs(means[one] - means[other]).sum())
        return float((strength / length + difference / 4) * (smaller / (smaller + 60)) ** 0.5)

    heap = [(weight(one, other), one, other) for one in range(count) for other in borders[one] if one < other]
    heapq.heapify(heap)
    while heap:
        _, *pair = heapq.heappop(heap)
        if any(parents[part] >= 0 for part in pair):
            continue
        whole = len(parents)
        parents.append(-1)
        areas.append(sum(areas[part] for part in pair))
        means.append(np.sum([means[part] * areas[part] for part in pair], axis=0) / areas[whole])
        borders.append({})
        for part in pair:
            parents[part] = whole
            for other, (strength, length) in borders[part].items():
                if other not in pair:
                    del borders[other][part]
                    earlier = borders[whole].get(other, (0.0, 0))
                    borders[whole][other] = borders[other][whole] = (earlier[0] + strength, earlier[1] + length)
        for other in borders[whole]:
            heapq.heappush(heap, (weight(whole, other), whole, other))
    return parents


def _borders(basins: Ints, edges: Floats, count: int) -> list[dict[int, tuple[float, int]]]:
    """For each basin its neighbours: the sum of the edge's strength along the border, and its length."""
    borders: list[dict[int, tuple[float, int]]] = [{} for _ in range(count)]
    for first, second in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        one, other = basins[first], basins[second]
        differ = one != other
        pairs = np.minimum(one, other)[differ].astype(np.int64) * count + np.maximum(one, other)[differ]
        known, index = np.unique(pairs, return_inverse=True)
        strengths = np.bincount(index, np.maximum(edges[first], edges[second])[differ], len(known))
        lengths = np.bincount(index, minlength=len(known))
        for pair, strength, length in zip(known.tolist(), strengths.tolist(), lengths.tolist(), strict=True):
            low, high = divmod(pair, count)
            earlier = borders[low].get(high, (0.0, 0))
            borders[low][high] = borders[high][low] = (earlier[0] + strength, earlier[1] + length)
    return borders


def discs(scene: Scene, inside: Sequence[Pixel], outside: Sequence[Pixel]) -> Iterator[Mask]:
    """What GrabCut makes of discs of several sizes around the pixels inside."""
    width, height = scene.size
    for share in _DISCS:
        trimap = np.full((height, width), cv2.GC_BGD, np.uint8)
        for pixel in inside:
            cv2.circle(trimap, pixel, int(share * max(width, height)), cv2.GC_PR_FGD, cv2.FILLED)
        yield from cut(scene, trimap, inside, outside)


def boxed(scene: Scene, box: Box, inside: Sequence[Pixel], outside: Sequence[Pixel]) -> Iterator[Mask]:
    """What GrabCut makes of a box (x0, y0, x1, y1), ends exclusive."""
    trimap = np.full(scene.edges.shape, cv2.GC_BGD, np.uint8)
    trimap[box[1] : box[3], box[0] : box[2]] = cv2.GC_PR_FGD
    yield from cut(scene, trimap, inside, outside)


def cut(scene: Scene, trimap: Mask, inside: Sequence[Pixel], outside: Sequence[Pixel]) -> Iterator[Mask]:
    """GrabCut from a trimap, with the pixels that are certain; nothing where either side is too small for it."""
    width, height = scene.size
    scale = min(1.0, _GRABCUT_SIDE / max(width, height))
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    trimap = np.asarray(cv2.resize(trimap, small, interpolation=cv2.INTER_NEAREST), np.uint8)
    for pixels, value in ((inside, cv2.GC_FGD), (outside, cv2.GC_BGD)):
        for x, y in pixels:
            cv2.circle(trimap, (int(x * small[0] / width), int(y * small[1] / height)), 2, value, cv2.FILLED)
    if min(np.count_nonzero(trimap & 1), np.count_nonzero(~trimap & 1)) < _FEW:
        return
    cv2.setRNGSeed(0)  # of this thread: its colour models start from k-means
    models = np.zeros((1, 65)), np.zeros((1, 65))
    picture = cv2.resize(scene.bgr, small, interpolation=cv2.INTER_AREA)
    cv2.grabCut(picture, trimap, (0, 0, 0, 0), *models, _GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = cv2.resize((trimap & 1).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    yield cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(np.uint8)
