"""Any image file in, an upright 8-bit sRGB picture out."""

import contextlib
import io
import math
import os
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms
from PIL.ExifTags import Base
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2
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
JPEG_END = b"\xff\xd9"
JPEG_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xda-\xfe]")  # of tables and heads, between the pixels of two scans
RAW_TAGS = {Base.DNGVersion, Base.CFARepeatPatternDim, 50752}  # the last one: how Canon's CR2 is cut
RAW_COLORS = {32803, 34892}  # PhotometricInterpretation: a sensor's mosaic, or its linear RGB
PREVIEW_OR_MASK = 1 | 4  # bits of NewSubfileType
BIG_TIFF = b"+"  # third byte of a TIFF whose offsets have 64 bits
FULL_SIZE = 0.5  # share of the largest page's pixels; a preview has a quarter at most
WHITES = (1, 255, 65535)  # usual values of white, where a file does not say it
BRIGHTEST = 99.9  # percentile that chooses among them: single pixels may have any value
MAX_PIXELS = 100_000_000  # of a photo; a small file can claim to be far more, and fill the memory


class PhotoError(ValueError):
    """A file that cannot be read as a photo; the message names it and says why."""


@contextlib.contextmanager
def open_image(source: Photo, whole: bool = False) -> Iterator[Image.Image]:
    """Open an image for a `with` block, without decoding it; takes and raises what `read_photo` does.

    Of a TIFF's pages it is the first one of full size, however the file is laid out.
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
    elif is_path and os.path.isdir(source):
        raise PhotoError(f"{os.fspath(source)!r} is a folder: give the path of one photo")
    elif is_path and os.path.exists(source) and not os.path.isfile(source):  # reading a pipe would wait forever
        raise PhotoError(f"{name} is a pipe, a socket or a device: give the path of one photo")
    elif not is_path and not isinstance(source, bytes | Image.Image):
        raise PhotoError(f"expected a path, a file's bytes, a Pillow image or an array, got {type(source).__name__}")
    try:
        is_open = isinstance(source, Image.Image)
        opened = contextlib.nullcontext(source) if is_open else _open_file(source, name, whole)
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


def read_photo(source: Photo, managed: bool = True, whole: bool = False) -> Image.Image:
    """Read a photo as it is meant to look.

    Gray, palette, CMYK and Lab files are converted, 16-bit grays are scaled to 8 bits, and transparent parts are laid
    on white.

    Args:
        source: A path, the bytes of a file, a Pillow image of any mode, or an array: uint8 (H, W, 3) or (H, W), or
            uint16 (H, W).
        managed: Apply the file's ICC profile, if it is a sound one; False takes RGB values for sRGB whatever their
            profile says, as scores in the literature do.
        whole: Refuse a JPEG that was cut off, as training and scores must. Else what is there of it
            is read, and `photo_notes` says so.

    Returns:
        A Pillow image of mode "RGB", upright (EXIF orientation applied), in sRGB; `source` itself if it is one.

    Raises:
        PhotoError: If the file is empty, broken, no image at all, a camera's raw file, or larger
            than `MAX_PIXELS`.
        FileNotFoundError: If there is none.
    """
    with open_image(source, whole) as image:
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
    """How many pictures a file holds, of which `read_photo` reads one: frames, pages; 1 for what is broken.

    A TIFF's pages that are marked as previews or masks do not count.
    """
    with contextlib.suppress(PhotoError, OSError), open_image(source) as image:  # whoever reads it will say why
        if image.format == "TIFF" and not isinstance(source, Image.Image):
            marks = [_whole_number(page, Base.NewSubfileType) for page in _pages_of(source)[0]]
            return max(1, sum(not mark & PREVIEW_OR_MASK for mark in marks))
        return getattr(image, "n_frames", 1) if image.format != "MPO" else 1  # phones add previews and depths
    return 1


def photo_notes(source: Photo) -> list[str]:
    """Say what whoever colors a file should know of it; nothing of what cannot be read."""
    notes = []
    if isinstance(source, Image.Image | np.ndarray):
        return notes
    if (count := count_pictures(source)) > 1:
        pages, others = _pages_of(source)
        is_first = not pages or _full_page(pages + others) is pages[0]
        which = "the first one" if is_first else "the first one of full size"
        notes.append(f"it holds {count} pictures, of which {which} was colored")
    with contextlib.suppress(OSError), _stream(source) as stream:
        if _scans_without_end(stream):
            notes.append("its file was cut off; what is there of the picture was colored")
    return notes


def resize_photo(image: Image.Image, size: int) -> np.ndarray:
    """Squeeze a whole RGB photo into a square, by Pillow's bicubic filter, without cropping: uint8 (size, size, 3)."""
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def to_tensor(picture: np.ndarray) -> Tensor:
    """Turn a uint8 (H, W, 3) picture, or uint16 gray (H, W), into a float32 tensor (3, H, W), values in [0, 1]."""
    if is_deep(picture):
        return torch.from_numpy(picture / np.float32(65535)).expand(3, -1, -1)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def _stream(source: str | os.PathLike | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


@contextlib.contextmanager
def _open_file(source: str | os.PathLike | bytes, name: str, whole: bool) -> Iterator[Image.Image]:
    """Open a file as Pillow does, but a TIFF at the first of its pages that has full size, and a JPEG to its end."""
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_stream(source))
        with warnings.catch_warnings():
            # our own limit is below, and Pillow itself will tell what is damaged
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            pages, others = _tiff_pages(stream)
            if any(map(_is_raw, pages + others)):
                advice = "develop it to a JPEG or TIFF first"
                raise PhotoError(f"{name}: a camera's raw file, which holds no picture yet: {advice}")
            if pages and (page := _full_page(pages + others)) is not pages[0]:
                stream = stack.enter_context(_beginning_at(stream, page))
            if not whole and (scans := _scans_without_end(stream)):
                stream = _ended(stream, scans)
            image = stack.enter_context(Image.open(stream, formats=FORMATS))
        yield image


