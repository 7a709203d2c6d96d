"""What the notebook's demo and the web page share: one photo at work, the networks, and what is drawn."""

import functools
import hashlib
import os
import time
from collections.abc import Hashable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from colorlib.checkpoint import find_runs
from colorlib.colorize import Colorizer, Hint, add_color, colorized_name, restore_tone, save_picture
from colorlib.colorize.hints import color_ab, color_rgb, swatch_colors
from colorlib.colorize.video import VIDEO_SUFFIXES
from colorlib.metrics import is_in_color, is_toned
from colorlib.palette import Palette
from colorlib.photo import PHOTO_SUFFIXES, Photo, PhotoError, read_deep_photo, read_photo

SUFFIXES = (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES)  # of files that can be uploaded
PREVIEW = 640  # longest side of a picture that goes to the browser, px
SWATCHES = 8  # of a palette, that can be changed
WHOLE_PHOTOS = 2  # that stay in memory at their own size, of all sessions; 12 megapixels are 48 MB
STRIDE = 32  # a palette's network halves its picture up to five times: other sizes would be padded
NAMES = {  # what a person calls a color, by an example of CSS
    "gray": "gray", "tan": "beige", "peru": "brown", "darkorange": "orange", "indianred": "red",
    "palevioletred": "pink", "gold": "yellow", "darkkhaki": "olive", "olivedrab": "green", "mediumseagreen": "green",
    "cadetblue": "teal", "steelblue": "blue", "royalblue": "blue", "mediumpurple": "violet",
}  # fmt: skip


class Session:
    """One photo at work: colored on demand, shown small at any saturation, saved at its own size.

    It keeps a small picture alone: the photo is read again, by `whole`, when all of it is needed.
    Its name, for messages and for what is saved, is the file's, unless one is given; a `PhotoError`
    starts with it.
    """

    def __init__(self, photo: Photo, name: str | None = None):
        is_path = isinstance(photo, str | os.PathLike)
        self.source, self.name = photo, name or (Path(photo).name if is_path else "photo")
        self.size: tuple[int, int] | None = None
        seen = read_photo(self.whole(False))
        self.size, self.small = seen.size, shrink(seen, PREVIEW)
        colorful = is_in_color(np.asarray(self.small))
        self.toned = colorful and is_toned(np.asarray(shrink(seen, 160)))
        self.in_color = colorful and not self.toned
        self.ab: Tensor | None = None
        self.swatches: list[tuple[str, float]] = []  # of the network's palette, see `swatch_codes`
        self.seconds, self._restored, self._look, self._asked = 0.0, False, None, None

    @functools.lru_cache(maxsize=WHOLE_PHOTOS)  # noqa: B019 (of all sessions together, so it is bounded)
    def whole(self, restore: bool) -> Image.Image | np.ndarray:
        """Read the photo at its own size, as `read_deep_photo` does; with `restore`, also its tones.

        The last ones stay in memory, so that only who comes back to a photo waits for its file.
        """
        try:
            photo = read_deep_photo(self.source)
        except PhotoError as error:
            raise PhotoError(str(error).replace("the image", self.name, 1)) from error
        if self.size not in (None, read_photo(photo).size):
            words = "has another size than when it was opened: open it again"
            raise PhotoError(f"{self.name}: this file {words}")
        return restore_tone(photo) if restore else photo

    def predict(
        self, colorizer: Colorizer, scale: int = 1, restore: bool = False, recolor: Sequence[tuple[str, str]] = (),
        **options: Any,
    ) -> None:  # fmt: skip
        """Let a network choose the colors, if anything is new, at `scale` times its own render size.

        With `restore`, the photo's tones are restored first, for a faded or tinted print. `recolor` has a pair for each
        swatch, what it is and what it shall be; pairs of another palette, such as the last network's, do not count.
        """
        if (colorizer, restore) != self._look:
            image = self.whole(restore)
            self.small = shrink(read_photo(image), PREVIEW)
            self.gray = add_color(self.small, torch.zeros(1, 2, 1, 1))
            self.swatches = swatch_codes(colorizer.palette(image))
            self._restored, self._look, self._asked = restore, (colorizer, restore), None
        is_mine = [code for code, _ in recolor] == [code for code, _ in self.swatches]
        options["recolor"] = [change for change in recolor if is_mine and change[0] != change[1]]
        asked = scale, options
        if asked != self._asked:
            image, start = self.whole(restore), time.perf_counter()
            size = render_size(colorizer, scale)
            self.ab = colorizer.predict(image, render_size=size, **options)
            self.seconds, self._asked = time.perf_counter() - start, asked

    def preview(self, saturation: float = 1.0) -> np.ndarray:
        """The colored photo, uint8 (h, w, 3), its longer side at most PREVIEW px; saturation 0 is gray."""
        return add_color(self.small, self.ab, saturation)

    def save(self, folder: str | os.PathLike, saturation: float = 1.0) -> Path:
        """Write the colored photo at its own size, in its own format; return the path of the file."""
        picture = add_color(self.whole(self._restored), self.ab, saturation)
        return save_picture(Path(folder) / colorized_name(self.name), picture, self.source)

    def __str__(self) -> str:
        kind = "in color" if self.in_color else "toned in one color" if self.toned else "black-and-white"
        seen = ", of which the network sees only the lightness" if self.in_color or self.toned else ""
        return f"{self.name}, {self.size[0]}×{self.size[1]} px, {kind}{seen}: colored in {self.seconds:.2f} s."


