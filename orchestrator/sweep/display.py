"""A sweep on the terminal: a line for every round of a trial, the leaderboard at the end."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from orchestrator.console import Console
from orchestrator.signals import StopRequest
from orchestrator.sweep.leaderboard import Place, best_of
from orchestrator.sweep.record import SweepRecord
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import Event
from orchestrator.watch import Silent

MOST_PLACES = 20


class SweepLines:
    """Shows a sweep as it goes. It is one of the projections of the event log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best: float | None = None

    def hear(self, event: Event) -> None:
        """Show an event of the sweep."""
        name = event["event"]
        if name == "trial_started":
            self._say(event, f"{event['origin']}: {shown(event['chosen'])}")
        elif name == "trial_round":
            seeds = event["seeds"]
            score = sum(s["score"] for s in seeds) / len(seeds)
            self._best = max(score, self._best or 0.0)
            over = f", mean of {len(seeds)} seeds" if len(seeds) > 1 else ""
            self._say(
                event,
                f"round {event['round']}  validation {score:.4f}{over}, "
                f"best of the sweep {self._best:.4f}",
            )
            for alarm in alarms_of(event):
                self._say(event, f"alarm: {alarm}")
        elif name == "trial_ended" and event["state"] != "complete":
            self._say(event, f"{event['state']}: {event.get('reason') or event.get('error')}")
        elif name == "trial_promoted":
            self._say(event, "is taken up again: by what is known now it should go on")

    def _say(self, event: Event, text: str) -> None:
        self._console.say(f"trial {event['trial']}  {text}")

    def close(self) -> None:
        """Nothing is held."""


def alarms_of(trial_round: Event) -> list[str]:
    """The alarms of a trial's round, each once, whatever seed raised it."""
    newest = [seed["newest"] for seed in trial_round["seeds"] if seed.get("newest")]
    return list(dict.fromkeys(alarm for each in newest for alarm in each["alarms"]))


def shown(chosen: dict[str, Any]) -> str:
    """Chosen values on one line, paths cut to what tells them apart."""
    return ", ".join(f"{short(path)}={_number(value)}" for path, value in chosen.items())


def short(path: str) -> str:
    """A path without its `recipe.`."""
    return path.removeprefix("recipe.")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def leaderboard_table(record: SweepRecord) -> Table:
    """The best trials of a sweep: score with its confidence, test, rounds, seconds of work."""
    title = f"{record.sweep}: {record.config.method} on {redact(record.config.data)}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("trial", "valid.", "95 %", "test", "rounds", "work s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for place in record.places[:MOST_PLACES]:
        table.add_row(*_row(place))
    return table


def _row(place: Place) -> tuple[str, ...]:
    note = place.origin if place.state == "complete" else f"{place.state}: {place.reason}"
    return (
        str(place.trial),
        "-" if place.score is None else f"{place.score:.4f}",
        "-" if place.half_width is None else f"±{place.half_width:.4f}",
        "-" if place.test is None else f"{place.test:.4f}",
        str(place.rounds),
        f"{place.work_s:.1f}",
        escape(note),
    )


def closing_lines(record: SweepRecord, folder: Path) -> list[str]:
    """What a sweep came to, and what to type next."""
    lines = []
    best = best_of(record.places)
    if best is not None:
        lines.append(f"Best: trial {best.trial} with {shown(best.chosen) or 'the defaults'}.")
        own = next((p for p in record.places if p.origin == "defaults"), None)
        if own is not None and own.score is not None and best.score is not None:
            gain = 100 * (best.score - own.score)
            lines.append(
                f"Its validation score is {gain:+.2f} points against the method's own settings."
            )
    if record.screened:
        lines.append(f"{record.screened:,} candidates were screened on stored predictions.")
    if record.importances:
        most = list(record.importances.items())[:5]
        lines.append(
            "Importance: " + ", ".join(f"{short(path)} {share:.2f}" for path, share in most) + "."
        )
    lines += [*record.account.lines(), "Next:"]
    if best is not None:
        lines.append(f"  selftrain run {folder}/best.yaml      the best trial, from the store")
    lines += [
        f"  open {folder}/report.html      plots",
        f"  optuna-dashboard {folder}/study.journal      live, if optuna-dashboard is installed",
        "  the same command with more --trials goes on from here",
    ]
    return lines


class SweepWatch(Silent):
    """Passes lines and the wish to stop; progress of single steps is not shown."""

    def __init__(self, console: Console, stop: StopRequest) -> None:
        self._console, self._stop = console, stop

    def say(self, text: str) -> None:
        self._console.say(text)

    def stopping(self) -> bool:
        return self._stop.asked()
