"""Files that are either whole or not there: written under a temporary name, then moved into place."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`, with its suffix, to write to; move it there when the block ends well."""
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
    """Delete what killed processes left of `replacing`, in a folder and below; a living process's files stay."""
    for path in Path(folder).rglob(".*"):
        name = re.fullmatch(r"\..+\.(\d+)\.\w+", path.name)  # .last.4711.pt, of process 4711
        if name and path.is_file() and (int(name[1]) == os.getpid() or not psutil.pid_exists(int(name[1]))):
            path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole (UTF-8)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