def _pages_of(
    source: str | os.PathLike | bytes,
) -> tuple[list[ImageFileDirectory_v2], list[ImageFileDirectory_v2]]:
    with _stream(source) as stream:
        return _tiff_pages(stream)


def _tiff_pages(
    stream: BinaryIO,
) -> tuple[list[ImageFileDirectory_v2], list[ImageFileDirectory_v2]]:
    """The tags of a TIFF's pages, and those of the pictures that hang on them (SubIFDs); none of other files."""
    stream.seek(0)
    header, pages, others = stream.read(8), [], []
    if header[2:3] == BIG_TIFF:
        header += stream.read(8)
    # KeyError, OverflowError, …: as far as a damaged file goes; and no words on it, Pillow has them
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place, seen = ImageFileDirectory_v2(header).next, set()
        while place and place not in seen:
            seen.add(place)
            pages.append(_tags_at(stream, header, place))
            place = pages[-1].next
        for page in pages:
            inner = page.get(Base.SubIFDs, ())
            for place in inner if isinstance(inner, tuple) else (inner,):
                others.append(_tags_at(stream, header, place))
    stream.seek(0)
    return pages, others


def _tags_at(stream: BinaryIO, header: bytes, place: int) -> ImageFileDirectory_v2:
    tags = ImageFileDirectory_v2(header)
    stream.seek(place)
    tags.load(stream)
    return tags


def _full_page(pages: list[ImageFileDirectory_v2]) -> ImageFileDirectory_v2:
    sides = Base.ImageWidth, Base.ImageLength
    areas = [math.prod(_whole_number(page, side) for side in sides) for page in pages]
    return next(page for page, area in zip(pages, areas, strict=True) if area >= FULL_SIZE * max(areas))


def _is_raw(page: ImageFileDirectory_v2) -> bool:
    color = _whole_number(page, Base.PhotometricInterpretation)
    return color in RAW_COLORS or not RAW_TAGS.isdisjoint(page)


def _whole_number(page: ImageFileDirectory_v2, tag: int) -> int:
    value = page.get(tag)
    return value if isinstance(value, int) else 0  # a damaged file has anything


def _beginning_at(stream: BinaryIO, page: ImageFileDirectory_v2) -> BinaryIO:
    """A copy of a TIFF whose header points to another page as the first one: Pillow opens no other."""
    stream.seek(0)
    content = bytearray(stream.read())
    is_big = content[2:3] == BIG_TIFF
    order = ">" if content[:1] == b"M" else "<"
    struct.pack_into(f"{order}Q" if is_big else f"{order}I", content, 8 if is_big else 4, page.offset)
    return io.BytesIO(content)


def _scans_without_end(stream: BinaryIO) -> bytes:
    """The scans of a JPEG whose file was cut off behind the head of the first one; nothing of other files."""
    scans = b""
    stream.seek(0)
    with contextlib.suppress(Exception):  # SyntaxError: no JPEG; a broken head raises many kinds
        JpegImageFile(stream)  # reads that head, and no more
        scans = stream.read()
    stream.seek(0)
    return b"" if JPEG_END in scans else scans


def _ended(stream: BinaryIO, scans: bytes) -> BinaryIO:
    """A copy of a cut-off JPEG with the mark of its end, up to which a decoder paints what is there.

    Pillow's own way, `LOAD_TRUNCATED_IMAGES`, is one switch for all threads and all formats.
    """
    content = stream.read()
    head = content[: len(content) - len(scans)]
    for segment in JPEG_SEGMENT.finditer(scans):
        last = segment.start()
        length = int.from_bytes(scans[last + 2 : last + 4], "big")
        if last + 2 + max(length, 2) > len(scans):  # a table of which a part is missing says nothing
            scans = scans[:last]
    return io.BytesIO(head + scans + JPEG_END)


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
        white = 65535.0 if image.mode.startswith("I;16") else _white(values)
        values = np.nan_to_num(values, nan=0, posinf=white, neginf=0).clip(0, white)
        image = Image.fromarray((values * (255 / white)).round().astype(np.uint8))
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


def _white(values: np.ndarray) -> float:
    """What is white in a picture of a mode that does not say it: 1, 255, 65535, or its own brightest value."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 1.0
    brightest = float(np.percentile(finite, BRIGHTEST, method="lower"))
    # lights may be brighter than white; a picture of half that range would be nearly black
    return next((white for white in WHITES if brightest <= 2 * white), brightest)


def _to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    if image.mode == "RGB" and ImageCms.getProfileDescription(profile).startswith("sRGB"):
        return image  # what it is already, to the last bit
    return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
