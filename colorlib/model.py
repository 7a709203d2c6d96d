"""The network: a U-Net from scratch that guesses ab from L, with a palette of colors if wanted.

After Ronneberger et al. 2015 (arXiv 1505.04597), with the 4×4, stride-2 blocks of Isola et al. 2017
(arXiv 1611.07004) and, as an option, the residual blocks of He et al. 2015 (arXiv 1512.03385).
"""

from itertools import pairwise
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from colorlib.palette import ColorPalette, Palette

CORRECTION = 0.02  # by how much a pixel may leave the mixture of its palette's colors, in scaled ab


class UNetBlock(nn.Module):
    """One step down (halves the sides) or up (doubles them): convolution, batch norm, ReLU, perhaps dropout.

    The convolution, transposed on the way up, is 4×4, stride 2, padding 1, without bias, which the batch norm would
    cancel. With `use_dropout`, the share `dropout` of the features is dropped while training.
    """

    def __init__(self, in_channels: int, out_channels: int, down: bool, use_dropout: bool, dropout: float = 0.5):
        super().__init__()
        convolution = nn.Conv2d if down else nn.ConvTranspose2d
        self.conv = convolution(in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout) if use_dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, out_channels, H/2, W/2), or with 2H and 2W."""
        return self.dropout(F.relu(self.norm(self.conv(x))))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions whose result is added to what came in: deeper, at the same size.

    It starts as the identity: the second batch norm's factor is 0 until training raises it.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) → the same shape, for x of 0 or more."""
        return F.relu(x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))))


