"""A photo in, a colored photo out, at any size; start reading at `Colorizer.colorize`, what it calls follows.

The network sees the photo squeezed into a small square and answers with small ab. They are upsampled and joined with
the photo's own L: the eye takes details from lightness, and color may be coarse.
"""

import copy
import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from skimage.exposure import rescale_intensity
from torch import Tensor, nn

from colorlib.checkpoint import find_run, load_model
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.colorize.hints import Color, Hint, recolor_palette, spread_hints
from colorlib.colorize.transfer import transfer_colors
from colorlib.config import Config
from colorlib.model import UNet
from colorlib.palette import Palette
from colorlib.photo import Photo, is_deep, read_photo, resize_photo, to_tensor
from colorlib.system import pick_device, pick_precision

RENDER_SIZES = range(16, 1025)  # sides of the square in which the network may look at a photo, px
CPU_STRIP, GPU_STRIP = 2**16, 2**22  # pixels joined at a time: what a CPU's cache holds, what keeps a GPU busy
TONE_ENDS = (0.5, 99.5)  # percentiles of a faded print's tones that become black and white
LEAST_RANGE = 1 / 8  # of all levels, between those tones: 32 of 255; less is noise, or a blank page
EPS = 0.1  # the guided filter's ε, added to the variance of scaled L: the least mean error on validation photos


