"""``python -m bench.serving``: how fast jobs are accepted, here and by other servers of models.

Each server gets the same JSON with a picture of about 1 MB, from one client and from eight, in turn for several
rounds. The other servers have a small model, once running beside the requests and once left out; the worker here
is stopped. Each is also killed right after it accepted a job, and started again: does that job still end?
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.service import milliseconds, photograph, request, timed
from bench.serving.network import Network
from bench.serving.ours import Ours
from bench.serving.products import PRODUCTS, Product, Server, install
from local.errors import LocalError

CLIENTS = (1, 8)
LONG = 300
"""Passes of a render that is still going on when its server is killed: about 3 s of one core."""
PATIENCE = 3
"""A job that takes this many times as long as the one before the kill, and did not end, is lost."""
SLACK_S = 10.0


def main() -> None:
    """Measure and print: a table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--submissions", type=int, default=200, help="to each server, for each number of clients")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "draganything-bench")
    parser.add_argument("--no-kill", dest="crash", action="store_false", help="only time the acceptance")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args()
    record = measure(options.submissions, options.rounds, options.venvs, crash=options.crash)
    print(json.dumps(record, indent=2) if options.json else table(record))


@dataclass
class Cell:
    """What one server took from one number of clients."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    refused: int = 0

    def figures(self) -> dict[str, float]:
        return {
            "p50_ms": milliseconds(statistics.median(self.latencies)),
            "p99_ms": milliseconds(np.quantile(self.latencies, 0.99)),
            "per_s": round(len(self.latencies) / self.seconds, 1),
            "refused": self.refused,
        }


def measure(submissions: int, rounds: int, venvs: Path, *, crash: bool = True) -> dict[str, Any]:
    """All figures of one run."""
    picture = photograph()
    body = request(picture)
    share = max(8, submissions // rounds // 8 * 8)  # of a round, the same for one client and for eight
    load = [round(os.getloadavg()[0], 1)]
    left_out, homes = {}, {}
    for product in PRODUCTS:
        try:
            homes[product.name] = install(product, venvs)
        except subprocess.CalledProcessError as error:
            left_out[product.name] = str(error.stderr)[-500:]
    products = [product for product in PRODUCTS if product.name in homes]
    survives = dict.fromkeys([Ours.name, *homes], "not tried")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        with ThreadPoolExecutor(len(PRODUCTS)) as pool:
            ends = {
                product.name: pool.submit(survives_kill, product, homes[product.name], Path(folder), body)
                for product in products
                if crash
            }
        for name, end in ends.items():
            try:
                survives[name] = end.result()
            except (LocalError, TimeoutError, httpx.HTTPError) as error:
                left_out[name] = str(error)
                del survives[name]
        ours = stack.enter_context(Ours(body))
        if crash:
            survives[ours.name] = ours.survives_kill()
        others: list[Server] = []
        for product in products:
            for repeats in (1, 0) if product.name in survives else ():
                place = Path(folder) / f"{product.name}-{repeats}"
                others.append(stack.enter_context(Server(product, homes[product.name], place, body, repeats)))
        for other in others:
            other.wait_ready()
        servers: list[Ours | Server] = [ours, *others]
        cells, model = accept(servers, base64.b64encode(picture).decode(), share, rounds)
        load.append(round(os.getloadavg()[0], 1))
    holds = {ours.name: ours.holds} | {product.name: product.holds for product in products}
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load_before_and_after": load,
        "body_mb": round(len(body) / 2**20, 2),
        "model_p50_ms": model,
        "submissions": share * rounds,
        "rounds": rounds,
        "servers": [
            {
                "server": server.name,
                "model": server.model,
                "clients": {str(count): cell.figures() for count, cell in row.items()},
                "holds": holds[server.name],
                "survives_kill": survives[server.name],
            }
            for server, row in zip(servers, cells, strict=True)
        ],
        "left_out": left_out,
    }


def accept(
    servers: Iterable[Ours | Server], picture: str, share: int, rounds: int
) -> tuple[list[dict[int, Cell]], float]:
    """The cells of each server, and the milliseconds that the model takes alone; a first round warms up."""
    network, alone = Network(), []
    rows = [(server, {count: Cell() for count in CLIENTS}, [0]) for server in servers]
    for index in range(rounds + 1):
        alone += [timed(lambda: render(network, picture)) for _ in range(5)]
        for server, cells, handed in rows:
            for count in CLIENTS:
                latencies, refused, seconds = hand_over(server, count, share if index else count)
                handed[0] += len(latencies)
                server.settle(handed[0])
                if index:
                    cells[count].latencies += latencies
                    cells[count].refused += refused
                    cells[count].seconds += seconds
    return [cells for _, cells, _ in rows], milliseconds(statistics.median(alone[5:]))


def render(network: Network, picture: str) -> None:
    """The model alone."""
    network.render(picture)


def hand_over(server: Ours | Server, clients: int, jobs: int) -> tuple[list[float], int, float]:
    """Latencies of clients that each submit as fast as they can, refusals, and the seconds that all of it took."""

    def work(client: httpx.Client) -> list[tuple[float, int]]:
        return [once(client) for _ in range(jobs // clients)]

    def once(client: httpx.Client) -> tuple[float, int]:
        started = time.perf_counter()
        refused = server.submit(client)
        return time.perf_counter() - started, refused

    with ExitStack() as stack, ThreadPoolExecutor(clients) as pool:
        opened = [stack.enter_context(httpx.Client(base_url=server.base_url, timeout=120)) for _ in range(clients)]
        started = time.perf_counter()
        done = [each for part in pool.map(work, opened) for each in part]
        seconds = time.perf_counter() - started
    return [latency for latency, _ in done], sum(refused for _, refused in done), seconds


def survives_kill(product: Product, home: Path, folder: Path, body: bytes) -> str:
    """Let one job end; kill the server while it renders a second one; start it again and wait for that one."""
    with (
        Server(product, home, folder / f"{product.name}-killed", body, LONG) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        server.wait_ready()
        with httpx.Client(base_url=server.base_url, timeout=120) as client:
            started = time.monotonic()
            server.post(client).raise_for_status()
            server.settle(1)
            patience = PATIENCE * (time.monotonic() - started) + SLACK_S
            answer = pool.submit(server.post, client)
            if product.called is None:
                time.sleep(patience / PATIENCE / 10)  # without an acceptance: some way into the render
            else:
                answer.result().raise_for_status()
            if server.rendered() > 1:
                raise TimeoutError("the job ended before the kill")
            server.crash()
        with httpx.Client(base_url=server.base_url, timeout=120) as client:
            known = product.called is not None and server.knows(client, answer.result().json())
        try:
            server.settle(2, patience)
        except TimeoutError:
            return "the record alone: known, never finished" if known else "no: neither known nor finished"
    return "yes: known and finished" if known else "finished, yet not known"


def table(record: dict[str, Any]) -> str:
    """For a terminal."""
    head = f"{'server':14}{'model':10}{'clients':>8}{'p50 ms':>9}{'p99 ms':>9}{'per s':>8}{'refused':>9}"
    lines = [f"{name}: {record[name]}" for name in ("date", "machine", "load_before_and_after", "model_p50_ms")]
    lines.append(f"{head}  survives kill -9")
    for row in record["servers"]:
        for count, cell in row["clients"].items():
            figures = f"{cell['p50_ms']:9}{cell['p99_ms']:9}{cell['per_s']:8}{cell['refused']:9}"
            lines.append(f"{row['server']:14}{row['model']:10}{count:>8}{figures}  {row['survives_kill']}")
    return "\n".join(lines + [f"left out: {name}: {reason}" for name, reason in record["left_out"].items()])


if __name__ == "__main__":
    main()
