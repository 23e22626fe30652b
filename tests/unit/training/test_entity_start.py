"""An entity encoder starts with the latents as features, so turned that entity vectors keep their colours."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.entity import TIMESTEP, EntityEncoder
from tests.unit.training import micro
from training import entity_start, networks
from training.conditions import last_up_block
from training.config import Config
from training.loop import Run

CPU = torch.device("cpu")


@pytest.fixture
def latents() -> torch.Tensor:
    """Of four channels, two of which hardly vary."""
    random = torch.Generator().manual_seed(1)
    return torch.randn(16, 4, 8, 8, generator=random) * torch.tensor([3.0, 0.1, 2.0, 0.2])[:, None, None]


def content(out: Path) -> dict[str, Any]:
    made = micro.config(out, vae=0, entity=1, video=0)
    overrides = made["networks"]["overrides"]
    encoder = {**overrides["entity_encoder/unet"], "block_out_channels": [4, 8]}
    controlnet = {**overrides["controlnet"], "entity_embedding_channels": [2, 4, 4, 8]}
    made["networks"]["overrides"] = {**overrides, "entity_encoder/unet": encoder, "controlnet": controlnet}
    made["stages"][0] |= {"linear_start": True, "lr": 1e-9}
    return made


@pytest.fixture
def encoder(tmp_path: Path) -> EntityEncoder:
    options = Config.model_validate(content(tmp_path)).networks
    return networks.build(options, 1, CPU, torch.float32).entity_encoder


def features(encoder: EntityEncoder, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return last_up_block(encoder, latents, TIMESTEP)


def unexplained(wanted: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """Share of the variance of maps [N, C, h, w] that no linear function of others explains, [C]."""
    target, values = (part.transpose(0, 1).flatten(1).T for part in (wanted, given))
    values = torch.cat([values, torch.ones(len(values), 1)], dim=1)
    left: torch.Tensor = (target - values @ torch.linalg.lstsq(values, target).solution).var(dim=0)
    return left / target.var(dim=0)


def test_means_of_neighbours_are_what_varies_most(encoder: EntityEncoder, latents: torch.Tensor) -> None:
    entity_start.install(encoder.unet, latents)
    means = features(encoder, latents).reshape(16, 2, 2, 8, 8).mean(dim=2)
    assert unexplained(latents, means)[[0, 2]].max() < 0.01
    assert unexplained(latents, means)[[1, 3]].min() > 0.5


def test_the_features_keep_all_of_the_latents(encoder: EntityEncoder, latents: torch.Tensor) -> None:
    entity_start.install(encoder.unet, latents)
    assert unexplained(latents, features(encoder, latents)).max() < 1e-4


def test_a_first_block_of_other_width_is_refused(encoder: EntityEncoder) -> None:
    with pytest.raises(ValueError, match="wants 6 channels"):
        entity_start.install(encoder.unet, torch.zeros(2, 6, 8, 8))


def test_a_run_starts_so(tmp_path: Path, latents: torch.Tensor) -> None:
    run = Run(Config.model_validate(content(tmp_path)))
    run.train()
    assert unexplained(features(run.parts.entity_encoder, latents), latents).max() < 1e-4
