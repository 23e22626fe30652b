from __future__ import annotations

import json
import subprocess
import sys

from redis import Redis

from jobs.outbox import LEASE_S
from jobs.settings import Settings
from jobs.store import NewJob, Store, new_id
from jobs.webhooks import Secrets, Subscription
from tests.harness import until
from tests.inbox import Inbox, listening
from tests.unit.jobs.specs import make_spec
from tests.unit.worker.scenes import ROOT, environ
from worker.webhooks import Deliverer


def submit(store: Store, url: str) -> str:
    host = url.split("/")[2]
    webhook = Subscription(url=url, host=host, events=("job.canceled",), base_url="http://localhost")
    (record,) = store.create("", [NewJob(new_id(), make_spec(), webhook=webhook)])
    return record.id


def test_the_process(redis: Redis, settings: Settings) -> None:
    """It delivers without torch, ends with 0 at SIGTERM, and what was on its way by then has arrived."""
    store = Store(redis, settings)
    inbox = Inbox(Secrets(redis).create(""))
    command = [sys.executable, "-X", "importtime", "-m", "worker.webhooks"]
    told = environ(settings, webhooks_private=True, log_json=True)
    with (
        listening(inbox) as url,
        subprocess.Popen(command, cwd=ROOT, env=told, stderr=subprocess.PIPE, text=True) as process,
    ):
        first, last = submit(store, url), submit(store, url)
        store.cancel(first)
        until(lambda: inbox.accepted[f"msg_{first}"])

        def stop_meanwhile(_: str, __: int) -> int:
            process.terminate()
            return 200

        inbox.answer = stop_meanwhile
        store.cancel(last)
        _, log = process.communicate(timeout=LEASE_S)
    assert process.returncode == 0
    assert "torch" not in log
    assert "hunter2" not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [(line["event"], line["job"]) for line in lines] == [
        ("webhook_delivered", first),
        ("webhook_delivered", last),
    ]
    assert (inbox.forged, redis.exists("da:outbox")) == (0, 0)


def test_a_wrong_setting_is_told_in_one_line(settings: Settings) -> None:
    told = environ(settings, redis_url="http://:hunter2@x")
    command = [sys.executable, "-m", "worker.webhooks"]
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("DRAGANYTHING_REDIS_URL")
    assert "hunter2" not in done.stderr


def test_a_message_without_a_secret_waits(redis: Redis, settings: Settings) -> None:
    Secrets(redis).create("somebody else")
    store = Store(redis, settings)
    job_id = submit(store, "https://hooks.example.com:443/")
    store.cancel(job_id)
    assert Deliverer(redis, settings).deliver_next()
    assert redis.hget(f"da:job:{job_id}", "delivery_note") == b"The owner has no webhook secret any more."
    assert redis.zcard("da:outbox") == 1
