"""What a place needs to start a run, and the record of a start; `selftrain run` reads neither."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trainables.spec import Spec

Place = Literal["ray", "kuberay", "slurm", "local"]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
KubeName = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|[KMGT]i?)?$")]
Count = Annotated[int, Field(ge=0, le=10_000)]


class RayPlace(Spec):
    """A Ray cluster that runs, reached through its dashboard."""

    address: str | None = None
    """Dashboard, such as http://HOST:8265; None: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, this host."""
    driver_cpus: Annotated[float, Field(ge=0)] = 0.0
    """CPUs reserved for the driver on the head node; 0 leaves all of them to the workers."""
    patience_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    """Seconds to wait for the dashboard and its agent, with growing pauses."""
    secrets: bool = False
    """Pass variables named like secrets too; everyone who may see jobs sees their values."""


class PodGroup(Spec):
    """Pods of one kind."""

    cpus: Annotated[int, Field(ge=1)] = 4
    """CPUs of a pod."""
    memory: Quantity = "16Gi"
    """Memory of a pod."""
    gpus: Count = 0
    """GPUs of a pod."""
    least: Count = 1
    """Pods that are always there; the run checks at its start that they suffice."""
    most: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Pods that the autoscaler may start."""
    selector: dict[str, str] = {}
    """Labels that a node must have."""
    taint: str | None = None
    """Taint of the nodes that the pods tolerate."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least is {self.least}, more than most ({self.most})")
        return self


class KubePlace(Spec):
    """A Kubernetes cluster with the KubeRay operator."""

    image: str | None = None
    """Image with selftrain; cluster/Containerfile makes one."""
    ray_version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "2.60.0"
    """Ray's version in the image."""
    namespace: KubeName = "default"
    """Namespace of the job."""
    service_account: KubeName | None = None
    """Service account of the pods."""
    auth: Literal["token", "disabled"] = "token"
    """Whether the cluster asks for a token; the operator makes it."""
    mode: Literal["K8sJobMode", "HTTPMode", "SidecarMode"] = "K8sJobMode"
    """Who submits the driver: a pod of its own, the operator, or a container beside the head."""
    head: PodGroup = PodGroup(cpus=2, memory="8Gi")
    """The head pod; it holds the driver and gets no training work."""
    workers: PodGroup = PodGroup()
    """Workers on nodes that stay."""
    spot: PodGroup | None = None
    """Workers on nodes that may be taken away, besides the others."""
    autoscaler: Literal["v1", "v2", "none"] = "v2"
    """Ray's autoscaler; without one there are as many pods as `most` says."""
    secret: KubeName | None = None
    """Secret whose entries become environment variables of every pod."""
    claim: KubeName | None = None
    """Volume claim that every pod mounts at `launch.shared`."""
    retries: Count = 3
    """New clusters after a failure; each goes on from the store."""
    limit_s: Annotated[int, Field(ge=60)] | None = None
    """Seconds after which the job is ended."""
    keep_s: Count = 600
    """Seconds that the cluster stays after the end, to look at."""


class SlurmPlace(Spec):
    """A Slurm cluster whose nodes share a file system."""

    nodes: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Nodes of the job."""
    cpus: Annotated[int, Field(ge=1)] = 4
    """CPUs on each of them."""
    gpus: Count = 0
    """GPUs on each of them."""
    memory: Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] | None = None
    """Memory on each of them, as Slurm writes it; None: the partition's default."""
    partition: Annotated[str, Field(pattern=r"^[\w.,-]+$")] | None = None
    """Partition."""
    account: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = None
    """Account."""
    limit_s: Annotated[int, Field(ge=60)] = 4 * 3600
    """Wall-clock limit in seconds; the job is requeued `grace_s` before it."""
    most_requeues: Count = 100
    """Requeues after which an unfinished job ends."""
    options: tuple[Annotated[str, Field(pattern=r"^--[a-z-]+(=[\w@:./,+-]+)?$")], ...] = ()
    """Further options of sbatch, such as --qos=high."""
    setup: tuple[Annotated[str, Field(pattern=r"^[^\n]+$")], ...] = ()
    """Shell lines before Ray starts, such as `module load` or activating an environment."""


class Launch(Spec):
    """Where `selftrain submit` starts a run, and with what; none of it may change a result."""

    working_dir: Path = Path(".")
    """Folder with the config that a Ray cluster gets a copy of."""
    exclude: tuple[str, ...] = ()
    """Files and folders to leave out of the copy, as globs; data, store, runs always are."""
    shared: str | None = None
    """Folder or URI that every node sees: relative data, store and runs lie below it there."""
    env: tuple[EnvName, ...] = ()
    """Names of environment variables to pass; their values are taken where submit is called."""
    grace_s: Annotated[int, Field(ge=5, le=3600)] = 120
    """Seconds between the request to stop and the end: enough for a checkpoint."""
    python: Annotated[str, Field(pattern=r"^[^\s]+$")] = "python"
    """Python on the nodes."""
    ray: RayPlace = RayPlace()
    """For `--to ray`."""
    kuberay: KubePlace = KubePlace()
    """For `--to kuberay`."""
    slurm: SlurmPlace = SlurmPlace()
    """For `--to slurm`."""


class LaunchRecord(Spec):
    """Where a run was started, and with what; names of variables, never their values."""

    run: str
    """Identity of the run or sweep."""
    place: Place
    """Where it was started."""
    place_id: str
    """How the place names it."""
    launch: Launch
    """What it was started with."""
