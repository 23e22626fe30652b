"""Synthetic clips: their masks and tracks are what is drawn, and the signal is the one that inference paints."""

import numpy as np
import pytest
import torch
from torch import Tensor

from model import conditioning, painting
from model.conditioning import Entity
from training.config import Synthetic
from training.data import bank, motion
from training.data.clips import Clips
from training.data.masks import largest_disc
from training.data.scenes import Scene, render
from training.data.seeds import Draw, generator
from training.data.signal import Painter, build
from training.data.synthetic import SyntheticSource, to_clips
from training.samples import entities_of

CPU = torch.device("cpu")
LIVELY = Synthetic(sizes=((128, 64),), camera=(1.0, 1.0, 1.0, 1.0), moving_share=1.0, growing_share=0.5)


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(LIVELY, 3, CPU)


@pytest.fixture(scope="module")
def scene(source: SyntheticSource) -> Scene:
    return source.scene(0, 0, 0, 6, 5)


def test_a_position_gives_the_same_clips_again_and_another_one_others(source: SyntheticSource) -> None:
    first, again = source.batch(0, 3, 0, 2, 3), source.batch(0, 3, 0, 2, 3)
    for name, value in vars(first).items():
        if isinstance(value, Tensor):
            assert torch.equal(value, getattr(again, name)), name
    for other in (source.batch(0, 4, 0, 2, 3), source.batch(1, 3, 0, 2, 3), source.batch(0, 3, 1, 2, 3)):
        assert not torch.equal(first.frames, other.frames)


def test_training_and_evaluation_share_no_photograph() -> None:
    train, held_out = bank.load("train", CPU), bank.load("held_out", CPU)
    squares = [*train.squares[: train.natural], *held_out.squares[: held_out.natural]]
    assert held_out.natural == 4
    assert len({square.numpy().tobytes() for square in squares}) == train.natural + held_out.natural
    coffee = held_out.squares[2:4]
    distances = (train.squares[: train.natural, None] - coffee).abs().mean(dim=(2, 3, 4))
    assert distances.min() > 0.05


def test_masks_are_where_leaving_the_sprite_out_changes_the_picture(scene: Scene, source: SyntheticSource) -> None:
    frames, covers = render(scene, source.bank)
    for k in range(scene.present.shape[1]):
        without, _ = render(scene, source.bank, skip=k)
        shadowless = (scene.shadows[:, k] == 0)[:, None, None, None]
        changed = ((frames - without).abs().amax(dim=2) > 1e-4) & shadowless
        assert not (changed & (covers[:, k] == 0)).any()
        absent = ~scene.present[:, k]
        assert not covers[absent, k].any()
        assert torch.equal(frames[absent], without[absent])


def test_the_sprites_and_the_background_cover_every_pixel_once(scene: Scene, source: SyntheticSource) -> None:
    _, covers = render(scene, source.bank)
    total = covers.sum(dim=1)
    assert covers.min() >= 0
    assert total.max() <= 1 + 1e-5


def test_a_mask_moves_with_its_track(source: SyntheticSource) -> None:
    """Where nothing hides a sprite or cuts it off, its pixels' mean moves as its track does."""
    alone = Synthetic(
        sizes=((128, 128),),
        max_entities=1,
        entities=(1.0,),
        largest=0.06,
        moving_share=1.0,
        control_share=1.0,
        leaving_share=0.0,
        turning_share=0.0,
        growing_share=0.0,
        camera=(1.0, 0.0, 0.0, 0.0),
    )
    scene = SyntheticSource(alone, 1, CPU).scene(0, 0, 0, 12, 6)
    _, covers = render(scene, source.bank)
    weights = covers[:, 0] / covers[:, 0].sum(dim=(2, 3), keepdim=True)
    places = torch.arange(128) + 0.5
    mean = torch.stack([(weights.sum(dim=2) * places).sum(2), (weights.sum(dim=3) * places).sum(2)], dim=-1)
    border = torch.cat([covers[..., 0], covers[..., -1], covers[..., 0, :], covers[..., -1, :]], dim=-1)
    whole = (border == 0).flatten(1).all(dim=1)
    assert whole.sum() >= 3
    moved, tracked = mean - mean[:, :1], scene.tracks()[:, 0] - scene.tracks()[:, 0, :1]
    assert (moved - tracked)[whole].abs().max() < 0.1
    assert tracked[whole].abs().max() > 5


def test_a_track_starts_inside_its_mask(scene: Scene, source: SyntheticSource) -> None:
    _, covers = render(scene, source.bank)
    last = scene.present.sum(dim=1) - 1  # the one that nothing covers
    for b, k in enumerate(last.tolist()):
        x, y = scene.tracks()[b, k, 0].long().tolist()
        assert covers[b, k, 0, y, x] >= 0.5


def test_the_camera_carries_the_background_point_to_the_same_texture(source: SyntheticSource) -> None:
    clips = to_clips(source.scene(0, 1, 0, 8, 5), source.bank)
    x, y = clips.points[:, 0, 0].unbind(-1)
    background = clips.masks[:, 0]
    for b in range(8):
        assert background[b, int(y[b]), int(x[b])]


