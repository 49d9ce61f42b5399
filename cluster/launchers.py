"""The launcher of each place."""

from cluster.launcher import Launcher, Place
from cluster.ray_launcher import RayLauncher
from orchestrator.launch import Launch


def launcher_for(place: Place, launch: Launch, *, again: bool = False) -> Launcher:
    """The launcher of a place; `again` starts anew what has finished."""
    return RayLauncher(launch.ray, launch.grace_s, again)
