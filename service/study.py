"""``/v1/studies``: blind comparisons of finished videos, as their owners see them; ``ballots`` is for raters."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from pydantic import BaseModel, Field, model_validator

from jobs.errors import InvalidRequest, NotFound
from jobs.spec import AnyList, Schema
from jobs.state import Record, Status
from jobs.store import new_id
from jobs.studies import (
    MAX_PAIRS,
    Pair,
    Preferred,
    Study,
    Vote,
    new_link,
    preference,
    raters,
)
from service import problems
from service.auth import Sender
from service.bodies import JsonRoute
from service.links import base_url
from service.rest import json_only
from service.state import Doors, Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)

Name = Annotated[str, Field(min_length=1, max_length=60)]
_EXAMPLE = {
    "title": "Entities against points",
    "names": ["entity", "point"],
    "pairs": [{"a": "0199e0d2c6b4f0a1b2c3d4e5f6a7b8c9", "b": "0199e0d2c6b5a9b8c7d6e5f4a3b2c1d0"}],
}


class PairRequest(Schema):
    """Two succeeded jobs of one's own: the same request, say, with two models, settings or seeds."""

    a: Annotated[str, Field(max_length=64)]
    b: Annotated[str, Field(max_length=64)]

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.a == self.b:
            raise ValueError("a and b are the same job")
        return self


class StudyRequest(Schema):
    """What is compared. Raters see ``title``; ``names`` tell the owner what all ``a`` and all ``b`` are."""

    pairs: Annotated[list[PairRequest], Field(min_length=1, max_length=MAX_PAIRS)]
    names: Annotated[tuple[Name, Name], AnyList] = ("a", "b")
    title: Annotated[str, Field(max_length=200)] = ""


class PreferenceView(BaseModel):
    """Votes on one question: for ``a``, for ``b``, for neither."""

    a: int
    b: int
    tie: int
    share: float | None = Field(description="of a, among the votes that prefer one; null where none does")
    interval: tuple[float, float] = Field(description="of share: 95 % confidence (Wilson)")


class PairView(BaseModel):
    """A pair, and what was said of it."""

    a: str
    b: str
    motion: PreferenceView
    quality: PreferenceView


class StudyUrls(BaseModel):
    """Where to go from here; ``link`` is what raters are sent."""

    self: str
    csv: str
    link: str


class StudyView(BaseModel):
    """A study with its results."""

    id: str
    object: Literal["study"] = "study"
    title: str
    names: tuple[str, str]
    created_at: datetime
    closes_at: datetime = Field(description="when the first of its videos is gone; no votes from then on")
    expires_at: datetime = Field(description="when its votes are gone too")
    raters: int
    votes: int = Field(description="pairs that were voted on, counted for each rater; at most 20000 are kept")
    motion: PreferenceView = Field(description="Which video moves as it was asked to?")
    quality: PreferenceView = Field(description="Which video looks better?")
    pairs: list[PairView]
    urls: StudyUrls


@router.post(
    "/studies",
    status_code=201,
    dependencies=[Depends(json_only)],
    responses={
        201: {"description": "Made", "headers": {"Location": {"schema": {"type": "string"}}}},
        **problems.responses(400, 403, 413, 415, 422, 503),
    },
    summary="Let people compare videos",
)
def create(
    body: Annotated[StudyRequest, Body(openapi_examples={"Two settings": {"value": _EXAMPLE}})],
    request: Request,
    response: Response,
    services: Services,
    sender: Sender,
) -> StudyView:
    """Takes votes from whoever has its link, until the first of its videos expires."""
    wanted = {
        job: f"/pairs/{i}/{side}" for i, pair in enumerate(body.pairs) for side, job in pair.model_dump().items()
    }
    records = [_finished(job, pointer, sender.owner, services) for job, pointer in wanted.items()]
    now = datetime.now(UTC)
    kept = timedelta(seconds=services.settings.retention_s)
    closes = min(record.expires_at or now + kept for record in records)
    made = Study(
        id=new_id(),
        owner=sender.owner,
        link=new_link(),
        title=body.title,
        names=body.names,
        pairs=tuple(Pair(a=pair.a, b=pair.b) for pair in body.pairs),
        created_at=now,
        closes_at=closes,
        expires_at=closes + kept,
    )
    services.studies.create(made)
    answer = _present(made, [], base_url(request, services.settings))
    response.headers["Location"] = answer.urls.self
    return answer


def _finished(job_id: str, pointer: str, owner: str, services: Doors) -> Record:
    try:
        record = services.store.get(job_id, owner)
    except NotFound as error:
        raise InvalidRequest.at(pointer, error.detail) from None
    if record.status is not Status.SUCCEEDED:
        raise InvalidRequest.at(pointer, f"The job is {record.status}: it has no video to compare.")
    return record


@router.get(
    "/studies/{study_id}",
    response_model=StudyView,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems.responses(404, 422, 503),
    },
    summary="The results of a study",
)
def read(
    study_id: str,
    request: Request,
    services: Services,
    sender: Sender,
    form: Annotated[Literal["json", "csv"], Query(alias="format", description="csv: one line per vote")] = "json",
) -> StudyView | Response:
    """Preferences with their confidence intervals, for each question and pair."""
    found = services.studies.get(study_id, sender.owner)
    votes = services.studies.votes(found)
    if form == "csv":
        name = f"study-{found.id[:12]}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(table(found, votes), media_type="text/csv", headers=headers)
    return _present(found, votes, base_url(request, services.settings))


def table(study: Study, votes: list[Vote]) -> str:
    """The votes as CSV (RFC 4180); raters are numbers."""
    numbers = raters(votes)
    lines = [
        (
            study.pairs[v.pair].a,
            study.pairs[v.pair].b,
            numbers[v.rater],
            v.left,
            v.motion,
            v.quality,
            v.at.isoformat(),
        )
        for v in votes
    ]
    file = io.StringIO()
    csv.writer(file).writerows([("a", "b", "rater", "left", "motion", "quality", "at"), *lines])
    return file.getvalue()


def _present(study: Study, votes: list[Vote], base: str) -> StudyView:
    address = f"{base}/v1/studies/{study.id}"
    return StudyView(
        id=study.id,
        title=study.title,
        names=study.names,
        created_at=study.created_at,
        closes_at=study.closes_at,
        expires_at=study.expires_at,
        raters=len(raters(votes)),
        votes=len(votes),
        motion=_answers(vote.motion for vote in votes),
        quality=_answers(vote.quality for vote in votes),
        pairs=[
            PairView(
                a=pair.a,
                b=pair.b,
                motion=_answers(vote.motion for vote in votes if vote.pair == index),
                quality=_answers(vote.quality for vote in votes if vote.pair == index),
            )
            for index, pair in enumerate(study.pairs)
        ],
        urls=StudyUrls(self=address, csv=f"{address}?format=csv", link=f"{base}/study#{study.link}"),
    )


def _answers(given: Iterable[Preferred]) -> PreferenceView:
    found = preference(given)
    share = None if found.share is None else round(found.share, 4)
    return PreferenceView(
        a=found.a, b=found.b, tie=found.tie, share=share, interval=(round(found.low, 4), round(found.high, 4))
    )
