"""Selectors and weightings that read whole rows: fitted on a sample, applied row by row."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from tests.trainables.selectors.pools import P, labelled, of_probs, part
from trainables.beliefs import Beliefs
from trainables.calibrators import Transport
from trainables.objective import ConsistencyTerm
from trainables.sample import sample
from trainables.schedules import Linear, at_round
from trainables.selectors.fixed import Everything, Threshold
from trainables.selectors.rules import NEVER, Rule
from trainables.selectors.running import Memory, Running
from trainables.selectors.sampled import FirstComponent, SeparationRule, TransductiveBound
from trainables.selectors.separation import separate
from trainables.selectors.sketch import Sketch, sketch
from trainables.selectors.transductive import transductive_thresholds
from trainables.targets import TargetSpec
from trainables.weighting import LEAST, InverseClass, Mass, One, Separated

SELECTORS = (
    SeparationRule(),
    SeparationRule(mode="linear", lam=0.2),
    SeparationRule(least_confidence=0.6),
    FirstComponent(),
    FirstComponent(least_confidence=0.6),
    TransductiveBound(),
    TransductiveBound(grid=20, least_rows=1),
)
WEIGHTINGS = (Mass(), Separated(), Separated(mode="linear", lam=0.3, alpha=5.0))
every_selector = pytest.mark.parametrize("selector", SELECTORS, ids=str)
every_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS, ids=str)


def pool(num: int = 300, classes: int = 4, seed: int = 0) -> Beliefs:
    rows = np.random.default_rng(seed).dirichlet([0.4] * classes, num)
    return of_probs(rows.tolist() or np.zeros((0, classes)), [f"row-{i}" for i in range(num)])


POOL = pool()


def sketched(beliefs: Beliefs, sampled: np.ndarray | None = None) -> Sketch:
    """The sketch of a pool with a sample of its rows; all of them unless told."""
    sampled = beliefs.log_probs if sampled is None else sampled
    return replace(sketch(beliefs, pool_rows=len(beliefs), seed=0), rows=sampled)


def fitted(selector, beliefs: Beliefs = POOL, sampled: np.ndarray | None = None) -> Rule:
    return selector.fit(sketched(beliefs, sampled), labelled(beliefs.num_classes), 0)


def weights(weighting, beliefs: Beliefs = POOL, rows: np.ndarray | None = None) -> np.ndarray:
    """Weights of a pool's rows, or of these ones in their place."""
    statistics = sketched(beliefs)
    rule = Everything().fit(statistics, labelled(beliefs.num_classes), 0)
    rows = beliefs.log_probs if rows is None else rows
    seen = Beliefs.of_log_probs([str(i) for i in range(len(rows))], rows.astype(np.float32))
    found = weighting.fit(statistics, rule)
    return found.of(seen.labels, seen.confidence, seen.log_probs)


def test_the_golden_table_is_separated_as_published():
    table = of_probs(P)
    accepted = fitted(SeparationRule(least_confidence=0), table).accepts(table)
    assert np.flatnonzero(accepted).tolist() == [0, 1, 3, 5, 6, 8, 9]


def test_the_golden_table_is_halved_along_its_first_component():
    table = of_probs(P)
    rule = fitted(FirstComponent(), table)
    assert np.flatnonzero(rule.accepts(table)).tolist() == [0, 1, 3, 6, 8, 9]


@pytest.mark.parametrize("mode", ["neglog", "linear"])
@pytest.mark.parametrize("floor", [0, 0.3, 0.6, 1.0])
def test_a_separation_accepts_the_reliable_rows_from_its_floor_on(mode, floor):
    rule = fitted(SeparationRule(mode=mode, lam=0.4, least_confidence=floor))
    known = separate(POOL.log_probs, mode, 0.4)
    expected = known.accepts(POOL.log_probs) & (POOL.confidence >= np.float32(floor))
    assert (rule.accepts(POOL) == expected).all()
    assert rule.separation == known


def test_a_floor_holds_back_uniform_rows_that_the_rule_itself_accepts():
    table = of_probs([*P, [1 / 3] * 3])
    without, default = (
        fitted(SeparationRule(least_confidence=floor), table).accepts(table) for floor in (0, 0.34)
    )
    assert without[10]
    assert not default[10]


