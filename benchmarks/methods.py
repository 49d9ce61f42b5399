"""Every method on one data set, network and seed list: accuracy, cost, quality of the labels.

    python benchmarks/methods.py --data data/fashion-seed{seed} [--methods default,noisy_student]
                                 [--seeds 0,1,2] [--precision bfloat16]
                                 [--set recipe.policy.num_rounds=2 --name=-two-rounds]

Each run is a process of its own with the local engine and one thread, so that CPU seconds are the
run's. ``{seed}`` in the data path takes the seed: every seed has its own split. Methods run with
their own settings but the arithmetic: training and labelling in ``--precision``, scores always in
float32; ``--set`` changes more, and ``--name`` is what such rows' names end with. `supervised` is
labels alone: methods of one round, which have no supervised round inside,
are held against it. The rows `supervised+` train on labels alone for as many steps as the default
method takes in all. Runs that the results file holds are not played again, so an interrupted
command goes on; ``--table`` plays nothing and prints what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from orchestrator.methods import method_names

BUDGET_S = 200
"""CPU seconds beyond which a row of the table is marked."""


def main() -> None:
    """Play every method and seed that the results file does not hold, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/fashion-seed{seed}")
    parser.add_argument("--methods", default=",".join(method_names()))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument(
        "--same-steps", type=int, default=0, help="also play 'supervised' with this many steps"
    )
    parser.add_argument("--set", action="append", default=[], help="override of all runs")
    parser.add_argument("--name", default="", help="suffix of the rows' names, for --set")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/methods.json"))
    parser.add_argument("--table", action="store_true", help="print the results file, play nothing")
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    wanted: list[tuple[str, dict[str, Any]]] = [(m, {}) for m in args.methods.split(",") if m]
    if args.same_steps:
        wanted.append(("supervised", {"steps": {"first_round": args.same_steps}}))
    for method, training in wanted if not args.table else []:
        name = f"{method}{'+' if training else args.name}"
        for seed in map(int, args.seeds.split(",")):
            key = f"{name}/{seed}"
            if key not in results:
                recipe = {
                    "seed": seed,
                    "training": {"precision": args.precision, **training},
                    "labelling": {"precision": args.precision},
                }
                found = play(method, recipe, args.data.format(seed=seed), args.set)
                if found is None:
                    continue
                results[key] = {"precision": args.precision, **found, "machine": machine()}
                write(args.out, results)
            print(key, line_of(results[key]), flush=True)
    print(table(results))
    print("\n".join(fallen(results)))


