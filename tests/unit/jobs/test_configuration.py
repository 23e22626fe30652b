from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import Settings

PAGE = Path(__file__).parents[3] / "docs/configuration.md"
ROW = re.compile(r"^\| `DRAGANYTHING_(\w+)` \| (?:`(.*?)` )?\| (.+) \|$", re.MULTILINE)


def as_variable(value: Any) -> str:
    """As one would write it in the environment."""
    match value:
        case None:
            return ""
        case tuple() | bool():
            return json.dumps(value)
        case float():
            return f"{value:.12g}"
        case _:
            return str(value)


def test_the_page_tells_every_setting_once_with_its_default() -> None:
    told = sorted((name.lower(), default) for name, default, _ in ROW.findall(PAGE.read_text()))
    assert told == sorted((name, as_variable(field.default)) for name, field in Settings.model_fields.items())


@pytest.mark.parametrize(("name", "default"), [row[:2] for row in ROW.findall(PAGE.read_text()) if row[1]])
def test_a_default_is_written_as_the_environment_takes_it(
    name: str, default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DRAGANYTHING_{name}", default)
    assert Settings() == Settings.model_construct()


def test_a_setting_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "DRAGANYTHING_S3_SECRET_KEY").write_text("from a file\n")
    (tmp_path / "DRAGANYTHING_S3_ACCESS_KEY").write_text("from a file\n")
    (tmp_path / "ca.crt").write_text("no setting")
    monkeypatch.setenv("DRAGANYTHING_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("DRAGANYTHING_S3_ACCESS_KEY", "from the environment")
    assert (Settings().s3_secret_key, Settings().s3_access_key) == ("from a file", "from the environment")
    monkeypatch.delenv("DRAGANYTHING_SECRETS_DIR")
    assert Settings().s3_secret_key is None
