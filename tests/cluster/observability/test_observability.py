"""The dashboard and the alerts: valid files, over metrics that exist, over all of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import cluster.observability
from cluster.observability.__main__ import ALERTS, DASHBOARD, contents
from orchestrator.tracking.metrics import METRICS

FOLDER = Path(cluster.observability.__file__).parent
DURATION = re.compile(r"\d+[smhd]")


def dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / DASHBOARD).read_text())


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / ALERTS).read_text())["groups"]
    return group["rules"]


def expressions() -> list[str]:
    drawn = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return drawn + [rule["expr"] for rule in rules()]


def named(expression: str) -> set[str]:
    """Metrics that a PromQL expression names."""
    return {name.removesuffix("_bucket") for name in re.findall(r"\bray_\w+", expression)}


@pytest.mark.parametrize("name", [DASHBOARD, ALERTS])
def test_the_file_is_what_the_code_makes(name):
    """If it is not: python -m cluster.observability."""
    assert (FOLDER / name).read_text() == contents()[name]


def test_every_metric_that_is_drawn_or_watched_exists():
    known = {metric.exported for metric in METRICS}
    for expression in expressions():
        found = named(expression)
        assert found
        assert found <= known, expression


def test_every_metric_is_drawn():
    drawn = {
        name
        for panel in dashboard()["panels"]
        for target in panel["targets"]
        for name in named(target["expr"])
    }
    assert drawn == {metric.exported for metric in METRICS}


def test_expressions_read_only_tags_that_their_metrics_have():
    tags = {metric.exported: {*metric.tags, "le"} for metric in METRICS}
    for expression in expressions():
        grouped = re.findall(r"(?:by|on) \(([\w, ]+)\)", expression)
        chosen = re.findall(r"[{,](\w+)=~?\"", expression)
        wanted = {tag.strip() for group in grouped for tag in group.split(",")} | set(chosen)
        for name in named(expression):
            assert wanted <= tags[name], expression


def test_brackets_and_quotes_of_every_expression_close():
    for expression in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert expression.count(opening) == expression.count(closing), expression
        assert expression.count('"') % 2 == 0, expression


def test_panels_have_ids_and_places_of_their_own_and_choose_the_data_source():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(set(places)) == len(places)
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)
    assert all(p["datasource"]["uid"] == "${datasource}" for p in panels)
    assert [v["name"] for v in dashboard()["templating"]["list"]] == ["datasource", "run"]


def test_alerts_have_names_of_their_own_a_duration_and_a_summary_of_one_run():
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert DURATION.fullmatch(rule["for"])
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"].startswith("{{ $labels.run }}: ")
