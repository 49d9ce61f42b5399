"""A GPU does what the CPU does; skipped where there is none."""

import copy

import numpy as np
import pytest
import torch

from trainables.augment import STRONG, View
from trainables.batches import BatchPlan, Source, TrainingSet
from trainables.checkpoint import state_from_bytes, state_to_bytes
from trainables.models import build
from trainables.objective import ConsistencyTerm, Objective
from trainables.own_networks import SmallCnn
from trainables.student import TrainingSpec, fit, start
from trainables.teachers import ExponentialAverage
from trainables.worker import Worker

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
CLASSES, GPU = 4, torch.device("cuda:0")
SPECS = {
    "rounds": TrainingSpec(
        batch=BatchPlan(labelled=8, selected=16),
        objective=Objective(mixup_alpha=0.5),
        teacher=ExponentialAverage(decay=0.9),
    ),
    "consistency": TrainingSpec(
        batch=BatchPlan(labelled=8, selected=0, pool=16),
        objective=Objective(consistency=ConsistencyTerm()),
        teacher=ExponentialAverage(decay=0.9),
    ),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def rows(spec: TrainingSpec = SPECS["rounds"]) -> TrainingSet:
    stream = np.random.default_rng(0)
    bank = torch.from_numpy(stream.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8))
    labels = torch.from_numpy(stream.integers(0, CLASSES, 60))
    first, rest = np.arange(20), np.arange(20, 60)
    selected = Source(bank, rest, labels[20:]) if spec.batch.selected else None
    return TrainingSet(Source(bank, first, labels[:20]), selected, Source(bank, rest))


def begun(spec: TrainingSpec, device: torch.device):
    torch.manual_seed(0)
    model = build(SmallCnn(width=8, norm="group"), 3, 32, CLASSES)
    return start(spec, model, CLASSES, Worker(device=device), pool_rows=40)


def trained(spec: TrainingSpec, device: torch.device, listen=lambda *_: None, state=None):
    """A state of five steps, or as many as ``listen`` lets it make, and its terms."""
    state = begun(spec, device) if state is None else state
    worker = Worker(device=device)
    return state, fit(spec, state, rows(spec), 5, seed=1, worker=worker, listen=listen)


@every_spec
def test_a_gpu_learns_what_the_cpu_learns_up_to_rounding(spec):
    ours, terms = trained(spec, GPU)
    theirs, expected = trained(spec, torch.device("cpu"))
    assert terms == pytest.approx(expected, rel=1e-2, abs=1e-3)
    for name, value in theirs.teacher.state_dict().items():
        assert torch.allclose(ours.teacher.state_dict()[name].cpu(), value, atol=5e-3), name


@every_spec
def test_training_on_a_gpu_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(spec):
    def stop(progress, state) -> None:
        if progress.step == 3:
            kept.append(state_to_bytes(state))
            raise InterruptedError

    kept: list[bytes] = []
    whole, _ = trained(spec, GPU)
    with pytest.raises(InterruptedError):
        trained(spec, GPU, stop)
    again = begun(spec, GPU)
    state_from_bytes(kept[0], again)
    trained(spec, GPU, state=again)
    for name, value in whole.student.state_dict().items():
        assert torch.allclose(again.student.state_dict()[name], value, atol=1e-4), name


def test_images_are_kept_in_the_memory_of_a_gpu_and_shared_by_the_sources():
    near = rows().near(GPU)
    assert near.labelled.bank.device == GPU
    assert near.labelled.bank is near.selected.bank
    assert near.labelled.bank is near.pool.bank
    at = np.arange(3)
    here = rows().pool.images(at, torch.device("cpu"))
    assert torch.allclose(near.pool.images(at, GPU).cpu(), here)


def test_a_view_is_the_same_on_a_gpu_up_to_rounding():
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    asked = {"seed": 3, "rows": range(16), "of": 32}
    here = View(STRONG)(images.clone(), **asked)
    there = View(STRONG)(images.to(GPU), **asked).cpu()
    assert (here - there).abs().mean() < 1e-4


def test_a_step_in_bfloat16_learns_on_a_gpu():
    spec = SPECS["rounds"].model_copy(update={"precision": "bfloat16"})
    state = begun(spec, GPU)
    before = copy.deepcopy(state.student.state_dict())
    trained(spec, GPU, state=state)
    after = state.student.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(after[name], value) for name, value in before.items())
