"""Coloured pictures as files: whole or not at all, with what the original photo says about itself."""

import errno
import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

from colorlib import __version__
from colorlib.files import replacing
from colorlib.photo import open_image, read_alpha

NOTE = "Colours predicted by colorlib, not recorded."
FORMATS = {
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 95},
    ".tif": {"format": "TIFF"},  # uncompressed: Pillow cannot write all of EXIF into a compressed one
    ".tiff": {"format": "TIFF"},
    ".bmp": {"format": "BMP"},
}
WITH_ALPHA = ("PNG", "WEBP", "TIFF")
BASE, EXIF, GPS = ExifTags.Base, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
# what is still true of the coloured picture; the rest (orientation, thumbnail, a TIFF's layout) is not
KEPT = (BASE.DocumentName, BASE.Make, BASE.Model, BASE.DateTime, BASE.Artist, BASE.Copyright)
STALE = (BASE.MakerNote, BASE.ColorSpace, BASE.ExifInteroperabilityOffset, BASE.ExifImageWidth, BASE.ExifImageHeight)
BROKEN_EXIF = (ValueError, TypeError, LookupError, OverflowError, AttributeError, SyntaxError, OSError, struct.error)


class SaveError(ValueError):
    """A picture that cannot be written; the message names the file, says why and what to do."""


def colorized_name(path: str | os.PathLike) -> str:
    """The file name of a photo's coloured version: "cat.PNG" → "cat-colorized.png"; ".jpg" for an unknown suffix."""
    path = Path(path)
    suffix = path.suffix.lower()
    return f"{path.stem}-colorized{suffix}" if suffix in FORMATS else f"{path.name}-colorized.jpg"


def save_picture(
    path: str | os.PathLike, picture: np.ndarray, source: str | os.PathLike | bytes | Image.Image | None = None
) -> Path:
    """Write a coloured picture; an earlier file of the name is replaced, and stays as it was if anything fails.

    path: its suffix names the format: JPEG, PNG, WebP, TIFF or BMP; missing folders are made. picture: uint8 (H, W, 3).
    source: the photo that was coloured (None: nothing is known of it), from which the file takes transparency, where
    its format can hold it, camera, date, place and authors (EXIF), and resolution (DPI). The file gets sRGB's ICC
    profile, and a description that says that its colours are predicted. Returns the path.
    Raises `SaveError` for another suffix, a picture that the format cannot hold, a folder that cannot be written to,
    and a full disk; `PhotoError` for a broken source. Checked by tests/test_export.py.
    """
    path = Path(path)
    options = FORMATS.get(path.suffix.lower())
    if options is None:
        raise SaveError(f"{path.name}: pictures are saved as {', '.join(FORMATS)}, not as {path.suffix or 'nothing'!r}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise SaveError(f"{path.name}: expected a uint8 picture (H, W, 3), got {picture.dtype} {picture.shape}")
    image, options = Image.fromarray(picture), dict(options)
    options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options["exif"] = _exif(None)
    if source is not None:
        if options["format"] in WITH_ALPHA and (alpha := read_alpha(source)):
            image = _lift_off_white(picture, alpha, path)
        with open_image(source) as original:
            options |= _facts(original)
    try:
        with replacing(path) as temporary:
            image.save(temporary, **options)
    except OSError as error:
        raise SaveError(f"{path.name} cannot be written to {path.parent}: {_reason(error)}") from error
    except (ValueError, struct.error) as error:
        raise SaveError(f"{path.name}: {options['format']} cannot hold this picture ({error}): try .png") from error
    return path


def _reason(error: OSError) -> str:
    words = {
        errno.ENOSPC: "the disk is full; make room, or choose a folder on another disk",
        errno.EDQUOT: "your share of the disk is full; make room, or choose a folder on another disk",
        errno.EFBIG: "the file would be larger than the system allows; choose a smaller format such as .jpg",
        errno.EACCES: "no permission; choose a folder that you may write to",
        errno.EROFS: "the disk is read-only; choose a folder that you may write to",
        errno.EEXIST: "a file has the folder's name; choose another folder",
        errno.ENOTDIR: "a file has the folder's name; choose another folder",
        errno.EISDIR: "a folder has the file's name; choose another name",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }
    return words.get(error.errno, f"{error}; choose another folder")


def _lift_off_white(picture: np.ndarray, alpha: Image.Image, path: Path) -> Image.Image:
    """Give a picture that was laid on white its transparency back: on white, it looks as before."""
    if alpha.size != (picture.shape[1], picture.shape[0]):
        sizes = f"{alpha.width}×{alpha.height} px, the picture {picture.shape[1]}×{picture.shape[0]}"
        raise SaveError(f"{path.name}: expected the photo that was coloured as the source, but it has {sizes}")
    share = np.maximum(np.asarray(alpha), 1)[..., None] / np.float32(255)
    lifted = (255 - (255 - picture) / share).clip(0, 255).round().astype(np.uint8)
    image = Image.fromarray(lifted)
    image.putalpha(alpha)
    return image


def _facts(image: Image.Image) -> dict[str, Any]:
    """EXIF, and DPI if it has a sound one, of a photo."""
    facts = {"exif": _exif(image)}
    dpi = image.info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(math.isfinite(value) and 0 < value < 65536 for value in dpi):
        facts["dpi"] = tuple(float(value) for value in dpi)
    return facts


def _exif(image: Image.Image | None) -> bytes:
    """A new EXIF block with the note, and what is still true of the original's; without that if it is broken."""
    exif = Image.Exif()
    exif[BASE.Software], exif[BASE.ImageDescription] = f"colorlib {__version__}", NOTE
    plain = exif.tobytes()
    if image is None:
        return plain
    try:
        old = image.getexif()
        for tag in KEPT:
            if tag in old:
                exif[tag] = old[tag]
        if words := str(old.get(BASE.ImageDescription, "")).strip():
            exif[BASE.ImageDescription] = words if NOTE in words else f"{words} {NOTE}"
        if details := {tag: value for tag, value in old.get_ifd(EXIF).items() if tag not in STALE}:
            exif[EXIF] = details
        if place := dict(old.get_ifd(GPS)):
            exif[GPS] = place
        block = exif.tobytes()
    except BROKEN_EXIF:
        return plain
    return block if len(block) < 65500 else plain  # more does not fit into a JPEG
