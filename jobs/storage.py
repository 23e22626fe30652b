"""Objects in S3: put once, fetch, link, delete. Everything of a job lies under ``jobs/{id}/``.

Speaks to any S3 (path style, signature v4); only settings differ. Safe to share between threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from jobs.errors import NotFound, Unavailable
from jobs.settings import Settings
from jobs.state import Artifact

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BUCKET_THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}
_UNSATISFIABLE = 416
_THERE_ALREADY = (409, 412)
"""409: another put of the same key is going on."""
_RACES = 3


class Storage:
    """A bucket."""

    def __init__(self, settings: Settings, *, patient: bool = False) -> None:
        """``patient``: minutes of retries instead of seconds, for workers."""
        self.bucket = settings.s3_bucket
        self._settings = settings
        self._patient = patient
        self._client = self._connect(settings.s3_endpoint)
        public = settings.s3_public_endpoint
        self._signer = self._connect(public) if public else self._client

    def _connect(self, endpoint: str | None) -> S3Client:
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": 12 if self._patient else 2},
            connect_timeout=2,
            read_timeout=30 if self._patient else 5,
            max_pool_connections=32,
            request_checksum_calculation="when_required",  # each input's own hash is in its key
        )
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=self._settings.s3_region,
            aws_access_key_id=self._settings.s3_access_key,
            aws_secret_access_key=self._settings.s3_secret_key,
            config=config,
        )

    def create_bucket(self) -> None:
        """Make the bucket where it is missing."""
        try:
            self.check()
        except NotFound:
            self._create_bucket()

    def _create_bucket(self) -> None:
        with _translated(self.bucket):
            try:
                self._client.create_bucket(Bucket=self.bucket)
            except ClientError as error:  # another process was faster
                if error.response["Error"]["Code"] not in _BUCKET_THERE:
                    raise

    def check(self) -> None:
        """Ask for the bucket.

        Raises:
            NotFound: it does not exist.
            Unavailable: the object store does not answer.
        """
        with _translated(self.bucket):
            self._client.head_bucket(Bucket=self.bucket)

    def put(self, key: str, body: bytes, media_type: str) -> Artifact:
        """Store an object under a key that is never written twice with other bytes."""
        with _translated(key):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=media_type)
        digest = hashlib.sha256(body).hexdigest()
        return Artifact(key=key, media_type=media_type, bytes=len(body), sha256=digest)

    def put_once(self, key: str, body: bytes, media_type: str) -> bytes:
        """Store an object unless there is one: what lies under the key from now on, ours or the earlier one.

        Of several that put at the same time, one wins (If-None-Match, RFC 9110, 13.1.2).
        """
        with _translated(key):
            for _ in range(_RACES):
                try:
                    self._client.put_object(
                        Bucket=self.bucket, Key=key, Body=body, ContentType=media_type, IfNoneMatch="*"
                    )
                except ClientError as error:
                    if _status(error) not in _THERE_ALREADY:
                        raise
                else:
                    return body
                with suppress(NotFound):  # the other put failed after all
                    return self.get(key)
        raise Unavailable("The object store can not decide between two puts; try again.", retry_after_s=5)

    def get(self, key: str) -> bytes:
        """The bytes of an object.

        Raises:
            NotFound: there is none under this key.
        """
        with _translated(key):
            return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def open(self, key: str, byte_range: str | None = None) -> tuple[dict[str, Any], Iterator[bytes]]:
        """An object's headers and its bytes, piece by piece.

        ``byte_range`` is a Range header; one that can not be satisfied is ignored (RFC 9110, section 14.2).

        Raises:
            NotFound: there is none under this key.
        """
        extra: dict[str, Any] = {"Range": byte_range} if byte_range else {}
        with _translated(key):
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=key, **extra)
            except ClientError as error:
                if _status(error) != _UNSATISFIABLE:
                    raise
                answer = self._client.get_object(Bucket=self.bucket, Key=key)
        headers = {
            "content-type": answer["ContentType"],
            "content-length": str(answer["ContentLength"]),
            "accept-ranges": "bytes",
        }
        if "ContentRange" in answer:
            headers["content-range"] = answer["ContentRange"]
        return headers, answer["Body"].iter_chunks(2**16)

    def link(self, key: str, filename: str | None = None) -> str:
        """A presigned address that anyone can fetch the object from for ``link_ttl_s``."""
        params: dict[str, Any] = {"Bucket": self.bucket, "Key": key}
        if filename:
            params["ResponseContentDisposition"] = f'inline; filename="{filename}"'
        return self._signer.generate_presigned_url(
            "get_object", Params=params, ExpiresIn=self._settings.link_ttl_s
        )

    def link_put(self, key: str, media_type: str, size: int) -> str:
        """A presigned address that a file of this media type and of exactly ``size`` bytes can be put to for
        ``link_ttl_s``: both headers are signed."""
        params = {"Bucket": self.bucket, "Key": key, "ContentType": media_type, "ContentLength": size}
        return self._signer.generate_presigned_url(
            "put_object", Params=params, ExpiresIn=self._settings.link_ttl_s
        )

    def list(self, prefix: str) -> list[str]:
        """The keys under a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        with _translated(prefix):
            return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def job_ids(self) -> Iterator[str]:
        """The ids of all jobs that have objects."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=_JOBS, Delimiter="/"
        )
        with _translated(_JOBS):
            for page in pages:
                for folder in page.get("CommonPrefixes", []):
                    yield folder["Prefix"].removeprefix(_JOBS).rstrip("/")

    def abort_uploads(self, before: datetime) -> int:
        """End the multipart uploads that were begun before a moment; how many that were."""
        with _translated(self.bucket):
            begun = self._client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
            stale = [upload for upload in begun if upload["Initiated"] < before]
            for upload in stale:
                self._client.abort_multipart_upload(
                    Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        return len(stale)

    def delete_uploads(self, before: datetime) -> int:
        """Delete the uploads that were put before a moment; how many that were."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=_UPLOADS)
        with _translated(_UPLOADS):
            stale = [
                item["Key"] for page in pages for item in page.get("Contents", []) if item["LastModified"] < before
            ]
            for key in stale:
                self._client.delete_object(Bucket=self.bucket, Key=key)
        return len(stale)

    def delete(self, prefix: str, *, keep: Collection[str] = ()) -> int:
        """Delete everything under a prefix but what begins with one of ``keep``; how many objects that were."""
        keys = [key for key in self.list(prefix) if not key.startswith(tuple(keep))]
        with _translated(prefix):
            for key in keys:
                self._client.delete_object(Bucket=self.bucket, Key=key)
        return len(keys)


