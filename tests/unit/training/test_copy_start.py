"""A fresh UNet predicts what least squares found of the places that its attention looks at."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.training import micro
from training import copy_start, networks, stages, still_start
from training.config import Config, ConfigError
from training.data.seeds import generator
from training.data.signal import build
from training.networks import Parts

CPU = torch.device("cpu")
COEFFICIENTS = torch.tensor([[0.5, -1.0], [0.4, -0.9], [0.3, 0.2], [0.0, 1.0]])


@pytest.fixture(params=[1, 2, 4])
def config(tmp_path: Path, request: pytest.FixtureRequest) -> Config:
    content = micro.config(tmp_path, vae=0, entity=0, video=1)
    for part in ("unet", "controlnet"):
        content["networks"]["overrides"] = {
            **content["networks"]["overrides"],
            part: {**content["networks"]["overrides"][part], "norm_num_groups": request.param},
        }
    content["stages"][-1] |= {"still_start": True, "look_weight": 0.5, "control_dropout": 0, "image_dropout": 0}
    return Config.model_validate(content)


@pytest.fixture
def parts(config: Config) -> Parts:
    return networks.build(config.networks, 1, CPU, torch.float32)


class Elsewhere:
    """An attention that looks one cell to the left, whatever it is asked."""

    def __call__(self, attn: Any, hidden: Tensor, *_arguments: Any, **_options: Any) -> Tensor:
        left = hidden.reshape(-1, 8, 8, hidden.shape[-1]).roll(1, dims=2).reshape(hidden.shape)
        values: Tensor = attn.to_out[0](attn.to_v(left))
        return values


def test_the_unet_predicts_the_fitted_combination_of_what_it_looks_at(parts: Parts) -> None:
    random = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 3, 8, 8, 8, generator=random)
    given = (sample, torch.tensor([0.1, -0.3]), torch.randn(2, 1, 8, generator=random), torch.ones(2, 3))
    still_start.install(parts.unet, parts.controlnet, COEFFICIENTS, given)
    copy_start.install(parts.unet, parts.controlnet, COEFFICIENTS, given)
    parts.unet.up_blocks[-1].attentions[0].transformer_blocks[0].attn1.set_processor(Elsewhere())
    with torch.no_grad():
        found = parts.unet(*given)
    noised, picture = sample.chunk(2, dim=2)
    expected = COEFFICIENTS[:, :1, None] * noised + COEFFICIENTS[:, 1:, None] * picture.roll(1, dims=-1)
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_a_stage_that_teaches_the_look_begins_so_and_can_learn_everything_on_the_way(
    config: Config, parts: Parts
) -> None:
    source = micro.source()
    stage: Any = stages.make(config.stages[0], parts, config)
    stage.begin(source, 0)
    clips = source.batch(0, 0, 0, 4, 3)
    for parameter in stage.parameters():
        parameter.grad = None
    loss, _ = stage(clips, build(clips), generator("cpu", 5), 0.0)
    loss.backward()
    block = parts.unet.up_blocks[-1]
    look = block.attentions[0].transformer_blocks[0].attn1
    for layer in (look.to_q, look.to_k, look.to_v, parts.unet.conv_in, block.resnets[0].spatial_res_block.conv1):
        assert layer.weight.grad.abs().max() > 0
    assert parts.controlnet.controlnet_cond_embedding.conv_in.weight.grad.abs().max() > 0


@pytest.mark.parametrize("config", [2], indirect=True)
def test_groups_that_are_too_narrow_are_refused(parts: Parts) -> None:
    with pytest.raises(ConfigError, match="20 channels, not 16"):
        copy_start.install(parts.unet, parts.controlnet, torch.zeros(12, 2), ())
