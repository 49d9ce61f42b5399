"""What a round costs beside training and labelling, and the peak memory of everything.

    python benchmarks/rounds.py --data data/fashion [--workers 0] [--actors 2] [--rounds 4]

Plays a run on the ray engine in a process of its own. For each round: its wall time, the seconds
inside the training loop, from the first labelled row to the last shard, and scoring; what is left
is the overhead. Memory is the sum of the proportional set sizes of the whole process tree.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil
import yaml

from orchestrator.runs import load_run
from orchestrator.store.store import Store


def main() -> None:
    """Play one run and print one line for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data/fashion")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=150)
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    tree = {
        "name": "bench",
        "data": args.data,
        "store": str(root / "store"),
        "runs": str(root / "runs"),
        "method": "class_balanced_curriculum",
        "recipe": {
            "training": {"steps": {"first_round": args.steps, "base": args.steps}},
            "policy": {"num_rounds": args.rounds, "start": "warm"},
        },
        "placement": {"train_workers": args.workers, "label_actors": args.actors},
    }
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "orchestrator", "run", str(path), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = Peak(process.pid)
    answer = json.loads(process.communicate()[0])
    peak.end()
    store = Store(root / "store")
    rest = []
    for each in load_run(root / "runs" / answer["run"]).rounds:
        inside = {name: store.record(s.kind, s.address) for name, s in each.steps.items()}
        loop_s = inside["train"].metrics["loop_s"]
        label_s = inside["label"].metrics["work_s"]
        score_s = inside["score"].seconds
        rest.append(each.seconds - loop_s - label_s - score_s)
        print(
            f"round {each.round}: {each.seconds:.1f} s = training {loop_s:.1f} + labelling "
            f"{label_s:.1f} + scoring {score_s:.1f} + rest {rest[-1]:.1f}"
        )
    print(
        f"rest: round 0 (starts Ray) {rest[0]:.1f} s; median of the others "
        f"{statistics.median(rest[1:]):.1f} s; peak memory {peak.bytes / 2**30:.2f} GiB; "
        f"CPU {peak.cpu_s:.0f} s"
    )


class Peak:
    """Samples the memory and the CPU time of a process tree until it is ended."""

    def __init__(self, pid: int) -> None:
        self.bytes, self.cpu_s = 0, 0.0
        self._pid, self._end = pid, threading.Event()
        self._cpu: dict[int, float] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop sampling."""
        self._end.set()
        self._thread.join()
        self.cpu_s = sum(self._cpu.values())

    def _run(self) -> None:
        while not self._end.wait(1.0):
            total = 0
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(self._pid)
                for each in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        total += each.memory_full_info().pss
                        times = each.cpu_times()
                        self._cpu[each.pid] = times.user + times.system
            self.bytes = max(self.bytes, total)


if __name__ == "__main__":
    main()
