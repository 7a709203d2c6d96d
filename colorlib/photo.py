"""Any image file in, an upright 8-bit sRGB picture out."""

import contextlib
import io
import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms
from PIL.ExifTags import Base
from torch import Tensor

Photo = str | os.PathLike | bytes | Image.Image | np.ndarray
FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "AVIF", "HEIF"]  # all other decoders stay closed
with contextlib.suppress(ModuleNotFoundError):  # HEIF is an extra: pip install '.[heic]'
    import pillow_heif

    pillow_heif.register_heif_opener()
Image.init()
FORMATS = [kind for kind in FORMATS if kind in Image.OPEN]  # an old Pillow has no AVIF
PHOTO_SUFFIXES = tuple(suffix for suffix, kind in Image.EXTENSION.items() if kind in FORMATS)
TURN = Image.Transpose
TURNS = {  # what EXIF's orientation numbers ask for
    2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE, 6: TURN.ROTATE_270,
    7: TURN.TRANSVERSE, 8: TURN.ROTATE_90,
}  # fmt: skip
MAX_PIXELS = 100_000_000  # of a photo; a small file can claim to be far more, and fill the memory


class PhotoError(ValueError):
    """A file that cannot be read as a photo; the message names it and says why."""


@contextlib.contextmanager
def open_image(source: Photo) -> Iterator[Image.Image]:
    """Open an image for a `with` block, without decoding it; takes and raises what `read_photo` does.

    `PhotoError` also tells what goes wrong in the block, such as the decoding.
    """
    is_path = isinstance(source, str | os.PathLike)
    name = Path(source).name if is_path else "the image"
    if isinstance(source, np.ndarray):
        gray_or_rgb = source.ndim == 2 or (source.ndim == 3 and source.shape[2] == 3)
        if not ((source.dtype == np.uint8 and gray_or_rgb) or is_deep(source)) or not source.size:
            kinds = "a uint8 array (H, W, 3) or (H, W), or a uint16 one (H, W)"
            raise PhotoError(f"expected {kinds}, got {source.dtype} {source.shape}")
        source = Image.fromarray(source)
    elif isinstance(source, bytes):
        source = io.BytesIO(source)
    elif is_path and os.path.isdir(source):
        raise PhotoError(f"{os.fspath(source)!r} is a folder: give the path of one photo")
    elif is_path and os.path.exists(source) and not os.path.isfile(source):  # reading a pipe would wait forever
        raise PhotoError(f"{name} is a pipe, a socket or a device: give the path of one photo")
    elif not is_path and not isinstance(source, Image.Image):
        raise PhotoError(f"expected a path, a file's bytes, a Pillow image or an array, got {type(source).__name__}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
            is_open = isinstance(source, Image.Image)
            opened = contextlib.nullcontext(source) if is_open else Image.open(source, formats=FORMATS)
        with opened as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width}×{image.height} px, the limit is {MAX_PIXELS / 1e6:.0f} megapixels"
                raise PhotoError(f"{name}: too many pixels to open safely ({size}): save it smaller first")
            yield image
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no photo {os.fspath(source)!r}: check the path") from error
    except PhotoError:
        raise
    except Exception as error:  # decoders raise many kinds for files that are broken
        reasons = {
            Image.DecompressionBombError: f"too many pixels to open safely ({error})",
            Image.UnidentifiedImageError: "not an image file that can be read",
            PermissionError: "no permission to read it",
        }
        raise PhotoError(f"{name}: {reasons.get(type(error), f'broken image file ({error})')}") from error


def read_photo(source: Photo, managed: bool = True) -> Image.Image:
    """Read a photo as it is meant to look.

    Gray, palette, CMYK and Lab files are converted, 16-bit grays are scaled to 8 bits, and transparent parts are laid
    on white.

    Args:
        source: A path, the bytes of a file, a Pillow image of any mode, or an array: uint8 (H, W, 3) or (H, W), or
            uint16 (H, W).
        managed: Apply the file's ICC profile, if it is a sound one; False takes RGB values for sRGB whatever their
            profile says, as scores in the literature do.

    Returns:
        A Pillow image of mode "RGB", upright (EXIF orientation applied), in sRGB; `source` itself if it is one.

    Raises:
        PhotoError: If the file is empty, truncated, no image at all, or larger than `MAX_PIXELS`.
        FileNotFoundError: If there is none.
    """
    with open_image(source) as image:
        rgb = _to_rgb(_upright(image), managed)
        rgb.load()
    if rgb is not source:
        rgb.info = {}  # whoever reads it again must not turn it, or apply its profile, a second time
    return rgb


