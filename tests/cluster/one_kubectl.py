"""kubectl for one RayJob, kept in a file beside it: what a cluster without an operator would do.

It stands in for the command, so that what is sent to it can be read; statuses are set by tests.
"""

import json
import sys
from pathlib import Path

import yaml

HERE = Path(sys.argv[0]).absolute().parent
JOB = HERE / "rayjob.json"


def main(arguments: list[str]) -> None:
    with (HERE / "calls.log").open("a") as log:
        log.write(" ".join(arguments) + "\n")
    verb = arguments[2]
    job = json.loads(JOB.read_text()) if JOB.exists() else None
    if verb == "apply":
        (found,) = (m for m in yaml.safe_load_all(sys.stdin.read()) if m["kind"] == "RayJob")
        found["status"] = {"jobDeploymentStatus": "Initializing"}
        JOB.write_text(json.dumps(found))
    elif verb == "get" and job:
        sys.stdout.write(json.dumps(job))
    elif verb == "patch" and job:
        job["spec"] |= json.loads(arguments[-1])["spec"]
        job["status"] = {"jobDeploymentStatus": "Suspended"}
        JOB.write_text(json.dumps(job))
    elif verb == "delete":
        JOB.unlink()
    elif verb == "logs":
        sys.stdout.write("round 0  train\n")


if __name__ == "__main__":
    main(sys.argv[1:])
