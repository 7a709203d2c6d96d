"""The loss, by hand."""

import pytest
import torch

from colorlib.losses import L1


def test_l1_by_hand():
    predicted = torch.tensor([0.5, -0.25, 0.0, 1.0]).view(1, 2, 1, 2)
    true = torch.tensor([0.0, 0.25, 0.5, -1.0]).view(1, 2, 1, 2)
    assert L1()(predicted, true).item() == (0.5 + 0.5 + 0.5 + 2.0) / 4


def test_l1_is_the_mean_over_everything():
    true = torch.zeros(3, 2, 5, 4)
    predicted = true.clone()
    predicted[1, 0, 2, 3] = 1.2
    loss = L1()(predicted, true)
    assert loss.shape == () and loss.item() == pytest.approx(1.2 / 120)


def test_one_hundredth_is_1_28_units_of_ab():
    from colorlib.color import decode_lab

    off = decode_lab(torch.zeros(1, 1, 1), torch.full((2, 1, 1), 0.01))
    assert off[1:].flatten().tolist() == pytest.approx([1.28, 1.28])


def test_prefers_the_median_color():
    """Of the answers to two blue photos and a red one, blue costs the least; the average costs more."""
    true = torch.tensor([-0.6, -0.6, 0.6]).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    costs = {guess: L1()(torch.full_like(true, guess), true).item() for guess in (-0.6, -0.2, 0.0, 0.6)}
    assert min(costs, key=costs.get) == -0.6


def test_gradient_pulls_towards_the_truth():
    predicted = torch.tensor([0.5, -0.5]).view(1, 2, 1, 1).requires_grad_()
    L1()(predicted, torch.zeros(1, 2, 1, 1)).backward()
    assert predicted.grad.flatten().tolist() == [0.5, -0.5]
