"""Saved pictures: every format, whole or not at all, with what the original says about itself."""

import io
import os
import struct

import av
import numpy as np
import pytest
import torch
from conftest import blobs, small_disk
from PIL import ExifTags, Image, ImageCms
from PIL.IptcImagePlugin import getiptcinfo
from PIL.PngImagePlugin import PngInfo
from skimage.color import rgb2lab

from colorlib.colorize import add_color, colorized_name, save_picture
from colorlib.colorize.export import NOTE, SaveError
from colorlib.photo import read_deep_photo, read_photo

BASE, EXIF, GPS = ExifTags.Base, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo


def photo_with_exif(path):
    """A photo with everything that a camera writes."""
    exif = Image.Exif()
    exif[BASE.Orientation], exif[BASE.Model], exif[BASE.Artist] = 6, "Box camera", "Zoë ©".encode()
    exif[BASE.ImageDescription], exif[BASE.Software] = "The mill", "Scanner 1.0"
    exif[EXIF] = {BASE.DateTimeOriginal: "1931:05:02 10:00:00", BASE.MakerNote: b"secret", BASE.ExifImageWidth: 1}
    exif[GPS] = {1: "N", 2: (47.0, 30.0, 0.0)}
    Image.fromarray(blobs(0)).save(path, exif=exif.tobytes(), dpi=(300, 300))
    return path


def description(path) -> str:
    with Image.open(path) as image:
        return image.getexif()[BASE.ImageDescription]


def artist(path) -> str:
    with Image.open(path) as image:
        return image.getexif()[BASE.Artist].encode("latin-1").decode()


@pytest.mark.parametrize(
    ("suffix", "levels"),
    [(".jpg", 6), (".JPEG", 6), (".png", 0), (".webp", 16), (".tif", 0), (".tiff", 0), (".bmp", 0)],
)
def test_formats(tmp_path, suffix, levels):
    path = save_picture(tmp_path / "deep" / f"a{suffix}", blobs(1))
    assert path == tmp_path / "deep" / f"a{suffix}" and os.listdir(path.parent) == [path.name]
    with Image.open(path) as image:
        assert image.mode == "RGB" and np.abs(np.asarray(image).astype(int) - blobs(1)).max() <= levels
        if suffix != ".bmp":  # which holds pixels only
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)
            assert image.getexif()[BASE.Software].startswith("colorlib ") and description(path) == NOTE


