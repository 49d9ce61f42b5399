"""The report of a sweep: leaderboard and Optuna's plots in one HTML file that needs no network."""

import html
from collections.abc import Sequence
from typing import Any

from orchestrator.sweep.display import shown
from orchestrator.sweep.record import SweepRecord
from orchestrator.tracking.secrets import redact

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100% }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th:last-child, td:last-child { text-align: left; overflow-wrap: anywhere }
.wide { overflow-x: auto }
"""
HEADS = ("trial", "state", "validation", "95 %", "test", "rounds", "work s", "settings")


def report_html(record: SweepRecord, figures: Sequence[tuple[str, Any]]) -> str:
    """The whole report; ``figures`` are plotly figures with their titles."""
    parts = [
        f"<h1>{html.escape(record.sweep)}</h1>",
        f"<p>{html.escape(record.config.method)} on {html.escape(redact(record.config.data))}; "
        f"{record.status}; {len(record.places)} trials.</p>",
        *(f"<p>{html.escape(line)}</p>" for line in record.account.lines()),
        _table(record),
    ]
    for i, (title, figure) in enumerate(figures):
        parts.append(f"<h2>{html.escape(title)}</h2>")
        parts.append(figure.to_html(full_html=False, include_plotlyjs=i == 0))
    title = html.escape(record.sweep)
    head = f"<meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
    return f"<!doctype html><html><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _table(record: SweepRecord) -> str:
    rows = []
    for place in record.places:
        settings = shown(place.chosen)
        cells = (
            place.trial,
            place.state,
            "" if place.score is None else f"{place.score:.4f}",
            "" if place.half_width is None else f"±{place.half_width:.4f}",
            "" if place.test is None else f"{place.test:.4f}",
            place.rounds,
            f"{place.work_s:.1f}",
            f"{settings}. {place.reason}" if place.reason else settings,
        )
        rows.append("".join(f"<td>{html.escape(redact(str(cell)))}</td>" for cell in cells))
    heads = "".join(f"<th>{name}</th>" for name in HEADS)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<div class='wide'><table><tr>{heads}</tr>{body}</table></div>"
