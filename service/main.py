"""``python -m service.main``: serve the API."""

from __future__ import annotations

import sys

import uvicorn

from jobs.connection import Misconfigured, connect_briefly
from jobs.logs import configure_logs
from jobs.settings import settings
from service.app import create_app

LOOPBACK = {"127.0.0.1", "::1", "localhost"}
DRAIN_S = 5


def main() -> None:
    """Listen where the settings say; without keys only on loopback, unless the hosts to serve are named."""
    config = settings()
    configure_logs(config)
    if config.host not in LOOPBACK and "allowed_hosts" not in config.model_fields_set:
        sys.exit(
            f"No keys are configured, so {config.host} is not served. To publish the service anyway (behind a"
            " proxy of yours), name the hosts that it is called by: DRAGANYTHING_ALLOWED_HOSTS='[\"127.0.0.1\"]'."
        )
    try:
        connect_briefly(config).close()
    except Misconfigured as error:
        sys.exit(str(error))
    uvicorn.run(
        create_app(config),
        host=config.host,
        port=config.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )


if __name__ == "__main__":
    main()
