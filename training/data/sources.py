"""The source that a config names."""

import torch

from training.config import Config, Synthetic
from training.data.clips import Source
from training.data.folders import FolderSource
from training.data.synthetic import SyntheticSource


def open_source(config: Config, device: torch.device) -> Source:
    """Open it; a data set on disk is looked through once, which names what is broken."""
    if isinstance(config.data, Synthetic):
        return SyntheticSource(config.data, config.seed, device)
    return FolderSource(config.data, config.seed, device)
