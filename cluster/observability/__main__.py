"""`python -m cluster.observability [FOLDER]`: write the dashboard and the alert rules anew."""

import json
import sys
from pathlib import Path

import yaml

from cluster.observability.alerts import rules
from cluster.observability.dashboard import dashboard

DASHBOARD, ALERTS = "grafana.json", "alerts.yaml"


def contents() -> dict[str, str]:
    """The content of each file by its name."""
    return {
        DASHBOARD: json.dumps(dashboard(), indent=1) + "\n",
        ALERTS: yaml.safe_dump(rules(), sort_keys=False, width=100),
    }


def main() -> None:
    """Write them into a folder, by default this package's."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, content in contents().items():
        (folder / name).write_text(content)


if __name__ == "__main__":
    main()
