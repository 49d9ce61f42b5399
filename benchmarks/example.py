"""What one whole run costs and reaches: CPU seconds of the process tree, wall time, memory.

    python benchmarks/example.py examples/fashion_mnist.yaml --seeds 0,1,2 [--set A=B]

Each seed is a run of `selftrain run` in a process of its own with a fresh store.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from rounds import Peak


def main() -> None:
    """Play the config once for each seed and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    args = parser.parse_args()
    for seed in args.seeds.split(","):
        root = Path(tempfile.mkdtemp())
        command = [sys.executable, "-m", "orchestrator", "run", args.config, "--json"]
        changes = [f"recipe.seed={seed}", f"store={root}/store", f"runs={root}/runs", *args.changes]
        for change in changes:
            command += ["--set", change]
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = Peak(process.pid)
        answer = json.loads(process.communicate()[0])
        wall_s = time.perf_counter() - started
        peak.end()
        tests = [each["test"]["accuracy"] for each in answer["rounds"]]
        print(
            f"seed {seed}: test {' '.join(f'{value:.4f}' for value in tests)}; "
            f"{wall_s:.0f} s wall, {peak.cpu_s:.0f} CPU s, peak {peak.bytes / 2**30:.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
