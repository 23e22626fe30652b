"""Runs: they learn, they resume to the same figures after kill -9, and a full disk costs no checkpoint."""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from training import checkpoint, networks, stages
from training.config import Config, VideoStage
from training.data.seeds import generator
from training.data.signal import build
from training.log import read
from training.loop import Run, TrainingError
from training.stages.base import Stage
from training.stages.vae import VAETraining
from training.train import INCOMPLETE, _interruptible, main

from tests.unit.training import micro  # isort: skip

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore")


def curve(folder: Path) -> list[tuple[Any, ...]]:
    """Every figure of a log that does not come from a clock."""
    return [tuple(value for key, value in r.items() if key != "seconds") for r in read(folder / "log.jsonl")]


def stage_of(content: dict[str, Any], **changes: Any) -> tuple[Stage, networks.Parts]:
    options = VideoStage.model_validate({**content["stages"][-1], **changes})
    config = Config.model_validate({**content, "stages": [options.model_dump()]})
    parts = networks.build(config.networks, 1, CPU, torch.float32)
    return stages.make(options, parts, config), parts


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    return micro.config(tmp_path / "run", vae=0)


def test_one_clip_is_learned(content: dict[str, Any]) -> None:
    stage, parts = stage_of(content, control_dropout=0, image_dropout=0)
    clips = micro.source().batch(0, 0, 0, 1, 3)
    signal = build(clips)
    optimizer = torch.optim.AdamW(
        [p for m in parts.modules.values() for p in m.parameters() if p.requires_grad], 3e-3
    )

    def figure() -> float:
        with torch.no_grad():
            return sum(float(stage(clips, signal, generator("cpu", 9, i), 0.0)[0]) for i in range(3))

    before = figure()
    for step in range(16):
        loss, _ = stage(clips, signal, generator("cpu", 1, step), 0.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert figure() < 0.8 * before


def test_the_loss_mask_is_what_the_config_says(content: dict[str, Any]) -> None:
    clips = micro.source().batch(0, 2, 0, 2, 3)
    clips.weighted[:] = clips.weighted[:, :1]  # nothing moves: where it was is where it is
    assert 0 < clips.weighted.float().mean() < 1
    losses = {}
    for kind, weight in (("none", 3.0), ("weighted", 0.0), ("weighted", 3.0), ("entity", 3.0)):
        stage, _ = stage_of(content, loss_mask=kind, mask_weight=weight)
        loss, metrics = stage(clips, build(clips), generator("cpu", 4), 0.0)
        losses[kind, weight] = float(loss)
    halves = [float(metrics["loss_small"]), float(metrics["loss_large"])]
    assert any(losses["none", 3.0] == pytest.approx(x, rel=1e-5) for x in (*halves, sum(halves) / 2))
    assert losses["weighted", 0.0] == pytest.approx(losses["none", 3.0], rel=1e-6)
    expected = losses["none", 3.0] + 3 * losses["entity", 3.0]
    assert losses["weighted", 3.0] == pytest.approx(expected, rel=1e-5)


def test_only_what_is_trained_gets_gradients(content: dict[str, Any]) -> None:
    stage, parts = stage_of(content, train=["controlnet"], gradient_checkpointing=True)
    clips = micro.source().batch(0, 0, 0, 1, 3)
    stage(clips, build(clips), generator("cpu", 1), 0.0)[0].backward()
    for name, module in parts.modules.items():
        touched = [p.grad is not None for p in module.parameters()]
        assert any(touched) == (name == "controlnet"), name


def test_gradient_checkpointing_changes_no_gradient(content: dict[str, Any]) -> None:
    clips = micro.source().batch(0, 0, 0, 1, 3)
    found = []
    for again in (False, True):
        stage, parts = stage_of(content, gradient_checkpointing=again)
        stage(clips, build(clips), generator("cpu", 1), 0.0)[0].backward()
        found.append([p.grad for p in parts.controlnet.parameters() if p.grad is not None])
    assert len(found[0]) > 50
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_run_that_was_killed_resumes_to_the_same_figures(content: dict[str, Any], tmp_path: Path) -> None:
    content["stages"][-1] |= {"steps": 5, "accumulate": 2}
    path = micro.write(tmp_path / "c.yaml", {**content, "checkpoint_minutes": 1e-6})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-W", "ignore", "-m", "training.train", str(path), "--out", str(killed)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        told = b""
        while not re.search(rb"1 video [2-4]/5", told):
            piece = os.read(process.stderr.fileno(), 4096)
            assert piece, told.decode()
            told += piece
        process.send_signal(signal.SIGKILL)
    assert main([str(path), "--out", str(whole)]) == 0
    saved = checkpoint.read(killed / "checkpoint.pt")
    assert saved["stage"] == 1
    assert 0 < saved["step"] < 5
    assert main([str(path), "--out", str(killed), "--resume"]) == 0
    assert curve(killed) == curve(whole)
    first, second = (checkpoint.read(folder / "checkpoint.pt")["networks"] for folder in (whole, killed))
    for part, values in first.items():
        for key, value in values.items():
            assert torch.equal(value, second[part][key]), (part, key)


def test_a_stage_can_have_data_of_its_own(content: dict[str, Any], tmp_path: Path) -> None:
    video = content["stages"][-1]
    data = [{**content["data"], "sizes": [size]} for size in ([128, 64], [96, 64])]
    small, odd = ({**video, "steps": 1, "data": own} for own in data)
    content |= {"stages": [small, odd], "samples": {**content["samples"], "every": 1}}
    assert main([str(micro.write(tmp_path / "c.yaml", content)), "--out", str(tmp_path / "run")]) == 0
    (sheet,) = (tmp_path / "run" / "samples").glob("*.png")
    assert sheet.name == "0-0000001.png"  # no sample of a size that the pipeline does not make
    with Image.open(sheet) as image:
        assert image.size == (5 * 128, 2 * 64)


def test_kept_clips_change_nothing_when_a_run_is_resumed(content: dict[str, Any], tmp_path: Path) -> None:
    """The second run finds clips, latents and features on disk, the first one made them."""
    content |= {"cache": str(tmp_path / "cache"), "stages": [{**content["stages"][-1], "steps": 5, "clips": 4}]}
    curves = []
    for name in ("made", "found"):
        config = Config.model_validate({**content, "out": str(tmp_path / name)})
        assert Run(config).train()
        curves.append(curve(config.out))
    assert curves[0] == curves[1]
    assert len(list((tmp_path / "cache" / "clips").iterdir())) == 4


def test_what_does_not_change_is_computed_once(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known clip asks neither a frozen image encoder nor, where the picture has no noise, the VAE."""
    content |= {"cache": str(tmp_path / "cache")}
    changes = {"train": ["unet", "controlnet"], "noise_augmentation": 0, "clips": 4, "look_weight": 0}
    stage, parts = stage_of(content, **changes)
    clips = stage.source(micro.source()).batch(0, 0, 0, 2, 3)
    made = stage(clips, build(clips), generator("cpu", 4), 0.0)[0]
    for part in ("vae", "image_encoder"):
        monkeypatch.setattr(getattr(parts, part), "forward", None)
    monkeypatch.setattr(parts.vae, "encode", None)
    found = stage(clips, build(clips), generator("cpu", 4), 0.0)[0]
    noisy, _ = stage_of(content, **{**changes, "noise_augmentation": 1e-6})
    assert float(found) == float(made)
    assert float(noisy(clips, build(clips), generator("cpu", 4), 0.0)[0]) == pytest.approx(float(made), rel=1e-3)


def test_the_coarse_error_is_added_by_its_weight(content: dict[str, Any]) -> None:
    clips = micro.source().batch(0, 0, 0, 2, 3)
    plain, _ = stage_of(content)
    coarse, _ = stage_of(content, coarse_weight=3.0)
    loss, metrics = coarse(clips, build(clips), generator("cpu", 4), 0.0)
    fine = plain(clips, build(clips), generator("cpu", 4), 0.0)[0]
    assert 0 < float(metrics["coarse"]) < float(fine)
    assert float(loss) == pytest.approx(float(fine + 3 * metrics["coarse"]), rel=1e-5)


def test_kept_clips_need_a_cache(content: dict[str, Any]) -> None:
    content["stages"][-1]["clips"] = 4
    with pytest.raises(ValueError, match="set cache to a folder"):
        Config.model_validate(content)


def test_annealing_ends_at_rate_zero_and_leaves_the_run_to_go_on(content: dict[str, Any], tmp_path: Path) -> None:
    content["stages"] = [{**content["stages"][-1], "steps": 1000, "decay_from": 1.0, "warmup": 0}]
    path = str(micro.write(tmp_path / "c.yaml", content))
    out = Path(content["out"])
    assert main([path, "--max-minutes", "0"]) == INCOMPLETE
    before = (out / "checkpoint.pt").read_bytes()
    assert main([path, "--anneal", "4"]) == 0
    rates = [record["lr"] for record in read(out / "annealed" / "log.jsonl")]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])
    assert (out / "annealed" / "weights" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    assert (out / "checkpoint.pt").read_bytes() == before
    assert main([path, "--resume", "--max-minutes", "0"]) == INCOMPLETE
    assert checkpoint.read(out / "checkpoint.pt")["step"] == 2


def test_windows_of_a_clip_are_at_one_place_in_all_frames(tmp_path: Path) -> None:
    content = micro.config(tmp_path)
    content["stages"][0] |= {"crop": 16, "crops": 3}
    config = Config.model_validate(content)
    parts = networks.build(config.networks, 1, CPU, torch.float32)
    stage = stages.make(config.stages[0], parts, config)
    assert isinstance(stage, VAETraining)
    place = torch.arange(64 * 64).reshape(64, 64)
    frames = torch.stack([place + 10_000 * f for f in range(2)])[None, :, None].expand(2, -1, 3, -1, -1)
    windows = stage._crop(frames, generator("cpu", 1))
    assert windows.shape == (6, 2, 3, 16, 16)
    assert torch.equal(windows[:, 1] - windows[:, 0], torch.full((6, 3, 16, 16), 10_000))
    corners = {int(window[0, 0, 0, 0]) for window in windows}
    assert len(corners) > 3
    for window in windows:
        y, x = divmod(int(window[0, 0, 0, 0]), 64)
        assert torch.equal(window[0, 0], place[y : y + 16, x : x + 16])


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond `limit` bytes, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_former_checkpoint_whole(content: dict[str, Any]) -> None:
    config = Config.model_validate(content)
    assert not Run(config).train(max_minutes=0)
    former = checkpoint.read(config.out / "checkpoint.pt")
    assert (former["stage"], former["step"]) == (0, 1)
    with small_files(200_000), pytest.raises(checkpoint.CheckpointError, match=r"cannot write .*checkpoint\.pt"):
        Run(config, resume=True).train()
    assert not list(config.out.glob("*.new"))
    assert checkpoint.read(config.out / "checkpoint.pt")["step"] == 1
    assert Run(config, resume=True).train()


def test_a_full_disk_meanwhile_does_not_end_the_run(
    content: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    content["stages"] = content["stages"][:1]
    run = Run(Config.model_validate(content))
    with small_files(100_000):
        run._write(None)
    assert "training goes on" in "".join(capsys.readouterr())
    assert run.train()


def test_a_broken_checkpoint_is_an_error_not_a_start_from_scratch(content: dict[str, Any]) -> None:
    config = Config.model_validate(content)
    with pytest.raises(checkpoint.CheckpointError, match="there is no checkpoint"):
        Run(config, resume=True)
    (config.out / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(checkpoint.CheckpointError, match="cannot read"):
        Run(config, resume=True)
    with pytest.raises(TrainingError, match="--resume"):
        Run(config)


def test_a_termination_signal_leaves_a_checkpoint(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Config.model_validate(content))
    made = run.source.batch

    def batch(stage: int, step: int, rank: int, count: int, frames: int) -> Any:
        if (stage, step) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return made(stage, step, rank, count, frames)

    monkeypatch.setattr(run.source, "batch", batch)
    with _interruptible(run):
        assert not run.train()
    saved = checkpoint.read(run.config.out / "checkpoint.pt")
    assert (saved["stage"], saved["step"]) in {(1, 1), (1, 2), (1, 3)}


def test_samples_and_weights_are_left_behind(tmp_path: Path) -> None:
    content = micro.config(tmp_path, vae=2, entity=1, video=2)
    content["samples"]["every"] = 2
    config = Config.model_validate(content)
    assert Run(config).train()
    names = [f"{stage}-0000002.{kind}" for stage in (0, 2) for kind in ("png", "webp")]
    assert sorted(path.name for path in (config.out / "samples").iterdir()) == names
    assert sum(path.stat().st_size for path in (config.out / "weights").rglob("*.safetensors")) > 100_000


def test_exit_statuses(content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(micro.write(tmp_path / "c.yaml", content))
    assert main([path, "--max-minutes", "0"]) == INCOMPLETE
    assert main([path]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([path, "--resume", "--set", "stages.0.speed=1"]) == 2
    assert "stages.0" in capsys.readouterr().err
    assert main([path, "--resume", "--set", "nonsense"]) == 2
