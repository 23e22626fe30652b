"""LitServe: ``with_litserve.py PORT``."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found] # it is installed in its own virtual environment alone

from bench.serving.network import Network


class Render(litserve.LitAPI):  # type: ignore[misc] # untyped here for the same reason
    """Its requests have the fields that a job here has."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        self._network = Network()

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["image"]["base64"])

    def predict(self, picture: str) -> float:
        return self._network.render(picture)

    def encode_response(self, mean: float) -> dict[str, float]:
        return {"mean": mean}


if __name__ == "__main__":
    server = litserve.LitServer(Render(), accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
