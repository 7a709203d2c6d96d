"""Small colours enlarged: bilinear where L is smooth, and ending with L where it has an edge."""

import pytest
import torch
import torch.nn.functional as F

from colorlib.color import encode_lab, rgb_to_lab
from colorlib.data import sample_photos
from colorlib.photo import read_photo, resize_photo, to_tensor
from colorlib.upsample import Enlarger, bilinear_rows


def enlarge(L: torch.Tensor, ab: torch.Tensor, full: torch.Tensor) -> torch.Tensor:
    """All rows at once: (2, H, W)."""
    return Enlarger(L, ab, *full.shape[1:]).strip(full, 0)


@pytest.mark.parametrize(("height", "width"), [(7, 9), (31, 20), (7, 100), (200, 9), (640, 480)])
def test_rows_are_those_of_the_whole(height, width):
    x = torch.rand(1, 3, 7, 9)
    whole = F.interpolate(x, (height, width), mode="bilinear")
    for top, count in ((0, 1), (0, height), (height // 3, height // 2), (height - 1, 1)):
        rows = bilinear_rows(x, height, width, top, count)
        assert (rows - whole[:, :, top : top + count]).abs().max() < 1e-5


def test_where_lightness_has_no_detail_it_is_bilinear():
    ab, flat = torch.rand(1, 2, 8, 8) - 0.5, torch.full((1, 1, 8, 8), 0.3)
    assert torch.allclose(
        enlarge(flat, ab, torch.full((1, 50, 70), 0.3)), F.interpolate(ab, (50, 70), mode="bilinear")[0], atol=1e-6
    )
    L = torch.rand(1, 1, 8, 8)  # its detail is what it is: enlarged bilinearly itself
    full = F.interpolate(L, (50, 70), mode="bilinear")[0]
    assert torch.allclose(enlarge(L, ab, full), F.interpolate(ab, (50, 70), mode="bilinear")[0], atol=1e-5)


def test_colour_ends_where_lightness_does():
    """A dark blue and a light orange half: at the edge, the small ab's blur is narrower than bilinear's."""
    step = (torch.arange(160) >= 83).float().expand(1, 1, 80, 160)  # not on the border of a small pixel
    L, ab = step - 0.5, torch.cat([step - 0.5, 0.5 - step], dim=1) * 0.6
    small_L, small_ab = (F.interpolate(x, (8, 16), mode="area") for x in (L, ab))
    guided, plain = enlarge(small_L, small_ab, L[0]), F.interpolate(small_ab, (80, 160), mode="bilinear")[0]
    guided_error, plain_error = ((x - ab[0]).abs().mean() for x in (guided, plain))
    assert guided_error < 0.7 * plain_error
    assert guided.abs().max() <= 1


def test_colours_that_do_not_go_with_lightness_stay_as_they_are():
    ab = torch.rand(1, 2, 8, 8) * 0.01 + 0.2
    full = torch.rand(1, 64, 64) * 2 - 1
    small = F.interpolate(full[None], (8, 8), mode="area")
    assert (enlarge(small, ab, full) - F.interpolate(ab, (64, 64), mode="bilinear")[0]).abs().max() < 0.02


def test_true_colours_of_photos_come_back_better_than_bilinear():
    gains = []
    for path in sample_photos("color"):
        image = read_photo(path)
        image.thumbnail((512, 512))
        L, ab = encode_lab(rgb_to_lab(to_tensor(image)))
        small_L, small_ab = (x[None] for x in encode_lab(rgb_to_lab(to_tensor(resize_photo(image, 24)))))
        plain = F.interpolate(small_ab, ab.shape[1:], mode="bilinear")[0]
        errors = [(x - ab).norm(dim=0).mean().item() for x in (enlarge(small_L, small_ab, L), plain)]
        gains.append(errors[0] / errors[1])
    assert sum(gains) / len(gains) < 0.97, gains


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_strips_are_parts_of_the_whole(rows):
    L, ab, full = torch.rand(1, 1, 8, 8), torch.rand(1, 2, 8, 8), torch.rand(1, 90, 40)
    enlarger = Enlarger(L, ab, 90, 40)
    strips = [enlarger.strip(full[:, top : top + rows], top) for top in range(0, 90, rows)]
    assert (torch.cat(strips, dim=1) - enlarger.strip(full, 0)).abs().max() < 1e-6
