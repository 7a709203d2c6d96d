"""What training minimizes: distances between predicted and true ab, both (B, 2, H, W) and scaled."""

import math

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize

from colorlib.color import decode_lab, lab_to_rgb
from colorlib.palette import Palette

VGG_LAYERS = ["3", "8", "15"]  # the last ReLU of VGG16's first three stages
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class L1(nn.L1Loss):
    """Mean absolute error of ab: 0.01 means 1.28 units of a* or b*.

    It prefers the median color when several are possible, which is why plain L1 networks paint cautiously.
    """


class Huber(nn.HuberLoss):
    """Squared for errors below `delta`, absolute above, in the units of L1 (Huber 1964, doi:10.1214/aoms/1177703732).

    The answer to several possible colors lies between their median and their mean. An error of delta (above 0; 0.1 is
    12.8 units of a* or b*) costs delta/2.
    """

    def __init__(self, delta: float = 0.1):
        super().__init__(delta=delta)

    def forward(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Compare predicted and true ab: a scalar."""
        return super().forward(predicted, true) / self.delta


def palette_nll(palette: Palette, true: Tensor) -> Tensor:
    """Mean negative log-likelihood of the true colors, when each pixel draws its color from the palette.

    The density of a pixel's ab is a mixture: of color k by its weight, around c_k, proportional to
    exp(−|ab − c_k| / s_k) / s_k². Without it nothing says that a palette's colors are those of the picture: far ones
    can mix to the same mean. True ab, (B, 2, H, W), is averaged over the k×k pixels that each pixel of the palette's
    weights, (B, K, ⌈H/k⌉, ⌈W/k⌉), stands for; at the last row and column they may be fewer.
    """
    true_sides, sides = true.shape[2:], palette.log_weights.shape[2:]
    window = [math.ceil(long / short) for long, short in zip(true_sides, sides, strict=True)]
    pixels = F.avg_pool2d(true, window, ceil_mode=True).flatten(2)  # (B, 2, h·w)
    colors, spreads = palette.colors.float(), palette.spreads.float().unsqueeze(-1)  # (B, K, 2), (B, K, 1)
    lengths = colors.square().sum(2, keepdim=True) + pixels.square().sum(1, keepdim=True)
    distance = (lengths - 2 * colors @ pixels).clamp(min=1e-8).sqrt()  # (B, K, h·w)
    log_density = palette.log_weights.float().flatten(2) - distance / spreads - 2 * spreads.log()
    return -log_density.logsumexp(dim=1).mean()


class Perceptual(nn.Module):
    """How different two pictures look to VGG16: mean absolute difference of its features at three depths.

    After Johnson et al. 2016 (arXiv 1603.08155). ImageNet's weights (528 MB) are downloaded once by torchvision,
    `OSError` if they cannot be.
    """

    def __init__(self):
        super().__init__()
        try:
            vgg = torchvision.models.vgg16(weights=torchvision.models.VGG16_Weights.IMAGENET1K_V1)
        except (OSError, RuntimeError) as error:  # no network, or a file that was cut short
            message = f"VGG16's weights cannot be downloaded ({error}): train with perceptual 0, or with internet once"
            raise OSError(message) from error
        self.features = create_feature_extractor(vgg.features.eval().requires_grad_(False), VGG_LAYERS)

    def forward(self, L: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Compare two pictures of one L (B, 1, H, W): a scalar."""
        pictures = [normalize(lab_to_rgb(decode_lab(L, ab)), IMAGENET_MEAN, IMAGENET_STD) for ab in (predicted, true)]
        layers = zip(*(self.features(picture).values() for picture in pictures), strict=True)
        return sum(F.l1_loss(x, y) for x, y in layers) / len(VGG_LAYERS)


class ColorLoss(nn.Module):
    """The loss that a `Config` asks for: the distance "l1" or "huber", plus weighted terms.

    The weights are those of `palette_nll` and of `Perceptual`; 0 leaves the latter, and VGG16, away.
    """

    def __init__(self, name: str = "l1", palette_likelihood: float = 0.0, perceptual: float = 0.0):
        super().__init__()
        self.distance = {"l1": L1, "huber": Huber}[name]()
        self.palette_likelihood, self.weight = palette_likelihood, perceptual
        self.perceptual = Perceptual() if perceptual else None

    def forward(self, L: Tensor, predicted: Tensor, true: Tensor, palette: Palette | None = None) -> Tensor:
        """Judge a batch: L (B, 1, H, W), predicted and true ab (B, 2, H, W), and what was mixed to the predicted."""
        loss = self.distance(predicted.float(), true)
        if self.palette_likelihood and palette is not None:
            loss = loss + self.palette_likelihood * palette_nll(palette, true)
        if self.perceptual:
            loss = loss + self.weight * self.perceptual(L, predicted.float(), true)
        return loss
