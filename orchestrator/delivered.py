"""A delivered student in a folder of its own: weights and what they are, to use anywhere.

The folder needs neither the run nor its store or data set, and nothing in it is unpickled.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field, ValidationError
from torch import nn

from orchestrator.data.dataset import Dataset, Embedding
from orchestrator.errors import ConfigError, StoreError
from orchestrator.jobs.asking import tell
from orchestrator.jobs.decoded import decode_rows
from orchestrator.jobs.job import FeatureForm, ImageForm
from orchestrator.jobs.training import TEACHER, build_model
from orchestrator.recipe import Recipe, ScoringSpec
from orchestrator.runs import RunRecord
from orchestrator.store.files import Files
from orchestrator.store.store import Store
from orchestrator.tasks import steps_of
from trainables import schemas
from trainables.checkpoint import weights_from_bytes
from trainables.landmarks.network import LandmarkNetworkSpec
from trainables.models import AnyModel
from trainables.spec import Spec
from trainables.tasks.kinds import Points, TaskSpec
from trainables.tasks.task import ANY_STUDENT, without_weights

CARD, WEIGHTS = "student.json", "student.safetensors"


class Card(Spec):
    """What a delivered student is and where it comes from."""

    run: str
    """Identity of the run."""
    round: int
    """Round that trained it."""
    address: str
    """Address of the training step."""
    method: str
    """Method of the run."""
    student: Annotated[AnyModel | LandmarkNetworkSpec, Field(discriminator="kind")]
    """The network."""
    form: ImageForm | FeatureForm
    """What it reads."""
    embedding: Embedding | None = None
    """The frozen network whose features it reads; None: it reads images."""
    task: TaskSpec
    """What its labels are."""
    names: tuple[str, ...]
    """Names of the classes or points, in the order of its outputs."""
    temperature: float = 1.0
    """Its logits are divided by this before they become probabilities."""
    scoring: ScoringSpec = ScoringSpec()
    """How it was asked when it was scored, and is asked again unless told otherwise."""
    validation: dict[str, float]
    """Its scores on the validation rows."""
    test: dict[str, float]
    """Its scores on the test rows."""
    weights: str
    """SHA-256 digest of the weights' file."""


@dataclass(frozen=True)
class Delivered:
    """A student that was loaded, in evaluation mode."""

    card: Card
    network: nn.Module
    """From images float32 [B, C, H, W] in [0, 1], of the card's form, to logits [B, C]; a landmark
    network gives its maps."""

    def predict(self, rows: pa.Table, how: ScoringSpec | None = None) -> pa.Table:
        """What it says of rows with ``example_id`` and encoded ``image`` (or ``features``).

        Classes: ``name``, ``label``, ``confidence``, ``log_probs``; landmarks: ``label`` holds x0,
        y0, x1, ... in pixels of the stored image, ``peak`` and ``spread`` a number for each point.
        Rows that can't be decoded are left out. ``how`` None asks as when it was scored.
        """
        return self.told(rows, how)[0]

    def told(self, rows: pa.Table, how: ScoringSpec | None = None) -> tuple[pa.Table, pa.Table]:
        """The same, and the rows that could not be decoded with ``origin`` and ``reason``.

        Raises:
            ConfigError: Such a student can't be asked so.
        """
        card, asked = self.card, how or self.card.scoring
        if asked.flips and isinstance(card.form, FeatureForm):
            raise ConfigError("features have no mirror image: leave flips off")
        decoded = decode_rows(rows, card.form)
        device = next(self.network.parameters()).device
        table = tell(self.network, decoded, card.task, asked, device, card.temperature)
        if not isinstance(card.task, Points):
            named = pa.array(card.names).take(table["label"].combine_chunks())
            table = table.add_column(1, "name", named)
        names = json.dumps(card.names)
        refused = decoded.refused
        columns = [list(refused), list(refused), list(refused.values())]
        return (
            table.replace_schema_metadata({"names": names}),
            pa.table([pa.array(c, pa.string()) for c in columns], schema=schemas.REFUSED),
        )


