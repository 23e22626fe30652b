"""Callers with keys: who is let in, what they see of each other, and how much they may do."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
import structlog
from draganything_client import Client, Unauthorized
from redis import Redis
from starlette.testclient import TestClient

from jobs.keys import Grant, Keys, Limits, Scope
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from local.stack import Stack
from service import limits, main
from service.app import create_app
from service.auth import RATERS
from tests import doors
from tests.harness import settings_of

UNLIMITED = {"requests_per_minute": None}
CALLS = [
    (method.upper(), path)
    for path, operations in create_app(Settings()).openapi()["paths"].items()
    for method in operations
    if path.startswith("/v1/") and not RATERS.fullmatch(path)
]
"""Every call of the API, whoever adds it, but those of raters, who have no key."""
OF_A_JOB = [call for call in CALLS if "{job_id}" in call[1] or "{video_id}" in call[1]]


class Held(NamedTuple):
    """A key, as its holder has it."""

    id: str
    text: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}"}


@pytest.fixture
def keys(redis: Redis) -> Keys:
    return Keys(redis)


@pytest.fixture
def make(keys: Keys) -> Callable[..., Held]:
    """Make a key: its limits, and its scopes."""

    def make(*scopes: Scope, **limits: int | None) -> Held:
        grant = Grant(name="n", scopes=frozenset(scopes or Scope), limits=Limits.model_validate(limits))
        key, text = keys.create(grant)
        return Held(key.id, text)

    return make


Make = Callable[..., Held]


def filled(path: str, job_id: str = "0" * 32) -> str:
    """A path with an id in each place."""
    return re.sub(r"\{\w+\}", job_id, path)


def error_of(answer: Any) -> dict[str, Any]:
    """A problem, or what stands for it in the answers of ``/v1/videos``."""
    body = answer.json()
    return dict(body.get("error", body))


def submit(client: TestClient, held: Held, **headers: str) -> Any:
    return client.post("/v1/generate", json=doors.request(), headers=held.headers | headers)


def writes(redis: Redis) -> int:
    return int(redis.info("persistence")["rdb_changes_since_last_save"])


# -- letting in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["Bearer x", "Bearer da_0_0", "Basic dTpw", "", "\u00fc"])
def test_without_any_key_the_header_is_ignored(client: TestClient, value: str) -> None:
    answer = client.get("/v1/jobs", headers={b"Authorization": value.encode("latin-1")})
    assert answer.status_code == 200
    assert "ratelimit" not in answer.headers


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("GET", "/v1"), ("GET", "/v1/nothing"), ("PUT", "/v1/jobs")])
def test_from_the_first_key_on_each_call_needs_one(
    client: TestClient, make: Make, redis: Redis, method: str, path: str
) -> None:
    make()
    before = writes(redis)
    answer = client.request(method, filled(path), content=b"not even JSON")
    assert (answer.status_code, error_of(answer)["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert writes(redis) == before


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/problems", "/openapi.json", "/docs"])
def test_what_tells_of_the_service_stays_open(client: TestClient, make: Make, path: str) -> None:
    make()
    assert client.get(path).status_code in (200, 503)  # no worker may be alive, but it answers


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER {}", "Bearer    {}"])
def test_the_scheme_is_read_as_http_says(client: TestClient, make: Make, form: str) -> None:
    held = make()
    assert client.get("/v1/jobs", headers={"Authorization": form.format(held.text)}).status_code == 200


@pytest.mark.parametrize(
    "form",
    [
        "", "Bearer", "Bearer ", "bearer", "{}", "Basic {}", "Basic dXNlcjpwYXNz", "Token {}", "Bearer {}0",
        "Bearer{}", "Bearer\t{}", "Bearer {} {}", "Bearer {},", "Bearer {}, Bearer {}", 'Bearer "{}"',
        "Bearer \xfc{}", "Bearer da_", "Bearer da__", "Bearer {}\x00", "Digest username=x",
        "Bearer " + "a" * 10_000, "Bearer key={}", "\xa0Bearer {}",
    ],
)  # fmt: skip
def test_any_other_form_is_no_key(client: TestClient, make: Make, form: str) -> None:
    value = form.replace("{}", make().text).encode("latin-1")
    answer = client.get("/v1/jobs", headers={b"Authorization": value})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_two_headers_are_no_key(client: TestClient, make: Make) -> None:
    held = make()
    for pair in ([held.text, held.text], [held.text, "x"], ["x", held.text]):
        headers = [("Authorization", f"Bearer {text}") for text in pair]
        answer = client.get("/v1/jobs", headers=headers)
        assert answer.status_code == 401


def test_a_wrong_key_is_told_so(client: TestClient, make: Make) -> None:
    held = make()
    answer = client.get("/v1/jobs", headers={"Authorization": f"Bearer {held.text[:-64]}{'0' * 64}"})
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert "ratelimit" not in answer.headers


def test_guessing_costs_no_write(client: TestClient, make: Make, redis: Redis) -> None:
    held = make(**UNLIMITED)
    submit(client, held)
    before = writes(redis), doors.keys(redis)
    for number in range(100):
        for text in (f"{held.text[:-64]}{number:064x}", f"da_{number:012x}_{number:064x}", f"da_{number}"):
            headers = {"Authorization": f"Bearer {text}", "Idempotency-Key": "k"}
            assert client.post("/v1/generate", json=doors.request(), headers=headers).status_code == 401
    assert (writes(redis), doors.keys(redis)) == before


def test_a_revoked_key_is_void_at_the_next_call_and_opens_nothing(
    client: TestClient, make: Make, keys: Keys
) -> None:
    held = make()
    assert client.get("/v1/jobs", headers=held.headers).status_code == 200
    keys.revoke(held.id)
    assert client.get("/v1/jobs", headers=held.headers).status_code == 401
    assert client.get("/v1/jobs").status_code == 401  # although there is no valid key left


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_each_call_needs_its_scope(client: TestClient, make: Make, redis: Redis, method: str, path: str) -> None:
    scopes = (Scope.READ, Scope.WRITE) if method == "GET" else (Scope.WRITE, Scope.READ)
    right, wrong = (make(scope) for scope in scopes)
    answer = client.request(method, filled(path), headers=wrong.headers, content=b"not even JSON")
    assert (answer.status_code, error_of(answer)["code"]) == (403, "forbidden")
    assert scopes[0] in answer.text
    assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{scopes[0]}"'
    assert client.request(method, filled(path), headers=right.headers).status_code not in (401, 403)
    assert not redis.keys("da:job:*")


# -- tenants ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), OF_A_JOB)
def test_the_job_of_another_key_does_not_exist(
    client: TestClient, make: Make, store: Store, storage: Storage, method: str, path: str
) -> None:
    owner, other = make(), make()
    job_id = submit(client, owner).json()["id"]
    missing = "f" * 32
    for _ in ("while it waits", "when it has ended"):
        unknown = client.request(method, filled(path, missing), headers=other.headers)
        foreign = client.request(method, filled(path, job_id), headers=other.headers)
        assert foreign.status_code == unknown.status_code == 404
        assert foreign.text.replace(job_id, missing) == unknown.text
        if store.get(job_id).status == "queued":
            doors.finish(job_id, store, storage)
    job = client.get(f"/v1/jobs/{job_id}", headers=owner.headers).json()
    assert (job["status"], store.get(job_id).owner) == ("succeeded", owner.id)
    allowed = client.request(method, filled(path, job_id), headers=owner.headers, follow_redirects=False)
    assert allowed.status_code < 400


def test_a_listing_shows_ones_own_jobs(client: TestClient, make: Make) -> None:
    one, two = make(), make()
    ids = {held.id: submit(client, held).json()["id"] for held in (one, two)}
    for held in (one, two):
        page = client.get("/v1/jobs", headers=held.headers).json()
        assert [job["id"] for job in page["jobs"]] == [ids[held.id]]
    assert client.get(f"/v1/jobs?after={ids[one.id]}", headers=two.headers).status_code == 404


def test_an_idempotency_key_belongs_to_its_caller(client: TestClient, make: Make) -> None:
    one, two = make(), make()
    first, again, other = (
        submit(client, held, **{"Idempotency-Key": "k"}).json()["id"] for held in (one, one, two)
    )
    assert first == again != other


def test_jobs_from_before_the_first_key_belong_to_nobody(client: TestClient, make: Make) -> None:
    job_id = client.post("/v1/generate", json=doors.request()).json()["id"]
    assert client.get(f"/v1/jobs/{job_id}", headers=make().headers).status_code == 404


def test_the_batch_of_another_key_does_not_exist(client: TestClient, make: Make) -> None:
    owner, other = make(), make()
    body = {"request": doors.request(), "seeds": [1, 2]}
    batch_id = client.post("/v1/batches", json=body, headers=owner.headers).json()["id"]
    calls = [call for call in CALLS if "{batch_id}" in call[1]]
    assert calls
    for held, expected in ((other, {404}), (owner, {200, 202})):
        for method, path in calls:
            answer = client.request(method, filled(path, batch_id), headers=held.headers)
            assert answer.status_code in expected


def test_the_upload_of_another_key_does_not_exist(client: TestClient, make: Make) -> None:
    owner, other = make(), make()
    data = doors.picture()
    told = {"content_type": "image/png", "bytes": len(data)}
    upload = client.post("/v1/uploads", json=told, headers=owner.headers).json()
    httpx.put(upload["put_url"], content=data, headers=upload["headers"]).raise_for_status()
    body = doors.request(image={"upload": upload["upload"]})
    assert client.post("/v1/generate", json=body, headers=other.headers).status_code == 422
    assert client.post("/v1/generate", json=body, headers=owner.headers).status_code == 202


# -- limits ----------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute takes a day, so that nothing refills within a test."""
    monkeypatch.setattr(limits, "MINUTE_S", limits.DAY_S)


