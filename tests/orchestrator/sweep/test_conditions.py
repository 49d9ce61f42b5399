"""Conditions: what is asked of other fields, and how it is told."""

import pytest

from orchestrator.sweep.conditions import alternatives, holds, matches, named_values, wording
from orchestrator.sweep.study import draw
from tests.orchestrator.sweep.helpers import (
    KIND,
    LEAST,
    SHARE,
    THRESHOLD,
    TWO,
    faults_of,
    paths,
    space_of,
)

VALUES = {"a": 1, "b": None, "c": "soft"}


@pytest.mark.parametrize(
    ("when", "met"),
    [
        ({}, True),
        ({"a": 1}, True),
        ({"a": 2}, False),
        ({"a": [2, 1]}, True),
        ({"a": 1, "c": "hard"}, False),
        ({"b": None, "nowhere": None}, True),
        ({"b": {"not": None}}, False),
        ({"c": {"not": None}}, True),
        ({"a": {"not": [1, 2]}}, False),
        ({"a": {"not": [2, 3]}}, True),
        (({"a": 2}, {"c": "soft"}), True),
        (({"a": 2}, {"c": "hard"}), False),
    ],
)
def test_a_condition_is_met_by_values_by_lists_of_them_and_by_what_is_not_named(when, met):
    assert holds(when, VALUES.get) is met


def test_a_value_that_is_a_mapping_of_its_own_is_no_negation():
    assert matches({"not": 1, "other": 2}, {"not": 1, "other": 2})
    assert named_values({"kind": "ema"}) == [{"kind": "ema"}]


def test_nothing_asked_has_no_alternatives():
    assert alternatives({}) == alternatives(()) == ()


def test_conditions_are_told_in_words():
    assert wording({"a": 1, "b": {"not": None}}) == "a = 1, b other than None"
    assert wording(({"a": 1}, {"c": ["x"]})) == "a = 1, or c = ['x']"


def test_one_of_several_conditions_is_enough():
    ways = [{KIND: "threshold"}, {KIND: "class_top_k"}]
    own = {
        KIND: {"choices": ["class_share", "threshold", "class_top_k"]},
        "recipe.targets.temperature": {"low": 0.3, "high": 1.0, "when": ways},
    }
    for chosen in draw(space_of(own), 0, 20):
        there = "recipe.targets.temperature" in chosen
        assert there == (chosen[KIND] in ("threshold", "class_top_k"))


def test_a_condition_may_name_what_a_field_must_not_be():
    own = {
        KIND: {"choices": ["class_share", "threshold"]},
        LEAST: {"low": 0.1, "high": 0.5, "when": {KIND: {"not": "threshold"}}},
    }
    for chosen in draw(space_of(own), 0, 20):
        assert (LEAST in chosen) == (chosen[KIND] == "class_share")


def test_what_waits_for_a_field_that_never_exists_never_exists_either():
    never = {THRESHOLD: {"low": 0.6, "high": 0.9, "when": {KIND: "threshold"}}, **TWO}
    after = {LEAST: {"low": 0.1, "high": 0.5, "when": {THRESHOLD: {"not": None}}}}
    assert faults_of(never | after)[1:] == [
        f"{THRESHOLD}: never exists here, it needs {KIND} = threshold",
        f"{LEAST}: never exists here, it needs {THRESHOLD} other than None",
    ]


def test_an_entry_without_any_condition_always_exists():
    assert paths(space_of({SHARE: {"low": 0.1, "high": 0.9, "when": []}})) == [SHARE]
