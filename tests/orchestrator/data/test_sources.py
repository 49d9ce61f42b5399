"""Sources: every form of data becomes raw examples, or an error that says what is amiss."""

import gzip
import random
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.checking import labels_in_order
from orchestrator.data.examples import RawExample
from orchestrator.data.sources import open_source
from orchestrator.errors import ConfigError, DataError
from tests.orchestrator.data.pictures import (
    digit_like,
    picture,
    pixels,
    put,
    rows,
    write_folder,
    write_idx,
    write_parquet,
)
from trainables.images import decode


def examples(text: str) -> list[RawExample]:
    return list(open_source(text).examples)


def by_part(text: str) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {}
    for example in examples(text):
        found.setdefault(example.part, []).append(example.label)
    return found


def test_digits_hold_1797_pictures_of_ten_classes_with_names_of_their_own():
    found = examples("digits")
    assert len(found) == len({e.example_id for e in found}) == 1797
    assert {e.label for e in found} == set(open_source("digits").classes or ())
    assert decode(found[0].content).shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("digit", "did you mean 'digits'"),
        ("foldr:x", "did you mean 'folder'"),
        ("digits:x", "known: digits"),
        ("folder:", "known: digits"),
        ("", "known: digits"),
    ],
)
def test_an_unknown_source_gives_the_nearest_and_all_others(text, said):
    with pytest.raises(ConfigError, match=said):
        open_source(text)


# class folders


def test_class_folders_are_classes_and_the_other_folders_are_parts(tmp_path):
    text = write_folder(tmp_path, per_class=2)
    put(tmp_path / "test" / "dog" / "t.png", picture(100))
    put(tmp_path / "validation" / "cat" / "v.png", picture(101))
    put(tmp_path / "unlabelled" / "deep" / "u.png", picture(102))
    assert open_source(text).classes == ("cat", "dog")
    assert by_part(text) == {
        "train": ["cat", "cat", "dog", "dog"],
        "validation": ["cat"],
        "test": ["dog"],
        "unlabelled": [None],
    }


def test_class_folders_may_lie_below_train(tmp_path):
    write_folder(tmp_path / "train", per_class=1)
    put(tmp_path / "test" / "cat" / "t.png", picture(100))
    text = f"folder:{tmp_path}"
    assert open_source(text).classes == ("cat", "dog")
    assert by_part(text) == {"train": ["cat", "dog"], "test": ["cat"]}


def test_a_file_is_named_by_its_path_below_the_root(tmp_path):
    text = write_folder(tmp_path, per_class=1)
    assert [e.example_id for e in examples(text)] == ["cat/000.png", "dog/001.png"]


def test_hidden_files_and_folders_are_not_looked_at(tmp_path):
    text = write_folder(tmp_path, per_class=1)
    put(tmp_path / "cat" / ".DS_Store", b"x")
    put(tmp_path / "cat" / ".ipynb_checkpoints" / "000.png", picture(0))
    put(tmp_path / ".cache" / "a.png", picture(0))
    assert open_source(text).classes == ("cat", "dog")
    assert len(examples(text)) == 2


def test_a_folder_that_is_none_or_holds_no_classes_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere is no folder"):
        open_source(f"folder:{tmp_path}/nowhere")
    put(tmp_path / "unlabelled" / "a.png", picture(0))
    with pytest.raises(DataError, match="holds no class folders"):
        open_source(f"folder:{tmp_path}")


# Parquet


def test_images_may_be_bytes_or_bytes_with_a_path(tmp_path):
    plain = write_parquet(tmp_path / "a.parquet", [{"image": picture(1), "label": "cat"}])
    nested = {"bytes": picture(1), "path": "x.png"}
    structs = write_parquet(tmp_path / "b.parquet", [{"image": nested, "label": "cat"}])
    (one,), (other,) = examples(plain), examples(structs)
    assert one.content == other.content == picture(1)
    assert one.example_id == other.example_id


def test_a_row_without_a_label_is_unlabelled(tmp_path):
    content = [{"image": picture(0), "label": 3}, {"image": picture(1), "label": None}]
    text = write_parquet(tmp_path / "a.parquet", content)
    assert by_part(text) == {"train": ["3"], "unlabelled": [None]}


