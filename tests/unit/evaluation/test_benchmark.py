"""The benchmark from a data set's folders to its tables, at the smallest size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from evaluation import benchmark
from evaluation.clips import Clip, Clips, Selection
from evaluation.makers import Local, stretch
from evaluation.setscores import measure, summary
from evaluation.tracking import FlowTracker
from evaluation.videos import VideosMissing, load, save
from model.pipeline import DragAnythingPipeline
from model.presets import Defaults
from tests.unit.training import micro
from training import networks
from training.config import Config
from training.data.folders import BrokenVideo

FRAMES = 4
SIZE = (96, 64)
PICTURE = np.random.default_rng(3).integers(0, 256, (64, 96, 3), np.uint8)
pytestmark = pytest.mark.filterwarnings("ignore")


def video(root: Path, images: str, masks: str, things: tuple[int, int], frames: int = FRAMES) -> None:
    """Two squares, of which the first moves 4 px a frame."""
    for f in range(frames):
        ids = np.zeros((64, 96), np.uint16 if max(things) > 255 else np.uint8)
        ids[10:30, 5 + 4 * f : 25 + 4 * f], ids[45:58, 70:83] = things
        for path, pixels in ((root / images / f"{f:05d}.jpg", PICTURE), (root / masks / f"{f:05d}.png", ids)):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.fixture
def vipseg(tmp_path: Path) -> Path:
    root = tmp_path / "vipseg"
    for name in ("a", "b"):
        video(root, f"imgs/{name}", f"panomasks/{name}", (6100, 23))
    video(root, "imgs/short", "panomasks/short", (6100, 23), frames=2)
    (root / "val.txt").write_text("a\nb\nshort\n")
    return root


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "davis"
    video(root, "JPEGImages/480p/cow", "Annotations/480p/cow", (1, 2))
    video(root, "JPEGImages/480p/pig", "Annotations/480p/pig", (1, 2))
    (root / "JPEGImages/480p/pig/00001.jpg").unlink()
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("cow\npig\n")
    return root


def selection(kind: Any, root: Path, **changes: Any) -> Selection:
    return Selection(kind, root, size=SIZE, frames=FRAMES, **changes)


def test_vipseg_with_published_tracks(vipseg: Path, tmp_path: Path) -> None:
    tracks = tmp_path / "tracks"
    tracks.mkdir()
    far = [[10, 20], [-6, 20], [300, 20], [40, 20]]
    for name, known in (("a", {"6100": far}), ("b", {"6100": far[:3], "23": far, "99": far})):
        (tracks / f"{name}.json").write_text(json.dumps(known))
    clips = Clips(selection("vipseg", vipseg, tracks=tracks))
    first, second = clips
    assert (first.name, first.size, first.original, len(first.frames)) == ("a", SIZE, SIZE, FRAMES)
    assert first.tracks.tolist() == [far], "points outside stay what they are"
    assert (first.masks[0] == first.covers[0, 0]).all()
    assert first.masks[0].sum() == 400
    assert first.background.tolist() == [False]
    assert second.background.tolist() == [True], "only entities with a whole track are used"
    assert "too short" in clips.skipped["short"]
    counted = measure(first, first.frames, FlowTracker()).counted
    assert counted.tolist() == [[False, False, False, True]]


def test_vipseg_without_tracks_follows_the_masks(vipseg: Path) -> None:
    clip = next(iter(Clips(selection("vipseg", vipseg))))
    assert clip.background.tolist() == [True, False]
    assert np.diff(clip.tracks[1], axis=0).tolist() == [[4, 0]] * 3
    assert (clip.tracks[0] == clip.tracks[0, 0]).all()


def test_davis(davis: Path) -> None:
    clips = Clips(selection("davis", davis))
    (cow,) = clips
    assert (cow.name, len(cow.masks)) == ("cow", 2)
    assert not cow.background.any()
    assert "broken files" in clips.skipped["pig"]
    with pytest.raises(BrokenVideo, match=r"train\.txt does not exist"):
        Clips(selection("davis", davis, split="train"))


def test_synthetic_clips_have_true_tracks_and_masks() -> None:
    clips = list(Clips(Selection("synthetic", size=(192, 128), frames=14, clips=4, seed=4)))
    assert clips
    found = [measure(clip, clip.frames, FlowTracker()) for clip in clips]
    still = summary([measure(clip, np.repeat(clip.frames[:1], 14, axis=0), FlowTracker()) for clip in clips])
    entities = [
        distances[counted].mean()
        for video in found
        for distances, counted in zip(video.distances, video.counted, strict=True)
        if counted.any()
    ]
    assert np.median(entities) < 3 < still["objmc"] / 3
    assert summary(found)["mask_iou"] > max(0.7, still["mask_iou"])


def test_a_longer_path_goes_the_same_way() -> None:
    path = np.array([[[0, 0], [4, 2], [4, 6.0]]])
    assert stretch(path, 1).tolist() == path.tolist()
    longer = stretch(path, 4)
    assert longer.shape == (1, 9, 2)
    assert longer[:, ::4].tolist() == path.tolist()
    assert longer[0, 1].tolist() == [1, 0.5]
    assert stretch(path[:, :1], 3).tolist() == path[:, :1].tolist()


@pytest.fixture(scope="module")
def pipeline() -> DragAnythingPipeline:
    config = Config.model_validate(micro.config(Path("unused")))
    parts = networks.build(config.networks, 1, torch.device("cpu"), torch.float32)
    parts = replace(parts, defaults=Defaults(width=64, height=64, max_guidance_scale=1.0))
    return networks.pipeline_of(parts, {}, torch.device("cpu"))


class Recorded:
    """A pipeline that only remembers what it was asked, and shifts the picture."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, image: NDArray[np.uint8], entities: list[Any], *, num_frames: int, **options: Any) -> Any:
        self.asked.append((image, entities, options))
        self.frames = np.stack([np.roll(image, 2 * f, axis=1) for f in range(num_frames)])
        return self


