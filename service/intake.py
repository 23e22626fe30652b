"""Taking a job in: check, store, record, send; once for each Idempotency-Key, and wholly or not at all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog
from pydantic import BaseModel
from redis.exceptions import RedisError

from jobs import queue
from jobs.errors import DragAnythingError, FieldError, InvalidRequest, QueueFull
from jobs.models import ModelCard
from jobs.settings import Settings
from jobs.spec import GenerateRequest
from jobs.state import Artifact, JobWarning, Record
from jobs.storage import inputs_prefix, job_prefix
from jobs.store import NewJob, new_id
from service.auth import Caller
from service.inputs import Put, accept, moved, refuse
from service.problems import MAX_ERRORS
from service.sources import Sources
from service.state import Doors

log = structlog.get_logger()


@dataclass(frozen=True)
class Draft:
    """A request that is to become jobs: one, or one for each of ``seeds``.

    ``pointer`` says where in the body it stands, ``notes`` what its user should know besides.
    """

    request: GenerateRequest
    pointer: str = ""
    seeds: Sequence[int] = ()
    notes: Sequence[JobWarning] = ()


def take_in(
    body: GenerateRequest, sender: Caller, key: str | None, services: Doors, notes: Sequence[JobWarning] = ()
) -> Record:
    """The job that a request makes, or the one that it made before under the same key.

    Raises:
        DragAnythingError: the request is refused; nothing of it is kept.
    """
    (record,) = take_in_all(body, [Draft(body, notes=notes)], None, sender, key, services)
    return record


def take_in_all(
    body: BaseModel, drafts: Sequence[Draft], group: str | None, sender: Caller, key: str | None, services: Doors
) -> list[Record]:
    """The jobs that the drafts of a body make, all or none, or those that they made before under the same key.

    Raises:
        DragAnythingError: the body is refused; nothing of it is kept.
    """
    if key is None:
        return _admit(drafts, group, sender, services)
    fingerprint = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    earlier = services.store.reserve(sender.owner, key, fingerprint)
    if earlier is not None:
        return services.store.group(earlier) if group else [services.store.get(earlier)]
    with _released_on_error(services, sender.owner, key):
        return _admit(drafts, group, sender, services, key, fingerprint)


@contextmanager
def _released_on_error(services: Doors, owner: str, key: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        with suppress(RedisError):  # then it ends by itself, a minute after it was reserved
            services.store.release(owner, key)
        raise


def _admit(
    drafts: Sequence[Draft],
    group: str | None,
    sender: Caller,
    services: Doors,
    key: str | None = None,
    fingerprint: str = "",
) -> list[Record]:
    cards = _cards(drafts, services)
    plan = [(draft, [new_id() for _ in draft.seeds or (None,)]) for draft in drafts]
    with _storing([job_id for _, ids in plan for job_id in ids], services) as (put, settle):
        jobs = _draw_up(plan, cards, Sources(sender, services), services.settings, put)
        settle()
        records = services.store.create(
            sender.owner, jobs, key=key, fingerprint=fingerprint, quota=sender.quota, group=group
        )
    try:
        for job in jobs:
            queue.wake(services.redis, job.spec.model)
    except RedisError:  # the jobs are accepted: a worker finds them within a second
        log.warning("nobody_woken", job=jobs[0].id)
    return records


def _cards(drafts: Sequence[Draft], services: Doors) -> dict[str, ModelCard]:
    """The models of the drafts, each with room in its queue."""
    wanted: Counter[str] = Counter()
    cards: dict[str, ModelCard] = {}
    for draft in drafts:
        with _pointed(draft):
            wanted[draft.request.model] += len(draft.seeds) or 1
            if draft.request.model not in cards:
                cards[draft.request.model] = services.registry.card(draft.request.model)
    for name, count in wanted.items():
        if services.store.count_queued(name) + count > services.settings.max_queued:
            raise QueueFull("Send the job again later.", retry_after_s=10)
    return cards


def _draw_up(
    plan: Sequence[tuple[Draft, list[str]]],
    cards: Mapping[str, ModelCard],
    sources: Sources,
    settings: Settings,
    put: Put,
) -> list[NewJob]:
    """The jobs of all drafts, each with the ids that it is to have; what is wrong in any of them is named."""
    jobs: list[NewJob] = []
    errors: list[FieldError] = []
    for draft, job_ids in plan:
        try:
            with _pointed(draft):
                jobs += _vary(draft, job_ids, cards[draft.request.model], sources, settings, put)
        except InvalidRequest as error:
            errors += error.errors
            if len(errors) >= MAX_ERRORS:
                break
    refuse(errors[:MAX_ERRORS])
    return jobs


def _vary(
    draft: Draft, job_ids: list[str], card: ModelCard, sources: Sources, settings: Settings, put: Put
) -> Iterator[NewJob]:
    """The same job once for each id, with inputs of its own; checked once."""

    def put_for_each(key: str, data: bytes, media_type: str) -> None:
        for job_id in job_ids:
            put(inputs_prefix(job_id) + key.removeprefix(inputs_prefix(job_ids[0])), data, media_type)

    accepted = accept(draft.request, card, job_ids[0], settings, put_for_each, sources.read)
    for job_id, seed in zip(job_ids, draft.seeds or [accepted.spec.seed], strict=True):
        spec = moved(accepted.spec, job_id).model_copy(update={"seed": seed})
        yield NewJob(job_id, spec, (*accepted.warnings, *draft.notes))


@contextmanager
def _pointed(draft: Draft) -> Iterator[None]:
    """Errors of fields point into the body that the draft is a part of."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(
            error.detail,
            errors=tuple(FieldError(draft.pointer + each.pointer, each.detail) for each in error.errors),
        ) from error


@contextmanager
def _storing(job_ids: Sequence[str], services: Doors) -> Iterator[tuple[Put, Callable[[], None]]]:
    """Inputs are stored while the rest is still being checked; where the jobs are refused after all, none stays.
    Where nobody knows whether they were accepted they do; the janitor deletes what turns out to be orphans.

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
                for _ in services.pool.map(services.storage.delete, map(job_prefix, job_ids)):
                    pass
        raise
