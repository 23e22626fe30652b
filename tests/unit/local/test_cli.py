from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from local.cli import commands
from local.ports import HOST, choose
from local.stack import Stack


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The commands take over the process's signals."""
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)


@pytest.mark.parametrize(("option", "variable"), [("--port", "PORT"), ("--grpc-port", "GRPC_PORT")])
def test_up_names_a_port_in_use_on_one_line(tmp_path: Path, option: str, variable: str) -> None:
    ports = dict(zip(("--port", "--grpc-port"), map(str, choose(2)), strict=True))
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        asked = ports | {option: str(port)}
        arguments = [word for pair in asked.items() for word in pair]
        result = CliRunner().invoke(commands, ["up", *arguments, "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr == f"port {port} is in use: choose another with {variable}=…\n"


def test_up_refuses_a_directory_in_use(servers: Stack) -> None:
    result = CliRunner().invoke(commands, ["up", "--data-dir", str(servers.data_dir)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"a stack runs on {servers.data_dir} already")


def test_demo_names_a_request_that_is_none(tmp_path: Path) -> None:
    request = tmp_path / "request.json"
    request.write_text("[]")
    result = CliRunner().invoke(commands, ["demo", str(request)])
    assert result.exit_code == 1
    assert result.stderr == f"{request} is not a job request: a JSON object is expected\n"


REFUSING_API = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/problem+json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self): self.answer(200, b"{}")
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.answer(422, b'{"status": 422, "code": "invalid", "title": "No", "detail": "the picture is missing"}')
http.server.HTTPServer(("127.0.0.1", int(os.environ["DRAGANYTHING_PORT"])), Handler).serve_forever()
"""


def test_demo_that_fails_shows_why_with_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins = {
        "api": [sys.executable, "-c", REFUSING_API],
        "worker": ["/bin/sh", "-c", "echo idle; exec sleep 600"],
    }
    monkeypatch.setattr("local.demo.Stack", partial(Stack, commands=stand_ins))
    request = tmp_path / "request.json"
    request.write_text("{}")
    result = CliRunner().invoke(commands, ["demo", str(request), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "the picture is missing" in result.stderr
    assert "POST /v1/generate" in result.stderr
    assert "idle" in result.stderr
