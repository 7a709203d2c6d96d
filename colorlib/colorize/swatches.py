"""The colors of a palette as a person sees and changes them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from colorlib.color import lab_to_rgb_image
from colorlib.colorize.hints import Color, color_ab
from colorlib.palette import Palette

SWATCH_L = 0.3  # scaled: an L* of 65
REACH = 0.03  # scaled ab, 4 units: how far a palette color may lie from the one that is changed


def swatch_colors(colors: Tensor) -> np.ndarray:
    """The colors of scaled ab (K, 2) at L* 65, clamped to sRGB: uint8 (K, 3)."""
    return lab_to_rgb_image(torch.full((1, 1, len(colors)), SWATCH_L), colors.cpu().T[:, None])[0]


def palette_strip(colors: Tensor, shares: Tensor, width: int = 256, height: int = 24) -> np.ndarray:
    """Draw scaled ab (K, 2) as a strip of swatches, each as wide as its share (K,): uint8 (height, width, 3)."""
    if colors.ndim != 2 or colors.shape[1] != 2 or shares.shape != colors.shape[:1]:
        raise ValueError(f"expected colors (K, 2) and shares (K,), got {tuple(colors.shape)}, {tuple(shares.shape)}")
    ends = (shares.cpu().double().cumsum(dim=0) / shares.sum().item() * width).round().long()
    column = torch.searchsorted(ends, torch.arange(width), right=True).clamp(max=len(colors) - 1)
    return np.tile(swatch_colors(colors)[column], (height, 1, 1))


def recolor_palette(palette: Palette, changes: Sequence[tuple[Color, Color]]) -> Palette:
    """Change colors of one scene's palette: those whose swatches are like the first color of a pair get the second.

    Only a* and b* count. A palette may hold several shades of a color: they keep their distances, and the change fades
    with the distance from the first color.
    """
    seen = torch.stack([color_ab(swatch) for swatch in swatch_colors(palette.colors[0])])  # (K, 2)
    colors = palette.colors
    for change in changes:
        if len(change) != 2:
            raise ValueError(f"expected pairs of colors, what is and what shall be; got {change!r}")
        old, new = map(color_ab, change)
        alike = torch.exp(-(seen - old).square().sum(dim=1, keepdim=True) / (2 * REACH**2))
        colors = colors + alike * (new - old)
    return palette._replace(colors=colors)
