"""Scores of many pictures at once: those of the formulas, one by one."""

import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from colorlib.batch import ab_histogram, ciede2000, score_batch
from colorlib.evaluation import score_pictures
from tests.conftest import blobs


def tensor(pictures):
    return torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures])


def pairs():
    """True and predicted: noise, a paler copy, gray, identical, black, one colour against its opposite."""
    chance = np.random.default_rng(0)
    photo, gray = blobs(1), blobs(2).mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    noise = np.clip(photo + chance.normal(0, 40, photo.shape), 0, 255).astype(np.uint8)
    black = np.zeros_like(photo)
    return [photo, photo, blobs(2), photo, black, photo], [noise, photo // 2 + 60, gray, photo, noise, 255 - photo]


def test_scores_equal_the_formulas():
    true, predicted = pairs()
    scores = score_batch(tensor(true), tensor(predicted))
    for number, pair in enumerate(zip(true, predicted, strict=True)):
        expected = score_pictures(*pair)
        assert set(scores) == set(expected)
        for name, value in expected.items():
            assert scores[name][number].item() == pytest.approx(value, abs=1e-6), (name, number)
    assert all(values.dtype == torch.float64 and values.shape == (6,) for values in scores.values())


def test_ciede2000_of_all_kinds_of_colors():
    """Gray beside colour, hues on either side of red, strong blues: the corners of the formula."""
    chance = np.random.default_rng(3)
    one = chance.uniform([0, -100, -100], [100, 100, 100], (400, 3))
    two = one + chance.normal(0, 25, one.shape)
    one[:40, 1:], two[20:60, 1:] = 0, 0
    two[60:90] = one[60:90] * [1, 1, -1]
    two[90:120] = one[90:120] * [1, -1, -1]
    expected = deltaE_ciede2000(one, two)
    found = ciede2000(*(torch.from_numpy(lab.T.reshape(1, 3, 1, -1)) for lab in (one, two)))
    assert found.flatten().numpy() == pytest.approx(expected, abs=1e-5), "of single pixels"


def test_published_pairs_of_sharma():
    """The first and the trickiest rows of Sharma, Wu and Dalal's table."""
    rows = [
        (50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425), (50, 2.5, 0, 50, 0, -2.5, 4.3065),
        (50, 2.49, -0.001, 50, -2.49, 0.0011, 7.2195), (22.7233, 20.0904, -46.694, 23.0331, 14.973, -42.5619, 2.0373),
    ]  # fmt: skip
    for *colors, expected in rows:
        one, two = (torch.tensor(c, dtype=torch.float64).view(1, 3, 1, 1) for c in (colors[:3], colors[3:]))
        assert ciede2000(one, two).item() == pytest.approx(expected, abs=1e-4)


def test_histogram_holds_every_pixel_once():
    lab = torch.from_numpy(rgb2lab(blobs(4))).permute(2, 0, 1)[None]
    shares = ab_histogram(lab)
    assert shares.shape == (1, 484) and shares.sum().item() == pytest.approx(1)
    corner = torch.tensor([50.0, -300, 300]).view(1, 3, 1, 1).double()
    assert ab_histogram(corner)[0, 21] == 1, "what lies beyond counts at the edge"


@pytest.mark.parametrize("wrong", [torch.zeros(1, 3, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])
def test_other_pictures_are_refused(wrong):
    with pytest.raises(ValueError, match="two uint8 tensors"):
        score_batch(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), wrong)
