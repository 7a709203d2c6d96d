"""A photo in, a coloured photo out, at any size.

The network sees the photo squeezed into its own small square and answers with small ab. They are enlarged and
joined with the photo's own L at full size: the eye takes details from lightness, and colour may be coarse.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from colorlib.checkpoint import Config, find_run, load_model
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.environment import pick_device
from colorlib.photo import PhotoError, read_photo, resize_photo, to_tensor

__all__ = ["Colorizer", "Photo", "add_color", "colorize_image", "load_model", "open_photo"]

Photo = str | os.PathLike | bytes | Image.Image | np.ndarray


class Colorizer:
    """A trained network together with the settings that its pictures need: `Colorizer(*load_model(run))`.

    Checked by tests/test_colorize.py.
    """

    def __init__(self, model: nn.Module, config: Config):
        self.model, self.config = model.eval(), config

    @classmethod
    def from_run(cls, run: str | os.PathLike | None = None, device: str | None = None) -> "Colorizer":
        """Load a run: its name or its folder; None: the newest one, as `checkpoint.find_run` finds it.

        device: None takes the best there is. Raises `FileNotFoundError` or `CheckpointError`.
        """
        return cls(*load_model(find_run(run), pick_device(device)))

    def network_input(self, photo: Photo) -> Tensor:
        """The scaled L that the network sees, (1, 1, S, S) in [−1, 1], S = `config.image_size`.

        The same bits that training and validation feed for the photo. Raises like `open_photo`.
        """
        small = resize_photo(open_photo(photo), self.config.image_size)
        return encode_lab(rgb_to_lab(to_tensor(small)))[0][None]

    @torch.inference_mode()
    def predict_ab(self, L: Tensor) -> Tensor:
        """Guess the colours that belong to a lightness.

        L: (1, 1, H, W) in [−1, 1], of any size: it is resized to the network's, and ab back.
        Returns ab (1, 2, H, W) in (−1, 1), float32, on the CPU. Raises `ValueError` for another shape.
        """
        if L.ndim != 4 or L.shape[:2] != (1, 1) or not L.numel():
            raise ValueError(f"expected one photo's L of shape (1, 1, H, W), got {tuple(L.shape)}")
        side = (self.config.image_size, self.config.image_size)
        small = L.detach().float().cpu()
        if L.shape[2:] != side:
            small = F.interpolate(small, side, mode="bicubic", antialias=True).clamp(-1, 1)
        ab = self.model(small.to(next(self.model.parameters()))).float().cpu()
        return _resize_ab(ab, L.shape[2:])

    def colorize(self, photo: Photo, saturation: float = 1.0) -> np.ndarray:
        """Colour a photo at its own size, its lightness kept.

        photo: see `open_photo`; its colours are not looked at. saturation: factor on a* and b*, 0 for gray.
        Returns uint8 (H, W, 3). Raises like `open_photo` and `add_color`.
        """
        image = open_photo(photo)
        return add_color(image, self.predict_ab(self.network_input(image)), saturation)


def colorize_image(photo: Photo, run: str | os.PathLike | None = None, saturation: float = 1.0) -> np.ndarray:
    """Colour one photo with a run (None: the newest); keep a `Colorizer` to colour several."""
    return Colorizer.from_run(run).colorize(photo, saturation)


def add_color(photo: Photo, ab: Tensor, saturation: float = 1.0) -> np.ndarray:
    """Give a photo's own L the colours ab.

    ab: (1, 2, h, w), scaled, of any size: resized to the photo's. saturation: factor on ab, 0 or more.
    Returns uint8 (H, W, 3) of the photo's size; L* changes only where sRGB lacks the colour.
    Raises `ValueError` for a negative saturation, and like `open_photo`.
    """
    if not 0 <= saturation < float("inf"):
        raise ValueError(f"saturation must be 0 (gray) or more, 1 for the network's own; got {saturation}")
    L = encode_lab(rgb_to_lab(to_tensor(np.asarray(open_photo(photo)))))[0]
    return lab_to_rgb_image(L, _resize_ab(ab * saturation, L.shape[1:])[0])


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


def _resize_ab(ab: Tensor, size: torch.Size) -> Tensor:
    """Bilinear; antialiased where it shrinks."""
    return ab if ab.shape[2:] == size else F.interpolate(ab, size, mode="bilinear", antialias=True)
