"""The report: one HTML file that shows the leaderboard and fetches nothing."""

from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest

from orchestrator.console import Console
from orchestrator.sweep.accounting import Account
from orchestrator.sweep.display import closing_lines, leaderboard_table
from orchestrator.sweep.leaderboard import Place
from orchestrator.sweep.record import SweepRecord, load_sweep, save_sweep
from orchestrator.sweep.report import report_html
from tests.orchestrator.sweep.helpers import RATE, SHARE, TWO, config_of

FETCHING = ("src", "href", "srcset", "data", "action", "poster", "background")


class Page(HTMLParser):
    """What a browser would make of a page: its cells, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.cells: list[str] = []
        self.titles: list[str] = []
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._in = tag
        self.fetched += [value for name, value in attrs if name in FETCHING and value]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag in ("h1", "h2"):
            self.titles.append("")

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in in ("td", "th"):
            self.cells[-1] += data
        if self._in in ("h1", "h2"):
            self.titles[-1] += data
        if self._in == "style":
            assert "url(" not in data
            assert "@import" not in data


def place(trial: int, **changes) -> Place:
    known = {
        "trial": trial,
        "state": "complete",
        "origin": "sampler",
        "values": (0.9,),
        "score": 0.91234,
        "half_width": 0.0123,
        "test": 0.89,
        "seeds": (0, 1),
        "rounds": 4,
        "work_s": 12.34,
        "chosen": {SHARE: 0.3, RATE: 0.1234567},
    }
    return Place(**(known | changes))


@pytest.fixture
def record() -> SweepRecord:
    return SweepRecord(
        sweep="quick-sweep-12345678",
        status="finished",
        # one that was written before such a URI was refused
        config=config_of(TWO).model_copy(update={"data": "s3://user:topsecret@bucket/digits"}),
        data="abc",
        places=(
            place(3),
            place(0, origin="defaults", score=0.9, half_width=None, test=None),
            place(
                1,
                state="pruned",
                score=None,
                chosen={SHARE: "<script>alert(1)</script>"},
                reason="below <b>the bar</b> & more",
            ),
        ),
        best=3,
        importances={SHARE: 0.75, RATE: 0.25},
        account=Account(asked=30, computed=10, shared=15, found=5, asked_s=90, computed_s=30),
    )


def test_the_leaderboard_is_in_the_report(record):
    page = Page(report_html(record, []))
    heads, first, second, third = (page.cells[i : i + 8] for i in range(0, 32, 8))
    assert heads[0] == "trial"
    assert first[:7] == ["3", "complete", "0.9123", "±0.0123", "0.8900", "4", "12.3"]
    assert "selector.share=0.3" in first[7]
    assert second[:5] == ["0", "complete", "0.9000", "", ""]
    assert third[:3] == ["1", "pruned", ""]
    assert page.titles == ["quick-sweep-12345678"]


def test_what_a_config_holds_can_not_become_html(record):
    page = Page(report_html(record, []))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert "<script>alert(1)</script>" in page.cells[-1]
    assert page.cells[-1].endswith("below <b>the bar</b> & more")


def test_credentials_in_a_uri_are_hidden(record):
    other = place(7, chosen={"data": "s3://user:topsecret@bucket/mnist"}, state="failed")
    record = record.model_copy(update={"places": (*record.places, other)})
    text = report_html(record, [])
    assert "bucket/mnist" in text
    assert "topsecret" not in text
    assert "bucket/digits" in text


def test_the_account_is_in_the_report(record):
    assert "30 steps asked for: 10 computed, 15 shared between trials" in report_html(record, [])


def test_plots_bring_their_own_code_once_and_fetch_nothing(record):
    figures = [("History", go.Figure(go.Scatter(y=[1, 2]))), ("Slices & more", go.Figure())]
    text = report_html(record, figures)
    page = Page(text)
    assert page.titles[1:] == ["History", "Slices & more"]
    assert page.fetched == []
    assert "link" not in page.tags
    assert "iframe" not in page.tags
    assert len(text) < 2 * len(report_html(record, figures[:1]))  # the library stands there once


def test_a_record_survives_its_file_without_its_credentials(record, tmp_path):
    other = place(7, chosen={"data": "s3://user:topsecret@bucket/mnist"}, state="failed")
    changes = {"config": config_of(TWO), "places": (*record.places, other)}
    record = record.model_copy(update=changes)
    save_sweep(tmp_path, record)
    assert "topsecret" not in (tmp_path / "sweep.json").read_text()
    found = load_sweep(tmp_path)
    assert found.places[:-1] == record.places[:-1]
    assert found.config.recipe == record.config.recipe
    answer = record.answer()
    assert (answer["best"], answer["account"]["saved_s"], answer["name"]) == (3, 60.0, "quick")


def test_the_terminal_shows_the_places_and_what_to_type_next(record, capfd):
    console = Console()
    console.rich.print(leaderboard_table(record))
    for line in closing_lines(record, Path("runs/quick-sweep-12345678")):
        console.say(line)
    out = capfd.readouterr().out
    assert "0.9123 ±0.0123 0.8900" in " ".join(out.split())
    assert "pruned: below <b>the bar</b> & more" in " ".join(out.split())
    assert "Its validation score is +1.23 points against the method's own settings." in out
    assert "Best: trial 3 with selector.share=0.3" in out
    assert "Importance: " in out
    assert "selftrain run runs/quick-sweep-12345678/best.yaml" in out
