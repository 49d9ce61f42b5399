"""Preparing rows with points: the same tables and draws as for classes, with points as labels."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.config import Placement
from orchestrator.data.dataset import MANIFEST, Dataset, Manifest, PrepareSpec, points_of
from orchestrator.data.embed import EmbedSpec, embed
from orchestrator.data.prepare import already_prepared, prepare
from orchestrator.engines.local_engine import LocalEngine
from orchestrator.errors import ConfigError, DataError
from orchestrator.watch import Silent
from tests.orchestrator.data.marked import (
    NAMES,
    NAN,
    clip_rows,
    complains_or_reads,
    marked_rows,
    points_of_row,
    write_names,
    write_rows,
)
from tests.orchestrator.data.pictures import picture, rows, write_parquet
from trainables import schemas
from trainables.tasks.kinds import Classes, Points

SMALL = {"labelled": 4, "validation": 3, "test": 3}
SPLITS = ("labelled", "pool", "validation", "test")


def make(out: Path, source: str, **change: Any) -> Manifest:
    return prepare(source, out, PrepareSpec(**SMALL | change))


def column(out: Path, split: str, name: str = "example_id") -> list[Any]:
    data = Dataset(out)
    return data.table(getattr(data.manifest, split))[name].to_pylist()


def reasons(out: Path) -> dict[str, str]:
    """Reason by id."""
    return dict(zip(column(out, "refused"), column(out, "refused", "reason"), strict=True))


def source_of(tmp_path: Path, *more: dict[str, Any], count: int = 20) -> str:
    return write_rows(tmp_path / "a.parquet", [*marked_rows(count), *more])


def test_rows_become_four_tables_with_points_and_hidden_ones(tmp_path):
    write_names(tmp_path)
    manifest = make(tmp_path / "out", source_of(tmp_path))
    counts = {name: getattr(manifest, name).num_rows for name in (*SPLITS, "hidden")}
    assert counts == {"labelled": 4, "pool": 10, "validation": 3, "test": 3, "hidden": 10}
    task = Points(num_points=3, mirrored=(0, 2, 1), normaliser=(1, 2))
    assert (manifest.task, manifest.classes, manifest.size) == (task, NAMES, 8)
    data = Dataset(tmp_path / "out")
    assert data.task == task
    for name in ("labelled", "validation", "test"):
        schemas.conform(
            data.table(getattr(manifest, name)), schemas.labelled(label=schemas.points(3)), name
        )
    schemas.conform(data.table(manifest.pool), schemas.pool(), "pool")
    hidden = data.table(manifest.hidden)
    schemas.conform(hidden, schemas.hidden(schemas.points(3)), "hidden")
    for row in hidden.to_pylist():
        assert row["label"] == points_of_row(int(row["example_id"][-3:]))


def test_fifty_rows_are_labelled_unless_told_otherwise(tmp_path):
    spec = PrepareSpec(validation=1, test=1)
    manifest = prepare(source_of(tmp_path, count=60), tmp_path / "out", spec)
    assert manifest.labelled.num_rows == 50
    assert (manifest.prepared.labelled, manifest.prepared.labelled_per_class) == (50, None)


def test_labelled_rows_are_counted_point_by_point(tmp_path):
    some = marked_rows(4)
    some[0]["points"][2:4] = [NAN, NAN]
    some[1]["points"][2:] = [NAN] * 4
    rest = [{"image": picture(50 + i)} for i in range(3)]
    splits = [{"split": name} for name in ("validation", "test")]
    whole = [row | split for row, split in zip(marked_rows(2, first=20), splits, strict=True)]
    text = write_rows(tmp_path / "a.parquet", [*some, *whole, *rest])
    make(tmp_path / "out", text)
    data = Dataset(tmp_path / "out")
    assert data.labelled_rows == (4, 2, 3)
    points = points_of(data.table(data.manifest.labelled)["label"])
    assert points.shape == (4, 3, 2) and points.dtype == np.float32
    assert np.isnan(points[1, 1:]).all()


def test_rows_without_points_have_no_hidden_ones(tmp_path):
    text = source_of(tmp_path, {"image": picture(99), "example_id": "u"}, count=10)
    manifest = make(tmp_path / "out", text)
    assert column(tmp_path / "out", "pool") == ["u"]
    assert manifest.hidden.files == ()


def test_rows_that_a_source_keeps_unlabelled_have_hidden_points(tmp_path):
    text = source_of(tmp_path, *marked_rows(2, first=50, split="unlabelled"), count=10)
    make(tmp_path / "out", text)
    assert column(tmp_path / "out", "hidden") == ["row-050", "row-051"]


def test_the_seed_decides_the_draw_and_the_order_of_the_source_does_not(tmp_path):
    def drawn(content: list[Any], seed: int = 0) -> list[list[str]]:
        make(tmp_path / "out", write_rows(tmp_path / "a.parquet", content), seed=seed)
        return [column(tmp_path / "out", name) for name in SPLITS]

    first = drawn(marked_rows(20))
    assert drawn(marked_rows(20)[::-1]) == first
    assert drawn(marked_rows(20), seed=1) != first


def test_splits_that_the_source_has_are_kept(tmp_path):
    text = source_of(tmp_path, *marked_rows(2, first=50, split="test"))
    make(tmp_path / "out", text)
    assert column(tmp_path / "out", "test") == ["row-050", "row-051"]
    assert len(column(tmp_path / "out", "validation")) == 3


# clips


def test_clips_stay_together_in_the_order_of_their_frames(tmp_path):
    more = [*clip_rows(3, "b"), *clip_rows(2, "a", first=200)]
    make(tmp_path / "out", source_of(tmp_path, *more, count=10), fragment_rows=2)
    assert column(tmp_path / "out", "pool") == ["a-000", "a-001", "b-000", "b-001", "b-002"]
    assert column(tmp_path / "out", "pool", "group") == ["a", "a", "b", "b", "b"]
    assert column(tmp_path / "out", "pool", "order") == [0, 1, 0, 1, 2]


def test_every_table_says_the_clip_and_rows_alone_are_one_of_their_own(tmp_path):
    make(tmp_path / "out", source_of(tmp_path, *clip_rows(2)))
    data = Dataset(tmp_path / "out")
    assert data.grouped
    schemas.conform(data.table(data.manifest.pool), schemas.pool(grouped=True), "pool")
    for name in ("labelled", "validation", "test"):
        table = data.table(getattr(data.manifest, name))
        schema = schemas.labelled(label=schemas.points(3), grouped=True)
        schemas.conform(table, schema, name)
        assert table["group"] == table["example_id"]
        assert set(table["order"].to_pylist()) == {0}


def test_rows_alone_are_called_differently_where_a_clip_has_their_name(tmp_path):
    text = source_of(tmp_path, *clip_rows(2, "row-003"), *clip_rows(2, "=row-004", first=300))
    make(tmp_path / "out", text)
    groups = {
        name: group
        for split in SPLITS
        for name, group in zip(
            column(tmp_path / "out", split), column(tmp_path / "out", split, "group"), strict=True
        )
    }
    assert groups["row-003"] == "==row-003"
    assert groups["row-003-000"] == groups["row-003-001"] == "row-003"
    assert len(set(groups.values())) == 22


def test_a_source_without_clips_has_tables_without_them(tmp_path):
    make(tmp_path / "out", source_of(tmp_path))
    assert not Dataset(tmp_path / "out").grouped


# prepared anew


def test_a_prepared_data_set_can_be_split_anew(tmp_path):
    write_names(tmp_path)
    bare = {"image": picture(99), "example_id": "u"}
    first = make(tmp_path / "one", source_of(tmp_path, bare, *clip_rows(3)))
    second = make(tmp_path / "two", f"prepared:{tmp_path}/one", seed=1, labelled=6)
    assert (second.task, second.classes) == (first.task, first.classes)
    one, two = ([set(column(tmp_path / o, s)) for s in SPLITS] for o in ("one", "two"))
    assert set.union(*one) == set.union(*two)
    assert one[3] == two[3]
    assert [len(ids) for ids in two] == [6, 12, 3, 3]
    for split in ("labelled", "hidden"):
        for name, points in zip(
            column(tmp_path / "two", split), column(tmp_path / "two", split, "label"), strict=True
        ):
            assert points == points_of_row(int(name[-3:]))
    frames = [g for g in column(tmp_path / "two", "pool", "group") if g == "clip"]
    assert len(frames) == 3


# refused


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([1, NAN, 1, 1, 1, 1], "one coordinate only of 'nose'"),
        ([1, 1, math.inf, 1, 1, 1], "'left' is not finite"),
        ([1, 1, 1, 1e39, 1, 1], "'left' is not finite"),
        ([1, 1, 1, 1, 11.75, 1], "'right' at (11.75, 1) is far outside the 8x8 image"),
        ([1, -4.75, 1, 1, 1, 1], "'nose' at (1, -4.75) is far outside the 8x8 image"),
        ([NAN] * 6, "a labelled row in which no point is known"),
        ([1, 1], "2 coordinates for 3 points"),
        ([1, NAN, 1, 99, 1, 1], "one coordinate only of 'nose'; 'left' at (1, 99) is far outside"),
    ],
)
def test_points_that_can_not_be_used_are_refused_with_the_reason(tmp_path, points, reason):
    write_names(tmp_path)
    bad = {"image": picture(99), "points": [float(p) for p in points], "example_id": "bad"}
    make(tmp_path / "out", source_of(tmp_path, bad), most_refused_share=0.1)
    found = reasons(tmp_path / "out")
    assert found.keys() == {"bad"}
    assert found["bad"].startswith(reason)


def test_points_slightly_outside_are_kept(tmp_path):
    near = {"image": picture(99), "points": [-4.5, 11.5, 8.0, 8.0, 1.0, 1.0], "example_id": "near"}
    make(tmp_path / "out", source_of(tmp_path, near | {"split": "test"}), most_refused_share=0)
    assert column(tmp_path / "out", "test", "label") == [near["points"]]


def test_rows_that_a_source_could_not_read_are_refused(tmp_path):
    bad = [{"image": picture(90), "example_id": "lost", "group_id": "c"}]
    bad += [{"image": b"no image", "points": points_of_row(0), "example_id": "broken"}]
    bad += [{"image": picture(91), "split": "validation", "example_id": "bare"}]
    text = source_of(tmp_path, *bad, *clip_rows(1))
    make(tmp_path / "out", text, most_refused_share=0.2)
    assert reasons(tmp_path / "out") == {
        "bare": "a validation row without points",
        "broken": "not an image",
        "lost": "a row of group 'c' without a place in it",
    }


def test_a_row_without_a_known_point_may_stay_unlabelled(tmp_path):
    bare = {"image": picture(99), "points": [NAN] * 6, "split": "unlabelled", "example_id": "u"}
    make(tmp_path / "out", source_of(tmp_path, bare), most_refused_share=0)
    assert "u" in column(tmp_path / "out", "pool")
    assert "u" not in column(tmp_path / "out", "hidden")


def test_too_many_refused_rows_stop_with_the_first_reasons(tmp_path):
    bad = {"image": picture(99), "points": [NAN] * 6}
    with pytest.raises(DataError, match="1 of 21 rows can't be used.*row 20: a labelled row in"):
        make(tmp_path / "out", source_of(tmp_path, bad))


def test_too_few_labelled_rows_say_how_many_are_needed(tmp_path):
    with pytest.raises(DataError, match="too few labelled rows: the source has 20, needs 26"):
        make(tmp_path / "out", source_of(tmp_path), labelled=20)


def test_duplicates_across_splits_are_refused_if_asked(tmp_path):
    twin = {"image": picture(3), "points": points_of_row(3), "split": "test", "example_id": "twin"}
    text = source_of(tmp_path, twin)
    assert make(tmp_path / "out", text).num_duplicates == 1
    make(tmp_path / "out", text, drop_duplicates=True, most_refused_share=0)
    assert reasons(tmp_path / "out") == {"row-003": "exact duplicate of a test row"}


def test_labelled_rows_of_each_class_are_no_setting_for_points_nor_the_other_way_round(tmp_path):
    spec = PrepareSpec(labelled_per_class=3)
    with pytest.raises(ConfigError, match="--labelled-per-class is for classes; .*--labelled N"):
        prepare(source_of(tmp_path), tmp_path / "out", spec)
    text = write_parquet(tmp_path / "b.parquet", rows())
    with pytest.raises(ConfigError, match="--labelled is for points; .*--labelled-per-class N"):
        make(tmp_path / "out", text)


values = st.floats(width=32) | st.sampled_from([0.0, 3.0, 7.0, NAN, 1e300])
lists = st.none() | st.lists(values, min_size=4, max_size=4) | st.lists(values, max_size=5)
some_rows = st.fixed_dictionaries(
    {"image": st.sampled_from([picture(0), picture(1), b"", None]), "points": lists},
    optional={
        "group_id": st.none() | st.text(max_size=2),
        "frame": st.none() | st.integers(-1, 2**40),
        "example_id": st.none() | st.text(max_size=2),
        "split": st.sampled_from([None, "train", "test", "val", "unlabelled"]),
    },
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(some_rows, min_size=1, max_size=5))
def test_whatever_the_rows_hold_they_are_prepared_or_complained_of(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    good = [
        row | {"split": split, "group_id": "g", "frame": 1}
        for row, split in zip(
            marked_rows(4, first=40), ["train", "test", "val", "unlabelled"], strict=True
        )
    ]
    for row in good:
        row["points"] = row["points"][:4]
    text = write_rows(folder / "a.parquet", good + content)
    complains_or_reads(lambda: make(folder / "out", text, labelled=1, most_refused_share=1))


# what stands around it


def test_a_manifest_needs_a_name_for_each_point_and_a_task(tmp_path):
    make(tmp_path / "out", source_of(tmp_path))
    path = tmp_path / "out" / MANIFEST
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"classes": ["a"]}))
    with pytest.raises(DataError, match="(?s)classes holds 1 names for 3.*prepare the data again"):
        Dataset(tmp_path / "out")
    del content["task"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"(?s)task.*Field required.*prepare the data again"):
        Dataset(tmp_path / "out")


def test_what_is_already_prepared_is_known_with_and_without_the_number(tmp_path):
    text, out = source_of(tmp_path, count=60), tmp_path / "out"
    manifest = make(out, text, labelled=50)
    spec = PrepareSpec(**SMALL | {"labelled": None})
    assert already_prepared(text, out, spec) == manifest
    assert already_prepared(text, out, PrepareSpec(**SMALL)) is None
    assert already_prepared(text, out, PrepareSpec(labelled_per_class=10)) is None
    (out / MANIFEST).write_text("{}")
    assert already_prepared(text, out, spec) is None


def test_data_sets_of_classes_say_so_and_are_as_they_were(tmp_path):
    spec = PrepareSpec(validation=2, test=2)
    text = write_parquet(tmp_path / "a.parquet", rows(20))
    manifest = prepare(text, tmp_path / "out", spec)
    assert manifest.task == Dataset(tmp_path / "out").task == Classes(num_classes=2)
    assert (manifest.prepared.labelled_per_class, manifest.prepared.labelled) == (10, None)
    assert Dataset(tmp_path / "out").labelled_rows == (10, 10)
    assert not Dataset(tmp_path / "out").grouped


def test_points_need_images_so_that_no_features_are_made(tmp_path):
    make(tmp_path / "out", source_of(tmp_path))
    spec = EmbedSpec(model="test_resnet")
    with pytest.raises(DataError, match="holds points: they need images"):
        embed(Dataset(tmp_path / "out"), tmp_path / "f", spec, LocalEngine(Placement()), Silent())


def test_the_command_line_counts_points(tmp_path):
    text = source_of(tmp_path)
    command = ["prepare", text, "--out", str(tmp_path / "out"), "--labelled", "4"]
    command += ["--validation", "3", "--test", "3"]
    said = CliRunner().invoke(app, [*command, "--json"])
    found = json.loads(said.stdout)
    assert found["points"] == ["point-0", "point-1", "point-2"]
    assert (found["points_found"], found["labelled"], found["pool"]) == (3, 4, 10)
    assert "classes" not in found
    said = CliRunner().invoke(app, [*command, "--again"])
    assert "3 points, 4 labelled, 10 pool" in said.output.replace("\n", " ")
