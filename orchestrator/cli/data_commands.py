"""`selftrain prepare` and `selftrain embed`."""

import json
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Literal

import typer

from orchestrator.cli.options import AsJson
from orchestrator.config import Placement
from orchestrator.console import Console, ConsoleWatch
from orchestrator.data.dataset import Dataset, Manifest, PrepareSpec
from orchestrator.data.embed import SPLITS, EmbedSpec
from orchestrator.data.embed import embed as write_features
from orchestrator.data.prepare import already_prepared
from orchestrator.data.prepare import prepare as write_dataset
from orchestrator.data.sources import KINDS
from orchestrator.session import make_engine
from orchestrator.signals import StopRequest
from trainables.tasks.kinds import Points


def prepare(
    source: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    labelled_per_class: Annotated[
        int | None, typer.Option(min=1, help="Labelled rows a class; 10 unless given.")
    ] = None,
    labelled: Annotated[
        int | None,
        typer.Option(min=1, help="Labelled rows in all, for landmarks; 50 unless given."),
    ] = None,
    validation: Annotated[int, typer.Option(min=0, help="Validation rows in all.")] = 0,
    test: Annotated[int, typer.Option(min=0, help="Test rows, where the source has none.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    fragment_rows: Annotated[int, typer.Option(min=1, help="Pool rows a fragment.")] = 4096,
    most_refused_share: Annotated[float, typer.Option(min=0, max=1)] = 0.01,
    drop_duplicates: Annotated[
        bool, typer.Option(help="Refuse exact duplicates across splits.")
    ] = False,
    again: Annotated[bool, typer.Option(help="Write anew what is already there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Turn a source of images into labelled rows, a pool, validation and test tables."""
    spec = PrepareSpec(
        labelled_per_class=labelled_per_class,
        labelled=labelled,
        validation=validation,
        test=test,
        seed=seed,
        fragment_rows=fragment_rows,
        most_refused_share=most_refused_share,
        drop_duplicates=drop_duplicates,
    )
    console = Console(to_stderr=as_json)
    manifest = None if again else already_prepared(source, out, spec)
    if manifest is not None:
        console.say(f"{out} already holds {source} with these settings; --again writes it anew")
    else:
        with console, console.rich.status(f"reading {source}") as status:
            manifest = write_dataset(
                source, out, spec, lambda n: status.update(f"reading {source}: {n:,} rows")
            )
    counts = _counts(manifest)
    if as_json:
        typer.echo(json.dumps({"out": str(out), _called(manifest): manifest.classes, **counts}))
        return
    shown = {name.removesuffix("_found"): count for name, count in counts.items()}
    console.say(f"{out}: " + ", ".join(f"{count:,} {name}" for name, count in shown.items()))
    if manifest.num_duplicates:
        console.say(f"{manifest.num_duplicates} images stand in more than one split, for example:")
        for line in manifest.duplicates[:5]:
            console.say(f"  {shorten(line, 200, placeholder=' ...')}")
        console.say("  --drop-duplicates refuses them; all are listed in dataset.json (first 100)")


def embed(
    data: Annotated[str, typer.Argument(help="Prepared data set of images.")],
    out: Annotated[str, typer.Option(help="Folder or URI to write.")],
    model: Annotated[str, typer.Option(help="Frozen network, as timm names it.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Its weights, from a local file.")] = None,
    size: Annotated[
        int | None, typer.Option(min=4, help="Scale images to this side in pixels.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or the CPUs of a cluster.")
    ] = "local",
    as_json: AsJson = False,
) -> None:
    """Replace images by features of a frozen network: once, so that rounds take seconds."""
    stop = StopRequest()
    stop.install()
    played = make_engine(Placement(engine=engine))
    spec = EmbedSpec(model=model, checkpoint=checkpoint, size=size)
    console = Console(to_stderr=as_json)
    try:
        with console:
            console.begin(f"features of {data}")
            manifest = write_features(
                Dataset(data),
                out,
                spec,
                played,
                ConsoleWatch(console, stop),
                files_at_once=1 if engine == "local" else 1024,
            )
    finally:
        played.close()
    assert manifest.embedding is not None  # noqa: S101 - that is what it wrote
    rows = sum(n for name, n in _counts(manifest).items() if name in SPLITS)
    if as_json:
        typer.echo(json.dumps({"out": out, "rows": rows, "width": manifest.embedding.width}))
        return
    console.say(f"{out}: {rows:,} rows of {manifest.embedding.width:,} features")


def _counts(manifest: Manifest) -> dict[str, int]:
    names = ("labelled", "pool", "hidden", "validation", "test", "refused")
    rows = {name: getattr(manifest, name).num_rows for name in names}
    found = {f"{_called(manifest)}_found": len(manifest.classes)}
    return {**found, **rows, "duplicates": manifest.num_duplicates}


def _called(manifest: Manifest) -> str:
    """What the names of the labels are."""
    return "points" if isinstance(manifest.task, Points) else "classes"
