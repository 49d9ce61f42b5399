"""The batch script: a Ray cluster over the nodes of one Slurm job, and the driver on the first."""

import shlex

from cluster.job import Job
from orchestrator.errors import Interrupted
from orchestrator.launch import SlurmPlace

BASICS = ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER")
"""Passed besides the variables that the launch names; everything else stays here."""

BODY = r"""
# shellcheck disable=SC2329    # traps call the functions
set -uo pipefail
export SLURM_EXPORT_ENV=ALL        # srun hands on what this script has
# Since Slurm 22.05 srun doesn't take the CPUs of a task from its job.
export SRUN_CPUS_PER_TASK="${{SLURM_CPUS_PER_TASK:-1}}"
export PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S={grace}
{setup}
# A block of 100 ports by job id, below the ports that systems hand out: several jobs share a host.
base=$((12000 + SLURM_JOB_ID % 200 * 100))
folder="/tmp/ray-$SLURM_JOB_ID"    # short: sockets lie below it
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=$(hostname -I | cut -d ' ' -f 1)    # of the first node: this script runs there
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

ports=(--node-manager-port=$((base + 1)) --object-manager-port=$((base + 2))
  --dashboard-agent-listen-port=$((base + 3)) --dashboard-agent-grpc-port=$((base + 4))
  --runtime-env-agent-port=$((base + 5)) --metrics-export-port=$((base + 6))
  --min-worker-port=$((base + 10)) --max-worker-port=$((base + 99)))
size=({size} --disable-usage-stats --block)
ray=({python} -m ray.scripts.scripts start)
steps=()
driver=''
caught=0
limit=0
stopped=0

on_limit() {{ caught=1; limit=1; [ -z "$driver" ] || kill -TERM "$driver"; }}
on_stop() {{ caught=1; stopped=1; [ -z "$driver" ] || kill -TERM "$driver"; }}
leave() {{
  [ "${{#steps[@]}}" -eq 0 ] || kill -TERM "${{steps[@]}}" 2>/dev/null
  wait
  srun --ntasks-per-node=1 rm -rf "$folder"
}}
trap on_limit USR1
trap on_stop TERM INT
trap leave EXIT

srun --nodes=1 --ntasks=1 --nodelist="$head" "${{ray[@]}}" --head \
  --node-ip-address="$ip" --port="$base" --ray-client-server-port=$((base + 7)) \
  --dashboard-host=127.0.0.1 --dashboard-port=$((base + 8)) --temp-dir="$folder" \
  "${{ports[@]}}" "${{size[@]}}" &
steps+=("$!")
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 --exclude="$head" \
    "${{ray[@]}}" --address="$ip:$base" "${{ports[@]}}" "${{size[@]}}" &
  steps+=("$!")
fi
export RAY_ADDRESS="$ip:$base"
{python} -m cluster.await_nodes "$SLURM_JOB_NUM_NODES" || exit 3

code={again}
if [ "$((limit + stopped))" -eq 0 ]; then
  {command} &
  driver=$!
  wait "$driver"
  code=$?
  while [ "$caught" -eq 1 ]; do    # the wait ended with a signal to this script
    caught=0
    wait "$driver"
    code=$?
  done
fi
echo "the driver ended with exit code $code"
# {again}: interrupted, resumable; 143: ended by the signal before it could listen
if [ "$code" -eq {again} ] || [ "$code" -eq 143 ]; then
  if [ "$stopped" -eq 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {most} ]; then
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
exit "$code"
"""


def script_of(job: Job, log: str) -> str:
    """The script for sbatch; `log` is the file of everything it prints."""
    place = job.launch.slurm
    command = job.command(str(job.file.absolute()), moved=False)
    body = BODY.format(
        grace=job.launch.grace_s,
        setup="".join(f"{line}\n" for line in place.setup),
        size=f"--num-cpus={place.cpus} --num-gpus={place.gpus}",
        python=shlex.quote(job.launch.python),
        command=shlex.join(command),
        again=Interrupted.exit_code,
        most=place.most_requeues,
    )
    return "#!/bin/bash\n" + "".join(f"#SBATCH {line}\n" for line in directives(job, log)) + body


def directives(job: Job, log: str) -> list[str]:
    """The options of sbatch."""
    place = job.launch.slurm
    given = {
        "partition": place.partition,
        "account": place.account,
        "mem": place.memory,
        "gpus-per-node": place.gpus or None,
    }
    return [
        f"--job-name={job.id}",
        f"--nodes={place.nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={place.cpus}",
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
        f"--time={time_of(place)}",
        f"--signal=B:USR1@{job.launch.grace_s}",
        "--requeue",
        "--open-mode=append",
        f"--output={log}",
        f"--export={','.join(dict.fromkeys((*BASICS, *job.launch.env)))}",
        *place.options,
    ]


def time_of(place: SlurmPlace) -> str:
    """The limit as Slurm writes it: days-hours:minutes:seconds."""
    minutes, seconds = divmod(place.limit_s, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{seconds:02}"
