"""Colored pictures as files: whole or not at all, with what the original photo says about itself."""

import io
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms, IptcImagePlugin, PngImagePlugin

from colorlib import __version__
from colorlib.photo import Photo, open_image, read_alpha
from colorlib.system import write_whole

NOTE = "Colors predicted by colorlib, not recorded."
FORMATS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")  # by suffix
QUALITY = {"quality": 95, "subsampling": 0}  # and TIFF uncompressed: Pillow cannot put all of EXIF into another one
BASE, EXIF, GPS = ExifTags.Base, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
# what is still true of the colored picture; the rest (orientation, thumbnail, a TIFF's layout) is not
KEPT = (BASE.DocumentName, BASE.Make, BASE.Model, BASE.DateTime, BASE.Artist, BASE.Copyright)
# Windows' own texts (UTF-16) and stars
WINDOWS_TEXTS = (BASE.XPTitle, BASE.XPComment, BASE.XPAuthor, BASE.XPKeywords, BASE.XPSubject)
RATINGS = (BASE.Rating, BASE.RatingPercent)
STALE = (BASE.MakerNote, BASE.ColorSpace, BASE.ExifInteroperabilityOffset, BASE.ExifImageWidth, BASE.ExifImageHeight)
TIFF_XMP, TIFF_IPTC = 700, 33723  # tags
CAPTION = (2, 120)  # of IPTC
PNG_TEXTS = {  # the EXIF tags that mean the same
    "Title": BASE.DocumentName, "Author": BASE.Artist, "Description": BASE.ImageDescription,
    "Copyright": BASE.Copyright,
}  # fmt: skip
STALE_TEXTS = re.compile("Software|XML:com.adobe.xmp|Thumb::.*|Raw profile type (?!iptc).*")
# of XMP, what tells of the old file: its layout, small pictures, and what was appended to it
STALE_XMP = re.compile(
    r"(Orientation|Thumbnails|Pixel[XY]Dimension|ImageWidth|ImageLength|BitsPerSample|Compression|ColorSpace|ColorMode"
    r"|PhotometricInterpretation|SamplesPerPixel|PlanarConfiguration|YCbCr\w+|ICCProfile|NativeDigest)$"
    r"|ns\.google\.com/photos|hdr-gain-map|HDRGainMap|camera-raw-settings",
)
RDF, DC = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://purl.org/dc/elements/1.1/"
NAMESPACES = {  # the prefixes that programs expect
    "x": "adobe:ns:meta/",
    "rdf": RDF,
    "dc": DC,
    "exif": "http://ns.adobe.com/exif/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
}
for _prefix, _address in NAMESPACES.items():
    ElementTree.register_namespace(_prefix, _address)


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
    hold it (of 8-bit pictures), camera, date, place and authors (EXIF), resolution (DPI), and, again where it can hold
    them, caption, keywords and rights (XMP, IPTC, Windows' and PNG's texts, a comment).

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
        options |= _texts(original, kind)
        dpi = original.info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < value < 65536 for value in dpi):
        options["dpi"] = tuple(map(float, dpi))
    if kind in ("PNG", "WEBP", "TIFF") and (alpha := read_alpha(source)):
        image = _lift_off_white(picture, alpha, path)
    file = io.BytesIO()  # in memory: on a full disk, Pillow would leave half a picture and say nothing
    try:
        if deep is None:
            image.save(file, format=kind, **options)
        elif kind == "PNG":
            _save_png16(file, deep, options)
        else:
            _save_tiff16(file, deep, options)
        write_whole(path, file.getbuffer())
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


def _save_png16(file: BinaryIO, picture: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 3) as a PNG, which Pillow cannot; its chunks of a tiny picture say all but the pixels."""
    height, width, _ = picture.shape
    lines = picture.astype(">u2").view(np.uint8).reshape(height, -1)
    lines[1:] -= lines[:-1].copy()  # from the line above, modulo 256: what filter 2 means
    pixels = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0),  # 16 bits, RGB
        b"IDAT": zlib.compress(np.insert(lines, 0, 2, axis=1)),
    }
    file.write(b"\x89PNG\r\n\x1a\n")
    for name, data, _ in PngImagePlugin.getchunks(Image.new("RGB", (1, 1)), **options):
        PngImagePlugin.putchunk(file, name, pixels.get(name, data))


def _save_tiff16(file: BinaryIO, picture: np.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 3) as a TIFF, which Pillow cannot; of EXIF, it gets the texts."""
    texts = []
    for tag, value in options["exif"].items():
        if isinstance(value, str | bytes):
            is_text = tag not in (TIFF_XMP, TIFF_IPTC, *WINDOWS_TEXTS)
            texts.append((tag, "s", 0, value, True) if is_text else (tag, "B", len(value), value, True))
    resolution = {"resolution": options["dpi"], "resolutionunit": "INCH"} if "dpi" in options else {}
    tifffile.imwrite(
        file, picture, photometric="rgb", iccprofile=options["icc_profile"], software=False, metadata=None,
        extratags=texts, **resolution,
    )  # fmt: skip


