"""A file is whole or not there."""

import errno
import os
import signal

import pytest
from conftest import files, small_disk

from colorlib.system import remove_leftovers, replacing, write_text, write_whole


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "picture.v2.png"
    with replacing(str(path)) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent and temporary.suffix == ".png" and not path.exists()
    assert path.read_text() == "whole" and os.listdir(path.parent) == [path.name]
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass  # nothing written is an error, not an empty file


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    if (child := os.fork()) == 0:
        with replacing(tmp_path / "deep" / "last.v1.pt") as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [path.read_text() for path in (tmp_path / "deep").iterdir()] == ["half"]
    remove_leftovers(tmp_path)
    assert list((tmp_path / "deep").iterdir()) != [], "only where it is told to look"
    remove_leftovers(tmp_path, below=True)
    assert list((tmp_path / "deep").iterdir()) == []
    remove_leftovers(tmp_path / "no such folder")


def test_only_leftovers_of_dead_processes_are_removed(tmp_path):
    mine = [".gitignore", ".a.b", ".a.4711", ".1.2", ".v1.x.pt", "a.4711.pt", ".last.4711.pt~", ".last.4711.pt - copy"]
    mine += [".vscode/a.json", ".git/objects/4711.pt", ".d.4711.d/a.txt", f".last.{os.getppid()}.pt"]  # it may write it
    mine += [f".a.{'9' * 40}.pt"]  # no process's number
    for name in [*mine, f".last.{os.getpid()}.pt"]:  # the last one: of an earlier process with this one's number
        write_text(tmp_path / name, "")
    remove_leftovers(tmp_path, below=True)
    assert files(tmp_path) == sorted(mine)


def test_what_this_process_is_writing_is_no_leftover(tmp_path):
    """Such as a page that writes two people's pictures into one folder."""
    with replacing(tmp_path / "a.png") as temporary:
        temporary.write_text("half")
        remove_leftovers(tmp_path)
        assert temporary.exists()
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path):
    """The last write is cut short, and only the next one would fail: what a library may overlook."""
    path = tmp_path / "picture.jpg"
    write_whole(path, b"before")
    for size in (1001, 100_000, 10_000_000):  # less and more than what is written at a time
        with small_disk(1000), pytest.raises(OSError) as caught:
            write_whole(path, bytes(size))
        assert caught.value.errno == errno.EFBIG
        assert os.listdir(tmp_path) == ["picture.jpg"] and path.read_bytes() == b"before"
    with small_disk(1000):
        write_whole(path, bytes(1000))
    assert path.stat().st_size == 1000


@pytest.mark.skipif(os.name != "posix", reason="needs rights")
@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_rights_are_the_users(tmp_path, mask, rights):
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "new" / "a.bin", b"data")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "a.bin").stat().st_mode & 0o777 == rights


@pytest.mark.parametrize("letter", ["x", "ü", "🙂"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, letter):
    """The temporary name is no longer: a file that can be there can be written."""
    path = tmp_path / (letter * (251 // len(letter.encode())) + ".png")
    try:
        path.touch()
    except OSError:
        pytest.skip("names are shorter here")
    write_whole(path, b"data")
    assert path.read_bytes() == b"data"
