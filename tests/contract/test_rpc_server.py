"""The gRPC server itself: health, reflection, sizes, TLS, and how it starts and stops."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from draganything.v1 import draganything_pb2 as pb
from draganything.v1.draganything_pb2_grpc import DragAnythingStub
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from redis import Redis
from starlette.testclient import TestClient

from jobs.connection import Misconfigured
from jobs.keys import Grant, Keys
from jobs.settings import Settings
from jobs.storage import Storage
from jobs.store import Store
from local.stack import ROOT
from service import main, rest
from service import rpc as server
from service.app import create_app
from service.rpc_gate import SERVICE
from service.state import Doors
from tests import doors, rpc
from tests.harness import until
from tests.rpc import Door, refusal_of

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# -- health and reflection -------------------------------------------------------------------------------------


def test_health_is_readiness(door: Door, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEALTH_S", 0.05)
    with door.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            health.Check(health_pb2.HealthCheckRequest(service="another"))
        assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
        redis.delete("da:workers:tiny")
        for name in ("", SERVICE):
            assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == NOT_SERVING


def test_who_watches_the_health_is_told(settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEALTH_S", 0.05)
    doors.announce(redis)
    with rpc.opened(settings) as door, door.channel() as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        told = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20)
        seen = iter(answer.status for answer in told)
        assert SERVING in (next(seen), next(seen))  # it may begin before the first look
        redis.delete("da:workers:tiny")
        assert next(seen) == NOT_SERVING


def test_reflection_tells_the_schema(door: Door) -> None:
    """As grpcurl asks: list, then the file that has a symbol."""
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    with door.channel() as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, found = stub.ServerReflectionInfo(iter(asked))
    names = {service.name for service in listed.list_services_response.service}
    assert names == {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    files = [FileDescriptorProto.FromString(data) for data in found.file_descriptor_response.file_descriptor_proto]
    assert pb.DESCRIPTOR.name in {file.name for file in files}


# -- how much may be said --------------------------------------------------------------------------------------


def test_a_message_over_the_limit_is_refused(settings: Settings, redis: Redis) -> None:
    doors.announce(redis)
    before = doors.keys(redis)
    with rpc.opened(settings, max_body_bytes=100_000) as door, door.channel() as channel:
        stub = DragAnythingStub(channel)
        for size in (100_001, 2_000_000):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Generate(rpc.request(image=pb.Image(data=bytes(size))))
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as caught:
            stub.Generate(rpc.request(image=pb.Image(data=bytes(80_000))))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT  # it is read, and no picture
        assert doors.keys(redis) == before
        assert stub.Generate(rpc.request()).id


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_nothing_is_unpacked(stub: DragAnythingStub, kind: grpc.Compression) -> None:
    bomb = rpc.request(image=pb.Image(data=bytes(10_000_000)))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Generate(bomb, compression=kind)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_strangers_are_refused_before_they_have_spoken(door: Door, redis: Redis) -> None:
    Keys(redis).create(Grant(name="n"))
    silent = threading.Event()
    with door.channel() as channel:
        generate: grpc.StreamUnaryMultiCallable[Any, bytes] = channel.stream_unary(f"/{SERVICE}/Generate")
        call = generate.future(iter(silent.wait, None))
        with pytest.raises(grpc.RpcError) as caught:
            call.result(timeout=10)
        silent.set()
    assert refusal_of(caught.value).code == grpc.StatusCode.UNAUTHENTICATED


# -- TLS -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (ca), a server's certificate, a client's, and another authority's client's."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def authority(name: str) -> None:
        new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")

    def leaf(name: str, signer: str) -> None:
        new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", f"{signer}.pem", "-CAkey", f"{signer}.key")
        openssl(*sign, "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.pem")

    for name in ("ca", "other"):
        authority(name)
    for name, signer in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        leaf(name, signer)
    return folder


def of_client(folder: Path, name: str | None = None, ca: str = "ca") -> grpc.ChannelCredentials:
    """What a client trusts, and shows."""
    pair = [(folder / f"{name}.{kind}").read_bytes() for kind in ("key", "pem")] if name else [None, None]
    return grpc.ssl_channel_credentials((folder / f"{ca}.pem").read_bytes(), *pair)


def heard(door: Door, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a client gets through to the service."""
    with door.channel(credentials) as channel:
        call = DragAnythingStub(channel).ListModels.future(pb.ListModelsRequest(), timeout=10)
        code = call.code()
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    return bool(code == grpc.StatusCode.OK)


def test_tls(settings: Settings, certificates: Path) -> None:
    files = {"grpc_cert_file": certificates / "server.pem", "grpc_key_file": certificates / "server.key"}
    with rpc.opened(settings, **files) as door:
        assert heard(door, of_client(certificates))
        assert not heard(door, of_client(certificates, ca="other"))
        assert not heard(door, None)


