"""Fidelity zero: judge candidates by the selection they would make from stored predictions.

Nothing is trained. The teacher of round 0 has labelled the pool and the held-out rows once; each
candidate's selector is fitted on the sketch of those predictions for every round of its schedule,
so a candidate costs the same for a small pool and for a large one.

The score is house-made: labels that a student would learn from, discounted by how wrong they are.
With a share a of accepted rows, an estimated precision p over C classes and the entropy H of the
accepted classes it is

    score = a * max(0, (C p - 1) / (C - 1))^2 * exp(H) / C

where the square is the factor by which symmetric label noise shrinks a sample (Angluin and Laird,
Learning from noisy examples, Machine Learning 2, 1988, for two classes), and exp(H) / C is 1 when
all classes are accepted alike. It is the mean over the rounds whose selection a student trains on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from orchestrator.config import RunConfig
from orchestrator.data.dataset import Dataset
from orchestrator.errors import ConfigError
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.jobs.predicting import predict
from orchestrator.jobs.selecting import calibrate, labelled_of, merge_sketches, sketch_shards
from orchestrator.jobs.training import load_teacher
from orchestrator.recipe import Recipe
from orchestrator.runs import RunRecord
from orchestrator.steps import Steps
from orchestrator.store.store import Store
from trainables.beliefs import Beliefs
from trainables.calibrators import FromFeatures
from trainables.nearby import TableCalibrator
from trainables.row_maps import calibrated
from trainables.schedules import at_round
from trainables.selectors.library import fills
from trainables.selectors.rules import Labelled, Rule
from trainables.selectors.sketch import Sketch, row_keys
from trainables.spec import Spec


@dataclass(frozen=True)
class Evidence:
    """What candidates are judged on."""

    sketch: Sketch
    """Predictions of the pool."""
    held_out: Beliefs
    """Predictions of rows with a label that the teacher never trained on."""
    held_out_labels: np.ndarray
    """Their labels, int64 [N]."""
    labelled: Labelled
    """What selectors may know of the labelled rows."""
    seed: int
    """Seed of the selections."""
    calibrators: tuple[TableCalibrator, ...] = ()
    """Through what the predictions have gone."""


FILLS = (
    "screening can't judge a selector that fills classes, whose rows held-out ones say nothing of: "
    "set selector.fill to false, or screen to null"
)


class Screened(Spec):
    """What a candidate's selections would look like, mean over rounds."""

    score: float
    """The larger the better, in [0, 1]."""
    coverage: float
    """Share of the pool that is accepted."""
    precision: float
    """Estimated share of right labels among the accepted."""
    balance: float
    """exp(entropy of the accepted classes) / classes, in (0, 1]."""


def gather_evidence(
    record: RunRecord, calibrators: tuple[TableCalibrator, ...] | None = None
) -> Evidence:
    """The evidence that round 0 of a run left in the store, behind the run's calibrators or others.

    Held out are the labelled rows, out of fold, if the recipe makes such predictions, else the
    validation rows.

    Raises:
        ConfigError: Labels are points, filters hold rows back, or a calibrator reads features: of
            held-out rows neither can be told.
    """
    recipe = record.config.recipe
    if not isinstance(recipe, Recipe):
        raise ConfigError("sweep.screen judges labels that are classes: set it to null")
    if calibrators is not None:
        recipe = recipe.model_copy(update={"calibrators": calibrators})
    if recipe.filters:
        raise ConfigError(
            "screening can't judge behind filters: nothing tells which held-out rows they would "
            "hold back; set screen to null"
        )
    if fills(recipe.selector):
        raise ConfigError(FILLS)
    for each in recipe.calibrators:
        if isinstance(each, FromFeatures):
            raise ConfigError(
                f"screening can't judge behind calibrator {each.kind}, which reads features: set "
                "screen to null"
            )
    config = record.config.model_copy(update={"recipe": recipe})
    data, steps = Dataset(config.data), record.rounds[0].steps
    crossed = steps["cross_label"].address if "cross_label" in steps else None
    job = (
        Steps(config, data)
        .select(
            0,
            predictions=steps.get("combine", steps["label"]).address,
            out_of_fold=crossed,
            previous=None,
        )
        .job
    )
    fragments = range(len(data.manifest.pool.files))

    def over(function: Callable[[Sequence[int]], Any]) -> list[Any]:
        return [function(fragments)]

    tilt = calibrate(job, over)
    pool = merge_sketches(over(partial(sketch_shards, job, tilt)))
    labelled = labelled_of(job, tilt)
    held_out, labels = labelled.beliefs, labelled.labels
    if held_out is None or labels is None:
        told, labels = _validation(config, data, Store(config.store), steps["train"].address)
        held_out = calibrated(tilt, told)
    return Evidence(pool, held_out, labels, labelled, job.seed, recipe.calibrators)


