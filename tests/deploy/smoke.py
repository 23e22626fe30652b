"""``python -m tests.deploy.smoke``: one job through the built images, as docker-compose.yml configures them; then
a backup, the loss of everything, and the restore, with the commands of docs/deploy.md.

Where there is no container engine: each service of the compose file runs with the image's and the file's own
environment, command, user, volumes and health check, in the image's root (read-only, no capabilities), all of them
in one network namespace in which every service's name is 127.0.0.1. Needs root, buildah and the two images. The
images of Valkey and S3 are not used: the programs of the wheels run in their place, with the file's own arguments.
What an engine does besides (networks, resource limits, restarts) is not tried.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from local import seaweed, valkey
from tests.deploy import compose

BASE = "http://127.0.0.1:8000"
INSIDE = "SMOKE_INSIDE"
PROGRAMS = {"valkey": ("valkey-server", valkey.binary), "s3": ("weed", seaweed.binary)}
KEPT = ("settings", "valkey-config", "s3-config", "valkey", "s3")
"""The volumes that a backup holds."""
ORDER = ("setup", "valkey", "s3", "api", "worker", "janitor", "webhooks")


def main() -> None:
    """Start everything, run one job, stop everything; an exception is a failure."""
    if INSIDE not in os.environ:
        argv = [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            sys.executable,
            "-m",
        ]
        sys.exit(subprocess.call([*argv, __spec__.name], env={**os.environ, INSIDE: "1"}))
    sh("ip", "link", "set", "lo", "up")
    services = compose.load()["services"]
    services["setup"]["volumes"].append("backup:/backup")  # docker compose run -v
    scratch = Path(tempfile.mkdtemp(prefix="smoke-"))
    with ExitStack() as opened:
        opened.callback(shutil.rmtree, scratch, ignore_errors=True)
        images = {name: opened.enter_context(image(name)) for name in ("draganything-api", "draganything-worker")}
        containers: dict[str, Container] = {}
        for name in ORDER:
            built = images.get(services[name]["image"].partition(":")[0], images["draganything-api"])
            containers[name] = Container(name, services[name], built, scratch)
            opened.callback(containers[name].close)
        up(containers)
        refuse_foreign_host()
        job = run_job()
        video = fetch(job)
        assert "No keys" in containers["api"].execute("draganything", "keys", "list")
        for container in list(containers.values())[1:]:
            print(f"{container.name}: {container.peak_mb()} MB at most", flush=True)
        down(containers)
        setup = containers["setup"]
        setup.run("tar", "-C", "/volumes", "-czf", "/backup/all.tar.gz", *KEPT)
        for volume in setup.volumes.iterdir():
            if volume.name != "backup":
                sh("find", str(volume), "-mindepth", "1", "-delete")
        setup.run("tar", "-C", "/volumes", "-xzf", "/backup/all.tar.gz")
        print(f"backup: {(setup.volumes / 'backup/all.tar.gz').stat().st_size} bytes", flush=True)
        credentials = setup.files("settings")
        up(containers)
        assert setup.files("settings") == credentials, "a second start made new credentials"
        assert fetch(job) == video, "the video is another one after the restore"
        run_job()
        down(containers)


def up(containers: dict[str, Container]) -> None:
    """Start all in the order of ``depends_on``, and wait until the service is ready."""
    containers["setup"].run()
    for name in ORDER[1:]:
        containers[name].start()
        if name in PROGRAMS:
            until(containers[name].serves, 60, f"{name} serves")
    for name in ("api", "worker"):
        until(containers[name].healthy, 300, f"{name} is healthy")
    until(ready, 30, "/readyz")


def down(containers: dict[str, Container]) -> None:
    """Stop all, each within its grace."""
    for name in reversed(ORDER[1:]):
        began = time.monotonic()
        code = containers[name].stop()
        print(f"{name}: stopped with {code} in {time.monotonic() - began:.1f} s", flush=True)
        assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM), f"{name} ended with {code}"


class Container:
    """A service of the compose file as a process in its image's root."""

    def __init__(self, name: str, service: dict[str, Any], built: Image, scratch: Path) -> None:
        self.name, self.service, self.image = name, service, built
        self.volumes = scratch / "volumes"
        self.root = scratch / name / "root"
        self.log = scratch / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        for part in ("root", "upper", "work"):
            (scratch / name / part).mkdir(parents=True)
        layers = f"lowerdir={built.root},upperdir={scratch}/{name}/upper,workdir={scratch}/{name}/work"
        sh("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        self._furnish()
        if service.get("read_only"):
            sh("mount", "-o", "remount,ro", str(self.root))

    def _furnish(self) -> None:
        names = " ".join(ORDER)
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {names}\n")
        sh("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(self.root / "tmp"))
        sh("mount", "-t", "proc", "proc", str(self.root / "proc"))
        sh("mount", "--rbind", "/dev", str(self.root / "dev"))
        for mount in self.service.get("volumes", []):
            source, target, read_only = compose.split(mount)
            if source.startswith("."):
                self._bind(compose.ROOT / source, target, read_only)
            else:
                (self.volumes / source).mkdir(parents=True, exist_ok=True)
                self._bind(self.volumes / source, target, read_only)
        if self.name in PROGRAMS:
            program, find = PROGRAMS[self.name]
            self._bind(find(), f"/usr/local/bin/{program}", read_only=True)

    def _bind(self, source: Path, target: str, read_only: bool) -> None:
        place = self.root / target.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(exist_ok=True) if source.is_dir() else place.touch()
        sh("mount", "--bind", str(source), str(place))
        if read_only:
            sh("mount", "-o", "remount,bind,ro", str(place))

    def _argv(self, command: list[str]) -> list[str]:
        user, group = self.service.get("user", "0:0").split(":")
        kept = ",".join(f"+{name.lower()}" for name in self.service.get("cap_add", []))
        rights = [f"--bounding-set=-all{',' if kept else ''}{kept}", "--inh-caps=-all", "--no-new-privs"]
        environ = self.image.environ | self.service.get("environment", {})
        # The one thing that is changed: here they share one network.
        environ["DRAGANYTHING_METRICS_PORT"] = str(9100 + ORDER.index(self.name))
        told = [f"{key}={value}" for key, value in environ.items()]
        become = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", *rights]
        return ["chroot", str(self.root), *become, "env", "-i", "-C", "/tmp", *told, *command]

    def run(self, *command: str) -> None:
        """To its end, with its own command or another."""
        self.start(*command)
        assert self.wait(60) == 0, self.log.read_text()[-4000:]

    def start(self, *other: str) -> None:
        """Run what the compose file says, or the image, or another command."""
        given = [*self.service.get("entrypoint", []), *self.service.get("command", [])]
        command = list(other) or given or self.image.command
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._argv(command), stdout=log, stderr=log)

    def wait(self, seconds: float) -> int:
        """Its exit code."""
        assert self.process
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Its exit code, after SIGTERM and within the grace that the compose file gives it."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.wait(float(self.service["stop_grace_period"].rstrip("s")))

    def healthy(self) -> bool:
        """Whether it lives and the health check of its image succeeds."""
        self._check()
        kind, *command = self.image.health
        assert kind == "CMD"
        return subprocess.run(self._argv(command), capture_output=True, check=False).returncode == 0

    def execute(self, *command: str) -> str:
        """What another command prints beside it."""
        return sh(*self._argv(list(command)))

    def peak_mb(self) -> int:
        """The most memory that it has had (resident)."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    def serves(self) -> bool:
        """Whether it lives and answers, for images whose health check is not at hand."""
        self._check()
        if self.name == "s3":
            return answers("http://127.0.0.1:8333/healthz")
        password = (self.volumes / "valkey-config/password").read_text()
        return valkey.Valkey(self.volumes, 6379, password).ready()

    def _check(self) -> None:
        assert self.process
        assert self.process.poll() is None, f"{self.name} ended:\n{self.log.read_text()[-4000:]}"

    def files(self, volume: str) -> dict[str, bytes]:
        """What a volume holds."""
        return {path.name: path.read_bytes() for path in (self.volumes / volume).iterdir()}

    def close(self) -> None:
        """End it and take its root apart."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        sh("umount", "--recursive", "--lazy", str(self.root))


class Image:
    """A built image, mounted."""

    def __init__(self, name: str, root: str) -> None:
        config = json.loads(sh("buildah", "inspect", "--type", "image", name))["Docker"]["config"]
        self.root = root
        self.environ = dict(item.split("=", 1) for item in config["Env"])
        self.command: list[str] = config["Cmd"]
        self.health: list[str] = config["Healthcheck"]["Test"]


@contextmanager
def image(name: str) -> Iterator[Image]:
    """Mount an image with the tag of the compose file. A container named `…-smoke` that is there saves a copy."""
    container = f"{name}-smoke"
    made = container not in sh("buildah", "containers", "--format", "{{.ContainerName}}").split()
    if made:
        sh("buildah", "from", "--pull-never", "--name", container, f"{name}:0.1.0")
    try:
        yield Image(f"{name}:0.1.0", sh("buildah", "mount", container))
    finally:
        if made:
            sh("buildah", "rm", container)


def run_job() -> dict[str, Any]:
    """The quickstart: posted and followed to its end."""
    body = (compose.ROOT / "examples/quickstart.json").read_bytes()
    headers = {"Content-Type": "application/json", "Prefer": "wait=60"}
    with urlopen(Request(f"{BASE}/v1/generate", body, headers)) as answer:
        job = json.load(answer)
    began = time.monotonic()
    while job["status"] in ("queued", "running"):
        assert time.monotonic() < began + 300, job
        time.sleep(0.5)
        with urlopen(job["urls"]["self"]) as answer:
            job = json.load(answer)
    assert job["status"] == "succeeded", job
    print(f"job {job['status']}: {sum(job['result']['timings_s'].values()):.1f} s", flush=True)
    return dict(job)


def fetch(job: dict[str, Any]) -> bytes:
    """The video, by the link to S3 that clients get."""
    with urlopen(f"{BASE}/v1/jobs/{job['id']}/result") as answer:
        video: bytes = answer.read()
        assert answer.url.startswith("http://127.0.0.1:8333/"), answer.url
    assert video[4:8] == b"ftyp"
    return video


def refuse_foreign_host() -> None:
    """The name of another host is refused though the service listens on every address."""
    with suppress(HTTPError):
        urlopen(Request(f"{BASE}/v1/models", headers={"Host": "example.com"})).close()
        raise AssertionError("a foreign Host was served")


def ready() -> bool:
    """Whether the API says that everything is there."""
    return answers(f"{BASE}/readyz")


def answers(url: str) -> bool:
    """Whether the answer is a success."""
    try:
        with urlopen(url, timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait, and say how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, f"not within {seconds:g} s: {what}"
        time.sleep(1)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def sh(*argv: str) -> str:
    """Run a program; its output."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main()
