"""LPIPS, an optional score: how different two pictures look to AlexNet. Checked by tests/test_perceptual.py."""

from collections.abc import Callable

import torch
from torch import Tensor


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
