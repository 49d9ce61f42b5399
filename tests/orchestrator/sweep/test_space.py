"""The space of a sweep: fragments, a config's own entries, and what depends on what."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import ConfigError
from orchestrator.sweep.dimensions import Choices, Dimension, Range
from orchestrator.sweep.study import draw
from search_spaces import fragment_names
from tests.orchestrator.sweep.helpers import (
    KIND,
    LEAST,
    RATE,
    SELECTED,
    SHARE,
    THRESHOLD,
    TWO,
    faults_of,
    paths,
    space_of,
)

QUICK = settings(deadline=None, derandomize=True, max_examples=25)
TEMPERATURE = "recipe.targets.temperature"
LINEAR = {"schedule": "linear", "start": 0.2, "end": 1.0}

KINDS = {
    KIND: {"choices": ["class_share", "threshold"]},
    SHARE: {"low": 0.1, "high": 0.9, "when": {KIND: "class_share"}},
    THRESHOLD: {"low": 0.6, "high": 0.99, "when": {KIND: "threshold"}},
}
"""One of two selectors, each with its own number."""

SCHEDULES = {
    f"{SHARE}.schedule": {"choices": ["linear", "stepwise"]},
    f"{SHARE}.start": {"low": 0.1, "high": 0.5, "when": {f"{SHARE}.schedule": "linear"}},
    f"{SHARE}.end": {"low": 0.6, "high": 1.0, "when": {f"{SHARE}.schedule": "linear"}},
    f"{SHARE}.values": {
        "choices": [[0.2, 0.4], [0.5, 1.0]],
        "when": {f"{SHARE}.schedule": "stepwise"},
    },
}
"""One of two schedules, each with its own values."""

RICH = {
    **KINDS,
    LEAST: {"low": 0.0, "high": 0.5, "when": {KIND: ["class_share", "class_top_k"]}},
    SELECTED: {"low": 32, "high": 128, "step": 32},
    RATE: {"low": 0.01, "high": 0.3, "scale": "log"},
    "recipe.targets.kind": {"choices": ["hard", "soft"]},
    TEMPERATURE: {"low": 0.25, "high": 1.0, "when": {"recipe.targets.kind": "soft"}},
    "recipe.training.teacher": {
        "choices": [{"kind": "student"}, {"kind": "ema", "decay": 0.9}, {"kind": "ema"}]
    },
    "recipe.training.objective.selected.weight": {"choices": [1.0, 2.0, LINEAR]},
    "recipe.policy.num_rounds": {"low": 2, "high": 6},
}
"""Everything that a space can hold."""


def by_path(space) -> dict[str, Dimension]:
    return {dimension.path: dimension for dimension in space.dimensions}


# ---- a config's entries over the fragments


def test_a_space_is_what_the_named_fragments_and_the_config_hold_together():
    space = space_of({"recipe.policy.num_rounds": {"low": 2, "high": 6}}, fragments=["teacher"])
    assert paths(space) == [
        "recipe.training.teacher.kind",
        "recipe.policy.num_rounds",
        "recipe.training.teacher.decay",
        "recipe.training.teacher.length",
        "recipe.training.teacher.push_every",
        "recipe.training.teacher.share",
    ]


def test_an_entry_narrows_or_widens_a_range_and_keeps_the_rest_of_it():
    narrow = by_path(space_of({RATE: {"high": 0.1}}, fragments=["training"]))[RATE].parameter
    plain = {f"{RATE}.schedule": None}
    assert narrow == Range(low=0.0001, high=0.1, scale="log", when=plain)
    wide = by_path(space_of({RATE: {"high": 1.0}}, fragments=["training"]))[RATE].parameter
    assert wide == Range(low=0.0001, high=1.0, scale="log", when=plain)


def test_an_entry_of_the_other_form_replaces_the_whole():
    found = by_path(space_of({RATE: {"choices": [0.05, 0.1]}}, fragments=["training"]))[RATE]
    assert found.parameter == Choices(choices=(0.05, 0.1))
    policy = "recipe.policy.start"
    own = {policy: {"choices": ["warm"]}}
    assert by_path(space_of(own, fragments=["policy"]))[policy].parameter.choices == ("warm",)


def test_null_takes_an_entry_out():
    space = space_of({RATE: None}, fragments=["training"])
    assert paths(space) == [
        "recipe.training.optimiser.weight_decay",
        "recipe.training.objective.mixup_alpha",
        "recipe.training.batch.labelled",
    ]


def test_no_fragment_at_all_searches_the_own_entries_alone():
    assert paths(space_of(TWO)) == [SHARE, RATE]


def test_a_method_of_the_users_choice_brings_its_own_fragments():
    override = "recipe.selector={kind: threshold}"
    found = paths(space_of({}, "method=pseudo_label", override, fragments=None))
    assert {"recipe.targets.kind", THRESHOLD} <= set(found)


# ---- faults


def test_an_unknown_path_names_the_nearest_field():
    assert faults_of({"recipe.selector.shrae": {"low": 0.1, "high": 0.2}}) == [
        "sweep.space: 1 fault",
        "recipe.selector.shrae: no such field; did you mean 'share'?",
    ]


def test_an_unknown_fragment_and_a_null_without_an_entry_name_the_nearest():
    found = faults_of({"recipe.selector.treshold": None}, fragments=["selektion", "selection"])
    assert found[1] == "no fragment 'selektion'; did you mean 'selection'?"
    assert found[2].startswith("recipe.selector.treshold: there is nothing to take out; did you")
    assert THRESHOLD in found[2]


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"low": 0.5, "high": 0.5}, "the range is empty: low 0.5 is not below 0.5"),
        ({"low": 0.0, "high": 0.5, "scale": "log"}, "scale log needs low above 0, found 0"),
        ({"low": 0.1, "high": 1, "scale": "one_minus_log"}, "needs high below 1, found 1"),
        ({"low": 0.1, "high": 0.9, "step": 1}, "step 1 is wider than the range"),
        ({"low": 0.1, "high": 0.9, "step": -0.1}, "step must be above 0"),
        ({"low": 0.1, "high": 0.9, "step": 0.1, "scale": "log"}, "goes with scale linear only"),
        ({"choices": []}, "at least 1 item"),
        ({"choices": [0.5, 0.5]}, "a choice stands twice"),
        ({"low": 0.2}, "Field required"),
        ({"low": 0.2, "high": 1.4}, "must be less than or equal to 1, found 1.4"),
        ({"choices": [0.2, "many"]}, "must be a valid number"),
        ({"low": 0.1, "high": 0.2, "hihg": 0.3}, "Extra inputs are not permitted"),
    ],
)
def test_an_empty_or_illegal_entry_is_refused_by_its_path(entry, fault):
    (heading, line) = faults_of({SHARE: entry})
    assert heading == "sweep.space: 1 fault"
    assert line.startswith(SHARE)
    assert fault in line


def test_whole_fields_refuse_bounds_and_steps_that_are_not_whole():
    assert "valid integer" in faults_of({SELECTED: {"low": 32.5, "high": 64}})[1]
    for entry in ({"low": 32, "high": 64, "step": 1.5}, {"low": 32, "high": 64, "step": 0.5}):
        assert faults_of({SELECTED: entry})[1].startswith(SELECTED)
    wanted = {"low": 0.5, "high": 9, "whole": True}
    assert faults_of({"recipe.training.objective.mixup_alpha": wanted})[1].startswith("recipe.tr")


@pytest.mark.parametrize("path", ["placement.train_workers", "tracking.wandb", "name", "store"])
def test_what_decides_no_outcome_can_not_be_searched(path):
    assert faults_of({path: {"choices": [1, 2]}})[1] == (
        f"{path}: only fields of the recipe, or data, can be searched: "
        "nothing else changes an outcome"
    )


def test_a_circle_of_conditions_is_told_by_its_members():
    a, b = "recipe.targets.kind", "recipe.targets.weight"
    circle = {
        a: {"choices": ["hard", "soft"], "when": {b: "one"}},
        b: {"choices": ["one", "confidence"], "when": {a: "hard"}},
        RATE: {"low": 0.01, "high": 0.1},
    }
    assert faults_of(circle)[1:] == [f"{a}, {b}: their `when` depend on each other in a circle"]


def test_a_field_that_waits_for_itself_is_a_circle():
    alone = {SHARE: {"low": 0.1, "high": 0.9, "when": {SHARE: 0.5}}}
    assert faults_of(alone)[1:] == [f"{SHARE}: their `when` depend on each other in a circle"]


def test_an_own_entry_that_never_exists_is_refused_and_one_of_a_fragment_is_left_out():
    never = {THRESHOLD: {"low": 0.6, "high": 0.9, "when": {KIND: "threshold"}}, **TWO}
    assert faults_of(never)[1:] == [
        f"{THRESHOLD}: never exists here, it needs {KIND} = threshold",
    ]
    assert THRESHOLD not in paths(space_of(TWO, fragments=["selection"]))


def test_a_space_of_nothing_says_how_to_fill_it():
    assert "nothing is searchable" in faults_of({})[1]
    assert f"known: {', '.join(fragment_names())}" in faults_of({})[1]


def test_all_faults_are_told_at_once():
    a, b = "recipe.targets.kind", "recipe.targets.weight"
    found = faults_of(
        {
            a: {"choices": ["hard"], "when": {b: "one"}},
            b: {"choices": ["one"], "when": {a: "hard"}},
            "placement.train_workers": {"low": 0, "high": 2},
            LEAST: {"low": 0.5, "high": 0.4},
            "recipe.selector.shrae": {"low": 0.1, "high": 0.2},
            SHARE: {"low": -1, "high": 2},
            "recipe.policy.strat": None,
        },
        fragments=["nope"],
    )
    assert found[0] == "sweep.space: 8 faults"
    told = "\n".join(found)
    for part in (
        "circle",
        "placement.train_workers: only",
        f"{LEAST}: the range is empty",
        "did you mean 'share'",
        f"{SHARE}: must be greater than or equal to 0, found -1",
        f"{SHARE}: must be less than or equal to 1, found 2",
        "recipe.policy.strat: there is nothing",
        "no fragment 'nope'",
    ):
        assert part in told


# ---- what exists


def test_a_kind_decides_which_numbers_exist():
    space = space_of(KINDS)
    assert paths(space)[0] == KIND
    _, share, threshold = space.dimensions
    assert space.exists(share, {KIND: "class_share"})
    assert not space.exists(threshold, {KIND: "class_share"})
    assert space.exists(threshold, {KIND: "threshold"})
    assert not space.exists(share, {KIND: "threshold"})
    found = space.config({KIND: "threshold", THRESHOLD: 0.75}).recipe.selector
    assert found.plain() == {"kind": "threshold", "threshold": 0.75}


def test_choices_come_before_what_depends_on_them_however_they_are_written():
    turned = dict(reversed(list(KINDS.items())))
    assert paths(space_of(turned))[0] == KIND


def test_a_condition_reads_the_config_where_nobody_chose():
    space = space_of({LEAST: {"low": 0.0, "high": 0.5, "when": {KIND: ["class_share"]}}})
    assert space.exists(space.dimensions[0], {})


def test_a_schedule_decides_which_of_its_values_exist():
    space = space_of(SCHEDULES)
    assert paths(space)[0] == f"{SHARE}.schedule"
    for chosen in draw(space, 1, 20):
        share = space.config(chosen).recipe.selector.share.plain()
        below = {path.removeprefix(f"{SHARE}.") for path in chosen}
        if chosen[f"{SHARE}.schedule"] == "linear":
            assert below == {"schedule", "start", "end"}
            assert (share["start"], share["end"]) == (
                chosen[f"{SHARE}.start"],
                chosen[f"{SHARE}.end"],
            )
        else:
            assert below == {"schedule", "values"}
            assert share["values"] in ([0.2, 0.4], [0.5, 1.0])


def test_a_schedule_may_be_a_choice_beside_numbers():
    space = space_of({SHARE: {"choices": [0.3, LINEAR]}})
    assert space.config({SHARE: 0.3}).recipe.selector.share == 0.3
    assert space.config({SHARE: LINEAR}).recipe.selector.share.end == 1.0


@pytest.mark.parametrize("base", ["0.5", "{schedule: stepwise, values: [0.2]}", LINEAR])
def test_who_searches_a_field_as_a_whole_takes_its_parts_from_the_fragments(base):
    """A fragment's range for the start of a line would else move the line that was written."""
    own = {SHARE: {"choices": [0.3, LINEAR]}}
    space = space_of(own, f"{SHARE}={base}", fragments=["curriculum"])
    assert [path for path in paths(space) if ".share" in path] == [SHARE]
    again = {**own, f"{SHARE}.end": {"high": 0.9}}  # unless the config names the part itself
    space = space_of(again, f"{SHARE}={base}", fragments=["curriculum"])
    assert [path for path in paths(space) if ".share" in path] == [SHARE, f"{SHARE}.end"]


