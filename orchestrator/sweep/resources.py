"""What a trial needs in its hungriest phase, and how many trials a cluster has room for."""

import math
from dataclasses import dataclass

from orchestrator.config import Placement
from orchestrator.errors import InfeasibleError
from orchestrator.ray_session import Cluster


@dataclass(frozen=True)
class Need:
    """CPUs and GPUs of one trial."""

    own_cpus: float
    """CPUs of the trial's own process; 0 if only its workers and actors work."""
    own_gpus: float
    """GPUs, or a share of one, of the trial's own process."""
    cpus: float
    """All CPUs in the hungriest phase."""
    gpus: float
    """All GPUs in the hungriest phase."""


def trial_placement(placement: Placement) -> Placement:
    """The placement of one trial: work that needs no further process is done in the trial's own."""
    actors = placement.label_actors
    if actors is None:
        actors = 2 if placement.train_workers else 0
    alone = placement.train_workers == 0 and actors == 0
    engine = "local" if alone else placement.engine
    return placement.model_copy(update={"label_actors": actors, "engine": engine})


def need_of(placement: Placement, cluster: Cluster) -> Need:
    """What one trial of this placement needs."""
    actors, workers = placement.label_actors or 0, placement.train_workers
    on_gpus = placement.use_gpu is not False and cluster.gpus > 0
    cpus, gpus = placement.cpus_per_worker, placement.gpus_per_worker if on_gpus else 0.0
    alone = int(workers == 0 or actors == 0)
    apart = max(workers, actors)
    return Need(alone * cpus, alone * gpus, (alone + apart) * cpus, (alone + apart) * gpus)


def room_for(need: Need, cluster: Cluster, wanted: int | None) -> int:
    """How many trials run at a time.

    Raises:
        InfeasibleError: Not even one fits, or fewer than were asked for; says what is missing.
    """
    faults = []
    if need.own_cpus > cluster.largest_node_cpus:
        faults.append(
            f"a trial's process needs {need.own_cpus:g} CPUs of one node, the largest node has "
            f"{cluster.largest_node_cpus:g}: lower placement.cpus_per_worker"
        )
    by_cpu = math.floor(cluster.cpus / need.cpus + 1e-9)
    by_gpu = math.floor(cluster.gpus / need.gpus + 1e-9) if need.gpus else by_cpu
    room = min(by_cpu, by_gpu)
    least = wanted or 1
    if room < least:
        short = []
        if by_cpu < least:
            short.append(f"{least * need.cpus:g} CPUs, the cluster has {cluster.cpus:g}")
        if need.gpus and by_gpu < least:
            short.append(f"{least * need.gpus:g} GPUs, the cluster has {cluster.gpus:g}")
        plural = "trials at a time need" if least > 1 else "trial needs"
        faults.append(
            f"{least} {plural} {' and '.join(short)}: lower sweep.concurrent, "
            "placement.train_workers, label_actors, cpus_per_worker or gpus_per_worker"
        )
    if faults:
        raise InfeasibleError("; ".join(faults))
    return wanted or room
