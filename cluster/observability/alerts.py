"""Prometheus alert rules over the metrics of runs and sweeps."""

from dataclasses import dataclass
from typing import Any

from orchestrator.tracking import metrics as m

RUNNING = f"{m.RUNNING.exported} == 1"
ALIVE = f"on (run, trial) ({RUNNING})"
"""Joins a series with the runs that are played now; what has ended raises no alert."""


def risen(series: str, within: str) -> str:
    """Whether a counter has risen or has appeared; `increase` alone misses its first value."""
    return f"(increase({series}[{within}]) > 0) or ({series} unless {series} offset {within})"


@dataclass(frozen=True)
class Alert:
    """One rule."""

    name: str
    expr: str
    summary: str
    """What is wrong, and what to do; `{{ $labels.run }}` and `{{ $value }}` are filled in."""
    severity: str = "warning"
    lasting: str = "0m"
    """How long it must hold before it is told."""


ALERTS = (
    Alert(
        "SelftrainNoStepFinished",
        f"(time() - {m.LAST_STEP.exported}) > 3600 and {ALIVE}",
        "{{ $labels.run }}: no step has ended for {{ $value | humanizeDuration }}; "
        "'selftrain explain RUN' says what it waits for",
        lasting="5m",
    ),
    Alert(
        "SelftrainWaitsForALease",
        f"{m.WAITING.exported} == 1",
        "{{ $labels.run }}: another process has held its step for half an hour; "
        "'selftrain explain RUN' says which",
        lasting="30m",
    ),
    Alert(
        "SelftrainAlarms",
        risen(m.ALARMS.exported, "15m"),
        "{{ $labels.run }}: a round raised {{ $value | humanize }} alarms; "
        "'selftrain show RUN' lists them",
    ),
    Alert(
        "SelftrainScoreFell",
        f"({m.BEST.exported} - {m.VALIDATION.exported}) > 0.02 and {ALIVE}",
        "{{ $labels.run }}: the newest round is {{ $value | humanizePercentage }} below the best",
    ),
    Alert(
        "SelftrainRefusedRows",
        risen(m.REFUSED.exported, "15m"),
        "{{ $labels.run }}: {{ $value | humanize }} pool rows can't be labelled; "
        "refused.parquet of the labelling step names them",
        severity="info",
    ),
    Alert(
        "SelftrainAcceptsNothing",
        f"{m.ACCEPTED.exported} < 0.001 and {ALIVE}",
        "{{ $labels.run }}: the newest selection accepted {{ $value | humanizePercentage }} "
        "of the pool; lower the selector's bounds",
    ),
    Alert(
        "SelftrainTrialsFail",
        f'increase({m.TRIALS.exported}{{state="failed"}}[1h]) > 2',
        "{{ $labels.run }}: {{ $value | humanize }} trials failed within an hour",
    ),
)


def rules() -> dict[str, Any]:
    """The rules as a Prometheus rule file holds them."""
    return {
        "groups": [
            {
                "name": "selftrain",
                "rules": [
                    {
                        "alert": each.name,
                        "expr": each.expr,
                        "for": each.lasting,
                        "labels": {"severity": each.severity},
                        "annotations": {"summary": each.summary},
                    }
                    for each in ALERTS
                ],
            }
        ]
    }
