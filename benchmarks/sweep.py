"""What sharing saves in a sweep, what a trial costs beyond its steps, and what the best is worth.

    python benchmarks/sweep.py examples/sweep.yaml --seeds 0,1,2 [--set A=B] [--screen]

Plays the sweep in a process of its own with a fresh store, then the very same trials once more,
each with a store of its own and nothing shared, two processes of one thread side by side as in the
sweep. CPU seconds are those of the process trees. Then the best trial's recipe and the method's own
are played with each seed. With ``--screen`` the speed of screening is measured as well.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from rounds import Peak

LANES = 2


def main() -> None:
    """Play, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--screen", action="store_true")
    parser.add_argument("--lane", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.lane:
        _lane(Path(args.lane), args.changes)
        return
    root = Path(tempfile.mkdtemp())
    answer, folder = _sweep(args, root)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    shared_s = answer["cpu_s"]
    _tell_overhead(events)
    recipes = [e["recipe"] for e in events if e["event"] == "trial_started"]
    alone_s = _alone(args, root, recipes, "alone")[0]
    print(
        f"{len(recipes)} trials: {shared_s:.0f} CPU s shared, {alone_s:.0f} alone, "
        f"ratio {shared_s / alone_s:.2f}",
        flush=True,
    )
    best = next(e for e in events if e.get("trial") == answer["best"] and "recipe" in e)["recipe"]
    own = next(e for e in events if e.get("trial") == 0 and "recipe" in e)["recipe"]
    seeds = [int(seed) for seed in args.seeds.split(",")]
    for name, recipe in (("best", best), ("own settings", own)):
        _, tests = _alone(args, root, [{**recipe, "seed": s} for s in seeds], name)
        shown = " ".join(f"{value:.4f}" for value in tests)
        print(f"{name}: test {shown}, mean {statistics.fmean(tests):.4f}", flush=True)
    if args.screen:
        _tell_screening(args, root)


def _sweep(args: argparse.Namespace, root: Path) -> tuple[dict[str, Any], Path]:
    command = [sys.executable, "-m", "orchestrator", "sweep", args.config, "--json"]
    for change in [f"store={root}/store", f"runs={root}/runs", *args.changes]:
        command += ["--set", change]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = Peak(process.pid)
    answer = json.loads(process.communicate()[0])
    wall_s = time.perf_counter() - began
    peak.end()
    account = answer["account"]
    trained = sum(
        event["kind"] == "train" and event["round"] == 0 and not event["from_store"]
        for event in map(json.loads, (Path(answer["folder"]) / "events.jsonl").open())
        if event["event"] == "trial_step"
    )
    print(
        f"sweep: {wall_s:.0f} s wall, {peak.cpu_s:.0f} CPU s, peak {peak.bytes / 2**30:.2f} GiB; "
        f"round 0 trained {trained} time(s); steps: {account['asked']} asked, "
        f"{account['computed']} computed, {account['shared']} shared",
        flush=True,
    )
    return answer | {"cpu_s": peak.cpu_s}, Path(answer["folder"])


def _tell_overhead(events: list[dict[str, Any]]) -> None:
    """Seconds of each trial from its proposal to its end that no step of it took."""
    begun, ended, steps = {}, {}, {}
    for event in events:
        trial, at = event.get("trial"), datetime.fromisoformat(event["time"]).timestamp()
        if event["event"] == "trial_started":
            begun[trial] = at
        elif event["event"] == "trial_ended":
            ended[trial] = at
        elif event["event"] == "trial_step":
            steps[trial] = steps.get(trial, 0.0) + event["seconds"]
    rest = {trial: ended[trial] - begun[trial] - steps[trial] for trial in ended}
    first = sorted(rest)[:LANES]
    others = [value for trial, value in rest.items() if trial not in first]
    print(
        f"beyond its steps a trial took {statistics.median(others):.2f} s (median), "
        f"{max(others):.2f} s at most; the first {LANES}, which start processes, "
        f"{max(rest[trial] for trial in first):.1f} s",
        flush=True,
    )


def _alone(
    args: argparse.Namespace, root: Path, recipes: list[dict[str, Any]], name: str
) -> tuple[float, list[float]]:
    """CPU seconds and test accuracies of runs that share nothing, in lanes side by side."""
    began, peaks, processes = time.perf_counter(), [], []
    for lane in range(LANES):
        task = root / f"{name}-{lane}.json"
        task.write_text(json.dumps({"config": args.config, "recipes": recipes[lane::LANES]}))
        command = [sys.executable, __file__, args.config, "--lane", str(task)]
        for change in args.changes:
            command += ["--set", change]
        processes.append(subprocess.Popen(command))
        peaks.append(Peak(processes[-1].pid))
    if any(process.wait() for process in processes):
        raise SystemExit("a lane failed")
    for peak in peaks:
        peak.end()
    tests = [0.0] * len(recipes)
    for lane in range(LANES):
        tests[lane::LANES] = json.loads((root / f"{name}-{lane}.json.out").read_text())
    print(f"{name}: {time.perf_counter() - began:.0f} s wall in {LANES} lanes", flush=True)
    return sum(peak.cpu_s for peak in peaks), tests


def _lane(task: Path, changes: list[str]) -> None:
    """Play recipes one after the other, each with a fresh store, on one thread."""
    import torch

    from orchestrator.config import Placement
    from orchestrator.engines.local_engine import LocalEngine
    from orchestrator.loading import load_config
    from orchestrator.recipe import Recipe
    from orchestrator.sweep.trial import TrialPlayer
    from orchestrator.watch import Silent

    torch.set_num_threads(1)
    asked = json.loads(task.read_text())
    config, tests = load_config(Path(asked["config"]), changes), []
    for i, recipe in enumerate(asked["recipes"]):
        store = str(task.with_suffix(f".store-{i}").absolute())
        update = {"recipe": Recipe.model_validate(recipe), "store": store}
        engine = LocalEngine(Placement(engine="local"))
        player = TrialPlayer(
            [config.model_copy(update=update)], engine, lambda *_, **__: None, Silent()
        )
        while not (round_ := player.step()).finished:
            pass
        tests.append(round_.seeds[0].test)
    Path(f"{task}.out").write_text(json.dumps(tests))


def _tell_screening(args: argparse.Namespace, root: Path) -> None:
    """Selections a minute on the stored predictions of the sweep's round 0."""
    command = [sys.executable, "-m", "orchestrator", "sweep", args.config, "--json"]
    changes = [f"store={root}/store", f"runs={root}/screen", *args.changes]
    changes += ["sweep.trials=2", "sweep.screen.keep=1", "sweep.screen.candidates=2000"]
    for change in changes:
        command += ["--set", change]
    answer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    lines = (Path(answer["folder"]) / "events.jsonl").read_text().splitlines()
    found = next(e for e in map(json.loads, lines) if e["event"] == "screened")
    rate = 60 * found["candidates"] / found["seconds"]
    print(
        f"screening: {found['candidates']} candidates in {found['seconds']:.1f} s, {rate:,.0f}/min"
    )


if __name__ == "__main__":
    main()
