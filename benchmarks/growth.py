"""How cost grows with the pool: 10^4, 10^5 and 10^6 synthetic rows, labelled, selected, audited.

    python benchmarks/growth.py --rows 10000,100000,1000000 --engine ray
    python benchmarks/growth.py --rows "" --trials 1000

The pool is written straight into the tables of a data set, as a pipeline of one's own would: images
are drawn by a seed, 28x28 grey, 4,096 rows a fragment. One short round, then labelling, selecting
and auditing of the whole pool by the ray engine (two label actors of a thread each) or in this
process. Each size is a process of its own, so that its peak memory is its own: with the ray engine
that of the driver alone. ``--trials`` proposes so many trials of a sweep and tells made-up values,
to show what the study itself costs as it grows.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.console import Console
from orchestrator.data.dataset import MANIFEST, Manifest, PrepareSpec, Split
from orchestrator.loading import build_config
from orchestrator.session import play_run
from orchestrator.signals import StopRequest
from orchestrator.store.record import FileEntry
from orchestrator.store.store import Store, entry_of
from orchestrator.sweep.space import resolve_space
from orchestrator.sweep.study import JOURNAL, Study
from trainables import schemas
from trainables.images import encode
from trainables.tasks.kinds import Classes

EVERY = 100
"""Trials that are timed together."""
FRAGMENT, SIZE, CLASSES, DISTINCT = 4096, 28, 10, 512


def main() -> None:
    """Measure each size in a process of its own; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--engine", choices=("ray", "local"), default="ray")
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        sys.stdout.write(json.dumps(measure(args.one, args.engine)) + "\n")
        return
    if args.trials:
        propose(args.trials)
    if not args.rows:
        return
    print(
        "| pool rows | fragments | label, us a row | its start and end, s | select, us a row | "
        "audit, us a row | records, bytes a fragment | peak memory |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for rows in map(int, args.rows.split(",")):
        command = [sys.executable, __file__, "--one", str(rows), "--engine", args.engine]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        names = ("label", "start", "select", "audit")
        cells = [f"{-(-rows // FRAGMENT)}", *(f"{found[name]:.1f}" for name in names)]
        cells += [f"{found['record']:.0f}", f"{found['mib']:,.0f} MiB"]
        print(f"| {rows:,} | {' | '.join(cells)} |", flush=True)


def propose(trials: int) -> None:
    """Print what proposing a trial and telling its value costs, and the bytes that they take."""
    tree = {
        "name": "growth",
        "data": "/nowhere",
        "method": "default",
        "sweep": {"fragments": ["selection", "curriculum", "training"], "trials": trials},
    }
    config = build_config(tree)
    assert config.sweep is not None  # noqa: S101 - it stands above
    print("| trials | a proposal and its value, ms | journal, bytes a trial |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        study = Study(Path(root), "growth", config.sweep, resolve_space(config))
        stream, began = np.random.default_rng(0), time.perf_counter()
        for number in range(1, trials + 1):
            proposal = study.next()
            study.report(proposal.number, 0, float(stream.random()))
            study.complete(proposal.number, [float(stream.random())])
            if number % EVERY == 0:
                ms = 1e3 * (time.perf_counter() - began) / EVERY
                size = Path(root, JOURNAL).stat().st_size / number
                print(f"| {number - EVERY + 1} to {number} | {ms:.0f} | {size:,.0f} |", flush=True)
                began = time.perf_counter()


def measure(rows: int, engine: str) -> dict[str, float]:
    """Microseconds a row of each kind of step, and this process's peak memory in MiB.

    Labelling is timed from the first shard's beginning to the last one's end; what its step takes
    beyond that (starting Ray and the actors, writing the record) is told in seconds.
    """
    with tempfile.TemporaryDirectory() as root:
        write_pool(Path(root, "data"), rows)
        tree = {
            "name": "growth",
            "data": f"{root}/data",
            "method": "default",
            "recipe": {"training": {"steps": {"first_round": 20}}, "policy": {"num_rounds": 1}},
            "placement": {"engine": engine, "label_actors": 2, "threads": 1},
            "tracking": {"wandb": "disabled"},
            "store": f"{root}/store",
            "runs": f"{root}/runs",
        }
        record, _ = play_run(build_config(tree), Console(quiet=True), StopRequest(), wait=False)
        steps = record.rounds[0].steps
        label = steps["label"]
        shards_s = Store(tree["store"]).record("label", label.address).metrics["work_s"]
        (stored,) = Path(root, "store", "steps", "label").rglob("record.json")
        num_bytes = stored.stat().st_size
    found = {name: 1e6 * steps[name].work_s / rows for name in ("select", "audit")}
    return found | {
        "label": 1e6 * shards_s / rows,
        "start": label.work_s - shards_s,
        "record": num_bytes / -(-rows // FRAGMENT),
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def write_pool(root: Path, rows: int) -> None:
    """A data set of so many pool rows; no more than a fragment is held at a time."""
    draw = np.random.default_rng(0)
    images = [encode(draw.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)) for _ in range(DISTINCT)]
    (root / "pool").mkdir(parents=True)
    pool = []
    for number, first in enumerate(range(0, rows, FRAGMENT)):
        names = [f"row-{i:010d}" for i in range(first, min(rows, first + FRAGMENT))]
        contents = [images[i % DISTINCT] for i in range(len(names))]
        table = pa.table([pa.array(names), pa.array(contents)], schema=schemas.pool())
        pool.append(_write(root, f"pool/part-{number:05d}.parquet", table))
    splits = {}
    for name in ("labelled", "validation", "test"):
        labels = np.arange(40, dtype=np.int32) % CLASSES
        names = [f"{name}-{i:02d}" for i in range(40)]
        columns = [pa.array(names), pa.array(images[:40]), pa.array(labels)]
        table = pa.table(columns, schema=schemas.labelled())
        splits[name] = Split(files=(_write(root, f"{name}.parquet", table),))
    manifest = Manifest(
        name="synthetic",
        source="benchmarks/growth.py",
        task=Classes(num_classes=CLASSES),
        classes=tuple(map(str, range(CLASSES))),
        channels=1,
        size=SIZE,
        prepared=PrepareSpec(),
        pool=Split(files=tuple(pool)),
        **splits,
    )
    (root / MANIFEST).write_text(manifest.model_dump_json())


def _write(root: Path, name: str, table: pa.Table) -> FileEntry:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    (root / name).write_bytes(sink.getvalue())
    return entry_of(name, sink.getvalue(), table.num_rows)


if __name__ == "__main__":
    main()
