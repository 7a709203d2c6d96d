"""What training minimises: distances between predicted and true ab, both (B, 2, H, W) and scaled.

Checked by hand in tests/test_losses.py.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from colorlib.perceptual import Perceptual


class L1(nn.L1Loss):
    """Mean absolute error between predicted and true ab.

    0.01 means 1.28 units of a* or b*. The loss prefers the median colour when several are possible, which is
    why plain L1 networks paint cautiously.
    """


class Huber(nn.Module):
    """Squared for errors below `delta`, absolute above, in the units of L1 (Huber 1964, doi:10.1214/aoms/1177703732).

    delta: scaled ab; 0.1 is 12.8 units of a* or b*. Small errors count less than with L1, so that the answer to several
    possible colours lies between their median and their mean. An error of delta costs delta/2. Raises `ValueError`
    unless delta is above 0.
    """

    def __init__(self, delta: float = 0.1):
        super().__init__()
        if delta <= 0:
            raise ValueError(f"delta must be above 0, got {delta}")
        self.delta = delta

    def forward(self, predicted: Tensor, true: Tensor) -> Tensor:
        return F.huber_loss(predicted, true, delta=self.delta) / self.delta


class ColorLoss(nn.Module):
    """The loss that a `Config` asks for.

    name: "l1" or "huber". perceptual: weight of the `Perceptual` term; 0 leaves it, and VGG16, away.
    forward: L (B, 1, H, W), predicted and true ab; half precision is computed in float32.
    """

    def __init__(self, name: str = "l1", perceptual: float = 0.0):
        super().__init__()
        self.distance = {"l1": L1, "huber": Huber}[name]()
        self.weight = perceptual
        self.perceptual = Perceptual() if perceptual else None

    def forward(self, L: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        loss = self.distance(predicted.float(), true)
        if self.perceptual:
            loss = loss + self.weight * self.perceptual(L, predicted.float(), true)
        return loss
