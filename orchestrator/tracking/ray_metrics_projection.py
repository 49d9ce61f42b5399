"""Prometheus as a projection of the event log, through the metrics that every Ray node exports.

Ray may start long after the run, or never: until it is up, readings are kept, the newest for each
gauge. Recording is an addition in this process and asks no server.
"""

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from orchestrator.tracking.metrics import METRICS, SECONDS, Metric, Reading, Readings
from orchestrator.tracking.tracker import Event

MOST_KEPT = 10_000
"""Readings kept while Ray is not up; older ones are forgotten."""


def ray_is_up() -> bool:
    """Whether this process has joined a Ray cluster; never imports Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


class RayMetricsProjection:
    """Sends what events say to Ray's metrics; opens nothing and starts nothing."""

    def __init__(self, run: str, is_up: Callable[[], bool] = ray_is_up) -> None:
        self._readings, self._is_up = Readings(run), is_up
        self._kept: deque[Reading] = deque(maxlen=MOST_KEPT)
        self._metrics: dict[str, Any] = {}

    def hear(self, event: Event) -> None:
        self._kept.extend(self._readings.of(event))
        if not self._is_up():
            return
        if not self._metrics:
            self._metrics = {metric.name: _declared(metric) for metric in METRICS}
        while self._kept:
            _record(self._metrics[self._kept[0].metric.name], self._kept.popleft())

    def close(self) -> None:
        """Nothing is held; Ray's nodes go on exporting for a while."""


def _declared(metric: Metric) -> Any:
    from ray.util import metrics

    if metric.sort == "counter":
        return metrics.Counter(metric.name, metric.text, metric.tags)
    if metric.sort == "gauge":
        return metrics.Gauge(metric.name, metric.text, metric.tags)
    return metrics.Histogram(metric.name, metric.text, list(SECONDS), metric.tags)


def _record(handle: Any, reading: Reading) -> None:
    if reading.metric.sort == "counter":
        handle.inc(reading.value, reading.tags)
    elif reading.metric.sort == "gauge":
        handle.set(reading.value, reading.tags)
    else:
        handle.observe(reading.value, reading.tags)
