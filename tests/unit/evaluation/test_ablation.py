"""The ablation at the smallest size: every row is trained and measured, and differs in what its name says."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluation import ablation
from evaluation.ablation import ROWS, Row, load_row
from tests.unit.training import micro
from training.config import Config, ConfigError, VideoStage
from training.loop import Run

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    return micro.config(tmp_path / "run", vae=1, entity=1, video=1)


def test_the_table_has_a_row_for_every_part() -> None:
    stage = VideoStage.model_validate({**micro.VIDEO, "steps": 1})
    for row in ROWS[1:]:
        changed = VideoStage.model_validate(stage.model_dump() | row.changes)
        assert len(set(changed.model_dump().items()) ^ set(stage.model_dump().items())) == 2, row.name


def test_the_command_trains_and_measures_each_row_once(
    content: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    path = str(micro.write(tmp_path / "c.yaml", content))
    command = [
        path,
        "--steps",
        "2",
        "--clips",
        "1",
        "--rows",
        "full model",
        "Gaussian only",
        "classifier features",
    ]
    assert ablation.main([*command, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [row["row"] for row in table] == command[-3:]
    assert "pip install" in table[-1]["skipped"]
    for row in table[:-1]:
        assert row["steps"] == 2
        assert row["step_s"] > 0
        assert {"control", "uncontrolled", "frozen", "truth"} <= set(row["objmc"])
    monkeypatch.setattr(Run, "_accumulate", None)  # nothing is trained a second time
    assert ablation.main(command[:-1]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in printed] == ["row", "still video", "full model", "Gaussian only"]


@pytest.mark.parametrize(("control", "heat", "labels"), [("gaussian", 1, 0), ("entity", 0, 1), ("none", 0, 0)])
def test_a_row_sees_in_use_what_it_saw_in_training(
    content: dict[str, Any], control: str, heat: int, labels: int
) -> None:
    stage = VideoStage.model_validate({**micro.VIDEO, "steps": 1, "control": control})
    config = Config.model_validate({**content, "stages": [stage.model_dump()]})
    Run(config).train()
    embedding = load_row(config, stage).controlnet.controlnet_cond_embedding
    plain = load_row(config, stage.model_copy(update={"control": "both"})).controlnet.controlnet_cond_embedding
    random = torch.Generator().manual_seed(1)
    seen_heat = torch.randint(256, (2, 64, 64), generator=random, dtype=torch.uint8)
    seen_labels = torch.randint(3, (2, 64, 64), generator=random, dtype=torch.uint8)
    table = torch.randn(2, 4, generator=random)
    expected = plain(seen_heat * heat, seen_labels * labels, table)
    assert torch.equal(embedding(seen_heat, seen_labels, table), expected)
    assert not torch.equal(expected, plain(seen_heat, seen_labels, table))


def test_guidance_without_time_gives_every_frame_its_own_residuals(content: dict[str, Any]) -> None:
    outputs = {}
    for temporal in (True, False):
        stage = VideoStage.model_validate({**micro.VIDEO, "steps": 1, "temporal_guidance": temporal})
        changes = {"out": f"{content['out']}-{temporal}", "stages": [stage.model_dump()]}
        config = Config.model_validate({**content, **changes})
        Run(config).train()
        net = load_row(config, stage).controlnet
        random = torch.Generator().manual_seed(1)
        sample, condition = (torch.randn(1, 3, c, 8, 8, generator=random) for c in (8, 32))
        others = sample.clone()
        others[:, 1:] += 1
        time, context, ids = torch.zeros(1), torch.zeros(1, 1, 8), torch.zeros(1, 3)
        with torch.no_grad():
            first, second = (net(x, time, context, ids, condition[0])[1] for x in (sample, others))
        outputs[temporal] = float((first[0] - second[0]).abs().max())
    assert outputs[False] == 0
    assert outputs[True] > 1e-4


def test_rows_start_from_the_same_numbers(content: dict[str, Any]) -> None:
    config = Config.model_validate(content)
    rows = (Row("one"), Row("two", {"loss_mask": "none"}))
    first, second = ablation.ablate(config, rows, steps=1, clips=1, seed=1)
    assert np.isfinite([row["objmc"]["truth"]["mean"] or 0 for row in (first, second)]).all()
    outs = [config.model_copy(update={"out": config.out / row.name}) for row in rows]
    weights = [Run(out, resume=True).parts.unet.conv_in.weight for out in outs]
    assert not torch.equal(*weights)
    assert (weights[0] - weights[1]).abs().max() < 0.01


def test_a_config_without_a_video_stage_is_an_error(content: dict[str, Any]) -> None:
    content["stages"] = content["stages"][:1]
    with pytest.raises(ConfigError, match="kind video"):
        ablation.ablate(Config.model_validate(content), ROWS, steps=1, clips=1, seed=1)
