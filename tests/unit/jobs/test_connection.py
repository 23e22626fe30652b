from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError, NoPermissionError

from jobs.connection import Misconfigured, connect_asyncio, connect_briefly, connect_patiently
from jobs.events import CHANNEL, Feed
from jobs.settings import Settings
from tests.unit.jobs.redis_servers import (
    PASSWORD,
    SENTINEL_PASSWORD,
    Authority,
    Front,
    Server,
    sentinel,
    until,
    valkey,
)

Connect = Callable[[Settings], Any]
CONNECTS = (connect_patiently, connect_briefly, connect_asyncio)
SYNC = (connect_patiently, connect_briefly)
NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with valkey(tmp_path_factory.mktemp("primary") / "valkey") as server:
        yield server


@pytest.fixture(scope="module")
def watch(primary: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A sentinel that knows the primary."""
    with sentinel(tmp_path_factory.mktemp("watch") / "sentinel", primary.port) as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command, which makes the certificates")
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    """TLS of a server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(*authority.issue())
    return context


def behind(watch: Server, **changes: Any) -> Settings:
    """Settings that leave the address to the sentinel."""
    fields = {
        "redis_url": f"redis://:{PASSWORD}@/0",
        "redis_sentinels": [watch.address],
        "redis_sentinel_password": SENTINEL_PASSWORD,
    }
    return Settings.model_validate(fields | changes)


def refusal(connect: Connect, settings: Settings) -> str:
    """What is wrong with the settings, in one line without a secret."""
    with pytest.raises(Misconfigured) as caught:
        connect(settings).ping()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    text = str(caught.value)
    assert "\n" not in text
    assert not any(secret in text for secret in ("hun", "ter2", SENTINEL_PASSWORD))
    return text


@pytest.mark.parametrize("connect", CONNECTS)
@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://:hunter2@localhost:6379",
        "unix:///run/redis.sock",
        "redis://:hun/ter2@localhost:6379/0",
        "redis://:hun#ter2@localhost:6379/0",
        "redis://:hun[ter2@localhost:6379/0",
        "redis://localhost:port/0",
        "redis://localhost:99999/0",
        "redis://localhost/zero",
        "redis://:hunter2@:6379/0",
        "rediss://localhost/0?ssl_cert_reqs=none",
    ],
)
def test_a_wrong_url_is_told_at_once(connect: Connect, url: str) -> None:
    assert refusal(connect, Settings(redis_url=url)).startswith("DRAGANYTHING_REDIS_URL: ")


@pytest.mark.parametrize(
    "address",
    ["localhost", "localhost:", ":26379", "a:b", "a:0", "a:99999", "redis://a:1", "u:hunter2@a:1", "::1:2"],
)
def test_a_wrong_sentinel_is_told_at_once(address: str) -> None:
    settings = Settings(redis_sentinels=("[::1]:26379", address))
    assert refusal(connect_briefly, settings).startswith("DRAGANYTHING_REDIS_SENTINELS: entry 2 ")


@pytest.mark.parametrize("connect", CONNECTS)
@pytest.mark.parametrize("kind", ["ca", "cert", "key"])
def test_a_missing_file_is_told_at_once(connect: Connect, kind: str, tmp_path: Path) -> None:
    settings = {"redis_url": "rediss://localhost", f"redis_{kind}_file": tmp_path / "none.pem"}
    text = refusal(connect, Settings.model_validate(settings))
    assert text.startswith(f"DRAGANYTHING_REDIS_{kind.upper()}_FILE: {tmp_path}/none.pem ")


