"""Photos, decoded and resized once, in a memory-mapped file: later epochs and later runs read pixels, not JPEGs."""

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from colorlib.environment import available_cores
from colorlib.files import remove_leftovers, replacing
from colorlib.photo import PhotoError, read_photo, resize_photo

FEW = 100  # so many photos are read before a progress bar and helper processes are worth their start
WRITTEN_TOGETHER = 256  # photos that may have to be read again after a kill; Ctrl-C costs none


class PhotoCache:
    """The photos of a list, squeezed to side×side px (Pillow, bicubic), as bytes.

    paths: image files. side: px. folder: where caches lie, a sub-folder for each list of paths and side; None keeps
    the photos in memory only. num_workers: processes that decode; 0: this one. A cache that is there is used again:
    files whose size or time has changed are read anew, and one that was interrupted is continued.
    `paths` names the files that could be read; indexing gives their photos. `skipped`: the other files, each with the
    reason, also printed. Raises `ValueError` when none can be read, and `OSError` when the disk is too
    small or the folder cannot be written to. Checked by tests/test_cache.py.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        side: int,
        folder: str | os.PathLike | None = None,
        num_workers: int = 0,
    ):
        paths = [Path(path) for path in paths]
        shape = (len(paths), side, side, 3)
        stamps = np.array([_stamp(path) for path in paths], dtype=np.int64).reshape(-1, 2)
        if folder is None:
            photos, known = np.empty(shape, np.uint8), np.zeros_like(stamps)
        else:
            names = "\n".join(str(path.absolute()) for path in paths)
            folder = Path(folder) / hashlib.sha256(os.fsencode(f"{side}\n{names}")).hexdigest()[:16]
            photos = _open(folder / "photos.npy", shape, np.uint8)
            known = _open(folder / "stamps.npy", stamps.shape, np.int64)  # of the files, at the time they were read
        stale = np.flatnonzero((known != stamps).any(axis=1) | (stamps[:, 0] <= 0)).tolist()
        reasons = _read(paths, stale, photos, known, stamps, num_workers)
        if reasons:
            lines = "".join(f"\n  {why}" for why in reasons.values())
            print(f"skipped {len(reasons)} of {len(paths)} files:{lines}")
        if len(reasons) == len(paths):
            raise ValueError(f"none of the {len(paths)} files could be read as a photo: choose another folder")
        self.paths = [path for row, path in enumerate(paths) if row not in reasons]
        self.skipped = [(paths[row], why) for row, why in reasons.items()]
        self._photos = torch.from_numpy(np.asarray(photos))
        self._rows = torch.tensor([row for row in range(len(paths)) if row not in reasons])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> Tensor:
        """The photos with these numbers, int64 (B,): uint8 (B, side, side, 3)."""
        return self._photos.index_select(0, self._rows[index])


def _stamp(path: Path) -> tuple[int, int]:
    """A file's size and time of last change, by which a changed one is known; (−1, −1) for a missing file."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _open(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """Map an array file into memory; make it, full of zeros, where there is none of this shape."""
    with contextlib.suppress(Exception):  # none yet, or a broken one: a cache can be made again
        array = open_memmap(path, mode="r")  # fails when the file was cut off; "r+" would fill it up with zeros
        if array.shape == shape and array.dtype == dtype:
            return open_memmap(path, mode="r+")
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        if needed > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with replacing(path) as temporary:
            array = open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
            if hasattr(os, "posix_fallocate"):  # claim the space now: a mapped file on a full disk ends the process
                with open(temporary, "rb+") as file:
                    os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            path.with_name("stamps.npy").unlink(missing_ok=True)  # they tell of the pixels that were there before
    except OSError as error:
        free = shutil.disk_usage(next(place for place in path.parents if place.exists())).free
        hint = "choose a folder on another disk with the variable COLORLIB_CACHE, or a smaller photo_size"
        sizes = f"it needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free"
        raise OSError(
            error.errno, f"cannot make the photo cache ({error.strerror}: {sizes}); {hint}", str(path)
        ) from error
    return array


def _read(
    paths: Sequence[Path], rows: Sequence[int], photos: np.ndarray, known: np.ndarray, stamps: np.ndarray, workers: int
) -> dict[int, str]:
    """Read the photos of some rows into the array; returns why others could not be read, by row."""
    decoder = _Decoder(paths, photos.shape[1])
    workers = min(workers, available_cores()) if len(rows) >= FEW else 0
    loader = DataLoader(decoder, batch_size=None, sampler=rows, num_workers=workers, generator=torch.Generator())
    reasons: dict[int, str] = {}
    fresh: list[int] = []

    def write_down() -> None:  # the pixels first: a stamp says that they are there
        if isinstance(photos, np.memmap):
            photos.flush()
        known[fresh] = stamps[fresh]
        fresh.clear()

    bar = tqdm(loader, "reading photos", unit="photo", file=sys.stdout, leave=False, disable=len(rows) < FEW)
    try:
        for row, photo in zip(rows, bar, strict=True):
            if isinstance(photo, str):
                reasons[row] = photo
            else:
                known[row] = 0  # neither the old pixels nor yet the new ones
                photos[row] = photo
                fresh.append(row)
            if len(fresh) == WRITTEN_TOGETHER:
                write_down()
    finally:
        write_down()
    return reasons


class _Decoder(Dataset):
    """Item i: file i as uint8 (side, side, 3), or the reason why it cannot be read."""

    def __init__(self, paths: Sequence[Path], side: int):
        self.paths, self.side = paths, side

    def __getitem__(self, index: int) -> np.ndarray | str:
        try:
            return resize_photo(read_photo(self.paths[index]), self.side).copy()  # Pillow's own memory is read-only
        except (PhotoError, OSError) as error:
            return str(error)
