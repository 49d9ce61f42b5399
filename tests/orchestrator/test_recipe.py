"""A recipe whose parts do not go together is refused in words."""

import pytest

from orchestrator.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["recipe.calibrators=[{kind: align}]", "recipe.training.batch.max_copies=3"],
            "calibrator align and training.batch.max_copies each correct the class balance",
        ),
        (
            ["recipe.calibrators=[{kind: align}, {kind: transport}]"],
            "calibrator align and calibrator transport each correct the class balance",
        ),
        (
            [
                "recipe.training.batch={pool: 8, max_copies: 3}",
                "recipe.training.objective.consistency={calibrators: [{kind: align}]}",
            ],
            "calibrator align and training.batch.max_copies each correct the class balance",
        ),
        (
            ["recipe.training.partner={kind: peer}"],
            "training.partner peer needs objective.consistency",
        ),
        (
            ["recipe.training.partner={kind: meta_teacher}", "recipe.training.batch.pool=8"],
            "training.partner meta_teacher needs training.batch.selected of 0",
        ),
        (
            ["recipe.training.self_meta={}", "recipe.training.batch.pool=8"],
            "training.self_meta needs training.batch.selected of 0",
        ),
        (
            ["recipe.training.self_meta={}", "recipe.training.partner={kind: peer}"],
            "training.self_meta and training.partner exclude each other",
        ),
        (
            ["recipe.training.batch={labelled: 0, labelled_alone: null}"],
            "round 0 would train on no rows: set training.batch.labelled_alone",
        ),
        (
            [
                "recipe.training.batch={labelled: 0, pool: 8}",
                "recipe.training.objective.consistency={first_round: 0, debias: true}",
            ],
            "objective.consistency needs training.batch.labelled above 0",
        ),
        (
            [
                "recipe.training.batch={labelled: 0, pool: 8}",
                "recipe.training.objective.consistency={mix: {kind: anchors}}",
            ],
            "objective.consistency needs training.batch.labelled above 0",
        ),
        (
            ["recipe.ranking=agreement"],
            "ranking: agreement reads how far label sources are apart",
        ),
        (
            [
                "recipe.ranking=agreement",
                "recipe.labelling.checkpoints=[0.5]",
                "recipe.calibrators=[{kind: sharpen}]",
            ],
            "ranking: agreement has no say behind calibrators",
        ),
        (
            [
                "recipe.ranking=agreement",
                "recipe.labelling.checkpoints=[0.5]",
                "recipe.selector={kind: class_top_k, fill: true}",
            ],
            "ranking: agreement has no say behind selector class_top_k",
        ),
        (
            ["recipe.training.objective.consistency.selector={kind: even_share, fill: true}"],
            "fill of selector even_share can act on the stored table only",
        ),
        (
            ["recipe.training.objective.labelled.weight=0"],
            "objective.labelled.weight is 0, but labelled rows would enter batch statistics",
        ),
        (
            ["recipe.training.optimiser.trains=norm"],
            "training.optimiser.trains has no effect on students that begin anew",
        ),
        (
            ["recipe.training.look_ahead={steps: 2}"],
            "training.look_ahead needs an EMA teacher and consistency.labels_from: teacher",
        ),
        (
            [
                "recipe.training.objective.consistency={}",
                "recipe.training.objective.representation.turns={}",
                "recipe.training.batch.pool=8",
                "recipe.training.partner={kind: peer}",
            ],
            "representation acts on a student that trains alone",
        ),
        (
            ["recipe.training.objective.representation.turns={}"],
            "representation reads the pool rows of consistency",
        ),
    ],
)
def test_parts_that_do_not_go_together_are_refused_when_the_config_is_read(
    make_config, overrides, message
):
    with pytest.raises(ConfigError, match=message):
        make_config(*overrides)


def test_points_fill_no_class(make_dots_config):
    with pytest.raises(ConfigError, match="would move points to another name"):
        make_dots_config("recipe.selector={kind: class_top_k, fill: true}")


@pytest.mark.parametrize(
    ("setting", "message"),
    [("pool=remaining", "points are chosen one by one"), ("start=warm_body", "needs a classifier")],
)
def test_a_policy_of_rows_and_classifiers_is_none_for_points(make_dots_config, setting, message):
    with pytest.raises(ConfigError, match=message):
        make_dots_config(f"recipe.policy.{setting}")
