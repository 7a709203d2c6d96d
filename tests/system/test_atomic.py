"""A file is whole or not there."""

import os
import signal

import pytest
from conftest import files

from colorlib.system import remove_leftovers, replacing, write_text


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
    assert list((tmp_path / "deep").iterdir()) == []


def test_only_leftovers_of_dead_processes_are_removed(tmp_path):
    mine = [".gitignore", ".a.b", ".a.4711", ".1.2", ".v1.x.pt", "a.4711.pt", ".last.4711.pt~", ".last.4711.pt - copy"]
    mine += [".vscode/a.json", ".git/objects/4711.pt", ".d.4711.d/a.txt", f".last.{os.getppid()}.pt"]  # it may write it
    for name in [*mine, f".last.{os.getpid()}.pt"]:  # the last one: of an earlier process with this one's number
        write_text(tmp_path / name, "")
    remove_leftovers(tmp_path)
    assert files(tmp_path) == sorted(mine)
