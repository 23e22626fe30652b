"""The whole service, watched as an operator watches it: a real Prometheus asks the dashboard's queries."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from draganything.v1 import draganything_pb2 as pb
from draganything.v1.draganything_pb2_grpc import DragAnythingStub
from redis import Redis

from jobs.keys import Grant, Keys
from jobs.webhooks import Secrets
from local.ports import HOST, choose, is_free
from local.stack import METRICS_PORTS, ROOT, Stack
from tests.collector import Collector, Seen, collecting
from tests.harness import LIVE_KNOBS, clean_environ, until
from tests.inbox import Inbox, listening

OBSERVE = ROOT / "deploy/observe"
SPEC: dict[str, Any] = json.loads((ROOT / "examples" / "quickstart.json").read_text())
SMALL = {"width": 64, "height": 64, "num_frames": 3, "num_inference_steps": 2, "seed": 7}
CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
COLLECTORS_KEY = "key-of-the-collector"
NEEDS_PROMETHEUS = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed (Debian: apt-get install prometheus)"
)


@dataclass(frozen=True)
class Run:
    """A stack on which jobs have run; the first of them within the trace of ``CLIENT``."""

    stack: Stack
    metrics_port: int
    key: str
    webhook_secret: str
    jobs: list[dict[str, Any]]
    collector: Collector


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Three jobs with webhooks, one of them canceled; a refused request; a gRPC call; receivers that fail once."""
    first = next(port for port in iter(lambda: choose(1)[0], 0) if all(is_free(port + n) for n in range(3)))
    folder, collector = tmp_path_factory.mktemp("observed"), Collector()
    knobs = {
        "DRAGANYTHING_METRICS_PORT": str(first),
        "DRAGANYTHING_WEBHOOKS_PRIVATE": "1",
        "DRAGANYTHING_LOG_JSON": "1",
        "DRAGANYTHING_LOG_LEVEL": "debug",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{COLLECTORS_KEY}",
    }
    with collecting(collector) as address, ExitStack() as opened:
        knobs["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
        environ = clean_environ(LIVE_KNOBS | knobs)
        stack = opened.enter_context(Stack(folder, environ=environ, ready_s=200))
        with Redis.from_url(stack.valkey.url) as redis:
            made, key = Keys(redis).create(Grant(name="watcher"))
            inbox = Inbox(Secrets(redis).create(made.id), answer=lambda _, number: 500 if number == 1 else 200)
        headers = {"Authorization": f"Bearer {key}"}
        with (
            listening(inbox) as url,
            httpx.Client(base_url=stack.base_url, headers=headers, timeout=90) as client,
        ):
            jobs = work(client, url)
            with grpc.insecure_channel(f"{HOST}:{stack.grpc_port}") as channel:
                asked = DragAnythingStub(channel).ListModels
                asked(pb.ListModelsRequest(), metadata=(("authorization", headers["Authorization"]),))
            until(lambda: len(+inbox.accepted) == 3, 60)
            yield Run(stack, first, key, inbox.secret, jobs, collector)


def work(client: httpx.Client, url: str) -> list[dict[str, Any]]:
    body = SPEC | SMALL | {"webhook": {"url": url}}
    answers = [
        client.post("/v1/generate", json=body | {"seed": seed}, headers={"traceparent": traceparent})
        for seed, traceparent in ((1, CLIENT), (2, ""), (3, ""))
    ]
    jobs: list[dict[str, Any]] = [answer.raise_for_status().json() for answer in answers]
    assert client.post("/v1/generate", json=body | {"seed": -1}).status_code == 422
    client.post(jobs[2]["urls"]["cancel"]).raise_for_status()
    for job, status in zip(jobs, ("succeeded", "succeeded", "canceled"), strict=True):
        with client.stream("GET", job["urls"]["events"]) as events:
            last = [json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:")][-1]
        assert last["status"] == status, last
    for artifact in ("video", "manifest"):
        client.get(
            jobs[0]["urls"]["result"], params={"artifact": artifact}, follow_redirects=True
        ).raise_for_status()
    return jobs


@contextmanager
def prometheus(run: Run, folder: Path) -> Iterator[httpx.Client]:
    """A Prometheus with our rules that asks our processes every second."""
    config = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
    api = run.stack.base_url.removeprefix("http://")
    targets = {"api": api} | {
        name: f"{HOST}:{run.metrics_port + offset}" for name, offset in METRICS_PORTS.items()
    }
    assert {each["job_name"] for each in config["scrape_configs"]} == set(targets)
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(OBSERVE / name) for name in config["rule_files"]]
    config["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [target]}]} for name, target in targets.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = choose(1)
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={HOST}:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://{HOST}:{port}/api/v1", timeout=30) as client:
                until(lambda: all_up(client, set(targets)), 60)
                yield client
        finally:
            process.terminate()


def all_up(client: httpx.Client, names: set[str]) -> bool:
    """Whether each target has been asked at least twice, so that it has a rate."""
    try:
        found = ask(client, "count_over_time(up[1m]) * (up == 1) >= 3")
    except httpx.HTTPError:
        return False
    return {sample["metric"]["job"] for sample in found} == names


def ask(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    answer = client.get("/query", params={"query": query})
    assert answer.status_code in (200, 503), answer.text
    result: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
    return result


@NEEDS_PROMETHEUS
def test_every_panel_and_every_rule_finds_what_it_asks_for(run: Run, tmp_path: Path) -> None:
    dashboard = json.loads((OBSERVE / "grafana/dashboards/draganything.json").read_text())
    shown = {
        target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    with prometheus(run, tmp_path) as client:
        empty = {query for query in shown if not ask(client, query)}
        assert {query for query in empty if "draganything_gpu_" not in query} == set()
        rules = client.get("/rules").json()["data"]["groups"]
        found = [rule for group in rules for rule in group["rules"]]
        listed = yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"]
        assert len(found) == sum(len(group["rules"]) for group in listed)
        assert {rule["name"]: rule["lastError"] for rule in found if rule.get("lastError")} == {}
        assert {rule["health"] for rule in found} == {"ok"}
        assert {rule["name"] for rule in found if rule["state"] == "firing"} == set()
        print(f"{len(shown)} queries of {len(dashboard['panels'])} panels, {len(empty)} of them empty")


def test_one_trace_holds_the_life_of_a_job(run: Run) -> None:
    trace, client = CLIENT.split("-")[1:3]
    until(lambda: len(run.collector.named(trace, "webhook")) == 2, 30)
    until(lambda: run.collector.named(trace, "attempt"), 30)
    (request,) = run.collector.named(trace, "POST /v1/generate")
    assert (request.service, request.parent) == ("draganything-api", client)
    (queue,), (attempt,) = (run.collector.named(trace, name) for name in ("queue", "attempt"))
    assert {(span.service, span.parent) for span in (queue, attempt)} == {("draganything-worker", request.id)}
    assert queue.ends <= attempt.starts + 1000  # ns: roundings
    stages = ("loading", "conditioning", "denoising", "decoding", "encoding", "uploading")
    spans = [span for name in stages for span in run.collector.named(trace, name)]
    assert [span.name for span in spans] == list(stages)
    assert {(span.service, span.parent) for span in spans} == {("draganything-worker", attempt.id)}
    assert all(before.ends <= after.starts + 1e3 for before, after in pairwise(spans))
    assert attempt.starts <= spans[0].starts + 1e3
    assert spans[-1].ends <= attempt.ends
    tries: list[Seen] = run.collector.named(trace, "webhook")
    assert {(span.service, span.parent) for span in tries} == {("draganything-webhooks", request.id)}
    assert sorted((span.attributes["outcome"], span.failed) for span in tries) == [
        ("delivered", False),
        ("failed", True),
    ]
    assert {span.attributes["job"] for span in [queue, attempt, *tries]} == {run.jobs[0]["id"]}


def test_jobs_of_other_requests_have_traces_of_their_own(run: Run) -> None:
    until(lambda: len(run.collector.all("attempt")) == 2, 30)
    assert len({span.trace for span in run.collector.all("attempt")}) == 2
    assert len({span.trace for span in run.collector.all("POST /v1/generate")}) == 4
    assert not run.collector.all("GET /readyz")
    assert {"ListModels"} <= {span.name for span in run.collector.spans}


def test_logs_are_json_and_hold_no_secret(run: Run) -> None:
    state = json.loads((run.stack.data_dir / "state.json").read_text())
    for server in ("valkey", "s3"):  # what goes wrong is logged too
        run.stack.processes[server].kill(signal.SIGSTOP)
        try:
            assert httpx.get(f"{run.stack.base_url}/readyz", timeout=60).status_code == 503
        finally:
            run.stack.processes[server].kill(signal.SIGCONT)
    assert text_of(run, "api").count('"not_ready"') >= 1
    secrets = {
        run.key.rpartition("_")[2],
        run.webhook_secret.removeprefix("whsec_"),
        state["valkey_password"],
        state["s3_access_key"],
        state["s3_secret_key"],
        COLLECTORS_KEY,
        "hunter2",  # in the address of the webhook
        "X-Amz-Signature",
    }
    for name in ("api", "worker", "janitor", "webhooks"):
        text = text_of(run, name)
        assert [secret for secret in secrets if secret in text] == []
    lines = [json.loads(line) for name in ("worker", "webhooks") for line in text_of(run, name).splitlines()]
    ours = [line for line in lines if line.get("job") == run.jobs[0]["id"]]
    told = {"job_started", "job_denoised", "job_succeeded", "webhook_failed", "webhook_delivered"}
    assert told <= {line["event"] for line in ours}
    assert {line["trace"] for line in ours} == {CLIENT.split("-")[1]}
    assert all("attempt" in line for line in ours)


def text_of(run: Run, name: str) -> str:
    return (run.stack.logs / f"{name}.log").read_text()
