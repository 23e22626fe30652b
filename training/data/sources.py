"""The source that a config names, for a run or a stage."""

import torch

from training.config import Data, Synthetic
from training.data.clips import Source
from training.data.folders import FolderSource
from training.data.synthetic import SyntheticSource


def open_source(data: Data, seed: int, device: torch.device) -> Source:
    """Open it; a data set on disk is looked through once, which names what is broken."""
    if isinstance(data, Synthetic):
        return SyntheticSource(data, seed, device)
    return FolderSource(data, seed, device)