@pytest.fixture
def clip(vipseg: Path) -> Clip:
    return next(iter(Clips(selection("vipseg", vipseg))))


def test_parts_go_on_from_the_last_frame_with_the_masks_that_are_found_there(clip: Clip) -> None:
    pipeline = Recorded()
    maker = Local(pipeline, FlowTracker())  # type: ignore[arg-type]
    paths = stretch(clip.tracks, 2)
    made = maker.make(clip, "full", paths, 2)
    assert len(made) == paths.shape[1] == 7
    (_, first, _), (image, second, _) = pipeline.asked
    assert (image == made[3]).all()
    assert (second[1].points == paths[1, 3:]).all()
    for before, after in zip(first, second, strict=True):
        assert (np.roll(before.mask, 6, axis=1) == after.mask).all()
    assert (made[6] == np.roll(clip.frames[0], 12, axis=1)).all()


def test_what_the_tracker_loses_is_not_controlled_any_more(clip: Clip) -> None:
    class Loses(FlowTracker):
        def track(self, *given: Any) -> Any:
            tracks, seen = super().track(*given)
            return tracks, seen & (np.arange(len(seen)) != 1)[:, None]

    pipeline = Recorded()
    Local(pipeline, Loses()).make(clip, "full", stretch(clip.tracks, 3), 3)  # type: ignore[arg-type]
    assert [len(entities) for _, entities, _ in pipeline.asked] == [2, 1, 1]


@pytest.mark.parametrize(
    ("control", "heat", "labels", "scale"),
    [("full", True, True, 1), ("entity", False, True, 1), ("gaussian", True, False, 1), ("none", True, True, 0)],
)
def test_rows_differ_in_what_the_network_is_told(
    clip: Clip,
    pipeline: DragAnythingPipeline,
    monkeypatch: pytest.MonkeyPatch,
    control: Any,
    heat: bool,
    labels: bool,
    scale: float,
) -> None:
    told: list[tuple[bool, bool]] = []
    scales: list[float] = []
    embedding = pipeline.controlnet.controlnet_cond_embedding
    call = DragAnythingPipeline.__call__

    def listen(_module: object, inputs: Any) -> None:
        told.append((bool(inputs[0].any()), bool(inputs[1].any())))

    def spied(self: DragAnythingPipeline, *given: Any, **options: Any) -> Any:
        hook = embedding.register_forward_pre_hook(listen)  # behind that of the row
        scales.append(options["control_scale"])
        try:
            return call(self, *given, **options)
        finally:
            hook.remove()

    monkeypatch.setattr(DragAnythingPipeline, "__call__", spied)
    small = replace(clip, frames=clip.frames[:, :, :64], masks=clip.masks[1:, :, :64], tracks=clip.tracks[1:])
    made = Local(pipeline, FlowTracker(), steps=1).make(small, control, small.tracks, 1)
    assert made.shape == (FRAMES, 64, 64, 3)
    assert scales == [scale]
    assert set(told) <= {(heat, labels)}
    assert told or control == "none"
    assert not embedding._forward_pre_hooks


