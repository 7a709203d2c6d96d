"""Whole folders of photos: each colored into a file of its own, bad ones listed at the end, interrupts picked up."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from colorlib.colorize.colorizer import Colorizer
from colorlib.colorize.export import colorized_name, save_picture
from colorlib.data import find_images
from colorlib.photo import read_photo

SHEET = "contact-sheet-colorized.jpg"  # by its name, no later call takes it for a photo
SHEET_PHOTOS, COLUMNS, CELL = 60, 3, 192  # photos on it, at most; pairs in a row; side of a picture, px


@dataclass
class FolderResult:
    """What became of the photos: of each its result, or why it failed."""

    done: dict[Path, Path] = field(default_factory=dict)
    skipped: dict[Path, Path] = field(default_factory=dict)  # results that were there before
    failed: dict[Path, str] = field(default_factory=dict)
    sheet: Path | None = None  # the contact sheet, if there is anything to show


def colorize_folder(
    src: str | os.PathLike | Sequence[str | os.PathLike], dst: str | os.PathLike, colorizer: Colorizer | None = None, *,
    overwrite: bool = False, progress: bool = True, **options: Any,
) -> FolderResult:  # fmt: skip
    """Color all photos of a folder, and of the folders below it, into another one; bad ones stop nothing.

    `src` may also be a photo, or several photos and folders. `dst` gets name-colorized.jpg for each name.jpg, in the
    same subfolders, and a contact sheet. Without `overwrite`, what is there already is skipped, so that an interrupted
    call can be repeated. The colorizer is the release by default; the options are those of `Colorizer.colorize`.

    Raises:
        ValueError: If an option is out of its range, or a folder has no photo; `FileNotFoundError` if there is none.
    """
    dst = Path(dst).expanduser()
    jobs = list(_jobs([src] if isinstance(src, str | os.PathLike) else src, dst))
    colorizer = colorizer or Colorizer.from_run()
    if options.get("reference") is not None:
        options["reference"] = read_photo(options["reference"])  # once
    colorizer.colorize(np.zeros((1, 1, 3), np.uint8), **options)  # wrong options end here, not once for each photo
    result, taken = FolderResult(), {}
    for photo, target in tqdm(jobs, desc="coloring", unit="photo", disable=not progress):
        if taken.setdefault(target, photo) != photo:
            result.failed[photo] = f"{target.name} is already the result of {taken[target]}: color one elsewhere"
        elif target.exists() and not overwrite:
            result.skipped[photo] = target
        else:
            try:
                result.done[photo] = save_picture(target, colorizer.colorize(photo, **options), photo)
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                result.failed[photo] = str(error) or type(error).__name__
    if pairs := [*result.done.items(), *result.skipped.items()]:
        try:
            result.sheet = save_picture(dst / SHEET, contact_sheet(pairs[:SHEET_PHOTOS]))
        except (ValueError, OSError) as error:
            result.failed[dst / SHEET] = str(error)
    return result


def contact_sheet(pairs: Sequence[tuple[Path, Path]]) -> np.ndarray:
    """Draw photos beside their colored versions, small, with their names: uint8 (H, W, 3)."""
    columns, width, height = min(COLUMNS, len(pairs)), 2 * CELL + 16, CELL + 24
    sheet = Image.new("RGB", (columns * width + 8, -(-len(pairs) // columns) * height + 8), "white")
    for number, pair in enumerate(pairs):
        left, top = 8 + number % columns * width, 8 + number // columns * height
        for side, path in enumerate(pair):
            small = read_photo(path)
            small.thumbnail((CELL, CELL))
            sheet.paste(small, (left + side * (CELL + 4), top))
        ImageDraw.Draw(sheet).text((left, top + CELL + 2), pair[0].name[:60], fill="black")
    return np.asarray(sheet)


def _jobs(sources: Sequence[str | os.PathLike], dst: Path) -> Iterator[tuple[Path, Path]]:
    """Each photo with the path of its result; results of earlier calls, known by their names, are no photos."""
    for source in (Path(source).expanduser() for source in sources):
        if not source.exists():
            raise FileNotFoundError(f"there is no photo or folder {str(source)!r}: check the path")
        root = source if source.is_dir() else source.parent
        for photo in find_images(source) if source.is_dir() else [source]:
            if photo == source or not photo.stem.endswith("-colorized"):
                yield photo, dst / photo.relative_to(root).parent / colorized_name(photo.name)
