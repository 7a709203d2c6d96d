"""Hints hold at their points, and stop at edges; a palette is seen and changed."""

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb

from colorlib.color import encode_lab, rgb_to_lab
from colorlib.colorize import Hint, color_ab, palette_strip, recolor_palette, spread_hints
from colorlib.data import sample_photos
from colorlib.palette import Palette
from colorlib.photo import read_photo, resize_photo, to_tensor

RED, BLUE = "#b03030", "#3040b0"
FOUR = torch.tensor([[0.0, 0.0], [0.25, 0.1], [-0.2, 0.2], [1.0, 1.0]])


def test_a_hint_holds_at_its_point_and_nearby_but_not_beyond_an_edge():
    before = torch.full((1, 2, 40, 48), 0.05)
    dark_then_light = ((torch.arange(48) >= 24).float() - 0.5).expand(1, 1, 40, 48)
    after = spread_hints(dark_then_light, before, [Hint(0.25, 0.5, RED)])
    wanted = encode_lab(rgb_to_lab(torch.tensor([0xB0, 0x30, 0x30]).view(3, 1, 1) / 255))[1].flatten()  # RED
    assert torch.allclose(after[0, :, 20, 12], wanted, atol=1e-5)
    assert all(torch.allclose(color_ab(same), wanted) for same in ((0xB0, 0x30, 0x30), "b03030", "rgb(176, 48, 48)"))
    assert torch.equal(color_ab("red"), color_ab("#f00"))
    change = (after - before).norm(dim=1)[0] / (wanted - 0.05).norm()
    assert change[20, 9:15].min() > 0.8, "nearby"
    assert change[20, 23] > 2 * change[20, 25] and change[:, 26:].max() < 0.1, "the edge stops it"
    far = spread_hints(torch.zeros(1, 1, 40, 120), torch.zeros(1, 2, 40, 120), [Hint(0.05, 0.5, RED)])
    assert far[..., 110:].abs().max() < 0.15 * wanted.norm(), "far away, the network's"


def test_no_hint_no_change_and_the_later_of_two_counts():
    before = torch.rand(1, 2, 12, 12)
    assert torch.equal(spread_hints(torch.zeros(1, 1, 12, 12), before, []), before)
    after = spread_hints(torch.zeros(1, 1, 12, 12), before, [Hint(0.5, 0.5, RED), Hint(0.51, 0.5, BLUE)])
    assert torch.allclose(after[0, :, 6, 6], color_ab(BLUE), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (9, 9)])
def test_corners_and_a_single_pixel(size):
    after = spread_hints(torch.rand(1, 1, *size), torch.zeros(1, 2, *size), [Hint(0, 0, RED), Hint(1, 1, BLUE)])
    assert torch.isfinite(after).all()
    assert torch.allclose(after[0, :, -1, -1], color_ab(BLUE), atol=1e-5)
    assert size == (1, 1) or torch.allclose(after[0, :, 0, 0], color_ab(RED), atol=1e-5)


def test_hints_bring_photos_closer_to_the_truth():
    """Twelve true colors, on no color at all, as Zhang et al. 2017 judge hints."""
    for path in sample_photos("color")[:3]:
        rgb = to_tensor(resize_photo(read_photo(path), 64))
        L, ab = (x[None] for x in encode_lab(rgb_to_lab(rgb)))
        points = [((i + 0.5) / 4, (j + 0.5) / 3) for i in range(4) for j in range(3)]
        hints = [Hint(x, y, tuple((255 * rgb[:, int(y * 64), int(x * 64)]).tolist())) for x, y in points]
        after = spread_hints(L, torch.zeros_like(ab), hints)
        assert (after - ab).norm(dim=1).mean() < 0.8 * ab.norm(dim=1).mean(), path.name


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
