"""Hints hold at their points and stop at edges; a reference gives its colours to pixels like its own."""

import numpy as np
import pytest
import torch

from colorlib.color import encode_lab, rgb_to_lab
from colorlib.data import sample_photos
from colorlib.photo import read_photo, resize_photo, to_tensor
from colorlib.steer import Hint, hint_ab, spread_hints, take_colors

RED, BLUE = "#b03030", "#3040b0"


def halves(height: int = 40, width: int = 48) -> torch.Tensor:
    """Dark on the left, light on the right."""
    return ((torch.arange(width) >= width // 2).float() - 0.5).expand(1, 1, height, width).clone()


def colors_at(ab: torch.Tensor, x: float, y: float) -> torch.Tensor:
    return ab[0, :, int(y * ab.shape[2]), int(x * ab.shape[3])]


def test_a_hints_colour():
    expected = encode_lab(rgb_to_lab(torch.tensor([176.0, 48, 48]).view(3, 1, 1) / 255))[1].flatten()
    assert torch.allclose(hint_ab(Hint(0, 0, RED)), expected)
    assert torch.allclose(hint_ab(Hint(1, 1, (176, 48, 48))), expected)
    assert hint_ab(Hint(0.5, 0.5, "#808080")).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Hint(1.01, 0, RED), "shares of width and height"), (Hint(0, -0.1, RED), "shares"),
        (Hint(float("nan"), 0, RED), "shares"), (Hint(0, 0, "red"), "written #rrggbb"),
        (Hint(0, 0, "#12345"), "written #rrggbb"), (Hint(0, 0, (1, 2)), "red, green and blue"),
        (Hint(0, 0, (1, 2, 256)), "in 0 to 255"),
    ],
)  # fmt: skip
def test_what_is_no_hint(hint, words):
    with pytest.raises(ValueError, match=words):
        spread_hints(halves(), torch.zeros(1, 2, 40, 48), [hint])


def test_a_hint_holds_at_its_point_and_nearby_but_not_beyond_an_edge():
    before = torch.full((1, 2, 40, 48), 0.05)
    after = spread_hints(halves(), before, [Hint(0.25, 0.5, RED)])
    wanted = hint_ab(Hint(0, 0, RED))
    assert torch.allclose(colors_at(after, 0.25, 0.5), wanted, atol=1e-5)
    change = (after - before).norm(dim=1)[0] / (wanted - 0.05).norm()
    assert change[20, 9:15].min() > 0.8, "nearby"
    assert change[20, 23] > 2 * change[20, 25] and change[:, 26:].max() < 0.1, "the edge stops it"
    far = spread_hints(torch.zeros(1, 1, 40, 120), torch.zeros(1, 2, 40, 120), [Hint(0.05, 0.5, RED)])
    assert far[..., 110:].abs().max() < 0.15 * wanted.norm(), "far away, the network's"
    assert after.shape == before.shape and after.dtype == before.dtype


def test_hints_on_both_sides_keep_apart():
    after = spread_hints(halves(), torch.zeros(1, 2, 40, 48), [Hint(0.3, 0.5, RED), Hint(0.7, 0.5, BLUE)])
    red, blue = hint_ab(Hint(0, 0, RED)), hint_ab(Hint(0, 0, BLUE))
    assert (colors_at(after, 0.45, 0.5) - red).norm() < (colors_at(after, 0.45, 0.5) - blue).norm() / 2
    assert (colors_at(after, 0.55, 0.5) - blue).norm() < (colors_at(after, 0.55, 0.5) - red).norm() / 2


def test_no_hint_no_change_and_the_later_of_two_counts():
    before = torch.rand(1, 2, 12, 12)
    assert torch.equal(spread_hints(torch.zeros(1, 1, 12, 12), before, []), before)
    after = spread_hints(torch.zeros(1, 1, 12, 12), before, [Hint(0.5, 0.5, RED), Hint(0.51, 0.5, BLUE)])
    assert torch.allclose(colors_at(after, 0.5, 0.5), hint_ab(Hint(0, 0, BLUE)), atol=1e-5)