def play(
    method: str, recipe: dict[str, Any], data: str, overrides: list[str]
) -> dict[str, Any] | None:
    """One run: what its rounds gave and its CPU seconds; None if it failed, which is printed."""
    with tempfile.TemporaryDirectory() as root:
        tree = {
            "name": "bench",
            "data": data,
            "method": method,
            "recipe": recipe,
            "placement": {"engine": "local", "threads": 1},
            "tracking": {"wandb": "disabled"},
            "store": f"{root}/store",
            "runs": f"{root}/runs",
        }
        path = Path(root, "config.yaml")
        path.write_text(yaml.safe_dump(tree))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "orchestrator", "run", str(path), "--json"]
        command += [text for override in overrides for text in ("--set", override)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            print(f"{method} failed: {done.stderr[-500:]}", flush=True)
            return None
        speed = images_per_s(Path(root, "store"))
    answer: dict[str, Any] = json.loads(done.stdout)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rounds = answer["rounds"]
    return {
        "test": [round(each["test"]["accuracy"], 4) for each in rounds],
        "validation": [round(each["validation"]["accuracy"], 4) for each in rounds],
        "label_precision": [shortened(each["precision"]) for each in rounds],
        "coverage": [shortened(each["selection"].get("coverage")) for each in rounds],
        "alarms": [each["alarms"] for each in rounds],
        "best_round": answer["best_round"],
        "cpu_s": round(cpu_s, 1),
        "images_per_s": round(speed),
    }


def machine() -> str:
    """Cores and processor, by which CPU seconds can be held against each other."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {models[0] if models else platform.processor()}"


def shortened(share: float | None) -> float | None:
    """A share with as many digits as the table may need."""
    return None if share is None else round(share, 4)


def images_per_s(store: Path) -> float:
    """Mean speed of a run's training steps."""
    records = (json.loads(path.read_text()) for path in store.rglob("record.json"))
    speeds = [r["metrics"]["images_per_s"] for r in records if r["identity"]["kind"] == "train"]
    return statistics.mean(speeds)


def write(path: Path, results: dict[str, Any]) -> None:
    """Write all runs, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(key)}: {json.dumps(run)}" for key, run in sorted(results.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def line_of(run: dict[str, Any]) -> str:
    """A run in one line."""
    tests = " -> ".join(f"{100 * each:.2f}" for each in run["test"])
    return f"test {tests}; delivered round {run['best_round']}; {run['cpu_s']:.0f} CPU s"


def table(results: dict[str, Any]) -> str:
    """All methods as a Markdown table, best first: means over seeds, spread = highest - lowest."""
    lines = [
        "| method | seeds | round 0 | delivered | spread | over labels alone | label precision | "
        "coverage | CPU s | images/s | alarms |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = {key.split("/")[0] for key in results}
    means = {name: statistics.mean(delivered(runs_of(name, results))) for name in names}
    for name in sorted(names, key=lambda each: (-means[each], each)):
        found = runs_of(name, results)
        runs, best, over = list(found.values()), delivered(found), over_labels(found, results)
        cpu_s = statistics.mean(run["cpu_s"] for run in runs)
        several = len(runs[0]["test"]) > 1
        cells = [
            f"`{name}`",
            ", ".join(sorted(found)),
            f"{statistics.mean(100 * run['test'][0] for run in runs):.2f}" if several else "",
            f"{statistics.mean(best):.2f}",
            f"{max(best) - min(best):.2f}" if len(best) > 1 else "",
            f"{statistics.mean(over):+.2f}" if over else "",
            percent([share for run in runs for share in run["label_precision"]]),
            percent([share for run in runs for share in run["coverage"]]),
            f"{cpu_s:.0f}{'*' if cpu_s > BUDGET_S else ''}",
            f"{statistics.mean(run['images_per_s'] for run in runs):.0f}",
            str(sum(len(told) for run in runs for told in run["alarms"])),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def fallen(results: dict[str, Any]) -> list[str]:
    """One line for each method that is below its supervised round by more than its spread.

    That round is the first of several; methods of one round are held against `supervised`.
    """
    lines = []
    for name in sorted({key.split("/")[0] for key in results}):
        found = runs_of(name, results)
        best, over = delivered(found), over_own_round(found, results)
        if not over or -statistics.mean(over) <= max(best) - min(best):
            continue
        told = sum(len(each) for run in found.values() for each in run["alarms"])
        lines.append(
            f"{name}: {statistics.mean(over):+.2f} against its supervised round, spread "
            f"{max(best) - min(best):.2f}: {f'{told} alarms' if told else 'no alarm'}"
        )
    return lines


def over_own_round(runs: dict[str, Any], results: dict[str, Any]) -> list[float]:
    """What is delivered minus the first of several rounds, or minus `supervised`."""
    if any(len(run["test"]) == 1 for run in runs.values()):
        return over_labels(runs, results)
    first = [100 * run["test"][0] for run in runs.values()]
    return [best - own for best, own in zip(delivered(runs), first, strict=True)]


def runs_of(name: str, results: dict[str, Any]) -> dict[str, Any]:
    """A method's runs by seed."""
    return {key.split("/")[1]: run for key, run in results.items() if key.split("/")[0] == name}


def delivered(runs: dict[str, Any]) -> list[float]:
    """Test accuracy of the delivered rounds, in percent."""
    return [100 * run["test"][run["best_round"]] for run in runs.values()]


def over_labels(runs: dict[str, Any], results: dict[str, Any]) -> list[float]:
    """What is delivered minus `supervised` of the same seed, where that was played."""
    alone = runs_of("supervised", results)
    return [
        score - delivered({seed: alone[seed]})[0]
        for seed, score in zip(runs, delivered(runs), strict=True)
        if seed in alone
    ]


def percent(shares: list[float | None]) -> str:
    """The mean of what is known, in percent; '-' if nothing is."""
    known = [share for share in shares if share is not None]
    return f"{100 * statistics.mean(known):.1f}" if known else "-"


if __name__ == "__main__":
    main()