def test_a_column_of_splits_decides_the_part(tmp_path):
    splits = ["train", "val", "valid", "validation", "test", "unlabelled", None]
    content = [
        {"image": picture(i), "label": "cat", "split": split} for i, split in enumerate(splits)
    ]
    parts = [e.part for e in examples(write_parquet(tmp_path / "a.parquet", content))]
    validation = ["validation"] * 3
    assert parts == ["train", *validation, "test", "unlabelled", "train"]


def test_an_unknown_split_is_refused_with_its_row(tmp_path):
    content = [{"image": picture(0), "label": "cat", "split": "dev"}]
    text = write_parquet(tmp_path / "a.parquet", content)
    with pytest.raises(DataError, match=r"a\.parquet row 0: split 'dev' must be one of train"):
        examples(text)


def test_a_folder_of_parquet_files_is_one_source_and_a_file_called_test_is_its_test_part(tmp_path):
    write_parquet(tmp_path / "a.parquet", rows(1))
    write_parquet(tmp_path / "test.parquet", rows(1, first=50))
    assert by_part(f"parquet:{tmp_path}") == {"train": ["cat", "dog"], "test": ["cat", "dog"]}


def test_rows_without_ids_are_named_by_their_content_wherever_they_stand(tmp_path):
    content = [{"image": r["image"], "label": r["label"]} for r in rows(3)]
    content += [content[0], content[0] | {"label": "dog"}, content[1] | {"split": "test"}]
    text = write_parquet(tmp_path / "a.parquet", content)
    before = {(e.example_id, e.content, e.label, e.part) for e in examples(text)}
    random.Random(0).shuffle(content)
    write_parquet(tmp_path / "a.parquet", content)
    after = {(e.example_id, e.content, e.label, e.part) for e in examples(text)}
    assert after == before
    assert len({name for name, *_ in after}) == len(content)


def test_a_parquet_source_without_images_names_its_columns(tmp_path):
    text = write_parquet(tmp_path / "a.parquet", [{"picture": b"x", "label": "cat"}])
    with pytest.raises(DataError, match="no column 'image', only picture, label"):
        open_source(text)


@pytest.mark.parametrize("image", ["x.png", {"path": "x.png"}, 3])
def test_an_image_column_that_holds_no_bytes_is_refused(tmp_path, image):
    text = write_parquet(tmp_path / "a.parquet", [{"image": image, "label": "cat"}])
    with pytest.raises(DataError, match="column 'image' is .*, must be bytes"):
        open_source(text)


