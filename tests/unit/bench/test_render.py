import json
from dataclasses import replace

import pytest
import torch

from bench.render import __main__ as command
from bench.render import grow, subjects
from bench.render.measure import relative
from bench.render.plain import Plain

SMALL = replace(subjects.SUBJECTS["tiny"], width=64, height=64, frames=2, steps=2, fast_steps=1, rounds=1)
PROMISED = (
    "ratio_exact_vs_plain",
    "ratio_exact_vs_hoisted",
    "ratio_exact_vs_compiled",
    "ratio_fast_vs_plain",
    "ms_per_step",
    "error_vs_fp32",
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(subjects.SUBJECTS, "tiny", SMALL)
    monkeypatch.setattr(grow, "FRAMES", (2, 3))
    monkeypatch.setattr(grow, "SIZES", ((64, 64), (128, 64)))
    monkeypatch.setattr(grow, "ENTITIES", (1, 2))


@pytest.mark.parametrize("high", [1.0, 3.0])
@torch.no_grad()
def test_the_plain_loop_computes_the_same_video(high: float) -> None:
    """Stock modules, written apart: what the bench compares with is the same work, and ours is right."""
    pipeline = subjects.build(SMALL, "cpu", torch.float32)
    c = subjects.condition(pipeline, SMALL, 2)
    plain = Plain(pipeline, torch.float32)
    ours = pipeline.denoise(c, num_inference_steps=2, max_guidance_scale=high)
    for hoisted in (False, True):
        assert relative(ours, plain.denoise(c, 2, high, hoisted=hoisted)) < 1e-4
    pixels = (plain.decode(ours, 8) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1) * 255
    assert (pixels.round() - torch.from_numpy(pipeline.decode(ours)).float()).abs().max() <= 1


def test_it_prints_one_json_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--preset", "tiny", "--no-compile", "--json"])
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert set(PROMISED) <= set(record)
    assert record["ratio_exact_vs_compiled"] is None
    assert "--no-compile" in printed.err
    assert record["ratio_exact_vs_plain"] > 0
    assert record["error_vs_fp32"] < 1e-4
    assert record["drift_of_sparse"] > 0
    assert set(record["variants"]) == {"plain", "hoisted", "exact", "sparse", "fast"}


def test_growth_is_a_table_with_its_powers(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--grow", "--rounds", "1", "--json"])
    record = json.loads(capsys.readouterr().out)
    assert list(record["frames"]) == ["2", "3", "power"]
    assert set(record["pixels"]["4096"]) == {"conditioning_ms", "step_ms", "decoding_ms", "activations_mb"}
    assert 0.5 < record["pixels"]["power"]["activations_mb"] < 1.5