def test_a_field_of_a_schedule_exists_only_where_that_schedule_was_chosen():
    """The number below waits for a field that only some choices of another dimension have."""
    end, linear = f"{SHARE}.end", {"schedule": "linear", "start": 0.1, "end": 0.5}
    own = {
        end: {"low": 0.6, "high": 1.0, "when": {f"{SHARE}.schedule": "linear"}},
        SHARE: {"choices": [0.3, linear]},
    }
    space = space_of(own)
    assert paths(space) == [SHARE, end]
    for chosen in draw(space, 0, 20):
        assert (end in chosen) == (chosen[SHARE] == linear)
        if end in chosen:
            assert space.config(chosen).recipe.selector.share.end == chosen[end]


def test_another_kind_takes_the_fields_of_the_old_one_away():
    space = space_of({KIND: {"choices": ["class_share", "everything"]}})
    assert space.config({KIND: "everything"}).recipe.selector.plain() == {"kind": "everything"}


# ---- values


def test_the_defaults_are_the_configs_own_values():
    assert space_of(RICH).defaults() == {
        KIND: "class_share",
        SHARE: 0.5,
        LEAST: 0.0,
        SELECTED: 96,
        RATE: 0.03,
        "recipe.targets.kind": "hard",
        "recipe.training.objective.selected.weight": 1.0,
        "recipe.policy.num_rounds": 5,
    }


