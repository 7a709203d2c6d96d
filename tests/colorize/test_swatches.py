"""A palette seen and changed."""

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb

from colorlib.colorize import color_ab, palette_strip, recolor_palette
from colorlib.palette import Palette

FOUR = torch.tensor([[0.0, 0.0], [0.25, 0.1], [-0.2, 0.2], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("shares", "widths"),
    [([0.5, 0.25, 0.125, 0.125], [8, 4, 2, 2]), ([0.125, 0.125, 0.25, 0.5], [2, 2, 4, 8]),
     ([1 / 3, 1 / 3, 1 / 3, 0.0], [5, 6, 5, 0]), ([0.99, 0.004, 0.003, 0.003], [16, 0, 0, 0])],
)  # fmt: skip
def test_swatches_have_their_colors_and_are_as_wide_as_their_shares(shares, widths):
    """Of L* 65, by scikit-image; in the order in which they come; clamped where sRGB lacks them."""
    strip = palette_strip(FOUR, torch.tensor(shares), 16, height=3)
    colors = 255 * lab2rgb(np.concatenate([np.full((4, 1), 65.0), 128 * FOUR.numpy()], axis=1))
    assert strip.shape == (3, 16, 3) and strip.dtype == np.uint8
    assert np.abs(strip - colors.repeat(widths, axis=0)).max() <= 1


def test_a_recolored_palette_changes_what_wears_the_color_and_leaves_the_rest():
    brown, teal, navy = map(color_ab, ("saddlebrown", "teal", "navy"))
    shade = brown + torch.tensor([0.01, 0])  # another brown moves along
    palette = Palette(torch.stack([brown, shade, navy])[None], torch.zeros(1, 3, 2, 2), torch.ones(1, 3))
    colors = recolor_palette(palette, [("saddlebrown", "#008080")]).colors[0]
    assert torch.allclose(colors[0], teal, atol=1e-3) and torch.equal(colors[2], navy)
    assert (colors[1] - shade - (teal - brown)).norm() < 0.1 * (teal - brown).norm()
