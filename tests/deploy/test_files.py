"""What Dockerfile, compose files and manifests say is true of this repository.

hadolint and kubernetes-validate check them too; docker-compose and kubectl (it carries kustomize) where those are
installed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import Settings
from tests.deploy import compose
from tests.deploy.compose import ROOT

OVERLAYS = ("cpu-demo", "gpu", "production")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OURS = ("draganything-api", "draganything-worker")
KNOWN = {"DRAGANYTHING_SECRETS_DIR"}
"""Read by ``jobs.settings`` itself."""
SERVICES = [(file, name) for file in compose.FILES for name in compose.load(file)["services"]]
CREDENTIALS = ROOT / "deploy/credentials.py"
# Imports what the api image runs where only the packages named on the command line, and our own, are installed.
LIKE_THE_IMAGE = """
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions

there = {"draganything", "draganything-client", *sys.argv[1:]}
distributions = {top: {d.lower().replace("_", "-") for d in ds} for top, ds in packages_distributions().items()}

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if "." not in name and distributions.get(name, there).isdisjoint(there):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import service.main, worker.janitor, worker.webhooks, worker.health, local.cli, draganything_client.cli
"""


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def service_of(file: str, name: str) -> dict[str, Any]:
    return dict(compose.load(file)["services"][name])


def settings_from(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    ours = {name: value for name, value in environ.items() if name.startswith("DRAGANYTHING_")}
    known = KNOWN | {f"DRAGANYTHING_{field.upper()}" for field in Settings.model_fields}
    assert set(ours) <= known
    for name, value in ours.items():
        if name not in KNOWN:
            monkeypatch.setenv(name, value)
    return Settings()


def check_command(command: list[str]) -> None:
    match command:
        case ["python", "-m", module]:
            assert find_spec(module)
        case ["python", "/credentials.py", _]:
            pass
        case ["draganything", *words]:
            from typer.testing import CliRunner

            from local.models import commands

            assert words[0] == "models"
            assert CliRunner().invoke(commands, [words[1], "--help"]).exit_code == 0
        case _:
            raise AssertionError(command)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


# -- images ----------------------------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say() -> None:
    ran = tool("hadolint", "Dockerfile")
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_lock_of_the_api_has_all_that_its_processes_import() -> None:
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements-api.lock").read_text(), re.MULTILINE)
    argv = [sys.executable, "-c", LIKE_THE_IMAGE, *locked]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_commands_of_the_images_are_there() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for command in re.findall(r'CMD \["python", "-m", "([\w.]+)"\]', text):
        assert find_spec(command)
    environ = dict(re.findall(r"(DRAGANYTHING_\w+)=(\S+)", text))
    assert {name.removeprefix("DRAGANYTHING_").lower() for name in environ} <= set(Settings.model_fields)


def test_what_goes_into_the_build_exists() -> None:
    text = (ROOT / ".dockerignore").read_text()
    for pattern in re.findall(r"^!(.+)$", text, re.MULTILINE):
        assert list(ROOT.glob(pattern)), pattern


# -- compose ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [compose.FILES[:1], compose.FILES])
def test_compose_takes_the_files(files: tuple[str, ...]) -> None:
    given = [word for file in files for word in ("-f", file)]
    ran = tool("docker-compose", *given, "--profile", "*", "config", "--quiet")
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_settings_and_commands_of_a_service_are_real(
    file: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(file, name)
    config = settings_from(service.get("environment", {}), monkeypatch)
    if str(service.get("image", "")).startswith(OURS):
        assert service["image"].partition(":")[2].startswith(VERSION)
        if "command" in service:
            check_command(service["command"])
    if name == "worker":
        assert seconds(service["stop_grace_period"]) > config.drain_s


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_what_a_service_mounts_is_there(file: str, name: str) -> None:
    volumes = compose.load(compose.FILES[0])["volumes"]
    for mount in service_of(file, name).get("volumes", []):
        source, _, read_only = compose.split(mount)
        if source.startswith("."):
            assert (ROOT / source).exists()
            assert read_only
        else:
            assert source in volumes


def test_every_port_is_published_on_loopback_only() -> None:
    services = compose.load()["services"].values()
    ports = [port for service in services for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_lasting_service_is_contained() -> None:
    for name, service in compose.load()["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert name == "setup" or not service["user"].startswith("0"), name
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        assert name == "setup" or limits.keys() == {"cpus", "memory", "pids"}, name


# -- credentials -----------------------------------------------------------------------------------------------


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_credentials_are_made_once_and_for_their_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        subprocess.run([sys.executable, CREDENTIALS, tmp_path], check=True)
        made = files_in(tmp_path)
    first = files_in(tmp_path)
    assert made == first
    assert all(stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o400 for name in made)
    monkeypatch.setenv("DRAGANYTHING_SECRETS_DIR", str(tmp_path / "settings"))
    config = Settings()
    password = made["valkey-config/password"].decode()
    assert config.redis_url == f"redis://:{password}@valkey:6379/0"
    assert config.s3_secret_key
    assert config.s3_secret_key.encode() in made["s3-config/identities.json"]


# -- clusters --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What kubectl makes of each overlay."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    folder = shutil.copytree(ROOT / "deploy/kubernetes", tmp_path_factory.mktemp("cluster") / "kubernetes")
    made = folder / "overlays/cpu-demo/credentials"
    subprocess.run([sys.executable, CREDENTIALS, made], check=True)
    return {
        name: subprocess.run(
            [kubectl, "kustomize", folder / "overlays" / name], capture_output=True, text=True, check=True
        ).stdout
        for name in OVERLAYS
    }


def documents(manifests: dict[str, str], overlay: str, *kinds: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(manifests[overlay]) if item["kind"] in kinds]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_core_kinds_are_valid(overlay: str, manifests: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / f"{overlay}.yaml"
    path.write_text(manifests[overlay])
    ran = tool("kubernetes-validate", "--strict", str(path))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    unknown = set(re.findall(r"Couldn't find schema for kind (\w+)", ran.stdout + ran.stderr))
    assert unknown <= {"ScaledObject", "ServiceMonitor", "PodMonitor"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_and_commands_of_the_cluster_are_real(
    overlay: str, manifests: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = documents(manifests, overlay, "ConfigMap")[0]["data"]
    for item in documents(manifests, overlay, "Deployment"):
        pod = item["spec"]["template"]["spec"]
        assert pod["enableServiceLinks"] is False
        (container,) = pod["containers"]
        own = {variable["name"]: variable["value"] for variable in container.get("env", [])}
        with monkeypatch.context() as patch:
            config = settings_from(shared | own, patch)
        if item["metadata"]["name"] == "worker":
            assert pod["terminationGracePeriodSeconds"] > config.drain_s
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        expected = {"http": config.port, "grpc": config.grpc_port, "metrics": config.metrics_port}
        assert all(ports[name] == expected[name] for name in ports)
        if "command" in container:
            check_command(container["command"])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if command := container.get(probe, {}).get("exec"):
                check_command(command["command"])
    for item in documents(manifests, overlay, "Job"):
        check_command(item["spec"]["template"]["spec"]["containers"][0]["command"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_contained(overlay: str, manifests: dict[str, str]) -> None:
    for item in documents(manifests, overlay, "Deployment", "StatefulSet", "Job"):
        pod = item["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            assert name not in OURS or tag.startswith(VERSION)


def test_the_scaler_asks_for_metrics_that_there_are(manifests: dict[str, str]) -> None:
    (item,) = documents(manifests, "gpu", "ScaledObject")
    asked = re.findall(r"\bdraganything_\w+", str(item["spec"]["triggers"]))
    assert asked
    told = (ROOT / "service/telemetry.py").read_text()
    assert all(f'"{name}"' in told for name in asked)