def test_a_floor_accepts_a_confidence_that_is_stored_as_it():
    table = of_probs([[0.7, 0.2, 0.1], [0.9, 0.05, 0.05], [0.95, 0.03, 0.02], [0.7, 0.15, 0.15]])
    rule = fitted(SeparationRule(least_confidence=0.7), table)
    assert rule.least == (float(np.float32(0.7)),) * 3
    assert rule.accepts(table).any()


def test_the_floor_of_a_separation_may_move_over_rounds():
    moving = SeparationRule(least_confidence=Linear(start=0.9, end=0.5))
    sizes = [int(fitted(at_round(moving, r, 3)).accepts(POOL).sum()) for r in range(3)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2]


@pytest.mark.parametrize("grid", [20, 50])
@pytest.mark.parametrize("least_rows", [1, 20, 80])
def test_a_bound_accepts_rows_from_the_threshold_of_their_class_on(grid, least_rows):
    rule = fitted(TransductiveBound(grid=grid, least_rows=least_rows))
    votes = np.exp(POOL.log_probs.astype(np.float64))
    least = transductive_thresholds(votes, grid=grid, least_rows=least_rows)
    assert rule.least == pytest.approx(least, abs=1e-6)
    assert (rule.accepts(POOL) == (POOL.confidence >= np.float32(least)[POOL.labels])).all()
    assert any(rule.accepts(POOL)) == (least_rows < 80)


def test_a_class_of_few_predicted_rows_accepts_none_of_them():
    rows = np.bincount(POOL.labels, minlength=4)
    rule = fitted(TransductiveBound(least_rows=int(rows.min()) + 1))
    assert rule.least[int(rows.argmin())] == NEVER
    assert not rule.accepts(POOL)[POOL.labels == rows.argmin()].any()
    assert rule.accepts(POOL).any()


@every_selector
def test_shards_give_what_the_whole_gives(selector):
    rule, order = fitted(selector), np.random.default_rng(0).permutation(300)
    whole = rule.accepts(POOL)
    shards = [rule.accepts(part(POOL, block)) for block in np.array_split(np.arange(300), 7)]
    assert (np.concatenate(shards) == whole).all()
    assert (rule.accepts(part(POOL, order)) == whole[order]).all()
    assert rule.accepts(part(POOL, [])).shape == (0,)


@every_selector
def test_the_order_of_the_sample_is_of_no_effect(selector):
    order = np.random.default_rng(0).permutation(300)
    assert fitted(selector, sampled=POOL.log_probs[order]) == fitted(selector)


@every_selector
def test_a_rule_is_that_of_the_sample_and_not_of_the_pool(selector):
    few = sample(POOL.example_ids, POOL.log_probs, seed=0, limit=150)
    rows = part(POOL, [POOL.example_ids.index(name) for name in few.ids.tolist()])
    found = fitted(selector, sampled=few.values)
    assert found.least == fitted(selector, rows).least
    assert found.separation == fitted(selector, rows).separation
    assert found.also == fitted(selector, rows).also


@every_selector
def test_rows_that_are_no_numbers_are_never_accepted(selector):
    broken = Beliefs.of_log_probs(
        [*POOL.example_ids, "nan"], np.float32([*POOL.log_probs, [np.nan] * 4])
    )
    rule = fitted(selector, broken)
    assert rule == fitted(selector)
    assert not rule.accepts(broken)[-1]


@every_selector
def test_rows_that_filters_held_back_are_never_accepted(selector):
    held = replace(POOL, eligible=np.arange(300) % 2 == 0)
    assert (
        fitted(selector).accepts(held) == (fitted(selector).accepts(POOL) & held.eligible)
    ).all()


@every_selector
def test_a_sample_without_rows_gives_a_rule(selector):
    nothing = pool(0)
    rule = fitted(selector, nothing)
    assert rule.accepts(nothing).shape == (0,)
    if isinstance(selector, TransductiveBound):
        assert rule.least == (NEVER,) * 4


@pytest.mark.parametrize("reader", [*SELECTORS, *WEIGHTINGS[1:]], ids=str)
def test_whole_rows_are_needed_and_the_error_says_so(reader):
    statistics = sketch(POOL, pool_rows=300, seed=0)
    rule = Everything().fit(statistics, labelled(4), 0)
    inputs = (labelled(4), 0) if reader in SELECTORS else (rule,)
    with pytest.raises(ValueError, match="no sample of rows was taken"):
        reader.fit(statistics, *inputs)


