"""The Fréchet distance is the one of the books, and features come from the network that was named, once."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.frechet import Extractor, FeaturesMissing, Network, frechet_distance

Floats = NDArray[np.float64]


def features(mean: Floats, deviations: Floats, count: int = 400, seed: int = 1) -> Floats:
    """Samples with exactly this mean and this diagonal covariance."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(axis=0)
    whitened = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    return np.asarray(whitened * deviations + mean)


def test_equal_sets_are_at_zero_and_a_shift_counts_squared() -> None:
    one = np.random.default_rng(2).normal(size=(50, 6)) @ np.random.default_rng(3).normal(size=(6, 6))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one[::-1] + 3) == pytest.approx(6 * 9)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    means, deviations = np.array([[0.0, 1, -2], [1, 1, 3]]), np.array([[1.0, 2, 0.5], [3, 0.1, 0.5]])
    found = frechet_distance(features(means[0], deviations[0]), features(means[1], deviations[1], 300, seed=5))
    expected = ((means[0] - means[1]) ** 2).sum() + ((deviations[0] - deviations[1]) ** 2).sum()
    assert found == pytest.approx(expected)


def test_it_agrees_with_a_matrix_square_root() -> None:
    random = np.random.default_rng(7)
    one, other = (random.normal(size=(40, 5)) @ random.normal(size=(5, 5)) + random.normal(size=5) for _ in "ab")
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = mpmath.sqrtm(mpmath.matrix((first @ second).tolist()))
    trace = float(mpmath.re(sum(root[i, i] for i in range(5))))
    away = one.mean(axis=0) - other.mean(axis=0)
    expected = away @ away + np.trace(first) + np.trace(second) - 2 * trace
    assert frechet_distance(one, other) == pytest.approx(expected)
    assert frechet_distance(other, one) == pytest.approx(expected)


def test_fewer_samples_than_features_are_no_error_but_one_is() -> None:
    random = np.random.default_rng(4)
    assert frechet_distance(random.normal(size=(4, 9)), random.normal(size=(5, 9))) > 0
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(random.normal(size=(1, 9)), random.normal(size=(5, 9)))
    with pytest.raises(ValueError, match="can not be compared"):
        frechet_distance(random.normal(size=(4, 9)), random.normal(size=(5, 8)))


class Pictures(nn.Module):
    """Called as the Inception of the TorchScript file is: mean colours."""

    def forward(self, pictures: Tensor, return_features: bool = False) -> Tensor:
        assert return_features
        assert pictures.dtype == torch.uint8
        return pictures.float().mean(dim=[2, 3])


class Videos(nn.Module):
    """Called as I3D is: the mean of each colour, and the range."""

    def forward(
        self, videos: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> Tensor:
        assert rescale and resize and return_features  # noqa: PT018 - TorchScript
        return torch.cat([videos.mean(dim=[2, 3, 4]), videos.flatten(1).max(dim=1).values[:, None]], dim=1)


@pytest.fixture
def files(tmp_path: Path) -> dict[Network, Path]:
    networks: dict[Network, nn.Module] = {"inception": Pictures(), "i3d": Videos()}
    for name, module in networks.items():
        with pytest.warns(DeprecationWarning, match=r"torch\.jit"):
            torch.jit.script(module).save(tmp_path / f"{name}.pt")  # type: ignore[no-untyped-call]
    return {name: tmp_path / f"{name}.pt" for name in networks}


VIDEO = np.random.default_rng(1).integers(0, 256, (12, 8, 10, 3), np.uint8)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def test_features_are_those_of_the_network(files: dict[Network, Path]) -> None:
    pictures = Extractor("inception", files["inception"])(VIDEO)
    assert pictures == pytest.approx(VIDEO.mean(axis=(1, 2)), rel=1e-5)
    video = Extractor("i3d", files["i3d"])(VIDEO)
    assert video == pytest.approx(np.array([[*VIDEO.mean(axis=(0, 1, 2)), VIDEO.max()]]), rel=1e-5)


def test_what_was_looked_at_is_not_looked_at_again(
    files: dict[Network, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    first = Extractor("inception", files["inception"], cache)(VIDEO)
    extractor = Extractor("inception", files["inception"], cache)
    looked: list[tuple[int, ...]] = []

    def look(frames: Tensor) -> Floats:
        looked.append(tuple(frames.shape))
        return first

    monkeypatch.setattr(extractor, "_look", look)
    assert (extractor(VIDEO) == first).all()
    assert looked == []
    extractor(VIDEO[:11])
    assert looked == [(11, 8, 10, 3)], "another video"
    other = Extractor("i3d", files["i3d"], cache)
    assert other(VIDEO).shape == (1, 4), "another network has answers of its own"
    assert not list(cache.glob("*.part"))


def test_what_is_missing_is_named(files: dict[Network, Path], tmp_path: Path) -> None:
    with pytest.raises(FeaturesMissing, match=r"there is no .*inception-2015-12-05\.pt"):
        Extractor("inception", tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(FeaturesMissing, match=r"no TorchScript file.*i3d_torchscript\.pt"):
        Extractor("i3d", tmp_path / "text.pt")
    with pytest.raises(FeaturesMissing, match="the network fails"):
        Extractor("i3d", files["inception"])(VIDEO)
    with pytest.raises(ValueError, match="10 frames"):
        Extractor("i3d", files["i3d"])(VIDEO[:9])
