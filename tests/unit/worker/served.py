"""``python -m tests.unit.worker.served``: a worker that renders nothing; what it does is written to Redis.

It pushes each job's id to ``started``, waits for a word in ``go`` where ``hold`` is set, and pushes the id to
``ended``.
"""

from __future__ import annotations

import os

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.warm import WarmWorker


def main() -> None:
    """Serve until a signal comes."""
    redis = Redis.from_url(os.environ["REDIS_URL"], retry=Retry(NoBackoff(), 0))

    def serve(job_id: str) -> None:
        redis.rpush("started", job_id)
        if redis.exists("hold"):
            redis.blpop(["go"], 60)
        redis.rpush("ended", job_id)

    worker = WarmWorker(redis, "served", ["tiny", "other"], serve)
    worker.run()


if __name__ == "__main__":
    main()