def test_motions_begin_at_zero_and_end_where_they_should() -> None:
    draw = Draw(generator("cpu", 1))
    travel = draw.uniform((200, 2), -50, 50)
    for kind in range(6):
        path = motion.walk(draw, (200,), 9, travel, torch.full((200,), kind))
        assert path[:, 0].abs().max() < 1e-4
        end = {motion.STATIC: 0 * travel, motion.BOUNCING: 0 * travel}.get(kind, travel)
        assert (path[:, -1] - end).abs().max() < 1e-2
        assert path.isfinite().all()


def test_scenes_have_the_variety_that_is_asked_for() -> None:
    scene = SyntheticSource(Synthetic(), 1, CPU).scene(0, 0, 0, 400, 2)
    held = scene.controlled[:, 0] | (scene.pan[:, -1].abs().amax(dim=1) > 0) | (scene.zoom[:, -1] != 1)
    assert held.float().mean() > 1 / 3
    area = torch.pi * scene.outlines.radius[scene.present] ** 2 / (192 * 128)
    assert 0.02 < area.min() < 0.06
    assert area.max() > 0.4
    assert set(scene.present.sum(dim=1).tolist()) == {1, 2, 3, 4}


def test_the_signal_is_the_one_that_inference_builds(source: SyntheticSource) -> None:
    clips = source.batch(0, 5, 0, 8, 4)
    signal = build(clips)
    painted = 0
    for b in range(8):
        entities = entities_of(clips, b)
        if not entities:
            assert not signal.heat[b].any()
            continue
        expected = conditioning.build(entities, clips.size, clips.size, 4)
        rows = clips.controlled[b].nonzero().flatten()
        assert np.array_equal(signal.heat[b].numpy(), expected.heat)
        numbers = np.concatenate([[0], rows.numpy() + 1]).astype(np.uint8)
        assert np.array_equal(signal.labels[b].numpy(), numbers[expected.labels])
        assert np.array_equal(signal.latent_masks[b, rows].numpy(), expected.latent_masks.astype(bool))
        painted += len(entities)
    assert painted > 8


def test_the_batched_painter_paints_what_the_pipelines_does() -> None:
    """Also across borders, outside of the picture, and one disc over another."""
    draw = Draw(generator("cpu", 2))
    batch, entities, frames, size = 3, 4, 12, (96, 64)
    points = draw.integer((batch, entities, frames, 2), 140) - 25
    sides = draw.integer((batch, entities, frames), 41)
    visible, discs = draw.flag((batch, entities, frames), 0.9), draw.flag((batch, entities), 0.8)
    heat, labels = Painter(CPU, 40).paint(points, sides, size, visible, discs)
    for b in range(batch):
        expected = painting.paint(
            points[b].int().numpy(),
            sides[b].int().numpy(),
            size,
            visible=visible[b].numpy(),
            discs=discs[b].tolist(),
        )
        assert np.array_equal(heat[b].numpy(), expected[0])
        assert np.array_equal(labels[b].numpy(), expected[1])


def test_the_largest_disc_touches_the_border_of_the_mask_and_of_the_picture() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[5:26, 10:31] = True
    assert largest_disc(mask)[:2] == (20.0, 15.0)
    assert largest_disc(mask)[2] == pytest.approx(11, abs=0.2)
    mask[:] = True
    assert largest_disc(mask)[2] == pytest.approx(20.5, abs=0.8)
    assert largest_disc(np.zeros((4, 4), np.bool_)) == (-1.0, -1.0, 0.0)


def test_entities_of_a_clip_are_valid_inputs(source: SyntheticSource) -> None:
    clips: Clips = source.batch(0, 9, 0, 4, 3)
    for b in range(4):
        for entity in entities_of(clips, b):
            assert isinstance(entity, Entity)
            assert entity.mask.any()
            assert entity.points.shape == (3, 2)


def test_sprites_are_as_thin_as_the_config_allows() -> None:
    def thinnest(stretch: float) -> float:
        options = Synthetic(
            sizes=((128, 128),), max_entities=1, entities=(1.0,), largest=0.04, leaving_share=0.0, stretch=stretch
        )
        source = SyntheticSource(options, 1, CPU)
        _, covers = render(source.scene(0, 0, 0, 24, 1), source.bank)
        weights = covers[:, 0, 0] / covers[:, 0, 0].sum(dim=(1, 2), keepdim=True)
        places = torch.arange(128) + 0.5

        def deviation(along: Tensor) -> Tensor:
            mean = (along * places).sum(dim=1, keepdim=True)
            return (along * (places - mean) ** 2).sum(dim=1).sqrt()

        ratio = deviation(weights.sum(dim=1)) / deviation(weights.sum(dim=2))
        return float(torch.maximum(ratio, 1 / ratio).max())

    assert thinnest(1.0) < 2 < 3 < thinnest(8.0)
