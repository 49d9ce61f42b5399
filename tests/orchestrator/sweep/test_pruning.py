"""Which trials end early, by tables small enough to do by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.sweep.pruning import GO_ON, Curve, best, collapse, judge, reachable
from orchestrator.sweep.spec import Pruning

QUICK = settings(deadline=None, derandomize=True, max_examples=100)
RULES = ("median", "percentile", "successive_halving", "hyperband")
every_rule = pytest.mark.parametrize("rule", RULES)


def curve(*values: float) -> Curve:
    return dict(enumerate(values))


def flat(*levels: float, rounds: int = 6) -> list[Curve]:
    """Other trials that stay at their level."""
    return [curve(*[level] * rounds) for level in levels]


def ends(pruning: Pruning, mine: Curve, others: list[Curve], *, num_rounds=6, number=0) -> bool:
    return judge(pruning, number, mine, others, num_rounds).ends


# ---- what a trial can still reach


def test_the_best_never_falls():
    rising = curve(0.5, 0.8, 0.6, 0.7)
    assert [best(rising, at) for at in range(4)] == [0.5, 0.8, 0.8, 0.8]


def test_a_rise_is_carried_on_and_halved_each_further_round():
    # six rounds: after round 2 come 3, 4, 5, which add 1/2 + 1/4 + 1/8 of the rise of round 2
    assert reachable(curve(0.5, 0.6, 0.68), 2, 6) == pytest.approx(0.68 + 0.08 * 0.875)
    assert reachable(curve(0.5, 0.6), 1, 6) == pytest.approx(0.6 + 0.1 * 0.9375)
    assert reachable(curve(0.5, 0.6), 1, 2) == pytest.approx(0.6)


def test_a_fall_is_not_carried_on():
    assert reachable(curve(0.5, 0.8, 0.6), 2, 6) == 0.8
    assert reachable(curve(0.5), 0, 6) == 0.5


# ---- when a trial may end


@every_rule
def test_nothing_ends_after_the_round_that_all_share_nor_after_the_last(rule):
    pruning = Pruning(rule=rule, startup_trials=1)
    others = flat(0.9, 0.9, 0.9, 0.9)
    assert not ends(pruning, curve(0.1), others)
    assert ends(pruning, curve(0.1, 0.1), others)
    assert not ends(pruning, curve(0.1, 0.1), others, num_rounds=2)
    assert not ends(pruning, curve(*[0.1] * 6), others)


@every_rule
def test_nothing_ends_before_the_first_round(rule):
    pruning = Pruning(rule=rule, startup_trials=1, first_round=3)
    others = flat(0.9, 0.9, 0.9, 0.9)
    verdicts = [ends(pruning, curve(*[0.1] * rounds), others) for rounds in range(1, 6)]
    assert verdicts.index(True) == 3
    assert not any(verdicts[:3])


@every_rule
def test_the_bar_exists_once_enough_others_reached_the_round(rule):
    pruning = Pruning(rule=rule, startup_trials=4)
    reached, short = flat(0.9, 0.9, 0.9), flat(0.9, 0.9, rounds=1)
    assert not ends(pruning, curve(0.1, 0.1), reached + short)
    assert ends(pruning, curve(0.1, 0.1), [*reached, *short, curve(0.9, 0.9)])


def test_patience_waits_for_as_many_rounds_in_a_row():
    others = flat(0.5, 0.5, 0.5, 0.5)
    # the first round below is round 1; of these curves only the last two stay below for two
    for values, expected in [
        ((0.4, 0.4), False),
        ((0.4, 0.4, 0.4), True),
        ((0.6, 0.6, 0.3), False),
        ((0.4, 0.4, 0.4, 0.4), True),
    ]:
        found = ends(Pruning(patience_rounds=2), curve(*values), others)
        assert found == expected, values
    assert ends(Pruning(patience_rounds=1), curve(0.4, 0.4), others)
    assert not ends(Pruning(patience_rounds=3), curve(0.4, 0.4, 0.4), others)


def test_a_trial_that_rises_first_and_falls_later_is_not_ended_by_one_bad_round():
    others = flat(0.70, 0.75, 0.78, 0.79)
    risen = curve(0.6, 0.82, 0.55)
    assert judge(Pruning(), 7, risen, others, 6) == GO_ON
    assert ends(Pruning(), curve(0.6, 0.62, 0.55), others)


def test_a_slow_trial_that_still_rises_is_not_ended():
    others = flat(0.70, 0.75, 0.78, 0.79)
    # 0.70 + 0.10 * 0.9375 = 0.79 is above the median 0.765, though 0.70 is below it
    assert not ends(Pruning(), curve(0.60, 0.70), others)
    assert ends(Pruning(), curve(0.69, 0.70), others)


def test_the_reason_holds_the_numbers():
    verdict = judge(Pruning(), 0, curve(0.5, 0.6, 0.6), flat(0.7, 0.8, 0.9, 0.9), 6)
    assert verdict.reason == (
        "after round 2 the best is 0.6000 and its rise leads to 0.6000, "
        "below 0.8500, the bar of median over 4 other trials"
    )


# ---- each rule


@pytest.mark.parametrize(
    ("pruning", "least"),
    [
        (Pruning(rule="median"), 0.6),
        (Pruning(rule="percentile", share=0.5), 0.6),
        (Pruning(rule="percentile", share=0.25), 0.7),
        (Pruning(rule="percentile", share=0.75), 0.5),
    ],
)
def test_the_bar_of_median_and_percentile(pruning, least):
    others = flat(0.4, 0.5, 0.6, 0.7, 0.8)
    assert not ends(pruning, curve(least, least), others)
    assert ends(pruning, curve(least - 0.001, least - 0.001), others)


def test_the_bar_reads_the_best_of_the_others_and_not_their_bad_round():
    others = [curve(0.5, 0.9, 0.2)] * 4
    assert ends(Pruning(), curve(0.5, 0.8, 0.8), others)


def test_halving_judges_at_its_rungs_and_lets_one_in_three_go_on():
    pruning = Pruning(rule="successive_halving", reduction=3)
    others = flat(0.1, 0.2, 0.3, 0.4, 0.5, rounds=12)

    def after(round_: int, level: float) -> bool:
        return ends(pruning, curve(*[level] * (round_ + 1)), others, num_rounds=12)

    # of 6 trials the best 2 go on: 0.5 and the one in question if it reaches 0.4
    assert [after(1, level) for level in (0.35, 0.4, 0.45)] == [True, False, False]
    assert [round_ for round_ in range(11) if after(round_, 0.05)] == [1, 3, 9]


def test_halving_starts_its_rungs_at_the_first_round():
    pruning = Pruning(rule="successive_halving", reduction=2, first_round=2)
    others = flat(0.5, 0.5, 0.5, 0.5, rounds=12)
    mine = [curve(*[0.1] * (r + 1)) for r in range(11)]
    assert [r for r in range(11) if ends(pruning, mine[r], others, num_rounds=12)] == [2, 4, 8]


def test_hyperband_has_two_brackets_that_differ_in_their_first_rung():
    pruning = Pruning(rule="hyperband", reduction=3)
    others = flat(0.5, 0.5, 0.5, 0.5, rounds=12)

    def rungs(number: int) -> list[int]:
        mine = [curve(*[0.1] * (r + 1)) for r in range(11)]
        return [
            r for r in range(11) if ends(pruning, mine[r], others, num_rounds=12, number=number)
        ]

    assert rungs(0) == rungs(2) == [1, 3, 9]
    assert rungs(1) == rungs(3) == [3, 9]


CURVES = st.lists(
    st.lists(st.floats(0, 1), min_size=1, max_size=6).map(lambda v: curve(*v)),
    min_size=1,
    max_size=9,
)
PRUNING = st.builds(
    Pruning,
    rule=st.sampled_from(RULES),
    share=st.sampled_from([0.1, 0.5, 0.9]),
    reduction=st.integers(2, 4),
    startup_trials=st.integers(1, 4),
    patience_rounds=st.integers(1, 3),
)


@QUICK
@given(pruning=PRUNING, curves=CURVES, number=st.integers(0, 3))
def test_the_best_curve_is_never_ended(pruning, curves, number):
    length = max(map(len, curves))
    at = [c for c in curves if len(c) == length]
    mine = max(at, key=lambda c: best(c, length - 1))
    # best in every round: what a curve can be judged by, with any patience
    mine = {r: max(c.get(r, 0.0) for c in curves) for r in mine}
    assert not ends(pruning, mine, curves, number=number)


@QUICK
@given(pruning=PRUNING, curves=CURVES, mine=st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_rule_none_ends_nothing_and_others_never_without_enough_trials(pruning, curves, mine):
    assert not ends(pruning.model_copy(update={"rule": "none"}), curve(*mine), curves)
    few = pruning.model_copy(update={"startup_trials": len(curves) + 1})
    assert not ends(few, curve(*mine), curves)


@QUICK
@given(pruning=PRUNING, curves=CURVES, mine=st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_a_verdict_does_not_hang_on_the_order_of_trials_and_says_why(pruning, curves, mine):
    verdict = judge(pruning, 0, curve(*mine), curves, 6)
    assert judge(pruning, 0, curve(*mine), curves[::-1], 6) == verdict
    assert bool(verdict.reason) == verdict.ends


# ---- collapse


def test_a_fall_far_below_round_zero_is_a_collapse():
    verdict = collapse(Pruning(), curve(0.8, 0.85, 0.69), (50, 50), (10, 10))
    assert verdict.ends
    assert verdict.reason == (
        "collapsed: validation fell from 0.8000 in round 0 to 0.6900 in round 2, by more than 0.1"
    )
    assert collapse(Pruning(), curve(0.8, 0.71), (50, 50), (10, 10)) == GO_ON
    assert collapse(Pruning(collapse_fall=0.2), curve(0.8, 0.69), (50, 50), (10, 10)) == GO_ON


def test_a_class_that_swallows_the_selection_is_a_collapse():
    # two even classes: the bar lies in the middle between 1/2 and 1
    verdict = collapse(Pruning(), curve(0.8, 0.8), (20, 80), (10, 10))
    assert verdict.reason == ("collapsed: class 1 holds 0.800 of the selection, more than 0.750")
    assert collapse(Pruning(), curve(0.8, 0.8), (25, 75), (10, 10)) == GO_ON


def test_the_bar_of_a_class_follows_the_labelled_rows_unless_it_is_given():
    uneven = (90, 10)  # the bar lies at 0.95
    assert collapse(Pruning(), curve(0.8, 0.8), (94, 6), uneven) == GO_ON
    assert collapse(Pruning(), curve(0.8, 0.8), (96, 4), uneven).ends
    given_bar = Pruning(collapse_class_share=0.5)
    assert collapse(given_bar, curve(0.8, 0.8), (60, 40), uneven).ends


def test_nothing_collapses_after_round_zero_nor_before_the_first_round():
    assert collapse(Pruning(), curve(0.1), (0, 100), (10, 10)) == GO_ON
    assert collapse(Pruning(first_round=2), curve(0.9, 0.1), (0, 100), (10, 10)) == GO_ON
    assert collapse(Pruning(first_round=2), curve(0.9, 0.1, 0.1), (0, 100), (10, 10)).ends


@pytest.mark.parametrize("class_rows", [(), (0, 0), (100,)])
def test_without_a_selection_or_a_second_class_only_a_fall_is_a_collapse(class_rows):
    assert collapse(Pruning(), curve(0.8, 0.8), class_rows, (10, 10)) == GO_ON
    assert collapse(Pruning(), curve(0.8, 0.6), class_rows, (10, 10)).ends


def test_a_collapse_ends_a_trial_under_any_rule():
    assert collapse(Pruning(rule="none"), curve(0.8, 0.6), (50, 50), (10, 10)).ends
