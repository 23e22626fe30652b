"""Cog: a predictor."""

from typing import Any

from bench.serving.network import Network


class Predictor:
    """Its inputs have the fields that a job here has."""

    def setup(self) -> None:
        self._network = Network()

    def run(self, image: dict[str, Any], entities: list[dict[str, Any]], seed: int) -> float:  # noqa: ARG002
        return self._network.render(image["base64"])