def test_a_default_that_the_space_can_not_hold_is_left_out_and_stays_as_it_is():
    space = space_of({SHARE: {"low": 0.6, "high": 0.9}, RATE: {"choices": [0.1, 0.2]}})
    assert space.defaults() == {}
    assert space.config({}).recipe == space.base.recipe


def test_the_defaults_play_the_configs_own_recipe():
    space = space_of(RICH)
    assert space.config(space.defaults()).recipe == space.base.recipe


def test_a_trial_carries_no_sweep_of_its_own():
    assert space_of(TWO).config({SHARE: 0.3}).sweep is None


@QUICK
@given(seed=st.integers(0, 10_000))
def test_whatever_is_drawn_is_a_valid_run_that_holds_exactly_what_exists(seed):
    space = space_of(RICH)
    for chosen in draw(space, seed, 3):
        space.config(chosen)
        assert set(chosen) == {d.path for d in space.dimensions if space.exists(d, chosen)}
        assert all(by_path(space)[path].contains(value) for path, value in chosen.items())


def test_values_that_do_not_fit_together_are_told_with_the_trial():
    space = space_of(TWO)
    with pytest.raises(ConfigError, match=r"trial of recipe.selector.share=3.*\n.*or equal to 1"):
        space.config({SHARE: 3})


