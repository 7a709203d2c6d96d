"""sRGB ↔ CIE Lab on tensors, and the one place where Lab is scaled for the network.

L* (lightness, 0…100) is what a black-and-white photo knows; a* (green to red) and b* (blue to yellow)
are what the network has to guess. Follows IEC 61966-2-1 (sRGB) and CIE 15 (Lab, D65 white, 2° observer)
with the constants of scikit-image.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

XYZ_FROM_RGB = torch.tensor(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]],
    dtype=torch.float64,
)
RGB_FROM_XYZ = torch.linalg.inv(XYZ_FROM_RGB)
WHITE = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64).view(3, 1, 1)  # XYZ of the D65 white
EPSILON, KAPPA = 0.008856, 7.787  # below EPSILON the cube root gives way to a line of slope KAPPA

L_HALF_RANGE = 50.0  # L = L*/50 − 1 lies in [−1, 1]
AB_RANGE = 128.0  # ab = ab*/128 lies in (−1, 1)


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB to CIE Lab.

    Args:
        rgb: (..., 3, H, W) in [0, 1]; half precision is computed in float32.

    Returns:
        L*a*b* of the same shape, float32 (float64 for float64): L* in [0, 100], a* and b* in about [−108, 99].

    Raises:
        ValueError: If the third last side is not 3, or the values are not floating point.

    Example:
        >>> rgb_to_lab(torch.ones(3, 1, 1)).flatten().round()  # white
        tensor([100., 0., 0.])
    """
    rgb = _checked(rgb, "rgb")
    # 1. undo the transfer curve: from code values to light
    light = torch.where(rgb > 0.04045, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    # 2. from the display's primaries to XYZ, relative to white
    xyz_from_rgb, _, white = _constants_for(light)
    xyz = torch.einsum("ij,...jhw->...ihw", xyz_from_rgb, light) / white
    # 3. the eye's compression; the clamp keeps the gradient of the unused branch finite
    f = torch.where(xyz > EPSILON, xyz.clamp(min=EPSILON) ** (1 / 3), KAPPA * xyz + 16 / 116)
    fx, fy, fz = f.unbind(-3)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert L*a*b* (..., 3, H, W) to sRGB in [0, 1]; colors that it cannot show (`out_of_gamut`) are clamped."""
    return _unclamped_rgb(lab).clamp(0, 1)


def out_of_gamut(lab: Tensor, tolerance: float = 0.5 / 255) -> Tensor:
    """Tell which pixels of L*a*b* (..., 3, H, W) have colors that sRGB cannot show: boolean (..., H, W).

    A channel of sRGB may leave [0, 1] by the tolerance, half an 8-bit step. The mean is the share of clamped pixels.
    """
    rgb = _unclamped_rgb(lab)
    return ((rgb < -tolerance) | (rgb > 1 + tolerance)).any(dim=-3)


def encode_lab(lab: Tensor) -> tuple[Tensor, Tensor]:
    """Scale L*a*b* (..., 3, H, W) for the network: L = L*/50 − 1, (..., 1, H, W), and ab = ab*/128, (..., 2, H, W)."""
    return lab[..., :1, :, :] / L_HALF_RANGE - 1, lab[..., 1:, :, :] / AB_RANGE


def decode_lab(L: Tensor, ab: Tensor) -> Tensor:
    """Undo `encode_lab`: from L (..., 1, H, W) and ab (..., 2, H, W) back to L*a*b* (..., 3, H, W).

    The result is where ab is: a photo's L may lie in the computer's memory, the network's ab on a
    GPU.
    """
    return torch.cat([(L.to(ab.device) + 1) * L_HALF_RANGE, ab * AB_RANGE], dim=-3)


def lab_to_rgb_image(L: Tensor, ab: Tensor, deep: bool = False) -> np.ndarray:
    """Turn scaled L (1, H, W) and ab (2, H, W) into an ordinary picture: uint8 (H, W, 3), rounded to the nearest level.

    A batch of one, (1, 1, H, W) and (1, 2, H, W), will do too; `ValueError` for more than one picture. A `deep` one is
    uint16. L and ab may lie on different devices.
    """
    L, ab = (t.squeeze(0) if t.ndim == 4 and len(t) == 1 else t for t in (L, ab))
    if L.ndim != 3 or ab.ndim != 3:
        shapes = f"L {tuple(L.shape)} and ab {tuple(ab.shape)}"
        raise ValueError(f"expected one picture, L (1, H, W) and ab (2, H, W), got {shapes}; pass them one by one")
    rgb = lab_to_rgb(decode_lab(L.detach().float(), ab.detach().float()))
    top, dtype = (65535, torch.uint16) if deep else (255, torch.uint8)
    return (rgb * top).round().to(dtype).permute(1, 2, 0).cpu().numpy()


def _unclamped_rgb(lab: Tensor) -> Tensor:
    L, a, b = _checked(lab, "lab").unbind(-3)
    fy = (L + 16) / 116
    # scikit-image's rule: light cannot be negative, so f of Z is kept at 0 or above
    f = torch.stack([fy + a / 500, fy, (fy - b / 200).clamp(min=0)], dim=-3)
    _, rgb_from_xyz, white = _constants_for(f)
    xyz = torch.where(f > 0.2068966, f**3, (f - 16 / 116) / KAPPA) * white
    light = torch.einsum("ij,...jhw->...ihw", rgb_from_xyz, xyz)
    return torch.where(light > 0.0031308, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055, light * 12.92)


def _constants_for(image: Tensor) -> tuple[Tensor, ...]:
    """XYZ_FROM_RGB, RGB_FROM_XYZ and WHITE, on the device and in the precision of an image."""
    # PyTorch's compiler uses tensors of its own, without numbers: none of them must be kept
    if type(image) is not Tensor:
        return _copied_constants.__wrapped__(image.device, image.dtype)
    return _copied_constants(image.device, image.dtype)


@cache  # a GPU waits for each copy, so that it should not come with each batch
def _copied_constants(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    constants = XYZ_FROM_RGB, RGB_FROM_XYZ, WHITE
    # a tensor that was made in inference mode would be of no use in training
    with torch.inference_mode(False):
        return tuple(constant.to(device, dtype) for constant in constants)


def _checked(image: Tensor, name: str) -> Tensor:
    if image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"{name} must have the shape (..., 3, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {image.dtype}; divide 8-bit values by 255 first")
    return image if image.dtype == torch.float64 else image.float()
