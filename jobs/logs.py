"""Structured logs: readable lines on a terminal, JSON lines elsewhere; no secrets in either."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from jobs.settings import Settings
from jobs.tracing import note_trace

_SECRETS = (
    r"(://[^/\s@\"]*:(?=[^/\s@\"]+@)|\bda_[0-9a-f]+_|whsec_|(?i:bearer )|"
    r"X-Amz-(?:Signature|Credential|Security-Token)=)[^\s@\"\\]+"
)
"""Passwords in addresses, API keys, secrets of webhooks, signatures of links; what comes before is kept."""


def configure_logs(settings: Settings) -> None:
    """Send our own and the libraries' logs through one pipeline to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        note_trace,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: structlog.typing.Processor
    if settings.log_json:
        renderer = structlog.processors.JSONRenderer()
        shared.append(structlog.processors.format_exc_info)
    else:
        # plain: a rich traceback shows local variables, which may be large, or secret
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
                _hiding(settings),
            ],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("botocore", "boto3", "urllib3", "rq.worker", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _hiding(settings: Settings) -> structlog.typing.Processor:
    """The last step of a line. Nothing should log a secret; an error of a library, or a later change, may."""
    known = {settings.s3_secret_key, settings.redis_sentinel_password, urlsplit(settings.redis_url).password}
    spelt = {form for secret in known if secret for form in (secret, unquote(secret))}
    pattern = re.compile("|".join([_SECRETS, *map(re.escape, sorted(spelt, key=len, reverse=True))]))

    def hide(_: Any, __: str, line: Any) -> str:
        return pattern.sub(lambda found: (found[1] or "") + "***", line)

    return hide
