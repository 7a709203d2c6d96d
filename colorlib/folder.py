"""Whole folders of photos: each coloured into a file of its own, bad ones listed at the end, interrupts picked up."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from colorlib.colorize import Colorizer, open_photo
from colorlib.data import find_images
from colorlib.export import colorized_name, save_picture
from colorlib.photo import read_photo

SHEET = "contact-sheet-colorized.jpg"  # by its name, no later call takes it for a photo
SHEET_PHOTOS = 60  # on a contact sheet, at most
CELL, COLUMNS = 192, 3  # side of a picture on it, px; pairs in a row


@dataclass
class FolderResult:
    """What became of the photos: `done` and `skipped` (finished before) map photo to result, `failed` photo to reason.

    sheet: the contact sheet, None where there is nothing to show.
    """

    done: dict[Path, Path] = field(default_factory=dict)
    skipped: dict[Path, Path] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)
    sheet: Path | None = None


def colorize_folder(
    src: str | os.PathLike | Sequence[str | os.PathLike],
    dst: str | os.PathLike,
    colorizer: Colorizer | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
    **options: Any,
) -> FolderResult:
    """Colour all photos of a folder, and of the folders below it, into another one.

    src: a folder, a photo, or several of them. dst: gets `name-colorized.jpg` for each name.jpg, in the same
    subfolders, and a contact sheet. colorizer: None takes the release. overwrite: colour anew what is there already;
    else it is skipped, so that an interrupted call can be repeated. options: as for `Colorizer.colorize`.
    A photo that cannot be read or written is listed in the result, and the others go on. Raises `ValueError` for wrong
    options, `FileNotFoundError` for a missing src. Checked by tests/test_folder.py.
    """
    dst = Path(dst).expanduser()
    result, taken = FolderResult(), {}
    jobs = list(_jobs([src] if isinstance(src, str | os.PathLike) else src, dst))
    colorizer = colorizer or Colorizer.from_run()
    if options.get("reference") is not None:
        options["reference"] = open_photo(options["reference"])  # read once
    colorizer.colorize(np.zeros((1, 1, 3), np.uint8), **options)  # wrong options end here, not once for each photo
    for photo, target in tqdm(jobs, desc="colouring", unit="photo", disable=not progress):
        if taken.setdefault(target, photo) != photo:
            result.failed[photo] = (
                f"{target.name} is already the result of {taken[target]}: colour one of them elsewhere"
            )
        elif target.exists() and not overwrite:
            result.skipped[photo] = target
        else:
            try:
                result.done[photo] = save_picture(target, colorizer.colorize(photo, **options), photo)
            except (ValueError, OSError, RuntimeError, MemoryError) as error:
                result.failed[photo] = str(error) or type(error).__name__
    pairs = {photo: path for photo, path in {**result.done, **result.skipped}.items() if photo.exists()}
    if pairs:
        try:
            result.sheet = save_picture(dst / SHEET, contact_sheet(list(pairs.items())[:SHEET_PHOTOS]))
        except (ValueError, OSError) as error:
            result.failed[dst / SHEET] = str(error)
    return result


def contact_sheet(pairs: Sequence[tuple[Path, Path]]) -> np.ndarray:
    """Draw photos beside their coloured versions, small, with their names: uint8 (H, W, 3).

    pairs: paths of photo and coloured version, one or more.
    """
    gap, line = 8, 16
    columns = min(COLUMNS, len(pairs))
    width, height = 2 * CELL + 2 * gap, CELL + line + gap
    sheet = Image.new("RGB", (columns * width + gap, -(-len(pairs) // columns) * height + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for number, pair in enumerate(pairs):
        left, top = gap + number % columns * width, gap + number // columns * height
        for side, path in enumerate(pair):
            small = read_photo(path)
            small.thumbnail((CELL, CELL))
            sheet.paste(small, (left + side * (CELL + gap // 2), top))
        name = pair[0].name if len(pair[0].name) < 60 else pair[0].name[:57] + "…"
        pen.text((left, top + CELL + 2), name.encode("latin-1", "replace").decode("latin-1"), fill="black")
    return np.asarray(sheet)


def _jobs(sources: Sequence[str | os.PathLike], dst: Path) -> Iterator[tuple[Path, Path]]:
    """Each photo with the path of its result; results of earlier calls are no photos."""
    for source in (Path(source).expanduser() for source in sources):
        if not source.is_dir():
            if not source.exists():
                raise FileNotFoundError(f"there is no photo or folder {str(source)!r}: check the path")
            yield source, dst / colorized_name(source.name)
            continue
        below = source.resolve() in dst.resolve().parents
        for photo in find_images(source):
            if not photo.stem.endswith("-colorized") and not (below and dst.resolve() in photo.resolve().parents):
                yield photo, dst / photo.relative_to(source).parent / colorized_name(photo.name)