def test_a_parquet_source_that_is_not_there_or_is_broken_is_named(tmp_path):
    with pytest.raises(DataError, match="no Parquet file there"):
        open_source(f"parquet:{tmp_path}")
    with pytest.raises(DataError, match="no Parquet file there"):
        open_source(f"parquet:{tmp_path}/none.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"a\.parquet can't be read as Parquet"):
        open_source(f"parquet:{tmp_path}")


def test_large_binary_images_are_read_as_well(tmp_path):
    table = pa.table({"image": pa.array([picture(0)], pa.large_binary()), "label": ["cat"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert examples(f"parquet:{tmp_path}/a.parquet")[0].content == picture(0)


# idx files


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_plain_and_packed(tmp_path, packed):
    write_idx(tmp_path, "train", *digit_like(4), packed=packed)
    write_idx(tmp_path, "t10k", *digit_like(2, first=50), packed=packed)
    found = examples(f"idx:{tmp_path}")
    assert sorted((e.part, e.label) for e in found) == [
        ("test", "0"),
        ("test", "1"),
        ("train", "0"),
        ("train", "0"),
        ("train", "1"),
        ("train", "1"),
    ]
    first = next(e for e in found if e.origin == "train 0")
    assert np.array_equal(decode(first.content)[0], pixels(0))


def test_a_packed_file_beside_its_plain_one_is_read_once(tmp_path):
    write_idx(tmp_path, "train", *digit_like(4))
    write_idx(tmp_path, "train", *digit_like(4), packed=True)
    assert len(examples(f"idx:{tmp_path}")) == 4


def test_equal_pictures_with_equal_labels_are_numbered(tmp_path):
    images = np.stack([pixels(0)] * 3)
    write_idx(tmp_path, "train", images, np.array([1, 1, 0]))
    names = [e.example_id for e in examples(f"idx:{tmp_path}")]
    assert names[1] == f"{names[0]}-2"
    assert len(set(names)) == 3


def test_idx_files_without_labels_are_told_which_file_is_missing(tmp_path):
    write_idx(tmp_path, "train", *digit_like(4))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no file of labels beside it \(train-labels-idx1-ubyte\)"):
        examples(f"idx:{tmp_path}")


def test_idx_files_of_different_lengths_are_refused(tmp_path):
    images, labels = digit_like(4)
    write_idx(tmp_path, "train", images, labels[:3])
    with pytest.raises(DataError, match="holds 4 images, 3 labels"):
        examples(f"idx:{tmp_path}")


def test_an_idx_file_that_is_cut_short_is_named(tmp_path):
    write_idx(tmp_path, "train", *digit_like(4))
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is cut short: 255 bytes"):
        examples(f"idx:{tmp_path}")


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x03", b"plain text, not idx at all"])
def test_a_file_that_is_no_idx_file_is_named(tmp_path, content):
    write_idx(tmp_path, "train", *digit_like(4))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="train-images-idx3-ubyte is no idx file"):
        examples(f"idx:{tmp_path}")


@pytest.mark.parametrize("damage", ["cut", "not packed", "flipped"])
def test_a_packed_idx_file_that_can_not_be_unpacked_is_named(tmp_path, damage):
    write_idx(tmp_path, "train", *digit_like(4), packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    damaged = {"cut": path.read_bytes()[:-20], "not packed": b"x" * 40, "flipped": bytes(content)}
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz can't be unpacked"):
        examples(f"idx:{tmp_path}")


def test_a_folder_without_idx_files_says_what_it_looked_for(tmp_path):
    with pytest.raises(DataError, match="no file like train-images-idx3-ubyte"):
        open_source(f"idx:{tmp_path}")


# torchvision


def test_a_torchvision_set_whose_files_are_in_place_is_read_from_them(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    for packed in (False, True):
        write_idx(raw, "train", *digit_like(4), packed=packed)
        write_idx(raw, "t10k", *digit_like(2, first=50), packed=packed)
    source = open_source(f"torchvision:FashionMNIST@{tmp_path}")
    found = list(source.examples)
    assert (source.classes or ())[:2] == ("T-shirt/top", "Trouser")
    assert [(e.part, e.label) for e in found] == [
        ("train", "T-shirt/top"),
        ("train", "Trouser"),
        ("train", "T-shirt/top"),
        ("train", "Trouser"),
        ("test", "T-shirt/top"),
        ("test", "Trouser"),
    ]
    assert np.array_equal(decode(found[0].content)[0], pixels(0))


@pytest.mark.parametrize("name", ["mnist", "CIFAR-10", "FashionMNST"])
def test_an_unknown_torchvision_name_gives_the_nearest(name):
    near = {"mnist": "MNIST", "CIFAR-10": "CIFAR10", "FashionMNST": "FashionMNIST"}[name]
    with pytest.raises(ConfigError, match=f"no data set '{name}'; did you mean .*{near}"):
        open_source(f"torchvision:{name}")


def test_a_torchvision_set_that_can_not_be_downloaded_says_where_it_was_looked_for(
    tmp_path, monkeypatch
):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(urllib.request, "_opener", None)  # which keeps the proxies it began with
    with pytest.raises(DataError, match=f"FashionMNIST is not complete below {tmp_path}"):
        open_source(f"torchvision:FashionMNIST@{tmp_path}")


def test_numbers_are_ordered_as_numbers_and_names_as_names():
    assert labels_in_order({"10", "9", "-1"}) == ("-1", "9", "10")
    assert labels_in_order({"b", "10", "9"}) == ("10", "9", "b")


def test_a_packed_file_gives_the_same_examples_as_its_plain_one(tmp_path):
    write_idx(tmp_path / "a" / "set", "train", *digit_like(4))
    write_idx(tmp_path / "b" / "set", "train", *digit_like(4), packed=True)
    assert gzip.decompress(
        (tmp_path / "b" / "set" / "train-images-idx3-ubyte.gz").read_bytes()
    ) == ((tmp_path / "a" / "set" / "train-images-idx3-ubyte").read_bytes())
    assert examples(f"idx:{tmp_path}/a/set") == examples(f"idx:{tmp_path}/b/set")
