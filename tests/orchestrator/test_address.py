"""Addresses: one hash for one meaning, and a refusal for what has no stable form."""

import json
from datetime import date
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.address import LENGTH, canonical, differences, digest

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Colour(Enum):
    RED = 1


def test_the_order_of_keys_does_not_matter():
    one = {"a": 1, "b": {"c": 2, "d": 3}}
    other = {"b": {"d": 3, "c": 2}, "a": 1}
    assert digest(one) == digest(other)


def test_a_tuple_and_a_list_of_the_same_values_are_the_same():
    assert digest({"tags": ("a", ("b",))}) == digest({"tags": ["a", ["b"]]})


def test_the_order_of_a_list_matters():
    assert digest([1, 2]) != digest([2, 1])


def test_minus_zero_is_zero():
    assert digest(-0.0) == digest(0.0)
    assert str(canonical({"x": [-0.0]})) == "{'x': [0.0]}"


def test_numbers_that_differ_in_the_last_bit_differ():
    assert digest(0.1 + 0.2) != digest(0.3)


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, None), (1, "1"), ([], {}), ("", None)])
def test_values_that_only_look_alike_differ(one, other):
    assert digest(one) != digest(other)


def test_a_numpy_float64_is_the_float_that_it_is():
    assert digest({"x": np.float64(0.1)}) == digest({"x": 0.1})


def test_an_address_is_twenty_four_hexadecimal_digits():
    found = digest({"x": 1})
    assert len(found) == LENGTH == 24
    assert int(found, 16) >= 0


@settings(deadline=None, max_examples=40)
@given(PLAIN)
def test_a_value_read_back_from_json_has_the_same_address(value):
    assert digest(json.loads(json.dumps(value))) == digest(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_place(value):
    with pytest.raises(ValueError, match=r"value\.a\[1\]: .* has no stable form"):
        digest({"a": [0.0, value]})


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), Path("x"), date(2020, 1, 1), Colour.RED, b"x", np.float32(1), np.int64(1)],
    ids=lambda value: type(value).__name__,
)
def test_values_without_a_stable_form_are_refused_with_their_type_and_place(value):
    with pytest.raises(TypeError, match=rf"value\.deep\.x: {type(value).__name__} has no stable"):
        digest({"deep": {"x": value}})


def test_keys_that_are_not_text_are_refused():
    with pytest.raises(TypeError, match="keys must be text, found 1"):
        digest({1: "a"})


def test_differences_name_each_field_by_its_path():
    old = {"a": 1, "b": {"c": 2.0, "d": [1, 2]}, "gone": "x"}
    new = {"a": 1, "b": {"c": 3.0, "d": [1, 3]}, "new": None}
    assert differences(old, new) == [
        "b.c: 2.0 -> 3.0",
        "b.d: [1, 2] -> [1, 3]",
        "gone: 'x' -> (absent)",
        "new: (absent) -> None",
    ]


@given(PLAIN, PLAIN)
def test_there_are_differences_exactly_where_addresses_differ(old, new):
    assert bool(differences(old, new)) == (digest(old) != digest(new))


@pytest.mark.parametrize(("old", "new"), [(1, 1.0), (1, True), ((1, 2), [1, 2]), (-0.0, 0.0)])
def test_differences_agree_with_addresses_where_python_equality_does_not(old, new):
    assert bool(differences({"x": old}, {"x": new})) == (digest(old) != digest(new))
