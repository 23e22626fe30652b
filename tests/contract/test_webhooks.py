"""Webhooks, from the request to a receiver behind real TLS. The internet is ``tests.internet``'s."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from redis import Redis
from standardwebhooks import WebhookVerificationError
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from jobs.keys import Grant, Keys
from jobs.outbox import MAX_PAUSE_S, Outbox
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from jobs.webhooks import Secrets
from service import receivers
from service.app import create_app
from tests import doors
from tests.harness import until
from tests.inbox import Inbox, listening
from tests.internet import HOST, OTHER, PUBLIC, Network, Server, redirect
from tests.unit.jobs.test_outbox import Clock
from worker import webhooks
from worker.webhooks import HANDS, Deliverer

PAGE = Path(__file__).parents[2] / "docs/webhooks.md"
HOOK = f"https://{HOST}/hook?token=hunter2"


@pytest.fixture(autouse=True)
def secret(redis: Redis) -> str:
    return Secrets(redis).create("")


@pytest.fixture
def inbox(secret: str, server: Server, network: Network) -> Inbox:  # noqa: ARG001 - it is reset first
    inbox = Inbox(secret)
    server.receive = inbox.receive
    return inbox


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deliverer(settings: Settings, redis: Redis, network: Network, clock: Clock) -> Deliverer:
    return Deliverer(redis, settings, outbox=Outbox(redis, clock, Random(7)), caller=network.dialer)


@pytest.fixture(autouse=True)
def resolver(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API asks the table for names, too."""
    monkeypatch.setattr(receivers, "dialer", lambda _: network.dialer)


def send(client: TestClient, url: str = HOOK, **webhook: Any) -> Any:
    return client.post("/v1/generate", json=doors.request(webhook={"url": url, **webhook}))


def submit(client: TestClient, url: str = HOOK, **webhook: Any) -> str:
    answer = send(client, url, **webhook)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def canceled(client: TestClient, url: str = HOOK, **webhook: Any) -> str:
    job_id = submit(client, url, **webhook)
    client.post(f"/v1/jobs/{job_id}/cancel")
    return job_id


