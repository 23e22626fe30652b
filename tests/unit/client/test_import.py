"""Other tools' files as requests; every file is made here, in the form that its tool writes."""

from __future__ import annotations

import base64
import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draganything_client import _arrays, cli
from typer.testing import CliRunner

from jobs.spec import GenerateRequest

IMAGE = b"an image"
STRAIGHT = [[float(x), 10.0] for x in range(5)]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    Path("image.png").write_bytes(IMAGE)


def imported(*arguments: str) -> dict[str, Any]:
    got = CliRunner().invoke(cli.app, ["import", *arguments])
    assert got.exit_code == 0, got.stderr
    request: dict[str, Any] = json.loads(got.stdout)
    GenerateRequest.model_validate(request)
    return request


def refused(*arguments: str) -> str:
    got = CliRunner().invoke(cli.app, ["import", *arguments])
    assert (got.exit_code, got.stdout) == (2, "")
    return got.stderr


def text(content: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(content).decode()}


def points(request: dict[str, Any]) -> list[Any]:
    assert all(entity["trajectory"]["timing"] == "per_point" for entity in request["entities"])
    return [entity["trajectory"]["points"] for entity in request["entities"]]


# The reference's demo folders


def demo(**items: Any) -> Path:
    folder = Path("demo")
    folder.mkdir()
    (folder / "demo.jpg").write_bytes(IMAGE)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(name.encode())
    (folder / "demo.json").write_text(json.dumps(items))
    return folder


def test_a_demo_folder() -> None:
    long = [[x, 2 * x] for x in range(30)]
    both = {
        "3": {"mask_name": "b.jpg", "trajectory": long, "comment": "a horse"},
        "1": {"mask_name": "a.jpg", "trajectory": [[5, 5], [6, 6]]},
    }
    folder = demo(**both)
    request = imported(str(folder))
    assert request["image"] == text(IMAGE)
    assert request["num_frames"] == 20
    assert [entity["label"] for entity in request["entities"]] == ["3", "1"]
    assert [entity["mask"] for entity in request["entities"]] == [text(b"b.jpg"), text(b"a.jpg")]
    assert points(request) == [[[float(x), float(y)] for x, y in long[:20]], [[5, 5]] + [[6, 6]] * 19]
    assert imported(str(folder / "demo.json")) == request
    fewer = imported(str(folder), "--frames", "7", "--track", "0")
    assert (fewer["num_frames"], len(fewer["entities"]), len(points(fewer)[0])) == (7, 1, 7)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({}, "must be an object of entities"),
        ({"1": {"trajectory": STRAIGHT}}, "'1' needs mask_name and trajectory"),
        ({"1": {"mask_name": "a.jpg"}}, "'1' needs mask_name and trajectory"),
        ({"1": {"mask_name": "a.jpg", "trajectory": [[1]]}}, "the trajectory of '1' must be a list of points"),
        ({"1": {"mask_name": "a.jpg", "trajectory": []}}, "must have points"),
        ({"1": {"mask_name": "none.jpg", "trajectory": STRAIGHT}}, "demo/none.jpg: No such file"),
        ({"1": {"mask_name": "../image.png", "trajectory": STRAIGHT}}, "not a file of this folder"),
        ({"1": {"mask_name": "/etc/passwd", "trajectory": STRAIGHT}}, "not a file of this folder"),
    ],
)
def test_a_demo_folder_that_is_not_whole(items: dict[str, Any], message: str) -> None:
    assert message in refused(str(demo(**items)))


def test_a_folder_without_a_demo() -> None:
    assert "has no demo.json" in refused(".")


# ComfyUI's trajectory strings

SPLINE = [{"x": int(x), "y": int(y)} for x, y in STRAIGHT]


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(SPLINE),
        json.dumps([SPLINE]),
        json.dumps([json.dumps(SPLINE)]),
        str(SPLINE),
        str([str(SPLINE)]).replace('"', ""),
    ],
    ids=["one", "list", "strings", "single quotes", "quotes lost"],
)
def test_trajectory_strings(written: str) -> None:
    Path("tracks.txt").write_text(written)
    request = imported("tracks.txt", "--image", "image.png")
    assert points(request) == [STRAIGHT]
    assert request["entities"][0]["label"] == "track 0"
    assert "mask" not in request["entities"][0]
    assert "num_frames" not in request


