"""``python -m worker.webhooks``: tell users' servers that their jobs have ended. Needs no model and no torch.

A process of its own: the addresses are strangers', so it can be given the way to the internet that no other
process of the service needs, and however slow they are, the janitor sweeps on. Several share the work.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog
from redis import Redis
from redis.exceptions import RedisError

from jobs import tracing
from jobs.connection import Misconfigured, connect_patiently
from jobs.errors import NotFound
from jobs.logs import configure_logs
from jobs.outbound import Dialer, OutboundError
from jobs.outbox import Delivery, Outbox
from jobs.settings import Settings, settings
from jobs.state import Record
from jobs.storage import Storage
from jobs.store import Store
from jobs.tracing import configure_traces
from jobs.webhooks import TIMEOUT_S, Answer, Secrets, dialer, post, word
from worker.telemetry import note_webhook, serve_metrics

log = structlog.get_logger()

HANDS = 16
"""Messages that are on their way at the same time."""
HANDS_PER_HOST = 4
"""A receiver that does not answer holds up so many, and no others."""
POLL_S = 0.5
GONE = 410


class Deliverer:
    """Takes messages out of the outbox and sends them."""

    def __init__(
        self,
        redis: Redis,
        config: Settings,
        *,
        outbox: Outbox | None = None,
        caller: Dialer | None = None,
    ) -> None:
        self._outbox = outbox or Outbox(redis)
        self._caller = caller or dialer(config)
        self._secrets = Secrets(redis)
        self._store = Store(redis, config)
        self._storage = None if config.s3_private else Storage(config)
        self._busy: Counter[str] = Counter()
        self._changed = threading.Condition()

    def run(self, stopping: threading.Event) -> None:
        """Send what is due until told to stop, and what has been taken by then."""
        with ThreadPoolExecutor(HANDS, thread_name_prefix="webhook") as pool:
            while not stopping.is_set():
                try:
                    idle = not self._hand_out(pool)
                except Misconfigured:
                    raise
                except RedisError as error:
                    log.warning("outbox_away", error=str(error))
                    idle = True
                if idle:
                    with self._changed:
                        self._changed.wait(POLL_S)

    def deliver_next(self) -> bool:
        """Send what is due first; False where nothing is."""
        ends = time.monotonic() + TIMEOUT_S
        delivery = self._outbox.take()
        if delivery is not None:
            self._deliver(delivery, ends)
        return delivery is not None

    def _hand_out(self, pool: ThreadPoolExecutor) -> bool:
        """Have what is due first sent beside the others; False where nothing is due or all hands are full."""
        with self._changed:
            if self._busy.total() >= HANDS:
                return False
            full = [host for host, count in self._busy.items() if count >= HANDS_PER_HOST]
        ends = time.monotonic() + TIMEOUT_S  # before the lease begins, so that nothing is sent after it
        delivery = self._outbox.take(full)
        if delivery is None:
            return False
        with self._changed:
            self._busy[delivery.host] += 1
        pool.submit(self._deliver_by_hand, delivery, ends)
        return True

    def _deliver_by_hand(self, delivery: Delivery, ends: float) -> None:
        try:
            self._deliver(delivery, ends)
        except RedisError as error:  # it is due again when the lease ends
            log.warning("outbox_away", error=str(error))
        finally:
            with self._changed:
                self._busy -= Counter([delivery.host])  # forgets hosts that nothing is sent to
                self._changed.notify()

    def _deliver(self, delivery: Delivery, ends: float) -> None:
        started = time.monotonic()
        told = log.bind(job=delivery.job_id, host=delivery.host, attempt=delivery.tries + 1)
        answer: Answer | None = None
        with suppress(NotFound):  # forgotten meanwhile, and its delivery with it
            record = self._store.get(delivery.job_id)
            if record.traceparent is not None:
                told = told.bind(trace=tracing.trace_id(record.traceparent))
            span = tracing.begin("webhook", record.traceparent, kind="CLIENT", job=record.id)
            try:
                answer = self._send(delivery, record, ends)
                note = str(answer.status)
            except OutboundError as error:
                note = str(error)
            except (NotFound, RedisError):
                raise
            except Exception as error:
                log.exception("webhook_broken", job=delivery.job_id)
                note = type(error).__name__
            seconds = time.monotonic() - started
            outcome = self._settle(delivery, answer, note, told.bind(seconds=round(seconds, 3)))
            note_webhook(outcome, seconds)
            span.end(failed=outcome != "delivered", outcome=outcome, attempt=delivery.tries + 1)

    def _send(self, delivery: Delivery, record: Record, ends: float) -> Answer:
        secret = self._secrets.get(delivery.owner)
        if secret is None:
            raise OutboundError("The owner has no webhook secret any more.")
        body = word(record, delivery.subscription.base_url, self._storage)
        return post(self._caller, delivery.subscription.url, secret, delivery.message_id, body, ends)

    def _settle(
        self, delivery: Delivery, answer: Answer | None, note: str, told: structlog.typing.FilteringBoundLogger
    ) -> str:
        if answer and answer.accepted:
            self._outbox.deliver(delivery)
            told.info("webhook_delivered", status=answer.status)
            return "delivered"
        if answer and answer.status == GONE:
            pause_s = None
            self._outbox.bury(delivery, note)
        else:
            pause_s = self._outbox.fail(delivery, note, answer.retry_after_s if answer else None)
        if pause_s is None:
            told.error("webhook_dead", status=note)
            return "dead"
        told.warning("webhook_failed", status=note, next_s=round(pause_s))
        return "failed"


def main() -> None:
    """Deliver until told to stop."""
    config = settings()
    configure_logs(config)
    configure_traces("webhooks")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        serve_metrics(config)
        Deliverer(connect_patiently(config), config).run(stopping)
    except Misconfigured as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
