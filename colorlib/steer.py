"""Two ways to steer the colours without training anew: hints at single points, and a reference photo.

Both work on the small L and ab of the network. Nothing here takes part in training or scoring.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse import linalg
from scipy.spatial import KDTree
from torch import Tensor

from colorlib.color import encode_lab, rgb_to_lab

REACH = 0.25  # how far a hint's colour spreads where no edge stops it, share of the longer side
SPREAD = 0.375  # what eight equal neighbours' mean adds to a pixel, per unit of the Laplacian
LEAST_VARIANCE = 1e-3  # of L around a pixel, so that noise in a flat part is no edge
LEAST_WEIGHT = 1e-6  # of a neighbour, so that no pixel is cut off from all others
ALIKE = 8  # pixels of the reference whose colours are averaged
GUESS_WEIGHT = 4.0  # what a difference in the network's guess counts, relative to L


class Hint(NamedTuple):
    """A colour that a photo shall have at a point.

    x, y: shares of the photo's width and height, from its top left corner, in [0, 1]. color: "#rrggbb", or red, green
    and blue in 0…255; only its a* and b* count, the lightness stays the photo's.
    """

    x: float
    y: float
    color: str | Sequence[float]


def hint_ab(hint: Hint) -> Tensor:
    """The scaled ab (2,) of a hint's colour, float32. Raises `ValueError` for a point or a colour that is none."""
    x, y, color = hint
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"a hint's x and y are shares of width and height, 0 to 1; got {x}, {y}")
    if isinstance(color, str):
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
            raise ValueError(f"a hint's colour is written #rrggbb, such as #3060c0; got {color!r}")
        color = bytes.fromhex(color[1:])
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise ValueError(f"a hint's colour has red, green and blue in 0 to 255; got {tuple(color)}")
    rgb = torch.tensor([float(value) for value in color]).view(3, 1, 1) / 255
    return encode_lab(rgb_to_lab(rgb))[1].flatten()


def spread_hints(L: Tensor, ab: Tensor, hints: Sequence[Hint]) -> Tensor:
    """Change colours so that they are the hints' at their points, and nearly so around them, up to the edges of L.

    L: (1, 1, h, w) in [−1, 1]. ab: the network's colours, scaled (1, 2, h, w). Of two hints in one pixel the later
    counts. Returns the changed ab. What is spread is the change, that is hint − ab. It minimises the functional of
    Levin, Lischinski and Weiss 2004 (doi 10.1145/1015706.1015780), in which each pixel's change wants to be the mean of
    its eight neighbours' changes, those of similar L counting most, and a term that pulls it to 0 far from all hints.
    Raises like `hint_ab`. Checked by tests/test_steer.py.
    """
    height, width = L.shape[2:]
    wanted = {}
    for hint in hints:
        color = hint_ab(hint).double().numpy()
        row, column = min(int(hint[1] * height), height - 1), min(int(hint[0] * width), width - 1)
        wanted[row * width + column] = color
    if not wanted:
        return ab
    before = ab[0].double().cpu().flatten(1).T.numpy()  # (h·w, 2)
    fixed = np.array(sorted(wanted))
    free = np.setdiff1d(np.arange(height * width), fixed)
    change = np.zeros_like(before)
    change[fixed] = np.stack([wanted[pixel] for pixel in fixed]) - before[fixed]
    if len(free):
        unlike = sparse.identity(height * width, format="csr") - _neighbours(L[0, 0].double().cpu().numpy())
        pull = (SPREAD / (REACH * max(height, width)) ** 2) ** 2
        system = (unlike.T @ unlike + pull * sparse.identity(height * width)).tocsr()
        rows = system[free]
        change[free] = linalg.splu(rows[:, free].tocsc()).solve(-(rows[:, fixed] @ change[fixed]))
    return torch.from_numpy(before + change).T.reshape(ab.shape).clamp(-1, 1).to(ab)


def take_colors(L: Tensor, guess: Tensor, example_L: Tensor, example_guess: Tensor, example_ab: Tensor) -> Tensor:
    """Give a photo the colours of another one: each pixel those of the other's pixels that are most like it.

    L, guess: the photo's, scaled, (1, 1, h, w) and the network's (1, 2, h, w). example_L, example_guess, example_ab:
    the same of the reference, and its true colours. Returns scaled ab (1, 2, h, w). Pixels are alike in lightness, in
    texture (the standard deviation of L around them), after Welsh, Ashikhmin and Mueller 2002 (doi
    10.1145/566570.566576), and in the network's guess, which knows a sky from a wall. As there, the reference's L is
    first shifted and scaled to the photo's mean and deviation. Checked by tests/test_steer.py.
    """
    scale = L.std() / example_L.std().clamp(min=1e-3)
    matched = (example_L - example_L.mean()) * scale.clamp(0.5, 2) + L.mean()
    tree = KDTree(_likeness(matched, example_guess))
    _, nearest = tree.query(_likeness(L, guess), k=min(ALIKE, matched.numel()))
    colors = example_ab[0].flatten(1).T.numpy()[nearest.reshape(L.numel(), -1)].mean(axis=1)
    return torch.from_numpy(colors).T.reshape(guess.shape).to(guess)


def _neighbours(L: np.ndarray) -> sparse.csr_matrix:
    """The weights of each pixel's eight neighbours: e^(−ΔL² / 0.6σ²), σ² the variance of L in its 3×3; rows sum to 1.

    0.6 instead of the paper's 2: edges hold better.
    """
    height, width = L.shape
    index = np.arange(L.size).reshape(height, width)
    padded = np.pad(L, 1, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    variance = np.maximum(windows.var(axis=(2, 3)), LEAST_VARIANCE)
    rows, columns, weights = [], [], []
    for down, right in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
        here = (slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right)))
        there = (slice(max(0, down), height - max(0, -down)), slice(max(0, right), width - max(0, -right)))
        rows.append(index[here].ravel())
        columns.append(index[there].ravel())
        weights.append(np.exp(-((L[here] - L[there]) ** 2) / (0.6 * variance[here])).ravel() + LEAST_WEIGHT)
    size = (L.size, L.size)
    matrix = sparse.csr_matrix((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=size)
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.diags(1 / np.where(sums > 0, sums, 1)) @ matrix


def _likeness(L: Tensor, guess: Tensor) -> np.ndarray:
    """What makes pixels alike, (h·w, 4): L, its local deviation, and the guess, in comparable units."""
    mean = F.avg_pool2d(L, 5, stride=1, padding=2, count_include_pad=False)
    square = F.avg_pool2d(L * L, 5, stride=1, padding=2, count_include_pad=False)
    deviation = (square - mean * mean).clamp(min=0).sqrt()
    return torch.cat([L, deviation, GUESS_WEIGHT * guess], dim=1)[0].flatten(1).T.double().numpy()