def test_masks_frames_and_another_canvas() -> None:
    Path("tracks.json").write_text(json.dumps([SPLINE, SPLINE[::-1]]))
    Path("mask.png").write_bytes(b"mask")
    masks = ["--mask", "mask.png", "--mask", "image.png"]
    request = imported("tracks.json", "--image", "image.png", *masks, "--frames", "9", "--canvas", "20x40")
    assert request["num_frames"] == 9
    assert [entity["mask"] for entity in request["entities"]] == [text(b"mask"), text(IMAGE)]
    assert request["entities"][1]["trajectory"]["space"] == "normalized"
    assert points(request)[1][0] == [4 / 20, 10 / 40]


@pytest.mark.parametrize(
    ("written", "arguments", "message"),
    [
        ("[", [], "is not JSON"),
        ("[]", [], "is no trajectory string"),
        ("3", [], "is no trajectory string"),
        ("[[]]", [], "must have points"),
        ('[{"x": 1}]', [], "track 0 must be a list of points"),
        ('[{"x": NaN, "y": 1}]', [], "finite"),
        ('{"image": {}, "entities": []}', [], "is a request already"),
        (json.dumps(SPLINE), [], "give the first frame with --image"),
        (json.dumps(SPLINE), ["--mask", "image.png", "--mask", "image.png"], "2 masks for 1 tracks"),
        (json.dumps([SPLINE] * 17), [], "17 tracks, and a job takes 16: choose with --track"),
        (json.dumps(SPLINE), ["--track", "1"], "there is no track 1: they are 0 to 0"),
        (json.dumps(SPLINE), ["--canvas", "20"], "'20' is not of the form WxH"),
        (json.dumps(SPLINE), ["--image", "none.png"], "none.png: No such file"),
    ],
)
def test_strings_that_are_not_understood(written: str, arguments: list[str], message: str) -> None:
    Path("tracks.json").write_text(written)
    image = [] if "--image" in message + " ".join(arguments) else ["--image", "image.png"]
    assert message in refused("tracks.json", *image, *arguments)


def test_the_request_goes_to_a_file() -> None:
    Path("tracks.json").write_text(json.dumps(SPLINE))
    got = CliRunner().invoke(cli.app, ["import", "tracks.json", "--image", "image.png", "-o", "job.json"])
    assert (got.exit_code, got.stdout) == (0, "job.json\n")
    assert points(json.loads(Path("job.json").read_text())) == [STRAIGHT]


# Wan-Move's arrays

TRACKS = np.stack([np.array(STRAIGHT), np.array(STRAIGHT)[::-1]], axis=1)  # [T, N, 2]


def from_array(path: str, *arguments: str) -> dict[str, Any]:
    return imported(path, "--image", "image.png", *arguments)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_an_array_of_tracks(batched: bool, dtype: type) -> None:
    np.save("a.npy", (TRACKS[None] if batched else TRACKS).astype(dtype))
    assert points(from_array("a.npy")) == [STRAIGHT, STRAIGHT[::-1]]
    assert points(from_array("a.npy", "--track", "1")) == [STRAIGHT[::-1]]


HIDDEN = np.ones((5, 2), bool)
HIDDEN[[0, 3], 0] = False


@pytest.mark.parametrize("form", ["beside", "npz", "option", "batched"])
def test_points_that_are_not_visible_are_bridged(form: str) -> None:
    tracks = TRACKS.copy()
    tracks[~HIDDEN] = np.nan
    arguments: list[str] = []
    if form == "npz":
        np.savez("x_tracks.npz", tracks=tracks, visibility=HIDDEN)
    else:
        np.save("x_tracks.npy", tracks)
        name = "other.npy" if form == "option" else "x_visibility.npy"
        np.save(name, HIDDEN[None].astype(np.float32) if form == "batched" else HIDDEN)
        arguments = ["--visibility", name] if form == "option" else []
    request = from_array("x_tracks.npz" if form == "npz" else "x_tracks.npy", *arguments)
    assert points(request)[0] == [[1, 10], [1, 10], [2, 10], [3, 10], [4, 10]]
    assert points(request)[1] == STRAIGHT[::-1]


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (np.zeros((2, 5, 3, 2)), "tracks must be [T, N, 2], not [2, 5, 3, 2]"),
        (np.zeros((5, 2)), "tracks must be [T, N, 2], not [5, 2]"),
        (np.zeros((0, 2, 2)), "tracks must be [T, N, 2]"),
        (np.zeros((5, 2, 2), complex), "tracks must be numbers"),
        (np.full((5, 2, 2), np.inf), "track 0 has points that are not finite"),
        (np.zeros((9, 4, 1, 3)), "ATI's tracks are [N, 121, 1, 3], not [9, 4, 1, 3]"),
        (np.zeros((5, 17, 2)), "17 tracks"),
    ],
)
def test_arrays_that_are_not_understood(tracks: Any, message: str) -> None:
    np.save("a.npy", tracks)
    assert message in refused("a.npy", "--image", "image.png")


