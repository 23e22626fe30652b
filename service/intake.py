"""Taking a job in: check, store, record, send; once for each Idempotency-Key, and wholly or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress

import structlog
from redis.exceptions import RedisError

from jobs import queue
from jobs.errors import DragAnythingError, QueueFull
from jobs.spec import GenerateRequest
from jobs.state import Artifact, Record
from jobs.storage import job_prefix
from jobs.store import NewJob, new_id
from service.auth import Caller
from service.inputs import accept
from service.state import Doors

log = structlog.get_logger()


def take_in(body: GenerateRequest, sender: Caller, key: str | None, services: Doors) -> Record:
    """The job that a request makes, or the one that it made before under the same key.

    Raises:
        DragAnythingError: the request is refused; nothing of it is kept.
    """
    if key is None:
        return _admit(body, sender, services)
    fingerprint = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    earlier = services.store.reserve(sender.owner, key, fingerprint)
    if earlier is not None:
        return services.store.get(earlier)
    with _released_on_error(services, sender.owner, key):
        return _admit(body, sender, services, key, fingerprint)


@contextmanager
def _released_on_error(services: Doors, owner: str, key: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        with suppress(RedisError):  # then it ends by itself, a minute after it was reserved
            services.store.release(owner, key)
        raise


def _admit(
    body: GenerateRequest, sender: Caller, services: Doors, key: str | None = None, fingerprint: str = ""
) -> Record:
    card = services.registry.card(body.model)
    if services.store.count_queued(card.name) >= services.settings.max_queued:
        raise QueueFull("Send the job again later.", retry_after_s=10)
    job_id = new_id()
    with _storing(job_id, services) as (put, settle):
        accepted = accept(body, card, job_id, services.settings, put)
        settle()
        job = NewJob(job_id, accepted.spec, tuple(accepted.warnings))
        (record,) = services.store.create(
            sender.owner, [job], key=key, fingerprint=fingerprint, quota=sender.quota
        )
    try:
        queue.wake(services.redis, card.name)
    except RedisError:  # the job is accepted: a worker finds it within a second
        log.warning("nobody_woken", job=job_id)
    return record


@contextmanager
def _storing(
    job_id: str, services: Doors
) -> Iterator[tuple[Callable[[str, bytes, str], None], Callable[[], None]]]:
    """Inputs are stored while the rest is still being checked; where the job is refused after all, none stays.
    Where nobody knows whether it was accepted they do; the janitor deletes what turns out to be an orphan.

    Gives two functions: one that begins to store an object, one that returns when all of them are stored.
    """
    puts: list[Future[Artifact]] = []

    def put(key: str, data: bytes, media_type: str) -> None:
        puts.append(services.pool.submit(services.storage.put, key, data, media_type))

    def settle() -> None:
        for future in puts:
            future.result()

    try:
        yield put, settle
    except RedisError:  # the record may be written although its answer was lost: then the job needs its inputs
        raise
    except Exception:
        wait(puts)
        if puts:
            with suppress(DragAnythingError):  # the first error is the one to tell
                services.storage.delete(job_prefix(job_id))
        raise
