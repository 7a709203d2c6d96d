"""A file is whole or not there."""

import os

import pytest

from colorlib.files import replacing, write_text


def test_writes(tmp_path):
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "a.txt").exists(), "nothing shows before the block ends"
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_temporary_file_lies_beside_hidden_and_with_the_same_suffix(tmp_path):
    with replacing(str(tmp_path / "picture.v2.png")) as temporary:
        temporary.write_bytes(b"")
        assert temporary.parent == tmp_path, "else the move is no move"
        assert temporary.suffix == ".png" and temporary.name.startswith(".")


def test_replaces_at_the_end_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("hal")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_failure_before_anything_is_written(tmp_path):
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.txt"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_nothing_written_is_an_error_not_an_empty_file(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_makes_missing_folders(tmp_path):
    write_text(tmp_path / "deep" / "down" / "a.txt", "x")
    assert (tmp_path / "deep" / "down" / "a.txt").read_text() == "x"


def test_write_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "L* → ab, 50 – 100\n")
    assert (tmp_path / "a.txt").read_bytes() == "L* → ab, 50 – 100\n".encode()


def test_contents_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_text(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace"]