class UNet(nn.Module):
    """Encoder and decoder, with skips that carry the details across.

    The encoder is the original's own, of `UNetBlock`s and a bottleneck, or a pretrained one from timm. At width 64 the
    original has 41,825,538 parameters at depth 7, and 54,410,498 at depth 8.

    Args:
        width: Channels of the first block; they double up to 8 × width.
        depth: How often the sides are halved, bottleneck included (7: 2×2 for a 256×256 input); at least 4.
        dropout: Share dropped in the first three decoder blocks.
        palette: Colors of a `ColorPalette` that ab is mixed from, and that the decoder's own output corrects a little;
            0: that output alone.
        residual_blocks: `ResidualBlock`s behind each encoder block but the first two.
        encoder: Name of a timm model that halves the sides `depth` times, such as "tf_efficientnet_lite0" (depth 5);
            empty: the original's own. Its weights are random until `load_pretrained_encoder` is called.
    """

    def __init__(
        self,
        width: int = 64,
        depth: int = 7,
        dropout: float = 0.5,
        palette: int = 0,
        residual_blocks: int = 0,
        encoder: str = "",
    ):
        super().__init__()
        if depth < 4:
            raise ValueError(f"depth must be at least 4, three dropout blocks and the output; got {depth}")
        self.depth, self.encoder_name = depth, encoder
        channels = [min(width * 2**level, width * 8) for level in range(depth - 1)]  # 64 128 256 512 512 512
        self.down, self.deeper = nn.ModuleList(), nn.ModuleList()
        if encoder:
            self.encoder = create_encoder(encoder, depth)
            features = self.encoder.feature_info.channels()  # of the lite0: 16 24 40 112 320
        else:
            for pair in pairwise([1, *channels]):
                self.down.append(UNetBlock(*pair, down=True, use_dropout=False))
            self.bottleneck = nn.Conv2d(channels[-1], channels[-1], kernel_size=4, stride=2, padding=1)
            features = [*channels, channels[-1]]
        # each decoder block but the first also takes the encoder's features of its size
        inputs = [features[-1]]
        for decoded, skipped in zip(reversed(channels), reversed(features[:-1]), strict=True):
            inputs.append(decoded + skipped)
        self.up = nn.ModuleList(
            UNetBlock(before, after, down=False, use_dropout=level < 3, dropout=dropout)
            for level, (before, after) in enumerate(zip(inputs, reversed(channels), strict=False))
        )
        self.final = nn.ConvTranspose2d(inputs[-1], 2, kernel_size=4, stride=2, padding=1)
        # last of all, so that the original network starts from the same weights with and without them
        if residual_blocks:
            for c in channels[2:]:
                self.deeper.append(nn.Sequential(*(ResidualBlock(c) for _ in range(residual_blocks))))
        self.palette = ColorPalette(palette, inputs[:3], inputs[-1]) if palette else None

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; a frozen encoder keeps the statistics that it was trained with."""
        super().train(mode)
        if self.encoder_name and not next(self.encoder.parameters()).requires_grad:
            self.encoder.eval()
        return self

    def forward(self, L: Tensor, vividness: float = 0.0, with_palette: bool = False) -> Tensor | tuple:
        """L (B, 1, H, W) → ab (B, 2, H, W), or a pair of it and the palette; see `forward_with_palette`."""
        answer = self.forward_with_palette(L, vividness)
        return answer if with_palette else answer[0]

    def encode(self, L: Tensor) -> list[Tensor]:
        """Feature maps of L (B, 1, H, W), sides that 2^depth divides: the finest first, each of half the sides."""
        if self.encoder_name and self.encoder.training and L.device.type == "cpu":
            # on a CPU, the backward pass of depthwise convolutions is slow in bfloat16
            with torch.autocast("cpu", enabled=False):
                return self.encoder(L.float())
        if self.encoder_name:
            return self.encoder(L)
        maps = [L]
        for level, block in enumerate(self.down):
            x = block(maps[-1])  # (B, 64, 128, 128) … (B, 512, 4, 4)
            if self.deeper and level >= 2:
                x = self.deeper[level - 2](x)
            maps.append(x)
        maps.append(F.relu(self.bottleneck(x)))  # (B, 512, 2, 2)
        return maps[1:]

    def forward_with_palette(self, L: Tensor, vividness: float = 0.0) -> tuple[Tensor, Palette | None]:
        """Guess the colors that belong to scaled L (B, 1, H, W) of any side, and say what they were mixed from.

        Returns scaled ab (B, 2, H, W) in [−1, 1], in the weights' precision, and the `Palette` of each photo, with
        log_weights of half the sides, rounded up; or None without a palette, to which the vividness
        makes no difference.
        """
        if L.ndim != 4 or L.shape[1] != 1:
            raise ValueError(f"expected L of shape (B, 1, H, W), got {tuple(L.shape)}")
        height, width = L.shape[-2:]
        multiple = 2**self.depth
        maps = self.encode(F.pad(L, (0, -width % multiple, 0, -height % multiple), mode="replicate"))
        x = maps.pop()
        scales = [x]
        for block in self.up:
            x = block(x)  # (B, 512, 4, 4) … (B, 64, 128, 128)
            x = torch.cat([x, maps.pop()], dim=1)
            scales.append(x)
        ab, palette = torch.tanh(self.final(x)), None  # (B, 2, 256, 256)
        if self.palette:
            palette = self.palette(scales[:3], x)
            mixture = F.interpolate(palette.paint(vividness), scale_factor=2, mode="bilinear")
            ab = (mixture + CORRECTION * ab).clamp(-1, 1)
            # without the padding: a palette's pixel is 2×2 of the photo
            inside = palette.log_weights[..., : -(-height // 2), : -(-width // 2)]
            palette = palette._replace(log_weights=inside)
        return ab[..., :height, :width], palette


def create_encoder(name: str, depth: int) -> nn.Module:
    """Build a timm model that gives its feature maps, for one channel, with random weights."""
    import timm  # here: networks without such an encoder do not wait for it

    try:
        encoder = timm.create_model(name, features_only=True, in_chans=1)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"encoder {name!r} is no timm model that gives feature maps ({error})") from error
    strides = encoder.feature_info.reduction()
    if strides != [2**level for level in range(1, depth + 1)]:
        raise ValueError(f"encoder {name} has feature maps of strides {strides}: expected depth {depth} to match")
    return encoder


def load_pretrained_encoder(model: UNet, file: str = "") -> None:
    """Give a network's encoder the weights that ImageNet has taught it, for gray: the sum over red, green and blue.

    They come from a file of weights in timm's order, or else are downloaded by timm. `OSError` if they cannot be,
    `ValueError` if the file has other weights.
    """
    import timm

    name = model.encoder_name
    if file:
        whole = timm.create_model(name)
        weights = torch.load(file, map_location="cpu", weights_only=True)
        try:  # other projects name the same tensors otherwise, in the same order
            whole.load_state_dict(dict(zip(whole.state_dict(), weights.values(), strict=True)))
        except (RuntimeError, ValueError, AttributeError) as error:
            raise ValueError(f"{file} does not hold the weights of timm's {name} ({str(error)[:200]})") from error
    else:
        whole = timm.create_model(name, pretrained=True)
    weights = whole.state_dict()
    first = f"{whole.pretrained_cfg['first_conv']}.weight"
    weights[first] = weights[first].sum(dim=1, keepdim=True)
    model.encoder.load_state_dict({key: weights[key] for key in model.encoder.state_dict()})
