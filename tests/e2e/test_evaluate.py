"""A benchmark whose videos a real service makes, in parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from local.evaluate import commands
from local.stack import Stack

SMALL = ("--clips", "1", "--size", "64x64", "--frames", "3", "--steps", "2", "--seed", "3")


def test_a_service_makes_the_videos(live_stack: Stack, tmp_path: Path) -> None:
    given = ["synthetic", *SMALL, "--service", live_stack.base_url, "--out", str(tmp_path), "--json"]
    result = CliRunner().invoke(commands, [*given, "--rows", "full", "gaussian", "--chain", "2"])
    assert result.exit_code == 0, result.output
    table = json.loads(result.stdout)
    assert [row["row"] for row in table["rows"]] == ["truth", "still", "full", "gaussian"]
    for row in ("full", "gaussian"):
        (clip,) = (tmp_path / row).iterdir()
        assert sorted(picture.name for picture in clip.iterdir()) == [f"{f:05d}.png" for f in range(3)]
    full, gaussian = ((tmp_path / row / clip.name / "00002.png").read_bytes() for row in ("full", "gaussian"))
    assert full != gaussian


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--rows", "entity"], "no control without Gaussians"), (["--rows", "full", "--model", "none"], "none")],
)
def test_what_a_service_can_not_do_is_said(
    live_stack: Stack, tmp_path: Path, arguments: list[str], told: str
) -> None:
    given = ["synthetic", *SMALL, "--service", live_stack.base_url, "--out", str(tmp_path), *arguments]
    result = CliRunner().invoke(commands, given)
    assert result.exit_code == 2
    assert told in result.stderr
