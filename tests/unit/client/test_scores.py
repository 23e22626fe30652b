"""The line that people see of a score."""

from __future__ import annotations

from draganything_client import Scores


def test_what_is_not_measured_is_not_shown() -> None:
    whole = Scores(tracker="flow", objmc_px=3.14, objmc_px_still=20, anchor_drift_px=0.52, visibility=0.9)
    assert str(whole) == "ObjMC 3.1 px (a still video: 20.0 px), anchor drift 0.5 px, seen 90%, tracker flow"
    assert str(Scores(tracker="flow", visibility=1)) == "seen 100%, tracker flow"
