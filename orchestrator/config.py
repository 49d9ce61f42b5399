"""The configuration of a run: the recipe, where it runs, how it is tracked."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from orchestrator.landmark_recipe import LandmarkRecipe
from orchestrator.launch import Launch
from orchestrator.recipe import Recipe
from orchestrator.store.uri import without_credentials
from orchestrator.sweep.spec import SweepSpec
from trainables.spec import Spec

AnyRecipe = Annotated[Recipe | LandmarkRecipe, Field(discriminator="task")]
Place = Annotated[str, AfterValidator(without_credentials)]
"""A folder or a URI without credentials."""


class Placement(Spec):
    """Where and how a run runs; none of it may change a result."""

    engine: Literal["ray", "local"] = "ray"
    """'ray' uses Ray Train and Ray Data; 'local' plays the same steps in this process."""
    ray_address: Place | None = None
    """Cluster to join ('auto' or 'ray://HOST:PORT'); None joins a running one or starts its own."""
    train_workers: Annotated[int, Field(ge=0, le=4096)] = 0
    """Training processes; 0 trains inside the driver without starting a worker group."""
    least_train_workers: Annotated[int, Field(ge=1)] | None = None
    """Lets Ray go on with this many workers when nodes are lost; None waits for all."""
    label_actors: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Actors that label the pool in parallel; 0 labels without start-up where the run is played.
    None: 2, or 0 for the trials of a sweep that train without workers."""
    use_gpu: bool | None = None
    """Train and label on GPUs; None uses them where there are any."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1.0
    """CPUs of one node that Ray reserves for each training worker and labelling actor."""
    gpus_per_worker: Annotated[float, Field(gt=0, le=16)] = 1.0
    """GPUs of each of them, where GPUs are used; below 1 several share one."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Torch threads of a process that trains or labels in the driver; None leaves torch's own."""
    rows_per_pass: Annotated[int, Field(ge=0)] = 0
    """Most rows in one pass of a worker, more are accumulated; 0: no limit. Not with batch norm."""
    label_rows_per_pass: Annotated[int, Field(ge=1)] = 512
    """Rows of one forward pass when labelling."""
    checkpoint_every_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds between checkpoints inside a training step."""
    retries: Annotated[int, Field(ge=0)] = 3
    """Lost training workers that are replaced before the step gives up."""
    most_refused_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of pool rows that may be no images, or labelled with what is no number, before a
    labelling step stops the run."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        least = self.least_train_workers
        if least is not None and least > max(1, self.train_workers):
            raise ValueError(
                f"least_train_workers is {least}, more than train_workers ({self.train_workers})"
            )
        return self


class Tracking(Spec):
    """How a run is followed."""

    wandb: Literal["offline", "online", "disabled"] = "offline"
    """Weights & Biases: files to sync later, live, or nothing."""
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "selftrain"
    """W&B project."""
    group: str | None = None
    """W&B group; None uses the run's name."""
    tags: tuple[str, ...] = ()
    """W&B tags."""


class RunConfig(Spec):
    """One run, complete: what `selftrain run` reads."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")]
    """Name of the run: lower-case letters, digits, dot, dash and underscore."""
    data: Place
    """Folder or URI that `selftrain prepare` wrote; every node must see it."""
    method: str = "default"
    """Method whose recipe is the starting point; `selftrain methods` lists them."""
    recipe: AnyRecipe
    """Everything that decides the outcome; fields given here override the method's."""
    placement: Placement = Placement()
    """Where and how it runs."""
    tracking: Tracking = Tracking()
    """How it is followed."""
    store: Place = "store"
    """Folder or URI (s3://, gs://) of the store of steps; every node must see it."""
    runs: Path = Path("runs")
    """Folder of the records, events and W&B files of runs and sweeps."""
    sweep: SweepSpec | None = None
    """What `selftrain sweep` varies; `selftrain run` ignores it."""
    launch: Launch | None = None
    """Where `selftrain submit` starts it; `selftrain run` and `sweep` ignore it."""
