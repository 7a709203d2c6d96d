"""Files that are either whole or not there: written under a temporary name, then moved into place."""

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

LEFTOVER = re.compile(r"\..+\.(\d{1,9})\.\w+")  # .last.4711.pt, of process 4711
_being_written: set[Path] = set()  # by this process, at the moment


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`, with its suffix; move it there when the block ends well.

    It is for what does not fit into memory. Whoever writes there has to notice a full disk: Pillow and
    safetensors do not always. All else goes through `write_whole`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, os.getpid())
    _being_written.add(temporary.absolute())
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        _being_written.discard(temporary.absolute())
        temporary.unlink(missing_ok=True)


def _temporary(path: Path, process: int) -> Path:
    # 50 letters are 200 bytes or less: the temporary name is not too long where the name itself is not
    return path.with_name(f".{path.stem[:50]}.{process}{path.suffix}")


def write_whole(path: str | os.PathLike, data: bytes | memoryview) -> None:
    """Write a file whole or not at all, readable for those for whom the user's umask allows it.

    `OSError` if it cannot be written, as on a full disk; what was there before is then still there. Everything
    that is saved is encoded in memory first and then comes here: libraries that write to a file by themselves
    may ignore a full disk (Pillow) or make a file that nobody else can read (safetensors).
    """
    with replacing(path) as temporary:
        with open(temporary, "wb") as file:
            file.write(data)
        written = temporary.stat().st_size
        if written != len(data):
            raise OSError(errno.EIO, f"{written} of {len(data)} bytes were written", str(path))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file whole (UTF-8)."""
    write_whole(path, text.encode())


def remove_leftovers(
    folder: str | os.PathLike, below: bool = False, targets: Iterable[Path] | None = None
) -> None:  # fmt: skip
    """Delete what killed processes left of `replacing` in a folder; with `below`, in all folders below it, too.

    What a living process writes stays, and so does what cannot be deleted. No folder: nothing happens. With `targets`,
    only what would have become one of these files is deleted: in a folder of the user's, hidden files may have
    names of the same kind.
    """
    wanted = None if targets is None else {_temporary(target, 0) for target in targets}
    pattern = "**/.*" if below else ".*"
    for path in Path(folder).glob(pattern):
        if not (name := LEFTOVER.fullmatch(path.name)) or path.absolute() in _being_written:
            continue
        process = int(name[1])
        if wanted is not None and path.with_name(f"{path.stem.removesuffix(name[1])}0{path.suffix}") not in wanted:
            continue
        # where processes are counted from 1 on, as in containers, an earlier one had this one's number
        if process == os.getpid() or not psutil.pid_exists(process):
            with contextlib.suppress(OSError):  # a folder of that name, or one in which nothing may be deleted
                path.unlink()
