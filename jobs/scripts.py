"""The Lua scripts in ``lua/``: each is one step that happens wholly or not at all."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, cast

from redis import Redis


class Scripts:
    """Runs scripts by name on one server; they are sent once and then called by their hash."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._loaded: dict[str, Any] = {}

    def run(self, name: str, *args: object) -> Any:
        """The script's answer; text is decoded."""
        if name not in self._loaded:
            self._loaded[name] = self._redis.register_script(_source(name))
        reply = self._loaded[name](args=[cast("str", arg) for arg in args])
        return reply.decode() if isinstance(reply, bytes) else reply


@cache
def _source(name: str) -> str:
    folder = resources.files("jobs") / "lua"
    return (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()
