"""Every row in short, on one stack; ``make chaos`` runs them at full length."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.report import table
from tests.chaos.rig import Rig
from tests.chaos.row import Row
from tests.chaos.rows import ROWS, SHORT, SHORT_KNOBS


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two workers that notice deaths fast."""
    with Rig.standing(tmp_path_factory.mktemp("chaos"), SHORT_KNOBS) as rig:
        yield rig


@pytest.fixture
def servers_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """No workers: the row empties Redis."""
    with Rig.standing(tmp_path_factory.mktemp("servers"), {}, workers=0) as rig:
        yield rig


@pytest.mark.parametrize("row", [row for row in ROWS if row.workers], ids=lambda row: row.name)
def test_what_is_promised(rig: Rig, row: Row) -> None:
    outcome = row.run(rig, SHORT)
    assert not outcome.broken, outcome.figures


@pytest.mark.parametrize("row", [row for row in ROWS if not row.workers], ids=lambda row: row.name)
def test_what_is_promised_by_the_records(servers_alone: Rig, row: Row) -> None:
    assert not row.run(servers_alone, SHORT).broken


def test_the_report_shows_the_latest_line_of_each_row() -> None:
    frame = '"name": "r", "promises": 2, "seconds": 3.0'
    lines = [
        f'{{"row": 2, {frame}, "broken": [], "ok": true, "lost": 0, "took_s": {{"p50": 0.5}}}}',
        f'{{"row": 1, {frame}, "broken": [], "ok": true}}',
        f'{{"row": 1, {frame}, "broken": ["one result"], "ok": false}}',
    ]
    assert table(lines).splitlines()[2:] == [
        "| 1 | r | **broken: one result** |  | 3 s |",
        "| 2 | r | 2 of 2 kept | lost 0; took: p50 0.5 s | 3 s |",
    ]
