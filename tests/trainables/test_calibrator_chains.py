"""Chains of calibrators that are more than one tilt: transport plans, sinks and refineries."""

import math
from itertools import pairwise, product

import numpy as np
import pytest

from tests.trainables.selectors.pools import P, labelled, of_probs, part
from trainables import transport
from trainables.beliefs import Beliefs, Doubt
from trainables.calibrators import Align, Sharpen, Transport, estimated_prior, fit_chain
from trainables.pool_mean import pool_mean
from trainables.row_maps import InTurn, Refined, RowMap, Tilt, calibrated, solved_of
from trainables.schedules import Linear, at_round
from trainables.selectors.rules import Labelled
from trainables.targets import TargetSpec

UNIFORM = np.full(3, 1 / 3)
PLANS = {
    "partial": Transport(plan="partial", share=0.5),
    "partial of all": Transport(plan="partial", epsilon=0.3),
    "allocation": Transport(plan="allocation", share=0.5, epsilon=0.05, slack=1.1),
    "balanced": Transport(plan="balanced", epsilon=0.5),
    "refine": Transport(plan="refine"),
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
WITH_SINK = {"partial", "allocation"}


def rows(seed: int = 0, num: int = 50) -> np.ndarray:
    """Log-probabilities float32 [num, 3] of rows that lean towards the last class."""
    logits = np.random.default_rng(seed).normal(size=(num, 3)) * 2 + [0.0, 0.5, 1.5]
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


LOGS = rows()
TABLE = Beliefs.of_log_probs([str(i) for i in range(50)], LOGS)
COUNTED = Labelled(np.array([6, 3, 1]))


def probs(by: RowMap, logs: np.ndarray = LOGS) -> np.ndarray:
    return np.exp(by.applied(logs).astype(np.float64))


def directly(plan: Transport, logs: np.ndarray, target: np.ndarray = UNIFORM) -> np.ndarray:
    """What `trainables.transport` makes of these rows, times the mass of each."""
    wide = logs.astype(np.float64)
    if plan.plan == "refine":
        return transport.refine(wide, target).labels(wide)
    if plan.plan == "balanced":
        found = transport.balanced(wide, target, plan.epsilon)
    elif plan.plan == "partial":
        found = transport.partial(wide, plan.share, target, plan.epsilon)
    else:
        bounds = np.minimum(target * plan.slack, 1)
        found = transport.allocation(wide, plan.share, bounds, reg=1 / plan.epsilon)
    return found.labels(wide) * found.mass(wide)[:, None]


def chain(*calibrators, logs: np.ndarray = LOGS, known: Labelled = COUNTED) -> RowMap:
    """The chain fitted on these rows alone."""
    told = Beliefs.of_log_probs([str(i) for i in range(len(logs))], logs)
    return fit_chain(
        calibrators,
        lambda _, before: pool_mean(calibrated(before, told)).shares(),
        known,
        lambda before: before.applied(logs),
    )


@every_plan
def test_a_plan_in_a_chain_is_that_plan_applied_directly(plan):
    assert probs(chain(plan)) == pytest.approx(directly(plan, LOGS), abs=1e-6)


@every_plan
def test_a_plan_behind_another_calibrator_is_fitted_on_and_applied_to_what_that_made(plan):
    sharp = Tilt(power=2).applied(LOGS)
    found = probs(chain(Sharpen(temperature=0.5), plan))
    assert found == pytest.approx(directly(plan, sharp), abs=1e-4)


@pytest.mark.parametrize("name", sorted(WITH_SINK))
def test_rows_behind_a_plan_with_a_sink_sum_to_the_mass_that_it_gives_them(name):
    found = probs(chain(PLANS[name])).sum(axis=1)
    expected = directly(PLANS[name], LOGS).sum(axis=1)
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert (found < 0.9).any()


@pytest.mark.parametrize("name", sorted(PLANS.keys() - WITH_SINK))
def test_rows_behind_a_plan_without_a_sink_sum_to_one(name):
    assert probs(chain(PLANS[name])).sum(axis=1) == pytest.approx(np.ones(50), abs=1e-6)


def test_a_balanced_plan_gives_every_class_its_share():
    found = probs(chain(PLANS["balanced"])).mean(axis=0)
    assert found == pytest.approx(UNIFORM, abs=1e-4)


@every_plan
def test_a_target_of_the_labelled_rows_is_their_shares(plan):
    found = chain(plan.model_copy(update={"target": "labelled"}))
    expected = directly(plan, LOGS, np.array([0.6, 0.3, 0.1]))
    assert probs(found) == pytest.approx(expected, abs=1e-6)


@every_plan
def test_an_estimated_target_is_solved_for_from_labelled_rows(plan):
    known = labelled()
    found = chain(plan.model_copy(update={"target": "estimated"}), known=known)
    target = estimated_prior(Tilt(), known, np.exp(LOGS.astype(np.float64)).mean(axis=0))
    assert probs(found) == pytest.approx(directly(plan, LOGS, target), abs=1e-6)


@every_plan
def test_an_estimated_target_needs_out_of_fold_predictions(plan):
    estimated = plan.model_copy(update={"target": "estimated"})
    assert estimated.needs_labelled
    assert not plan.needs_labelled
    with pytest.raises(ValueError, match="needs out-of-fold predictions"):
        chain(estimated)


@every_plan
def test_a_class_without_labelled_rows_still_gets_a_share(plan):
    found = chain(
        plan.model_copy(update={"target": "labelled"}), known=Labelled(np.array([9, 9, 0]))
    )
    assert np.isfinite(probs(found)).all()


@every_plan
def test_rows_of_nan_are_left_out_of_the_fit_and_stay_unusable(plan):
    broken = np.concatenate([LOGS, np.full((2, 3), np.nan, np.float32)])
    table = Beliefs.of_log_probs([str(i) for i in range(52)], broken)
    found = chain(plan, logs=broken)
    assert found == chain(plan)
    assert calibrated(found, table).usable().tolist() == [True] * 50 + [False] * 2


@every_plan
def test_a_plan_is_applied_row_by_row(plan):
    fitted, order = chain(plan), np.random.default_rng(0).permutation(50)
    whole = fitted.applied(LOGS)
    assert (fitted.applied(LOGS[order]) == whole[order]).all()
    parts = [fitted.applied(block) for block in np.array_split(LOGS, 7)]
    assert (np.concatenate(parts) == whole).all()
    assert fitted.applied(LOGS[:0]).shape == (0, 3)


@every_plan
def test_the_order_of_the_sample_is_of_no_effect(plan):
    order = np.random.default_rng(0).permutation(50)
    assert probs(chain(plan, logs=LOGS[order])) == pytest.approx(probs(chain(plan)), abs=1e-6)


@every_plan
def test_a_plan_fitted_on_no_rows_keeps_every_label(plan):
    assert (probs(chain(plan, logs=LOGS[:0])).argmax(axis=1) == TABLE.labels).all()


CERTAIN = of_probs([[1.0, 0.0, 0.0]] * 9 + [[0.0, 1.0, 0.0]] * 3).log_probs


@every_plan
def test_certain_rows_give_no_nan(plan):
    assert not np.isnan(chain(plan, logs=CERTAIN).applied(CERTAIN)).any()


@pytest.mark.parametrize(
    "name",
    [
        "partial",
        "allocation",
        "refine",
        "balanced",
    ],
)
def test_a_plan_over_certain_rows_is_that_plan_applied_directly(name):
    plan = PLANS[name]
    found = probs(chain(plan, logs=CERTAIN), CERTAIN)
    assert found == pytest.approx(directly(plan, CERTAIN), abs=1e-5)


def test_the_share_of_a_plan_may_grow_over_rounds():
    growing = Transport(share=Linear(start=0.2, end=1.0))
    masses = [probs(chain(at_round(growing, r, 3))).sum(axis=1).mean() for r in range(3)]
    assert masses == pytest.approx([0.2, 0.6, 1.0], abs=1e-4)


def test_plans_act_on_the_stored_table_only():
    with pytest.raises(ValueError, match="calibrator transport acts on the stored table only"):
        fit_chain((Transport(),), lambda _, before: UNIFORM, COUNTED)


def test_a_calibrator_behind_a_plan_sees_the_means_that_the_plan_left():
    seen: list[np.ndarray] = []

    def mean_of(_: int, before: RowMap) -> np.ndarray:
        seen.append(pool_mean(calibrated(before, TABLE)).shares())
        return seen[-1]

    plan = PLANS["partial"]
    found = fit_chain((plan, Align()), mean_of, COUNTED, lambda before: before.applied(LOGS))
    assert seen[0] == pytest.approx(directly(plan, LOGS).mean(axis=0), abs=1e-6)
    after = Align().fit(seen[0], chain(plan), COUNTED)
    assert found.applied(LOGS) == pytest.approx(after.applied(chain(plan).applied(LOGS)), abs=1e-5)


def test_a_sink_takes_its_part_of_a_row_by_hand():
    logs = np.log(np.float32([[0.5, 0.5], [0.8, 0.2]]))
    found = probs(Tilt(power=1.0, shift=(math.log(2), 0.0), sink=0.0), logs)
    assert found == pytest.approx(np.array([[1.0, 0.5], [1.6, 0.2]]) / [[2.5], [2.8]], abs=1e-6)


def test_a_sink_without_mass_takes_nothing_and_is_not_the_same_as_none():
    found = Tilt(sink=-math.inf)
    assert probs(found) == pytest.approx(np.exp(LOGS.astype(np.float64)), abs=1e-6)
    assert found != Tilt()


SINKING = Tilt(3.0, (0.5, 0.0, -0.5), -1.0)
MAPS: dict[str, RowMap] = {
    "nothing": Tilt(),
    "power": Tilt(power=2.0),
    "shift": Tilt(0.5, (1.0, 0.0, -1.0)),
    "sink": SINKING,
    "refined": Refined(transport.refine(LOGS.astype(np.float64), np.array([0.5, 0.3, 0.2]))),
    "in turn": InTurn((SINKING, Tilt(shift=(0.0, 1.0, 0.0)))),
}


PLAIN = ("power", "shift", "in turn")
"""Maps that end with a tilt of their own normalisation."""


def _meets_a_sink(names: tuple[str, ...]) -> bool:
    acting = [name for name in names if name != "nothing"]
    return any((plain, "sink") in pairwise(acting) for plain in PLAIN)


def same_however_grouped(*names: str) -> None:
    a, b, c = (MAPS[name] for name in names)
    expected = np.exp(c.applied(b.applied(a.applied(LOGS))).astype(np.float64))
    assert probs(a.then(b).then(c)) == pytest.approx(expected, abs=1e-5)
    assert probs(a.then(b.then(c))) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("first", MAPS)
def test_maps_in_turn_are_one_map_however_they_are_grouped(first):
    for names in product([first], MAPS, MAPS):
        if not _meets_a_sink(names):
            same_however_grouped(*names)


@pytest.mark.parametrize("last", ["nothing", "sink", "refined"])
@pytest.mark.parametrize("first", PLAIN)
def test_a_tilt_a_sink_and_a_third_map_are_one_map_however_they_are_grouped(first, last):
    same_however_grouped(first, "sink", last)


@pytest.mark.parametrize("by", MAPS.values(), ids=MAPS)
def test_rows_of_nan_stay_unusable_behind_every_map(by):
    broken = np.float32([*LOGS[:3], [np.nan] * 3, [np.nan, -1.0, -2.0]])
    found = calibrated(by, Beliefs.of_log_probs(list("abcde"), broken))
    assert found.usable().tolist() == [True] * 3 + [False] * 2


@pytest.mark.parametrize("by", [m for n, m in MAPS.items() if n != "nothing"], ids=[*MAPS][1:])
def test_mapped_beliefs_keep_their_doubt_and_what_filters_held_back(by):
    doubt = Doubt(*(np.full(10, x, np.float32) for x in (1, 0, 2)))
    plain = of_probs(P)
    table = Beliefs(
        plain.example_ids, plain.labels, plain.confidence, plain.log_probs, doubt, np.arange(10) < 4
    )
    found = calibrated(by, table)
    assert found.doubt is doubt
    assert found.usable().tolist() == [True] * 4 + [False] * 6
    assert (found.labels == found.log_probs.argmax(axis=1)).all()


def test_soft_targets_behind_a_sink_are_whole_distributions():
    seen = calibrated(chain(PLANS["partial"]), TABLE)
    targets = TargetSpec(kind="soft").distribution(seen)
    assert targets.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    assert seen.confidence == pytest.approx(probs(chain(PLANS["partial"])).max(axis=1), abs=1e-6)


def test_a_sample_may_be_a_part_of_the_rows_that_the_plan_is_applied_to():
    fitted = chain(PLANS["partial"], logs=LOGS[:20])
    few = part(TABLE, range(20))
    assert (calibrated(fitted, TABLE).log_probs[:20] == calibrated(fitted, few).log_probs).all()


def test_the_mass_that_a_plan_gives_a_row_survives_the_calibrators_behind_it():
    masses = probs(chain(PLANS["partial"], Sharpen(temperature=0.9))).sum(axis=1)
    assert masses.mean() == pytest.approx(0.5, abs=0.05)


@every_plan
def test_a_chain_tells_how_its_transport_was_found(plan):
    whole = Sharpen(temperature=0.5).fit(UNIFORM, Tilt(), COUNTED)
    assert solved_of(whole) is None
    whole = whole.then(plan.fit_rows(LOGS.astype(np.float64), whole, COUNTED))
    found = solved_of(whole.then(Sharpen(temperature=2.0).fit(UNIFORM, whole, COUNTED)))
    assert found is not None
    assert found.iterations >= 1
    assert 0 <= found.mass_error < 0.05


def test_a_transport_that_was_cut_short_leaves_more_mass_in_a_wrong_place():
    short, whole = (transport.balanced(LOGS, UNIFORM, 0.5, n) for n in (1, 100))
    assert (short.solved.iterations, whole.solved.iterations > 1) == (1, True)
    assert short.solved.mass_error > whole.solved.mass_error
    labels = whole.labels(LOGS).sum(axis=0) / len(LOGS)
    assert np.abs(labels - UNIFORM).sum() == pytest.approx(whole.solved.mass_error, abs=1e-9)