class Networks(dict[str, Colorizer]):
    """The networks to choose from: a loaded one and its name, and all trained runs, loaded when first asked for."""

    def __init__(self, name: str, colorizer: Colorizer):
        super().__init__({name: colorizer})
        self.device, self.runs = colorizer.device, find_runs()
        self.names = list(dict.fromkeys([name, *self.runs]))

    def __missing__(self, name: str) -> Colorizer:
        self[name] = Colorizer.from_run(self.runs[name], self.device)
        return self[name]


def render_size(colorizer: Colorizer, scale: int) -> int:
    """Tell how large a network's input is at `scale` times its own size, px: a multiple of STRIDE.

    Its own size, at scale 1, stays what it was in training.
    """
    scale, own = int(scale), colorizer.config.side_in_use
    return own if scale == 1 else round(scale * own / STRIDE) * STRIDE


def own_name(name: str, photo: Photo, taken: dict[str, Hashable], clip: bool = False) -> str:
    """Find a name for a photo or clip whose result is no other one's: of two "a.jpg", one is "a (2).jpg".

    Whether capital or small letters does not count: not every file system tells them apart.

    Args:
        name: The name that it shall have, if that is free.
        photo: What it is; one with the same content gets the same name again.
        taken: What each result's name belongs to; the new one is added.
        clip: Whether it is a clip.
    """
    if isinstance(photo, bytes):
        identity = hashlib.sha256(photo).digest()
    elif isinstance(photo, Image.Image | np.ndarray):
        identity = id(photo)
    elif Path(photo).is_file():
        with open(photo, "rb") as file:
            identity = hashlib.file_digest(file, "sha256").digest()
    else:
        identity = os.path.abspath(photo)  # whoever reads it will say what is wrong
    stem, suffix = Path(name).stem, Path(name).suffix
    for free in chain([name], (f"{stem} ({number}){suffix}" for number in count(2))):
        result = colorized_name(free, clip).casefold()
        if taken.setdefault(result, identity) == identity:
            return free


def shrink(image: Image.Image, side: int) -> Image.Image:
    """A copy of at most side × side px, its aspect kept."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.BICUBIC)
    return small


def wipe(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """Two uint8 pictures of one size in one: `after` on the left share of the width, a white line, then `before`."""
    line = round(share * before.shape[1])
    picture = np.hstack([after[:, :line], before[:, line:]])
    if 0 < line < before.shape[1]:
        picture[:, line - 1 : line + 1] = 255
    return picture


def draw_hints(picture: np.ndarray, hints: Sequence[Hint], aim: Hint | None = None) -> np.ndarray:
    """Mark hints by rings filled with their colors, `aim` also by a cross, on a copy of a uint8 (H, W, 3) picture."""
    drawn = Image.fromarray(picture)
    draw, (width, height) = ImageDraw.Draw(drawn), drawn.size
    radius = max(6, round(max(drawn.size) / 64))
    for hint in [*hints, aim] if aim else hints:
        x, y = hint.x * (width - 1), hint.y * (height - 1)
        for thickness, fill in ((3, "black"), (1, "white")) if hint is aim else ():
            draw.line([(x, 0), (x, height)], fill, thickness)
            draw.line([(0, y), (width, y)], fill, thickness)
        color = tuple(map(round, color_rgb(hint.color)))
        for size, fill in ((radius + 2, "black"), (radius + 1, "white"), (radius - 1, color)):
            draw.ellipse((x - size, y - size, x + size, y + size), fill)
    return np.asarray(drawn)


def color_name(color: str) -> str:
    """The word for a color whose a* and b* alone are known, such as a palette's: "brown"."""
    return NAMES[min(NAMES, key=lambda name: (color_ab(name) - color_ab(color)).norm().item())]


def swatch_codes(palette: Palette | None) -> list[tuple[str, float]]:
    """The SWATCHES most used colors of a palette, #rrggbb at L* 65, and the share of the picture that each paints."""
    if palette is None:
        return []
    codes = [f"#{rgb.tobytes().hex()}" for rgb in swatch_colors(palette.colors[0])]
    return list(zip(codes, palette.shares[0].tolist(), strict=True))[:SWATCHES]
