"""How different two pictures look to a network that was trained on ImageNet: as a loss (VGG16), as a score (LPIPS).

Nothing else in colorlib needs downloaded weights. Checked by tests/test_perceptual.py and tests/test_losses.py.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from colorlib.color import decode_lab, lab_to_rgb

VGG_LAYERS = (3, 8, 15)  # the last ReLU of VGG16's first three stages
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


class LpipsError(ImportError):
    """LPIPS cannot be computed here; the message says what is missing."""


def load_lpips(device: str | torch.device = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """The metric of Zhang et al. 2018, arXiv:1801.03924, version 0.1 on AlexNet, by torchmetrics.

    Returns a function of two uint8 pictures (B, 3, H, W), true and predicted, which gives (B,), 0 for identical; for
    `evaluation.evaluate_model(…, extra={"lpips": …})`. Raises `LpipsError` where torchmetrics is not installed or
    AlexNet's weights (233 MB, fetched once by torchvision) cannot be downloaded.
    """
    try:
        from torchmetrics.functional.image.lpips import _NoTrainLpips
    except ImportError as error:
        raise LpipsError("LPIPS needs torchmetrics: pip install 'colorlib[lpips]', or score without --lpips") from error
    try:
        network = _NoTrainLpips(net="alex").to(device).eval()
    except (OSError, RuntimeError) as error:  # no network, or a file that was cut short
        message = f"AlexNet's weights cannot be downloaded ({error}): score once with internet, or without --lpips"
        raise LpipsError(message) from error

    @torch.inference_mode()
    def distance(true: Tensor, predicted: Tensor) -> Tensor:
        return network(*(picture.float() / 127.5 - 1 for picture in (true, predicted))).flatten().double().cpu()

    return distance
