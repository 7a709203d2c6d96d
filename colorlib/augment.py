"""Training photos changed at random, L and ab alike, whole batches at a time. Checked by tests/test_augment.py."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from colorlib.config import Config


def random_view(lab: Tensor, chance: Tensor, config: Config) -> Tensor:
    """Crop, mirror and turn each photo of a batch at random: L and ab together, in one resampling.

    lab: (B, 3, H, W). chance: (B, 5), uniform in [0, 1): what decides. Returns (B, 3, image_size, image_size): a random
    square of at least `min_crop` of the area, mirrored every second time if `flip`, turned by up to `rotate`
    degrees; what turns in from outside is a reflection of the photo.
    """
    crop, turn, mirror, x, y = chance.unbind(dim=1)
    side = (config.min_crop + (1 - config.min_crop) * crop).sqrt()  # share of the photo's side
    angle = math.radians(config.rotate) * (2 * turn - 1)
    sign = 1 - 2 * (mirror < 0.5).float() * config.flip
    cos, sin = side * angle.cos(), side * angle.sin()
    shift_x, shift_y = (1 - side) * (2 * x - 1), (1 - side) * (2 * y - 1)
    matrix = torch.stack([sign * cos, -sin, shift_x, sign * sin, cos, shift_y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, [len(lab), 3, config.image_size, config.image_size], align_corners=False)
    return F.grid_sample(lab, grid, padding_mode="reflection", align_corners=False)


def random_tone(lab: Tensor, chance: Tensor, config: Config) -> Tensor:
    """Change the gamma and the contrast of each photo's L, and the saturation of ab, by up to the config's shares.

    lab: (B, 3, H, W), scaled. chance: (B, 3), uniform in [0, 1). Returns (B, 3, H, W), clamped to [−1, 1].
    """
    gamma, contrast, saturation = (2 * chance - 1).view(-1, 3, 1, 1, 1).unbind(dim=1)  # (B, 1, 1, 1) each
    L, ab = lab[:, :1], lab[:, 1:]
    if config.gamma:
        L = 2 * ((L + 1) / 2).clamp(0, 1) ** torch.exp(config.gamma * gamma) - 1
    mean = L.mean(dim=(2, 3), keepdim=True)
    L = mean + (L - mean) * (1 + config.contrast * contrast)
    return torch.cat([L, ab * (1 + config.saturation * saturation)], dim=1).clamp(-1, 1)
