"""Labelling speed of the ray engine on a prepared pool, against the bare forward pass.

    python benchmarks/labelling.py --data data/fashion [--actors 2] [--repeat 3]

Bare: images decoded and in memory, forward passes in this process with as many threads as there
are actors. Ours: the label step of the ray engine, which also reads Parquet, decodes PNG and writes
the shards; its start-up (Ray's actors importing torch and loading the teacher) is told apart.
"""

from orchestrator.environment import prepare_environment

prepare_environment()

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from orchestrator.data.dataset import Dataset
from orchestrator.engines.ray_engine import RayEngine
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.jobs.predicting import predict
from orchestrator.jobs.training import load_teacher
from orchestrator.loading import build_config
from orchestrator.session import make_engine
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from orchestrator.watch import Silent


def main() -> None:
    """Measure and print one line of a table for each repetition, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/fashion")
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    tree = {
        "name": "bench",
        "data": args.data,
        "store": str(root),
        "method": "supervised",
        "placement": {"label_actors": args.actors, "threads": args.actors},
        "recipe": {"training": {"steps": {"first_round": 2}}},
    }
    config, data = build_config(tree), Dataset(args.data)
    store, steps = Store(root), Steps(config, data)
    engine = make_engine(config.placement)
    assert isinstance(engine, RayEngine)  # noqa: S101 - narrowing
    trained = steps.train(0, selection=None, num_selected=0, start=None)
    store.once(trained.identity, lambda _: engine.train(trained.job, Silent()), told=print)
    label = steps.label(trained.address)
    model = load_teacher(store, label.job, trained.address).to(memory_format=torch.channels_last)
    fragments = [decoded_fragment(data, f, label.job.form) for f in data.manifest.pool.files]
    rows = sum(len(f.example_ids) for f in fragments)
    ratios = []
    for attempt in range(args.repeat):
        began = time.perf_counter()
        for fragment in fragments:
            predict(
                model, fragment, label.job.labelling, 512, torch.device("cpu"), data.num_classes
            )
        bare_s = time.perf_counter() - began
        began = time.perf_counter()
        reports = list(engine.label(label.job, range(len(fragments)), Silent()))
        whole_s = time.perf_counter() - began
        work_s = max(r.ended_at for r in reports) - min(r.began_at for r in reports)
        ratios.append(bare_s / work_s)
        print(
            f"{attempt}: bare {rows / bare_s:,.0f} rows/s; ours {rows / work_s:,.0f} rows/s "
            f"({ratios[-1]:.2f} of bare), start-up and end {whole_s - work_s:.1f} s"
        )
        shutil.rmtree(root / "steps" / "label", ignore_errors=True)
        shutil.rmtree(root / "work", ignore_errors=True)
    print(
        f"median {statistics.median(ratios):.2f} of bare over {args.repeat} runs, "
        f"{rows:,} rows, {args.actors} actors; spread {np.ptp(ratios):.2f}"
    )
    engine.close()
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
