"""/v1/studies: raters compare videos without knowing which is which; the owner reads what they prefer."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from redis import Redis
from starlette.testclient import TestClient

from jobs.keys import Grant, Keys
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from jobs.studies import ballots as drawn
from service import auth, ballots
from service.app import create_app
from tests import doors

VIDEOS = {"a": b"the video of a", "b": b"and that of b"}
RATER = "0123456789abcdef" * 2


@pytest.fixture
def job(client: TestClient, store: Store, storage: Storage) -> Any:
    """Make a succeeded job whose files hold some bytes."""

    def job(video: bytes = b"0123456789", headers: dict[str, str] | None = None) -> str:
        job_id = str(client.post("/v1/generate", json=doors.request(), headers=headers).json()["id"])
        doors.finish(job_id, store, storage, video)
        return job_id

    return job


def made(client: TestClient, job: Any, pairs: int = 1, **changes: Any) -> dict[str, Any]:
    body = {"pairs": [{side: job(video) for side, video in VIDEOS.items()} for _ in range(pairs)], **changes}
    answer = client.post("/v1/studies", json=body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == answer.json()["urls"]["self"]
    return dict(answer.json())


def link(of: dict[str, Any]) -> str:
    address, _, link = of["urls"]["link"].partition("#")
    assert address.endswith("/study")
    return f"/v1/studies/{link}"


def next_of(client: TestClient, of: dict[str, Any], rater: str | None = None) -> dict[str, Any]:
    answer = client.get(f"{link(of)}/next", params={"rater": rater} if rater else {})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def voted(client: TestClient, of: dict[str, Any], ballot: dict[str, Any], motion: str, quality: str) -> Any:
    body = {"rater": ballot["rater"], "place": ballot["place"], "motion": motion, "quality": quality}
    return client.post(f"{link(of)}/votes", json=body)


def side_of(client: TestClient, ballot: dict[str, Any], letter: str) -> str:
    """On which side a ballot has the video, as a rater sees it."""
    seen = {side: client.get(ballot[side]["video_url"]).content for side in ("left", "right")}
    assert sorted(seen.values()) == sorted(VIDEOS.values())
    return next(side for side, video in seen.items() if video == VIDEOS[letter])


def test_a_new_study_has_no_results(client: TestClient, job: Any, store: Store) -> None:
    answer = made(client, job, title="Cats", names=["entity", "point"])
    (pair,) = answer["pairs"]
    nothing = {"a": 0, "b": 0, "tie": 0, "share": None, "interval": [0, 1]}
    assert pair == {"a": pair["a"], "b": pair["b"], "motion": nothing, "quality": nothing}
    expires = [store.get(pair[side]).expires_at for side in "ab"]
    address = f"http://localhost/v1/studies/{answer['id']}"
    assert answer | {"pairs": None, "created_at": None, "expires_at": None} == {
        "id": answer["id"],
        "object": "study",
        "title": "Cats",
        "names": ["entity", "point"],
        "created_at": None,
        "closes_at": min(filter(None, expires)).isoformat().replace("+00:00", "Z"),
        "expires_at": None,
        "raters": 0,
        "votes": 0,
        "motion": nothing,
        "quality": nothing,
        "pairs": None,
        "urls": {"self": address, "csv": f"{address}?format=csv", "link": answer["urls"]["link"]},
    }
    assert client.get(address).json() == answer
    assert answer["id"] not in answer["urls"]["link"]


def test_votes_of_raters_become_preferences_of_videos(client: TestClient, job: Any) -> None:
    of = made(client, job, pairs=3)
    for motion in ("a", "a", "b", "tie"):
        ballot = next_of(client, of)
        for done in range(3):
            assert (ballot["place"], ballot["done"], ballot["total"]) == (done, done, 3)
            chosen = "tie" if motion == "tie" else side_of(client, ballot, motion)
            answer = voted(client, of, ballot, chosen, side_of(client, ballot, "b"))
            assert answer.status_code == 200
            ballot = answer.json()
        assert (ballot["place"], ballot["done"], ballot["left"], ballot["right"]) == (None, 3, None, None)
    results = client.get(of["urls"]["self"]).json()
    assert (results["raters"], results["votes"]) == (4, 12)
    assert [results["motion"][key] for key in ("a", "b", "tie", "share")] == [6, 3, 3, 0.6667]
    assert results["motion"]["interval"] == pytest.approx([0.3542, 0.8794], abs=1e-4)
    assert [results["quality"][key] for key in ("a", "b", "tie", "share")] == [0, 12, 0, 0]
    assert [pair["motion"]["a"] for pair in results["pairs"]] == [2, 2, 2]


def test_the_export_has_a_line_for_each_vote(client: TestClient, job: Any) -> None:
    of = made(client, job)
    ballot = next_of(client, of)
    left = "a" if side_of(client, ballot, "a") == "left" else "b"
    voted(client, of, ballot, "left", "tie")
    voted(client, of, next_of(client, of), "tie", "tie")
    answer = client.get(of["urls"]["csv"])
    assert answer.headers["content-type"].startswith("text/csv")
    first, second = csv.DictReader(io.StringIO(answer.text))
    (pair,) = of["pairs"]
    assert first == {
        **{side: pair[side] for side in "ab"},
        "rater": "1",
        "left": left,
        "motion": left,
        "quality": "tie",
        "at": first["at"],
    }
    assert (second["rater"], second["motion"]) == ("2", "tie")
    assert ballot["rater"] not in answer.text


def test_a_vote_counts_once(client: TestClient, job: Any) -> None:
    of = made(client, job, pairs=2)
    ballot = next_of(client, of)
    first = voted(client, of, ballot, "left", "right")
    assert voted(client, of, ballot, "left", "right").json() == first.json()
    assert next_of(client, of, ballot["rater"]) == first.json(), "a page that is loaded again goes on"
    assert voted(client, of, ballot, "tie", "right").status_code == 409
    assert client.get(of["urls"]["self"]).json()["votes"] == 1


def test_raters_learn_nothing(client: TestClient, job: Any) -> None:
    of = made(client, job, pairs=2, names=["the secret", "the other"])
    ballot = client.get(f"{link(of)}/next")
    for text in (of["id"], "secret", "other", *(pair[side] for pair in of["pairs"] for side in "ab")):
        assert text not in ballot.text
    for side in ("left", "right"):
        for artifact in ("video_url", "overlay_url"):
            file = client.get(ballot.json()[side][artifact])
            assert file.headers["content-disposition"] == f'inline; filename="{side}.mp4"'
            assert not any(pair["a"] in str(file.headers) for pair in of["pairs"])
    assert client.get(link(of)).status_code == 404, "the link shows no results"
    assert client.get(of["urls"]["self"] + "/next").status_code == 404, "and the id takes no votes"


def test_an_overlay_that_one_video_alone_has_is_not_shown(client: TestClient, job: Any, redis: Redis) -> None:
    of = made(client, job)
    key = f"da:job:{of['pairs'][0]['a']}"
    result = json.loads(redis.hget(key, "result") or "")
    del result["artifacts"]["overlay"]
    redis.hset(key, "result", json.dumps(result))
    ballot = next_of(client, of)
    assert ballot["left"]["overlay_url"] is ballot["right"]["overlay_url"] is None
    lacking = ballot[side_of(client, ballot, "a")]["video_url"]
    assert client.get(lacking, params={"artifact": "overlay"}).status_code == 404


def test_videos_are_streamed_in_ranges(client: TestClient, job: Any) -> None:
    ballot = next_of(client, made(client, job))
    whole = client.get(ballot["left"]["video_url"]).content
    part = client.get(ballot["left"]["video_url"], headers={"Range": "bytes=4-6"})
    assert (part.status_code, part.content) == (206, whole[4:7])


def test_raters_need_no_key_and_owners_do(client: TestClient, job: Any, redis: Redis) -> None:
    _, key = Keys(redis).create(Grant(name="owner"))
    _, other = Keys(redis).create(Grant(name="other"))
    mine, theirs = ({"Authorization": f"Bearer {text}"} for text in (key, other))
    pair = {"a": job(headers=mine), "b": job(headers=mine)}
    assert client.post("/v1/studies", json={"pairs": [pair]}).status_code == 401
    foreign = client.post("/v1/studies", json={"pairs": [pair]}, headers=theirs)
    assert foreign.status_code == 422
    assert [error["pointer"] for error in foreign.json()["errors"]] == ["/pairs/0/a"]
    of = client.post("/v1/studies", json={"pairs": [pair]}, headers=mine).json()
    assert client.get(of["urls"]["self"]).status_code == 401
    assert client.get(of["urls"]["self"], headers=theirs).status_code == 404
    ballot = next_of(client, of)
    assert client.get(ballot["left"]["video_url"]).status_code == 200
    assert voted(client, of, ballot, "tie", "tie").status_code == 200
    assert client.get(of["urls"]["self"], headers=mine).json()["votes"] == 1
    other_host = client.get(f"{link(of)}/next", headers={"Host": "evil.example"})
    assert other_host.status_code == 403


def test_a_video_that_is_gone_is_passed_over(client: TestClient, job: Any) -> None:
    of = made(client, job, pairs=2)
    ballot = next_of(client, of, RATER)
    client.delete(f"/v1/jobs/{of['pairs'][0]['a']}")
    left = next_of(client, of, RATER)
    assert left["place"] is not None
    assert side_of(client, left, "b")
    client.delete(f"/v1/jobs/{of['pairs'][1]['b']}")
    assert next_of(client, of, RATER) | {"place": None} == ballot | {"place": None, "left": None, "right": None}


def test_a_closed_study_takes_no_votes_but_shows_those_it_has(client: TestClient, job: Any, redis: Redis) -> None:
    of = made(client, job, pairs=2)
    ballot = voted(client, of, next_of(client, of), "left", "left").json()
    held = client.app.state.doors.studies.get(of["id"])  # type: ignore[attr-defined]
    closed = held.model_copy(update={"closes_at": held.created_at})
    redis.set(f"da:study:{held.id}", closed.model_dump_json(), keepttl=True)
    assert voted(client, of, ballot, "left", "left").status_code == 409
    assert client.get(of["urls"]["self"]).json()["votes"] == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/pairs"),
        ({"pairs": []}, "/pairs"),
        ({"pairs": [{"a": "x"}]}, "/pairs/0/b"),
        ({"pairs": [{"a": "x", "b": "x"}]}, "/pairs/0"),
        ({"pairs": [{"a": "x", "b": "y"}]}, "/pairs/0/a"),
        ({"pairs": [{"a": "x", "b": "y"}], "names": ["one"]}, "/names/1"),
        ({"pairs": [{"a": "x", "b": "y"}], "seed": 1}, "/seed"),
        ({"pairs": [{"a": "x", "b": "y"}] * 201}, "/pairs"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, body: dict[str, Any], pointer: str) -> None:
    answer = client.post("/v1/studies", json=body)
    assert answer.status_code == 422
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_a_job_that_has_not_succeeded_is_named(client: TestClient, job: Any) -> None:
    waiting = client.post("/v1/generate", json=doors.request()).json()["id"]
    answer = client.post("/v1/studies", json={"pairs": [{"a": job(), "b": waiting}]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/pairs/0/b"
    assert "queued" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("change", "status"),
    [({"rater": "me"}, 422), ({"place": -1}, 422), ({"place": 1}, 404), ({"motion": "a"}, 422), ({"x": 1}, 422)],
)
def test_a_wrong_vote_is_refused(client: TestClient, job: Any, change: dict[str, Any], status: int) -> None:
    of = made(client, job)
    vote = {"rater": RATER, "place": 0, "motion": "left", "quality": "left", **change}
    assert client.post(f"{link(of)}/votes", json=vote).status_code == status
    assert client.get(of["urls"]["self"]).json()["votes"] == 0


def test_what_leads_nowhere_is_404(client: TestClient, job: Any) -> None:
    of = made(client, job)
    videos = f"{link(of)}/raters/{RATER}"
    for path in (
        "/v1/studies/x",
        "/v1/studies/x/next",
        f"/v1/studies/x/raters/{RATER}/0/left",
        f"{videos}/1/left",
    ):
        assert client.get(path).status_code == 404, path
    for path in (f"{videos}/x/left", f"{videos}/0/middle", f"{link(of)}/raters/x/0/left"):
        assert client.get(path).status_code == 422, path


def test_a_stranger_s_body_is_small(client: TestClient) -> None:
    path = "/v1/studies/x/votes"
    assert client.post(path, content=b" " * (auth.MAX_VOTE_BYTES + 1)).status_code == 413
    assert client.post(path, content=iter([b"{}"])).status_code == 411


def test_the_calls_of_a_link_are_limited(client: TestClient, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ballots, "CALLS_PER_MINUTE", 2)
    of = made(client, job)
    next_of(client, of)
    next_of(client, of)
    refused = client.get(f"{link(of)}/next")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) >= 1
    next_of(client, made(client, job))


def test_raters_calls_are_documented_without_keys(settings: Settings) -> None:
    paths = create_app(settings).openapi()["paths"]
    public = {
        path for path, operations in paths.items() for one in operations.values() if one.get("security") == []
    }
    assert public == {path for path in paths if auth.RATERS.fullmatch(path)}
    assert len(public) == 3
    for path in public:
        for operation in paths[path].values():
            assert "401" not in operation["responses"]
            assert "429" in operation["responses"]


def test_sides_are_those_of_the_draw(client: TestClient, job: Any) -> None:
    of = made(client, job, pairs=3)
    held = client.app.state.doors.studies.get(of["id"])  # type: ignore[attr-defined]
    for place, one in enumerate(drawn(held, RATER)):
        for side in ("left", "right"):
            seen = client.get(f"{link(of)}/raters/{RATER}/{place}/{side}").content
            assert seen == VIDEOS[one.letter("left" if side == "left" else "right")]
