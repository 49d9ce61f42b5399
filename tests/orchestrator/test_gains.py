"""What methods gain over labels alone: real trainings on digits with ten labels a class.

Each seed has a split, first weights and draws of its own. `supervised` trains 300 steps with the
same network and learning rate, the others as many in each round (`darp` 200 after the first).
Measured test accuracy of the delivered student in per cent, and gains, for seeds 0 to 4, of which
the first three are played here. On a balanced pool of 1,047 rows, scored on 450:

    supervised           94.0  95.1  94.7  91.6  92.0
    curriculum_labeling  95.6  96.9  96.9  95.3  95.3    +1.6 +1.8 +2.2 +3.8 +3.3
    noisy_student        96.4  96.2  96.4  94.9  94.7    +2.4 +1.1 +1.8 +3.3 +2.7
    fixmatch             95.6  96.4  97.1  94.7  93.3    +1.6 +1.3 +2.4 +3.1 +1.3

On one of 610 rows with five times as many zeros as nines, scored on 300, balanced:

    supervised           92.3  93.7  94.7  93.7  96.3
    darp                 94.7  96.3  97.3  95.0  97.0    +2.4 +2.6 +2.6 +1.3 +0.7

Another processor rounds otherwise: on an AMD EPYC, torch 2.14.1, `fixmatch` gains 0.0, 0.9 and 2.9
on seeds 0 to 2. So a method must gain on most seeds, and lose less than a point on any.

Settings differ from the methods' own where rounds are this short: on seed 0
`curriculum_labeling` with mixup and strong views of labelled rows falls from 93.3 to 87.1, and two
rounds of `darp` gain nothing.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from orchestrator.data.dataset import PrepareSpec
from orchestrator.data.prepare import prepare
from orchestrator.loading import build_config
from orchestrator.runs import RunRecord
from tests.orchestrator.data.pictures import write_parquet
from tests.orchestrator.helpers import play
from trainables.images import encode

pytestmark = pytest.mark.slow

SEEDS = range(3)
COMMON = (
    "recipe.student.width=16",
    "recipe.training.steps={first_round: 300, base: 300}",
    "recipe.training.optimiser.learning_rate=0.1",
    "recipe.training.objective.weak.flip=0",
    "recipe.training.objective.strong.flip=0",
)
METHODS = {
    "supervised": (),
    "curriculum_labeling": (
        "recipe.selector.share={schedule: stepwise, values: [0.35, 0.7, 1.0]}",
        "recipe.training.objective.mixup_alpha=0",
        "recipe.training.objective.labelled.view=weak",
        "recipe.training.batch.selected=64",
        "recipe.policy={num_rounds: 4, start: restart, label_last: false}",
    ),
    "noisy_student": (
        "recipe.selector={kind: class_top_k, k: {schedule: stepwise, values: [50, 100]}}",
        "recipe.selector.least_confidence=0.3",
        "recipe.training.objective.selected.weight=1",
        "recipe.training.batch.selected=64",
        "recipe.policy={num_rounds: 3, start: restart, label_last: false}",
    ),
    "fixmatch": (
        "recipe.training.objective.consistency.labels_from=teacher",
        "recipe.training.objective.consistency.selector.threshold=0.8",
        "recipe.policy.baseline=false",
    ),
    "darp": (
        "recipe.training.steps.base=200",
        "recipe.labelling.out_of_fold=2",
        "recipe.selector.share={schedule: stepwise, values: [0.5, 1.0]}",
        "recipe.training.objective.mixup_alpha=0",
        "recipe.training.batch.selected=64",
        "recipe.policy={num_rounds: 3, start: warm, deliver: last, label_last: false}",
    ),
}
MARGINS = {"curriculum_labeling": 1.0, "noisy_student": 1.0, "fixmatch": 0.7, "darp": 0.5}
"""Least gains, in percentage points, mean over seeds."""


def digits(out: Path, seed: int) -> Path:
    spec = PrepareSpec(labelled_per_class=10, validation=200, test=450, seed=seed)
    prepare("digits", out, spec)
    return out


def skewed_digits(out: Path, seed: int) -> Path:
    """A pool of 120 zeros and ever fewer of each next digit, down to 24 nines; else balanced."""
    whole, rows = load_digits(), []
    images = np.rint(whole.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(images))
    for label in range(10):
        mine = order[whole.target[order] == label]
        cuts = np.cumsum([10, 10, 30, round(120 * 0.2 ** (label / 9))])
        parts = ("train", "validation", "test", "unlabelled")
        for part, found in zip(parts, np.split(mine, cuts), strict=False):
            rows += [
                {"image": encode(images[i]), "label": str(label), "example_id": f"{i}"}
                | {"split": part}
                for i in found
            ]
    source = write_parquet(out.with_suffix(".parquet"), rows)
    prepare(source, out, PrepareSpec(labelled_per_class=10, seed=seed))
    return out


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Callable[[str, int, str], RunRecord]:
    """Runs by method, seed and pool; each is played once."""
    root = tmp_path_factory.mktemp("gains")
    pools = {"balanced": digits, "skewed": skewed_digits}

    @cache
    def data(pool: str, seed: int) -> Path:
        return pools[pool](root / f"{pool}-{seed}", seed)

    @cache
    def run(method: str, seed: int, pool: str) -> RunRecord:
        tree = {
            "name": "gains",
            "method": method,
            "data": str(data(pool, seed)),
            "store": str(root / "store"),
            "runs": str(root / "runs" / pool),
            "placement": {"engine": "local"},
            "tracking": {"wandb": "disabled"},
        }
        return play(build_config(tree, [f"recipe.seed={seed}", *COMMON, *METHODS[method]]))

    return run


def accuracy(record: RunRecord) -> float:
    """Test accuracy of the delivered student, in per cent."""
    assert record.best_round is not None
    return 100 * record.rounds[record.best_round].test["accuracy"]


@pytest.mark.parametrize("method", MARGINS)
def test_a_method_gains_its_margin_over_labels_alone_and_something_on_most_seeds(played, method):
    pool = "skewed" if method == "darp" else "balanced"
    gains = [
        accuracy(played(method, seed, pool)) - accuracy(played("supervised", seed, pool))
        for seed in SEEDS
    ]
    assert np.mean(gains) >= MARGINS[method], gains
    assert min(gains) > -1, gains
    assert np.median(gains) > 0, gains
