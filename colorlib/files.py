"""Files that are either whole or not there: written under a temporary name, then moved into place."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

LEFTOVER = re.compile(r"\..+\.(\d+)\.\w+")  # .last.4711.pt, of process 4711


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to, and move it there when the block ends well.

    The suffix stays the same, so that writers which go by it are not misled; missing folders are made. If the block
    fails, an earlier file stays as it was. Checked by tests/test_files.py.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete what processes that were killed in the middle of a `replacing` block have left in a folder and below.

    Files of a process that is alive stay: it may be writing them. Checked by tests/test_files.py.
    """
    for path in Path(folder).rglob(".*"):
        name = LEFTOVER.fullmatch(path.name)
        if name and path.is_file() and (int(name[1]) == os.getpid() or not psutil.pid_exists(int(name[1]))):
            path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole (UTF-8)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
