"""What the demo in a notebook and the web page share: one photo at work, and what is drawn of it."""

import html
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from colorlib.checkpoint import BEST, RELEASE_RUN
from colorlib.colorize import Colorizer, Photo, add_color, open_photo, palette_strip
from colorlib.environment import kaggle_input, outputs_dir, repository_dir
from colorlib.export import colorized_name, save_picture
from colorlib.palette import Palette
from colorlib.photo import PhotoError
from colorlib.steer import Hint

PREVIEW = 640  # longest side of a picture that goes to the browser, px


class Work:
    """A photo while someone tries colours on it: read once, guessed on demand, joined at any saturation and size.

    photo: see `colorize.open_photo`. name: of its file, for messages and for what is saved; needed where the photo is
    not a path. Raises like `open_photo`, with the name in the message. Checked by tests/test_studio.py.

    image: the upright photo, Pillow "RGB". small: the same at PREVIEW px at most. colorful: whether it has colours
    itself. ab: the guess, scaled (1, 2, h, w), once there is one. seconds: how long it took. wish: room for a face to
    note what it was made for.
    """

    def __init__(self, photo: Photo, name: str = ""):
        is_path = isinstance(photo, str | os.PathLike)
        self.name = name or (Path(photo).name if is_path else "photo")
        self.source = photo if is_path or isinstance(photo, bytes) else None  # holds what a saved file takes over
        try:
            self.image = open_photo(photo)
        except PhotoError as error:
            raise PhotoError(str(error).replace("the image", self.name, 1)) from error
        self.small = shrink(self.image, PREVIEW)
        self.colorful = bool(np.ptp(np.asarray(self.small), axis=2).mean() >= 4)  # mean range of channels, in levels
        self.ab: Tensor | None = None
        self.seconds = 0.0
        self.wish: Any = None

    def guess(self, colorizer: Colorizer, **wishes: Any) -> None:
        """Let a network guess the colours. wishes: render_size, hints, reference, see `Colorizer.predict`."""
        start = time.perf_counter()
        self.ab = colorizer.predict(self.image, **wishes)
        self.seconds = time.perf_counter() - start

    def preview(self, saturation: float = 1.0) -> np.ndarray:
        """The coloured photo at most PREVIEW px wide and high, uint8 (h, w, 3)."""
        return add_color(self.small, self.ab, saturation)

    def save(self, folder: str | os.PathLike, saturation: float = 1.0) -> Path:
        """Write the coloured photo at its own size, in its own format; return the path of the file."""
        path = Path(folder) / colorized_name(self.name)
        return save_picture(path, add_color(self.image, self.ab, saturation), source=self.source)

    def __str__(self) -> str:
        kind = "in colour, of which the network sees only the lightness" if self.colorful else "black-and-white"
        return f"{self.name}, {self.image.width}×{self.image.height} px, {kind}"


def find_runs() -> dict[str, Path]:
    """The trained runs that can be chosen, by name: the release first, then the newest one.

    Looks where `checkpoint.find_run` looks; of two runs of the same name, the one in the outputs folder counts.
    """
    weights = list(outputs_dir().glob(f"*/{BEST}"))
    for depth in range(1, 6):  # a data set made of a notebook's output may hold runs a few levels deep
        weights += kaggle_input().glob("*/" * depth + BEST)
    if repository := repository_dir():
        weights += (repository / "outputs").glob(f"*/{BEST}")
    runs: dict[str, Path] = {}
    for path in weights:
        runs.setdefault(path.parent.name, path.parent)
    newest = sorted(runs, key=lambda name: (name != RELEASE_RUN, -(runs[name] / BEST).stat().st_mtime))
    return {name: runs[name] for name in newest}


def shrink(image: Image.Image, side: int) -> Image.Image:
    """A copy of at most side × side px, its aspect kept."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    return small


def wipe(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Two pictures in one, with a white line between: `after` on the left `share` of the width, `before` on the right.

    before, after: uint8 (H, W, 3) of the same size. share: in [0, 1]; at the ends there is no line.
    """
    width = before.shape[1]
    line = round(share * width)
    picture = before.copy()
    picture[:, :line] = after[:, :line]
    if 0 < line < width:
        picture[:, max(0, line - 1) : line + 1] = 255
    return picture


def blend(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Two pictures laid over each other: 0 shows `before`, 1 shows `after`. uint8 (H, W, 3) of the same size."""
    return (before + (after - before.astype(float)) * share).round().astype(np.uint8)


def draw_hints(picture: np.ndarray, hints: Sequence[Hint], aim: Hint | None = None) -> np.ndarray:
    """Mark where hints are, each by a ring filled with its colour; aim: one more, with a cross through the picture.

    picture: uint8 (H, W, 3), which stays as it is. Returns uint8 (H, W, 3).
    """
    drawn = Image.fromarray(picture)
    draw = ImageDraw.Draw(drawn)
    radius = max(6, round(max(drawn.size) / 64))
    for hint in [*hints, *([aim] if aim else [])]:
        x, y = hint.x * (drawn.width - 1), hint.y * (drawn.height - 1)
        if hint is aim:
            for ends in ([(x, 0), (x, drawn.height)], [(0, y), (drawn.width, y)]):
                draw.line(ends, fill="black", width=3)
                draw.line(ends, fill="white", width=1)
        color = hint.color if isinstance(hint.color, str) else tuple(round(value) for value in hint.color)
        for size, fill in ((radius + 2, "black"), (radius + 1, "white"), (radius - 1, color)):
            draw.ellipse((x - size, y - size, x + size, y + size), fill=fill)
    return np.asarray(drawn)


def swatches(palette: Palette | None, most: int = 12) -> str:
    """HTML of a palette's most used colours: squares with the share of the picture below; "" if there is none.

    palette: of one photo, see `Colorizer.palette`. Drawn at an L* of 65, as `palette_strip` does.
    """
    if palette is None:
        return ""
    colors, shares = palette.colors[0], palette.shares[0]
    row = palette_strip(colors, torch.ones(len(colors)), width=len(colors), height=1)[0].tolist()
    squares = [
        f'<div title="{code}, {share:.1%} of the picture" style="width:44px;text-align:center;font-size:11px">'
        f'<div style="height:28px;border-radius:4px;background:{code}"></div>{share:.0%}</div>'
        for code, share in zip(("#{:02x}{:02x}{:02x}".format(*rgb) for rgb in row), shares.tolist(), strict=True)
    ]
    return f'<div style="display:flex;flex-wrap:wrap;gap:6px">{"".join(squares[:most])}</div>'


def describe_hints(hints: Sequence[Hint]) -> str:
    """HTML of a list of hints: a dot of each colour, and where it is."""
    dots = [
        f'<span style="display:inline-block;width:11px;height:11px;border-radius:50%;margin-right:4px;'
        f'border:1px solid gray;background:{html.escape(str(hint.color))}"></span>{hint.x:.0%}, {hint.y:.0%}'
        for hint in hints
    ]
    return f'<div style="line-height:1.6">{" &nbsp; ".join(dots) or "none yet"}</div>'
