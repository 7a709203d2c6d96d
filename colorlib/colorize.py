"""A photo in, a coloured photo out, at any size.

The network sees the photo squeezed into its own small square and answers with small ab. They are enlarged and
joined with the photo's own L at full size: the eye takes details from lightness, and colour may be coarse. Hints and
a reference photo, if given, change the small ab in between.
"""

import copy
import os
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from colorlib.checkpoint import Config, find_run, load_model
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.environment import pick_device, pick_precision
from colorlib.model import Palette, UNet
from colorlib.photo import PhotoError, read_photo, resize_photo, to_tensor
from colorlib.steer import Hint, spread_hints, take_colors
from colorlib.upsample import Enlarger

__all__ = ["Colorizer", "Photo", "add_color", "colorize_image", "load_model", "open_photo", "palette_strip"]

SWATCH_L = 0.3  # scaled: an L* of 65
Photo = str | os.PathLike | bytes | Image.Image | np.ndarray
RENDER_SIZES = (16, 1024)  # sides of the square in which the network may look at a photo, px
# pixels that are joined at a time: what fits into a processor's cache, a GPU's hands
CPU_STRIP, GPU_STRIP = 2**16, 2**22


class Colorizer:
    """A trained network together with the settings that its pictures need: `Colorizer(*load_model(run))`.

    precision: of the network's arithmetic, see `environment.pick_precision`: what the device is fast at, which moves
    a colour by less than the eye sees, or "float32". `model` stays as it is; `network` is a copy that is made for use,
    with its batch norms folded into its convolutions. Checked by tests/test_colorize.py.
    """

    def __init__(self, model: nn.Module, config: Config, precision: str = "auto"):
        self.model, self.config = model.eval(), config
        self.device = next(model.parameters()).device
        kind = getattr(torch, pick_precision(self.device, precision))
        network = _folded(model) if isinstance(model, UNet) else copy.deepcopy(model)
        self.network = network.to(kind, memory_format=torch.channels_last)

    @classmethod
    def from_run(
        cls, run: str | os.PathLike | None = None, device: str | None = None, precision: str = "auto"
    ) -> "Colorizer":
        """Load a run: its name or its folder; None: the release, as `checkpoint.find_run` finds it.

        device: None takes the best there is. Raises `FileNotFoundError` or `CheckpointError`.
        """
        return cls(*load_model(find_run(run), pick_device(device)), precision)

    def network_input(self, photo: Photo, render_size: int | None = None) -> Tensor:
        """The scaled L that the network sees, (1, 1, S, S) in [−1, 1], S = `render_size` or `config.image_size`.

        At `config.image_size`, the same bits that training and validation feed for the photo. Raises `ValueError` for
        a size outside `RENDER_SIZES`, and like `open_photo`.
        """
        return _small_lab(open_photo(photo), self._side(render_size))[0]

    @torch.inference_mode()
    def predict_ab(self, L: Tensor) -> Tensor:
        """Guess the colours that belong to lightnesses.

        L: (B, 1, H, W) in [−1, 1], of any size: it is resized to the network's, and ab back.
        Returns ab (B, 2, H, W) in (−1, 1), float32, on L's device. Raises `ValueError` for another shape.
        """
        if L.ndim != 4 or L.shape[1] != 1 or not L.numel():
            raise ValueError(f"expected photos' L of shape (B, 1, H, W), got {tuple(L.shape)}")
        side = (self.config.image_size, self.config.image_size)
        small = L.detach().float()
        if L.shape[2:] != side:
            small = F.interpolate(small, side, mode="bicubic", antialias=True).clamp(-1, 1)
        return _resize_ab(self._look(small), L.shape[2:])

    @torch.inference_mode()
    def palette(self, photo: Photo) -> Palette | None:
        """The colours that the network chose for a photo, the most used one first; None if it has no palette.

        photo: see `open_photo`. Returns a `Palette` for one photo, on the CPU: colours (1, K, 2), scaled ab, and shares
        (1, K), which sum to 1. Raises like `open_photo`.
        """
        if not getattr(self.model, "palette", None):
            return None
        L = self.network_input(photo).to(next(self.network.parameters()))
        colors, shares = (values.float().cpu() for values in self.network.paint(L)[1])
        order = shares[0].argsort(descending=True)
        return Palette(colors[:, order], shares[:, order])

    @torch.inference_mode()
    def predict(
        self,
        photo: Photo,
        *,
        render_size: int | None = None,
        hints: Sequence[Hint] = (),
        reference: Photo | None = None,
    ) -> Tensor:
        """The small colours of a photo, which `add_color` joins with its L at full size.

        photo: see `open_photo`; its colours are not looked at. render_size: side of the square in which the network
        sees it, px (None: the side it was trained on). hints: colours for points, which `steer.spread_hints` spreads.
        reference: a photo whose colours the result takes on, by `steer.take_colors`.
        Returns scaled ab (1, 2, S, S), float32. Raises `ValueError` for a render size outside `RENDER_SIZES`, and like
        `open_photo` and `steer.hint_ab`.
        """
        L = self.network_input(photo, render_size)
        ab = self._look(L.to(self.device))
        if reference is not None:
            example_L, example_ab = _small_lab(open_photo(reference), self._side(render_size))
            guess = self._look(example_L.to(self.device))
            ab = take_colors(L, ab.cpu(), example_L, guess.cpu(), example_ab).to(ab)
        return spread_hints(L, ab.cpu(), hints).to(ab) if hints else ab

    def colorize(
        self,
        photo: Photo,
        saturation: float = 1.0,
        *,
        render_size: int | None = None,
        hints: Sequence[Hint] = (),
        reference: Photo | None = None,
    ) -> np.ndarray:
        """Colour a photo at its own size, its lightness kept: `predict`, then `add_color`.

        saturation: factor on a* and b*, 0 for gray. Returns uint8 (H, W, 3). Raises like both.
        """
        image = open_photo(photo)
        ab = self.predict(image, render_size=render_size, hints=hints, reference=reference)
        return add_color(image, ab, saturation)

    def _look(self, L: Tensor) -> Tensor:
        """The network's ab for L of any size that it is shown in, float32."""
        L = L.to(next(self.network.parameters()))
        ab = self.network(L).float()
        if self.config.test_flips:
            ab = (ab + self.network(L.flip(-1)).float().flip(-1)) / 2
        return ab

    def _side(self, render_size: int | None) -> int:
        side = self.config.image_size if render_size is None else render_size
        low, high = RENDER_SIZES
        if render_size is not None and (type(side) is not int or not low <= side <= high):
            raise ValueError(f"render_size must be a whole number, {low} to {high} px, got {side!r}; None is the usual")
        return side


