"""Any image file in, an upright 8-bit sRGB picture out."""

import contextlib
import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class PhotoError(ValueError):
    """A file that cannot be read as a photo; the message names it and says why."""


def read_photo(source: str | os.PathLike | bytes | Image.Image) -> Image.Image:
    """Read a photo as it is meant to look.

    source: a path, the bytes of a file, or a Pillow image of any mode. Returns a Pillow image of mode "RGB", upright
    (EXIF orientation applied). Gray, palette and CMYK files are converted (CMYK by its ICC profile if it has a sound
    one), 16-bit grays are scaled to 8 bits, and transparent parts are laid on white.
    Raises `PhotoError` for a file that is empty, truncated, no image at all, or larger than Pillow's safety limit
    (about 179 megapixels), and `FileNotFoundError` for a missing one. Checked by tests/test_photo.py.
    """
    name = Path(source).name if isinstance(source, str | os.PathLike) else "the image"
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(ImageOps.exif_transpose(source))
        with Image.open(source) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{name}: too many pixels to open safely ({error})") from error
    except Image.UnidentifiedImageError as error:
        raise PhotoError(f"{name}: not an image file that can be read") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PhotoError(f"{name}: broken image file ({error})") from error


def resize_photo(image: Image.Image, size: int) -> np.ndarray:
    """Squeeze the whole photo into a square, without cropping: Pillow's bicubic filter.

    image: mode "RGB", any size. size: side of the square, px. Returns uint8 (size, size, 3).
    """
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def to_tensor(picture: np.ndarray) -> Tensor:
    """Turn a uint8 (H, W, 3) picture into a float32 tensor (3, H, W) with values in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16-bit gray, which Pillow's convert would cut off at 255
        values = np.asarray(image, dtype=np.float64)
        brightest = 65535.0 if image.mode.startswith("I;16") else values.max()  # other modes do not say their range
        top = 65535.0 if brightest > 255 else 255.0 if brightest > 1 else 1.0
        return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8)).convert("RGB")
    if image.mode == "CMYK" and (profile := image.info.get("icc_profile")):
        with contextlib.suppress(ImageCms.PyCMSError):  # a broken profile: the plain conversion below is close enough
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")
