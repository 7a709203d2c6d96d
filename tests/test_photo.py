"""Every kind of image file comes out upright and in the right colors, or with a reason."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageFile

from colorlib.photo import (
    PhotoError,
    count_pictures,
    open_image,
    photo_notes,
    read_alpha,
    read_deep_photo,
    read_photo,
    short_side,
    to_tensor,
)

ORIENTATION = 0x0112  # the EXIF tag
LOSSY = {"quality": 95, "subsampling": 0}


def picture() -> np.ndarray:
    """Four quadrants of different colors, higher than wide, with gradients: no symmetry at all."""
    colors = np.array([[[200, 40, 30], [30, 170, 60]], [[40, 60, 190], [220, 200, 40]]], dtype=np.float64)
    big = colors.repeat(24, axis=0).repeat(16, axis=1)  # 48 × 32
    return (big * np.linspace(0.6, 1, 48)[:, None, None]).round().astype(np.uint8)


def as_bytes(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png(width: int, height: int, bits: int, kind: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write. kind: 0 gray, 2 RGB. rows: each with a leading filter byte."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def assert_looks_like(image: Image.Image, expected: np.ndarray, levels: float) -> None:
    assert image.mode == "RGB" and image.size == expected.shape[1::-1]
    assert np.abs(np.asarray(image).astype(int) - expected).mean() <= levels


@pytest.mark.parametrize(
    ("kind", "options", "levels"),
    [("png", {}, 0), ("bmp", {}, 0), ("tiff", {}, 0), ("jpeg", LOSSY, 3), ("webp", {"quality": 95}, 6)],
)
def test_formats_and_sources(tmp_path, kind, options, levels):
    content = as_bytes(picture(), kind, **options)
    (tmp_path / "photo").write_bytes(content)
    with Image.open(tmp_path / "photo") as opened:
        for source in (content, opened, tmp_path / "photo", str(tmp_path / "photo")):
            assert_looks_like(read_photo(source), picture(), levels)


# how a picture lies in the file, after the Exif standard's words on the sides that first row and column show:
# top left, top right, bottom right, bottom left, left top, right top, right bottom, left bottom
STORED = {
    1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1), 6: np.rot90, 7: lambda p: p[::-1, ::-1].swapaxes(0, 1), 8: lambda p: np.rot90(p, -1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("kind", "options", "levels"), [("jpeg", LOSSY, 3), ("png", {}, 0)])
def test_exif_orientation(orientation, kind, options, levels):
    stored = np.ascontiguousarray(STORED[orientation](picture()))
    read = read_photo(as_bytes(stored, kind, exif=turned(orientation), **options))
    assert_looks_like(read, picture(), levels)
    assert_looks_like(read_photo(read), picture(), levels)  # not turned a second time


def test_what_is_given_stays_as_it_was():
    image = Image.fromarray(picture())
    assert read_photo(image) is image
    image.getexif()[ORIENTATION] = 6
    assert read_photo(image).size == (48, 32)
    assert np.array_equal(np.asarray(image), picture()) and image.getexif()[ORIENTATION] == 6


GRAY = np.linspace(0, 255, 32).round().astype(np.uint8)[None].repeat(8, axis=0)
DARK = np.linspace(0, 200, 32).round().astype(np.uint16)[None].repeat(8, axis=0)  # of 65535
WIDE = GRAY.astype(np.uint16) * 257
FLOAT = (GRAY / 255).astype(np.float32)


@pytest.mark.parametrize(
    ("source", "expected", "levels"),
    [(GRAY, GRAY, 0), (as_bytes(GRAY, "png"), GRAY, 0), (as_bytes(GRAY, "jpeg"), GRAY, 2),
     (as_bytes(WIDE, "png"), GRAY, 0), (as_bytes(WIDE, "tiff"), GRAY, 0), (as_bytes(DARK, "png"), DARK / 257, 0.51),
     (Image.frombytes("I;16B", (32, 8), WIDE.astype(">u2").tobytes()), GRAY, 0),
     (as_bytes(FLOAT, "tiff"), GRAY, 0), (as_bytes(FLOAT * 255, "tiff"), GRAY, 0),
     (as_bytes(Image.fromarray(GRAY).convert("1", dither=0), "png"), np.where(GRAY >= 128, 255, 0), 0)],
)  # fmt: skip
def test_gray(source, expected, levels):
    """16 bits are scaled by the format's 65535, however dark the photo is."""
    assert_looks_like(read_photo(source), np.stack([expected] * 3, axis=-1), levels)


