"""Photos, decoded and resized once, in a memory-mapped file: later epochs and later runs read pixels, not JPEGs."""

import errno
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from colorlib.photo import PhotoError, read_photo, resize_photo

from .atomic import remove_leftovers, replacing, write_text
from .environment import available_cores, progress_interval

FEW = 100  # so many photos are read before a progress bar and helper processes are worth their start


class PhotoCache:
    """The photos of a list, squeezed to side×side px (Pillow, bicubic); `cache[indices]` is uint8 (B, side, side, 3).

    Files that can be read become `.paths`, the others, with the reasons, `.skipped`; `ValueError` if none can be. The
    folder has a cache for each side and list of files, sizes and times; without a folder, it is only in memory.
    """

    def __init__(self, paths: Sequence, side: int, folder: str | os.PathLike | None = None, num_workers: int = 0):
        paths = [Path(path) for path in paths]
        if folder is None:
            stream = io.BytesIO()
            skipped = _decode(paths, side, num_workers, stream)
            photos = np.frombuffer(stream.getbuffer(), np.uint8)
        else:
            stamps = [(path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else None for path in paths]
            key = json.dumps([side, stamps, [str(path.absolute()) for path in paths]])
            file = Path(folder) / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin"
            if not (file.exists() and file.with_suffix(".json").exists()):
                _make(file, paths, side, num_workers)
            photos, skipped = np.memmap(file, mode="c"), json.loads(file.with_suffix(".json").read_text())
        self._photos = torch.from_numpy(photos).view(-1, side, side, 3)
        reasons = dict(skipped)
        self.skipped = [(paths[row], why) for row, why in reasons.items()]
        self.paths = [path for row, path in enumerate(paths) if row not in reasons]
        if reasons:
            print(f"skipped {len(reasons)} of {len(paths)} files:", *reasons.values(), sep="\n  ")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        return self._photos.index_select(0, index)


def _make(file: Path, paths: list[Path], side: int, workers: int) -> None:
    try:
        remove_leftovers(file.parent)
        with replacing(file) as temporary, open(temporary, "wb") as stream:
            needed, free = len(paths) * side * side * 3 / 1e9, shutil.disk_usage(file.parent).free / 1e9
            if needed > free:
                raise OSError(errno.ENOSPC, f"it needs {needed:.2f} GB, {free:.2f} GB are free")
            skipped = _decode(paths, side, workers, stream)
        write_text(file.with_suffix(".json"), json.dumps(skipped))
    except OSError as error:
        hint = "choose a folder on another disk with the variable COLORLIB_CACHE, or a smaller photo_size"
        message = f"cannot make the photo cache ({error.strerror}); {hint}"
        raise OSError(error.errno, message, str(file)) from error


def _decode(paths: list[Path], side: int, workers: int, stream: BinaryIO) -> list[tuple[int, str]]:
    """Write the pixels of photos to a stream; returns the rows of those that cannot be read, with the reasons."""
    workers = min(workers, available_cores()) if len(paths) >= FEW else 0
    read, own = partial(_read, side), torch.Generator()  # of its own: the order of other random numbers stays the same
    loader = DataLoader(paths, batch_size=None, num_workers=workers, collate_fn=read, generator=own)
    skipped = []
    shown = {"unit": "photo", "file": sys.stdout, "leave": False, "mininterval": progress_interval(), "maxinterval": 30}
    bar = tqdm(loader, "reading photos", disable=len(paths) < FEW, **shown)
    for row, photo in enumerate(bar):
        if isinstance(photo, str):
            skipped.append((row, photo))
        else:
            stream.write(photo)
    if len(skipped) == len(paths):
        raise ValueError(f"none of the {len(paths)} files could be read as a photo: choose another folder")
    return skipped


def _read(side: int, path: Path) -> bytes | str:
    """A file's pixels, or the reason why it cannot be read."""
    try:
        return resize_photo(read_photo(path, whole=True), side).tobytes()
    except (PhotoError, OSError) as error:
        return str(error)