# ---- grid


def test_a_grid_is_every_point_with_its_conditionals():
    space = space_of(
        {
            KIND: {"choices": ["class_share", "threshold", "everything"]},
            SHARE: {"low": 0.25, "high": 0.75, "step": 0.25, "when": {KIND: "class_share"}},
            THRESHOLD: {"choices": [0.8, 0.9], "when": {KIND: "threshold"}},
        }
    )
    assert list(space.grid()) == [
        {KIND: "class_share", SHARE: 0.25},
        {KIND: "class_share", SHARE: 0.5},
        {KIND: "class_share", SHARE: 0.75},
        {KIND: "threshold", THRESHOLD: 0.8},
        {KIND: "threshold", THRESHOLD: 0.9},
        {KIND: "everything"},
    ]


def test_a_grid_counts_whole_numbers_and_the_first_dimension_is_slowest():
    rounds = "recipe.policy.num_rounds"
    space = space_of({rounds: {"low": 2, "high": 4}, SHARE: {"choices": [0.5, 0.2]}})
    found = [tuple(point.values()) for point in space.grid()]
    assert found == [(2, 0.5), (2, 0.2), (3, 0.5), (3, 0.2), (4, 0.5), (4, 0.2)]
    assert all(isinstance(number, int) for number, _ in found)


# ---- the space as a value


def test_a_space_over_another_placement_proposes_the_same():
    space = space_of(TWO)
    moved = space.over(store="/elsewhere")
    assert moved.base.store == "/elsewhere"
    assert moved.plain() == space.plain()
    assert moved.config({SHARE: 0.3}).recipe == space.config({SHARE: 0.3}).recipe


def test_the_plain_form_of_a_space_is_what_decides_its_identity():
    assert space_of(TWO).plain() == {
        SHARE: Range(low=0.1, high=0.9).plain(),
        RATE: Range(low=0.01, high=0.3, scale="log").plain(),
    }
