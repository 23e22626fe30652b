"""The process: where it may listen, and what it must not load."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from jobs.settings import Settings
from service import main


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What uvicorn was told, instead of serving for ever."""
    told: list[dict[str, Any]] = []

    def run(server: main.Server) -> None:
        told.append(vars(server.config))
        server.started = True

    monkeypatch.setattr(main.Server, "run", run)
    monkeypatch.setattr(main, "configure_logs", lambda _: None)
    return told


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_only_loopback_is_served_without_a_word_about_hosts(
    host: str, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "settings", lambda: Settings(host=host))
    with pytest.raises(SystemExit, match="DRAGANYTHING_ALLOWED_HOSTS") as refusal:
        main.main()
    assert host in str(refusal.value)
    assert started == []
    monkeypatch.setenv("DRAGANYTHING_ALLOWED_HOSTS", '["127.0.0.1"]')
    monkeypatch.setattr(main, "settings", lambda: Settings(host=host))
    main.main()
    assert started[0]["host"] == host


def test_loopback_is_the_default(started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "settings", Settings)
    main.main()
    assert (started[0]["host"], started[0]["port"]) == ("127.0.0.1", 8000)


FRESH = """
import sys
import service.app
heavy = {"torch", "diffusers", "transformers", "av", "worker", "local"} & set(sys.modules)
assert not heavy, heavy
assert {"service.rest", "model.trajectory"} <= set(sys.modules)
"""


def test_importing_the_application_loads_no_networks() -> None:
    run = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