def test_visibility_of_another_shape_and_a_track_never_seen() -> None:
    np.save("a_tracks.npy", TRACKS)
    np.save("a_visibility.npy", np.ones((2, 5)))
    assert "visibility must be [5, 2], not [2, 5]" in refused("a_tracks.npy", "--image", "image.png")
    np.save("a_visibility.npy", np.zeros((5, 2)))
    assert "track 0 is never visible: leave it out" in refused("a_tracks.npy", "--image", "image.png")


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("unpickled"),))


def torch_file(path: str, pickled: bytes) -> None:
    """What ``torch.save`` writes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize("kind", ["npy", "npz", "pth", "pth of a dict"])
def test_nothing_is_unpickled(kind: str) -> None:
    objects = np.array([Bomb()], object)
    path = f"a.{kind[:3]}"
    if kind == "npy":
        np.save(path, objects, allow_pickle=True)
    elif kind == "npz":
        np.savez(path, tracks=objects)
    else:
        torch_file(path, pickle.dumps(Bomb() if kind == "pth" else {"array": 1}, 2))
    told = refused(path, "--image", "image.png")
    assert "damaged, or holds objects" in told
    assert not Path("unpickled").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pth"])
@pytest.mark.parametrize("content", [b"", b"PK\3\4nonsense", b"\x93NUMPY\1\0"])
def test_damaged_files(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)
    assert "is damaged" in refused(name, "--image", "image.png")


def test_an_archive_that_would_unpack_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed("a.npz", tracks=np.zeros((500, 2, 2)))
    monkeypatch.setattr(_arrays, "MAX_BYTES", 1000)
    assert "more than" in refused("a.npz", "--image", "image.png")


def test_an_archive_of_something_else() -> None:
    np.savez("a.npz", pictures=np.zeros(3))
    assert "one of tracks, track, array, arr_0 is expected" in refused("a.npz", "--image", "image.png")


# ATI's arrays


def ati() -> bytes:
    """Two tracks, the second one hidden from frame 60 on: [2, 121, 1, 3] in eighths of pixels."""
    array = np.zeros((2, 121, 1, 3), np.int32)
    array[..., 0, 0] = 8 * np.arange(121) + 4
    array[..., 0, 1] = 80
    array[..., 0, 2] = 1
    array[1, 60:, 0, 2] = 0
    file = io.BytesIO()
    np.savez_compressed(file, array=array)
    return file.getvalue()


@pytest.mark.parametrize("form", ["npz", "pth", "pth of another protocol", "by torch"])
def test_ati(form: str) -> None:
    path = "a." + form[:3]
    if form == "npz":
        Path(path).write_bytes(ati())
    elif form == "by torch":
        torch = pytest.importorskip("torch")
        path = "a.pth"
        torch.save(ati(), path)
    else:
        torch_file(path, pickle.dumps(ati(), 2 if form == "pth" else 4))
    first, second = points(from_array(path))
    assert first == [[frame + 0.5, 10] for frame in range(121)]
    assert second == first[:60] + first[59:60] * 61


def test_frames_may_come_first() -> None:
    np.savez("a.npz", array=np.ones((121, 3, 1, 4), np.int16) * 8)
    assert points(from_array("a.npz")) == [[[1, 1]] * 121] * 3


def test_without_numpy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("a.npy", TRACKS)
    monkeypatch.setitem(sys.modules, "numpy", None)
    monkeypatch.delitem(sys.modules, "draganything_client._arrays")
    assert "pip install 'draganything-client[arrays]'" in refused("a.npy", "--image", "image.png")
