from __future__ import annotations

import json
import re
import socket
import stat
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from redis import Redis

from local import ports
from local import stack as stack_module
from local.errors import DirectoryTaken, Exited, PortTaken
from local.seaweed import BUCKET, Seaweed
from local.stack import Stack
from local.valkey import Valkey
from tests.harness import ends, restart, until

# Answers 200 with its environment, as the API does with its checks.
API = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(json.dumps(dict(os.environ)).encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["DRAGANYTHING_PORT"])), Handler).serve_forever()
"""
STAND_INS = {"api": [sys.executable, "-c", API], "worker": ["sleep", "600"]}


def write(stack: Stack, value: bytes) -> None:
    with Redis.from_url(stack.valkey.url) as client:
        client.set("key", value)
    stack.seaweed.client().put_object(Bucket=BUCKET, Key="key", Body=value)


def read(stack: Stack) -> tuple[object, bytes]:
    with Redis.from_url(stack.valkey.url) as client:
        return client.get("key"), stack.seaweed.client().get_object(Bucket=BUCKET, Key="key")["Body"].read()


def test_everything_serves_and_stops_without_a_trace(tmp_path: Path) -> None:
    with Stack(tmp_path, commands=STAND_INS, environ={"PATH": "/bin", "DRAGANYTHING_DEVICE": "cpu"}) as stack:
        assert [*stack.processes] == ["valkey", "s3", "api", "worker"]
        pids = [process.pid for process in stack.processes.values()]
        for pid in pids:  # an orphan would keep the directory taken
            assert tmp_path / "lock" in [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
        with urlopen(stack.base_url) as answer:
            told = json.load(answer)
    assert all(ends(pid, 0) for pid in pids)
    assert told["DRAGANYTHING_DEVICE"] == "cpu"
    assert told["DRAGANYTHING_REDIS_URL"] == stack.valkey.url
    assert told["DRAGANYTHING_S3_ENDPOINT"] == stack.seaweed.endpoint
    assert told["DRAGANYTHING_GRPC_PORT"] == str(stack.grpc_port)
    sockets = [path.name for path in Path("/tmp").glob("seaweedfs-*.sock")]
    assert not [name for name in sockets if re.search("|".join(map(str, stack.seaweed.ports)), name)]


def test_stop_takes_less_than_ten_seconds() -> None:
    assert stack_module.COMMANDS_GRACE_S + stack_module.SERVERS_GRACE_S < 10


def test_data_survive_a_restart_and_a_crash(tmp_path: Path) -> None:
    with Stack(tmp_path, commands={}) as stack:
        write(stack, b"kept")
        first = stack.addresses
    with Stack(tmp_path, commands={}) as stack:
        again = stack.addresses
        assert read(stack) == (b"kept", b"kept")
        write(stack, b"kept too")
        restart(stack, "valkey")
        restart(stack, "s3")
        until(stack.valkey.ready)
        until(stack.seaweed.ready)
        assert read(stack) == (b"kept too", b"kept too")
    chosen_anew = {"port", "grpc_port"}
    assert {k: v for k, v in again.items() if k not in chosen_anew} == {
        k: v for k, v in first.items() if k not in chosen_anew
    }


def test_data_survive_the_loss_of_a_port(tmp_path: Path) -> None:
    with Stack(tmp_path, commands={}) as stack:
        write(stack, b"kept")
    with socket.create_server((ports.HOST, stack.seaweed.ports[0])), Stack(tmp_path, commands={}) as moved:
        assert read(moved) == (b"kept", b"kept")
        assert moved.seaweed.endpoint != stack.seaweed.endpoint


def test_no_two_servers_of_a_stack_are_given_one_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(
        port for port in iter(lambda: ports.choose(1)[0], 0) if all(map(ports.is_free, range(port, port + 3)))
    )
    monkeypatch.setattr(
        ports, "_CANDIDATES", [first, first + 1, first + 2, *ports.choose(8, range(first, first + 3))]
    )
    told = {"DRAGANYTHING_METRICS_PORT": str(first)}
    with Stack(tmp_path, environ=told, commands={}) as stack:
        seaweed = stack.seaweed.ports
        assert len({stack.port, stack.grpc_port, stack.valkey.port, *seaweed, *range(first, first + 3)}) == 11


def test_race_for_a_port_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program takes the S3 port between the choice and the start."""
    thieves: list[socket.socket] = []
    prepare = Valkey.prepare

    def prepare_late(valkey: Valkey) -> list[str]:
        if not thieves:
            thieves.append(socket.create_server((ports.HOST, valkey.port)))
        return prepare(valkey)

    monkeypatch.setattr(Valkey, "prepare", prepare_late)
    with Stack(tmp_path, commands={}) as stack:
        assert stack.valkey.port != thieves[0].getsockname()[1]
        assert stack.valkey.ready()
    thieves[0].close()


def test_wrong_keys_are_refused(servers: Stack) -> None:
    stranger = Seaweed(servers.data_dir, servers.seaweed.ports, "STRANGER", "guess")
    assert servers.seaweed.ready()
    assert not stranger.ready()
    assert not Valkey(servers.data_dir, servers.valkey.port, "guess").ready()


@pytest.mark.parametrize("name", ["port", "grpc_port"])
def test_port_in_use_says_how_to_choose_another(tmp_path: Path, name: str) -> None:
    with socket.create_server((ports.HOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"^port {port} is in use: choose another with {name.upper()}=…$"):
            Stack(tmp_path, commands={}, **{name: port}).__enter__()


def test_command_that_fails_stops_the_start_and_shows_its_log(tmp_path: Path) -> None:
    failing = {"api": ["sleep", "600"], "worker": ["/bin/sh", "-c", "echo no weights; exit 5"]}
    stack = Stack(tmp_path, commands=failing)
    with pytest.raises(Exited, match=r"worker ended with exit code 5(?s:.*)no weights"):
        stack.__enter__()
    assert not stack.processes


def test_two_stacks_stand_side_by_side(servers: Stack, tmp_path: Path) -> None:
    with Stack(tmp_path, commands={}) as other:
        write(servers, b"one")
        write(other, b"two")
        assert read(servers) == (b"one", b"one")
        assert read(other) == (b"two", b"two")


def test_directory_serves_one_stack(servers: Stack) -> None:
    with pytest.raises(DirectoryTaken, match=f"a stack runs on {servers.data_dir} already"):
        Stack(servers.data_dir, commands={}).__enter__()


def test_secrets_are_private(servers: Stack) -> None:
    for path in ("state.json", "valkey/valkey.conf", "s3/identities.json"):
        assert stat.S_IMODE((servers.data_dir / path).stat().st_mode) == 0o600
    for path in (".", "logs", "valkey", "s3"):
        assert stat.S_IMODE((servers.data_dir / path).stat().st_mode) == 0o700
    state = json.loads((servers.data_dir / "state.json").read_text())
    for process in servers.processes.values():
        command = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert state["valkey_password"] not in command
        assert state["s3_secret_key"] not in command