@pytest.mark.usefixtures("slow")
def test_calls_are_counted_and_every_answer_tells_what_is_left(client: TestClient, make: Make) -> None:
    held, other = make(requests_per_minute=4), make(requests_per_minute=4)
    job_id = submit(client, held).json()["id"]
    client.post(f"/v1/jobs/{job_id}/cancel", headers=other.headers)
    answers = [client.get(path, headers=held.headers) for path in (f"/v1/jobs/{job_id}", "/v1/x", "/v1/models")]
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    assert [answer.headers["ratelimit"].partition(";t=")[0] for answer in answers] == [
        f'"requests";r={left}' for left in (2, 1, 0)
    ]
    refused = client.get("/v1/jobs", headers=held.headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    left, wait_s = refused.headers["ratelimit"].removeprefix('"requests";r=').split(";t=")
    assert (left, wait_s) == ("0", refused.headers["retry-after"])
    assert limits.DAY_S / 4 - 60 < int(wait_s) <= limits.DAY_S / 4  # a quarter of the window brings one more
    assert {answer.headers["ratelimit-policy"] for answer in [*answers, refused]} == {'"requests";q=4;w=86400'}
    assert client.get("/livez", headers=held.headers).status_code == 200
    assert client.get("/v1/jobs", headers=other.headers).headers["ratelimit"].startswith('"requests";r=2')


def test_a_refused_scope_and_a_bad_body_count_too(client: TestClient, make: Make) -> None:
    held = make(Scope.READ, requests_per_minute=9)
    assert (
        client.post("/v1/generate", content=b"", headers=held.headers).headers["ratelimit"][:14]
        == '"requests";r=8'
    )


@pytest.mark.usefixtures("slow")
def test_an_event_stream_tells_too(client: TestClient, make: Make, store: Store, storage: Storage) -> None:
    held = make(requests_per_minute=9)
    job_id = submit(client, held).json()["id"]
    doors.finish(job_id, store, storage)
    answer = client.get(f"/v1/jobs/{job_id}/events", headers=held.headers)
    assert answer.headers["ratelimit"].startswith('"requests";r=7')
    assert answer.text.count("event: snapshot") == 1


def test_a_key_without_limits_is_told_nothing(client: TestClient, make: Make) -> None:
    assert not {"ratelimit", "ratelimit-policy"} & set(
        client.get("/v1/jobs", headers=make(**UNLIMITED).headers).headers
    )


def test_bytes_are_counted_before_they_are_read(client: TestClient, make: Make, redis: Redis) -> None:
    body = json.dumps(doors.request()).encode()
    quota = len(body) * 5 // 2
    held = make(bytes_per_day=quota, **UNLIMITED)
    headers = held.headers | {"Content-Type": "application/json"}
    statuses = [client.post("/v1/generate", content=body, headers=headers).status_code for _ in range(2)]
    assert statuses == [202, 202]
    before = len(redis.keys("da:job:*"))
    refused = client.post("/v1/generate", content=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 3600 < int(refused.headers["retry-after"]) <= 24 * 3600
    assert refused.headers["ratelimit-policy"] == f'"bytes";q={quota};qu="content-bytes";w=86400'
    assert client.get("/v1/jobs", headers=held.headers).status_code == 200
    assert len(redis.keys("da:job:*")) == before


def test_a_body_over_the_whole_quota_never_fits(client: TestClient, make: Make) -> None:
    held = make(bytes_per_day=10)
    answer = submit(client, held)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert '"bytes";r=10;' in answer.headers["ratelimit"]


def test_where_bytes_are_counted_their_number_is_announced(client: TestClient, make: Make) -> None:
    chunks = [b"{", b"}"]
    counted, free = make(bytes_per_day=100), make()
    answer = client.post("/v1/generate", content=iter(chunks), headers=counted.headers)
    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")
    assert client.post("/v1/generate", content=iter(chunks), headers=free.headers).status_code == 415


def test_bytes_that_go_straight_to_s3_count(client: TestClient, make: Make) -> None:
    held = make(bytes_per_day=20_000)
    statuses = []
    for size in (15_000, 15_000, 30_000):
        body = {"content_type": "image/png", "bytes": size}
        statuses.append(client.post("/v1/uploads", json=body, headers=held.headers).status_code)
    assert statuses == [201, 429, 413]


def test_the_jobs_that_wait_are_limited(client: TestClient, make: Make) -> None:
    held, other = make(max_queued=1), make(max_queued=1)
    assert submit(client, held).status_code == 202
    refused = submit(client, held)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit-policy"] == '"requests";q=600;w=60'
    assert submit(client, other).status_code == 202


def test_the_jobs_that_run_are_limited(client: TestClient, make: Make, store: Store) -> None:
    held, other = make(max_running=1), make()
    first, second = (submit(client, held).json()["id"] for _ in range(2))
    third = submit(client, other).json()["id"]
    assert store.claim(first, "attempt")
    assert store.next(["tiny"], 5) == [third]  # the second is passed over
    assert not store.claim(second, "attempt-2")


# -- hosts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def public(servers: Stack) -> Iterator[TestClient]:
    """A service that listens on every address."""
    settings = settings_of(servers).model_copy(update={"host": "0.0.0.0"})
    with TestClient(create_app(settings), base_url="http://studio.example:8000") as client:
        yield client


FOREIGN = {"Host": "studio.example", "Origin": "https://studio.example"}


def test_a_caller_with_a_key_may_come_by_any_name(client: TestClient, make: Make) -> None:
    assert client.get("/v1/jobs", headers=FOREIGN).status_code == 403
    held = make()
    assert client.get("/v1/jobs", headers=held.headers | FOREIGN).status_code == 200
    assert client.get("/v1/jobs", headers=FOREIGN).status_code == 401
    assert client.get("/readyz", headers=FOREIGN).status_code == 403


def test_named_hosts_are_the_only_ones(settings: Settings, make: Make) -> None:
    named = settings.model_copy(update={"allowed_hosts": ("api.example",)})
    held = make()
    with TestClient(create_app(named), base_url="http://api.example") as client:
        assert client.get("/v1/jobs", headers=held.headers).status_code == 200
        assert client.get("/v1/jobs", headers=held.headers | FOREIGN).status_code == 403


def test_a_public_service_serves_nobody_without_a_key(public: TestClient, make: Make, redis: Redis) -> None:
    assert public.get("/livez").status_code == 200
    assert public.get("/v1/jobs").status_code == 401  # there is no key at all
    held = make()
    assert public.get("/v1/jobs", headers=held.headers).status_code == 200
    redis.flushall()  # a lost database opens nothing
    assert [public.get("/v1/jobs", headers=headers).status_code for headers in (held.headers, {})] == [401, 401]


def test_keys_can_be_required(settings: Settings) -> None:
    closed = settings.model_copy(update={"require_keys": True})
    with TestClient(create_app(closed), base_url="http://localhost") as client:
        assert client.get("/v1/jobs").status_code == 401


def test_other_hosts_are_listened_on_once_there_is_a_key(
    settings: Settings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def run(server: main.Server) -> None:
        told.append(server.config.host)
        server.started = True

    monkeypatch.setattr(main.Server, "run", run)
    monkeypatch.setattr(main, "configure_logs", lambda _: None)
    monkeypatch.setattr(main, "settings", lambda: settings.model_copy(update={"host": "0.0.0.0"}))
    with pytest.raises(SystemExit, match="draganything keys create"):
        main.main()
    keys.create(Grant(name="first"))
    main.main()
    monkeypatch.setattr(main, "settings", lambda: Settings(host="192.0.2.1", require_keys=True))
    main.main()
    assert told == ["0.0.0.0", "192.0.2.1"]


# -- all of it -------------------------------------------------------------------------------------------------


def test_where_redis_is_away_nobody_is_let_in(settings: Settings, make: Make) -> None:
    held = make()
    dead = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with TestClient(create_app(dead), base_url="http://localhost") as client:
        for headers in (held.headers, {}):
            answer = client.get("/v1/models", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
        assert client.get("/livez").status_code == 200


@pytest.mark.usefixtures("slow")
def test_a_secret_is_never_told(
    client: TestClient, settings: Settings, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    held = make(requests_per_minute=3)
    headers = held.headers
    dead = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with (
        structlog.testing.capture_logs() as logged,
        TestClient(create_app(dead), base_url="http://localhost") as away,
    ):
        answers = [client.get("/v1/jobs", headers=headers) for _ in range(4)]
        answers += [client.get("/v1/jobs", headers={"Authorization": f"Bearer {held.text}0"})]
        answers += [away.get("/v1/jobs", headers=headers)]
    assert {answer.status_code for answer in answers} == {200, 401, 429, 503}
    told = "".join(answer.text + str(answer.headers) for answer in answers)
    assert held.text[-64:] not in told + caplog.text + str(logged)


def test_the_python_client_sends_its_key(settings: Settings, make: Make, redis: Redis) -> None:
    held = make()
    doors.announce(redis)
    with doors.serving(create_app(settings)) as (host, port):
        url = f"http://{host}:{port}"
        with Client(url, held.text) as client:
            job = client.generate(doors.request())
            assert [listed.id for listed in client.jobs().jobs] == [job.id]
        with Client(url, held.text + "0") as client, pytest.raises(Unauthorized):
            client.jobs()


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_the_document_tells_of_keys(client: TestClient, method: str, path: str) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    operation = document["paths"][path][method.lower()]
    assert operation["security"] == [{}, {"key": ["jobs:read" if method == "GET" else "jobs:write"]}]
    answers = operation["responses"]
    assert "WWW-Authenticate" in answers["401"]["headers"]
    assert "Retry-After" in answers["429"]["headers"]
    for status, answer in answers.items():
        assert ({"RateLimit", "RateLimit-Policy"} <= set(answer["headers"])) == (status != "401")
