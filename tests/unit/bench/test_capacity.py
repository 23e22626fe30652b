from __future__ import annotations

import json
import math
import sys
from random import Random

import pytest

from bench import capacity
from bench.capacity import Fleet, Simulation, erlang_c, poisson


def queue_of(servers: int, use: float, jobs: int) -> tuple[capacity.Outcome, float]:
    """M/M/c by simulation, with a mean service of one second, and the rate of arrivals."""
    rate, dice = use * servers, Random(3)
    arrivals = list(poisson(rate, jobs / rate, Random(4)))
    fleet = Fleet(gpus=servers)
    return Simulation(fleet, arrivals, dice, lambda: dice.expovariate(1.0)).run(), rate


@pytest.mark.parametrize(("servers", "use", "jobs"), [(1, 0.6, 60_000), (4, 0.8, 60_000), (20, 0.85, 200_000)])
def test_waiting_is_what_erlang_says(servers: int, use: float, jobs: int) -> None:
    found, rate = queue_of(servers, use, jobs)
    waits, spare = erlang_c(servers, rate), servers - rate
    assert found.wait_mean_s == pytest.approx(waits / spare, rel=0.1)
    assert found.wait_p95_s == pytest.approx(max(0.0, math.log(waits / 0.05) / spare), rel=0.1, abs=0.05)
    assert found.busy_share == pytest.approx(use, rel=0.02)


def test_erlang_c_in_closed_form() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.5) == pytest.approx(1.5**2 / (2 + 1.5))


def test_arrivals_follow_the_day() -> None:
    times = list(poisson(0.5, capacity.DAY, Random(1), peak=2.0))
    assert len(times) == pytest.approx(0.5 * capacity.DAY, rel=0.03)
    noon = sum(capacity.DAY * 0.4 < time < capacity.DAY * 0.6 for time in times) / len(times)
    assert noon == pytest.approx(0.2 + math.sin(0.2 * math.pi) / math.pi, rel=0.03)


def test_a_sleeping_fleet_wakes() -> None:
    fleet = Fleet(gpus=3, resting=0, render_s=20, spread=0, poll_s=30, start_s=180)
    found = Simulation(fleet, [1.0, 1.0, 1.0, 1.0], Random(0)).run()
    assert found.wait_p50_s == 29 + 180
    assert found.wait_p95_s == pytest.approx(226)  # 20 more for the last of four
    assert found.busy_share == pytest.approx(4 * 20 / (3 * 220), abs=0.001)


def test_idle_workers_are_given_back_and_no_longer_paid() -> None:
    fleet = Fleet(gpus=2, resting=0, render_s=20, spread=0, poll_s=30, start_s=60, cooldown_s=300)
    found = Simulation(fleet, [0.0, 10_000.0], Random(0)).run()
    paid_s = (60 + 20 + 310) + (60 + 20)  # the autoscaler looks every 30 s
    assert found.gpu_hours == pytest.approx(paid_s / 3600, abs=0.001)
    assert found.cost_per_1000 == pytest.approx(1000 * paid_s / 3600 * 3.0 / 2, abs=0.01)


def test_jobs_outlive_the_machines_that_are_taken_away() -> None:
    arrivals = list(poisson(0.2, 20_000, Random(5)))
    fleet = Fleet(gpus=10, render_s=20, losses_per_h=20, start_s=30)
    found = Simulation(fleet, arrivals, Random(6)).run()
    assert found.lost_attempts > 50
    assert found.failed < 0.01 * found.jobs


def test_a_job_is_given_up_after_its_last_attempt() -> None:
    fleet = Fleet(gpus=2, render_s=1000, spread=0, losses_per_h=3600)
    found = Simulation(fleet, [0.0] * 5, Random(7)).run()
    assert (found.failed, found.lost_attempts) == (5, 5 * fleet.max_attempts)


def test_the_same_seed_gives_the_same_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures(*arguments: str) -> object:
        monkeypatch.setattr(sys, "argv", ["capacity", "--json", "--gpus", "2", "--hours", "2", *arguments])
        capacity.main()
        return json.loads(capsys.readouterr().out)["rows"]

    assert figures() == figures()
    assert figures() != figures("--seed", "1")