def test_corners_and_a_single_pixel():
    for size in ((1, 1), (1, 5), (9, 9)):
        L = torch.rand(1, 1, *size)
        after = spread_hints(L, torch.zeros(1, 2, *size), [Hint(0, 0, RED), Hint(1, 1, BLUE)])
        assert torch.allclose(after[0, :, -1, -1], hint_ab(Hint(0, 0, BLUE)), atol=1e-5)
        assert torch.isfinite(after).all()
    assert torch.allclose(after[0, :, 0, 0], hint_ab(Hint(0, 0, RED)), atol=1e-5)


def test_hints_bring_photos_closer_to_the_truth():
    """Twelve true colours, on no colour at all, as Zhang et al. 2017 judge hints."""
    for path in sample_photos("color")[:3]:
        rgb = to_tensor(resize_photo(read_photo(path), 64))
        L, ab = (x[None] for x in encode_lab(rgb_to_lab(rgb)))
        points = [((i + 0.5) / 4, (j + 0.5) / 3) for i in range(4) for j in range(3)]
        hints = [Hint(x, y, tuple((255 * rgb[:, int(y * 64), int(x * 64)]).tolist())) for x, y in points]
        after = spread_hints(L, torch.zeros_like(ab), hints)
        assert (after - ab).norm(dim=1).mean() < 0.8 * ab.norm(dim=1).mean(), path.name


# --- a reference --------------------------------------------------------------------------------------------


def seen(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(x[None] for x in encode_lab(rgb_to_lab(to_tensor(image))))


def test_a_photo_takes_on_the_colours_of_what_is_as_light():
    picture = np.zeros((30, 40, 3), np.uint8)
    picture[:, :20], picture[:, 20:] = (90, 40, 30), (150, 190, 240)
    example_L, example_ab = seen(picture)
    L = example_L.flip(-1)  # light on the left
    none = torch.zeros_like(example_ab)
    result = take_colors(L, none, example_L, none, example_ab)
    assert (result - example_ab.flip(-1)).abs().max() < 0.02


def test_photos_of_other_brightness_are_matched_first():
    picture = np.zeros((30, 40, 3), np.uint8)
    picture[:, :20], picture[:, 20:] = (90, 40, 30), (150, 190, 240)
    example_L, example_ab = seen(picture)
    none = torch.zeros_like(example_ab)
    result = take_colors(0.6 * example_L - 0.4, none, example_L, none, example_ab)
    assert (result - example_ab).abs().max() < 0.02


def test_a_photos_own_colours_come_back():
    for path in sample_photos("color")[:3]:
        L, ab = seen(resize_photo(read_photo(path), 48))
        none = torch.zeros_like(ab)
        result = take_colors(L, none, L, none, ab)
        assert (result - ab).norm(dim=1).mean() < 0.75 * ab.norm(dim=1).mean(), path.name
        assert torch.allclose(result.mean(dim=(2, 3)), ab.mean(dim=(2, 3)), atol=0.03)


def test_the_networks_guess_tells_apart_what_is_as_light():
    L = torch.zeros(1, 1, 20, 20)
    guess = torch.zeros(1, 2, 20, 20)
    guess[..., :10] = 0.2
    true = torch.zeros(1, 2, 20, 20)
    true[:, 0, :, :10], true[:, 1, :, 10:] = 0.3, -0.3
    assert (take_colors(L, guess.flip(-1), L, guess, true) - true.flip(-1)).abs().max() < 1e-5


def test_a_gray_reference_takes_colours_away_and_sizes_may_differ():
    L, ab = seen(resize_photo(read_photo(sample_photos()[0]), 24))
    example_L, gray = torch.rand(1, 1, 2, 3), torch.zeros(1, 2, 2, 3)
    result = take_colors(L, ab, example_L, gray, gray)
    assert result.shape == ab.shape and result.abs().max() == 0
