"""What training minimises: distances between predicted and true ab, both (B, 2, H, W) and scaled.

Checked by hand in tests/test_losses.py.
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from colorlib.color import decode_lab, lab_to_rgb

VGG_LAYERS = (3, 8, 15)  # the last ReLU of VGG16's first three stages
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


class Perceptual(nn.Module):
    """How different two pictures look to VGG16: mean absolute difference of its features at three depths.

    After Johnson et al. 2016 (arXiv 1603.08155). pretrained: use ImageNet's weights (528 MB, downloaded once by
    torchvision); else random ones, for tests. forward: L (B, 1, H, W), predicted and true ab. Raises `OSError` that
    says what to do where the weights cannot be downloaded.
    """

    def __init__(self, pretrained: bool = True):
        super().__init__()
        weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1 if pretrained else None
        try:
            vgg = torchvision.models.vgg16(weights=weights)
        except (OSError, RuntimeError) as error:  # no network, or a file that was cut short
            message = f"VGG16's weights cannot be downloaded ({error}): train with perceptual 0, or with internet once"
            raise OSError(message) from error
        self.features = vgg.features[: VGG_LAYERS[-1] + 1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def forward(self, L: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        difference = L.new_zeros(())
        x, y = ((lab_to_rgb(decode_lab(L, ab)) - self.mean) / self.std for ab in (predicted, true))
        for number, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if number in VGG_LAYERS:
                difference = difference + F.l1_loss(x, y) / len(VGG_LAYERS)
        return difference


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
