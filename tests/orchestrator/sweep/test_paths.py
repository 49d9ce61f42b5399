"""Paths into a config in plain form: fields by name, parts of lists by kind."""

from orchestrator.sweep.paths import lay, look
from orchestrator.sweep.study import draw
from tests.orchestrator.sweep.helpers import faults_of, paths, space_of

TREE = {"chain": [{"kind": "sharpen", "t": 0.5}, {"kind": "align", "target": "uniform"}], "n": 1}
POWER = "recipe.calibrators.align.power"
CHAIN = "recipe.calibrators=[{kind: sharpen}, {kind: align, target: labelled}]"


def test_a_part_of_a_list_is_named_by_its_kind():
    assert look(TREE, "chain.align.target") == "uniform"
    assert look(TREE, "chain.align.kind") == "align"
    assert look(TREE, "chain.transport.share") is None
    assert look({"chain": (0.5, {"kind": "align"})}, "chain.align") == {"kind": "align"}


def test_values_laid_into_a_list_change_the_one_part_and_not_the_tree():
    laid = lay(TREE, {"chain.align.target": "labelled", "n": 2})
    assert laid == {"chain": [TREE["chain"][0], {"kind": "align", "target": "labelled"}], "n": 2}
    assert TREE["chain"][1]["target"] == "uniform"
    assert lay(TREE, {"chain.align": {"kind": "x"}})["chain"][1] == {"kind": "x"}


def test_a_calibrator_of_a_chain_is_searched_wherever_it_stands():
    space = space_of({POWER: {"low": 0.1, "high": 0.9}}, CHAIN)
    for chosen in draw(space, 0, 5):
        sharpen, align = space.config(chosen).recipe.calibrators
        assert sharpen == space.base.recipe.calibrators[0]
        assert align.power == chosen[POWER]
        assert align.target == "labelled"


def test_a_part_that_the_list_does_not_hold_is_no_field():
    assert "recipe.calibrators" in faults_of({POWER: {"low": 0.1, "high": 0.9}})[1]


def test_a_value_that_a_part_of_a_list_refuses_is_told_with_its_place():
    (_, line) = faults_of({POWER: {"low": 0.5, "high": 3.0}}, CHAIN)
    assert line.startswith(f"{POWER}: 3.0 is refused: recipe.calibrators.1.power: must be less")


def test_who_searches_a_list_as_a_whole_takes_its_parts_from_the_fragments():
    chain = "recipe.calibrators"
    own = {chain: {"choices": [[], [{"kind": "align", "target": "labelled"}]]}}
    assert paths(space_of(own, CHAIN, fragments=["alignment"])) == [chain]