def _texts(original: Image.Image, kind: str) -> dict[str, Any]:
    """What the original says in words, with our note, as options of Pillow's `save` for a kind of file."""
    png, comment = dict(getattr(original, "text", None) or {}), original.info.get("comment")
    exif, xmp, iptc = _exif(original, png, kind), _xmp(original), _iptc(original)
    if kind == "TIFF":
        exif.update({tag: block for tag, block in ((TIFF_XMP, xmp), (TIFF_IPTC, iptc)) if block})
    options: dict[str, Any] = {"exif": exif}
    if kind == "WEBP" and xmp:
        options["xmp"] = xmp
    if kind == "JPEG":  # each part of its head holds 64 KB at most
        if xmp and len(xmp) < 65000:
            options["xmp"] = xmp
        if iptc and len(iptc) < 65000:
            resource = b"Photoshop 3.0\0" + b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc
            resource += b"\0" * (len(iptc) % 2)
            options["extra"] = b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource
        if comment and len(comment) < 65000:
            options["comment"] = comment
    if kind == "PNG":
        options["pnginfo"] = texts = PngImagePlugin.PngInfo()
        for key, words in png.items():
            if not STALE_TEXTS.fullmatch(key):
                texts.add_text(key, _noted(words) if key == "Description" else words)
        if xmp:
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
    return options


def _noted(words: str) -> str:
    """A caption with the note, once."""
    return words if NOTE in words else f"{words.strip()} {NOTE}"


def _xmp(original: Image.Image) -> bytes | None:
    """The original's XMP, a text in XML, without what is no longer true; None if it is broken or there is none."""
    block = original.info.get("xmp") or original.info.get("XML:com.adobe.xmp")  # an older Pillow's PNG
    if not block:
        return None
    try:
        text = block if isinstance(block, str) else block.decode()
        if "<!DOCTYPE" in text:  # XMP declares no entities; who does means to fill the memory
            return None
        root = ElementTree.fromstring(text.strip("\0\ufeff \r\n\t"))
    except (UnicodeDecodeError, ElementTree.ParseError):
        return None
    for parent in list(root.iter()):
        for name in filter(STALE_XMP.search, list(parent.attrib)):
            del parent.attrib[name]
        for child in [child for child in parent if STALE_XMP.search(child.tag)]:
            parent.remove(child)
    for caption in root.iterfind(f".//{{{DC}}}description//{{{RDF}}}li"):
        caption.text = _noted(caption.text or "")
    start = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'  # as the standard wants it
    return f'{start}{ElementTree.tostring(root, "unicode")}\n<?xpacket end="w"?>'.encode()


def _iptc(original: Image.Image) -> bytes | None:
    """The original's IPTC, what agencies and archives write: records that are numbered; None if there is none."""
    try:
        records = IptcImagePlugin.getiptcinfo(original) or {}
        block = b""
        for (group, number), values in sorted(records.items()):
            for value in values if isinstance(values, list) else [values]:
                if (group, number) == CAPTION and NOTE.encode() not in value:
                    value = value.strip() + b" " + NOTE.encode()
                block += struct.pack(">BBBH", 0x1C, group, number, len(value)) + value
    except Exception:  # a broken block raises many kinds
        return None
    return block or None


def _exif(original: Image.Image, png: dict[str, str], kind: str) -> Image.Exif:
    """New EXIF with the note, and what is still true of the original's; without that if it is broken.

    A PNG's texts come in where the original's EXIF has none of that meaning.
    """
    exif, kept = Image.Exif(), Image.Exif()
    exif[BASE.Software], exif[BASE.ImageDescription] = f"colorlib {__version__}", NOTE
    plain = exif.tobytes()
    try:
        old = original.getexif()
        said = {tag: png[key].encode().decode("latin-1") for key, tag in PNG_TEXTS.items() if key in png} | dict(old)
        for tag in said.keys() & {*KEPT, *WINDOWS_TEXTS, *RATINGS}:
            exif[tag] = _as_read(said[tag])
        if words := str(said.get(BASE.ImageDescription, "")).strip():
            exif[BASE.ImageDescription] = _as_read(_noted(words))
        if details := {tag: _as_read(value) for tag, value in old.get_ifd(EXIF).items() if tag not in STALE}:
            exif[EXIF] = details
        if place := dict(old.get_ifd(GPS)):
            exif[GPS] = place
        block = exif.tobytes()
    except Exception:  # broken EXIF raises many kinds
        block = plain
    kept.load(block if len(block) < 65500 or kind != "JPEG" else plain)  # more does not fit into a JPEG
    kept.update({tag: _as_read(value) for tag, value in kept.items()})
    return kept


def _as_read(value: Any) -> Any:
    """A text as its bytes, where Pillow, which takes them for Latin-1, would write question marks."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value
