"""CIFAR-10 with 4,000 and 250 labels on one GPU: accuracy by round, and seconds.

    selftrain prepare parquet:data/cifar-raw --out data/cifar-4000 --labelled-per-class 400
              --validation 1000 --seed 0
    python benchmarks/weights.py lite0 lite2
    python benchmarks/cifar10.py --runs curriculum_labeling,averaged_views [--seed 0] [--share 1.0]

`curriculum_labeling` and `averaged_views` train a WRN-28-2 from random weights. Runs that end in
`_lite0` or `_lite2` start from weights trained on ImageNet (EfficientNet-Lite0 and -Lite2,
4.7 and 6.1 million parameters) on images scaled to 160 and 224 pixels. Those that end with `_250`
keep 25 labels a class of the 4,000 and put the others into the pool. ``--share`` multiplies the
steps of every round; a run whose ``--minutes`` are over stops, and its finished rounds are kept.
"""

from orchestrator.environment import prepare_environment

prepare_environment()

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from orchestrator.console import Console
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import already_prepared, prepare
from orchestrator.errors import Interrupted
from orchestrator.loading import build_config
from orchestrator.runs import load_run
from orchestrator.session import play_run
from orchestrator.signals import StopRequest

WRN: dict[str, Any] = {"student": {"kind": "wide_resnet", "depth": 28, "width": 2}}
LITE: dict[str, Any] = {
    "student": {
        "kind": "timm",
        "name": "tf_efficientnet_lite0",
        "checkpoint": "data/lite0/tf_efficientnet_lite0.safetensors",
        "new_classifier": True,
        "input_size": 160,
    },
    "optimiser": {"learning_rate": 0.03, "weight_decay": 1e-4, "warmup_share": 0.1},
    "batch": {"labelled": 64, "labelled_alone": 128, "selected": 192},
}
LITE2: dict[str, Any] = LITE | {
    "student": LITE["student"]
    | {
        "name": "tf_efficientnet_lite2",
        "checkpoint": "data/lite2/tf_efficientnet_lite2.safetensors",
        "input_size": 224,
    },
    "objective": {"strong": {"saturation": 0.4, "hue": 0.05}},
}
RUNS: dict[str, dict[str, Any]] = {
    "curriculum_labeling": WRN
    | {
        "method": "curriculum_labeling",
        "batch": {"labelled": 128, "labelled_alone": 512, "selected": 896},
        "steps": {"first_round": 1500, "base": 2300},
        "optimiser": {"learning_rate": 0.25, "warmup_share": 0.05},
    },
    "averaged_views": WRN
    | {
        "method": "averaged_views",
        "batch": {"labelled": 64, "labelled_alone": 256, "selected": 448},
        "steps": {"first_round": 1500, "base": 1300},
        "optimiser": {"learning_rate": 0.15, "warmup_share": 0.05},
    },
    "averaged_views_lite0": LITE
    | {"method": "averaged_views", "steps": {"first_round": 600, "base": 800}},
    "averaged_views_lite0_250": LITE
    | {
        "method": "averaged_views",
        "batch": {"labelled": 32, "labelled_alone": 64, "selected": 224},
        "steps": {"first_round": 300, "base": 800},
        "labels": 25,
    },
    "averaged_views_lite2": LITE2
    | {
        "method": "averaged_views",
        "steps": {"first_round": 600, "base": 700},
        "policy": {"num_rounds": 6},
    },
    "curriculum_labeling_lite2": LITE2
    | {
        "method": "curriculum_labeling",
        "optimiser": LITE["optimiser"] | {"learning_rate": 0.05},
        "objective": LITE2["objective"] | {"mixup_alpha": 0.5, "labelled": {"view": "weak"}},
        "steps": {"first_round": 600, "base": 500, "passes_over_selection": 2.0},
        "views": 4,
        "policy": {"label_last": False},
    },
}


def main() -> None:
    """Play the runs, one after the other, and keep what each gave."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/cifar-4000")
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--minutes", type=float, help="stop a run after so many minutes")
    parser.add_argument("--set", action="append", default=[], help="override of all runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cifar10.json"))
    args = parser.parse_args()
    for name in args.runs.split(","):
        found = play(RUNS[name], args.data, args.seed, args.share, args.minutes, args.set)
        kept = json.loads(args.out.read_text()) if args.out.exists() else {}
        kept[f"{name}/{args.seed}"] = found
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(kept, indent=1))
        print(name, json.dumps(found), flush=True)


def play(
    run: dict[str, Any],
    data: str,
    seed: int,
    share: float,
    minutes: float | None,
    overrides: list[str],
) -> dict[str, Any]:
    """One run: test accuracy by round, seconds by kind of step, quality of the labels."""
    if "labels" in run:
        data = fewer(data, run["labels"], seed)
    steps = {
        name: share * number if isinstance(number, float) else max(1, round(share * number))
        for name, number in run["steps"].items()
    }
    views = {"views": run["views"]} if "views" in run else {}
    with tempfile.TemporaryDirectory() as root:
        tree = {
            "name": "cifar10",
            "data": data,
            "method": run["method"],
            "recipe": {
                "seed": seed,
                "student": run["student"],
                "training": {
                    "precision": "bfloat16",
                    "batch": run["batch"],
                    "steps": steps,
                    "optimiser": run["optimiser"],
                    "objective": run.get("objective", {}),
                },
                "labelling": {"precision": "bfloat16"} | views,
                "scoring": views,
                "policy": run.get("policy", {}),
            },
            "placement": {"engine": "local", "threads": 4},
            "tracking": {"wandb": "disabled"},
            "store": f"{root}/store",
            "runs": f"{root}/runs",
        }
        began, stop = time.perf_counter(), StopRequest()
        watch = threading.Timer(60 * (minutes or 0), stop.ask, ("time is up",))
        if minutes:
            watch.start()
        try:
            record, _ = play_run(
                build_config(tree, overrides), Console(quiet=False), stop, wait=False
            )
        except Interrupted:
            record = load_run(next(Path(root, "runs").iterdir()))
        finally:
            watch.cancel()
        seconds = time.perf_counter() - began
    rounds = [each for each in record.rounds if each.test is not None]
    by_kind: dict[str, float] = {}
    for each in record.rounds:
        for step in each.steps.values():
            by_kind[step.kind] = by_kind.get(step.kind, 0.0) + step.seconds
    return {
        "test": [round(each.test["accuracy"], 4) for each in rounds if each.test],
        "validation": [round(each.validation["accuracy"], 4) for each in rounds],
        "best_round": record.best_round,
        "label_precision": [shortened(each.precision) for each in rounds],
        "alarms": [list(each.alarms) for each in rounds],
        "seconds": round(seconds, 1),
        "seconds_by_step": {kind: round(each, 1) for kind, each in by_kind.items()},
        "steps": steps,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "peak_gib": peak_gib(),
    }


def fewer(data: str, per_class: int, seed: int) -> str:
    """The same rows with fewer labels."""
    path, source = Path(f"{data}-{per_class}"), f"prepared:{data}"
    split = PrepareSpec(labelled_per_class=per_class, validation=1000, seed=seed)
    if already_prepared(source, path, split) is None:
        prepare(source, path, split)
    return str(path)


def shortened(share: float | None) -> float | None:
    """A share with as many digits as the table may need."""
    return None if share is None else round(share, 4)


def peak_gib() -> float | None:
    """Largest memory of the GPU that tensors filled so far in this process, in GiB."""
    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


if __name__ == "__main__":
    main()
