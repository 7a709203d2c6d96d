"""A reference: another photo whose colors a photo takes on."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import KDTree
from torch import Tensor

ALIKE = 8  # pixels of the reference whose colors are averaged
GUESS_WEIGHT = 4.0  # what a difference in the network's guess counts, relative to L


def transfer_colors(
    L: Tensor, guess: Tensor, reference_L: Tensor, reference_guess: Tensor, reference_ab: Tensor
) -> Tensor:
    """Give each pixel of a photo the colors of those pixels of a reference photo that are most like it.

    Pixels are alike in lightness and in texture (the standard deviation of L around them), after Welsh, Ashikhmin and
    Mueller 2002 (doi 10.1145/566570.566576), and in the network's guess, which knows a sky from a wall. As there, the
    reference's L is first shifted and scaled to the photo's mean and deviation.

    All are scaled: L (1, 1, h, w), the network's guess for it and the result (1, 2, h, w), and the same of the
    reference, which may have another size, with its true ab.
    """
    scale = L.std() / reference_L.std().clamp(min=1e-3)
    matched = (reference_L - reference_L.mean()) * scale.clamp(0.5, 2) + L.mean()
    _, nearest = KDTree(_likeness(matched, reference_guess)).query(_likeness(L, guess), k=min(ALIKE, matched.numel()))
    colors = reference_ab[0].flatten(1).T.cpu().numpy()[nearest.reshape(L.numel(), -1)].mean(axis=1)
    return torch.from_numpy(colors).T.reshape(guess.shape).to(guess)


def _likeness(L: Tensor, guess: Tensor) -> np.ndarray:
    """What makes pixels alike, (h·w, 4): L, its deviation in 5×5, and the guess, in comparable units."""
    mean, square = (F.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False) for x in (L, L * L))
    deviation = (square - mean * mean).clamp(min=0).sqrt()
    features = torch.cat([L, deviation, GUESS_WEIGHT * guess.to(L)], dim=1)
    return features[0].flatten(1).T.cpu().double().numpy()
