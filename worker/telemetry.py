"""What the worker, the janitor and the sender of webhooks count. Each answers Prometheus on a port of its own,
where ``metrics_port`` names one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from prometheus_client import Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from jobs.connection import Misconfigured
from jobs.settings import Settings
from jobs.telemetry import new_registry

REGISTRY = new_registry()
_STAGES = Histogram(
    "draganything_stage_duration_seconds",
    "Seconds that the stages of succeeded jobs took.",
    ["model", "stage"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 150, 600),
    registry=REGISTRY,
)
_DEVICE = Counter(
    "draganything_device_seconds",
    "Seconds in which the device denoised, or waited from one job to the next although one was there.",
    ["state"],
    registry=REGISTRY,
)
_LOADING = Gauge(
    "draganything_model_load_seconds",
    "How long loading took of a model that this worker holds.",
    ["model", "device", "dtype"],
    registry=REGISTRY,
)
_WEBHOOKS = Histogram(
    "draganything_webhook_duration_seconds",
    "Seconds that tries to deliver a webhook took, by what came of them.",
    ["outcome"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
    registry=REGISTRY,
)
_SWEEPS = Counter("draganything_sweeps", "Rounds of the janitor.", ["outcome"], registry=REGISTRY)


def serve_metrics(config: Settings) -> None:
    """Answer Prometheus from a thread; nothing where the port is 0.

    Raises:
        Misconfigured: the port can not be listened on.
    """
    if not config.metrics_port:
        return
    try:
        start_http_server(config.metrics_port, config.metrics_host, REGISTRY)
    except OSError as error:
        address = f"{config.metrics_host}:{config.metrics_port}"
        raise Misconfigured(
            "metrics_port", f"{address}: {error.strerror}; each process needs one of its own"
        ) from None


def note_model(model: str, device: str, dtype: str, load_s: float) -> None:
    """This worker holds a model."""
    _LOADING.labels(model, device, dtype).set(load_s)


def note_stages(model: str, timings_s: Mapping[str, float]) -> None:
    """A job has succeeded."""
    for stage, seconds in timings_s.items():
        _STAGES.labels(model, stage).observe(seconds)


def note_denoised(seconds: float, idle_s: float | None) -> None:
    """The device has denoised; ``idle_s`` is what lay between this job and the last, None where none waited."""
    _DEVICE.labels("denoising").inc(seconds)
    _DEVICE.labels("idle").inc(idle_s or 0.0)


def note_webhook(outcome: str, seconds: float) -> None:
    """A webhook was ``delivered``, has ``failed`` and will be tried again, or is ``dead``."""
    _WEBHOOKS.labels(outcome).observe(seconds)


def note_sweep(outcome: str) -> None:
    """A round of the janitor was ``done`` or has ``failed``."""
    _SWEEPS.labels(outcome).inc()


class _Gpus(Collector):
    """What NVIDIA's driver says of its devices; nothing where the driver is missing."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Memory and utilisation of each device that the driver shows to this process."""
        memory = GaugeMetricFamily("draganything_gpu_memory_bytes", "Memory of the GPU.", labels=["gpu", "state"])
        busy = GaugeMetricFamily(
            "draganything_gpu_utilization_ratio", "Share of time in which a kernel ran.", labels=["gpu"]
        )
        with contextlib.suppress(Exception):  # a driver that fails must not hide the other metrics
            self._measure(memory, busy)
        yield from (memory, busy)

    def _measure(self, memory: GaugeMetricFamily, busy: GaugeMetricFamily) -> None:
        import pynvml

        pynvml.nvmlInit()
        try:
            for index in range(pynvml.nvmlDeviceGetCount()):
                gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
                held = pynvml.nvmlDeviceGetMemoryInfo(gpu)
                memory.add_metric([str(index), "used"], held.used)
                memory.add_metric([str(index), "free"], held.free)
                busy.add_metric([str(index)], pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)
        finally:
            pynvml.nvmlShutdown()


REGISTRY.register(_Gpus())