def pointer(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["pointer"]


@contextmanager
def running(*deliverers: Deliverer) -> Iterator[None]:
    """Deliverers at work beside the block."""
    stopping = threading.Event()
    threads = [threading.Thread(target=each.run, args=[stopping]) for each in deliverers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


# -- what is sent ------------------------------------------------------------------------------------------------


def test_the_end_of_a_job_is_sent_as_the_job(
    client: TestClient, store: Store, storage: Storage, deliverer: Deliverer, inbox: Inbox, server: Server
) -> None:
    job_id = submit(client)
    assert not deliverer.deliver_next(), "it has not ended"
    doors.finish(job_id, store, storage)
    assert deliverer.deliver_next()
    assert not deliverer.deliver_next()
    assert (inbox.forged, inbox.accepted) == (0, {f"msg_{job_id}": 1})
    event = inbox.events[f"msg_{job_id}"]
    shown = client.get(f"/v1/jobs/{job_id}").json()
    for job in (event["data"], shown):
        for name in [name for name in job["result"] if name.endswith("_url")]:
            link = job["result"].pop(name)
            assert link is None or "X-Amz-Signature" in link
    assert event == {"type": "job.succeeded", "timestamp": shown["finished_at"], "data": shown}
    head = server.heads[0].decode()
    assert head.startswith("POST /hook?token=hunter2 HTTP/1.1\r\n")
    assert "Content-Type: application/json\r\n" in head


@pytest.mark.parametrize("events", [None, ["job.failed", "job.canceled"]])
def test_a_canceled_job_is_sent(client: TestClient, deliverer: Deliverer, inbox: Inbox, events: Any) -> None:
    job_id = canceled(client, events=events)
    assert deliverer.deliver_next()
    assert inbox.events[f"msg_{job_id}"]["type"] == "job.canceled"


def test_what_was_not_asked_for_is_not_sent(client: TestClient, deliverer: Deliverer) -> None:
    canceled(client, events=["job.succeeded"])
    assert not deliverer.deliver_next()


def test_a_job_does_not_show_its_webhook(client: TestClient, secret: str) -> None:
    job_id = canceled(client)
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs", f"/v1/videos/{job_id}"):
        answer = client.get(path).text
        assert "hunter2" not in answer
        assert secret not in answer


def test_links_lead_to_where_the_request_came_to(
    settings: Settings, redis: Redis, deliverer: Deliverer, inbox: Inbox
) -> None:
    doors.announce(redis)
    for url in (None, "https://drag.example/base/"):
        app = create_app(settings.model_copy(update={"public_url": url}))
        with TestClient(app, base_url="http://localhost:8123") as client:
            job_id = canceled(client)
            assert deliverer.deliver_next()
        base = "https://drag.example/base" if url else "http://localhost:8123"
        assert inbox.events[f"msg_{job_id}"]["data"]["urls"]["self"] == f"{base}/v1/jobs/{job_id}"


def test_where_clients_can_not_reach_s3_links_lead_through_the_api(
    private: TestClient,
    settings: Settings,
    redis: Redis,
    network: Network,
    store: Store,
    storage: Storage,
    inbox: Inbox,
) -> None:
    job_id = submit(private)
    doors.finish(job_id, store, storage)
    closed = settings.model_copy(update={"s3_private": True})
    assert Deliverer(redis, closed, caller=network.dialer).deliver_next()
    result = inbox.events[f"msg_{job_id}"]["data"]["result"]
    assert result["video_url"] == f"http://localhost/v1/jobs/{job_id}/result?artifact=video"


def test_each_owner_signs_with_a_secret_of_its_own(
    client: TestClient, redis: Redis, deliverer: Deliverer, server: Server, secret: str
) -> None:
    key, text = Keys(redis).create(Grant(name="n"))
    client.headers["Authorization"] = f"Bearer {text}"
    try:
        refused = send(client)
        assert pointer(refused) == (422, "/webhook")
        assert f"draganything webhooks secret --key {key.id}" in refused.json()["detail"]
        own = Inbox(Secrets(redis).create(key.id))
        assert own.secret != secret
        server.receive = own.receive
        job_id = canceled(client)
        assert deliverer.deliver_next()
    finally:
        del client.headers["Authorization"]
    assert (own.forged, own.accepted) == (0, {f"msg_{job_id}": 1})


def test_without_a_secret_it_is_refused(client: TestClient, redis: Redis) -> None:
    redis.delete("da:webhook-secrets")
    before = doors.keys(redis)
    answer = send(client)
    assert pointer(answer) == (422, "/webhook")
    assert "`draganything webhooks secret`" in answer.json()["detail"]
    assert doors.keys(redis) == before


def test_the_documentation_verifies_what_is_sent(
    client: TestClient, deliverer: Deliverer, server: Server, secret: str
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    documented: dict[str, Any] = {}
    exec(example, documented)
    answers: list[str] = []

    def receive(headers: dict[str, str], body: bytes) -> int:
        answers.append(documented["receive"](secret, headers, body))
        with pytest.raises(WebhookVerificationError):
            documented["receive"](secret, headers, body.replace(b"canceled", b"succeeded"))
        return 200

    server.receive = receive
    job_id = canceled(client)
    assert deliverer.deliver_next()
    assert answers == [f"job.canceled: {job_id}"]


# -- until it has arrived ----------------------------------------------------------------------------------------


def test_a_receiver_that_fails_half_the_time_is_told_everything(
    client: TestClient, deliverer: Deliverer, inbox: Inbox, clock: Clock
) -> None:
    dice = Random(8)
    inbox.answer = lambda *_: dice.choice([200, 204, 404, 500, 503, 202])
    job_ids = {canceled(client) for _ in range(20)}
    while len(+inbox.accepted) < len(job_ids):
        if not deliverer.deliver_next():
            clock.pass_by(MAX_PAUSE_S)
    assert inbox.forged == 0
    assert set(inbox.tries) == {f"msg_{job_id}" for job_id in job_ids}, "the same id in each try"
    assert set(inbox.accepted.values()) == {1}
    assert inbox.tries.total() > 1.3 * len(job_ids), "it did fail"
    clock.pass_by(MAX_PAUSE_S)
    assert not deliverer.deliver_next()


def test_several_deliverers_share_the_work(
    client: TestClient, settings: Settings, redis: Redis, network: Network, inbox: Inbox
) -> None:
    job_ids = {canceled(client) for _ in range(12)}
    with running(*(Deliverer(redis, settings, caller=network.dialer) for _ in range(3))):
        until(lambda: len(+inbox.accepted) == len(job_ids))
    assert set(inbox.tries.values()) == {1}
    assert inbox.forged == 0


def test_a_receiver_that_hangs_holds_up_no_other(
    client: TestClient, settings: Settings, redis: Redis, network: Network, inbox: Inbox
) -> None:
    released = threading.Event()
    hanging = {canceled(client) for _ in range(HANDS + 1)}

    def hang(message_id: str, _: int) -> int:
        if message_id.removeprefix("msg_") in hanging:
            released.wait(30)
        return 200

    inbox.answer = hang
    other = canceled(client, f"https://{OTHER}/")
    with running(Deliverer(redis, settings, caller=network.dialer)):
        until(lambda: inbox.accepted[f"msg_{other}"])
        assert not released.is_set()
        assert not any(inbox.accepted[f"msg_{job_id}"] for job_id in hanging)
        released.set()
        until(lambda: len(+inbox.accepted) == len(hanging) + 1)


def test_gone_is_believed_at_once(client: TestClient, redis: Redis, deliverer: Deliverer, inbox: Inbox) -> None:
    inbox.answer = lambda *_: 410
    job_id = canceled(client)
    assert deliverer.deliver_next()
    (letter,) = Outbox(redis).dead()
    assert (letter.job_id, letter.host, letter.tries, letter.note) == (job_id, f"{HOST}:443", 1, "410")
    inbox.answer = lambda *_: 200
    Outbox(redis).retry(job_id)
    assert deliverer.deliver_next()
    assert inbox.accepted == {f"msg_{job_id}": 1}


def test_a_pause_that_is_asked_for(client: TestClient, deliverer: Deliverer, server: Server, clock: Clock) -> None:
    server.script = lambda tls: tls.sendall(b"HTTP/1.1 503 X\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n")
    canceled(client)
    assert deliverer.deliver_next()
    clock.pass_by(590)
    assert not deliverer.deliver_next()
    clock.pass_by(11)
    assert deliverer.deliver_next()


def test_a_job_that_is_forgotten_first_is_not_sent(client: TestClient, deliverer: Deliverer) -> None:
    job_id = canceled(client)
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not deliverer.deliver_next()


# -- nothing inside is reached -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks",
        f"http://{HOST}/",
        "https://localhost/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://0x7f.1/",
        f"https://user:hunter2@{HOST}/",
        f"https://{HOST}:6379/",
        "https://inner.example/",
        "https://unknown.example/",
        "file:///etc/passwd",
    ],
)
def test_a_refused_address_is_pointed_at(
    client: TestClient,
    redis: Redis,
    network: Network,
    url: str,
) -> None:
    network.names["inner.example"] = [PUBLIC, "10.0.0.1"]
    before = doors.keys(redis)
    answer = send(client, url)
    assert pointer(answer) == (422, "/webhook/url")
    assert "hunter2" not in answer.text
    assert network.connected == []
    assert doors.keys(redis) == before


def test_in_a_batch_too(client: TestClient, network: Network) -> None:
    good, bad = (doors.request(webhook={"url": url}) for url in (HOOK, "https://localhost/"))
    answer = client.post("/v1/batches", json={"requests": [good, good, bad]})
    assert pointer(answer) == (422, "/requests/2/webhook/url")
    assert network.resolved == [(HOST, 443)], "the same one is looked up once"


def test_no_events_are_none(client: TestClient) -> None:
    assert pointer(send(client, events=[])) == (422, "/webhook/events")
    assert pointer(send(client, events=["job.expired"])) == (422, "/webhook/events/0")


def test_a_name_that_leads_inside_by_now_is_not_followed(
    client: TestClient, deliverer: Deliverer, network: Network, inbox: Inbox, clock: Clock
) -> None:
    job_id = canceled(client)
    for address in ("127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"):
        network.names[HOST] = [address]
        assert deliverer.deliver_next()
        clock.pass_by(MAX_PAUSE_S)
    assert network.connected == []
    network.names[HOST] = [PUBLIC]
    assert deliverer.deliver_next()
    assert network.connected == [(PUBLIC, 443)]
    assert inbox.accepted == {f"msg_{job_id}": 1}


def test_a_redirect_is_not_followed(
    client: TestClient,
    redis: Redis,
    deliverer: Deliverer,
    network: Network,
    server: Server,
) -> None:
    server.script = lambda tls: tls.sendall(redirect(f"https://{OTHER}/", 307))
    canceled(client)
    network.resolved.clear()
    assert deliverer.deliver_next()
    assert network.resolved == [(HOST, 443)]
    assert len(server.heads) == 1
    assert redis.zcard("da:outbox") == 1, "it is tried again"


def test_the_certificate_must_be_valid(
    client: TestClient,
    settings: Settings,
    redis: Redis,
    network: Network,
    server: Server,
) -> None:
    network.names["evil.example"] = [PUBLIC]
    canceled(client, "https://evil.example/")
    assert Deliverer(redis, settings, caller=network.dialer).deliver_next()
    assert network.connected == [(PUBLIC, 443)]
    assert server.heads == []


def drip_head(tls: ssl.SSLSocket) -> None:
    while True:
        tls.sendall(b"x")


def drip_body(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    drip_head(tls)


@pytest.mark.parametrize(("script", "event"), [(drip_head, "webhook_failed"), (drip_body, "webhook_delivered")])
def test_of_an_answer_only_the_head_is_read(
    client: TestClient,
    deliverer: Deliverer,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    script: Callable[[ssl.SSLSocket], None],
    event: str,
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_S", 1.0)
    server.script = script
    canceled(client)
    with capture_logs() as logs:
        assert deliverer.deliver_next()
    assert [line["event"] for line in logs] == [event]


def test_in_development_everything_is_allowed(
    settings: Settings, redis: Redis, secret: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    doors.announce(redis)
    inbox, outbox = Inbox(secret), Outbox(redis, clock)
    lax = settings.model_copy(update={"webhooks_private": True})
    with listening(inbox) as url, TestClient(create_app(lax), base_url="http://localhost") as client:
        job_id = canceled(client, url)
        assert Deliverer(redis, settings, outbox=outbox).deliver_next()
        assert not inbox.tries, "not by a process whose settings do not allow it"
        clock.pass_by(MAX_PAUSE_S)
        assert Deliverer(redis, lax, outbox=outbox).deliver_next()
    assert inbox.accepted == {f"msg_{job_id}": 1}


# -- what the operator sees --------------------------------------------------------------------------------------


def test_the_log_names_the_host_and_nothing_secret(
    client: TestClient, deliverer: Deliverer, inbox: Inbox, clock: Clock
) -> None:
    answers = iter([503, 200, 410])
    inbox.answer = lambda *_: next(answers)
    with capture_logs() as logs:
        failing = canceled(client)
        assert deliverer.deliver_next()
        clock.pass_by(MAX_PAUSE_S)
        assert deliverer.deliver_next()
        gone = canceled(client)
        assert deliverer.deliver_next()
    shown = [
        {k: line[k] for k in ("event", "job", "host", "attempt", "status")} for line in logs if "host" in line
    ]
    host = f"{HOST}:443"
    assert shown == [
        {"event": "webhook_failed", "job": failing, "host": host, "attempt": 1, "status": "503"},
        {"event": "webhook_delivered", "job": failing, "host": host, "attempt": 2, "status": 200},
        {"event": "webhook_dead", "job": gone, "host": host, "attempt": 1, "status": "410"},
    ]
    assert "hunter2" not in str(logs)
    assert inbox.secret not in str(logs)
