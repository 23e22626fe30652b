"""The calls of a study's raters, who need its link and no key: they see pairs in an order and on sides of their
own, and never which video is which."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field

from jobs.errors import Conflict, NotFound, RateLimited
from jobs.keys import Draw
from jobs.spec import Schema
from jobs.state import Record
from jobs.studies import MAX_PAIRS, RATER, Ballot, Choice, Side, Study, Vote, ballots, new_link
from jobs.view import EXTENSIONS
from service import problems
from service.bodies import JsonRoute
from service.links import base_url
from service.rest import json_only, stream
from service.state import Doors, Services

router = APIRouter(prefix="/v1", route_class=JsonRoute, responses=problems.RESPONSES)

CALLS_PER_MINUTE = 1200
"""Of all raters of one study, together."""


class SideView(BaseModel):
    """A video of a ballot. The addresses tell nothing of its job."""

    media_type: str
    video_url: str
    overlay_url: str | None = Field(
        description="with the asked paths drawn in; null where one of the two has none"
    )


class BallotView(BaseModel):
    """The next pair of a rater; ``place`` and both sides are null when there is none left."""

    object: Literal["ballot"] = "ballot"
    title: str
    rater: str = Field(description="send it with every further call, so that no pair comes twice")
    place: int | None = Field(description="of the pair, in the order of this rater")
    done: int
    total: int
    left: SideView | None
    right: SideView | None


class VoteRequest(Schema):
    """A rater's answers about one pair."""

    rater: Annotated[str, Field(pattern=RATER)]
    place: Annotated[int, Field(ge=0, lt=MAX_PAIRS)]
    motion: Choice = Field(description="Which video moves as it was asked to?")
    quality: Choice = Field(description="Which video looks better?")


def _linked(link: str, services: Services) -> Study:
    """The study of a link; each such call is counted.

    Raises:
        NotFound: the link leads nowhere.
        RateLimited: its raters call too often.
    """
    study = services.studies.linked(link)
    (level,) = services.keys.draw(f"study-{study.id}", [Draw("calls", CALLS_PER_MINUTE, 60, 1)])
    if not level.taken:
        raise RateLimited(
            "Too many people vote at this moment; try again.", retry_after_s=max(1, round(level.wait_s))
        )
    return study


Linked = Annotated[Study, Depends(_linked)]


@router.get(
    "/studies/{link}/next",
    responses=problems.responses(403, 404, 422, 429, 503),
    openapi_extra={"security": []},
    summary="A rater's next pair",
)
def ballot(
    link: str,
    study: Linked,
    request: Request,
    services: Services,
    rater: Annotated[str | None, Query(pattern=RATER, description="as the first ballot said")] = None,
) -> BallotView:
    """Needs no key: ``link`` is what stands behind the # of the study's link."""
    return _next(study, link, rater or new_link(), base_url(request, services.settings), services)


def _next(study: Study, link: str, rater: str, base: str, services: Doors) -> BallotView:
    drawn, voted = ballots(study, rater), services.studies.voted(study, rater)
    place: int | None = None
    sides: tuple[SideView | None, SideView | None] = (None, None)
    for index, one in enumerate(drawn):
        if one.pair not in voted and (found := _videos(study, one, services)) is not None:
            place, sides = index, _sides(found, f"{base}/v1/studies/{link}/raters/{rater}/{index}")
            break
    return BallotView(
        title=study.title,
        rater=rater,
        place=place,
        done=len(voted),
        total=len(drawn),
        left=sides[0],
        right=sides[1],
    )


def _videos(study: Study, one: Ballot, services: Doors) -> tuple[Record, Record] | None:
    """The jobs on the left and on the right; None where one of them is gone."""
    pair = study.pairs[one.pair]
    try:
        left, right = (services.store.get(getattr(pair, one.letter(side))) for side in ("left", "right"))
    except NotFound:
        return None
    return left, right


def _sides(records: tuple[Record, Record], address: str) -> tuple[SideView, SideView]:
    artifacts = [record.result.artifacts if record.result else {} for record in records]
    overlays = all("overlay" in held for held in artifacts)  # one alone would tell them apart
    left, right = (
        SideView(
            media_type=held["video"].media_type,
            video_url=f"{address}/{side}",
            overlay_url=f"{address}/{side}?artifact=overlay" if overlays else None,
        )
        for side, held in zip(("left", "right"), artifacts, strict=True)
    )
    return left, right


@router.get(
    "/studies/{link}/raters/{rater}/{place}/{side}",
    responses={
        200: {"description": "The bytes", "content": {"*/*": {}}},
        206: {"description": "The asked range of them"},
        **problems.responses(403, 404, 422, 429, 503),
    },
    response_class=Response,
    openapi_extra={"security": []},
    summary="A video of a rater's pair",
)
def video(
    study: Linked,
    rater: Annotated[str, Path(pattern=RATER)],
    place: Annotated[int, Path(ge=0, lt=MAX_PAIRS)],
    side: Side,
    services: Services,
    artifact: Literal["video", "overlay"] = "video",
    byte_range: Annotated[str | None, Header(alias="range")] = None,
) -> Response:
    """Needs no key. The file is named by its side alone."""
    one = _at(study, rater, place)
    record = services.store.get(getattr(study.pairs[one.pair], one.letter(side)))
    held = record.result.artifacts.get(artifact) if record.result else None
    if held is None:
        raise NotFound(f"This video has no {artifact}.")
    return stream(held.key, f"{side}.{EXTENSIONS.get(held.media_type, 'bin')}", byte_range, services)


def _at(study: Study, rater: str, place: int) -> Ballot:
    drawn = ballots(study, rater)
    if place >= len(drawn):
        raise NotFound(f"This study has {len(drawn)} pairs.")
    return drawn[place]


@router.post(
    "/studies/{link}/votes",
    dependencies=[Depends(json_only)],
    responses={
        200: {"description": "Kept"},
        **problems.responses(400, 403, 404, 409, 411, 413, 415, 422, 429, 503),
    },
    openapi_extra={"security": []},
    summary="Vote on a pair",
)
def vote(link: str, body: VoteRequest, study: Linked, request: Request, services: Services) -> BallotView:
    """Needs no key. Answers with the next pair; the same vote again changes nothing."""
    now = datetime.now(UTC)
    if now > study.closes_at:
        raise Conflict("This study is over.")
    one = _at(study, body.rater, body.place)
    kept = Vote(
        rater=body.rater,
        pair=one.pair,
        left=one.left,
        motion=one.preferred(body.motion),
        quality=one.preferred(body.quality),
        at=now,
    )
    services.studies.vote(study, kept)
    return _next(study, link, body.rater, base_url(request, services.settings), services)
