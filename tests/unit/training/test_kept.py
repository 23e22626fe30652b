"""Kept clips: made once, the same again, in another order each time round."""

from pathlib import Path

import pytest
import torch

from tests.unit.training import micro
from training.data.kept import KeptClips
from training.data.synthetic import SyntheticSource


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> SyntheticSource:
    """A source that tells how many clips it made."""
    made = micro.source()
    batch = made.batch
    monkeypatch.setattr(made, "asked", [], raising=False)

    def counted(*position: int) -> object:
        made.asked.append(position)  # type: ignore[attr-defined]
        return batch(*position)

    monkeypatch.setattr(made, "batch", counted)
    return made


def names(kept: KeptClips, steps: range) -> list[str]:
    return [name for step in steps for name in kept.batch(2, step, 0, 2, 2).names]


def test_every_clip_is_made_once_and_comes_once_each_time_round(source: SyntheticSource, tmp_path: Path) -> None:
    kept = KeptClips(source, 6, tmp_path)
    rounds = [names(kept, range(start, start + 3)) for start in (0, 3, 6)]
    assert len(source.asked) == 6  # type: ignore[attr-defined]
    assert [len(set(found)) for found in rounds] == [6, 6, 6]
    assert set(rounds[0]) == set(rounds[1])
    assert rounds[0] != rounds[1] != rounds[2]


def test_what_was_kept_is_the_same_for_another_process(source: SyntheticSource, tmp_path: Path) -> None:
    first = KeptClips(source, 4, tmp_path).batch(2, 1, 0, 2, 2)
    asked = len(source.asked)  # type: ignore[attr-defined]
    again = KeptClips(source, 4, tmp_path).batch(2, 1, 0, 2, 2)
    assert len(source.asked) == asked  # type: ignore[attr-defined]
    assert again.names == first.names
    for key, value in vars(first).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(again, key)), key


def test_another_source_or_length_shares_nothing(source: SyntheticSource, tmp_path: Path) -> None:
    kept = KeptClips(source, 2, tmp_path)
    other = SyntheticSource(source.options, 2, source.device)
    longer = kept.batch(2, 0, 0, 2, 3).names
    found = KeptClips(other, 2, tmp_path).batch(2, 0, 0, 2, 2).names
    assert not {*kept.batch(2, 0, 0, 2, 2).names} & {*longer, *found}
