"""A Grafana dashboard over the metrics of runs and sweeps."""

from dataclasses import dataclass
from typing import Any

from orchestrator.tracking import metrics as m
from orchestrator.tracking.metrics import Metric

COLUMNS, HEIGHT = 3, 8
"""Panels side by side, and their height in Grafana's units; a row is 24 units wide."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'run=~"$run"'


@dataclass(frozen=True)
class Panel:
    """One panel: a title and what it draws."""

    title: str
    queries: tuple[tuple[str, str], ...]
    """PromQL and the legend of each."""
    unit: str = "short"
    kind: str = "timeseries"
    text: str = ""


def series(metric: Metric) -> str:
    """The series of a metric, of the runs that are chosen."""
    return f"{metric.exported}{{{CHOSEN}}}"


def rate(metric: Metric, by: str) -> str:
    """How fast a counter rises, a minute."""
    return f"60 * sum by ({by}) (rate({series(metric)}[$__rate_interval]))"


def quantile(share: float, metric: Metric) -> str:
    """A quantile of a histogram, by kind of step."""
    buckets = f"rate({metric.exported}_bucket{{{CHOSEN}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (le, kind) ({buckets}))"


WHO = "{{run}} {{trial}}"
PANELS = (
    Panel("Validation score", ((series(m.VALIDATION), WHO),), "percentunit"),
    Panel("Best validation score", ((series(m.BEST), WHO),), "percentunit"),
    Panel("Accepted share of the pool", ((series(m.ACCEPTED), WHO),), "percentunit"),
    Panel("Round", ((series(m.ROUND), WHO),)),
    Panel(
        "Steps a minute",
        (
            (rate(m.STARTED, "kind"), "begun: {{kind}}"),
            (rate(m.COMPUTED, "kind"), "computed: {{kind}}"),
            (rate(m.FOUND, "kind"), "from the store: {{kind}}"),
        ),
        text="A step that is begun and neither computed nor found is still worked on.",
    ),
    Panel(
        "Seconds of a step",
        (
            (quantile(0.5, m.STEP_SECONDS), "median: {{kind}}"),
            (quantile(0.95, m.STEP_SECONDS), "95 %: {{kind}}"),
        ),
        "s",
    ),
    Panel("Pool rows a second", ((series(m.ROWS_PER_S), WHO),)),
    Panel("Training images a second", ((series(m.IMAGES_PER_S), WHO),)),
    Panel("Since the last step", ((f"time() - {series(m.LAST_STEP)}", WHO),), "s"),
    Panel("Running", ((f"sum by (run) ({series(m.RUNNING)})", "{{run}}"),), kind="stat"),
    Panel(
        "Waiting for other processes",
        (
            (series(m.WAITING), WHO),
            (rate(m.WAITS, "kind"), "a minute: {{kind}}"),
        ),
    ),
    Panel(
        "Trials ended",
        ((f"sum by (run, state) ({series(m.TRIALS)})", "{{run}} {{state}}"),),
        kind="stat",
    ),
    Panel("Alarms", ((f"sum by (run) ({series(m.ALARMS)})", "{{run}}"),), kind="stat"),
    Panel("Refused rows", ((f"sum by (run) ({series(m.REFUSED)})", "{{run}}"),), kind="stat"),
    Panel(
        "Rounds rolled back", ((f"sum by (run) ({series(m.ROLLED_BACK)})", "{{run}}"),), kind="stat"
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it: the data source and the runs are to be chosen."""
    runs = f"label_values({m.RUNNING.exported}, run)"
    return {
        "title": "selftrain",
        "uid": "selftrain",
        "tags": ["selftrain", "ray"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                },
                {
                    "name": "run",
                    "label": "Run",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": runs, "refId": "run"},
                    "definition": runs,
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                },
            ]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    width = 24 // COLUMNS
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": width * column, "y": HEIGHT * row, "w": width, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
        "targets": [
            {"refId": chr(ord("A") + k), "expr": expr, "legendFormat": legend, "datasource": SOURCE}
            for k, (expr, legend) in enumerate(panel.queries)
        ],
    }