class _translated:  # noqa: N801 - reads as a statement
    """Turn the client's exceptions into ours."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ClientError):
            if _status(error) == 404:
                raise NotFound(f"There is no object {self.key!r}.") from error
            if _status(error) < 500:
                return  # refused: a matter of the settings, not of patience
        if isinstance(error, ClientError | BotoCoreError):
            raise Unavailable("The object store does not answer; try again.", retry_after_s=5) from error


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


_JOBS = "jobs/"
_UPLOADS = "uploads/"


def job_prefix(job_id: str) -> str:
    """Where all objects of a job lie."""
    return f"{_JOBS}{job_id}/"


def decision_key(job_id: str) -> str:
    """Where the first attempt that has stored all of its files says so: a document that is put once."""
    return f"{_JOBS}{job_id}/result.json"


def inputs_prefix(job_id: str) -> str:
    """Where the inputs of a job lie."""
    return f"{_JOBS}{job_id}/inputs/"


def attempt_prefix(job_id: str, attempt_id: str) -> str:
    """Where the objects of one attempt lie: two attempts never write the same key."""
    return f"{_JOBS}{job_id}/{attempt_id}/"


def upload_key(owner: str, upload_id: str) -> str:
    """Where an upload lies: nobody but its owner is led there."""
    folder = hashlib.sha256(owner.encode()).hexdigest()[:32] if owner else "none"
    return f"{_UPLOADS}{folder}/{upload_id}"
