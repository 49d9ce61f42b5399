"""Laws of files on every file system: whole or not at all, and listed as they are."""

import threading
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.store.files import Files


@pytest.fixture
def files(root) -> Files:
    return Files(root)


def test_what_was_written_is_read_back(files):
    files.write("a/b/c.bin", b"\x00content")
    assert files.read("a/b/c.bin") == b"\x00content"
    assert files.exists("a/b/c.bin")
    assert files.size("a/b/c.bin") == 8
    with files.open("a/b/c.bin") as source:
        source.seek(1)
        assert source.read() == b"content"


def test_writing_again_replaces_the_content(files):
    files.write("a", b"longer than before")
    files.write("a", b"short")
    assert files.read("a") == b"short"


def test_a_file_that_is_not_there_is_missed_by_reading_only(files):
    assert not files.exists("none")
    files.delete("none")
    files.delete_folder("none")
    assert files.names("none") == []
    assert files.folders("none") == []
    assert not files.discard("none", b"")
    assert files.read_or_none("none") is None
    with pytest.raises(FileNotFoundError):
        files.read("none")


def test_names_and_folders_are_sorted_and_relative_to_the_root(files):
    for name in ("a/2", "a/1", "a/b/3", "a/c/4", "5"):
        files.write(name, b"x")
    assert files.names("a") == ["a/1", "a/2"]
    assert files.names("a", recursive=True) == ["a/1", "a/2", "a/b/3", "a/c/4"]
    assert files.folders("a") == ["a/b", "a/c"]
    assert files.names("") == ["5"]
    assert files.folders("") == ["a"]


def test_files_that_are_still_being_written_are_not_listed(files):
    files.write("a/.b.1234", b"x")
    assert files.names("a") == []


def test_deleting_takes_the_file_or_the_whole_folder(files):
    for name in ("a/1", "a/b/2", "c"):
        files.write(name, b"x")
    files.delete("c")
    files.delete_folder("a")
    assert files.names("", recursive=True) == []


def test_a_file_is_created_only_where_there_is_none(files):
    assert files.create("a/b", b"first")
    assert not files.create("a/b", b"second")
    assert files.read("a/b") == b"first"
    assert files.names("a") == ["a/b"]


def test_a_file_is_discarded_only_while_it_holds_what_was_seen(files):
    files.write("a", b"x")
    assert not files.discard("a", b"y")
    assert files.read("a") == b"x"
    assert files.discard("a", b"x")
    assert not files.exists("a")
    assert not files.discard("a", b"x")
    assert files.names("", recursive=True) == []


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_creators_exactly_one_succeeds(files, attempt):
    together = threading.Barrier(8)
    won: list[int] = []

    def create(number: int) -> None:
        together.wait()
        if files.create("lease", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert files.read("lease") == str(won[0]).encode()
    assert files.names("", recursive=True) == ["lease"]
    assert files.hidden(".") == []


@pytest.mark.parametrize("attempt", range(3))
def test_of_many_that_discard_a_file_exactly_one_succeeds(files, attempt):
    files.write("lease", b"dead")
    together = threading.Barrier(8)
    won: list[int] = []

    def discard(number: int) -> None:
        together.wait()
        if files.discard("lease", b"dead"):
            won.append(number)

    threads = [threading.Thread(target=discard, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert not files.exists("lease")
    assert files.hidden(".") == []


def test_a_local_write_that_fails_leaves_the_older_file_and_nothing_beside_it(tmp_path):
    files = Files(tmp_path)
    files.write("a", b"older")
    with pytest.raises(TypeError):
        files.write("a", "text")
    assert files.read("a") == b"older"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_only_a_local_file_has_a_path_of_its_own(files, root):
    files.write("a", b"x")
    local = files.local("a")
    assert (local is None) == ("://" in root)
    assert local is None or local.read_bytes() == b"x"


def test_a_relative_root_is_kept_as_an_absolute_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = Files("sto re")
    monkeypatch.chdir("/")
    files.write("a", b"x")
    assert Path(files.root) == tmp_path / "sto re"
    assert (tmp_path / "sto re" / "a").read_bytes() == b"x"


def test_a_uri_that_names_no_file_system_is_refused():
    with pytest.raises(ConfigError, match=r"'nosuch://bucket' can't be opened"):
        Files("nosuch://bucket")
