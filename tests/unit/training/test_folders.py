"""VIPSeg and YouTube-VOS: their layouts are read, and what is broken is named, skipped and counted."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.config import Folder
from training.data import tracks
from training.data.folders import BrokenVideo, FolderSource
from training.data.signal import build

SIZE = (96, 64)
CPU = torch.device("cpu")


def picture(path: Path, value: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)


def ids(frame: int, first: int, second: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A 20 x 20 square that moves 4 px per frame, and a still one of 13 x 13."""
    mask = np.zeros((size[1], size[0]), np.uint16)
    mask[10:30, 5 + 4 * frame : 25 + 4 * frame] = first
    mask[45:58, 70:83] = second
    return mask


def vipseg(root: Path, name: str, frames: int = 4, first: int = 6100, second: int = 23) -> None:
    for f in range(frames):
        picture(root / "imgs" / name / f"{f:08d}.jpg", 40 * f)
        mask = root / "panomasks" / name / f"{f:08d}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids(f, first, second)).save(mask)


def youtube(root: Path, name: str, frames: int = 4) -> None:
    for f in range(frames):
        picture(root / "train" / "JPEGImages" / name / f"{5 * f:05d}.jpg", 40 * f)
        mask = root / "train" / "Annotations" / name / f"{5 * f:05d}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(ids(f, 1, 2).astype(np.uint8), mode="P")
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        image.save(mask)


def options(root: Path, kind: str = "vipseg", **changes: object) -> Folder:
    return Folder.model_validate({"kind": kind, "root": root, "size": SIZE, **changes})


@pytest.mark.parametrize("kind", ["vipseg", "youtube_vos"])
def test_entities_discs_and_tracks_of_a_folder(tmp_path: Path, kind: str) -> None:
    (vipseg if kind == "vipseg" else youtube)(tmp_path, "video")
    clips = FolderSource(options(tmp_path, kind), 1, CPU).batch(0, 0, 0, 2, 4)
    assert clips.frames.shape == (2, 4, 3, 64, 96)
    assert clips.frames[0, :, 0, 0, 0].tolist() == pytest.approx([0, 40, 80, 120], abs=2)
    moving = int(clips.masks[0].flatten(1).sum(dim=1).argmax())
    assert clips.masks[0, moving].sum() == 400
    track = clips.points[0, moving]
    assert (track[1:] - track[:-1]).tolist() == [[4, 0]] * 3
    assert track[0].tolist() == pytest.approx([15, 20], abs=1)
    assert clips.scales[0].tolist() == [[1.0] * 4] * 2
    assert torch.equal(clips.weighted[0, 0], clips.masks[0].any(dim=0))
    assert build(clips).labels[0, 0, 20, 14] == moving + 1


def test_an_entity_that_hides_is_not_painted_meanwhile(tmp_path: Path) -> None:
    vipseg(tmp_path, "video")
    Image.fromarray(ids(2, 0, 23)).save(tmp_path / "panomasks/video/00000002.png")
    clips = FolderSource(options(tmp_path, things_only=True), 1, CPU).batch(0, 0, 0, 1, 4)
    assert clips.visible[0, 0].tolist() == [True, True, False, True]
    assert not build(clips).heat[0, 2].any()


def test_the_radius_follows_the_mask(tmp_path: Path) -> None:
    vipseg(tmp_path, "video", frames=2)
    larger = np.zeros((64, 96), np.uint16)
    larger[8:48, 8:48] = 6100
    Image.fromarray(larger).save(tmp_path / "panomasks/video/00000001.png")
    clips = FolderSource(options(tmp_path, things_only=True), 1, CPU).batch(0, 0, 0, 1, 2)
    assert clips.scales[0, 0].tolist() == pytest.approx([1, 2], abs=0.11)


def test_things_only_leaves_stuff_out(tmp_path: Path) -> None:
    vipseg(tmp_path, "video")
    clips = FolderSource(options(tmp_path, things_only=True), 1, CPU).batch(0, 0, 0, 1, 4)
    assert clips.masks.shape[1] == 1


