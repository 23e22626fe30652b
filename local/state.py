"""What a data directory remembers of its stack: random credentials and the ports they were served on."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from local import ports
from local.errors import DirectoryTaken, StateDamaged
from local.files import write_private
from local.seaweed import SERVERS

KILLED_S = 3.0
"""The kernel needs a moment to end the processes of a stack that was killed."""


class State(BaseModel):
    """Kept in ``state.json``, mode 0600. Credentials stay for the directory's life, ports where they can."""

    model_config = ConfigDict(frozen=True)

    valkey_password: str = Field(default_factory=lambda: secrets.token_urlsafe(32))
    s3_access_key: str = Field(default_factory=lambda: secrets.token_hex(10).upper())
    s3_secret_key: str = Field(default_factory=lambda: secrets.token_urlsafe(30))
    valkey_port: int
    seaweed_ports: tuple[int, ...]

    @classmethod
    def new(cls, without: Collection[int] = ()) -> State:
        valkey, *seaweed = ports.choose(1 + len(SERVERS), without)
        return cls(valkey_port=valkey, seaweed_ports=tuple(seaweed))

    @classmethod
    def load(cls, path: Path) -> State:
        """The directory's state; a new one where there is none.

        Raises:
            StateDamaged: the file is damaged.
        """
        if not path.exists():
            return cls.new()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise StateDamaged(
                f"{path} is damaged; its credentials are needed to read {path.parent}: "
                f"restore the file, or choose another DATA_DIR ({error.error_count()} errors)"
            ) from error

    def save(self, path: Path) -> None:
        """Replace the file in one step, for the owner's eyes only."""
        write_private(path, self.model_dump_json(indent=2))

    @property
    def listening(self) -> tuple[int, ...]:
        """Every port that the servers listen on."""
        seaweed = self.seaweed_ports
        return (self.valkey_port, *seaweed, *(port + ports.GRPC_OFFSET for port in seaweed))

    def with_free_ports(self, without: Collection[int] = ()) -> State:
        """The same credentials, on the same ports if all of them are free and none ``without``, else on others."""
        if all(port not in without and ports.is_free(port) for port in self.listening):
            return self
        fresh = State.new(without)
        return self.model_copy(update={"valkey_port": fresh.valkey_port, "seaweed_ports": fresh.seaweed_ports})


def lock(directory: Path) -> int:
    """Take the directory for one stack; returns the descriptor that holds it.

    The stack's processes inherit the descriptor, so the directory stays taken as long as any of them lives: a
    server that outlived its stack is found here, before a second one writes to the same files.

        DirectoryTaken: it is taken; the message says by whom and what to do.
    """
    path = directory / "lock"
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + KILLED_S
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            owner = path.read_text()
            if _alive(owner) or time.monotonic() > end:
                os.close(held)
                raise DirectoryTaken(_taken(path, owner)) from None
            time.sleep(0.05)
    os.truncate(held, 0)
    os.pwrite(held, str(os.getpid()).encode(), 0)
    return held


def _alive(owner: str) -> bool:
    return owner.isdigit() and Path(f"/proc/{owner}").exists()


def _taken(path: Path, owner: str) -> str:
    if _alive(owner):
        return (
            f"a stack runs on {path.parent} already (process {owner}): "
            f"stop it with Ctrl-C or `kill {owner}`, or choose another directory with DATA_DIR=…"
        )
    left = " ".join(str(pid) for pid in _holders(path)) or "unknown"
    return (
        f"a stack on {path.parent} has crashed and left processes behind ({left}): "
        f"stop them with `kill {left}`, or choose another directory with DATA_DIR=…"
    )


def _holders(path: Path) -> list[int]:
    """The processes of this user that have ``path`` open (Linux's /proc)."""
    target = path.resolve()
    holders = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == target:
                holders.add(int(link.parts[2]))
        except OSError:  # it has ended, or is another user's
            continue
    return sorted(holders)
