"""Automatic image colorization in PyTorch: `colorlib.load()` gives a ready colorizer."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from colorlib.colorize import Colorizer

__version__ = "0.2.0"


def load(run: str | os.PathLike | None = None, device: str | None = None) -> "Colorizer":
    """Load a trained network together with the settings that its pictures need.

    The run is a name or a folder (None: the release), the device "cuda", "cpu", … (None: the best there is).
    `FileNotFoundError` if there is no such run.

    Example:
        >>> picture = colorlib.load().colorize("mill.jpg")  # uint8 (H, W, 3)
    """
    from colorlib.colorize import Colorizer  # here, so that `import colorlib` costs nothing

    return Colorizer.from_run(run, device)