def test_gray_tiffs_that_pillow_gets_wrong(tmp_path):
    """Turned by a note, which it garbles when it maps the file; of 16 bits with 0 for white; of 12 bits."""
    stored = np.ascontiguousarray(STORED[6](GRAY))
    Image.fromarray(stored).save(tmp_path / "turned.tif", exif=turned(6))
    with Image.open(tmp_path / "turned.tif") as opened:
        for source in (tmp_path / "turned.tif", opened):
            assert_looks_like(read_photo(source), np.stack([GRAY] * 3, axis=-1), 0)
    tifffile.imwrite(tmp_path / "negative.tif", 65535 - WIDE, photometric="miniswhite")
    bits = "".join(f"{value * 4095 // 255:012b}" for value in GRAY.flatten().tolist())
    sizes = {256: 32, 257: 8, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: 8, 279: len(bits) // 8}  # by tag
    table = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in sizes.items())
    header, data = b"II*\0" + struct.pack("<IH", 8, len(sizes)), int(bits, 2).to_bytes(len(bits) // 8, "big")
    (tmp_path / "12.tif").write_bytes(header + table + bytes(4) + data)
    for name, step in (("negative.tif", 0), ("12.tif", 16)):
        assert_looks_like(read_photo(tmp_path / name), np.stack([GRAY] * 3, axis=-1), step // 16)
        assert np.abs(read_deep_photo(tmp_path / name) - WIDE.astype(float)).max() <= step


@pytest.mark.parametrize("white", [1, 255, 65535, 1e6])
@pytest.mark.parametrize("spoiled", [7e6, 1e30, np.nan, np.inf, -np.inf, 1.2])
def test_a_float_tiff_is_as_bright_as_its_pixels_but_for_a_few(white, spoiled):
    """One of them may be anything, also a light that is brighter than white."""
    values = FLOAT * np.float32(white)
    values[0, -1] = spoiled * white if spoiled == 1.2 else spoiled
    expected = GRAY.copy()
    expected[0, -1] = 255 if spoiled > 0 else 0
    assert_looks_like(read_photo(as_bytes(values, "tiff")), np.stack([expected] * 3, axis=-1), 0.6)
    nothing = as_bytes(np.full((4, 4), spoiled, np.float32), "tiff")
    assert np.ptp(np.asarray(read_photo(nothing))) == 0


SMALL, MAIN = picture()[::4, ::4], np.ascontiguousarray(picture()[::-1])
MASK = np.ones(MAIN.shape[:2], bool)


def tiff(*pages: tuple[np.ndarray, dict], big: bool = False) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=big) as out:
        for array, options in pages:
            out.write(array, contiguous=False, metadata=None, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("pages", "count"),
    [([(SMALL, {"subfiletype": 1}), (MAIN, {})], 1), ([(SMALL, {}), (MAIN, {})], 2),
     ([(SMALL, {"subfiletype": 1, "subifds": 1}), (MAIN, {})], 1),  # as a camera's raw file
     ([(MAIN, {"subifds": 1}), (SMALL, {"subfiletype": 1})], 1), ([(MAIN, {}), (SMALL, {"subfiletype": 1})], 1),
     ([(MAIN, {}), (MASK, {"subfiletype": 4, "photometric": "mask"})], 1),
     ([(MAIN, {}), (picture(), {}), (SMALL, {})], 3),
     ([(MAIN, {}), (np.vstack([picture()] * 2)[:90], {})], 2)],  # a page, perhaps a bit larger, is no preview's photo
)  # fmt: skip
def test_a_tiffs_picture_is_its_first_one_of_full_size(tmp_path, pages, count):
    content = tiff(*pages)
    (tmp_path / "a.tif").write_bytes(content)
    for source in (content, tmp_path / "a.tif"):
        assert_looks_like(read_photo(source), MAIN, 0)
        assert count_pictures(source) == count and short_side(source) == 32
        notes = [f"it holds {count} pictures, of which the first one"] * (count > 1)
        assert len(photo_notes(source)) == len(notes) and photo_notes(source)[:1] >= notes
    gray = [(array[..., 0].astype(np.uint16) * 257 if array.ndim == 3 else array, more) for array, more in pages]
    deep = read_deep_photo(tiff(*gray))
    assert deep.dtype == np.uint16 and np.array_equal(deep, MAIN[..., 0].astype(np.uint16) * 257)
    if not any("subifds" in more for _, more in pages):
        assert_looks_like(read_photo(tiff(*pages, big=True)), MAIN, 0)


def test_of_a_preview_and_its_photo_it_is_said_which_one_was_colored():
    words = "it holds 2 pictures, of which the first one of full size was colored"
    assert photo_notes(tiff((SMALL, {}), (MAIN, {}))) == [words]


RAW = [(50706, "B", 4, (1, 4, 0, 0), True)], [(50752, "H", 3, (1, 2, 3), True)], [(33421, "H", 2, (2, 2), True)]


@pytest.mark.parametrize("extra", RAW)
@pytest.mark.parametrize("hanging", [False, True])
def test_a_cameras_raw_file_is_refused_in_words(tmp_path, extra, hanging):
    sensor = MAIN[..., 0].astype(np.uint16)
    preview = {"subfiletype": 1, "subifds": 1} if hanging else {"subfiletype": 1}
    (tmp_path / "a.dng").write_bytes(tiff((SMALL, preview), (sensor, {"extratags": extra})))
    with pytest.raises(PhotoError, match=r"a.dng: a camera's raw file, .*: develop it to a JPEG or TIFF first"):
        read_photo(tmp_path / "a.dng")
    (tmp_path / "b.nef").write_bytes(tiff((SMALL, preview), (sensor, {"photometric": 32803})))
    with pytest.raises(PhotoError, match=r"b.nef: a camera's raw file"):
        read_photo(tmp_path / "b.nef")


@pytest.mark.parametrize("kind", [{}, {"progressive": True}, {"exif": turned(6)}])
def test_what_is_there_of_a_jpeg_is_read(kind):
    """By all but training and scores; whoever asks is told. Nothing remains switched over for other threads."""
    wide = np.tile(picture(), (8, 4, 1))
    content = as_bytes(wide, "jpeg", **LOSSY, **kind)
    whole = np.asarray(read_photo(content)).astype(int)
    assert photo_notes(content) == []
    for missing in (*range(1, 5), 333, len(content) // 3):
        cut = content[:-missing]
        read = np.asarray(read_photo(cut))
        assert read.shape == whole.shape
        if not kind:
            there = 0.9 if missing < 5 else 0.5
            assert (np.abs(read - whole).max(axis=(1, 2)) == 0).mean() >= there
        assert photo_notes(cut) == ["its file was cut off; what is there of the picture was colored"]
        with pytest.raises(PhotoError, match="truncated"):
            read_photo(cut, whole=True)
    for place in range(len(content) - 3000, len(content), 7):
        assert read_photo(content[:place]).size == whole.shape[1::-1]
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_jpeg_of_which_nothing_is_there_stays_an_error():
    content = as_bytes(picture(), "jpeg")
    start = content.index(b"\xff\xda")
    for end in (1, 20, start - 1, start + 2, start + 14):
        with pytest.raises(PhotoError):
            read_photo(content[:end])
        assert photo_notes(content[:end]) == []
    assert read_photo(content[: start + 40]).size == (32, 48)


def test_palette_16_bit_rgb_and_lab():
    quantized = Image.fromarray(picture()).quantize(64, dither=Image.Dither.NONE)
    assert_looks_like(read_photo(as_bytes(quantized, "png")), picture(), 5)
    row = b"\0" + np.array([[65535, 32896, 0], [257, 514, 65535]], dtype=">u2").tobytes()
    assert_looks_like(read_photo(png(2, 1, 16, 2, row)), np.array([[[255, 128, 0], [1, 2, 255]]]), 1)
    lab = np.full((4, 4, 3), (119, 0, 0), np.uint8)  # L* 46.7 of 100 in 255 steps, no color
    content = as_bytes(Image.frombytes("LAB", (4, 4), lab.tobytes()), "tiff")
    assert_looks_like(read_photo(content), np.full((4, 4, 3), 111), 2)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_transparent_parts_lie_on_white(mode):
    image = Image.fromarray(picture()).convert(mode)
    opaque = np.asarray(image.convert("RGB")).astype(float)
    alpha = np.zeros((48, 32), dtype=np.uint8)
    alpha[:, 8:16], alpha[:, 16:] = 128, 255  # nothing, half, all of the photo
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    for source in (image, as_bytes(image.convert("RGBA"), "png")):
        assert_looks_like(read_photo(source), opaque * share + 255 * (1 - share), 1)
        assert np.array_equal(np.asarray(read_alpha(source)), alpha)
    assert np.array_equal(read_alpha(as_bytes(image.convert("RGBA"), "png", exif=turned(6))), np.rot90(alpha, -1))
    assert read_alpha(Image.new("RGBA", (2, 2), "red")) is None, "all is opaque"


@pytest.mark.parametrize(("mode", "hidden"), [("P", 0), ("RGB", (10, 20, 30))])
def test_one_color_that_is_transparent(mode, hidden):
    image = Image.fromarray(np.array([[[200, 100, 50], [10, 20, 30]]], np.uint8))
    if mode == "P":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((0, 0), 1)
    content = as_bytes(image, "png", transparency=hidden)
    assert np.asarray(read_photo(content)).tolist() == [[[200, 100, 50], [255, 255, 255]]]
    assert np.asarray(read_alpha(content)).tolist() == [[255, 0]]


def icc(device: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2.4, by hand."""
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, place + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", place + len(body), b"\0" * 4, 0x02400000, device, space, connection)
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)  # D50
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body


def rgb_profile(gamma: float, order: str = "rgb") -> bytes:
    """A display with sRGB's primaries, perhaps in another order, and a plain gamma curve."""
    primaries = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    tags = {b"wtpt": struct.pack(">4sI3I", b"XYZ ", 0, 0xF6D6, 0x10000, 0xD32D)}
    for name, xyz in zip(order, primaries, strict=True):
        tags[f"{name}XYZ".encode()] = struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in xyz))
        tags[f"{name}TRC".encode()] = struct.pack(">4sIIH2x", b"curv", 0, 1, round(gamma * 256))
    return icc(b"mntr", b"RGB ", b"XYZ ", tags)


def cmyk_profile() -> bytes:
    """A strange printer: cyan ink is gray, L* 50; black ink is black; the other two are white."""
    # of the corners of the CMYK cube, black's bit varies fastest, cyan's slowest; L* as 0…255, a* = b* = 0
    cube = b"".join(bytes([0 if i & 1 else 127 if i & 8 else 255, 128, 128]) for i in range(16))
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + bytes(range(256)) * 4 + cube + bytes(range(256)) * 3
    return icc(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


@pytest.mark.parametrize(
    ("kind", "options"), [("png", {}), ("jpeg", LOSSY), ("tiff", {}), ("webp", {"quality": 100, "lossless": True})]
)
def test_an_rgb_profile_is_applied_once_and_only_if_wanted(kind, options):
    content = as_bytes(picture(), kind, icc_profile=rgb_profile(2.2, order="grb"), **options)
    for source in (content, read_photo(content)):
        assert_looks_like(read_photo(source), picture()[..., [1, 0, 2]], 4)
    assert_looks_like(read_photo(content, managed=False), picture(), 3 if kind == "jpeg" else 0)
    light = picture() / 255
    expected = 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    assert_looks_like(read_photo(as_bytes(picture(), kind, icc_profile=rgb_profile(1.0), **options)), expected, 4)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("profile", [SRGB, b"no profile" * 20, cmyk_profile()], ids=["sRGB", "broken", "of a printer"])
def test_a_profile_that_changes_nothing(profile):
    assert_looks_like(read_photo(as_bytes(picture(), "png", icc_profile=profile)), picture(), 0)


def test_cmyk():
    """Pillow writes CMYK JPEGs as Adobe does, inverted, and TIFFs as they are."""
    image = Image.fromarray(picture()).convert("CMYK")
    assert_looks_like(read_photo(as_bytes(image, "tiff")), picture(), 1)
    for profile in (None, b"no profile" * 20, cmyk_profile()[:-300]):
        assert_looks_like(read_photo(as_bytes(image, "jpeg", icc_profile=profile, **LOSSY)), picture(), 4)
    cyan = as_bytes(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "tiff", icc_profile=cmyk_profile())
    assert_looks_like(read_photo(cyan, managed=False), np.full((8, 8, 3), 119), 3)  # L* 50


def test_hundred_megapixels_open_without_a_warning():
    """Pillow itself would alarm; nothing is decoded here."""
    with warnings.catch_warnings(action="error"), open_image(png(10_000, 10_000, 8, 2, b"")) as image:
        assert image.size == (10_000, 10_000)


def test_to_tensor_copies_a_picture():
    array = np.asarray(Image.fromarray(picture()))  # read-only, as Pillow gives it
    with warnings.catch_warnings(action="error"):
        tensor = to_tensor(array)
    assert tensor.dtype == torch.float32 and tensor[:, 3, 5].tolist() == pytest.approx((picture()[3, 5] / 255).tolist())
    tensor.zero_()
    assert np.array_equal(array, picture())


def test_pictures_are_counted_but_for_a_phones_previews(tmp_path):
    first, *others = (Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue"))
    for name, kind, count in (("a.tiff", "TIFF", 3), ("a.gif", "GIF", 3), ("a.jpg", "MPO", 1), ("b.jpg", "JPEG", 1)):
        more = {"save_all": True, "append_images": others} if kind != "JPEG" else {}
        first.save(tmp_path / name, kind, **more)
        assert count_pictures(tmp_path / name) == count, name
