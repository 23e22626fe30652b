from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.state import STAGE_SPANS, TRANSITIONS, Stage, Status, fraction


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(Status)


def test_a_state_never_leads_to_itself() -> None:
    assert all(status not in after for status, after in TRANSITIONS.items())


def test_what_is_terminal() -> None:
    assert {status for status in Status if status.terminal} == {
        Status.SUCCEEDED,
        Status.FAILED,
        Status.CANCELED,
        Status.EXPIRED,
    }


def test_every_state_is_reached_from_the_first_and_leads_to_an_end() -> None:
    reached = {Status.QUEUED}
    while more := set().union(*(TRANSITIONS[status] for status in reached)) - reached:
        reached |= more
    assert reached == set(Status)
    assert all(any(end.terminal for end in TRANSITIONS[s]) for s in Status if not s.terminal)


@pytest.mark.parametrize(
    ("before", "after"),
    [(Status.QUEUED, Status.SUCCEEDED), (Status.RUNNING, Status.EXPIRED)],
    ids=["no success without a run", "what runs does not expire"],
)
def test_not_a_transition(before: Status, after: Status) -> None:
    assert after not in TRANSITIONS[before]


def test_the_stages_cover_the_whole_job_without_a_gap() -> None:
    spans = [STAGE_SPANS[stage] for stage in Stage]
    assert spans[0][0] == 0.0
    assert spans[-1][1] == 1.0
    assert all(start == end_before for (_, end_before), (start, _) in pairwise(spans))


moments = st.tuples(st.integers(0, len(Stage) - 1), st.floats(0, 1))


@given(moments, moments)
def test_the_fraction_never_goes_back(one: tuple[int, float], other: tuple[int, float]) -> None:
    stages = list(Stage)
    (early, done_early), (late, done_late) = sorted([one, other])
    assert 0.0 <= fraction(stages[early], done_early) <= fraction(stages[late], done_late) <= 1.0


@pytest.mark.parametrize(("done", "within"), [(-1.0, 0.05), (2.0, 0.85)])
def test_the_fraction_stays_within_its_stage(done: float, within: float) -> None:
    assert fraction(Stage.DENOISING, done) == within