def _validation(
    config: RunConfig, data: Dataset, store: Store, train: str
) -> tuple[Beliefs, np.ndarray]:
    """What a round's teacher believes about the validation rows, and their labels."""
    label = Steps(config, data).label(train).job
    model = load_teacher(store, label, train).eval().to(memory_format=torch.channels_last)
    parts, labels = [], []
    for entry in data.manifest.validation.files:
        decoded = decoded_fragment(data, entry, label.form)
        parts.append(
            predict(model, decoded, label.labelling, 512, torch.device("cpu"), data.num_classes)
        )
        labels.append(data.read(entry, ["label"])["label"].to_numpy().astype(np.int64))
    ids = [name for part in parts for name in part.example_ids]
    beliefs = Beliefs.of_log_probs(ids, np.concatenate([part.log_probs for part in parts]))
    return beliefs, np.concatenate(labels)


def screen(recipe: Recipe, evidence: Evidence) -> Screened:
    """Judge one candidate.

    Raises:
        ConfigError: It corrects the predictions in another way than the evidence was, or its
            selector reads more than confidences.
    """
    if recipe.calibrators != evidence.calibrators:
        raise ConfigError("screening compares selectors behind the same calibrators")
    if recipe.filters:
        raise ConfigError("screening can't judge behind filters: set screen to null")
    if recipe.ranking != "confidence":
        raise ConfigError("screening compares confidences: set ranking to confidence, or no screen")
    if fills(recipe.selector):
        raise ConfigError(FILLS)
    if recipe.selector.needs_sample:
        raise ConfigError(
            f"screening can't judge the selector {recipe.selector.kind}, which reads whole rows: "
            "set screen to null"
        )
    rounds = max(1, recipe.policy.num_rounds - 1)
    found = [_round(recipe, evidence, r) for r in range(rounds)]
    names = Screened.model_fields
    return Screened(**{name: float(np.mean([getattr(f, name) for f in found])) for name in names})


def best(results: Sequence[Screened], keep: int) -> list[int]:
    """Places of the best candidates, the best first; of equal ones the first drawn."""
    order = sorted(range(len(results)), key=lambda i: (-results[i].score, i))
    return order[:keep]


def _round(recipe: Recipe, evidence: Evidence, round_: int) -> Screened:
    selector = at_round(recipe.selector, round_, recipe.policy.num_rounds - 1)
    rule = selector.fit(evidence.sketch, evidence.labelled, evidence.seed)
    rows = evidence.sketch.reaching(rule.cuts, rule.least)
    total = evidence.sketch.class_rows().sum()
    if not rows.sum():
        return Screened(score=0.0, coverage=0.0, precision=0.0, balance=0.0)
    num = len(rows)
    precision = estimated_precision(evidence, rule, rows)
    shares = rows[rows > 0] / rows.sum()
    balance = float(np.exp(-(shares * np.log(shares)).sum()) / num)
    signal = max(0.0, (num * precision - 1) / max(1, num - 1))
    coverage = float(rows.sum() / total)
    return Screened(
        score=coverage * signal**2 * balance,
        coverage=coverage,
        precision=precision,
        balance=balance,
    )


def estimated_precision(evidence: Evidence, rule: Rule, rows: np.ndarray) -> float:
    """Precision of the accepted rows, from held-out rows that the same rule would accept.

    By class: the share of right ones among its accepted held-out rows, drawn towards the precision
    over all classes by the weight of one row; weighted by the accepted pool rows of each class.
    """
    held = evidence.held_out
    cuts = np.array(rule.cuts, dtype=np.uint64)[held.labels]
    keys = row_keys(held, coarse=rule.coarse, seed=rule.seed)
    # a cut between pool rows of one confidence says nothing of other rows: compare without the hash
    taken = (keys | np.uint64(0xFFFFFFFF if not rule.coarse else 0xFFFF)) >= cuts
    taken &= held.confidence >= np.array(rule.least)[held.labels]
    right = held.labels == evidence.held_out_labels
    num = len(rows)
    seen = np.bincount(held.labels[taken], minlength=num)
    good = np.bincount(held.labels[taken & right], minlength=num)
    over_all = (good.sum() + 1) / (seen.sum() + 2)
    by_class = (good + over_all) / (seen + 1)
    return float((by_class * rows).sum() / rows.sum())
