"""Where a client reaches this service."""

from __future__ import annotations

from fastapi import Request

from jobs.settings import Settings


def base_url(request: Request, settings: Settings) -> str:
    """Where the client reached us, or what the settings say."""
    return (settings.public_url or str(request.base_url)).rstrip("/")


def own_url(settings: Settings) -> str:
    """Where this service answers HTTP, for who reached it at another door: what the settings say."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return (settings.public_url or f"http://{host}:{settings.port}").rstrip("/")
