"""The files in deploy/observe speak of metrics that there are, and each alert says what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/observe"
PAGE = (ROOT / "docs/observe.md").read_text()
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/draganything.json").read_text())
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


def queries() -> list[str]:
    """Every expression of a panel, an annotation or an alert."""
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [
        *shown,
        *(note["expr"] for note in DASHBOARD["annotations"]["list"]),
        *(rule["expr"] for rule in RULES),
    ]


def test_queries_name_metrics_that_the_page_lists() -> None:
    kinds = dict(re.findall(r"^\| `(draganything_\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    series = {
        name + suffix
        for name, kind in kinds.items()
        for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
    }
    asked = {name for query in queries() for name in re.findall(r"draganything_\w+", query)}
    assert asked <= series
    assert {name for name in kinds if not any(each.startswith(name) for each in asked)} == set(), "never shown"


def test_shared_metrics_are_never_added_up_over_replicas() -> None:
    shared = re.findall(r"^\| `(draganything_\w+)` .* API, shared \|", PAGE, re.MULTILINE)
    for query in queries():
        for found in re.finditer(r"draganything_\w+", query):
            if found[0] in shared:
                around = query[: found.start()]
                assert re.search(r"max ?(by \([\w, ]+\) )?\(((rate|increase|delta)\()?$|absent\($", around), query


def test_every_alert_has_a_line_in_the_page() -> None:
    listed = re.findall(r"^\| `([A-Z]\w+)` \| (page|ticket) \| .+ \| .+ \|$", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted((rule["alert"], rule["labels"]["severity"]) for rule in RULES)
    for rule in RULES:
        file, _, heading = rule["annotations"]["runbook"].partition("#")
        assert f"## {heading}\n" in (ROOT / file).read_text().lower()


def test_every_alert_is_tested_to_fire() -> None:
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule["alert"] for rule in RULES}


@NEEDS_PROMTOOL
@pytest.mark.parametrize("command", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_agrees(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_grafana_finds_the_files_where_compose_mounts_them() -> None:
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    uids = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel}
    assert uids == {each["uid"] for each in source["datasources"]}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    provider = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/draganything.yaml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["grafana"]["volumes"] if volume.startswith("."))
    assert mounts["./deploy/observe/grafana/dashboards"] == provider["providers"][0]["options"]["path"]