def test_mutual_tls(settings: Settings, certificates: Path) -> None:
    both = certificates / "both.pem"
    both.write_bytes((certificates / "server.key").read_bytes() + (certificates / "server.pem").read_bytes())
    with rpc.opened(settings, grpc_cert_file=both, grpc_ca_file=certificates / "ca.pem") as door:
        assert heard(door, of_client(certificates, "client"))
        assert not heard(door, of_client(certificates, "stranger"))
        assert not heard(door, of_client(certificates))


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"grpc_cert_file": "missing.pem"}, "GRPC_CERT_FILE: .*missing.pem"),
        ({"grpc_cert_file": "server.pem"}, "GRPC_CERT_FILE"),
        ({"grpc_cert_file": "server.pem", "grpc_key_file": "client.key"}, "GRPC_CERT_FILE"),
        ({"grpc_cert_file": "both.pem", "grpc_ca_file": "names"}, "GRPC_CA_FILE"),
        ({"grpc_ca_file": "ca.pem"}, "GRPC_CA_FILE: needs DRAGANYTHING_GRPC_CERT_FILE"),
        ({"grpc_key_file": "server.key"}, "GRPC_KEY_FILE: needs DRAGANYTHING_GRPC_CERT_FILE"),
    ],
)
def test_wrong_files_are_named_as_the_process_starts(
    certificates: Path, files: dict[str, str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (certificates / "both.pem").write_bytes(
        (certificates / "server.key").read_bytes() + (certificates / "server.pem").read_bytes()
    )
    told = Settings.model_validate({name: certificates / file for name, file in files.items()})
    with pytest.raises(Misconfigured, match=named):
        server.credentials(told)
    monkeypatch.setattr(main, "settings", lambda: told)
    monkeypatch.setattr(main, "configure_logs", lambda _: None)
    with pytest.raises(SystemExit, match=named):
        main.main()


# -- the page ------------------------------------------------------------------------------------------------


def test_the_example_of_the_page(door: Door, redis: Redis, store: Store, storage: Storage, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "grpc.md").read_text()
    found = re.search(r"<!-- test: grpc -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found
    (tmp_path / "picture.png").write_bytes(doors.picture())
    (tmp_path / "mask.png").write_bytes(doors.file_of(doors.square() * 255))
    code = found[1].replace("127.0.0.1:50051", door.address)
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as run:
        until(lambda: list(redis.scan_iter("da:job:*")))
        (job,) = redis.scan_iter("da:job:*")
        doors.finish(job.decode().rpartition(":")[2], store, storage)
        told, _ = run.communicate(timeout=30)
    assert run.returncode == 0
    assert "STAGE_DONE 100%" in told
    assert told.splitlines()[-1].startswith("http")


# -- starting and stopping -------------------------------------------------------------------------------------


def test_it_is_off_by_default() -> None:
    assert Settings().grpc_port == 0


def test_a_taken_port_is_not_shared(settings: Settings) -> None:
    with rpc.opened(settings) as door:
        port = int(door.address.rpartition(":")[2])
        again = create_app(settings.model_copy(update={"grpc_port": port}))
        with pytest.raises(RuntimeError, match="bind"), TestClient(again):
            pass


def test_stopping_sends_those_who_watch_elsewhere(settings: Settings, redis: Redis) -> None:
    doors.announce(redis)
    with rpc.opened(settings) as door, door.channel() as channel:
        stub = DragAnythingStub(channel)
        shown = iter(stub.WatchJob(pb.WatchJobRequest(id=stub.Generate(rpc.request()).id)))
        next(shown)
        portal = door.web.portal
        assert portal
        began = time.monotonic()
        portal.call(door.app.state.stop_rpc)
        assert time.monotonic() - began < server.DRAIN_S  # nobody is waited for
        with pytest.raises(grpc.RpcError) as caught:
            list(shown)
        told = refusal_of(caught.value)
        assert (told.code, told.reason, told.retry_after_s) == (grpc.StatusCode.UNAVAILABLE, "unavailable", 1)


def test_a_call_under_way_is_finished_first(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors.announce(redis)
    with rpc.opened(settings) as door, door.channel() as channel:
        began, go_on = threading.Event(), threading.Event()
        answer = rest.models

        def slow(services: Doors) -> object:  # of this call alone: the checks of health ask the registry as well
            began.set()
            go_on.wait(10)
            return answer(services)

        monkeypatch.setattr(rest, "models", slow)
        models = DragAnythingStub(channel).ListModels.future(pb.ListModelsRequest())
        assert began.wait(10)
        portal = door.web.portal
        assert portal
        stopping = portal.start_task_soon(door.app.state.stop_rpc)
        go_on.set()
        assert [model.name for model in models.result(10).models] == ["tiny"]
        stopping.result(10)
