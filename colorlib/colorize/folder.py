"""Whole folders: each photo and clip colored into a file of its own, bad ones listed last, interrupts picked up."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageOps
from tqdm import tqdm

from colorlib.colorize.colorizer import Colorizer
from colorlib.colorize.export import colorized_name, save_picture
from colorlib.colorize.video import VIDEO_SUFFIXES, SteadyColors, colorize_video, is_video
from colorlib.data import find_images
from colorlib.photo import PHOTO_SUFFIXES, photo_notes, read_deep_photo, read_photo
from colorlib.plots import sample_grid

SHEET = "contact-sheet-colorized.jpg"  # by its name, no later call takes it for a photo
SHEET_PHOTOS, COLUMNS, CELL = 60, 3, 192  # photos on it, at most; pairs in a row; side of a picture, px


@dataclass
class FolderResult:
    """What became of the photos: of each its result, or why it failed."""

    done: dict[Path, Path] = field(default_factory=dict)
    skipped: dict[Path, Path] = field(default_factory=dict)  # results that were there before
    failed: dict[Path, str] = field(default_factory=dict)
    notes: dict[Path, str] = field(default_factory=dict)  # what else is to say of some
    left_out: Counter[str] = field(default_factory=Counter)  # suffixes of files that are no photos; how many there are
    sheet: Path | None = None  # the contact sheet, if there is anything to show


def colorize_folder(
    src: str | os.PathLike | Sequence[str | os.PathLike], dst: str | os.PathLike, colorizer: Colorizer | None = None, *,
    overwrite: bool = False, progress: bool = True, steadiness: float = 0.85, **options: Any,
) -> FolderResult:  # fmt: skip
    """Color all photos and clips of a folder, and of the folders below it, into another one; bad ones stop nothing.

    `src` may also be a file, or several files and folders. `dst` gets a file for each, see `colorized_name`, in the
    same subfolders, and a contact sheet of the photos. Without `overwrite`,
    what is there already is skipped, so that an interrupted call can be repeated. The colorizer is the release by
    default; the options are those of `Colorizer.colorize`. `steadiness` is for clips, see `colorize_video`.

    Raises:
        ValueError: If an option is out of its range, or a folder has no photo; `FileNotFoundError` if there is none;
            `NotADirectoryError` if `dst` is a file.
    """
    dst, result = Path(dst).expanduser().resolve(), FolderResult()
    taken = {dst / SHEET: "the contact sheet"}
    if dst.exists() and not dst.is_dir():
        raise NotADirectoryError(f"{dst} is a file: give a folder for the results")
    jobs = list(_jobs([src] if isinstance(src, str | os.PathLike) else src, dst, result.left_out))
    colorizer = colorizer or Colorizer.from_run()
    if options.get("reference") is not None:
        options["reference"] = read_photo(options["reference"])  # once
    SteadyColors(steadiness)  # wrong options end here, not once for each photo
    colorizer.colorize(np.zeros((1, 1, 3), np.uint8), **options)
    for photo, target in tqdm(jobs, desc="coloring", unit="file", disable=not progress):
        if taken.setdefault(target, photo) != photo:
            result.failed[photo] = f"{target.name} is already the result of {taken[target]}: color one elsewhere"
        elif target.exists() and not overwrite:
            result.skipped[photo] = target
        else:
            try:
                if target.suffix == ".mp4":
                    colorize_video(photo, target, colorizer, progress=progress, steadiness=steadiness, **options)
                else:
                    save_picture(target, colorizer.colorize(read_deep_photo(photo), **options), photo)
                    if notes := photo_notes(photo):
                        result.notes[photo] = "; ".join(notes)
                result.done[photo] = target
            except (ValueError, OSError, RuntimeError, MemoryError, ModuleNotFoundError) as error:
                result.failed[photo] = str(error) or type(error).__name__
    if pairs := [pair for pair in (result.done | result.skipped).items() if pair[1].suffix != ".mp4"]:
        try:
            result.sheet = save_picture(dst / SHEET, contact_sheet(pairs[:SHEET_PHOTOS]))
        except (ValueError, OSError) as error:
            result.failed[dst / SHEET] = str(error)
    return result


def contact_sheet(pairs: Sequence[tuple[Path, Path]]) -> np.ndarray:
    """Draw photos beside their colored versions, small, in their order: uint8 (H, W, 3)."""

    def cell(path: Path) -> np.ndarray:
        (small := read_photo(path)).thumbnail((CELL, CELL))
        return np.asarray(ImageOps.pad(small, (CELL, CELL), color="white"))

    cells = [np.hstack([cell(path) for path in pair]) for pair in pairs]
    return sample_grid([cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)], gap=8)


def _jobs(sources: Sequence[str | os.PathLike], dst: Path, left_out: Counter[str]) -> Iterator[tuple[Path, Path]]:
    """Each photo and clip with the path of its result; results of earlier calls, known by their names, are neither."""
    for source in (Path(source).expanduser() for source in sources):
        if not source.exists():
            raise FileNotFoundError(f"there is no photo or folder {str(source)!r}: check the path")
        root, found = source.parent, [source]
        if source.is_dir():
            root, found = source, find_images(source, PHOTO_SUFFIXES + VIDEO_SUFFIXES)
            others = set(source.rglob("[!.]*")) - set(found)
            left_out.update(path.suffix.lower() or "no suffix" for path in others if path.is_file())
        for photo in found:
            if photo == source or not photo.stem.endswith("-colorized"):
                yield photo, dst / photo.relative_to(root).parent / colorized_name(photo, clip=is_video(photo))
