"""``docker-compose.yml`` as Compose reads it, as far as it is used here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "docker-compose.gpu.yml")


def load(name: str = FILES[0]) -> dict[str, Any]:
    """A compose file with the defaults of its variables filled in."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text())
    return dict(yaml.safe_load(text))


def split(mount: str) -> tuple[str, str, bool]:
    """Source, target, and whether it is read-only, of a volume's short form."""
    source, target, *mode = mount.split(":")
    return source, target, mode == ["ro"]
