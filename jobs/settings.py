"""Every knob, once. Each field is read from the environment variable ``DRAGANYTHING_<FIELD>``, or else from the
file of that name in the directory ``DRAGANYTHING_SECRETS_DIR``: a password need not be in the environment."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)


class Settings(BaseSettings):
    """Where the service finds its neighbours, and the limits it keeps."""

    model_config = SettingsConfigDict(env_prefix="DRAGANYTHING_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Of the gRPC API, on the same host; 0 is off."""
    grpc_cert_file: Path | None = None
    """PEM file of the gRPC server's certificate; left out, it speaks without TLS."""
    grpc_key_file: Path | None = None
    """PEM file of its key; left out, the key is in the certificate's file."""
    grpc_ca_file: Path | None = None
    """PEM file of the authority whose certificates gRPC clients must show (mutual TLS)."""
    public_url: str | None = None
    """Base of the links in answers; left out, the request's own host is used."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Host headers that are served; ``["*"]`` serves every host."""
    require_keys: bool = False
    """Serve no call without a key, even while there is none."""

    redis_url: str = "redis://127.0.0.1:6379/0"
    """``redis[s]://[[user]:password@]host:port/database``. With sentinels, host and port come from them."""
    redis_sentinels: tuple[str, ...] = ()
    """Addresses of the sentinels, ``["host:port"]``; they use TLS if ``redis_url`` does."""
    redis_sentinel_service: str = "mymaster"
    redis_sentinel_password: str | None = None
    redis_ca_file: Path | None = None
    """PEM file of an authority that may sign Redis's certificate, besides those that the system trusts."""
    redis_cert_file: Path | None = None
    """PEM file of this client's certificate, and of its key unless ``redis_key_file`` holds that."""
    redis_key_file: Path | None = None
    s3_endpoint: str | None = None
    s3_public_endpoint: str | None = None
    """Address that clients reach S3 at, for presigned links; left out, ``s3_endpoint``."""
    s3_bucket: str = "draganything"
    s3_region: str = "us-east-1"
    s3_access_key: str | None = None
    s3_secret_key: str | None = None
    s3_private: bool = False
    """Clients can not reach S3: the API streams artifacts itself instead of linking to them."""
    link_ttl_s: PositiveInt = 3600

    models: tuple[str, ...] = ("tiny",)
    """Models that a worker loads: preset names."""
    device: str | None = None
    """Left out, ``cuda`` where there is one, else ``cpu``."""
    dtype: str | None = None
    cotracker_dir: Path | None = None
    """A checkout of CoTracker with ``scaled_offline.pth`` in it; left out, the embedded tracker scores videos."""

    max_body_bytes: PositiveInt = 32 * 2**20
    max_image_bytes: PositiveInt = 20 * 2**20
    max_image_pixels: PositiveInt = 40_000_000
    fetch_urls: bool = False
    """Images may be given by https address; nothing but public addresses is asked."""
    fetch_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)
    fetch_timeout_s: PositiveFloat = 10.0
    """For all that one request fetches, together."""
    webhooks_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = (443,)
    webhooks_private: bool = False
    """Webhooks may go to any address, http and loopback too: for development."""
    max_queued: PositiveInt = 1000
    priority_head_start_s: NonNegativeFloat = 300.0
    """A job of one priority more counts as if it had come this much earlier: it overtakes no longer wait."""
    retention_s: PositiveInt = 7 * 24 * 3600
    """A finished job and its objects are kept this long."""
    max_attempts: PositiveInt = 3
    """Attempts that may die with their worker before the job fails with ``worker_crashed``."""
    job_timeout_s: PositiveFloat = 3600.0
    drain_s: PositiveFloat = 20.0
    """After SIGTERM, a running job may go on for this long before it is handed back to the queue."""
    heartbeat_s: PositiveFloat = 1.0
    lease_s: PositiveFloat = 6.0
    """A worker that has not beaten for this long is taken for dead, and its job runs again."""

    stall_s: PositiveFloat = 300.0
    """A worker whose device has made no step for this long ends itself, so that the job runs elsewhere."""
    orphan_s: PositiveFloat = 24 * 3600.0
    """Uploads, and objects of a job that no record speaks of, are deleted when they are this old."""
    log_level: str = "info"
    log_json: bool = False
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """On which a worker, janitor or sender of webhooks answers Prometheus; 0 is off. The API has ``/metrics``."""
    metrics_host: str = "127.0.0.1"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is none
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - its directory is fixed at import
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the files."""
        directory = os.environ.get("DRAGANYTHING_SECRETS_DIR")
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, secrets_dir=directory)


@cache
def settings() -> Settings:
    """The process's settings, read once from the environment."""
    return Settings()
