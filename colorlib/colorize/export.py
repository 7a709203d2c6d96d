"""Colored pictures as files: whole or not at all, with what the original photo says about itself."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from colorlib import __version__
from colorlib.photo import Photo, open_image, read_alpha
from colorlib.system import replacing

NOTE = "Colors predicted by colorlib, not recorded."
FORMATS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")  # by suffix
QUALITY = {"quality": 95, "subsampling": 0}  # and TIFF uncompressed: Pillow cannot put all of EXIF into another one
BASE, EXIF, GPS = ExifTags.Base, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
# what is still true of the colored picture; the rest (orientation, thumbnail, a TIFF's layout) is not
KEPT = (BASE.DocumentName, BASE.Make, BASE.Model, BASE.DateTime, BASE.Artist, BASE.Copyright)
STALE = (BASE.MakerNote, BASE.ColorSpace, BASE.ExifInteroperabilityOffset, BASE.ExifImageWidth, BASE.ExifImageHeight)


class SaveError(ValueError):
    """A picture that cannot be written; the message names the file, says why and what to do."""


def colorized_name(path: str | os.PathLike, clip: bool = False) -> str:
    """Name the file of a photo's colored version, or of a clip's.

    "cat.PNG" → "cat-colorized.png", "cat.gif" → "cat.gif-colorized.jpg", "cat.mov", a clip → "cat.mov-colorized.mp4".
    """
    path, (kinds, other) = Path(path), ((".mp4",), ".mp4") if clip else (FORMATS, ".jpg")
    suffix = path.suffix.lower()
    return f"{path.stem}-colorized{suffix}" if suffix in kinds else f"{path.name}-colorized{other}"


def save_picture(path: str | os.PathLike, picture: np.ndarray, source: Photo | None = None) -> Path:
    """Write a colored picture, uint8 (H, W, 3), and return its path; an earlier file stays as it was if anything fails.

    The suffix names the format: JPEG, PNG, WebP, TIFF or BMP; missing folders are made. A picture may also be uint16:
    PNG and TIFF keep its 16 bits, the others get 8. The file gets sRGB's ICC profile, and a description that says that
    its colors are predicted. From the source, the photo that was colored, it takes transparency, where its format can
    hold it (of 8-bit pictures), camera, date, place and authors (EXIF), and resolution (DPI).

    Raises:
        SaveError: If the suffix is another, the format cannot hold the picture, or the file cannot be written.
        PhotoError: If the source is broken.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise SaveError(f"{path.name}: pictures are saved as {', '.join(FORMATS)}, not as {path.suffix or 'nothing'!r}")
    kind = Image.registered_extensions()[path.suffix.lower()]
    if picture.dtype not in (np.uint8, np.uint16) or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise SaveError(f"{path.name}: expected uint8 or uint16 (H, W, 3), got {picture.dtype} {picture.shape}")
    deep = picture if picture.dtype == np.uint16 and kind in ("PNG", "TIFF") else None
    if picture.dtype == np.uint16:
        picture = (picture / 257).round().astype(np.uint8)
    image, source = Image.fromarray(picture), picture if source is None else source
    options = QUALITY | {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()}
    with open_image(source) as original:
        options["exif"], dpi = _exif(original), original.info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < value < 65536 for value in dpi):
        options["dpi"] = tuple(map(float, dpi))
    if kind in ("PNG", "WEBP", "TIFF") and (alpha := read_alpha(source)):
        image = _lift_off_white(picture, alpha, path)
    try:
        with replacing(path) as temporary:
            if deep is None:
                image.save(temporary, format=kind, **options)
            else:
                (_save_png16 if kind == "PNG" else _save_tiff16)(temporary, deep, options)
    except OSError as error:
        words = f"({error.strerror or error}): make room there, or choose another folder or name"
        raise SaveError(f"{path.name} cannot be written to {path.parent} {words}") from error
    except (ValueError, struct.error) as error:
        raise SaveError(f"{path.name}: {kind} cannot hold this picture ({error}): try .png") from error
    return path


def _lift_off_white(picture: np.ndarray, alpha: Image.Image, path: Path) -> Image.Image:
    """Give a picture that was laid on white its transparency back: on white, it looks as before."""
    if alpha.size != picture.shape[1::-1]:
        sizes = f"{alpha.width}×{alpha.height} px, the picture {picture.shape[1]}×{picture.shape[0]}"
        raise SaveError(f"{path.name}: expected the photo that was colored as the source, but it has {sizes}")
    share = np.maximum(np.asarray(alpha), 1)[..., None] / np.float32(255)
    image = Image.fromarray((255 - (255 - picture) / share).clip(0, 255).round().astype(np.uint8))
    image.putalpha(alpha)
    return image


def _save_png16(path: Path, picture: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 3) as a PNG, which Pillow cannot; its chunks of a tiny picture say all but the pixels."""
    height, width, _ = picture.shape
    lines = picture.astype(">u2").view(np.uint8).reshape(height, -1)
    lines[1:] -= lines[:-1].copy()  # from the line above, modulo 256: what filter 2 means
    pixels = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0),  # 16 bits, RGB
        b"IDAT": zlib.compress(np.insert(lines, 0, 2, axis=1)),
    }
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data, _ in PngImagePlugin.getchunks(Image.new("RGB", (1, 1)), **options):
            PngImagePlugin.putchunk(file, name, pixels.get(name, data))


def _save_tiff16(path: Path, picture: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 3) as a TIFF, which Pillow cannot; of EXIF, it gets the texts."""
    texts = [(tag, "s", 0, value, True) for tag, value in options["exif"].items() if isinstance(value, str | bytes)]
    resolution = {"resolution": options["dpi"], "resolutionunit": "INCH"} if "dpi" in options else {}
    tifffile.imwrite(
        path, picture, photometric="rgb", iccprofile=options["icc_profile"], software=False, metadata=None,
        extratags=texts, **resolution,
    )  # fmt: skip


def _exif(original: Image.Image) -> Image.Exif:
    """New EXIF with the note, and what is still true of the original's; without that if it is broken."""
    exif, kept = Image.Exif(), Image.Exif()
    exif[BASE.Software], exif[BASE.ImageDescription] = f"colorlib {__version__}", NOTE
    plain = exif.tobytes()
    try:
        old = original.getexif()
        for tag in old.keys() & set(KEPT):
            exif[tag] = _as_read(old[tag])
        if words := str(old.get(BASE.ImageDescription, "")).strip():
            exif[BASE.ImageDescription] = _as_read(words if NOTE in words else f"{words} {NOTE}")
        if details := {tag: _as_read(value) for tag, value in old.get_ifd(EXIF).items() if tag not in STALE}:
            exif[EXIF] = details
        if place := dict(old.get_ifd(GPS)):
            exif[GPS] = place
        block = exif.tobytes()
    except Exception:  # broken EXIF raises many kinds
        block = plain
    kept.load(block if len(block) < 65500 else plain)  # more does not fit into a JPEG
    kept.update({tag: _as_read(value) for tag, value in kept.items()})
    return kept


def _as_read(value: Any) -> Any:
    """A text as its bytes, where Pillow, which takes them for Latin-1, would write question marks."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value
