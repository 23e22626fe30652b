import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluation import parity
from evaluation.parity import compare, compare_frames

ROOT = Path(__file__).parents[3]
FIXTURE = ROOT / "tests" / "fixtures" / "parity"
GOLDEN = ROOT.parent / "shared" / "golden"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE, tmp_path / "golden")


def failures(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]


def test_control_signal_has_not_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(FIXTURE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} passed, 0 failed"
    assert "PASS edge/overlap/label_map  max 0  rel 0" in lines


@pytest.mark.timeout(600)
@pytest.mark.parametrize("section", parity.SECTIONS)
def test_reference_is_met(section: str) -> None:
    if not (GOLDEN / section).is_dir():
        pytest.skip(f"the reference's golden tensors are not in {GOLDEN / section}")
    command = [sys.executable, "-m", "evaluation.parity", str(GOLDEN), "--only", section]
    # One thread: several wait for each other actively, which takes four times as long on cores that others use.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    missed = [line for line in run.stdout.splitlines() if line.startswith("FAIL")]
    assert (run.returncode, missed) == (0, []), run.stderr


def test_corrupted_tensor_fails_by_name(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = golden / "edge" / "overlap" / "golden.npz"
    tensors = dict(np.load(path))
    tensors["gaussian"][2, 30, 40] ^= 1
    np.savez_compressed(path, **tensors)
    assert parity.main([str(golden)]) == 1
    assert failures(capsys) == ["edge/overlap/gaussian"]


def test_corrupted_hash_and_number_fail_by_name(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = golden / "conditions" / "two_discs" / "expected.json"
    expected = json.loads(path.read_text())
    expected["sizes"]["128x192/F5"]["label_sha256"] = "0" * 64
    expected["sizes"]["320x576/F5"]["trajectories"][0][3][1] += 1
    path.write_text(json.dumps(expected))
    assert parity.main([str(golden), "--only", "conditions"]) == 1
    names = ["128x192/F5/label_sha256", "320x576/F5/trajectories"]
    assert failures(capsys) == [f"conditions/two_discs/{name}" for name in names]


def test_corrupted_mask_fails(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(golden / "edge" / "leaves_frame" / "m0.png", golden / "edge" / "overlap" / "m0.png")
    assert parity.main([str(golden), "--only", "edge"]) == 1
    assert "edge/overlap/label_map" in failures(capsys)


@pytest.mark.parametrize(
    ("file", "reported"),
    [
        ("conditions/two_discs/expected.json", "conditions/two_discs/expected.json"),
        ("conditions/two_discs/input/demo.jpg", "conditions/two_discs/expected.json"),
        ("conditions/two_discs/input/m1.png", "conditions/two_discs/expected.json"),
        ("edge/meta.json", "edge/meta.json"),
        ("edge/overlap/demo.json", "edge/overlap"),
        ("edge/overlap/golden.npz", "edge/overlap"),
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"\x89PNG nonsense"])
def test_missing_or_broken_file_is_a_failed_check_that_names_it(
    golden: Path, file: str, reported: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (golden / file).unlink() if content is None else (golden / file).write_bytes(content)
    assert parity.main([str(golden)]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert line.split()[1] == reported
    assert Path(file).name in line


def test_missing_entry_and_unlisted_folder_are_failed_checks(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = json.loads((golden / "edge" / "meta.json").read_text())
    del meta["cases"]["overlap"]["radii"]
    del meta["cases"]["leaves_frame"]
    (golden / "edge" / "meta.json").write_text(json.dumps(meta))
    assert parity.main([str(golden), "--only", "edge"]) == 1
    assert failures(capsys) == ["edge/overlap", "edge/leaves_frame"]


def test_where_the_reference_fails_output_and_refusal_both_pass(
    golden: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = golden / "edge" / "meta.json"
    meta = json.loads(path.read_text())
    for name in ("overlap", "leaves_frame"):
        meta["cases"][name] |= {"error": "IndexError"}
    path.write_text(json.dumps(meta))
    demo = golden / "edge" / "overlap" / "demo.json"
    entities = json.loads(demo.read_text())
    entities["2"]["trajectory"].pop()
    demo.write_text(json.dumps(entities))
    assert parity.main([str(golden), "--only", "edge"]) == 0
    told = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()[:-1]}
    assert "IndexError in the reference; refused: entity 1" in told["edge/overlap/error"]
    assert "valid output" in told["edge/leaves_frame/error"]


@pytest.mark.parametrize("arguments", [[], ["--only", "cases,modules"]])
def test_nothing_to_check_is_status_2(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        assert parity.main([str(directory), *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1


def test_unknown_section_is_status_2(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parity.main([str(golden), "--only", "edges"])
    assert caught.value.code == 2
    assert "unknown section edges" in capsys.readouterr().err


def test_json_carries_every_check(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (golden / "edge" / "whole_picture" / "golden.npz").unlink()
    assert parity.main([str(golden), "--json", "--only", "edge"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["failed"] == 1
    assert report["passed"] == len(report["checks"]) - 1
    (failed,) = [check for check in report["checks"] if not check["passed"]]
    assert failed["name"] == "edge/whole_picture"
    assert failed["max_error"] is None


def test_compare_measures_and_judges() -> None:
    golden = np.array([3.0, 4.0])
    close = compare("x", golden + np.array([0, 0.005]), golden, tolerance=1e-3)
    assert close.max_error == pytest.approx(0.005)
    assert close.relative_error == pytest.approx(0.001)
    assert compare("x", golden, golden).passed
    assert not compare("x", golden + 1e-9, golden).passed
    assert compare("x", golden + 1e-9, golden, tolerance=1e-4).passed
    assert not compare("x", np.array([3.0, np.nan]), golden, tolerance=1.0).passed
    assert not compare("x", golden[:1], golden, tolerance=1.0).passed
    assert not compare("x", golden, golden * 0, tolerance=1.0).passed


def test_frames_may_differ_by_one_level_nearly_everywhere() -> None:
    golden = np.full((2, 50, 20, 3), 128, np.uint8)
    off = golden + np.uint8(1)
    assert compare_frames("frames", off, golden).passed
    off.ravel()[:6] = 200
    assert compare_frames("frames", off, golden).passed
    off.ravel()[:7] = 0
    assert not compare_frames("frames", off, golden).passed
    assert not compare_frames("frames", off[:1], golden).passed
