"""Heads, kept rows and the terms that read them: the laws that every fit keeps."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.trainables.students import (
    BATCH,
    CLASSES,
    Stop,
    data,
    furthest,
    ignore,
    network,
    same,
    same_running,
)
from tests.trainables.two_workers import as_two_workers, keep, kept_by_two
from trainables.auxiliary import (
    Alignment,
    AuxiliaryTerm,
    Contrast,
    Graph,
    RepresentationSpec,
    Shrunk,
    Similarity,
    Turns,
)
from trainables.calibrators import Align
from trainables.checkpoint import state_from_bytes, state_to_bytes
from trainables.kept_rows import EmbeddingSpec, LabelledRows, LatestRows
from trainables.models import TimmModel, build
from trainables.nearby import NeighbourMean, PrototypeBlend, Refinement
from trainables.objective import (
    ConsistencyTerm,
    EntropyTerm,
    LabelledTerm,
    Objective,
)
from trainables.optimiser import OptimiserSpec
from trainables.selectors.fixed import Threshold
from trainables.selectors.running import Memory
from trainables.state import TrainState
from trainables.student import TrainingSpec, fit, start
from trainables.targets import TargetSpec
from trainables.teachers import ExponentialAverage, StudentIsTeacher, TeacherRule
from trainables.worker import Worker

LATEST = LatestRows(rows=23)
MEMORY = NeighbourMean(k=None, share=0.1, temperature=0.1)
SMOOTHED = NeighbourMean(k=None, share=0.1, temperature=0.2)
NEAREST = NeighbourMean(k=3, share=1.0, temperature=None)
PROTOTYPES = PrototypeBlend(share=1.0, class_temperature=1.5)


def spec_of(
    *,
    keep: LabelledRows | LatestRows | None = None,
    width: int = 6,
    refine: Refinement | None = None,
    teacher: TeacherRule | None = None,
    entropy: EntropyTerm | None = None,
    **terms: AuxiliaryTerm,
) -> TrainingSpec:
    embedding = EmbeddingSpec(width=width, keep=keep) if keep is not None else None
    term = ConsistencyTerm(
        labels_from="teacher",
        calibrators=(Align(),),
        selector=Threshold(threshold=0.26),
        targets=TargetSpec(kind="soft"),
        memory=Memory(decay=0.5),
    )
    return TrainingSpec(
        batch=BATCH,
        objective=Objective(
            consistency=term,
            representation=RepresentationSpec(embedding=embedding, refine=refine, **terms),
            entropy=entropy,
        ),
        optimiser=OptimiserSpec(learning_rate=0.05, max_grad_norm=5.0),
        teacher=teacher or ExponentialAverage(decay=0.6),
    )


SPECS = {
    "labelled memory": spec_of(
        similarity=Similarity(), keep=LabelledRows(decay=0.3), refine=MEMORY
    ),
    "graph": spec_of(graph=Graph(cut=0.2), keep=LATEST, refine=SMOOTHED),
    "nearest rows": spec_of(contrast=Contrast(), keep=LATEST, refine=NEAREST),
    "prototypes": spec_of(alignment=Alignment(), keep=LabelledRows(), width=0, refine=PROTOTYPES),
    "second classifier": spec_of(shrunk=Shrunk(threshold=0.3)),
    "turns": spec_of(turns=Turns(apart_from=0.5), entropy=EntropyTerm()),
    "the student labels": spec_of(
        graph=Graph(cut=0.2), turns=Turns(), keep=LabelledRows(), teacher=StudentIsTeacher()
    ),
}
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def begun(
    spec: TrainingSpec, seed: int = 0, worker: Worker | None = None, dropout: float = 0.2
) -> TrainState:
    model = network(seed=seed, dropout=dropout)
    return start(spec, model, CLASSES, worker or Worker(), len(data().pool), seed=seed)


def train(
    spec: TrainingSpec,
    *,
    seed: int = 3,
    steps: int = 5,
    worker: Worker | None = None,
    dropout: float = 0.2,
    listen=ignore,
) -> tuple[TrainState, dict[str, float]]:
    state, worker = begun(spec, worker=worker, dropout=dropout), worker or Worker()
    return state, fit(spec, state, data(), steps, seed=seed, worker=worker, listen=listen)


def networks(state: TrainState) -> list[nn.Module]:
    return [state.student, state.teacher, state.beside.heads, state.beside.teacher_heads]


def kept(state: TrainState) -> dict[str, np.ndarray]:
    return state.beside.kept.arrays() if state.beside.kept is not None else {}


def same_kept(first: TrainState, second: TrainState) -> bool:
    theirs = kept(second)
    return all(np.array_equal(value, theirs[name]) for name, value in kept(first).items())


@every_spec
def test_every_weight_moves_and_every_term_is_told(spec):
    before, (state, terms) = begun(spec), train(spec)
    for old, new in zip(networks(before), networks(state), strict=True):
        for (name, was), now in zip(old.named_parameters(), new.parameters(), strict=True):
            assert not torch.equal(was, now), name
            assert torch.isfinite(now).all()
    kinds = spec.objective.representation.terms.keys()
    assert kinds <= terms.keys()
    parts = {k: v for k, v in terms.items() if k not in ("loss", "consistency_accepted")}
    assert terms["loss"] == pytest.approx(sum(parts.values()), rel=1e-5)
    assert all(math.isfinite(terms[kind]) and terms[kind] > 0 for kind in kinds)


@every_spec
def test_the_same_seed_gives_the_same_networks_and_another_seed_others(spec):
    first, again, other = (train(spec, seed=seed)[0] for seed in (3, 3, 4))
    for ours, theirs in zip(networks(first), networks(again), strict=True):
        assert same(ours, theirs)
    assert same_kept(first, again)
    assert not same(first.student, other.student)


@every_spec
@pytest.mark.parametrize("stop", [1, 4])
def test_an_interrupted_fit_ends_bit_for_bit_where_it_would_have(spec, stop):
    whole, _ = train(spec)
    held = []

    def leave(progress, state) -> None:
        if progress.step == stop:
            held.append(state_to_bytes(state))
            raise Stop

    with pytest.raises(Stop):
        train(spec, listen=leave)
    resumed = begun(spec, seed=5)
    state_from_bytes(held[0], resumed)
    fit(spec, resumed, data(), 5, seed=3, worker=Worker(), listen=ignore)
    for ours, theirs in zip(networks(whole), networks(resumed), strict=True):
        assert same(ours, theirs)
    assert same_kept(whole, resumed)
    assert same_running(whole, resumed)


@every_spec
def test_a_fit_in_bfloat16_keeps_float32_weights_and_rows(spec):
    state, terms = train(spec.model_copy(update={"precision": "bfloat16"}), steps=2)
    assert all(p.dtype == torch.float32 for n in networks(state) for p in n.parameters())
    assert all(value.dtype == np.float32 for value in kept(state).values())
    assert all(math.isfinite(value) for value in terms.values())


def test_what_is_delivered_knows_no_heads():
    spec = SPECS["labelled memory"]
    state, _ = train(spec)
    assert state.student.state_dict().keys() == network().state_dict().keys()
    assert state.teacher.state_dict().keys() == network().state_dict().keys()


def test_the_student_alone_starts_from_the_same_weights_whatever_its_heads():
    assert same(begun(SPECS["turns"]).student, begun(SPECS["graph"]).student)
    heads = [begun(SPECS["turns"], seed=seed).beside.heads for seed in (0, 0, 1)]
    assert same(heads[0], heads[1])
    assert not same(heads[0], heads[2])


def test_heads_of_a_student_that_is_its_own_teacher_are_its_own():
    state = begun(SPECS["the student labels"])
    assert state.beside.teacher_heads is state.beside.heads


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_heads_read_the_features_of_any_timm_model(name):
    spec = SPECS["graph"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(TimmModel(name=name), 1, 12 if name == "resnet18" else 16, CLASSES)
    state = start(spec, model, CLASSES, Worker(), 19)
    images = torch.rand(3, 1, 16 if name.startswith("vit") else 12, 16 if "vit" in name else 12)
    model.eval()
    found = state.headed("student")(images)
    assert torch.equal(found["logits"], model(images))
    assert found["embedding"].shape == (3, 6)


def test_pseudo_labels_leave_features_alone_from_the_given_share_on():
    """Where nothing else moves them: labelled rows and turns count nothing here."""
    for apart_from, stays in ((0.0, True), (1.0, False)):
        spec = spec_of(turns=Turns(weight=0, apart_from=apart_from))
        objective = spec.objective.model_copy(update={"labelled": LabelledTerm(weight=0)})
        still = OptimiserSpec(learning_rate=0.5, momentum=0, weight_decay=0)
        spec = spec.model_copy(update={"objective": objective, "optimiser": still})
        state, before = train(spec, steps=1, dropout=0)[0], begun(spec, dropout=0)
        assert same(state.student.features, before.student.features) == stays
        assert not same(state.student.classifier, before.student.classifier)


def test_batches_are_not_cut():
    with pytest.raises(ValueError, match="rows_per_pass can't cut batches"):
        train(SPECS["turns"], worker=Worker(rows_per_pass=3))


def test_rows_are_kept_as_they_are_drawn():
    state, _ = train(SPECS["labelled memory"], steps=1)
    seen = kept(state)["probs"].sum(axis=1)
    assert kept(state)["features"].shape == (9, 6)
    assert seen.sum() == BATCH.labelled
    state, _ = train(SPECS["labelled memory"], steps=2)
    assert (kept(state)["probs"].argmax(axis=1) == data().labelled.targets.numpy()).all()
    assert (kept(state)["probs"].sum(axis=1) == 1).all()
    state, _ = train(SPECS["graph"], steps=1)
    assert len(kept(state)["features"]) == BATCH.pool + BATCH.labelled
    state, _ = train(SPECS["graph"], steps=3)
    assert len(kept(state)["features"]) == LATEST.rows


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "it holds nothing"),
        ({"similarity": Similarity()}, "similarity needs an embedding"),
        ({"refine": MEMORY}, "refine neighbours needs an embedding"),
        (
            {"similarity": Similarity(), "embedding": EmbeddingSpec(keep=LATEST)},
            r"similarity needs embedding\.keep of kind labelled",
        ),
        (
            {"contrast": Contrast(), "embedding": EmbeddingSpec()},
            r"contrast needs embedding\.keep of kind latest",
        ),
        (
            {"refine": PROTOTYPES, "embedding": EmbeddingSpec(width=0, keep=LATEST)},
            r"refine prototypes needs embedding\.keep of kind labelled",
        ),
        ({"turns": Turns(), "embedding": EmbeddingSpec()}, "nothing reads the embedding"),
        (
            {"refine": MEMORY, "embedding": EmbeddingSpec(width=8)},
            "nothing trains the embedding's head: set its width to 0",
        ),
    ],
)
def test_a_representation_that_lacks_something_is_refused(settings, reason):
    with pytest.raises(ValidationError, match=reason):
        RepresentationSpec(**settings)


def test_a_representation_goes_with_a_consistency_term():
    turns = RepresentationSpec(turns=Turns())
    with pytest.raises(ValidationError, match="reads the pool rows of consistency"):
        Objective(representation=turns)
    refined = RepresentationSpec(refine=MEMORY, embedding=EmbeddingSpec(width=0))
    with pytest.raises(ValidationError, match="exclude each other"):
        Objective(representation=refined, consistency=ConsistencyTerm(debias=True))


@pytest.mark.parametrize("name", ["similarity", "graph", "contrast", "alignment", "shrunk"])
def test_blended_views_are_held_against_no_row_of_their_own(name):
    keep = {"contrast": "latest"}.get(name, "labelled")
    near = {} if name == "shrunk" else {"embedding": {"width": 8, "keep": {"kind": keep}}}
    spec = near | {name: {}}
    mixed = {"consistency": {"mix": {"kind": "pairs"}}}
    with pytest.raises(ValidationError, match=f"that representation.{name} needs apart"):
        Objective.model_validate({"representation": spec, **mixed})
    Objective.model_validate({"representation": {"turns": {}}, **mixed})


# ---- placement


def _train_all(worker: Worker, folder: Path) -> None:
    found = ((name, *train(spec, worker=worker, dropout=0)) for name, spec in SPECS.items())
    keep(found, worker, folder)


@pytest.mark.slow
def test_two_workers_train_the_networks_of_one(tmp_path, monkeypatch):
    """Sums in another order: float32 rounding only, after five steps below 1e-4."""
    as_two_workers(_train_all, tmp_path, monkeypatch)
    for name, spec in SPECS.items():
        alone, expected = train(spec, dropout=0)  # which every worker draws for itself
        states, terms = kept_by_two(tmp_path, name, lambda spec=spec: begun(spec, seed=5))
        for found in terms:
            assert found == pytest.approx(expected, rel=1e-3, abs=1e-5), name
        for ours, theirs, single in zip(*map(networks, (*states, alone)), strict=True):
            assert same(ours, theirs)
            assert furthest(ours, single) < 1e-4, name
        assert same_kept(*states)
        for key, value in kept(states[0]).items():
            assert value == pytest.approx(kept(alone)[key], abs=1e-4), (name, key)
