"""The terminal: live progress where it is one, plain lines where it is not, tables at the end."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from orchestrator.runs import RoundRecord, RunRecord
from orchestrator.signals import StopRequest
from orchestrator.tracking.secrets import redact
from orchestrator.tracking.tracker import Event

PLAIN_WIDTH = 110
"""Columns of a table that goes to a file or a pipe."""


class Console:
    """Shows a run as it goes. It is one of the projections of the event log."""

    def __init__(self, *, to_stderr: bool = False, quiet: bool = False) -> None:
        self.rich = RichConsole(stderr=to_stderr, quiet=quiet, highlight=False, soft_wrap=True)
        if not self.rich.is_terminal:
            self.rich.width = PLAIN_WIDTH
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> "Console":
        if self.rich.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                console=self.rich,
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """One line."""
        self.rich.print(escape(redact(text)))

    def progress(self, unit: str, done: int, total: int, **numbers: float) -> None:
        """Move the bar of the step that runs now."""
        if self._bar is None or self._task is None:
            return
        note = f"{unit}"
        if "loss" in numbers:
            note += f"  loss {numbers['loss']:.3f}  {numbers.get('images_per_s', 0):,.0f} images/s"
        if "rows_per_s" in numbers:
            note += f"  {numbers['rows_per_s']:,.0f} rows/s"
        self._bar.update(self._task, completed=done, total=total, note=note)

    def hear(self, event: Event) -> None:
        """Show an event of the run."""
        name = event["event"]
        if name == "step_started":
            self.begin(f"round {event['round']}  {event['step']}")
        elif name == "step_finished":
            self.end()
            self.say(f"round {event['round']}  {event['step']:<13} {_outcome(event)}")
        elif name == "round_finished":
            if not event["kept"]:
                self.say(f"round {event['round']}  {event['reason']}")
            for alarm in event["alarms"]:
                self.say(f"round {event['round']}  ALARM: {alarm}")

    def close(self) -> None:
        """Nothing is held."""

    def begin(self, title: str) -> None:
        """Show a bar for the work that begins."""
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=None, note="")

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None


@dataclass(frozen=True)
class ConsoleWatch:
    """Carries the progress of work that belongs to no run to the console."""

    console: Console
    stop: StopRequest

    def progress(self, unit: str, done: int, total: int, **numbers: float) -> None:
        self.console.progress(unit, done, total, **numbers)

    def say(self, text: str) -> None:
        self.console.say(text)

    def stopping(self) -> bool:
        return self.stop.asked()


def _outcome(event: Event) -> str:
    counts, metrics, kind = event["counts"], event["metrics"], event["kind"]
    took = "from the store" if event["from_store"] else f"{event['seconds']:.1f} s"
    if kind == "train":
        what = f"{counts['steps']:,} steps, {metrics['images_per_s']:,.0f} images/s"
        what += _in_step(metrics.get("diagnostics", {}).get("in_step"))
    elif kind == "score":
        values = {n: metrics[n]["score"] for n in ("validation", "test")}
        what = f"validation {values['validation']:.4f}, test {values['test']:.4f}"
    elif kind == "label":
        refused = f", {counts['refused']:,} refused" if counts["refused"] else ""
        what = f"{counts['rows']:,} rows{refused}"
    elif kind == "select":
        rows = counts["class_rows"]
        what = f"{counts['accepted']:,} accepted, {min(rows):,} to {max(rows):,} a class"
        if counts["starved_classes"]:
            what += f"; classes without a label: {counts['starved_classes']}"
    elif kind == "extend":
        what = f"{counts['rows']:,} images made"
    elif kind == "audit":
        precision, flips = metrics["precision"], metrics["flip_rate"]
        what = f"{metrics['coverage'] or 0:.1%} of the pool"
        what += "" if flips is None else f", {flips:.1%} changed class"
        what += "" if precision is None else f", precision {precision:.4f}"
    else:
        what = f"accuracy {metrics.get('accuracy', float('nan')):.4f}"
    return f"{what}  ({took})"


def _in_step(told: dict[str, Any] | None) -> str:
    """What training steps accepted of the pool, where they label it."""
    if told is None:
        return ""
    lost = f", {told['not_finite']:,} not finite" if told["not_finite"] else ""
    return f", {told['accepted_share']:.1%} of pool rows accepted{lost}"


def rounds_table(record: RunRecord) -> Table:
    """The rounds of a run as a table that fits 80 columns.

    For each round: accepted rows, fewest and most of a class, precision against hidden labels,
    accuracy on validation and test rows, seconds.
    """
    title = f"{record.run}: {record.config.method} on {record.config.data}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    names = ("round", "accepted", "a class", "prec.", "valid.", "test", "s", "")
    for name in names:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for each in record.rounds:
        table.add_row(*_row(record, each))
    return table


def _row(record: RunRecord, each: RoundRecord) -> tuple[str, ...]:
    rows = each.class_rows
    note = "delivered" if each.round == record.best_round else ""
    if not each.kept:
        note = "rolled back"
    if all(step.from_store for step in each.steps.values()):
        note = f"{note}, stored".removeprefix(", ")
    return (
        str(each.round),
        "-" if each.accepted is None else f"{each.accepted:,}",
        f"{min(rows):,}-{max(rows):,}" if rows else "-",
        "-" if each.precision is None else f"{each.precision:.4f}",
        f"{each.validation['score']:.4f}",
        f"{each.test['score']:.4f}",
        f"{each.seconds:.1f}",
        note,
    )


def closing_lines(record: RunRecord) -> list[str]:
    """What a run came to, and what to type next."""
    lines = []
    if record.rounds and record.best_round is not None:
        first, best = record.rounds[0], record.rounds[record.best_round]
        whose = "a student of labels alone" if first.alone else "the supervised student of round 0"
        base = first.alone["test"]["score"] if first.alone else first.test["score"]
        gain = 100 * (best.test["score"] - base)
        lines.append(
            f"Round {best.round} delivers {best.test['score']:.4f} on the test rows: "
            f"{gain:+.2f} points over {whose} ({base:.4f})."
        )
    steps = [step for each in record.rounds for step in each.steps.values()]
    found = sum(step.from_store for step in steps)
    if found:
        lines.append(f"{found} of {len(steps)} steps came from the store.")
    raised = [f"round {each.round}: {alarm}" for each in record.rounds for alarm in each.alarms]
    lines += [f"Alarm in {alarm}." for alarm in raised]
    if record.stopped:
        lines.append(f"Stopped because: {record.stopped}.")
    lines += [
        "Next:",
        f"  selftrain show {record.run}      this table again, and the steps behind it",
        f"  selftrain export {record.run} --out student      its student, to use elsewhere",
        f"  selftrain track replay {record.run}      one offline W&B run, to be synced",
        "  selftrain run CONFIG --set recipe.selector.share=0.3      shared steps are reused",
        "  selftrain methods      the other methods",
    ]
    return lines
