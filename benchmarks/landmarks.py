"""Landmark methods on fly video: 20, 50 and 200 labelled frames of 2,200; error, area, cost.

    python benchmarks/landmarks.py --source landmarks:data/flies-raw --seeds 0,1,2

The data: 3,000 crops around two flies with 13 points, split by time (landmarks.json or
manifest.json beside the Parquet file names them). Each seed draws its own labelled frames; the rest
of the training block is unlabelled, the test block comes after it. One network and one size of
images for all, views turned by any angle (flies walk anywhere) and mirrored; a run is one thread of
this process, in bfloat16 unless told otherwise. Each run is scored twice: by the image alone, and
over ``--views`` of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

from orchestrator.console import Console
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import already_prepared, prepare
from orchestrator.loading import build_config
from orchestrator.methods import load_method
from orchestrator.runs import RunRecord
from orchestrator.session import play_run
from orchestrator.signals import StopRequest

LABELLED = (20, 50, 200)
METHODS = (
    "landmark_supervised",
    "landmark_pseudo_label",
    "landmark_rounds",
    "landmark_distillation",
    "landmark_mean_teacher",
    "tsal",
)

TURNED = {"flip": 0.5, "rotate": 180.0}
PARTS = {  # the views of each part of a recipe that a method may have
    "recipe.training.objective": ("labelled_view", "selected_view"),
    "recipe.training.consistency": ("weak", "strong"),
    "recipe.training.two_sources": ("view", "second"),
    "recipe.labelling": ("view",),
    "recipe.scoring": ("view",),
}


def main() -> None:
    """Play every method, number of labels and seed that the results file does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="landmarks:data/flies-raw")
    parser.add_argument("--data", default="data/flies")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--labelled", default=",".join(map(str, LABELLED)))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--views", type=int, default=8, help="views of the second scores")
    parser.add_argument("--set", action="append", default=[], help="override of all runs")
    parser.add_argument("--name", default="", help="suffix of the rows' names, for --set")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/landmarks.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    common = [
        f"recipe.images.size={args.size}",
        f"recipe.training.precision={args.precision}",
        f"recipe.labelling.precision={args.precision}",
    ]
    for seed in map(int, args.seeds.split(",")):
        for labelled in map(int, args.labelled.split(",")):
            data = f"{args.data}-{labelled}-{seed}"
            split = PrepareSpec(labelled=labelled, seed=seed)
            if already_prepared(args.source, Path(data), split) is None:
                prepare(args.source, Path(data), split)
            for method in args.methods.split(","):
                key = f"{method}{args.name}/{labelled}/{seed}"
                if key not in found:
                    overrides = [*common, *turned(method), *args.set, f"recipe.seed={seed}"]
                    found[key] = play(method, data, overrides, args.views)
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    args.out.write_text(json.dumps(found, indent=1))
                print(key, found[key], flush=True)
    print(table(found))


def turned(method: str) -> list[str]:
    """Overrides that let every view of a method's recipe turn and mirror."""
    training, found = load_method(method).recipe.plain()["training"], []
    for path, names in PARTS.items():
        if training.get(path.rpartition(".")[2], {}) is not None:
            found += [f"{path}.{n}.{k}={v}" for n in names for k, v in TURNED.items()]
    return found


def play(method: str, data: str, overrides: list[str], views: int) -> dict[str, Any]:
    """One run: test scores of its rounds by image and over views, what it delivers, CPU seconds."""
    names = ("nme", "auc", "pck", "failure_rate")
    with tempfile.TemporaryDirectory() as root:
        tree = {
            "name": "landmarks",
            "data": data,
            "method": method,
            "placement": {"engine": "local", "threads": 1},
            "tracking": {"wandb": "disabled"},
            "store": f"{root}/store",
            "runs": f"{root}/runs",
        }

        def played(views: int) -> RunRecord:
            config = build_config(tree, [*overrides, f"recipe.scoring.views={views}"])
            return play_run(config, Console(quiet=True), StopRequest(), wait=False)[0]

        began = time.process_time()
        record = played(1)
        cpu_s = time.process_time() - began
        over = played(views)  # trains anew only where other scores roll back other rounds
    precision = [each.precision for each in record.rounds if each.precision is not None]
    return {
        "test": [{n: round(each.test[n], 5) for n in names} for each in record.rounds],
        "best_round": record.best_round,
        "over_views": {n: round(over.rounds[over.best_round].test[n], 5) for n in names},
        "precision": round(statistics.mean(precision), 4) if precision else None,
        "alarms": sum(len(each.alarms) for each in record.rounds),
        "cpu_s": round(cpu_s, 1),
    }


def table(found: dict[str, Any]) -> str:
    """Delivered test error and area, mean over seeds (highest - lowest), in percent; Markdown."""
    counts = sorted({int(key.split("/")[1]) for key in found})
    head = [f"NME, {n} labels | AUC | NME over views | AUC" for n in counts]
    lines = [f"| method | {' | '.join(head)} | CPU s |", "|---" * (4 * len(counts) + 2) + "|"]
    for method in dict.fromkeys(key.split("/")[0] for key in found):
        cells, cpu = [], []
        for labelled in counts:
            runs = [run for key, run in found.items() if key.startswith(f"{method}/{labelled}/")]
            cpu += [run["cpu_s"] for run in runs]
            alone = [run["test"][run["best_round"]] for run in runs]
            over = [run["over_views"] for run in runs if "over_views" in run]
            for scores, name in product((alone, over), ("nme", "auc")):
                values = [100 * each[name] for each in scores]
                spread = f" ({max(values) - min(values):.1f})" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.2f}{spread}" if values else "-")
        lines.append(f"| `{method}` | {' | '.join(cells)} | {statistics.mean(cpu):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
