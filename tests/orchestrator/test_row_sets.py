"""Which pool rows a network can label may change from round to round.

The student is a network that gives some pool rows NaN once it has been trained for so many steps.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from timm.models import register_model
from torch import nn

from orchestrator.data.dataset import Dataset
from orchestrator.explaining_rows import explain_row
from orchestrator.jobs.decoded import decoded_fragment
from orchestrator.reads import form_of
from orchestrator.runs import RunRecord
from orchestrator.store.store import Store
from tests.orchestrator.helpers import play
from tests.orchestrator.label_sources import believed, chosen, foreign
from trainables.combining import Mean, combined

pytestmark = pytest.mark.slow
FIRST, LATER = 8, 6
"""Steps of round 0 and of the others, which begin anew."""
SHORT = (
    f"recipe.training.steps={{first_round: {FIRST}, base: {LATER}}}",
    "recipe.selector={kind: everything}",
    "recipe.student={kind: timm, name: blind_to_some}",
    "recipe.training.teacher={kind: student}",
)
UNSEEN: list[float] = []
"""Sums of the pixels of the images that give NaN."""


class Blind(nn.Module):
    """A linear network that gives some images NaN after ``steps`` steps of training."""

    steps = -1
    num_features = 64

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(64 * channels, num_classes)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
        told = self.classifier(nn.functional.adaptive_avg_pool2d(images, 8).flatten(1))
        if self.training or int(self.seen) != Blind.steps:
            return told
        sums = images.double().mul(255).sum(dim=(1, 2, 3)).round()
        odd = (sums[:, None] == torch.tensor(UNSEEN, dtype=torch.float64)).any(dim=1)
        return told.masked_fill(odd[:, None], torch.nan)


@register_model
def blind_to_some(pretrained: bool = False, **settings: int) -> nn.Module:
    del pretrained
    return Blind(settings["in_chans"], settings["num_classes"])


@pytest.fixture
def lost(make_config, monkeypatch) -> Callable[[int], list[str]]:
    """Lets some rows be lost after so many steps; their ids. No other split holds such an image."""

    def lose(steps: int) -> list[str]:
        config = make_config(*SHORT)
        data = Dataset(config.data)

        def sums(split: str) -> dict[str, float]:
            files = getattr(data.manifest, split).files
            parts = [decoded_fragment(data, entry, form_of(config, data)) for entry in files]
            return {
                name: float(pixels.sum())
                for part in parts
                for name, pixels in zip(part.example_ids, part.pixels, strict=True)
            }

        pool = sums("pool")
        others = {v for split in ("labelled", "validation", "test") for v in sums(split).values()}
        free = [value for value in dict.fromkeys(pool.values()) if value not in others]
        monkeypatch.setattr(Blind, "steps", steps)
        UNSEEN[:] = free[:3]
        return sorted(name for name, value in pool.items() if value in UNSEEN)

    return lose


def rows_of(config, record: RunRecord, round_: int, step: str = "label") -> set[str]:
    return set(believed(config, record, round_, step).example_ids)


def test_a_kept_row_stays_selected_where_a_later_round_refuses_it(make_config, lost):
    names = lost(LATER)
    config = make_config(*SHORT, "recipe.policy.pool=keep")
    record = play(config)
    assert record.status == "finished"
    assert set(names) <= rows_of(config, record, 0)
    assert not set(names) & rows_of(config, record, 1)
    assert set(names) <= set(chosen(config, record, 1))
    assert len(chosen(config, record, 1)) == 1047
    assert 0 < record.rounds[1].selection["mean_confidence"] <= 1
    lines = explain_row(record, names[0])
    assert lines[2].startswith("round 0  accepted as ")
    assert lines[3].startswith("round 1  refused: ")
    assert lines[4] == "round 1  kept as it was accepted before"


def test_a_row_that_a_later_round_refuses_is_not_selected_in_it(make_config, lost):
    names = lost(LATER)
    config = make_config(*SHORT)
    record = play(config)
    assert set(names) <= set(chosen(config, record, 0))
    assert not set(names) & set(chosen(config, record, 1))
    assert record.rounds[1].selection["dropped"] == len(names)
    refused = Store(config.store).record("label", record.rounds[1].steps["label"].address)
    assert refused.counts["refused"] == len(names)


def test_a_row_that_an_earlier_round_refused_has_no_memory(make_config, lost):
    names = lost(FIRST)
    config = make_config(*SHORT, "recipe.labelling.remember=0.4")
    record = play(config)
    before = believed(config, record, 0, "combine")
    assert set(names).isdisjoint(before.example_ids)
    now, found = (believed(config, record, 1, name) for name in ("label", "combine"))
    assert set(names) <= set(found.example_ids)
    memory = np.full(now.log_probs.shape, np.nan, np.float32)
    place = {name: at for at, name in enumerate(found.example_ids)}
    memory[[place[name] for name in before.example_ids]] = before.log_probs
    expected = combined(Mean(), found.example_ids, now.log_probs[None], memory, 0.4)
    assert np.exp(found.log_probs) == pytest.approx(np.exp(expected.log_probs), abs=1e-5)
    mine = [place[name] for name in names]
    assert found.log_probs[mine] == pytest.approx(now.log_probs[mine], abs=1e-5)


@pytest.mark.usefixtures("label_functions")
def test_a_row_that_the_first_source_refused_is_explained_in_every_round(make_config):
    config = make_config(*SHORT[:2], foreign("part"), "placement.most_refused_share=0.2")
    record = play(config)
    known = rows_of(config, record, 0, "label-foreign-0-before")
    name = next(iter(rows_of(config, record, 0) - known))
    lines = explain_row(record, name)
    assert lines[1].startswith("before round 0  refused: ")
    assert lines[3].startswith("round 0  accepted as ")
