"""A VAE begins where the best linear code is, and computes what the linear path does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.training import micro
from training import linear_code, linear_start, networks, stages
from training.config import Config
from training.linear_start import LinearPath
from training.loop import Run
from training.stages.base import measured

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.cat(measured(micro.source(), 0, 12))


@pytest.fixture
def vae() -> Any:
    config = Config.model_validate(micro.config(Path("unused")))
    return networks.build(config.networks, 1, CPU, torch.float32).vae


@pytest.fixture(scope="module")
def path(pixels: Tensor) -> LinearPath:
    widths = linear_start.Widths((6, 16, 24, 15), (32, 32, 32, 15), 4)
    return linear_start.fit(pixels[:32], widths, 25, torch.Generator().manual_seed(1))


def test_a_fitted_path_is_nearly_as_good_as_the_best_linear_code(path: LinearPath, pixels: Tensor) -> None:
    known, unseen = pixels[:32], pixels[32:]
    code = linear_code.fit(known, 4)
    best = linear_code.psnr(code.decode(code.encode(unseen)), unseen)
    assert linear_code.psnr(path.decode(path.encode(unseen)), unseen) > best - 1.5


def test_its_codes_are_standardised(path: LinearPath, pixels: Tensor) -> None:
    codes = path.encode(pixels[:32])
    assert codes.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    assert codes.std(dim=(0, 2, 3)).tolist() == pytest.approx([1] * 4, abs=1e-3)


@pytest.mark.parametrize("frames", [1, 4])
def test_the_vae_computes_what_the_path_does(path: LinearPath, pixels: Tensor, vae: Any, frames: int) -> None:
    linear_start.install(path, vae, pixels[:16])
    with torch.no_grad():
        posterior = vae.encode(pixels[32:]).latent_dist
        found = vae.decode(posterior.mode(), num_frames=frames).sample
        expected = path.decode(path.encode(pixels[32:]))
    assert (posterior.mode() - path.encode(pixels[32:])).abs().mean() < 0.02
    assert linear_code.psnr(found, expected.clamp(-1, 1)) > 35
    truth = pixels[32:]
    assert linear_code.psnr(found, truth) > linear_code.psnr(expected, truth) - 0.2


def test_everything_in_the_vae_can_still_learn(path: LinearPath, pixels: Tensor, vae: Any) -> None:
    """Branches that end in zeros get no gradient but at that end; after one step all get one."""
    linear_start.install(path, vae, pixels[:16])
    vae.requires_grad_(True)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        found = vae.decode(vae.encode(pixels[:4]).latent_dist.mode(), num_frames=2).sample
        (found - pixels[:4]).square().mean().backward()
        optimizer.step()
    still = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if "resnets" in name] == []


def test_a_vae_that_is_too_narrow_is_refused(vae: Any) -> None:
    vae.register_to_config(latent_channels=20)
    with pytest.raises(ValueError, match="42 channels"):
        linear_start.widths_of(vae)
    vae.register_to_config(norm_num_groups=2)
    with pytest.raises(ValueError, match="norm_num_groups 1"):
        linear_start.widths_of(vae)


def test_the_decoder_alone_can_be_trained_later(tmp_path: Path) -> None:
    content = micro.config(tmp_path, vae=1, entity=0, video=0)
    content["stages"][0] |= {"decoder_only": True, "ema": 0, "warmup": 0}
    run = Run(Config.model_validate(content))
    before = {key: value.clone() for key, value in run.parts.vae.state_dict().items()}
    run.train()
    changed = {key for key, value in run.parts.vae.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in changed} == {"decoder"}


def test_a_stage_begins_with_it(tmp_path: Path) -> None:
    content = micro.config(tmp_path, vae=2, entity=0, video=0)
    content["stages"][0]["linear_start"] = 3
    config = Config.model_validate(content)
    parts = networks.build(config.networks, 1, CPU, torch.float32)
    stages.make(config.stages[0], parts, config).begin(micro.source(), 0)
    pixels = torch.cat(measured(micro.source(), 0, 2))
    with torch.no_grad():
        found = parts.vae.decode(parts.vae.encode(pixels).latent_dist.mode(), num_frames=1).sample
    assert linear_code.psnr(found, pixels) > 18
