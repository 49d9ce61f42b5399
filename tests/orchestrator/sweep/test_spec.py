"""The `sweep` block of a config: what is refused before anything starts."""

import pytest
from pydantic import ValidationError

from orchestrator.errors import ConfigError
from orchestrator.sweep.spec import Pruning, Screening, SweepSpec
from tests.orchestrator.sweep.helpers import config_of


def test_the_defaults_ask_for_twenty_trials_of_tpe_ended_at_the_median():
    spec = SweepSpec()
    assert (spec.num_trials, spec.sampler, spec.objectives) == (20, "tpe", ("score",))
    assert (spec.pruner.rule, spec.pruner.first_round, spec.screen) == ("median", 1, None)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"objectives": ["score", "score"]}, "objectives names one twice"),
        (
            {"objectives": ["score", "seconds"], "pruning": {"rule": "median"}},
            "set pruning.rule to none",
        ),
        (
            {"objectives": ["score", "seconds"], "sampler": "cma_es"},
            "cma_es takes one objective; nsga2, tpe and gp take several",
        ),
        ({"seeds": []}, "at least one seed and none twice"),
        ({"seeds": [1, 1]}, "at least one seed and none twice"),
        ({"trials": 5, "screen": {"keep": 5}}, "ask for more trials or keep fewer"),
        ({"screen": {"keep": 5}, "sampler": "grid"}, "nothing to screen"),
        ({"screen": {"keep": 5, "candidates": 4}}, "more than the 4 candidates"),
        ({"objectives": []}, "at least 1 item"),
        ({"trials": 0}, "greater than or equal to 1"),
        ({"most_s": 0}, "greater than 0"),
        ({"pruning": {"first_round": 0}}, "greater than or equal to 1"),
        ({"sampler": "annealing"}, "'tpe', 'gp', 'cma_es', 'nsga2', 'random' or 'grid'"),
    ],
)
def test_what_does_not_fit_together_is_refused(fields, fault):
    with pytest.raises(ValidationError, match=fault):
        SweepSpec.model_validate(fields)


def test_all_misfits_are_told_at_once():
    with pytest.raises(ValidationError, match="names one twice; .*cma_es.*; seeds must"):
        SweepSpec(objectives=("score", "score"), sampler="cma_es", seeds=())


def test_several_objectives_need_no_word_about_pruning():
    assert SweepSpec(objectives=("score", "seconds")).objectives == ("score", "seconds")
    pruning = Pruning(rule="none")
    assert SweepSpec(objectives=("score", "seconds"), pruning=pruning).pruning == pruning


def test_a_screen_may_keep_all_but_the_first_trial():
    spec = SweepSpec(trials=6, screen=Screening(keep=5))
    assert spec.screen is not None
    assert spec.screen.candidates == 1000


def test_a_fault_in_a_config_is_told_by_its_path():
    with pytest.raises(ConfigError, match=r"sweep\.trials: must be greater than or equal to 1"):
        config_of({}, trials=0)
    with pytest.raises(ConfigError, match=r"sweep\.pruning\.rul: no such field.*'rule'"):
        config_of({}, pruning={"rul": "none"})


def test_the_block_survives_its_plain_form():
    spec = config_of({}, seeds=[1, 2], screen={"keep": 3}).sweep
    assert spec is not None
    assert SweepSpec.model_validate(spec.plain()) == spec


def test_a_dumped_spec_means_the_same_when_it_is_read_again():
    for spec in (
        SweepSpec(objectives=("score", "seconds")),
        SweepSpec(population={}),
        SweepSpec(sampler="grid"),
    ):
        assert SweepSpec.model_validate(spec.plain()) == spec
