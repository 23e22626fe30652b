"""``python -m tests.unit.worker.served``: a worker that renders nothing; what it does is written to Redis.

Its jobs are the entries of ``jobs``: it pushes each to ``started``, waits for a word in ``go`` where ``hold`` is
set, and pushes it to ``ended``.
"""

from __future__ import annotations

import os
from typing import cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.warm import WarmWorker


def main() -> None:
    """Serve until a signal comes."""
    redis = Redis.from_url(os.environ["REDIS_URL"], retry=Retry(NoBackoff(), 0))

    def serve() -> bool:
        job_id = cast("bytes | None", redis.lpop("jobs"))
        if job_id is None:
            redis.incr("looked")
            return False
        redis.rpush("started", job_id)
        if redis.exists("hold"):
            redis.blpop(["go"], 60)
        redis.rpush("ended", job_id)
        return True

    worker = WarmWorker(redis, "served", ["tiny", "other"], serve)
    worker.run()


if __name__ == "__main__":
    main()
