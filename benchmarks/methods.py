"""Every method on one data set, network and seed list: accuracy, cost, quality of the labels.

    python benchmarks/methods.py --data data/fashion-seed{seed} --methods default,noisy_student
                                 --seeds 0,1,2 [--out build/methods.json]

Each run is a process of its own with the local engine and one thread, so that CPU seconds are the
run's. ``{seed}`` in the data path takes the seed: every seed has its own split. Round 0 is the
supervised student; the rows `supervised+` train on labels alone for as many steps as the default
method takes in all.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from orchestrator.methods import method_names


def main() -> None:
    """Play every method and seed that the results file does not hold, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/fashion-seed{seed}")
    parser.add_argument("--methods", default=",".join(method_names()))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--same-steps", type=int, default=0, help="also play 'supervised' with this many steps"
    )
    parser.add_argument("--out", type=Path, default=Path("build/methods.json"))
    args = parser.parse_args()
    results: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    wanted = [(m, {}) for m in args.methods.split(",") if m]
    if args.same_steps:
        longer = {"training": {"steps": {"first_round": args.same_steps}}}
        wanted.append(("supervised", longer))
    for method, recipe in wanted:
        name = f"{method}+" if recipe else method
        for seed in map(int, args.seeds.split(",")):
            key = f"{name}/{seed}"
            if key not in results:
                results[key] = play(method, recipe, seed, args.data.format(seed=seed))
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(results, indent=1))
            print(key, line_of(results[key]), flush=True)
    print(table(results))


def play(method: str, recipe: dict[str, Any], seed: int, data: str) -> dict[str, Any]:
    """One run; its rounds and its CPU seconds."""
    with tempfile.TemporaryDirectory() as root:
        tree = {
            "name": "bench",
            "data": data,
            "method": method,
            "recipe": {"seed": seed, **recipe},
            "placement": {"engine": "local", "threads": 1},
            "tracking": {"wandb": "disabled"},
            "store": f"{root}/store",
            "runs": f"{root}/runs",
        }
        path = Path(root, "config.yaml")
        path.write_text(yaml.safe_dump(tree))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "orchestrator", "run", str(path), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer: dict[str, Any] = json.loads(done.stdout)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"rounds": answer["rounds"], "best_round": answer["best_round"], "cpu_s": cpu_s}


def line_of(result: dict[str, Any]) -> str:
    """A run in one line."""
    tests = " -> ".join(f"{100 * r['test']['accuracy']:.2f}" for r in result["rounds"])
    return f"test {tests}; delivered round {result['best_round']}; {result['cpu_s']:.0f} CPU s"


def table(results: dict[str, Any]) -> str:
    """All methods as a Markdown table: means over seeds, and the spread (highest - lowest)."""
    lines = [
        "| method | round 0 | last round | delivered | spread | gain | label precision | "
        "fewest labels a class | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in sorted({key.split("/")[0] for key in results}):
        runs = [run for key, run in results.items() if key.split("/")[0] == name]
        first = [100 * r["rounds"][0]["test"]["accuracy"] for r in runs]
        last = [100 * r["rounds"][-1]["test"]["accuracy"] for r in runs]
        best = [100 * r["rounds"][r["best_round"]]["test"]["accuracy"] for r in runs]
        chosen = [
            s
            for r in runs
            for s in r["rounds"][: max(1, len(r["rounds"]) - 1)]
            if s["class_rows"] and len(r["rounds"]) > 1
        ]
        precision = [s["precision"] for s in chosen if s["precision"] is not None]
        fewest = min((min(s["class_rows"]) for s in chosen), default=None)
        gain = statistics.mean(best) - statistics.mean(first)
        quality = f"{100 * statistics.mean(precision):.1f}" if precision else "-"
        lines.append(
            f"| {name} | {statistics.mean(first):.2f} | {statistics.mean(last):.2f} | "
            f"{statistics.mean(best):.2f} | {max(best) - min(best):.2f} | {gain:+.2f} | "
            f"{quality} | {fewest if fewest is not None else '-'} | "
            f"{statistics.mean(r['cpu_s'] for r in runs):.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