def colorize_image(photo: Photo, run: str | os.PathLike | None = None, saturation: float = 1.0) -> np.ndarray:
    """Colour one photo with a run (None: the release); keep a `Colorizer` to colour several."""
    return Colorizer.from_run(run).colorize(photo, saturation)


@torch.inference_mode()
def add_color(photo: Photo, ab: Tensor, saturation: float = 1.0) -> np.ndarray:
    """Give a photo's own L the colours ab.

    ab: (1, 2, h, w), scaled, of any size: enlarged to the photo's along the edges of L (see `upsample.Enlarger`), or
    shrunk with antialiasing; on any device, which does the work. saturation: factor on ab, 0 or more. Returns uint8
    (H, W, 3) of the photo's size; L* changes only where sRGB lacks the colour. The photo is joined strip by strip:
    12 megapixels of float32 Lab at once would be 144 MB, and slow. Raises `ValueError` for a negative saturation,
    another shape of ab, and like `open_photo`.
    """
    if not 0 <= saturation < float("inf"):
        raise ValueError(f"saturation must be 0 (gray) or more, 1 for the network's own; got {saturation}")
    if ab.ndim != 4 or ab.shape[:2] != (1, 2) or not ab.numel():
        raise ValueError(f"expected the colours of one photo, ab (1, 2, h, w), got {tuple(ab.shape)}")
    image = open_photo(photo)
    width, height = image.size
    ab = _resize_ab(ab * saturation, (min(ab.shape[2], height), min(ab.shape[3], width)))
    guide = image.resize((ab.shape[3], ab.shape[2]), Image.Resampling.BICUBIC)
    enlarger = Enlarger(_scaled_L(guide, ab)[None], ab, height, width)
    colored = np.empty((height, width, 3), np.uint8)
    rows = max(1, (CPU_STRIP if ab.device.type == "cpu" else GPU_STRIP) // width)
    for top in range(0, height, rows):
        L = _scaled_L(image.crop((0, top, width, min(top + rows, height))), ab)
        colored[top : top + rows] = lab_to_rgb_image(L, enlarger.strip(L, top))
    return colored


def palette_strip(colors: Tensor, shares: Tensor, width: int = 256, height: int = 24) -> np.ndarray:
    """Draw a palette as a strip of swatches, each as wide as its share of the picture.

    colors: scaled ab (K, 2). shares: (K,), summing to 1. Swatches have an L* of 65; colours that sRGB lacks there are
    clamped. Returns uint8 (height, width, 3). Raises `ValueError` for other shapes.
    """
    if colors.ndim != 2 or colors.shape[1] != 2 or shares.shape != colors.shape[:1]:
        raise ValueError(f"expected colors (K, 2) and shares (K,), got {tuple(colors.shape)}, {tuple(shares.shape)}")
    rgb = lab_to_rgb_image(torch.full((1, 1, len(colors)), SWATCH_L), colors.cpu().T[:, None])[0]  # (K, 3)
    ends = (shares.cpu().double().cumsum(dim=0) / shares.sum().item() * width).round().long()
    column = torch.searchsorted(ends, torch.arange(width), right=True).clamp(max=len(colors) - 1)
    return np.tile(rgb[column], (height, 1, 1))


def open_photo(photo: Photo) -> Image.Image:
    """Any photo as an upright Pillow image of mode "RGB".

    photo: a path, the bytes of a file, a Pillow image, or a uint8 array (H, W, 3) or (H, W).
    Raises `PhotoError` for what cannot be read as a photo, `FileNotFoundError` for a missing file.
    """
    if isinstance(photo, np.ndarray):
        gray_or_rgb = photo.ndim == 2 or (photo.ndim == 3 and photo.shape[2] == 3)
        if photo.dtype != np.uint8 or not gray_or_rgb or not photo.size:
            raise PhotoError(f"expected a uint8 array (H, W, 3) or (H, W), got {photo.dtype} {photo.shape}")
        photo = Image.fromarray(photo)
    elif isinstance(photo, str | os.PathLike):
        if not os.path.exists(photo):
            raise FileNotFoundError(f"there is no photo {os.fspath(photo)!r}: check the path")
        if os.path.isdir(photo):
            raise PhotoError(f"{os.fspath(photo)!r} is a folder: give the path of one photo")
    elif not isinstance(photo, bytes | Image.Image):
        kind = type(photo).__name__
        raise PhotoError(f"expected a path, a file's bytes, a Pillow image or an array, got {kind}")
    return read_photo(photo)


def _scaled_L(image: Image.Image, like: Tensor) -> Tensor:
    """L (1, H, W) of a picture, on the device of `like` and in its precision."""
    return encode_lab(rgb_to_lab(to_tensor(np.asarray(image)).to(like)))[0]


def _small_lab(image: Image.Image, side: int) -> tuple[Tensor, Tensor]:
    """Scaled L (1, 1, side, side) and ab (1, 2, side, side) of a photo squeezed into a square."""
    L, ab = encode_lab(rgb_to_lab(to_tensor(resize_photo(image, side))))
    return L[None], ab[None]


def _folded(model: UNet) -> UNet:
    """A copy without batch norms: in use, each is a fixed factor and shift of the convolution before it."""
    model = copy.deepcopy(model).eval()
    for block in [*model.down, *model.up]:
        block.conv = fuse_conv_bn_eval(block.conv, block.norm, isinstance(block.conv, nn.ConvTranspose2d))
        block.norm = nn.Identity()
    for block in (block for blocks in model.deeper for block in blocks):
        block.conv1, block.norm1 = fuse_conv_bn_eval(block.conv1, block.norm1), nn.Identity()
        block.conv2, block.norm2 = fuse_conv_bn_eval(block.conv2, block.norm2), nn.Identity()
    return model


def _resize_ab(ab: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear; antialiased where it shrinks."""
    return ab if ab.shape[2:] == size else F.interpolate(ab, size, mode="bilinear", antialias=True)
