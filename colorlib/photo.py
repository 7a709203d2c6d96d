"""Any image file in, an upright 8-bit sRGB picture out."""

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 100_000_000  # of a photo; a small file can claim to be far more, and fill the memory


class PhotoError(ValueError):
    """A file that cannot be read as a photo; the message names it and says why."""


@contextlib.contextmanager
def open_image(source: str | os.PathLike | bytes | Image.Image) -> Iterator[Image.Image]:
    """Open an image without decoding it, as Pillow does: `with open_image(path) as image`.

    source: as for `read_photo`. Raises like it, also for what goes wrong in the block, such as the decoding.
    """
    name = Path(source).name if isinstance(source, str | os.PathLike) else "the image"
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    try:
        if isinstance(source, Image.Image):
            _check_size(source, name)
            yield source
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
            image = Image.open(source)
        with image:
            _check_size(image, name)
            yield image
    except (FileNotFoundError, PhotoError):
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{name}: too many pixels to open safely ({error})") from error
    except Image.UnidentifiedImageError as error:
        raise PhotoError(f"{name}: not an image file that can be read") from error
    except PermissionError as error:
        raise PhotoError(f"{name}: no permission to read it") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, ImageCms.PyCMSError) as error:
        raise PhotoError(f"{name}: broken image file ({error})") from error


def read_photo(source: str | os.PathLike | bytes | Image.Image, managed: bool = True) -> Image.Image:
    """Read a photo as it is meant to look.

    source: a path, the bytes of a file, or a Pillow image of any mode. Returns a Pillow image of mode "RGB", upright
    (EXIF orientation applied), in sRGB: an ICC profile in the file is applied if it is a sound one. managed: False
    takes RGB values for sRGB whatever their profile says, as scores in the literature do. Gray, palette, CMYK and Lab
    files are converted, 16-bit grays are scaled to 8 bits, and transparent parts are laid on white.
    Raises `PhotoError` for a file that is empty, truncated, no image at all, or larger than `MAX_PIXELS`, and
    `FileNotFoundError` for a missing one. Checked by tests/test_photo.py.
    """
    with open_image(source) as image:
        return _to_rgb(ImageOps.exif_transpose(image), managed)


def read_alpha(source: str | os.PathLike | bytes | Image.Image) -> Image.Image | None:
    """Read a photo's opacity: a Pillow image of mode "L", upright, 255 where opaque; None if it is opaque everywhere.

    source: as for `read_photo`; raises like it. Checked by tests/test_photo.py.
    """
    with open_image(source) as image:
        if not _has_alpha(image):
            return None
        alpha = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def resize_photo(image: Image.Image, size: int) -> np.ndarray:
    """Squeeze the whole photo into a square, without cropping: Pillow's bicubic filter.

    image: mode "RGB", any size. size: side of the square, px. Returns uint8 (size, size, 3).
    """
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def to_tensor(picture: np.ndarray) -> Tensor:
    """Turn a uint8 (H, W, 3) picture into a float32 tensor (3, H, W) with values in [0, 1]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width}×{image.height} px, the limit is {MAX_PIXELS / 1e6:.0f} megapixels"
        raise PhotoError(f"{name}: too many pixels to open safely ({size}): save it smaller first")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _to_rgb(image: Image.Image, managed: bool) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):  # 16-bit gray, which Pillow's convert would cut off at 255
        values = np.asarray(image, dtype=np.float32)
        brightest = 65535.0 if image.mode.startswith("I;16") else values.max()  # other modes do not say their range
        top = 65535.0 if brightest > 255 else 255.0 if brightest > 1 else 1.0
        image = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if _has_alpha(image):
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image).convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    if image.mode == "LAB":
        return _to_srgb(image, ImageCms.createProfile("LAB"))
    if profile and (managed or image.mode == "CMYK"):
        # a broken or foreign one: the plain conversion is close enough
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            return _to_srgb(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    if image.mode == "RGB" and ImageCms.getProfileDescription(profile).startswith("sRGB"):
        return image  # what it is already, to the last bit
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
