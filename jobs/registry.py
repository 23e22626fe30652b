"""Which workers are alive and which models they hold, as they say it themselves with every beat."""

from __future__ import annotations

from typing import cast

from redis import Redis

from jobs.errors import InvalidRequest, ModelUnavailable
from jobs.models import ModelCard
from jobs.scripts import Scripts


class Registry:
    """Cards stay when workers go, so that jobs can be accepted while a cluster sleeps; beats do not."""

    def __init__(self, redis: Redis, lease_s: float) -> None:
        self.redis = redis
        self._run = Scripts(redis).run
        self._lease_ms = int(lease_s * 1000)

    def announce(self, worker: str, card: ModelCard) -> None:
        """The worker is alive and holds this model: said again with every beat, since Redis may have lost it."""
        self._run("announce", worker, card.name, card.model_dump_json(), self._lease_ms)

    def retire(self, worker: str, model: str) -> None:
        """The worker goes."""
        self.redis.zrem(f"da:workers:{model}", worker)

    def cards(self) -> list[ModelCard]:
        """Every model that a worker has ever announced here, by name."""
        held = cast("dict[bytes, bytes]", self.redis.hgetall("da:models"))
        return sorted((ModelCard.model_validate_json(v) for v in held.values()), key=lambda card: card.name)

    def card(self, name: str) -> ModelCard:
        """The card of a model.

        Raises:
            ModelUnavailable: no worker has announced any model yet.
            InvalidRequest: others are there, but not this one.
        """
        cards = {card.name: card for card in self.cards()}
        if not cards:
            raise ModelUnavailable("The workers are still loading; try again.", retry_after_s=5)
        if name not in cards:
            raise InvalidRequest.at("/model", f"There is no model {name[:64]!r}; use one of {sorted(cards)}.")
        return cards[name]

    def alive(self, model: str | None = None) -> int:
        """How many workers hold the model, or any, and have beaten within a lease."""
        models = [card.name for card in self.cards()] if model is None else [model]
        return int(self._run("alive", *models))

    def beats(self, host: str) -> bool:
        """Whether a worker of this host has beaten within a lease; its name is the host's and something random."""
        seconds, micros = self.redis.time()
        now = seconds * 1000 + micros // 1000
        names = [
            name
            for card in self.cards()
            for name in cast("list[bytes]", self.redis.zrangebyscore(f"da:workers:{card.name}", now, "+inf"))
        ]
        return any(name.decode().rpartition("-")[0] == host for name in names)
