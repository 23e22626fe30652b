"""Messages that are wrong at random places are refused or accepted, never an error of ours; refused, they leave
nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import pytest
from draganything.v1 import draganything_pb2 as pb
from draganything.v1.draganything_pb2_grpc import DragAnythingStub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from local.stack import Stack
from service.rpc_gate import SERVICE
from service.rpc_messages import write
from tests import doors, rpc
from tests.harness import empty_bucket, flush
from tests.rpc import Door
from tests.security.test_fuzz import RICH

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from mypy_boto3_s3 import S3Client

WHOLE = write(pb.GenerateRequest, RICH)
POINTS = [pb.Click(x=30, y=30), pb.Click(x=1, y=1, label=0)]
CALLS: dict[str, Message] = {
    "Generate": WHOLE,
    "Preview": WHOLE,
    "CreateBatch": pb.CreateBatchRequest(requests=[WHOLE, rpc.request()]),
    "Segment": pb.SegmentRequest(
        image=pb.Image(data=doors.picture()), points=POINTS, box=pb.Box(x0=10, y0=10, x1=50, y1=50)
    ),
    "ListJobs": pb.ListJobsRequest(status=pb.STATUS_QUEUED, after="0" * 32, limit=10),
    "GetJob": pb.GetJobRequest(id="0" * 32),
}
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
WHATEVER: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "double": st.floats() | st.sampled_from([0.0, -1.0, 1e300, 2**63]),
    "int32": st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 100),
    "int64": st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 100),
    "bool": st.booleans(),
    "string": st.text() | st.sampled_from(["", "\0", "https://localhost/", "0" * 32, "a" * 5000]),
    "bytes": st.binary() | st.just(doors.picture(20, 20)),
    "enum": st.integers(-1, 10),
}
TYPES = {1: "double", 3: "int64", 5: "int32", 8: "bool", 9: "string", 12: "bytes", 14: "enum"}


class Fuzzed(NamedTuple):
    """A client, and what it leaves."""

    channel: grpc.Channel
    redis: Redis
    s3: S3Client

    def stored(self) -> tuple[set[bytes], set[str]]:
        return doors.keys(self.redis), doors.objects(self.s3)


def change(message: Any, data: st.DataObject) -> None:
    """One change at a random place of a message."""
    field = data.draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    held = getattr(message, field.name)
    if field.message_type and data.draw(st.booleans(), "deeper"):
        if not field.is_repeated:
            held.SetInParent()
            if held.DESCRIPTOR.fields:
                change(held, data)
        elif held:
            change(data.draw(st.sampled_from(list(held))), data)
        else:
            held.add()
    elif data.draw(st.booleans(), "clear"):
        message.ClearField(field.name)
    elif field.message_type:
        copies = data.draw(st.sampled_from([1, 20, 1001])) if field.is_repeated else 0
        for _ in range(copies):
            held.add().CopyFrom(held[0] if len(held) > 1 else type(held.add())())
    elif field.is_repeated:
        held.extend(data.draw(st.lists(VALUES[TYPES[field.type]], max_size=5)))
    else:
        setattr(message, field.name, data.draw(VALUES[TYPES[field.type]]))


@pytest.fixture(scope="module")
def fuzzed(served: Door, servers: Stack) -> Iterator[Fuzzed]:
    flush(servers.valkey.url)
    empty_bucket(servers)
    with Redis.from_url(servers.valkey.url) as redis, served.channel() as channel:
        doors.announce(redis)
        s3 = servers.seaweed.client()
        yield Fuzzed(channel, redis, s3)
        s3.close()


@pytest.mark.parametrize("name", ["Generate", "Preview", "CreateBatch", "Segment"])
def test_the_messages_are_accepted_as_they_are(fuzzed: Fuzzed, name: str) -> None:
    assert getattr(DragAnythingStub(fuzzed.channel), name)(CALLS[name])


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=15, **WHATEVER)
@given(data=st.data())
def test_no_value_anywhere_is_an_error_of_ours(fuzzed: Fuzzed, name: str, data: st.DataObject) -> None:
    message = type(CALLS[name])()
    message.CopyFrom(CALLS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        change(message, data)
    before = fuzzed.stored()
    call = getattr(DragAnythingStub(fuzzed.channel), name).future(message, timeout=60)
    if call.code() != grpc.StatusCode.OK:
        assert call.code() in REFUSALS, call.details()
        assert fuzzed.stored() == before


@settings(max_examples=40, **WHATEVER)
@given(at=st.integers(0, WHOLE.ByteSize() - 1), instead=st.binary(max_size=6), cut=st.integers(0, 6))
def test_no_bytes_are_an_error_of_ours(fuzzed: Fuzzed, at: int, instead: bytes, cut: int) -> None:
    whole = WHOLE.SerializeToString()
    damaged = whole[:at] + instead + whole[at + cut :]
    generate: grpc.UnaryUnaryMultiCallable[bytes, bytes] = fuzzed.channel.unary_unary(f"/{SERVICE}/Generate")
    call = generate.future(damaged, timeout=60)
    assert call.code() in REFUSALS | {grpc.StatusCode.OK}, call.details()
