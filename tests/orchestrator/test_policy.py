"""Round policy: small examples of every decision between rounds."""

import ast
import inspect
from dataclasses import fields

import pytest

from orchestrator import policy as policy_module
from orchestrator.policy import Played, Verdict, delivered, judge, stop_reason, teacher_in_force
from orchestrator.recipe import RoundPolicy


def played(*validations: float, rolled_back: tuple[int, ...] = ()) -> list[Played]:
    return [Played(i, v, kept=i not in rolled_back) for i, v in enumerate(validations)]


def test_the_first_round_is_kept_however_bad_it_is():
    assert judge(RoundPolicy(roll_back_below=0.0), [], 0.0).kept


def test_without_a_bound_every_round_is_kept():
    assert judge(RoundPolicy(roll_back_below=None), played(0.9), 0.1) == Verdict(True, "kept")


def test_a_fall_of_more_than_the_bound_is_rolled_back_with_the_numbers():
    verdict = judge(RoundPolicy(roll_back_below=0.05), played(0.9), 0.84)
    assert not verdict.kept
    assert verdict.reason == (
        "rolled back: validation 0.8400 is 0.0600 below the best 0.9000, more than 0.05"
    )


def test_a_fall_of_exactly_the_bound_is_kept():
    assert judge(RoundPolicy(roll_back_below=0.05), played(0.9), 0.85).kept


def test_a_round_is_compared_with_the_best_round_that_was_kept():
    policy = RoundPolicy(roll_back_below=0.05)
    assert not judge(policy, played(0.9, 0.88), 0.84).kept
    assert judge(policy, played(0.8, 0.99, rolled_back=(1,)), 0.78).kept


@pytest.mark.parametrize("validations", [(), (0.5,), (0.5, 0.4, 0.3)])
def test_a_run_goes_on_until_all_rounds_are_played(validations):
    assert stop_reason(RoundPolicy(num_rounds=4), played(*validations)) is None


def test_a_run_stops_after_its_last_round():
    assert stop_reason(RoundPolicy(num_rounds=2), played(0.1, 0.2)) == "all rounds played"


def test_a_run_stops_on_a_plateau_of_as_many_rounds_as_its_patience():
    policy = RoundPolicy(num_rounds=10, patience_rounds=2)
    assert stop_reason(policy, played(0.5, 0.6, 0.6)) is None
    assert stop_reason(policy, played(0.5, 0.6, 0.6, 0.59)) == "no better validation for 2 rounds"


def test_a_better_round_ends_a_plateau():
    policy = RoundPolicy(num_rounds=10, patience_rounds=2)
    assert stop_reason(policy, played(0.6, 0.5, 0.61, 0.5)) is None


def test_the_teacher_in_force_is_that_of_the_last_kept_round():
    assert teacher_in_force(played(0.5, 0.9, 0.6)) == 2
    assert teacher_in_force(played(0.5, 0.9, 0.1, 0.1, rolled_back=(2, 3))) == 1


def test_the_best_kept_round_is_delivered_and_of_equals_the_first():
    assert delivered(RoundPolicy(deliver="best"), played(0.5, 0.9, 0.9, 0.7)) == 1
    assert delivered(RoundPolicy(deliver="best"), played(0.5, 0.99, 0.6, rolled_back=(1,))) == 2


def test_the_last_kept_round_is_delivered_if_asked():
    assert delivered(RoundPolicy(deliver="last"), played(0.9, 0.8, 0.1, rolled_back=(2,))) == 1


def test_no_type_that_a_decision_sees_has_room_for_a_test_score():
    assert [f.name for f in fields(Played)] == ["round", "validation", "kept"]
    seen = set()
    for decide in (judge, stop_reason, teacher_in_force, delivered):
        seen |= {str(p.annotation) for p in inspect.signature(decide).parameters.values()}
    assert seen == {
        str(RoundPolicy),
        "collections.abc.Sequence[orchestrator.policy.Played]",
        str(float),
    }
    assert not [name for name in RoundPolicy.model_fields if "test" in name]


def test_the_policy_imports_no_module_that_holds_scores():
    tree = ast.parse(inspect.getsource(policy_module))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in names if name.startswith("orchestrator")} == {"orchestrator.recipe"}
