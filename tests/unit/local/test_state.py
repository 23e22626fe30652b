from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local import ports, state
from local.errors import DirectoryTaken, StateDamaged
from local.state import State, lock

HOLDER = """
import os, subprocess, sys
from pathlib import Path
from local.state import lock
held = lock(Path(sys.argv[1]))
print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, pass_fds=(held,)).pid)
"""


def test_saved_state_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    made = State.load(path)
    made.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert State.load(path) == made


def test_credentials_are_random() -> None:
    one, two = State.new(), State.new()
    assert one.valkey_password != two.valkey_password
    assert one.s3_access_key != two.s3_access_key
    assert one.s3_secret_key != two.s3_secret_key


def test_damaged_state_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{")
    with pytest.raises(StateDamaged, match=r"state\.json is damaged.*another DATA_DIR"):
        State.load(path)
    assert path.read_text() == "{"


def test_taken_port_moves_the_servers_and_keeps_the_credentials() -> None:
    before = State.new()
    with socket.socket() as taken:
        taken.bind((ports.HOST, before.seaweed_ports[3] + ports.GRPC_OFFSET))
        taken.listen()
        after = before.with_free_ports()
    assert not set(after.listening) & set(before.listening)
    assert after.s3_secret_key == before.s3_secret_key


def test_free_ports_stay() -> None:
    made = State.new()
    assert made.with_free_ports() is made


def test_lock_names_the_stack_that_holds_it(tmp_path: Path) -> None:
    held = lock(tmp_path)
    with pytest.raises(DirectoryTaken, match=rf"process {os.getpid()}.*DATA_DIR="):
        lock(tmp_path)
    os.close(held)
    os.close(lock(tmp_path))


def test_lock_names_what_a_crashed_stack_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "KILLED_S", 0.0)
    crashed = subprocess.run([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, check=True)
    orphan = int(crashed.stdout)
    try:
        with pytest.raises(DirectoryTaken, match=re.escape(f"has crashed and left processes behind ({orphan})")):
            lock(tmp_path)
    finally:
        os.kill(orphan, 9)
