"""A learnable palette: the network looks at the whole scene, chooses a few colors, and paints with them.

The idea is that of the color queries of DDColor (Kang et al. 2023, arXiv 2212.11613), with attention after Vaswani
et al. 2017 (arXiv 1706.03762), on a small scale.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
LEAST_TEMPERATURE = 0.01  # where only the likeliest color counts


class Palette(NamedTuple):
    """The colors of a batch of scenes, and for each pixel a distribution over them.

    Args:
        colors: Scaled ab in (−1, 1), (B, K, 2).
        log_weights: Logarithm of each color's probability in each pixel, (B, K, h, w).
        spreads: How far the pixels of a color lie from it, scaled ab, (B, K).
    """

    colors: Tensor
    log_weights: Tensor
    spreads: Tensor

    @property
    def shares(self) -> Tensor:
        """The share of the picture that each color paints, (B, K); they sum to 1."""
        return self.log_weights.exp().mean(dim=(2, 3))

    def weights(self, vividness: float = 0.0) -> Tensor:
        """Say how much of each color a pixel takes, (B, K, h, w); they sum to 1 over K.

        A vividness of 0 gives the distribution itself, 1 its likeliest color alone; between them it is raised to the
        power 1 / (1 − vividness) and normed, the annealed mean of Zhang et al. 2016 (arXiv 1603.08511).
        """
        return (self.log_weights / max(1 - vividness, LEAST_TEMPERATURE)).softmax(dim=1)

    def paint(self, vividness: float = 0.0) -> Tensor:
        """Mix the colors in every pixel: ab (B, 2, h, w); see `weights`."""
        return torch.einsum("bkhw,bkc->bchw", self.weights(vividness), self.colors)


class ColorPalette(nn.Module):
    """K learnable queries look at a scene and become K colors; each pixel gets a distribution over them.

    The colors start as a spiral over the ab plane, which training and then each scene shift. `scene_channels` are those
    of the feature maps that are looked at, coarsest first, `pixel_channels` those of the map whose pixels are painted;
    `size` is K, at least 2, and `features` the width of the queries.
    """

    def __init__(self, size: int, scene_channels: Sequence[int], pixel_channels: int, features: int = 128):
        super().__init__()
        if size < 2:
            raise ValueError(f"a palette needs at least 2 colors, got {size}")
        self.queries = nn.Parameter(0.5 * torch.randn(size, features))
        self.look = nn.ModuleList(nn.Conv2d(channels, features, kernel_size=1) for channels in scene_channels)
        self.attend = nn.ModuleList(
            nn.TransformerDecoderLayer(
                features, nhead=4, dim_feedforward=2 * features, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(features)
        self.pixel = nn.Conv2d(pixel_channels, features // 4, kernel_size=1)
        self.key = nn.Linear(features, features // 4)
        self.weight = nn.Linear(features, 1)
        self.shift = nn.Linear(features, 2)
        nn.init.zeros_(self.shift.weight)
        self.spread = nn.Linear(features, 1)
        nn.init.zeros_(self.spread.weight)
        nn.init.constant_(self.spread.bias, -3.0)  # 0.06 of scaled ab, 8 units
        number = torch.arange(size) + 0.5
        radius, angle = 0.5 * (number / size).sqrt(), GOLDEN_ANGLE * number
        self.anchors = nn.Parameter(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))

    def forward(self, scene: Sequence[Tensor], pixels: Tensor) -> Palette:
        """Choose a palette for each scene, from its feature maps (B, C, h, w) and its pixels' (B, C, H, W)."""
        looked = [look(features).flatten(2) for look, features in zip(self.look, scene, strict=True)]
        tokens = torch.cat(looked, dim=2).transpose(1, 2)  # (B, all pixels of all maps, features)
        queries = self.queries.expand(len(pixels), -1, -1)  # (B, K, features)
        for layer in self.attend:
            queries = layer(queries, tokens)
        queries = self.norm(queries)
        colors = torch.tanh(self.anchors + self.shift(queries))  # (B, K, 2)
        spreads = 0.01 + F.softplus(self.spread(queries)).squeeze(-1)  # (B, K)
        # how well a pixel and a color fit, and how much this scene wants the color at all
        fit = torch.einsum("bkf,bfhw->bkhw", self.key(queries), self.pixel(pixels))
        log_weights = (fit + self.weight(queries).unsqueeze(-1)).log_softmax(dim=1)  # (B, K, H, W)
        return Palette(colors, log_weights, spreads)