class Colorizer:
    """A trained network together with the settings that its photos need: ``Colorizer(*load_model(run))``.

    Args:
        model: A `UNet`, or any module with parameters that maps L (B, 1, H, W) to ab (B, 2, H, W). It stays as it is;
            `network` is a copy for use, in the precision.
        config: Its settings.
        precision: Of the arithmetic: "auto" (what the device is fast at, no difference to the eye), "float32", …
    """

    def __init__(self, model: nn.Module, config: Config, precision: str = "auto"):
        self.model, self.config = model.eval(), config
        self.device = next(model.parameters()).device
        self.dtype = getattr(torch, pick_precision(self.device, precision))
        self.network = copy.deepcopy(self.model).to(self.dtype, memory_format=torch.channels_last)

    @classmethod
    def from_run(cls, run: str | os.PathLike | None = None, device: str | None = None, precision: str = "auto") -> Self:
        """Load a run by name or folder (None: the release) to a device (None: the best); errors as for `load_model`."""
        return cls(*load_model(find_run(run), pick_device(device)), precision)

    def colorize(self, photo: Photo, saturation: float = 1.0, restore: bool = False, **options: Any) -> np.ndarray:
        """Color a photo at its own size, uint8 (H, W, 3), or uint16 if it is of 16 bits; its lightness is kept.

        Args:
            photo: A path, a file's bytes, a Pillow image, or a uint8 array (H, W, 3) or (H, W). 16-bit gray counts with
                8 bits, but for what `read_deep_photo` gives: a uint16 array (H, W).
            saturation: Factor on a* and b*, 0 for gray.
            restore: Stretch its tones first, see `restore_tone`.
            **options: As for `predict`.

        Raises:
            ValueError: If an option is out of its range, or a photo cannot be read (`PhotoError`).
        """
        image = restore_tone(photo) if restore else photo if is_deep(photo) else read_photo(photo)
        return add_color(image, self.predict(image, **options), saturation)

    @torch.inference_mode()
    def predict(
        self, photo: Photo, *, vividness: float | None = None, render_size: int | None = None,
        recolor: Sequence[tuple[Color, Color]] = (), hints: Sequence[Hint] = (), reference: Photo | None = None,
    ) -> Tensor:  # fmt: skip
        """Guess the small colors that `add_color` takes: scaled ab (1, 2, S, S), S the render size.

        Args:
            photo: As for `colorize`.
            vividness: From the mean (0) to the likeliest (1) of each pixel's palette colors; None: the network's own.
            render_size: Side of the square in which the network sees the photo, px; None: `config.side_in_use`.
            recolor: Pairs of colors: what wears the first one of the palette gets the second, see `recolor_palette`.
            hints: Colors for single points, see `spread_hints`.
            reference: A photo whose colors the result takes on, see `transfer_colors`.
        """
        vividness = self.config.vividness if vividness is None else vividness
        if not 0 <= vividness <= 1:
            raise ValueError(f"vividness must be between 0 and 1, got {vividness}")
        L = self.network_input(photo, render_size)
        ab = self._run_network(L, vividness)
        if reference is not None:
            reference_L, reference_ab = _scaled_lab(resize_photo(read_photo(reference), L.shape[-1]))
            guess = self._run_network(reference_L, vividness)
            ab = transfer_colors(L, _finite(ab), reference_L, _finite(guess), reference_ab)
        if recolor:
            palette = self.palette(photo)
            if palette is None:
                raise ValueError("this network has no palette whose colors could be changed: choose another run")
            change = recolor_palette(palette, recolor).paint(vividness) - palette.paint(vividness)
            # at the size at which the palette was chosen, as the network paints it: an odd side
            # has one pixel less than twice the palette's
            side = self.config.side_in_use
            change = F.interpolate(change.to(ab), scale_factor=2, mode="bilinear")
            ab = (ab + _resize_ab(change[..., :side, :side], ab.shape[2:])).clamp(-1, 1)
        return spread_hints(L, ab, hints)

    def network_input(self, photo: Photo, render_size: int | None = None) -> Tensor:
        """Make the scaled L that the network sees, (1, 1, S, S), S the render size; by default as in training."""
        if render_size is not None and render_size not in RENDER_SIZES:
            raise ValueError(f"render_size must be a whole number, 16 to 1024 px, or None; got {render_size!r}")
        side = int(render_size or self.config.side_in_use)
        return _scaled_lab(resize_photo(read_photo(photo), side))[0]

    def _run_network(self, L: Tensor, vividness: float) -> Tensor:
        """The network's ab for L of any size, float32, on its device."""
        option = {"vividness": vividness} if isinstance(self.network, UNet) else {}
        L = L.to(self.device, self.dtype)
        if not self.config.flip_tta:
            return self.network(L, **option).float()
        ab, mirrored = self.network(torch.cat([L, L.flip(-1)]), **option).float().chunk(2)
        return (ab + mirrored.flip(-1)) / 2

    @torch.inference_mode()
    def predict_ab(self, L: Tensor) -> Tensor:
        """Guess scaled ab (B, 2, H, W), on the network's device, for L (B, 1, H, W) in [−1, 1] of any size."""
        if L.ndim != 4 or L.shape[1] != 1 or not L.numel():
            raise ValueError(f"expected photos' L of shape (B, 1, H, W), got {tuple(L.shape)}")
        small, side = L.float(), self.config.side_in_use
        if L.shape[2:] != (side, side):
            small = F.interpolate(small, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        return _resize_ab(self._run_network(small, self.config.vividness), L.shape[2:])

    @torch.inference_mode()
    def palette(self, photo: Photo) -> Palette | None:
        """Get the colors that the network chose for a photo, the most used one first; None if it has no palette."""
        if not getattr(self.model, "palette", None):
            return None
        _, palette = self.network.forward_with_palette(self.network_input(photo).to(self.device, self.dtype))
        palette = Palette(*(values.float().cpu() for values in palette))
        return Palette(*(values[:, palette.shares[0].argsort(descending=True)] for values in palette))


def tone_ends(photo: Photo) -> tuple[float, float]:
    """Find the tones of a faded or tinted photo that shall become black and white, in its own levels.

    A photo without any range to speak of, such as a blank page, has the ends that change nothing:
    what would be stretched is its noise.
    """
    gray = _gray_levels(photo)
    top = np.iinfo(gray.dtype).max
    low, high = np.percentile(gray, TONE_ENDS)
    return (float(low), float(high)) if high - low >= LEAST_RANGE * top else (0.0, float(top))


def restore_tone(photo: Photo, ends: tuple[float, float] | None = None) -> Image.Image | np.ndarray:
    """Stretch the tones of a faded or tinted photo from black to white.

    Returns a gray picture of mode "RGB", of its size; for 16-bit gray from `read_deep_photo`, a
    uint16 array (H, W). `ends` are the tones that become black and white; None: its `tone_ends`.
    """
    gray = _gray_levels(photo)
    if ends is None:
        ends = tone_ends(gray)
    stretched = rescale_intensity(gray, ends, (0, np.iinfo(gray.dtype).max))
    stretched = stretched.round().astype(gray.dtype)
    return stretched if is_deep(photo) else Image.fromarray(stretched).convert("RGB")


def _gray_levels(photo: Photo) -> np.ndarray:
    """The tones of a photo: uint8 (H, W), or uint16 for 16-bit gray."""
    return photo if is_deep(photo) else np.asarray(read_photo(photo).convert("L"))


@torch.inference_mode()
def add_color(photo: Photo, ab: Tensor, saturation: float = 1.0) -> np.ndarray:
    """Give a photo's own L the colors ab, at its size; L* changes only where sRGB lacks the color.

    The result is uint8 (H, W, 3), or uint16 for a photo of `read_deep_photo` with 16 bits.

    The scaled ab (1, 2, h, w) may have any size: `GuidedUpsampler` enlarges it, on its device. It goes strip by strip:
    12 megapixels of Lab at once would be 144 MB, and slow.

    Raises:
        ValueError: If the saturation is out of its range, the colors times the saturation are not
            finite, or ab has another shape.
    """
    if not 0 <= saturation < float("inf"):
        raise ValueError(f"saturation must be 0 (gray) or more, 1 for the network's own; got {saturation}")
    if ab.ndim != 4 or ab.shape[:2] != (1, 2) or not ab.numel():
        raise ValueError(f"expected the colors of one photo, ab (1, 2, h, w), got {tuple(ab.shape)}")
    image = read_photo(photo)
    width, height = image.size
    ab = _finite(ab * saturation).clamp(-1, 1)  # beyond lies no color of sRGB
    ab = _resize_ab(ab, (min(ab.shape[2], height), min(ab.shape[3], width)))
    small = image.resize((ab.shape[3], ab.shape[2]), Image.Resampling.BICUBIC)
    upsampler = GuidedUpsampler(_scaled_lab(small, ab.device)[0], ab, height, width)
    deep = is_deep(photo)
    colored = np.empty((height, width, 3), np.uint16 if deep else np.uint8)
    rows = max(1, (CPU_STRIP if ab.device.type == "cpu" else GPU_STRIP) // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        L = _scaled_lab(photo[top:bottom] if deep else image.crop((0, top, width, bottom)), ab.device)[0]
        colored[top:bottom] = lab_to_rgb_image(L, upsampler.strip(L, top), deep)
    return colored


class GuidedUpsampler:
    """Small colors enlarged to a photo's size, a few rows at a time, so that they end where its lightness does.

    The linear model of the guided filter (He et al. 2010, doi 10.1007/978-3-642-15549-9_1; fast form: He and Sun 2015,
    arXiv 1505.00996): a line through each 3×3 of the small picture tells how much color goes with a step of L. The
    result is bilinear ab plus that slope times the detail of L that the small picture lacks.

    It takes the small picture's scaled L (1, 1, h, w) and ab (1, 2, h, w), and the photo's height and width, px.
    """

    def __init__(self, L: Tensor, ab: Tensor, height: int, width: int):
        self.height, self.width = height, width
        mean_L, mean_ab = _mean_of_3x3(L), _mean_of_3x3(ab)
        variance = (_mean_of_3x3(L * L) - mean_L * mean_L).clamp(min=0)
        slope = (_mean_of_3x3(L * ab) - mean_L * mean_ab) / (variance + EPS)
        self.small = torch.cat([ab, _mean_of_3x3(slope), L], dim=1)  # (1, 5, h, w)

    def strip(self, L: Tensor, top: int) -> Tensor:
        """Enlarge the colors of n rows from `top` on, given their L (1, 1, n, width): scaled ab (1, 2, n, width)."""
        last, count = self.small.shape[2] - 1, L.shape[2]
        position = (torch.arange(top, top + count, dtype=torch.float64) + 0.5) * (last + 1) / self.height - 0.5
        position = position.clamp(0, last).to(L)
        above = position.long()
        rows = self.small[:, :, above].lerp(self.small[:, :, (above + 1).clamp(max=last)], (position - above)[:, None])
        rows = F.interpolate(rows, (count, self.width), mode="bilinear")
        return (rows[:, :2] + rows[:, 2:4] * (L - rows[:, 4:])).clamp(-1, 1)


def _scaled_lab(picture: np.ndarray | Image.Image, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Scaled L (1, 1, H, W) and ab (1, 2, H, W) of an RGB picture."""
    return encode_lab(rgb_to_lab(to_tensor(picture)[None].to(device)))


def _finite(ab: Tensor) -> Tensor:
    """Return the colors as they came; NaN would be painted black, and infinity in one loud color."""
    if not ab.isfinite().all():
        reasons = "lower the saturation, or choose another run, for its weights may be damaged"
        raise ValueError(f"expected finite colors, got NaN or infinite ones: {reasons}")
    return ab


def _resize_ab(ab: Tensor, size: tuple[int, int]) -> Tensor:
    return ab if ab.shape[2:] == size else F.interpolate(ab, size, mode="bilinear", antialias=True)


def _mean_of_3x3(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
