"""A reference gives its colors to pixels like its own."""

import numpy as np
import pytest
import torch

from colorlib.color import encode_lab, rgb_to_lab
from colorlib.colorize import transfer_colors
from colorlib.data import sample_photos
from colorlib.photo import read_photo, resize_photo, to_tensor


def scaled(image: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(x[None] for x in encode_lab(rgb_to_lab(to_tensor(image))))


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 0.0), (0.6, -0.4)])
def test_a_photo_takes_on_the_colors_of_what_is_as_light(factor, shift):
    """Also if it is darker, or duller, as a whole."""
    picture = np.zeros((30, 40, 3), np.uint8)
    picture[:, :20], picture[:, 20:] = (90, 40, 30), (150, 190, 240)
    L, ab = scaled(picture)
    guess = torch.zeros_like(ab)
    result = transfer_colors(factor * L.flip(-1) + shift, guess, L, guess, ab)  # light on the left
    assert (result - ab.flip(-1)).abs().max() < 0.02


def test_the_networks_guess_tells_apart_what_is_as_light():
    L, guess, true = torch.zeros(1, 1, 20, 20), torch.zeros(1, 2, 20, 20), torch.zeros(1, 2, 20, 20)
    guess[..., :10] = 0.2
    true[:, 0, :, :10], true[:, 1, :, 10:] = 0.3, -0.3
    assert (transfer_colors(L, guess.flip(-1), L, guess, true) - true.flip(-1)).abs().max() < 1e-5


def test_a_gray_reference_takes_colors_away_and_sizes_may_differ():
    L, ab = scaled(resize_photo(read_photo(sample_photos()[0]), 24))
    gray = torch.zeros(1, 2, 2, 3)
    result = transfer_colors(L, ab, torch.rand(1, 1, 2, 3), gray, gray)
    assert result.shape == ab.shape and result.abs().max() == 0
