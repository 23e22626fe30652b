"""How far apart two sets of pictures or videos are, as a network sees them: FID and FVD. numpy only, but for the
network.

FID: Heusel et al. 2017 (arXiv 1706.08500). FVD: Unterthiner et al. 2018 (arXiv 1812.01717).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Network = Literal["inception", "i3d"]

AT_ONCE = 32
"""Pictures that Inception looks at together."""
FEWEST_FRAMES = 10
"""I3D halves the frames three times and wants some to be left."""
SOURCES: dict[Network, str] = {
    "inception": "inception-2015-12-05.pt, the TorchScript file of NVIDIA's stylegan2-ada-pytorch"
    " (nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/), also used by clean-fid",
    "i3d": "i3d_torchscript.pt, the TorchScript file that the metrics of StyleGAN-V name (src/metrics/"
    "frechet_video_distance.py of universome/stylegan-v)",
}


class FeaturesMissing(Exception):
    """A network that can not be loaded; the message says which file it takes and who has it."""


def frechet_distance(one: Floats, other: Floats) -> float:
    """The squared Fréchet distance of the Gaussians with the means and covariances of features [N, D] and [M, D].

    |m - n|² + tr(A + B - 2 (A B)^½), where the last trace is that of (A^½ B A^½)^½: all symmetric, so that
    eigenvalues do. With fewer samples than features the covariances are singular and the distance too large.

    Raises:
        ValueError: the features differ in number, or a set has fewer than two.
    """
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise ValueError(f"features of shapes {one.shape} and {other.shape} can not be compared")
    if min(len(one), len(other)) < 2:
        raise ValueError("a covariance takes two samples or more")
    away = one.mean(axis=0) - other.mean(axis=0)
    first, second = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    common = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    return max(0.0, float(away @ away + np.trace(first) + np.trace(second) - 2 * common))


class Extractor:
    """What a network says of videos. Answers are kept in ``cache`` under the hash of network and video."""

    def __init__(self, network: Network, file: Path, cache: Path | None = None, device: str = "cpu") -> None:
        """``file``: TorchScript. It is code: load none from people whom you do not trust.

        Raises:
            FeaturesMissing: it is not there, or none that torch can read.
        """
        if not file.is_file():
            raise FeaturesMissing(f"there is no {file}: it takes {SOURCES[network]}")
        try:
            self._network: Any = torch.jit.load(str(file), map_location=device).eval()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise FeaturesMissing(f"{file} is no TorchScript file: it takes {SOURCES[network]}") from error
        self.network, self.device = network, device
        with file.open("rb") as stream:
            self._hash = hashlib.file_digest(stream, "sha256").hexdigest()
        self._cache = cache

    def __call__(self, frames: Frames) -> Floats:
        """Features of a video [F, H, W, 3]: [F, D] of each picture (Inception) or [1, D] of the whole (I3D).

        Raises:
            ValueError: too few frames for I3D.
            FeaturesMissing: the network takes no such input, so it is another one, or there is too little memory.
        """
        if self.network == "i3d" and len(frames) < FEWEST_FRAMES:
            raise ValueError(f"FVD takes videos of {FEWEST_FRAMES} frames or more, not {len(frames)}")
        kept = self._cache and self._cache / f"{self._name(frames)}.npy"
        if kept and kept.exists():
            return np.asarray(np.load(kept), np.float64)
        try:
            features = self._look(torch.from_numpy(np.ascontiguousarray(frames)).to(self.device))
        except (RuntimeError, TypeError) as error:
            reason = str(error).strip().rpartition("\n")[2]
            raise FeaturesMissing(f"the network fails ({reason}): it takes {SOURCES[self.network]}") from error
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(".part")
            with part.open("wb") as stream:
                np.save(stream, features)
            part.replace(kept)
        return features

    @torch.no_grad()
    def _look(self, frames: torch.Tensor) -> Floats:
        pictures = frames.permute(0, 3, 1, 2)  # uint8 [F, 3, H, W]; both networks resize them themselves
        if self.network == "i3d":
            video = pictures.permute(1, 0, 2, 3)[None].float()  # [1, 3, F, H, W], 0..255
            found = [self._network(video, rescale=True, resize=True, return_features=True)]
        else:
            found = [self._network(part, return_features=True) for part in torch.split(pictures, AT_ONCE)]
        features = torch.cat([part.flatten(1) for part in found])
        return np.asarray(features.double().cpu().numpy())

    def _name(self, frames: Frames) -> str:
        shape = "x".join(map(str, frames.shape))
        return hashlib.sha256(f"{self._hash} {shape} ".encode() + frames.tobytes()).hexdigest()
