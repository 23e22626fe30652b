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
from jobs.webhooks import Subscription
from service import telemetry
from service.auth import Caller
from service.bounds import refuse
from service.extension import Earlier, find_earlier
from service.inputs import Put, accept, moved
from service.problems import MAX_ERRORS
from service.receivers import Receivers
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
    cards: dict[str, ModelCard] = {}
    plan: list[tuple[Draft, list[str]]] = []

    def prepare() -> list[str]:
        cards.update(_cards(drafts, services))
        plan.extend((draft, [new_id() for _ in draft.seeds or (None,)]) for draft in drafts)
        return [job_id for _, job_ids in plan for job_id in job_ids]

    def draw_up(put: Put) -> list[NewJob]:
        return _draw_up(plan, cards, sender, services, put)

    return admit(body, prepare, draw_up, group, sender, key, services)


def admit(
    body: BaseModel,
    prepare: Callable[[], list[str]],
    draw_up: Callable[[Put], list[NewJob]],
    group: str | None,
    sender: Caller,
    key: str | None,
    services: Doors,
) -> list[Record]:
    """The jobs that a body makes, or those that it made before under the same key.

    ``prepare`` makes cheap checks and gives the ids that the jobs are to have; ``draw_up`` makes the jobs and
    hands over their inputs.

    Raises:
        DragAnythingError: the body is refused; nothing of it is kept.
    """
    if key is None:
        return _record(prepare(), draw_up, group, sender, services)
    fingerprint = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    earlier = services.store.reserve(sender.owner, key, fingerprint)
    if earlier is not None:
        return services.store.group(earlier) if group else [services.store.get(earlier)]
    with _released_on_error(services, sender.owner, key):
        return _record(prepare(), draw_up, group, sender, services, key, fingerprint)


@contextmanager
def _released_on_error(services: Doors, owner: str, key: str) -> Iterator[None]:
    try:
        yield
    except Exception:
        with suppress(RedisError):  # then it ends by itself, a minute after it was reserved
            services.store.release(owner, key)
        raise


def _record(
    job_ids: Sequence[str],
    draw_up: Callable[[Put], list[NewJob]],
    group: str | None,
    sender: Caller,
    services: Doors,
    key: str | None = None,
    fingerprint: str = "",
) -> list[Record]:
    with _storing(job_ids, services) as (put, settle):
        jobs = draw_up(put)
        settle()
        records = services.store.create(
            sender.owner, jobs, key=key, fingerprint=fingerprint, quota=sender.quota, group=group
        )
    for job in jobs:
        telemetry.note_accepted(job.spec.model)
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
        with pointed(draft.pointer):
            wanted[draft.request.model] += len(draft.seeds) or 1
            if draft.request.model not in cards:
                cards[draft.request.model] = services.registry.card(draft.request.model)
    for name, count in wanted.items():
        find_room(name, count, services)
    return cards


def find_room(model: str, count: int, services: Doors) -> None:
    """Look whether so many jobs more may wait for a model.

    Raises:
        QueueFull: not now.
    """
    if services.store.count_queued(model) + count > services.settings.max_queued:
        raise QueueFull("Send the job again later.", retry_after_s=10)


def _draw_up(
    plan: Sequence[tuple[Draft, list[str]]],
    cards: Mapping[str, ModelCard],
    sender: Caller,
    services: Doors,
    put: Put,
) -> list[NewJob]:
    """The jobs of all drafts, each with the ids that it is to have; what is wrong in any of them is named."""
    sources, receivers = Sources(sender, services), Receivers(sender, services)
    jobs: list[NewJob] = []
    errors: list[FieldError] = []
    for draft, job_ids in plan:
        try:
            with pointed(draft.pointer):
                webhook = receivers.subscribe(draft.request.webhook)
                earlier = find_earlier(draft.request, sender, services)
                card = cards[draft.request.model]
                jobs += _vary(draft, earlier, job_ids, card, webhook, sources, services.settings, put)
        except InvalidRequest as error:
            errors += error.errors
            if len(errors) >= MAX_ERRORS:
                break
    refuse(errors[:MAX_ERRORS])
    return jobs


def _vary(
    draft: Draft,
    earlier: Earlier | None,
    job_ids: list[str],
    card: ModelCard,
    webhook: Subscription | None,
    sources: Sources,
    settings: Settings,
    put: Put,
) -> Iterator[NewJob]:
    """The same job once for each id, with inputs of its own; checked once."""

    def put_for_each(key: str, data: bytes, media_type: str) -> None:
        for job_id in job_ids:
            put(inputs_prefix(job_id) + key.removeprefix(inputs_prefix(job_ids[0])), data, media_type)

    request = draft.request if earlier is None else earlier.begin(draft.request, card)
    prefix = None if earlier is None else earlier.video()
    accepted = accept(request, card, job_ids[0], settings, put_for_each, sources.read, prefix)
    for job_id, seed in zip(job_ids, draft.seeds or [accepted.spec.seed], strict=True):
        spec = moved(accepted.spec, job_id).model_copy(update={"seed": seed})
        yield NewJob(job_id, spec, (*accepted.warnings, *draft.notes), webhook)


@contextmanager
def pointed(pointer: str) -> Iterator[None]:
    """Errors of fields point into the body that ``pointer`` leads into."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(
            error.detail,
            errors=tuple(FieldError(pointer + each.pointer, each.detail) for each in error.errors),
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
