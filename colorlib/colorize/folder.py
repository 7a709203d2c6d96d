"""Whole folders: each photo and clip colored into a file of its own, bad ones listed last, interrupts picked up."""

import glob
import mmap
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageOps
from tqdm import tqdm

from colorlib.colorize.colorizer import Colorizer
from colorlib.colorize.export import NOTE, colorized_name, save_picture
from colorlib.colorize.video import VIDEO_SUFFIXES, SteadyColors, colorize_video, is_video
from colorlib.data import find_files, find_images
from colorlib.photo import PHOTO_SUFFIXES, photo_notes, read_deep_photo, read_photo
from colorlib.plots import sample_grid
from colorlib.system import remove_leftovers

SHEET = "contact-sheet-colorized.jpg"  # by its name, no later call takes it for a photo
KINDS = PHOTO_SUFFIXES + VIDEO_SUFFIXES
EARLIER = "earlier result"  # among what is left out
FAILURES = (ValueError, OSError, RuntimeError, MemoryError, ModuleNotFoundError)  # of one file
SHEET_PHOTOS, COLUMNS, CELL = 60, 3, 192  # photos on it, at most; pairs in a row; side of a picture, px


@dataclass
class FolderResult:
    """What became of the photos: of each its result, or why it failed."""

    folder: Path  # of the results
    done: dict[Path, Path] = field(default_factory=dict)
    skipped: dict[Path, Path] = field(default_factory=dict)  # results that were there before
    failed: dict[Path, str] = field(default_factory=dict)
    notes: dict[Path, str] = field(default_factory=dict)  # what else is to say of some
    left_out: Counter[str] = field(default_factory=Counter)  # suffixes of files that are no photos, and `EARLIER`
    sheet: Path | None = None  # the contact sheet, if there is anything to show

    def fail(self, error: OSError) -> None:
        """Take down why a file or a folder cannot be read."""
        self.failed[Path(error.filename)] = _reason(error)

    def note(self, photo: Path, words: str) -> None:
        """Take down something else that is to say of a photo."""
        words = words.removeprefix(f"{photo.name}: ")
        self.notes[photo] = "; ".join([*filter(None, [self.notes.get(photo)]), words])


def colorize_folder(
    src: str | os.PathLike | Sequence[str | os.PathLike], dst: str | os.PathLike, colorizer: Colorizer | None = None, *,
    overwrite: bool = False, progress: bool = True, steadiness: float = 0.85, **options: Any,
) -> FolderResult:  # fmt: skip
    """Color all photos and clips of a folder, and of the folders below it, into another one; bad ones stop nothing.

    `src` may also be a file, or several files and folders, with wildcards. `dst` gets a file for each, see
    `colorized_name`, in the same subfolders, and a contact sheet of the photos; where two photos would get the same
    file, the second one gets a number. Without `overwrite`, what is there already is skipped, so that an interrupted
    call can be repeated; what a killed one left half written is deleted. Results of earlier calls among the photos
    are left out. The colorizer is the release by default; the options are those of `Colorizer.colorize`. `steadiness`
    is for clips, see `colorize_video`.

    Raises:
        ValueError: If an option is out of its range, a path is empty, or a folder has no photo; `FileNotFoundError` if
            there is none; `NotADirectoryError` if `dst` is a file.
    """
    dst = _results_folder(dst)
    result = FolderResult(dst)
    jobs = _jobs(list(_sources([src] if isinstance(src, str | os.PathLike) else src)), result)
    colorizer = colorizer or Colorizer.from_run()
    if options.get("reference") is not None:
        options["reference"] = read_photo(options["reference"])  # once
    SteadyColors(steadiness)  # wrong options end here, not once for each photo
    colorizer.colorize(np.zeros((1, 1, 3), np.uint8), **options)
    for folder, targets in groupby(sorted([dst / SHEET, *jobs.values()], key=_parent), key=_parent):
        remove_leftovers(folder, targets=targets)
    for photo, target in tqdm(jobs.items(), desc="coloring", unit="file", disable=not progress):
        try:  # all that is asked of the disk stands in here: one file must not end the others' run
            if target.is_file() and not overwrite:
                result.skipped[photo] = target
                continue
            if target.suffix == ".mp4":
                clip = {"steadiness": steadiness, "progress": progress, "on_note": partial(result.note, photo)}
                colorize_video(photo, target, colorizer, **clip, **options)
            else:
                save_picture(target, colorizer.colorize(read_deep_photo(photo), **options), photo)
                for words in photo_notes(photo):
                    result.note(photo, words)
            result.done[photo] = target
        except FAILURES as error:
            result.failed[photo] = _reason(error)
    there = result.done | result.skipped
    if pairs := [(photo, there[photo]) for photo in jobs if photo in there and there[photo].suffix != ".mp4"]:
        try:
            result.sheet = save_picture(dst / SHEET, contact_sheet(pairs[:SHEET_PHOTOS]))
        except FAILURES as error:
            result.failed[dst / SHEET] = _reason(error)
    return result


