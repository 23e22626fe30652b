"""Webhooks to a receiver that fails half the time, sent by a process that is killed in the middle of it."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from random import Random
from signal import SIGSTOP
from typing import cast

from redis import Redis

from jobs.outbox import Outbox
from jobs.webhooks import Secrets
from tests.chaos.driver import View
from tests.chaos.rig import Rig, say
from tests.chaos.row import Outcome, Scale, spread
from tests.harness import until
from tests.inbox import Inbox, listening

SEED = 8
MOST_IN_A_ROW = 6
"""The service gives up after ten."""
ARRIVED_S = 300.0
# The pauses between tries, hours of them, are skipped: what nobody holds is due. So is what only the dead hold.
HURRY = """
for _, host in ipairs(redis.call('ZRANGE', 'da:outbox', 0, -1)) do
  for _, id in ipairs(redis.call('ZRANGE', 'da:outbox:' .. host, 0, -1)) do
    local token = redis.call('HGET', 'da:job:' .. id, 'delivery')
    if not token or redis.call('SISMEMBER', KEYS[1], token) == 1 then
      redis.call('ZADD', 'da:outbox:' .. host, 0, id)
      redis.call('ZADD', 'da:outbox', 0, host)
    end
  end
end
"""
LEFT_BY_THE_DEAD = "chaos:left-by-the-dead"


class Unreliable:
    """Answers half of the tries with an error, and kills the sender while some wait for their answer."""

    def __init__(self, rig: Rig, redis: Redis, scale: Scale) -> None:
        self.killed = 0
        self._rig = rig
        self._redis = redis
        self._wait = scale.outlast_leases
        self._dice = Random(SEED)
        self._asked = 0
        self._kill_at = {(1 + n) * scale.webhooks // (1 + scale.webhook_kills) for n in range(scale.webhook_kills)}
        self._lock = threading.Lock()

    def answer(self, _: str, number: int) -> int:
        """The status of a message's n-th try."""
        with self._lock:
            self._asked += 1
            if self._asked in self._kill_at:
                self._kill()
                return 500
            return self._dice.choice([200, 204, 500, 503] if number <= MOST_IN_A_ROW else [200])

    def _kill(self) -> None:
        sender = self._rig.stack.processes["webhooks"]
        if not self._wait:
            sender.kill(SIGSTOP)
            for job in self._redis.scan_iter("da:job:*", count=1000):
                token = cast("bytes | None", self._redis.hget(job, "delivery"))
                if token:
                    self._redis.sadd(LEFT_BY_THE_DEAD, token)
        sender.kill()
        self.killed += 1


def unreliable_receiver(rig: Rig, scale: Scale) -> Outcome:
    """End jobs by canceling them, and wait until the receiver has accepted what it was told about each."""
    rig.await_workers(1)
    run = time.time_ns()
    with Redis.from_url(rig.stack.valkey.url) as redis:
        receiver = Unreliable(rig, redis, scale)
        inbox = Inbox(Secrets(redis).create("", replace=True), receiver.answer)
        with listening(inbox) as url:
            webhook = {"url": url}
            jobs = [_ended(rig, f"webhooks-{run}-{number}", webhook) for number in range(scale.webhooks)]
            say(f"  {len(jobs)} jobs canceled")
            hurry = redis.register_script(HURRY)

            def arrived() -> bool:
                hurry(keys=[LEFT_BY_THE_DEAD])
                return not redis.exists("da:outbox")

            for job in jobs:
                rig.driver.await_end(job)
            until(arrived, ARRIVED_S)
        ends = {f"msg_{job}": rig.driver.view(job) for job in jobs}
        given_up = Outbox(redis).dead()
    delivered = sum(inbox.accepted[message] > 0 for message in ends)
    return Outcome(
        {
            "every message arrives": delivered == len(jobs) and not given_up,
            "every signature verifies": inbox.forged == 0,
            "a message has the same id in each try": set(inbox.tries) == set(ends),
            "no message is sent by two at a time": inbox.together == 0,
            "what is told is how the job ended": all(
                inbox.events.get(message, {}).get("type") == f"job.{end['status']}"
                for message, end in ends.items()
            ),
            "the sender is killed": receiver.killed == scale.webhook_kills,
        },
        {
            "jobs": len(jobs),
            "delivered": delivered,
            "tries": inbox.tries.total(),
            "accepted_again": inbox.accepted.total() - delivered,
            "kills": receiver.killed,
            "first_try_s": spread([_waited_s(inbox, message, end) for message, end in ends.items()]),
        },
    )


def _ended(rig: Rig, key: str, webhook: View) -> str:
    job = rig.submit(key, webhook=webhook)["id"]
    rig.driver.cancel(job)
    return str(job)


def _waited_s(inbox: Inbox, message: str, end: View) -> float:
    """From the end on record to the first try."""
    return inbox.first_at.get(message, float("inf")) - datetime.fromisoformat(end["finished_at"]).timestamp()
