"""The store's state machine, for longer than the test suite has time for."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule, run_state_machine_as_test
from redis import Redis

from tests.chaos.rig import Rig
from tests.chaos.row import Outcome, Scale
from tests.harness import settings_of
from tests.unit.jobs import test_store_machine as machine

STEPS = 50
"""Of each life."""


class Counted(machine.Life):
    """Counts."""

    steps = 0

    @rule()
    def step(self) -> None:
        """One more."""
        Counted.steps += 1
        super().step()


def any_order_of_calls(rig: Rig, scale: Scale) -> Outcome:
    """Every call of the store in any order, compared with a model of the record after each."""
    limits = {"lease_s": 1000.0, "max_queued": machine.MAX_QUEUED, "max_attempts": machine.MAX_CRASHES}
    Counted.config = settings_of(rig.stack).model_copy(update=limits)
    Counted.steps = 0
    with Redis.from_url(rig.stack.valkey.url) as redis:
        Counted.redis = redis
        run_state_machine_as_test(  # raises where an invariant does not hold
            Counted,
            settings=settings(
                max_examples=scale.examples,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    return Outcome({"the invariants hold": True}, {"lives": scale.examples, "steps": Counted.steps})
