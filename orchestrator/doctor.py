"""`selftrain doctor`: what this machine and its cluster have, and what is amiss."""

import os
import shutil
from pathlib import Path

import torch

from orchestrator import ray_session
from orchestrator.config import Placement
from orchestrator.errors import SelftrainError
from orchestrator.preflight import faults_of_nodes, told
from orchestrator.store.record import versions
from orchestrator.store.store import Store
from trainables.spec import Spec

LEAST_FREE_BYTES = 2 << 30


class Finding(Spec):
    """One thing that was looked at."""

    name: str
    """What was looked at."""
    ok: bool
    """Whether it is as it should be."""
    found: str
    """What was found, and what to do if it is amiss."""


def examine(store: str, placement: Placement, *, with_ray: bool) -> list[Finding]:
    """Everything that a run needs, looked at."""
    found = [
        Finding(name=f"version of {k}", ok=v != "not installed", found=v)
        for k, v in versions().items()
    ]
    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    found.append(Finding(name="GPUs here", ok=True, found=names or "none; the CPU is used"))
    found += [_store(store), _disk(store), _wandb()]
    if with_ray:
        found += _ray(store, placement)
    return found


def _store(root: str) -> Finding:
    try:
        Store(root).check_writable()
    except SelftrainError as error:
        return Finding(name="store", ok=False, found=str(error))
    return Finding(name="store", ok=True, found=f"{Store(root).root} can be written and read")


def _disk(root: str) -> Finding:
    place = Path(root) if "://" not in root else Path()
    while not place.exists():
        place = place.absolute().parent
    free = shutil.disk_usage(place).free
    return Finding(
        name="free disk",
        ok=free >= LEAST_FREE_BYTES,
        found=f"{free / 2**30:.1f} GiB at {place}; runs want at least 2 GiB",
    )


def _wandb() -> Finding:
    key = "a key is set" if os.environ.get("WANDB_API_KEY") else "no key in the environment"
    mode = os.environ.get("WANDB_MODE", "not set; a config's tracking.wandb decides")
    return Finding(name="W&B", ok=True, found=f"WANDB_MODE {mode}; {key}; offline by default")


def _ray(store: str, placement: Placement) -> list[Finding]:
    try:
        cluster = ray_session.connect(placement)
    except SelftrainError as error:
        return [Finding(name="Ray", ok=False, found=str(error))]
    try:
        size = f"{cluster.nodes} nodes, {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs"
        auth = os.environ.get("RAY_AUTH_MODE", "not set (Ray's default)")
        return [
            Finding(name="Ray", ok=True, found=size),
            Finding(name="Ray's auth mode", ok=True, found=auth),
            _store_from_nodes(store),
        ]
    finally:
        ray_session.disconnect(cluster)


def _store_from_nodes(root: str) -> Finding:
    """Whether every node writes to the store, reads back and deletes."""
    try:
        faults = faults_of_nodes(root)
    except (SelftrainError, OSError) as error:
        return Finding(name="store from every node", ok=False, found=str(error))
    found = (
        f"not usable from {told(faults)}; put the store on storage that all nodes share"
        if faults
        else "every node writes it, reads it and deletes"
    )
    return Finding(name="store from every node", ok=not faults, found=found)