def export(record: RunRecord, out: Path, round_: int | None = None) -> Card:
    """Write a round's student to a folder; None takes the round that the run delivers.

    Raises:
        ConfigError: The run has no such round.
        StoreError: Its weights are missing or differ from their record.
    """
    wanted = record.best_round if round_ is None else round_
    found = next((each for each in record.rounds if each.round == wanted), None)
    if found is None:
        played = ", ".join(str(each.round) for each in record.rounds) or "none"
        raise ConfigError(f"{record.run} has no round {wanted}; played: {played}")
    config, address = record.config, found.steps["train"].address
    store, data = Store(config.store), Dataset(config.data)
    step = store.record("train", address)
    content = store.read(step, TEACHER)
    recipe = config.recipe
    card = Card(
        run=record.run,
        round=found.round,
        address=address,
        method=config.method,
        student=without_weights(ANY_STUDENT.validate_python(step.identity["reads"]["student"])),
        form=steps_of(config, data).form,
        embedding=data.manifest.embedding,
        task=data.task,
        names=data.manifest.classes,
        temperature=recipe.labelling.temperature if isinstance(recipe, Recipe) else 1.0,
        scoring=recipe.scoring,
        validation=found.validation,
        test=found.test,
        weights=hashlib.sha256(content).hexdigest(),
    )
    files = Files(out)
    files.write(WEIGHTS, content)
    files.write(CARD, f"{card.model_dump_json(indent=1)}\n".encode())
    return card


def load_delivered(folder: str | Path, device: str = "cpu") -> Delivered:
    """The student that `selftrain export` wrote.

    Raises:
        StoreError: The folder holds none, or its weights are not those of the card.
    """
    files = Files(folder)
    try:
        card = Card.model_validate_json(files.read(CARD))
        content = files.read(WEIGHTS)
    except FileNotFoundError as error:
        raise StoreError(
            f"{folder} holds no exported student ({CARD} and {WEIGHTS}): write one by "
            "`selftrain export RUN --out FOLDER`"
        ) from error
    except ValidationError as error:
        raise StoreError(f"{folder}/{CARD} can't be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != card.weights:
        raise StoreError(f"{folder}/{WEIGHTS} differs from its card: export the student again")
    network = build_model(card.student, card.form, card.task, 0)
    weights_from_bytes(content, network)
    return Delivered(card, network.eval().to(device).to(memory_format=torch.channels_last))


def predict_file(
    student: Delivered, blocks: Iterator[pa.Table], out: Path, how: ScoringSpec | None = None
) -> tuple[int, int]:
    """Write what the student says of all rows to a Parquet file, block by block.

    Returns the numbers of predicted and of refused rows; the latter stand with their reasons in a
    file of their own, beside the other, if there are any. Both appear whole or not at all.

    Raises:
        ConfigError: There is no row, or the student can't be asked so.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f"{out.stem}.refused.parquet")
    parts = {each: each.with_name(f".{each.name}.part") for each in (out, beside)}
    refused: list[pa.Table] = []
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for block in blocks:
            told, left_out = student.told(block, how)
            writer = writer or pq.ParquetWriter(parts[out], told.schema, compression="zstd")
            writer.write_table(told)
            refused.append(left_out)
            rows += len(told)
        if writer is None:
            raise ConfigError("there is no row to predict: name images or Parquet files")
        writer.close()
        not_read = pa.concat_tables(refused)
        pq.write_table(not_read, parts[beside])
        beside.unlink(missing_ok=True)  # that of an earlier command
        if len(not_read):
            parts[beside].replace(beside)
        parts[out].replace(out)
    finally:
        if writer is not None:
            writer.close()
        for part in parts.values():
            part.unlink(missing_ok=True)
    return rows, len(not_read)
