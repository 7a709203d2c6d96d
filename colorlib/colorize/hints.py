"""The colors that a person gives: for points of a photo, spread up to the edges of its lightness; for a palette."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from PIL import ImageColor
from scipy import sparse
from scipy.sparse import linalg
from torch import Tensor

from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.palette import Palette

SOLVED = 112  # longest side at which hints are spread, px; larger pictures get the small one's change
HINT_REACH = 0.25  # how far a hint's color spreads where no edge stops it, share of the longer side
SPREAD = 0.375  # what eight equal neighbors' mean adds to a pixel, per unit of the Laplacian
LEAST_VARIANCE = 1e-3  # of L around a pixel, so that noise in a flat part is no edge
LEAST_WEIGHT = 1e-6  # of a neighbor, so that no pixel is cut off from all others
SWATCH_L = 0.3  # scaled: an L* of 65
SWATCH_REACH = 0.03  # scaled ab, 4 units: how far a palette color may lie from the one that is changed

Color = str | Sequence[float]  # "#3060c0", "3060c0" or a name such as "navy"; or red, green and blue in 0…255


class Hint(NamedTuple):
    """A color that a photo shall have at a point; only its a* and b* count, the lightness stays the photo's."""

    x: float  # share of the photo's width, from the left, in [0, 1]
    y: float  # share of its height, from the top, in [0, 1]
    color: Color


def color_rgb(color: Color) -> tuple[float, ...]:
    """Get the red, green and blue of a color, in 0…255; `ValueError` if it is none."""
    if isinstance(color, str):
        try:
            color = ImageColor.getrgb(f"#{color}" if re.fullmatch("[0-9a-fA-F]{6}", color) else color)
        except ValueError:
            raise ValueError(f"a color is a name such as navy, or #rrggbb such as #3060c0; got {color!r}") from None
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise ValueError(f"a color has red, green and blue in 0 to 255; got {tuple(color)}")
    return tuple(color)


def color_ab(color: Color) -> Tensor:
    """Get the scaled ab (2,) of a color, float32; `ValueError` if it is none."""
    color = color_rgb(color)
    return encode_lab(rgb_to_lab(torch.tensor(list(color), dtype=torch.float32).view(3, 1, 1) / 255))[1].flatten()


def spread_hints(L: Tensor, ab: Tensor, hints: Sequence[Hint]) -> Tensor:
    """Change scaled ab (1, 2, h, w) to the hints' at their points, and nearly so around them, up to edges of L.

    What is spread is the change, hint − ab. It minimizes the functional of Levin, Lischinski and Weiss 2004 (doi
    10.1145/1015706.1015780), in which each pixel's change wants to be the mean of its eight neighbors' changes, those
    of similar L counting most, and a term that pulls it to 0 far from all hints. Of two hints in one pixel the later
    counts.
    """
    if not hints:
        return ab
    if max(L.shape[2:]) > SOLVED:  # the effort grows faster than the number of pixels
        side = [max(1, round(length * SOLVED / max(L.shape[2:]))) for length in L.shape[2:]]
        small_L, small_ab = (F.interpolate(x.float(), side, mode="area") for x in (L, ab))
        change = spread_hints(small_L, small_ab, hints) - small_ab
        return (ab + F.interpolate(change, ab.shape[2:], mode="bilinear").to(ab)).clamp(-1, 1)
    height, width = L.shape[2:]
    wanted = {}
    for hint in hints:
        if not (0 <= hint.x <= 1 and 0 <= hint.y <= 1):
            raise ValueError(f"a hint's x and y are shares of width and height, 0 to 1; got {hint.x}, {hint.y}")
        row, column = min(int(hint.y * height), height - 1), min(int(hint.x * width), width - 1)
        wanted[row * width + column] = color_ab(hint.color).numpy()
    before = ab[0].flatten(1).T.cpu().double().numpy()  # (h·w, 2)
    fixed = np.array(list(wanted))
    free = np.setdiff1d(np.arange(height * width), fixed)
    change = np.zeros_like(before)
    change[fixed] = np.stack(list(wanted.values())) - before[fixed]
    if len(free):
        unlike = sparse.identity(height * width, format="csr") - _neighbor_weights(L[0, 0].cpu().double().numpy())
        pull = (SPREAD / (HINT_REACH * max(height, width)) ** 2) ** 2
        rows = (unlike.T @ unlike + pull * sparse.identity(height * width)).tocsr()[free]
        change[free] = linalg.splu(rows[:, free].tocsc()).solve(-(rows[:, fixed] @ change[fixed]))
    return torch.from_numpy(before + change).T.reshape(ab.shape).clamp(-1, 1).to(ab)


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
        alike = torch.exp(-(seen - old).square().sum(dim=1, keepdim=True) / (2 * SWATCH_REACH**2))
        colors = colors + (alike * (new - old)).to(colors)
    return palette._replace(colors=colors)


def _neighbor_weights(L: np.ndarray) -> sparse.csr_matrix:
    """Weigh each pixel's neighbors by e^(−ΔL² / 0.6σ²), σ² the variance of L in its 3×3 (paper: 2σ²); rows sum to 1."""
    pixel = np.arange(L.size).reshape(*L.shape, 1, 1)
    neighbor = sliding_window_view(np.pad(pixel[..., 0, 0], 1, constant_values=-1), (3, 3))  # (h, w, 3, 3)
    windows = sliding_window_view(np.pad(L, 1, mode="edge"), (3, 3))
    variance = np.maximum(windows.var(axis=(2, 3), keepdims=True), LEAST_VARIANCE)
    weights = np.exp(-((windows - L[..., None, None]) ** 2) / (0.6 * variance)) + LEAST_WEIGHT
    exists = (neighbor >= 0) & (neighbor != pixel)
    places = np.broadcast_to(pixel, neighbor.shape)[exists], neighbor[exists]
    matrix = sparse.csr_matrix((weights[exists], places), shape=(L.size, L.size))
    return sparse.diags(1 / np.asarray(matrix.sum(axis=1)).ravel()) @ matrix
