from __future__ import annotations

import json
import logging

import pytest
import structlog

from jobs.logs import configure_logs
from jobs.settings import Settings

SECRETS = [
    ("redis://worker:p%40ss@cache:6379/0 does not answer", "redis://worker:***@cache:6379/0 does not answer"),
    ("redis://:pw@cache refused", "redis://:***@cache refused"),
    ("http://cache:6379/a@b", "http://cache:6379/a@b"),
    ("da_650d0353237e_0db33c30e274f4d4 is unknown", "da_650d0353237e_*** is unknown"),
    ("whsec_AAAA+/=", "whsec_***"),
    ("GET /video?X-Amz-Credential=AKIA%2Fs3&X-Amz-Signature=00ff", "GET /video?X-Amz-Credential=***"),
    ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
    ("signed with s3-secret-key, or p@ss", "signed with ***, or ***"),
    ("job 01a20794c968b6c6cce2369e40950520 ended", "job 01a20794c968b6c6cce2369e40950520 ended"),
]


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs of other tests are theirs."""
    monkeypatch.setattr(logging.root, "handlers", logging.root.handlers[:])
    monkeypatch.setattr(logging.root, "level", logging.root.level)


@pytest.mark.parametrize("log_json", [True, False])
@pytest.mark.parametrize(("said", "written"), SECRETS)
def test_a_secret_is_not_written(
    said: str, written: str, log_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before = structlog.get_config()
    try:
        url = "redis://worker:p%40ss@cache:6379/0"
        configure_logs(Settings(log_json=log_json, redis_url=url, s3_secret_key="s3-secret-key"))
        logging.getLogger("library").warning("%s", said)
    finally:
        structlog.configure(**before)
    line = capsys.readouterr().err
    assert (json.loads(line)["event"] if log_json else line.partition("] ")[2].rstrip()) == written
