"""A fresh UNet predicts what least squares found, from both its inputs, and can still learn everything."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.training import micro
from training import networks, stages, still_start
from training.config import Config
from training.data.seeds import generator
from training.data.signal import build
from training.networks import Parts
from training.objective import add_noise

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    content = micro.config(tmp_path, vae=0, entity=0, video=1)
    for part in ("unet", "controlnet"):
        changes = {"norm_num_groups": 2, "in_channels": 8}
        content["networks"]["overrides"] = {
            **content["networks"]["overrides"],
            part: {**content["networks"]["overrides"][part], **changes},
        }
    content["stages"][-1] |= {"still_start": True, "control_dropout": 0, "image_dropout": 0}
    return Config.model_validate(content)


@pytest.fixture
def parts(config: Config) -> Parts:
    return networks.build(config.networks, 1, CPU, torch.float32)


def arguments(random: torch.Generator) -> tuple[Tensor, ...]:
    sample = torch.randn(2, 3, 8, 8, 8, generator=random)
    return sample, torch.tensor([0.1, -0.3]), torch.randn(2, 1, 8, generator=random), torch.ones(2, 3)


def test_the_unet_predicts_the_fitted_combination(parts: Parts) -> None:
    coefficients = torch.tensor([[0.5, -1.0], [0.4, -0.9], [0.3, 0.2], [0.0, 1.0]])
    given = arguments(torch.Generator().manual_seed(1))
    still_start.install(parts.unet, parts.controlnet, coefficients, given)
    with torch.no_grad():
        found = parts.unet(*given)
    noised, picture = given[0].chunk(2, dim=2)
    expected = coefficients[:, :1, None] * noised + coefficients[:, 1:, None] * picture
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_least_squares_finds_what_made_the_target() -> None:
    random = torch.Generator().manual_seed(2)
    inputs = torch.randn(2, 3, 4, 5, 6, generator=random)
    noised, picture = inputs.chunk(2, dim=2)
    target = torch.stack([2 * noised[:, :, 0] - picture[:, :, 0], 0.5 * picture[:, :, 1]], dim=2)
    assert torch.allclose(still_start.fit([(inputs, target)]), torch.tensor([[2.0, -1.0], [0.0, 0.5]]), atol=1e-5)


def test_a_stage_begins_better_than_nothing_and_every_weight_can_learn(config: Config, parts: Parts) -> None:
    source = micro.source()
    stage: Any = stages.make(config.stages[0], parts, config)
    stage.begin(source, 0)
    clips = source.batch(0, 0, 0, 4, 3)
    optimizer = torch.optim.Adam([p for p in stage.parameters() if p.requires_grad], lr=1e-4)
    for step in range(2):
        _, metrics = stage(clips, build(clips), generator("cpu", 5), 0.0)
        optimizer.zero_grad()
        loss, _ = stage(clips, build(clips), generator("cpu", 5), 0.0)
        loss.backward()
        optimizer.step()
        if step == 0:
            latents = stage._latents(clips)
            sigmas = torch.full((4,), 3.0)
            nothing = add_noise(latents, torch.randn_like(latents), sigmas).target.square().mean()
            assert metrics["loss_large"] < nothing
    last = parts.unet.up_blocks[-1].resnets[-1]
    for conv in (last.spatial_res_block.conv1, last.temporal_res_block.conv1, parts.controlnet.conv_in):
        assert conv.weight.grad is not None
        assert conv.weight.grad.abs().max() > 0


def test_groups_that_are_too_narrow_are_refused() -> None:
    with pytest.raises(ValueError, match="18 channels, not 16"):
        still_start.places(16, 32, 2)
