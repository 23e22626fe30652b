"""The line that people see of a score."""

from __future__ import annotations

from draganything_client import Scores


def test_what_is_not_measured_is_not_shown() -> None:
    whole = Scores(tracker="flow", objmc_px=3.14, objmc_px_still=20, anchor_drift_px=0.52, visibility=0.9)
    assert (
        str(whole)
        == "ObjMC 3.1 px (a still video: 20.0 px), anchor drift 0.5 px, seen in 90% of the frames, tracker flow"
    )
    assert str(Scores(tracker="flow", visibility=1)) == "seen in 100% of the frames, tracker flow"


def test_a_lost_entity_is_no_success() -> None:
    lost = Scores(tracker="flow", objmc_px=2.2, objmc_px_still=19.1, visibility=0.31)
    assert (
        str(lost) == "lost in 69% of the frames; in the others ObjMC 2.2 px (a still video: 19.1 px), tracker flow"
    )