def test_a_file_of_another_kind_is_told_at_once(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    cert, key = authority.issue()
    for files in (
        {"redis_ca_file": tmp_path / "text.pem"},
        {"redis_cert_file": cert},
        {"redis_key_file": key},
        {"redis_cert_file": authority.file, "redis_key_file": key},
    ):
        settings = Settings.model_validate({"redis_url": "rediss://localhost", **files})
        assert refusal(connect_briefly, settings).startswith(f"DRAGANYTHING_{next(iter(files)).upper()}: ")


def test_files_without_tls_are_told_at_once(authority: Authority) -> None:
    settings = Settings(redis_url="redis://localhost", redis_ca_file=authority.file)
    assert refusal(connect_briefly, settings).startswith("DRAGANYTHING_REDIS_CA_FILE: ")


@pytest.mark.parametrize("connect", SYNC)
@pytest.mark.parametrize("login", ["", ":hun%2Fter2@", "nobody:hunter2@"])
def test_a_wrong_password_is_told_by_the_first_command(connect: Connect, login: str, primary: Server) -> None:
    settings = Settings(redis_url=f"redis://{login}{primary.address}/0")
    assert refusal(connect, settings).startswith(f"DRAGANYTHING_REDIS_URL: {primary.address} refuses ")


@pytest.mark.parametrize("password", [None, "hunter2"])
def test_a_wrong_password_of_the_sentinel_is_told(password: str | None, watch: Server) -> None:
    text = refusal(connect_patiently, behind(watch, redis_sentinel_password=password))
    assert text.startswith(f"DRAGANYTHING_REDIS_SENTINEL_PASSWORD: {watch.address} refuses ")


@pytest.mark.parametrize("connect", SYNC)
def test_a_user_keeps_to_its_keys(connect: Connect, primary: Server) -> None:
    with primary.client() as admin:
        admin.acl_setuser(
            "worker", True, passwords="+p@ss/word", keys=["da:*"], channels=["da:*"], categories=["+@all"]
        )
    with connect(Settings(redis_url=f"redis://worker:p%40ss%2Fword@{primary.address}/3")) as client:
        client.set("da:mine", "1")
        assert client.acl_whoami() in {"worker", b"worker"}
        assert client.client_info()["db"] == 3
        with pytest.raises(NoPermissionError):
            client.set("other", "1")


def ping(connect: Connect, settings: Settings) -> bool:
    """Whether an answer comes, whichever of the three asks."""
    if connect is not connect_asyncio:
        with connect(settings) as client:
            return bool(client.ping())

    async def ping() -> bool:
        async with connect_asyncio(settings) as client:
            return bool(await client.ping())

    return asyncio.run(ping())


@pytest.mark.parametrize("connect", CONNECTS)
def test_tls(connect: Connect, primary: Server, authority: Authority, context: ssl.SSLContext) -> None:
    with Front(primary.port, context) as front:
        url = f"rediss://:{PASSWORD}@127.0.0.1:{front.port}/0"
        assert ping(connect, Settings(redis_url=url, redis_ca_file=authority.file))


@pytest.mark.parametrize("connect", SYNC)
def test_a_stranger_is_refused(
    connect: Connect, primary: Server, authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    """Another authority's certificate, and one for another host, at once and by name."""
    other = Authority(tmp_path / "other").file
    with Front(primary.port, context) as front:
        for host, ca in (("127.0.0.1", other), ("127.0.0.1", None), ("localhost", authority.file)):
            settings = Settings(redis_url=f"rediss://:{PASSWORD}@{host}:{front.port}/0", redis_ca_file=ca)
            assert refusal(connect, settings).startswith(f"DRAGANYTHING_REDIS_CA_FILE: the certificate of {host}")
        with pytest.raises(ConnectionError):
            ping(connect_asyncio, Settings(redis_url=f"rediss://127.0.0.1:{front.port}", redis_ca_file=other))


@pytest.mark.parametrize("connect", CONNECTS)
def test_the_client_shows_its_certificate(connect: Connect, primary: Server, authority: Authority) -> None:
    cert, key = authority.issue()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    with Front(primary.port, context) as front:
        url = f"rediss://:{PASSWORD}@127.0.0.1:{front.port}/0"
        known = Settings(redis_url=url, redis_ca_file=authority.file, redis_cert_file=cert, redis_key_file=key)
        assert ping(connect, known)
        with pytest.raises(ConnectionError):
            ping(connect_briefly, Settings(redis_url=url, redis_ca_file=authority.file))


@pytest.mark.parametrize("connect", CONNECTS)
def test_sentinel_over_tls(
    connect: Connect, primary: Server, authority: Authority, context: ssl.SSLContext, tmp_path: Path
) -> None:
    with (
        Front(primary.port, context) as front,
        sentinel(tmp_path / "sentinel", front.port) as watch,
        Front(watch.port, context) as watch_front,
    ):
        addresses = [f"127.0.0.1:{watch_front.port}"]
        url = f"rediss://:{PASSWORD}@/0"
        assert ping(connect, behind(watch, redis_url=url, redis_sentinels=addresses, redis_ca_file=authority.file))
        assert watch_front.accepted == 1


def blocked(server: Server) -> bool:
    """Whether a client waits in the server for a list."""
    with server.client() as client:
        return bool(client.info("clients")["blocked_clients"])


def refused_writes(server: Server) -> int:
    """How often it has answered that it is a replica."""
    with server.client() as client:
        return int(client.info("errorstats").get("errorstat_READONLY", {"count": 0})["count"])


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[tuple[Server, Server, Server]]:
    """A primary, its replica and their sentinel, of which the test may kill any."""
    with ExitStack() as stack:
        first = stack.enter_context(valkey(tmp_path / "first"))
        second = stack.enter_context(valkey(tmp_path / "second", f"replicaof 127.0.0.1 {first.port}"))
        with second.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        watch = stack.enter_context(sentinel(tmp_path / "sentinel", first.port))
        with watch.client() as client:
            until(lambda: client.sentinel_slaves("mymaster"))
        yield first, second, watch


def test_a_failover_costs_time_and_no_work(replicated: tuple[Server, Server, Server]) -> None:
    """A worker that waits for work, a command after it, and the listeners: all go on at the new primary."""
    first, second, watch = replicated
    settings = behind(watch, redis_sentinels=[NOWHERE, watch.address])

    async def scenario(feed: Feed, worker: Redis, other: Redis) -> None:
        async with feed.listen("job") as changed:
            await asyncio.wait_for(changed.wait(), 20)  # it has subscribed
            other.set("kept", "1")
            other.wait(1, 5000)
            waiting = asyncio.create_task(asyncio.to_thread(worker.blpop, ["queue"], 10))
            await asyncio.to_thread(until, lambda: blocked(first))
            first.process.kill()
            changed.clear()
            assert await asyncio.to_thread(other.get, "kept") == b"1"
            await asyncio.wait_for(changed.wait(), 20)  # it has subscribed again
            changed.clear()
            other.publish(CHANNEL, "job")
            await asyncio.wait_for(changed.wait(), 20)
            other.rpush("queue", "work")
            assert await waiting == (b"queue", b"work")

    async def run() -> None:
        with connect_patiently(settings) as worker, connect_patiently(settings) as other:
            async with Feed(settings).running() as feed:
                await scenario(feed, worker, other)

    asyncio.run(run())
    with second.client() as client:
        assert client.role()[0] == "master"


@pytest.mark.parametrize("command", [("set", "a", "1"), ("eval", "return redis.call('set', 'a', 1)", 0)])
def test_a_demoted_primary_counts_as_away(command: tuple[Any, ...], tmp_path: Path) -> None:
    with valkey(tmp_path / "valkey") as server, server.client() as admin, ThreadPoolExecutor() as pool:
        settings = Settings(redis_url=server.url)
        with connect_patiently(settings) as patient, connect_briefly(settings) as brief:
            admin.replicaof("127.0.0.1", "1")
            with pytest.raises(ConnectionError, match="is not the primary"):
                getattr(brief, command[0])(*command[1:])
            before = refused_writes(server)
            answer = pool.submit(getattr(patient, command[0]), *command[1:])
            until(lambda: refused_writes(server) > before)
            admin.replicaof("NO", "ONE")
            assert answer.result(20)
            assert admin.get("a") == "1"


def test_a_demotion_does_not_end_a_wait(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(valkey(tmp_path / "valkey"))
        admin = stack.enter_context(server.client())
        patient = stack.enter_context(connect_patiently(Settings(redis_url=server.url)))
        waiting = stack.enter_context(ThreadPoolExecutor()).submit(patient.blpop, ["queue"], 10)
        until(lambda: blocked(server))
        admin.replicaof("127.0.0.1", "1")
        until(lambda: refused_writes(server))
        admin.replicaof("NO", "ONE")
        admin.rpush("queue", "work")
        assert waiting.result(20) == (b"queue", b"work")


def test_a_primary_without_its_replicas_counts_as_away(tmp_path: Path) -> None:
    with valkey(tmp_path / "valkey", "min-replicas-to-write 1") as server:
        brief = connect_briefly(Settings(redis_url=server.url))
        with brief, pytest.raises(ConnectionError, match="is not the primary"):
            brief.set("a", "1")


def test_who_is_in_a_hurry_asks_once_more_only(watch: Server) -> None:
    """Retries of the socket within those of the command would multiply."""
    with Front(watch.port) as front:
        with connect_briefly(behind(watch, redis_sentinels=[f"127.0.0.1:{front.port}"])) as brief:
            brief.ping()
            front.refuses = True
            with pytest.raises(ConnectionError):
                brief.blpop(["nothing"], 10)
        assert front.accepted == 2


@pytest.mark.parametrize("connect", CONNECTS)
def test_no_secret_is_in_the_repr(connect: Connect) -> None:
    settings = Settings(
        redis_url=f"redis://:{PASSWORD}@/0", redis_sentinels=(NOWHERE,), redis_sentinel_password=PASSWORD
    )
    assert PASSWORD not in repr(connect(settings))


@pytest.mark.parametrize("service", ["mymaster", "unknown"])
def test_without_a_primary_there_is_an_error(service: str, watch: Server) -> None:
    addresses = [watch.address] if service == "unknown" else [NOWHERE, "localhost:1"]
    brief = connect_briefly(behind(watch, redis_sentinels=addresses, redis_sentinel_service=service))
    with brief, pytest.raises(ConnectionError, match=f"No master found for '{service}'"):
        brief.ping()