@every_selector
def test_a_training_step_keeps_no_whole_rows(selector):
    running = Running(4, Memory(), 300)
    with pytest.raises(ValueError, match="acts on the stored table only"):
        selector.fit(running, labelled(4), 0)
    with pytest.raises(ValueError, match="acts on the stored table only"):
        Separated().fit(running, Rule((0,) * 4, (0.0,) * 4, coarse=False, seed=0))


REFUSED = {
    "calibrator transport": {"calibrators": (Transport(),)},
    "selector separation": {"selector": SeparationRule()},
    "selector first_component": {"selector": FirstComponent()},
    "selector transductive_bound": {"selector": TransductiveBound()},
    "weighting mass": {"targets": TargetSpec(weight=Mass())},
    "weighting separated": {"targets": TargetSpec(weight=Separated())},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_consistency_term_refuses_what_acts_on_the_stored_table_only(name):
    with pytest.raises(ValidationError, match=f"{name} can act on the stored table only"):
        ConsistencyTerm(**REFUSED[name])


def test_a_consistency_term_names_everything_that_it_refuses():
    every = {key: value for settings in REFUSED.values() for key, value in settings.items()}
    expected = "calibrator transport and selector transductive_bound and weighting separated can"
    with pytest.raises(ValidationError, match=expected):
        ConsistencyTerm(**every)


def test_what_needs_whole_rows_says_so():
    assert all(selector.needs_sample for selector in SELECTORS)
    assert [w.needs_sample for w in WEIGHTINGS] == [False, True, True]
    assert not Threshold().needs_sample
    assert not One().needs_sample


def test_a_row_counts_by_the_mass_that_its_probabilities_sum_to():
    rows = np.log(np.array([[0.5, 0.25, 0.25], [0.3, 0.1, 0.1], [0.02, 0.0, 0.0]]) + 1e-30)
    found = weights(Mass(), of_probs(P), rows)
    assert found == pytest.approx([1.0, 0.5, 0.02], abs=1e-6)


def test_whole_rows_have_a_mass_of_one():
    assert weights(Mass()) == pytest.approx(np.ones(300), abs=1e-6)


def test_separated_weights_have_their_golden_values():
    found = weights(Separated(), of_probs(P))
    assert found[[2, 4, 7]] == pytest.approx([0.002486, 0.703827, 0.021233], abs=1e-6)
    assert found[[0, 1, 3, 5, 6, 8, 9]].tolist() == [1.0] * 7


@pytest.mark.parametrize("mode", ["neglog", "linear"])
def test_separated_weights_are_those_of_the_separation(mode):
    found = weights(Separated(mode=mode, lam=0.4, alpha=3.0))
    expected = separate(POOL.log_probs, mode, 0.4).weights(POOL.log_probs, 3.0)
    assert found == pytest.approx(expected.clip(LEAST), abs=1e-7)
    assert (found < 1).any()


def test_a_larger_alpha_lets_rows_far_from_the_reliable_ones_count_more():
    few, many = (weights(Separated(alpha=alpha)) for alpha in (0.5, 10.0))
    assert (many >= few).all()
    assert (many > few).any()


@every_weighting
def test_every_weight_is_above_zero_and_at_most_one_and_of_its_row_alone(weighting):
    rows = np.concatenate([POOL.log_probs, np.log(np.float32([[1, 0, 0, 0]]) + 1e-38)])
    found = weights(weighting, POOL, rows)
    assert ((found > 0) & (found <= 1)).all()
    assert found.dtype == np.float32
    shards = [weights(weighting, POOL, block) for block in np.array_split(rows, 7)]
    assert (np.concatenate(shards) == found).all()


def test_only_rows_that_a_separation_accepts_make_a_class_frequent():
    statistics = sketched(of_probs(P))
    rule = SeparationRule(least_confidence=0).fit(statistics, labelled(), 0)
    accepted = np.bincount(of_probs(P).labels[rule.accepts(of_probs(P))], minlength=3)
    expected = accepted.min() / accepted
    assert InverseClass().fit(statistics, rule).by_class == pytest.approx(expected)
