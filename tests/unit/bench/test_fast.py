"""The table of the fast tier: the exact row is its own measure, and every other row differs from it."""

import json

import pytest

from bench import fast


def test_every_combination_is_compared_with_the_exact_one(capsys: pytest.CaptureFixture[str]) -> None:
    fast.main(["--clips", "1", "--json"])
    record = json.loads(capsys.readouterr().out)
    rows = record["combinations"]
    exact = rows.pop("exact")
    assert (exact["latents"], exact["faster"], exact["frames_db"]) == (0, 1, None)
    assert len(rows) == 4
    assert all(0 < row["latents"] < 1 and 10 < row["frames_db"] < 80 for row in rows.values())
