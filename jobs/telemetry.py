"""What the metrics of every process have in common."""

from __future__ import annotations

from importlib.metadata import version

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter, which nobody asks for


def new_registry() -> CollectorRegistry:
    """A registry for one process: its build, and what the system says of it (``process_*``)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    build = Gauge("draganything_build_info", "Always 1; the release is a label.", ["version"], registry=registry)
    build.labels(version("draganything")).set(1)
    return registry