def read_deep_photo(source: Photo) -> Image.Image | np.ndarray:
    """Read a photo as `read_photo` does, but one of 16-bit gray with all its bits: uint16 (H, W)."""
    with open_image(source) as image:
        is_gray16 = image.mode.startswith("I;16") and not image.has_transparency_data
        if is_gray16:
            gray = np.asarray(_upright(image)) / 257
            ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
            ramp.info["icc_profile"] = image.info.get("icc_profile")
            tones = np.asarray(_to_rgb(ramp, managed=True))[0, :, 0]  # what the profile makes of each 8-bit level
    return (np.interp(gray, range(256), tones) * 257).round().astype(np.uint16) if is_gray16 else read_photo(source)


def is_deep(photo: Photo) -> bool:
    """Whether a photo is 16-bit gray in an array, as `read_deep_photo` reads it."""
    return isinstance(photo, np.ndarray) and photo.dtype == np.uint16 and photo.ndim == 2


def read_alpha(source: Photo) -> Image.Image | None:
    """Read a photo's opacity: a Pillow image of mode "L", upright, 255 where opaque; None if all of it is opaque."""
    with open_image(source) as image:
        if not image.has_transparency_data:
            return None
        alpha = _upright(image).convert("RGBA").getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def short_side(source: Photo) -> float:
    """The shorter side of a photo, px, without decoding it; infinite for what cannot be read."""
    with contextlib.suppress(PhotoError, OSError), open_image(source) as image:  # whoever reads it will say why
        return min(image.size)
    return math.inf


def count_pictures(source: Photo) -> int:
    """How many pictures a file holds, of which `read_photo` reads the first: frames, pages; 1 for what is broken."""
    with contextlib.suppress(PhotoError, OSError), open_image(source) as image:  # whoever reads it will say why
        return getattr(image, "n_frames", 1) if image.format != "MPO" else 1  # phones add previews and depths
    return 1


def resize_photo(image: Image.Image, size: int) -> np.ndarray:
    """Squeeze a whole RGB photo into a square, by Pillow's bicubic filter, without cropping: uint8 (size, size, 3)."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def to_tensor(picture: np.ndarray) -> Tensor:
    """Turn a uint8 (H, W, 3) picture, or uint16 gray (H, W), into a float32 tensor (3, H, W), values in [0, 1]."""
    if is_deep(picture):
        return torch.from_numpy(picture / np.float32(65535)).expand(3, -1, -1)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def _upright(image: Image.Image) -> Image.Image:
    name, image.filename = getattr(image, "filename", ""), ""  # or Pillow maps a TIFF into memory, and garbles its turn
    image.load()  # with which Pillow turns a TIFF, and takes the note away
    image.filename = name
    if image.format == "TIFF" and image.mode.startswith("I;16"):  # perhaps of 12 bits, perhaps with 0 for white
        top, values = 2 ** image.tag_v2[Base.BitsPerSample][0] - 1, np.asarray(image).astype(np.float32)
        values = top - values if image.tag_v2.get(Base.PhotometricInterpretation) == 0 else values
        mended, mended.info = Image.fromarray((values * (65535 / top)).round().astype(np.uint16)), image.info
        return mended
    with contextlib.suppress(Exception):  # KeyError: nothing to do; broken EXIF raises many kinds
        return image.transpose(TURNS[image.getexif()[Base.Orientation]])
    return image


def _to_rgb(image: Image.Image, managed: bool) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):  # 16-bit gray, which Pillow's convert would cut off at 255
        values = np.asarray(image, dtype=np.float32)
        brightest = 65535.0 if image.mode.startswith("I;16") else values.max()  # other modes do not say their range
        top = 65535.0 if brightest > 255 else 255.0 if brightest > 1 else 1.0
        image = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    elif image.mode not in ("RGB", "L", "CMYK", "LAB"):
        image = image.convert("RGB")
    if image.mode == "LAB":
        return _to_srgb(image, ImageCms.createProfile("LAB"))
    if profile and (managed or image.mode == "CMYK"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # broken or foreign: the plain conversion will do
            return _to_srgb(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    if image.mode == "RGB" and ImageCms.getProfileDescription(profile).startswith("sRGB"):
        return image  # what it is already, to the last bit
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