def contact_sheet(pairs: Sequence[tuple[Path, Path]]) -> np.ndarray:
    """Draw photos beside their colored versions, small, in their order: uint8 (H, W, 3)."""

    def cell(path: Path) -> np.ndarray:
        (small := read_photo(path)).thumbnail((CELL, CELL))
        return np.asarray(ImageOps.pad(small, (CELL, CELL), color="white"))

    cells = [np.hstack([cell(path) for path in pair]) for pair in pairs]
    return sample_grid([cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)], gap=8)


_parent = attrgetter("parent")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _results_folder(path: str | os.PathLike) -> Path:
    """The folder for the results as a full path, without links."""
    name = os.path.expanduser(path)
    if not name:
        raise ValueError("the path of the results' folder is empty: give one, such as . for the working directory")
    if name.startswith("~"):
        user = Path(name).parts[0]
        raise ValueError(f"no user has the home {user}: give another folder, or ./{name} for one of that name")
    path = Path(os.path.realpath(name))
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except FileNotFoundError:
        is_folder = True  # once it is made
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror}: give another folder for the results") from error
    if not is_folder:
        raise NotADirectoryError(f"{path} is a file: give a folder for the results")
    return path


def _sources(paths: Sequence[str | os.PathLike]) -> Iterator[Path]:
    """The photos and folders that paths name; wildcards are expanded, which not every shell does."""
    for path in paths:
        name = os.path.expanduser(path)
        if not name:
            raise ValueError("the path of a photo is empty: give one, such as . for the working directory")
        found = [name] if os.path.lexists(name) else sorted(glob.glob(name, recursive=True))
        if not found:
            raise FileNotFoundError(f"there is no photo or folder {name!r}: check the path")
        yield from map(Path, found)


def _jobs(sources: Sequence[Path], result: FolderResult) -> dict[Path, Path]:
    """Each photo and clip with the path of its result, in their order; `result` gets what is left out.

    Two photos never share a result, also where the disk takes A and a for the same: the second one gets a number. A
    result never takes the place of a photo. Results of earlier calls are left out, unless one is all that is given.
    """
    plain: dict[Path, Path] = {}  # the paths that the results have if nothing else has them
    for source in sources:
        root, found = source.parent, [source]
        if os.path.isdir(source):
            alike = find_images(source, KINDS, result.fail)
            root, found = source, [path for path in alike if path.suffix.lower() in PHOTO_SUFFIXES or is_video(path)]
            others = [path for path in find_files(source, lambda _: None) if path.suffix.lower() not in KINDS]
            others += sorted({*alike} - {*found})  # TypeScript is called like clips
            result.left_out.update(path.suffix.lower() or "no suffix" for path in others)
        for photo in found:
            if sources != [photo] and _is_result(photo):
                result.left_out[EARLIER] += 1
            else:
                place = result.folder / photo.relative_to(root).parent
                plain.setdefault(photo, place / colorized_name(photo, clip=is_video(photo)))
    real = {photo: os.path.realpath(photo) for photo in plain}
    owners = {path.casefold(): path for path in real.values()}
    owners[str(result.folder / SHEET).casefold()] = "the contact sheet"
    targets: dict[Path, Path] = {}
    for photo in sorted(plain, key=lambda photo: photo.suffix != photo.suffix.lower()):  # a.jpg before a.JPG
        target, number = plain[photo], 1
        while owners.setdefault(str(target).casefold(), real[photo]) != real[photo]:
            number += 1
            stem = plain[photo].stem.removesuffix("-colorized")
            target = target.with_name(f"{stem}-{number}-colorized{target.suffix}")
        targets[photo] = target
        if number > 1:
            result.note(photo, f"its result is {target.name}, as {plain[photo].name} is another photo's")
    first = {target: photo for photo, target in reversed(targets.items())}  # a photo that is given twice is one
    return {photo: targets[photo] for photo in plain if first[targets[photo]] == photo}


def _is_result(path: Path) -> bool:
    """Whether a file is a result of an earlier call: it says so itself, or has the name of one and cannot say it."""
    if not path.stem.endswith("-colorized"):
        return False
    if path.suffix.lower() == ".bmp":  # holds pixels only
        return True
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(NOTE.encode()) >= 0
    except (OSError, ValueError):  # who colors it will say why
        return False
