"""Origins tell where a moved sprite's content was, and an attention learns them from the loss."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.unit.training import micro
from training import networks, stages
from training.config import Config, Synthetic
from training.correspondence import CELL, INSIDE, Look, origins
from training.data.clips import Clips
from training.data.seeds import TRAIN, generator
from training.data.signal import build
from training.data.synthetic import SyntheticSource

CPU = torch.device("cpu")
SPRITE = Synthetic(
    sizes=((96, 64),),
    max_entities=1,
    entities=(1.0,),
    smallest=0.2,
    largest=0.3,
    moving_share=1.0,
    control_share=1.0,
    camera=(1.0, 0.0, 0.0, 0.0),
    leaving_share=0.0,
    turning_share=0.0,
    shadow_share=0.0,
    light_share=0.0,
)


@pytest.fixture
def clips() -> Clips:
    return SyntheticSource(SPRITE, 3, CPU, purpose=TRAIN).batch(0, 0, 0, 6, 4)


def test_origins_carry_the_picture_along_with_its_entity(clips: Clips) -> None:
    found = origins(clips)
    pooled = F.avg_pool2d(clips.frames.flatten(0, 1).float(), CELL)
    cells = pooled.reshape(*clips.frames.shape[:3], -1)
    carried = torch.einsum("bfnm,bcm->bfcn", found, cells[:, 0])
    there = found.sum(dim=-1) > 0.5
    there[:, 0] = False  # of frames in which something has moved
    wrong = (carried - cells).abs().mean(dim=2)[there].mean()
    still = (cells[:, :1] - cells).abs().mean(dim=2)[there].mean()
    assert there.sum() > 50
    assert wrong < 0.5 * still


def test_each_origin_is_one_place_or_none(clips: Clips) -> None:
    total = origins(clips).sum(dim=-1)
    assert torch.all(((total - 1).abs() < 1e-5) | (total == 0))
    assert 0 < (total > 0).float().mean() < 1


def test_entities_that_nobody_steers_have_no_origin(clips: Clips) -> None:
    steered = origins(clips)
    own = torch.eye(steered.shape[-1], dtype=torch.bool)
    carried = (steered * ~own).sum(dim=-1) > 0.5  # where something from elsewhere has come to
    clips.controlled[:] = False
    left = origins(clips)
    assert carried.sum() > 50
    assert not left[carried].any()
    assert torch.allclose(left, left * own, atol=1e-4)


def test_a_still_background_comes_from_itself_but_not_where_an_entity_stood(clips: Clips) -> None:
    clips.controlled[:] = False  # leaves the background alone
    found = origins(clips).diagonal(dim1=2, dim2=3)
    background = F.avg_pool2d(clips.masks[:, 0].float(), CELL).flatten(1)
    assert torch.allclose(found[:, 0], (background >= INSIDE).float(), atol=1e-4)
    assert not found[:, -1][background < INSIDE].any()


def test_the_first_frame_comes_from_itself(clips: Clips) -> None:
    first = origins(clips)[:, 0]
    own = torch.eye(first.shape[-1]) * (first.sum(dim=-1, keepdim=True) > 0)
    assert torch.allclose(first, own, atol=1e-4)


def test_the_loss_reaches_queries_keys_and_the_control(tmp_path: Path) -> None:
    content = micro.config(tmp_path, vae=0, entity=0, video=1)
    content["stages"][-1] |= {"look_weight": 1.0, "control_dropout": 0, "image_dropout": 0}
    config = Config.model_validate(content)
    parts = networks.build(config.networks, 1, CPU, torch.float32)
    stage = stages.make(config.stages[-1], parts, config)
    clips = SyntheticSource(SPRITE.model_copy(update={"sizes": ((64, 64),)}), 3, CPU, purpose=TRAIN).batch(
        0, 0, 0, 2, 3
    )
    _, metrics = stage(clips, build(clips), generator(CPU, 1), 0.0)
    metrics["look"].backward()
    attention = parts.unet.up_blocks[-1].attentions[0].transformer_blocks[0].attn1
    for weight in (
        attention.to_q.weight,
        attention.to_k.weight,
        parts.controlnet.controlnet_cond_embedding.conv_in.weight,
    ):
        assert weight.grad.abs().max() > 0


def test_a_perfect_look_costs_nothing_but_the_spread_of_its_target(clips: Clips) -> None:
    wanted = origins(clips)
    look = Look.__new__(Look)
    look.heads = 1
    cells = wanted.shape[-1]
    sharp = wanted.flatten(0, 1).clamp(min=1e-6).log() * cells**0.5
    look.queries, look.keys = sharp, torch.eye(cells).expand(len(sharp), -1, -1)
    spread = -(wanted * wanted.clamp(min=1e-9).log()).sum() / (wanted.sum(dim=-1) > 0).sum()
    assert look.loss(wanted) == pytest.approx(float(spread), abs=1e-2)
