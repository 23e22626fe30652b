"""The gRPC door as its clients meet it: on a real port, with a valid request at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import pytest
from draganything.v1 import draganything_pb2 as pb
from draganything.v1.draganything_pb2_grpc import DragAnythingStub
from fastapi import FastAPI
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status
from redis import Redis
from starlette.testclient import TestClient

from jobs.settings import Settings
from local import ports
from local.stack import Stack
from service.app import create_app
from tests import doors
from tests.harness import settings_of

DETAILS = {kind.DESCRIPTOR.full_name: kind for kind in (BadRequest, ErrorInfo, RetryInfo)}


class Door(NamedTuple):
    """An application that serves gRPC, where, and a client of its other door."""

    app: FastAPI
    web: TestClient
    address: str

    @contextmanager
    def channel(self, credentials: grpc.ChannelCredentials | None = None) -> Iterator[grpc.Channel]:
        """A connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        made = (
            grpc.insecure_channel(self.address, options)
            if credentials is None
            else grpc.secure_channel(self.address, credentials, options)
        )
        with made as channel:
            yield channel


@contextmanager
def opened(settings: Settings, **changes: Any) -> Iterator[Door]:
    """The application with these settings, on a free port."""
    (port,) = ports.choose(1)
    app = create_app(settings.model_copy(update={"grpc_port": port, **changes}))
    with TestClient(app, base_url="http://localhost") as web:
        yield Door(app, web, f"{ports.HOST}:{port}")


@pytest.fixture(scope="module")
def served(servers: Stack) -> Iterator[Door]:
    """The door, open for a module's tests."""
    with opened(settings_of(servers)) as door:
        yield door


@pytest.fixture
def door(served: Door, settings: Settings, redis: Redis) -> Door:  # noqa: ARG001 - all is empty
    """The door, with one model announced and nothing else in Redis and S3."""
    doors.announce(redis)
    return served


@pytest.fixture
def stub(door: Door) -> Iterator[DragAnythingStub]:
    """A client of the door."""
    with door.channel() as channel:
        yield DragAnythingStub(channel)


def request(**changes: Any) -> pb.GenerateRequest:
    """What ``doors.request`` is, as a message."""
    entity = pb.Entity(
        label="square",
        mask=pb.Mask(data=doors.file_of(doors.square() * 255)),
        trajectory=pb.Trajectory(points=[pb.Point(x=32, y=32), pb.Point(x=60, y=32)]),
    )
    whole: dict[str, Any] = {
        "model": "tiny",
        "image": pb.Image(data=doors.picture()),
        "entities": [entity],
        **changes,
    }
    return pb.GenerateRequest(**whole)


class Refusal(NamedTuple):
    """An error as a client reads it; ``fields`` are what was wrong, by their pointers."""

    code: grpc.StatusCode
    message: str
    reason: str | None
    fields: dict[str, str]
    retry_after_s: int | None
    metadata: dict[str, str | bytes]


def refusal_of(error: Any) -> Refusal:
    """What an ``RpcError`` tells."""
    found: dict[str, Any] = {}
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        name = detail.TypeName()
        found[name] = DETAILS[name].FromString(detail.value)
    info, wrong, retry = (found.get(kind.DESCRIPTOR.full_name) for kind in (ErrorInfo, BadRequest, RetryInfo))
    assert info is None or info.domain == "draganything"
    violations: Sequence[Any] = wrong.field_violations if wrong else ()
    return Refusal(
        error.code(),
        error.details(),
        info and info.reason,
        {each.field: each.description for each in violations},
        retry and retry.retry_delay.seconds,
        dict(error.initial_metadata() or ()),
    )
