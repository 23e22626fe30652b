"""Discs inside masks: where they are and how large, by OpenCV on the CPU, in a pool of threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.conditioning import Shape, measure


@cache
def threads() -> ThreadPoolExecutor:
    """OpenCV leaves the interpreter's lock, so threads are enough."""
    return ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)), thread_name_prefix="masks")


def largest_disc(mask: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Centre (x, y) and radius of the largest disc inside a mask [H, W] and the picture; (-1, -1, 0) if empty."""
    if not mask.any():
        return -1.0, -1.0, 0.0
    room = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(room.argmax()), room.shape)
    return float(x), float(y), float(room[y, x])


def largest_discs(masks: Tensor) -> Tensor:
    """`largest_disc` of each of bool [..., H, W]: float32 [..., 3] on the CPU."""
    flat = masks.flatten(0, -3).cpu().numpy()
    found = torch.tensor(list(threads().map(largest_disc, flat)), dtype=torch.float32)
    return found.reshape(*masks.shape[:-2], 3)


def measure_all(masks: list[npt.NDArray[np.bool_]], size: tuple[int, int]) -> list[Shape]:
    """`model.conditioning.measure` of each mask."""
    return list(threads().map(lambda mask: measure(mask, size), masks))
