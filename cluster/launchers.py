"""The launcher of each place."""

from pathlib import Path

from cluster.kube_launcher import KubeLauncher
from cluster.launcher import Launcher
from cluster.local_launcher import LocalLauncher
from cluster.ray_launcher import RayLauncher
from cluster.slurm_launcher import SlurmLauncher
from orchestrator.launch import Launch, Place


def launcher_for(place: Place, launch: Launch, runs: Path, *, again: bool = False) -> Launcher:
    """The launcher of a place; `runs` is the folder of runs, `again` repeats what has finished."""
    if place == "ray":
        return RayLauncher(launch.ray, launch.grace_s, again)
    if place == "kuberay":
        return KubeLauncher(launch.kuberay, launch.grace_s, again)
    if place == "slurm":
        return SlurmLauncher(launch.grace_s, runs)
    return LocalLauncher(launch.grace_s, runs)