def test_videos_from_elsewhere_fit_the_clip(clip: Clip, tmp_path: Path) -> None:
    save(clip.frames, tmp_path / "same" / clip.name)
    assert (load(tmp_path / "same", clip) == clip.frames).all()
    save(np.repeat(np.repeat(clip.frames, 2, axis=1), 2, axis=2), tmp_path / "large" / clip.name)
    assert (load(tmp_path / "large", clip) == clip.frames).all()
    pictures = [Image.fromarray(np.roll(frame, f)) for f, frame in enumerate(clip.frames)]
    (tmp_path / "files").mkdir()
    pictures[0].save(tmp_path / "files" / "a.gif", save_all=True, append_images=pictures[1:], duration=140)
    assert load(tmp_path / "files", clip).shape == clip.frames.shape
    with pytest.raises(VideosMissing, match="has 0 frames, 4 are needed"):
        load(tmp_path, clip)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(VideosMissing, match="is no video"):
        load(tmp_path, clip)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    status = benchmark.main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return json.loads(out) if status == 0 else (status, err)


def test_the_command_makes_each_video_once_and_measures_all_rows(
    vipseg: Path, pipeline: DragAnythingPipeline, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DragAnythingPipeline, "from_pretrained", lambda *_, **__: pipeline)
    size, out = ("--size", "64x64", "--frames", FRAMES, "--steps", 1, "--clips", 1), tmp_path / "out"
    table = run(capsys, "vipseg", vipseg, *size, "--rows", "paper", "--out", out)
    assert [row["row"] for row in table["rows"]] == ["truth", "still", "full", "none", "entity", "gaussian"]
    assert table["clips"] == 1
    assert {path.name for path in out.iterdir()} >= {"full", "none", "table.md", "table.json"}
    assert "| still |" in (out / "table.md").read_text()
    monkeypatch.setattr(Local, "make", None)  # nothing is made a second time
    again = run(
        capsys, "vipseg", vipseg, *size, "--rows", "full", "--made", f"theirs={out / 'none'}", "--out", out
    )
    by_name = {row["row"]: row for row in table["rows"]}
    assert [row["objmc"] for row in again["rows"][2:]] == [by_name["full"]["objmc"], by_name["none"]["objmc"]]
    status, error = run(capsys, "vipseg", vipseg, *size, "--seed", 2, "--rows", "full", "--out", out)
    assert (status, "name another --out" in error) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["vipseg", "nowhere"], "does not exist"),
        (["davis"], "name the one that holds the data set"),
        (["synthetic", "--clips", "1", "--inception", "absent.pt"], "inception-2015-12-05.pt"),
        (["synthetic", "--clips", "1", "--cotracker", "absent"], "hubconf.py"),
        (["synthetic", "--clips", "1", "--rows", "full"], "--out DIR"),
        (["synthetic", "--clips", "1", "--made", "x=absent", "--size", "64x64"], "14 are needed"),
        (["manifests", "absent"], "no manifest below"),
    ],
)
def test_what_is_missing_is_said(arguments: list[str], told: str, capsys: Any) -> None:
    status, error = run(capsys, *arguments)
    assert status == 2
    assert told in error


def test_a_data_set_of_which_nothing_can_be_used_is_said(vipseg: Path, capsys: Any) -> None:
    status, error = run(capsys, "vipseg", vipseg, "--frames", FRAMES + 1)
    assert status == 2
    assert "no usable clip" in error
    assert "too short" in error


def test_manifests_of_jobs(tmp_path: Path, capsys: Any) -> None:
    def manifest(name: str, objmc: float | None) -> None:
        scores: dict[str, Any] = {
            "tracker": "flow",
            "objmc_px": objmc,
            "objmc_px_still": 20.0,
            "visibility": 0.5,
            "entities": [{}],
        }
        (tmp_path / name).mkdir(parents=True)
        content = {"request": {"width": 512, "height": 512}, "scores": scores}
        (tmp_path / name / "manifest.json").write_text(json.dumps(content))

    manifest("a/1", 6)
    manifest("a/2", 2)
    manifest("a/3", None)
    table = run(capsys, "manifests", tmp_path / "a")
    assert (table["clips"], table["tracker"]) == (3, "flow")
    found = [(row["row"], row["objmc"], row["seen"]) for row in table["rows"]]
    assert found == [("a", pytest.approx(2), 0.5), ("a, still", pytest.approx(10), None)]
    assert benchmark.main(["manifests", "--made", f"other={tmp_path / 'a'}"]) == 0
    assert "| other | 2.00 |" in capsys.readouterr().out
