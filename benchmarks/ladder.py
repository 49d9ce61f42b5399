"""Methods on frozen features of CIFAR-10: 40, 250 and 1,000 labels, and a zero-shot source.

    python benchmarks/weights.py lite0
    python benchmarks/ladder.py --draw data/cifar-raw
    selftrain prepare parquet:data/cifar-sample --out data/cifar-images --validation 1000
    selftrain embed data/cifar-images --out data/cifar-features --model tf_efficientnet_lite0
              --checkpoint data/lite0/tf_efficientnet_lite0.safetensors --size 128
    python benchmarks/ladder.py --data data/cifar-features
              --checkpoint data/lite0/tf_efficientnet_lite0.safetensors --seeds 0,1,2

``--draw`` takes 12,000 training rows and 3,000 test rows of the 60,000, the same for all seeds.
Each seed draws its own labelled rows from their features. All methods train the same network, a
hidden layer of 256 units; a run is seconds of one thread. The zero-shot source is the frozen
network's own ImageNet classifier, its classes mapped to those of CIFAR-10: `zero-shot+` lets it
label the pool before round 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file
from torch import Tensor

from orchestrator.console import Console
from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import already_prepared, prepare
from orchestrator.loading import build_config
from orchestrator.session import play_run
from orchestrator.signals import StopRequest

SAMPLE = {"train.parquet": 12_000, "test.parquet": 3_000}
RUNGS = (4, 25, 100)
METHODS = (
    "supervised",
    "pseudo_label",
    "curriculum_labeling",
    "class_balanced_curriculum",
    "noisy_student",
    "p2ot",
    "sinkhorn_allocation",
    "darp",
    "csa",
    "gce",
    "soft_relabelling",
    "fixmatch",
    "flexmatch",
    "freematch",
    "softmatch",
    "default",
)
OVERRIDES = [
    "recipe.student={kind: mlp, hidden: 256, dropout: 0.5}",
    "recipe.training.optimiser={learning_rate: 0.03, weight_decay: 0.001}",
    "recipe.training.objective.mixup_alpha=0",
]
IMAGENET = (  # airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck
    (404, 895),
    (436, 468, 511, 609, 627, 656, 661, 751, 817),
    (*range(7, 25), *range(80, 101), *range(127, 147)),
    tuple(range(281, 286)),
    (*range(348, 354),),
    tuple(range(151, 269)),
    (30, 31, 32),
    (339, 340),
    (403, 472, 484, 510, 554, 576, 625, 628, 724, 780, 814, 833, 871, 914),
    (407, 555, 569, 675, 717, 734, 864, 867),
)
CHECKPOINT = Path("data/lite0/tf_efficientnet_lite0.safetensors")


@cache
def _classifier() -> tuple[Tensor, Tensor]:
    weights = load_file(CHECKPOINT)
    return weights["classifier.weight"], weights["classifier.bias"]


def zero_shot(features: Tensor) -> Tensor:
    """The frozen network's ImageNet logits [B, 1000] of its features [B, D, 1, 1]."""
    weight, bias = _classifier()
    return features.flatten(1) @ weight.T + bias


def main() -> None:
    """Play every method, rung and seed that the results file does not hold; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/cifar-features")
    parser.add_argument("--draw", type=Path, help="only draw rows of this folder")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join([*METHODS, "zero-shot+default"]))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ladder.json"))
    args = parser.parse_args()
    if args.draw is not None:
        draw(args.draw, Path("data/cifar-sample"))
        return
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    seeds = [int(seed) for seed in args.seeds.split(",")]
    for rung in RUNGS:
        for seed in seeds:
            data = f"{args.data}-{rung}-{seed}"
            split = PrepareSpec(
                labelled_per_class=rung, validation=1000, seed=seed, fragment_rows=1024
            )
            source = f"prepared:{args.data}"
            if already_prepared(source, Path(data), split) is None:
                prepare(source, Path(data), split)
            for method in args.methods.split(","):
                key = f"{method}/{rung}/{seed}"
                if key not in found:
                    found[key] = play(method, data, seed)
                    args.out.parent.mkdir(parents=True, exist_ok=True)
                    args.out.write_text(json.dumps(found, indent=1))
                print(key, found[key], flush=True)
    print(table(found))


def draw(source: Path, out: Path) -> None:
    """Write some rows of each file of ``source``, drawn by a fixed seed, to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in SAMPLE.items():
        table = pq.read_table(source / name)
        drawn = np.random.default_rng(0).permutation(table.num_rows)[:rows]
        pq.write_table(table.take(np.sort(drawn)), out / name)


def play(method: str, data: str, seed: int) -> dict[str, Any]:
    """One run: test accuracy by round, the delivered round, precision of labels, CPU seconds."""
    foreign = method.startswith("zero-shot+")
    overrides = [*OVERRIDES, f"recipe.seed={seed}"]
    if foreign:
        target = "{kind: callable, target: 'benchmarks.ladder:zero_shot', classes: "
        overrides.append(
            f"recipe.labelling.foreign=[{target}{json.dumps([list(c) for c in IMAGENET])}}}]"
        )
    with tempfile.TemporaryDirectory() as root:
        tree = {
            "name": "ladder",
            "data": data,
            "method": method.removeprefix("zero-shot+"),
            "placement": {"engine": "local", "threads": 1},
            "tracking": {"wandb": "disabled"},
            "store": f"{root}/store",
            "runs": f"{root}/runs",
        }
        began = time.process_time()
        record, _ = play_run(
            build_config(tree, overrides), Console(quiet=True), StopRequest(), wait=False
        )
    precision = [each.precision for each in record.rounds if each.precision is not None]
    return {
        "test": [each.test["accuracy"] for each in record.rounds],
        "delivered": record.rounds[record.best_round or 0].test["accuracy"],
        "precision": statistics.mean(precision) if precision else None,
        "alarms": sum(len(each.alarms) for each in record.rounds),
        "cpu_s": round(time.process_time() - began, 1),
    }


def table(found: dict[str, Any]) -> str:
    """Delivered test accuracy, mean over seeds (highest - lowest), by rung; Markdown."""
    header = [f"{10 * rung} labels" for rung in RUNGS]
    lines = [
        f"| method | {' | '.join(header)} | CPU s |",
        "|---" * (len(RUNGS) + 2) + "|",
    ]
    for method in dict.fromkeys(key.split("/")[0] for key in found):
        cells, cpu = [], []
        for rung in RUNGS:
            runs = [run for key, run in found.items() if key.startswith(f"{method}/{rung}/")]
            tests = [100 * run["delivered"] for run in runs]
            cells.append(
                f"{statistics.mean(tests):.1f} ({max(tests) - min(tests):.1f})" if tests else "-"
            )
            cpu += [run["cpu_s"] for run in runs]
        lines.append(f"| `{method}` | {' | '.join(cells)} | {statistics.mean(cpu):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
