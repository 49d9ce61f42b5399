"""Slurm as far as one node needs it: linked as sbatch, squeue, scancel, scontrol, srun, hostname.

It stands in for the commands of a cluster, so that the batch script itself runs as it is.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).absolute().parent
JOB = HERE / "job.json"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def srun(arguments: list[str]) -> None:
    command = arguments[next(i for i, text in enumerate(arguments) if text[0] != "-") :]
    os.execvp(command[0], command)


def hostname(arguments: list[str]) -> None:
    say("127.0.0.1")


def scontrol(arguments: list[str]) -> None:
    if arguments[:2] == ["show", "hostnames"]:
        say(arguments[2])
    elif arguments[0] == "requeue":
        (HERE / "requeued").write_text(arguments[1])


def sbatch(arguments: list[str]) -> None:
    script = Path(arguments[-1]).read_text()
    name, output, names = (
        re.search(rf"#SBATCH --{option}=(.*)", script)[1]
        for option in ("job-name", "output", "export")
    )
    number = str(os.getpid())
    passed = {name: os.environ[name] for name in names.split(",") if name in os.environ}
    given = {
        "SLURM_JOB_ID": number,
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
    }
    with Path(output).open("a") as log:
        process = subprocess.Popen(
            ["bash", arguments[-1]],
            env=passed | given,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    JOB.write_text(json.dumps({"number": number, "name": name, "pid": process.pid}))
    say(number)


def squeue(arguments: list[str]) -> None:
    job = json.loads(JOB.read_text()) if JOB.exists() else None
    if job and f"--name={job['name']}" in arguments and runs(job["pid"]):
        say(f"{job['number']} RUNNING")


def scancel(arguments: list[str]) -> None:
    assert arguments[:2] == ["--batch", "--signal=TERM"]
    os.kill(json.loads(JOB.read_text())["pid"], signal.SIGTERM)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


if __name__ == "__main__":
    globals()[Path(sys.argv[0]).name](sys.argv[1:])
