import pytest
import torch
from pydantic import ValidationError

from trainables.augment import STRONG, WEAK
from trainables.losses import CrossEntropy
from trainables.objective import (
    BalanceTerm,
    ConsistencyTerm,
    Objective,
    annealed,
    annealing_bound,
    mixed,
    one_hot,
)
from trainables.schedules import Linear, SigmoidRamp


def test_mixing_is_row_by_row():
    first, second = torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    found = mixed(first, second, torch.tensor([0.75, 1.0]))
    assert found[0].unique().tolist() == [0.75]
    assert torch.equal(found[1], first[1])


def test_mixing_keeps_the_mass_between_its_partners():
    mass = mixed(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.5]]), torch.tensor([0.6]))
    assert mass[0].tolist() == pytest.approx([0.6, 0.2])


def test_a_mixed_target_costs_what_its_partners_cost_apart():
    log_probs, share = torch.log_softmax(torch.tensor([[0.4, -1.0]]), 1), torch.tensor([0.7])
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    cost = CrossEntropy().rows
    apart = 0.7 * cost(log_probs, first) + 0.3 * cost(log_probs, second)
    together = cost(log_probs, mixed(first, second, share))
    assert together.item() == pytest.approx(apart.item(), rel=1e-6)


def test_classes_become_distributions():
    assert one_hot(torch.tensor([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", (0.1, 0.55, 1.0)),
        ("exp", (0.106064, 0.173876, 1.0)),
        ("log", (0.1, 0.926124, 0.993936)),
    ],
)
def test_the_bound_of_annealing_has_its_golden_values(kind, expected):
    found = [annealing_bound(kind, share, 10) for share in (0, 0.5, 1)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_rows_above_the_bound_of_annealing_lose_their_mass():
    log_probs = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]).log()
    mass = 0.25 * torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert annealed(log_probs, mass, 0.6).tolist() == [[0, 0], [0.25, 0], [0.25, 0]]
    assert torch.equal(annealed(log_probs, mass, 1.0), mass)
    assert annealed(log_probs, mass * 0, 0.6).abs().sum() == 0
    certain = torch.tensor([[0.0, -100.0]])
    assert annealed(certain, mass[:1], 1.0).tolist() == [[0.25, 0]], "the bound itself counts"


def test_an_objective_says_whether_rows_depend_on_each_other():
    def reads(**consistency) -> bool:
        return Objective(consistency=ConsistencyTerm(**consistency)).reads_batch_means

    assert not Objective().reads_batch_means
    assert not reads()
    assert reads(fairness=0.01)
    assert reads(fairness=SigmoidRamp(end=0.1, over="steps"))
    assert Objective(balance=BalanceTerm()).reads_batch_means


def test_a_consistency_term_says_whether_it_needs_the_labelled_rows():
    def needs(**settings) -> bool:
        return ConsistencyTerm.model_validate(settings).needs_labelled

    assert not needs()
    assert not needs(calibrators=[{"kind": "align"}, {"kind": "sharpen"}])
    assert needs(debias=True)
    assert needs(selector={"kind": "relative_threshold"})


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"calibrators": [{"kind": "sharpen"}, {"kind": "temperature"}]}, "calibrator temperature"),
        ({"calibrators": [{"kind": "align", "target": "estimated"}]}, "calibrator align"),
        ({"selector": {"kind": "out_of_fold_precision"}}, "selector out_of_fold_precision"),
    ],
)
def test_what_must_see_labelled_rows_out_of_fold_is_refused_inside_the_step(part, name):
    with pytest.raises(ValidationError, match=f"{name} must see labelled rows that the network"):
        ConsistencyTerm.model_validate(part)


def test_a_step_aligns_once():
    twice = {"calibrators": [{"kind": "align"}, {"kind": "align", "target": "labelled"}]}
    with pytest.raises(ValidationError, match="align twice"):
        ConsistencyTerm.model_validate(twice)


def test_selected_rows_are_never_averaged_over_rows_that_the_table_dropped():
    with pytest.raises(ValidationError, match="'selected'"):
        Objective.model_validate({"selected": {"normalise": "all"}})


def test_an_objective_survives_its_plain_form():
    whole = Objective.model_validate(
        {
            "labelled": {"loss": {"kind": "squared_error"}, "anneal": "log", "view": "both"},
            "consistency": {
                "selector": {"kind": "flex_threshold"},
                "calibrators": [{"kind": "align"}],
                "targets": {"kind": "soft", "weight": {"kind": "gaussian"}},
                "memory": {"decay": 0.5, "begin": "uniform"},
            },
            "balance": {},
            "entropy": {"rows": "unlabelled"},
            "doubly_robust": {"alpha": {"schedule": "linear", "start": 0, "end": 1}},
        }
    )
    assert Objective.model_validate(whole.plain()) == whole
    assert whole.doubly_robust.alpha == Linear(start=0, end=1)
    assert (whole.weak, whole.strong) == (WEAK, STRONG)


@pytest.mark.parametrize(
    "fault",
    [
        {"consistency": {"selector": {"kind": "threshold", "threshold": 1.1}}},
        {"consistency": {"targets": {"temperature": 0}}},
        {"consistency": {"threshold": 0.9}},
        {"consistency": {"memory": {"decay": 1}}},
        {"consistency": {"fairness": -0.1}},
        {"doubly_robust": {"alpha": 1.1}},
        {"doubly_robust": {}},
        {"labelled": {"loss": {"kind": "generalised_cross_entropy", "q": 0}}},
        {"selected": {"weight": -1}},
        {"labelled": {"label_smoothing": 1}},
        {"labelled": {"normalise": "all"}},
        {"mixup_alpha": -0.1},
    ],
)
def test_settings_outside_their_bounds_are_refused(fault):
    with pytest.raises(ValidationError):
        Objective.model_validate(fault)
