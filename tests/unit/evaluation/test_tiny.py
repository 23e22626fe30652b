"""The tracker is calibrated: truth scores zero, a frozen picture exactly the still baseline."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluation import tiny
from evaluation.tracker import Template, explain, match
from model.presets import Defaults
from training import networks
from training.config import Config
from training.data.scenes import render
from training.data.seeds import EVALUATE
from training.data.synthetic import SyntheticSource, to_clips

from tests.unit.training import micro  # isort: skip

CPU = torch.device("cpu")


def square(x: int, y: int, colour: float) -> torch.Tensor:
    frame = torch.full((3, 32, 48), 0.5)
    frame[:, y : y + 6, x : x + 6] = colour
    return frame


@pytest.mark.parametrize("place", [(4, 4), (30, 20), (40, 2), (0, 26)])
def test_a_sprite_is_found_where_it_is(place: tuple[int, int]) -> None:
    plain = torch.full((3, 32, 48), 0.5)
    mask = (square(10, 10, 1.0) != plain)[0].float()
    template = Template(square(10, 10, 1.0), mask, torch.tensor([13.0, 13.0]))
    expected = [place[0] + 3, place[1] + 3]
    assert match(square(*place, 1.0), [template]).tolist() == expected
    assert explain(square(*place, 1.0), plain[None], [template]).tolist() == expected
    pale = explain(square(*place, 0.8), plain[None], [template])
    assert (pale - torch.tensor(expected)).abs().max() <= 1  # half of what the border cuts off is blurred away


def chequered() -> Template:
    """Of more contrast in itself than between its mean and the grey around it."""
    frame, mask = torch.full((3, 64, 96), 0.5), torch.zeros(64, 96)
    y, x = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    frame[:, 10:30, 10:30] = 0.3 + 0.7 * ((x + y) % 2)
    mask[10:30, 10:30] = 1
    return Template(frame, mask, torch.tensor([20.0, 20.0]))


@pytest.mark.parametrize("place", [(50, 30), (10, 10), (70, 4)])
def test_a_blob_of_the_mean_colour_is_found(place: tuple[int, int]) -> None:
    plain = torch.full((3, 64, 96), 0.5)
    frame = plain.clone()
    frame[:, place[1] : place[1] + 20, place[0] : place[0] + 20] = 0.65
    found = explain(frame, plain[None], [chequered()])
    assert (found - torch.tensor([place[0] + 10, place[1] + 10])).abs().max() <= 1


def test_what_is_gone_is_not_looked_for_beyond_the_frame() -> None:
    plain = torch.full((3, 64, 96), 0.5)
    for found in (explain(plain, plain[None], [chequered()]), match(plain, [chequered()])):
        assert 0 <= found[0] <= 96
        assert 0 <= found[1] <= 64


def test_truth_scores_zero_and_frozen_the_still_baseline() -> None:
    source = SyntheticSource(tiny.scenes_of(96, 64), 5, CPU, split="held_out", purpose=EVALUATE)
    looked_at = 0
    for clip in range(4):
        scene = source.scene(0, clip, 0, 1, 5)
        clips = to_clips(scene, source.bank)
        truth, _ = render(scene, source.bank)
        videos = {"truth": truth[0], "frozen": truth[0, :1].expand(5, -1, -1, -1)}
        for k in clips.controlled[0, 1:].nonzero().flatten().tolist():
            track = clips.points[0, k + 1]
            found = tiny._find(scene, source, videos, k, track)
            still = (track - track[0]).norm(dim=1)
            for distances in (found["truth"].blob, found["truth"].template):
                assert distances[~distances.isnan()].abs().max() < 1e-4
            for distances in (found["frozen"].blob, found["frozen"].template):
                seen = ~distances.isnan()
                assert torch.allclose(distances[seen], still[seen], atol=1e-4)
                looked_at += int(seen.sum())
    assert looked_at > 20


def test_the_report_has_every_figure() -> None:
    config = Config.model_validate(micro.config(Path("unused")))
    parts = networks.build(config.networks, 1, CPU, torch.float32)
    parts = replace(parts, defaults=Defaults(width=64, height=64, max_guidance_scale=1.0))
    pipeline = networks.pipeline_of(parts, {}, CPU)
    figures = tiny.evaluate(pipeline, seed=2, count=2, frames=3, steps=1)
    assert figures["moving_entities"] > 0
    for name in ("objmc", "objmc_template"):
        assert figures[name]["truth"]["mean"] < 1e-3
        assert figures[name]["frozen"]["mean"] > 2
        assert figures[name]["of_still"] == figures[name]["control"]["mean"] / figures[name]["frozen"]["mean"]
    vae = tiny.reconstruction(pipeline, seed=2)
    assert vae["gain"] == vae["psnr"] - vae["linear_psnr"]
    assert 15 < vae["linear_psnr"] < 40
    assert dict(tiny._lines(figures))["objmc.truth.mean"].startswith("0.00")
