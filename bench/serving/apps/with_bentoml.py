"""BentoML: a task."""

from typing import Any

import bentoml  # type: ignore[import-not-found] # it is installed in its own virtual environment alone

from bench.serving.network import Network


class Task:
    """Its requests have the fields that a job here has."""

    def __init__(self) -> None:
        self._network = Network()

    def render(self, image: dict[str, Any], entities: list[dict[str, Any]], seed: int) -> float:  # noqa: ARG002
        return self._network.render(image["base64"])


Task.render = bentoml.task(Task.render)  # type: ignore[method-assign] # an untyped decorator
Render = bentoml.service(Task, name="render")
