"""A learnable palette: the network looks at the whole scene, chooses a few colours, and paints with them.

The idea is that of the colour queries of DDColor (Kang et al. 2023, arXiv 2212.11613), with attention after Vaswani
et al. 2017 (arXiv 1706.03762), on a small scale. Checked by tests/test_palette.py.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


class Palette(NamedTuple):
    """What a network chose for a batch of photos.

    colors: ab (B, K, 2) in (−1, 1). shares: (B, K), how much of the picture each colour paints; they sum to 1.
    """

    colors: Tensor
    shares: Tensor


class ColorPalette(nn.Module):
    """K learnable queries look at a scene and become K colours; each pixel is a mixture of them.

    size: K. scene_channels: channels of the feature maps that are looked at, coarsest first. pixel_channels: of the
    map whose pixels are painted. features: width of the queries. The colours start as a spiral over the ab plane, which
    training and then each scene shift. forward: the scene's maps, each (B, C, h, w), and the pixels (B, pixel_channels,
    H, W) → ab (B, 2, H, W) in (−1, 1), and the `Palette`. Raises `ValueError` for fewer than two colours.
    """

    def __init__(self, size: int, scene_channels: Sequence[int], pixel_channels: int, features: int = 128):
        super().__init__()
        if size < 2:
            raise ValueError(f"a palette needs at least 2 colours, got {size}")
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
        number = torch.arange(size) + 0.5
        radius, angle = 0.5 * (number / size).sqrt(), GOLDEN_ANGLE * number
        self.anchors = nn.Parameter(torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))

    def forward(self, scene: Sequence[Tensor], pixels: Tensor) -> tuple[Tensor, Palette]:
        looked = [look(features).flatten(2) for look, features in zip(self.look, scene, strict=True)]
        tokens = torch.cat(looked, dim=2).transpose(1, 2)  # (B, all pixels of all maps, features)
        queries = self.queries.expand(len(pixels), -1, -1)  # (B, K, features)
        for layer in self.attend:
            queries = layer(queries, tokens)
        queries = self.norm(queries)
        colors = torch.tanh(self.anchors + self.shift(queries))  # (B, K, 2)
        # how well a pixel and a colour fit, and how much this scene wants the colour at all
        fit = torch.einsum("bkf,bfhw->bkhw", self.key(queries), self.pixel(pixels))
        mixture = (fit + self.weight(queries).unsqueeze(-1)).softmax(dim=1)  # (B, K, H, W)
        ab = torch.einsum("bkhw,bkc->bchw", mixture, colors)
        return ab, Palette(colors, mixture.mean(dim=(2, 3)))