def test_colour_coded_masks_are_read_too(tmp_path: Path) -> None:
    vipseg(tmp_path, "video")
    for path in sorted((tmp_path / "panomasks" / "video").iterdir()):
        found = np.array(Image.open(path)).astype(np.uint32)
        coded = np.stack([found % 256, found // 256 % 256, found // 65536], axis=-1).astype(np.uint8)
        target = tmp_path / "panomasksRGB" / "video" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coded).save(target)
        path.unlink()
    (tmp_path / "panomasks" / "video").rmdir()
    (tmp_path / "panomasks").rmdir()
    assert FolderSource(options(tmp_path, things_only=True), 1, CPU).batch(0, 0, 0, 1, 4).masks[0, 0].sum() == 400


def test_published_tracks_replace_the_masks_centres(tmp_path: Path) -> None:
    vipseg(tmp_path, "video")
    tracks.write(tmp_path / "video.json", {6100: np.array([[10.0, 20.0], [-3, 21], [300, 22], [13, 23]])})
    clips = FolderSource(options(tmp_path, tracks=tmp_path, things_only=True), 1, CPU).batch(0, 0, 0, 1, 4)
    assert clips.points[0, 0].tolist() == [[10, 20], [-3, 21], [300, 22], [13, 23]]


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": []}', '{"1": [[1, 2, 3]]}', '{"1": [[1, NaN]]}', "{"])
def test_tracks_that_make_no_sense(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(tracks.TracksError, match=r"x\.json"):
        tracks.read(tmp_path / "x.json")


def test_broken_videos_are_named_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vipseg(tmp_path, "good")
    (tmp_path / "imgs" / "empty").mkdir()
    vipseg(tmp_path, "missing")
    (tmp_path / "imgs/missing/00000002.jpg").unlink()
    picture(tmp_path / "imgs/maskless/0.jpg", 9)
    vipseg(tmp_path, "short", frames=2)
    vipseg(tmp_path, "torn")
    (tmp_path / "imgs/torn/00000001.jpg").write_bytes(b"not a picture")
    vipseg(tmp_path, "other_size")
    Image.fromarray(np.zeros((10, 10), np.uint16)).save(tmp_path / "panomasks/other_size/00000000.png")
    vipseg(tmp_path, "nothing", first=0, second=0)
    with caplog.at_level(logging.WARNING):
        source = FolderSource(options(tmp_path), 1, CPU)
        names = {source.batch(0, step, 0, 2, 4).names[i].split("/")[2] for step in range(12) for i in range(2)}
    assert names == {"good"}
    assert "1 videos" in source.summary()
    for reason in (
        "1 without frames",
        "1 with missing frames",
        "1 without masks",
        "1 too short",
        "1 with broken files",
        "1 with masks of another size",
        "1 without entities",
    ):
        assert reason in source.summary()
    for name in ("empty", "missing", "maskless", "short", "torn", "other_size", "nothing"):
        assert name in caplog.text


def test_a_folder_without_any_usable_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BrokenVideo, match="does not exist"):
        FolderSource(options(tmp_path), 1, CPU)
    (tmp_path / "imgs" / "empty").mkdir(parents=True)
    with pytest.raises(BrokenVideo, match="no usable video"):
        FolderSource(options(tmp_path), 1, CPU)


def test_a_split_is_the_videos_of_its_list(tmp_path: Path) -> None:
    vipseg(tmp_path, "a")
    vipseg(tmp_path, "b")
    (tmp_path / "val.txt").write_text("b\n")
    source = FolderSource(options(tmp_path, split="val"), 1, CPU)
    assert [video.name for video in source.videos] == ["b"]


def test_written_tracks_have_the_published_form(tmp_path: Path) -> None:
    tracks.write(tmp_path / "v.json", {7: np.array([[1.7, -2.2]])})
    assert json.loads((tmp_path / "v.json").read_text()) == {"7": [[1, -2]]}