@pytest.mark.parametrize("kind", ["path", "bytes", "image"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_what_the_original_says_is_kept_where_it_is_still_true(tmp_path, suffix, kind):
    source = photo_with_exif(tmp_path / f"a{suffix}")
    upright = np.asarray(read_photo(source))
    assert upright.shape == (48, 40, 3)
    handed = {"path": source, "bytes": source.read_bytes(), "image": Image.open(source)}[kind]
    path = save_picture(tmp_path / f"b{suffix}", upright, handed)
    assert np.abs(np.asarray(read_photo(path)).astype(int) - upright).mean() < 3, "it is not turned again"
    assert description(path) == f"The mill {NOTE}"
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif.get(BASE.Orientation, 1) == 1 and exif[BASE.Software].startswith("colorlib ")
        assert exif[BASE.Model] == "Box camera" and artist(path) == artist(source)
        assert dict(exif.get_ifd(EXIF)) == {BASE.DateTimeOriginal: "1931:05:02 10:00:00"}
        assert exif.get_ifd(GPS)[1] == "N"
        if suffix != ".webp":  # has no DPI
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        if suffix == ".tif":
            assert exif[BASE.Compression] == 1 and exif[BASE.ImageWidth] == 40
    again = save_picture(tmp_path / f"c{suffix}", upright, path)
    assert description(again) == f"The mill {NOTE}", "noted once"
    other = save_picture(tmp_path / f"d{suffix}", upright, photo_with_exif(tmp_path / "camera.jpg"))
    assert artist(other) == "Zoë ©", "not Zo?? ??"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_16_bits_stay_16_bits_where_the_format_can(tmp_path, suffix):
    gray = (np.add.outer(np.arange(40), np.arange(50) * 50) * 7 + 30_000).astype(np.uint16)
    source = tmp_path / f"a{'.tif' if suffix == '.jpg' else suffix}"
    Image.fromarray(gray).save(source, dpi=(300, 300), exif=Image.open(photo_with_exif(tmp_path / "e.png")).getexif())
    photo = read_deep_photo(source)
    assert np.array_equal(photo, np.rot90(gray, -1))
    colored = add_color(photo, torch.tensor([0.1, -0.2]).view(1, 2, 1, 1))
    before, after = (rgb2lab(x / 65535)[..., 0] for x in (np.repeat(photo[..., None], 3, 2), colored))
    assert colored.dtype == np.uint16 and np.abs(before - after).max() < 0.002
    path = save_picture(tmp_path / f"b{suffix}", colored, source)
    pixels = next(av.open(path).decode(video=0)).to_ndarray(format="rgb24" if suffix == ".jpg" else "rgb48le")
    assert np.abs(pixels - (colored / (257 if suffix == ".jpg" else 1))).max() <= 6 * (suffix == ".jpg")
    with Image.open(path) as image:
        assert image.info["icc_profile"] and image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert description(path) == f"The mill {NOTE}" and artist(path) == artist(source)


LONG = Image.Exif()
LONG[BASE.Artist] = "x" * 70_000


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on the damage
@pytest.mark.parametrize(
    ("suffix", "block"),
    [(".jpg", b"Exif\0\0MM\0*\0\0\0\x08\0\x05garbage"), (".jpg", b"Exif\0\0nonsense" * 20), (".png", LONG)],
)
def test_exif_that_is_broken_or_too_long_is_left_behind(tmp_path, suffix, block):
    source = tmp_path / f"a{suffix}"
    Image.fromarray(blobs(0)).save(source, exif=block)
    assert description(save_picture(tmp_path / "b.jpg", blobs(0), source)) == NOTE


@pytest.mark.parametrize("dpi", [(0, 0), (float("inf"), 1), (float("nan"), 1), (1e9, 300), "nonsense"])
def test_dpi_of_nonsense_is_left_behind(tmp_path, dpi):
    source = Image.fromarray(blobs(0))
    source.info["dpi"] = dpi
    with Image.open(save_picture(tmp_path / "b.png", blobs(0), source)) as image:
        assert "dpi" not in image.info


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_transparency_is_kept(tmp_path, suffix, orientation):
    alpha = np.zeros((40, 48), np.uint8)
    alpha[:, 8:16], alpha[:, 16:], alpha[:5] = 128, 255, 40
    source = Image.fromarray(blobs(0))
    source.putalpha(Image.fromarray(alpha))
    exif = Image.Exif()
    exif[BASE.Orientation] = orientation
    source.save(tmp_path / "a.png", exif=exif)
    upright = np.asarray(read_photo(tmp_path / "a.png"))
    path = save_picture(tmp_path / f"b{suffix}", upright, tmp_path / "a.png")
    turned = np.rot90(alpha, -1) if orientation == 6 else alpha
    with Image.open(path) as image:
        assert image.mode == "RGBA" and np.array_equal(np.asarray(image)[..., 3], turned)
    again = np.asarray(read_photo(path))
    assert np.abs(again.astype(int) - upright).mean() < (4 if suffix == ".webp" else 0.6), "on white, as before"
    assert Image.open(save_picture(tmp_path / "c.jpg", upright, tmp_path / "a.png")).mode == "RGB"


XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:museum="http://example.org/" museum:shelf="B 12" tiff:Orientation="6">
<dc:subject><rdf:Bag><rdf:li>mill</rdf:li><rdf:li>Zoë</rdf:li></rdf:Bag></dc:subject>
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">© Museum</rdf:li></rdf:Alt></dc:rights>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">The mill</rdf:li></rdf:Alt></dc:description>
<xmp:Thumbnails><rdf:Alt><rdf:li>old picture</rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>""".encode()
IPTC = {(1, 90): b"\x1b%G", (2, 25): [b"mill", "Zoë".encode()], (2, 116): "© Museum".encode(), (2, 120): b"The mill"}
WINDOWS = {BASE.XPTitle: "Mühle\0".encode("utf-16le"), BASE.XPKeywords: "mill;wind\0".encode("utf-16le")}


def captioned(path):
    """A photo with all the words that its format can hold."""
    texts, exif = PngInfo(), Image.Exif()
    iptc = b"".join(
        struct.pack(">BBBH", 28, *key, len(value)) + value
        for key, values in IPTC.items()
        for value in (values if isinstance(values, list) else [values])
    )
    resource = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    exif.update(WINDOWS | {BASE.Rating: 4})
    if path.suffix == ".tif":
        exif[700], exif[33723] = XMP, iptc
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    for key, words in {"Description": "The mill", "Copyright": "© Museum", "Shelf": "B 12 ☺"}.items():
        texts.add_text(key, words)
    texts.add_text("Software", "Scanner 1.0")
    extra = b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource
    Image.fromarray(blobs(0)).save(path, exif=exif, xmp=XMP, extra=extra, comment=b"Zo\xc3\xab's mill", pnginfo=texts)
    return path


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_captions_keywords_and_rights_are_kept_and_the_note_is_beside_them(tmp_path, suffix, deep):
    picture = blobs(0).astype(np.uint16) * 257 if deep else blobs(0)
    path = save_picture(tmp_path / f"b{suffix}", picture, captioned(tmp_path / f"a{suffix}"))
    for _ in range(2):  # and once more, from the result
        with Image.open(path) as image:
            image.load()
            xmp, exif = image.info["xmp"].decode(), image.getexif()
            assert all(words in xmp for words in ("mill<", "Zoë<", "© Museum<", 'shelf="B 12"', "<dc:rights>"))
            assert f">The mill {NOTE}<" in xmp and "Orientation" not in xmp and "old picture" not in xmp
            assert exif.get(BASE.Orientation, 1) == 1, "which Pillow also looks for in XMP"
            assert {tag: bytes(exif[tag]) for tag in WINDOWS} == WINDOWS and (deep or exif[BASE.Rating] == 4)
            if suffix in (".jpg", ".tif"):
                assert getiptcinfo(image) == IPTC | {(2, 120): f"The mill {NOTE}".encode()}
            if suffix == ".jpg":
                assert image.info["comment"] == b"Zo\xc3\xab's mill"
            if suffix == ".png":
                kept = {"Description": f"The mill {NOTE}", "Copyright": "© Museum", "Shelf": "B 12 ☺"}
                assert image.text.items() > kept.items() and "Software" not in image.text
        path = save_picture(tmp_path / f"c{suffix}", picture, path)


def test_words_of_a_png_go_into_other_formats_as_exif(tmp_path):
    path = save_picture(tmp_path / "b.jpg", blobs(0), captioned(tmp_path / "a.png"))
    with Image.open(path) as image:
        exif = image.getexif()
    assert exif[BASE.ImageDescription] == f"The mill {NOTE}"
    assert exif[BASE.Copyright].encode("latin-1").decode() == "© Museum"


@pytest.mark.parametrize(
    "xmp", [b"no XML", XMP[:300], b"\xff\xfe", b"<!DOCTYPE x><x/>", XMP.replace(b"B 12", b"x" * 66_000)]
)
def test_xmp_that_is_broken_or_too_long_is_left_behind(tmp_path, xmp):
    Image.fromarray(blobs(0)).save(tmp_path / "a.webp", xmp=xmp)
    path = save_picture(tmp_path / "b.jpg", blobs(0), tmp_path / "a.webp")
    with Image.open(path) as image:
        assert "xmp" not in image.info and description(path) == NOTE


def test_long_exif_is_kept_where_it_can_be(tmp_path):
    Image.fromarray(blobs(0)).save(tmp_path / "a.png", exif=LONG)
    with Image.open(save_picture(tmp_path / "b.png", blobs(0), tmp_path / "a.png")) as image:
        assert len(image.getexif()[BASE.Artist]) == 70_000


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("missing", [1, 1000])
def test_a_full_disk_is_said_and_leaves_what_was_there(tmp_path, suffix, deep, missing):
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    picture = noise.astype(np.uint16) * 257 if deep else noise
    path = save_picture(tmp_path / f"a{suffix}", picture)
    content = path.read_bytes()
    with small_disk(len(content) - missing), pytest.raises(SaveError, match="make room"):
        save_picture(path, picture)
    assert path.read_bytes() == content and os.listdir(tmp_path) == [path.name]


def test_names():
    names = {"cat.jpg": "cat-colorized.jpg", "dir/Cat 1.PNG": "Cat 1-colorized.png", "a.b.tif": "a.b-colorized.tif"}
    names |= {"upload": "upload-colorized.jpg", "cat.gif": "cat.gif-colorized.jpg"}
    assert {name: colorized_name(name) for name in names} == names
