"""Origins tell where a moved sprite's content was, and an attention learns them from the loss."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from tests.unit.training import micro
from training import networks, stages
from training.config import Config, Synthetic, VideoStage
from training.correspondence import (
    CELL,
    EASY,
    ENTITY,
    GAP,
    GROUND,
    NONE,
    SPAN,
    WHOLE,
    Look,
    Places,
    find_origins,
    grid,
    weights,
)
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
    found = find_origins(clips)
    pooled = F.avg_pool2d(clips.frames.flatten(0, 1).float(), CELL)
    cells = pooled.reshape(*clips.frames.shape[:3], -1)
    carried = torch.einsum("bfnm,bcm->bfcn", found.places, cells[:, 0])
    for kind, share in ((ENTITY, 0.5), (GAP, 0.8)):
        there = found.kinds == kind
        wrong = (carried - cells).abs().mean(dim=2)[there].mean()
        still = (cells[:, :1] - cells).abs().mean(dim=2)[there].mean()
        assert there.sum() > 50
        assert wrong < share * still, kind


def test_each_origin_is_one_place_or_none(clips: Clips) -> None:
    clips.controlled[0] = False
    found = find_origins(clips)
    total = found.places.sum(dim=-1)
    assert torch.allclose(total, (found.kinds != NONE).float(), atol=1e-5)
    assert (found.kinds == NONE).any()
    assert found.places.min() >= 0


def test_entities_that_nobody_steers_have_no_origin(clips: Clips) -> None:
    steered = find_origins(clips).kinds == ENTITY
    clips.controlled[:] = False
    left = find_origins(clips)
    assert steered.sum() > 50
    assert not left.places[steered].any()
    assert not (left.kinds == ENTITY).any()


def test_a_still_background_comes_from_itself_and_what_is_uncovered_from_nearby(clips: Clips) -> None:
    found = find_origins(clips)
    own = found.places.diagonal(dim1=2, dim2=3)
    ground = (found.kinds == GROUND) & (found.owners == 0)
    assert (own[ground] - 1).abs().max() < 1e-4
    gap = found.kinds == GAP
    assert not own[gap].any()
    covered = F.avg_pool2d(clips.masks[:, 0].float(), CELL).flatten(1) < WHOLE
    from_entity = (found.places * covered[:, None, None]).sum(dim=-1)
    assert from_entity[gap].max() < 1e-3


def test_the_first_frame_comes_from_itself(clips: Clips) -> None:
    first = find_origins(clips).places[:, 0]
    own = torch.eye(first.shape[-1]) * (first.sum(dim=-1, keepdim=True) > 0)
    assert torch.allclose(first, own, atol=1e-4)


def test_a_small_entity_counts_about_as_much_as_a_large_one(clips: Clips) -> None:
    found = find_origins(clips)
    shares = weights(found)
    of_kind = [float(shares[found.kinds == kind].sum()) for kind in (ENTITY, GROUND, GAP, NONE)]
    assert of_kind == pytest.approx([1, EASY, EASY, 0], abs=1e-5)
    sizes = (found.kinds == ENTITY).sum(dim=(1, 2))
    each = [float(part[kinds == ENTITY].sum()) for part, kinds in zip(shares, found.kinds, strict=True)]
    assert max(each) / min(each) < float(sizes.max() / sizes.min())


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


@pytest.fixture
def places(tmp_path: Path) -> Places:
    parts = networks.build(Config.model_validate(micro.config(tmp_path)).networks, 1, CPU, torch.float32)
    return Places(parts.unet, parts.controlnet)


def test_channels_that_say_where_they_are_and_where_from_cost_nothing(clips: Clips, places: Places) -> None:
    found, size = find_origins(clips), (12, 8)
    cells = grid(size).float()
    truth = torch.stack([(cells - torch.tensor([5.5, 3.5])).expand(24, -1, -1), torch.zeros(24, 96, 2)])
    entity = (found.kinds == ENTITY).flatten(0, 1)[..., None]
    truth[1] = (cells - found.places.flatten(0, 1) @ cells) * entity
    said = F.avg_pool2d(torch.cat([*truth], dim=-1).transpose(1, 2).reshape(24, 4, 8, 12), 2) / SPAN
    places.said = {torch.nn.Identity(): said}
    loss, apart = places.loss(found, size)
    assert apart["place"] < 1e-5
    assert apart["shift"] < 0.5  # where an entity ends within 2 x 2 cells
    places.said = {torch.nn.Identity(): said + 1 / SPAN}
    assert places.loss(found, size)[0] > loss + 1
    assert float(places.loss(found, size)[1]["place"]) == pytest.approx(2**0.5, abs=1e-4)


def test_places_are_taught_to_three_blocks(tmp_path: Path) -> None:
    content = micro.config(tmp_path, vae=0, entity=0, video=1)
    content["stages"][-1] |= {"look_weight": 1.0, "place_weight": 1.0, "control_dropout": 0, "image_dropout": 0}
    config = Config.model_validate(content)
    parts = networks.build(config.networks, 1, CPU, torch.float32)
    stage: Any = stages.make(config.stages[-1], parts, config)
    clips = micro.source().batch(0, 0, 0, 2, 3)
    loss, metrics = stage(clips, build(clips), generator(CPU, 1), 0.0)
    assert {"place", "shift"} <= set(metrics)
    assert len(stage.places.said) == 3
    assert all(said.requires_grad for said in stage.places.said.values())
    without = Config.model_validate({**content, "stages": [{**content["stages"][-1], "place_weight": 0.0}]})
    other, _ = stages.make(without.stages[-1], parts, without)(clips, build(clips), generator(CPU, 1), 0.0)
    taught, _ = stage.places.loss(find_origins(clips), (8, 8))
    assert float((loss - other).detach()) == pytest.approx(float(taught.detach()), rel=1e-3)


def test_places_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="place_weight wants look_weight"):
        VideoStage.model_validate({**micro.VIDEO, "steps": 1, "place_weight": 1.0})


def test_a_perfect_look_costs_nothing_but_the_spread_of_its_target(clips: Clips) -> None:
    wanted = find_origins(clips)
    look = Look.__new__(Look)
    look.heads = 1
    cells = wanted.places.shape[-1]
    sharp = wanted.places.flatten(0, 1).clamp(min=1e-6).log() * cells**0.5
    look.queries, look.keys = sharp, torch.eye(cells).expand(len(sharp), -1, -1)
    spread = (torch.special.entr(wanted.places).sum(dim=-1) * weights(wanted)).sum()
    loss, apart = look.loss(wanted)
    assert loss == pytest.approx(float(spread), abs=1e-2)
    assert max(map(float, apart.values())) < 1e-2
    look.queries = sharp.flip(0)
    assert look.loss(wanted)[0] > loss + 1
