"""A file is whole or not there."""

import os
import signal

import pytest

from colorlib.files import remove_leftovers, replacing, write_text


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


def die_while_replacing(path) -> None:
    """Leave behind what a process leaves that is killed inside the block."""
    child = os.fork()
    if child == 0:
        try:
            with replacing(path) as temporary:
                temporary.write_text("hal")
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process to kill")
WRITTEN = [  # names as the package writes them
    "last.pt", "best.safetensors", "config.json", "history.csv", "samples/epoch_000.png", "weights/e_1.v2.safetensors",
    "deep/down/metrics_summary.txt", ".hidden/photos.npy",
]  # fmt: skip


@needs_fork
def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    for name in WRITTEN:
        write_text(tmp_path / name, "whole")
        die_while_replacing(tmp_path / name)
        die_while_replacing(tmp_path / name)
    for name in (".gitignore", ".a.b", ".DS_Store", ".a.4711", ".1.2", ".last.pt", ".v1.x.pt", "a.4711.pt", "4711"):
        write_text(tmp_path / name, "mine")
    for name in (".last.4711.pt~", ".last.4711.pt.bak", ".last.4711.pt - copy"):
        write_text(tmp_path / name, "mine")
    for name in (".vscode/settings.json", ".git/objects/4711.pt", ".folder.4711.d/file.txt", "run.12.d/a.txt"):
        write_text(tmp_path / name, "mine")
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    leftovers = {path for path in files if path.read_text() == "hal"}
    assert len(leftovers) == 2 * len(WRITTEN)
    for _ in range(2):  # the second time there is nothing to do
        remove_leftovers(str(tmp_path))
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == files - leftovers
    assert all((tmp_path / name).read_text() == "whole" for name in WRITTEN)


@needs_fork
def test_a_leftover_is_in_nobodys_way(tmp_path):
    die_while_replacing(tmp_path / "last.pt")
    assert not (tmp_path / "last.pt").exists()
    write_text(tmp_path / "last.pt", "whole")
    assert (tmp_path / "last.pt").read_text() == "whole" and len(os.listdir(tmp_path)) == 2


def test_no_leftovers_in_an_empty_folder_or_none(tmp_path):
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "not there yet")
    assert os.listdir(tmp_path) == []


def test_files_of_a_living_process_stay(tmp_path):
    mine, living = tmp_path / f".last.{os.getpid()}.pt", tmp_path / f".last.{os.getppid()}.pt"
    for path in (mine, living):
        path.touch()
    remove_leftovers(tmp_path)
    assert living.exists(), "it may be writing it at this moment"
    assert not mine.exists(), "this process is writing nothing: an earlier one had its number"
