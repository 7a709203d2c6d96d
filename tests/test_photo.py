"""Every kind of image file comes out upright and in the right colours, or with a reason."""

import gc
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from colorlib.evaluation import evaluate_model
from colorlib.photo import PhotoError, open_image, read_alpha, read_photo, resize_photo, to_tensor

ORIENTATION = 0x0112  # the EXIF tag


def picture() -> np.ndarray:
    """Four quadrants of different colours, higher than wide, with gradients: no symmetry at all."""
    colors = np.array([[[200, 40, 30], [30, 170, 60]], [[40, 60, 190], [220, 200, 40]]], dtype=np.float64)
    big = colors.repeat(24, axis=0).repeat(16, axis=1)  # 48 × 32
    return (big * np.linspace(0.6, 1, 48)[:, None, None]).round().astype(np.uint8)


def as_file(image: Image.Image | np.ndarray, suffix: str, folder, **options):
    path = folder / f"photo{suffix}"
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
    return path


def png(width: int, height: int, bits: int, kind: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write. kind: 0 gray, 2 RGB. rows: each with a leading filter byte."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def assert_looks_like(image: Image.Image, expected: np.ndarray, levels: float) -> None:
    assert image.mode == "RGB"
    result = np.asarray(image)
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected).mean() <= levels


LOSSY = {"quality": 95, "subsampling": 0}


@pytest.mark.parametrize(
    ("suffix", "options", "levels"),
    [(".png", {}, 0), (".bmp", {}, 0), (".tif", {}, 0), (".TIFF", {"compression": "tiff_lzw"}, 0), (".jpg", LOSSY, 3),
     (".webp", {"quality": 95}, 6), (".webp", {"lossless": True}, 0)],
)  # fmt: skip
def test_formats(tmp_path, suffix, options, levels):
    assert_looks_like(read_photo(as_file(picture(), suffix, tmp_path, **options)), picture(), levels)


def test_sources(tmp_path):
    path = as_file(picture(), ".png", tmp_path)
    with Image.open(path) as opened:
        for source in (path, str(path), path.read_bytes(), opened, Image.fromarray(picture())):
            assert_looks_like(read_photo(source), picture(), 0)


# How a picture lies in the file for each value of the tag, after the Exif standard's words on which
# side of the scene the first row and the first column show.
STORED = {
    1: lambda p: p,  # top, left
    2: lambda p: p[:, ::-1],  # top, right
    3: lambda p: p[::-1, ::-1],  # bottom, right
    4: lambda p: p[::-1],  # bottom, left
    5: lambda p: p.swapaxes(0, 1),  # left, top
    6: lambda p: np.rot90(p),  # right, top
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda p: np.rot90(p, -1),  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("suffix", "options", "levels"), [(".jpg", LOSSY, 3), (".png", {}, 0)])
def test_exif_orientation(tmp_path, orientation, suffix, options, levels):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = np.ascontiguousarray(STORED[orientation](picture()))
    path = as_file(stored, suffix, tmp_path, exif=exif, **options)
    assert_looks_like(read_photo(path), picture(), levels)


def test_image_given_stays_as_it_was():
    image = Image.fromarray(picture())
    image.getexif()[ORIENTATION] = 6
    before = image.tobytes()
    assert read_photo(image).size == (48, 32)
    assert image.tobytes() == before and image.size == (32, 48) and image.getexif()[ORIENTATION] == 6


@pytest.mark.parametrize(("suffix", "options", "levels"), [(".jpg", LOSSY, 4), (".tif", {}, 1)])
def test_cmyk(tmp_path, suffix, options, levels):
    """Pillow writes CMYK JPEGs as Adobe does, inverted, and TIFFs as they are."""
    path = as_file(Image.fromarray(picture()).convert("CMYK"), suffix, tmp_path, **options)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    assert_looks_like(read_photo(path), picture(), levels)


def cmyk_profile() -> bytes:
    """The smallest ICC profile of a printer, a strange one: cyan ink is gray, L* 50; black ink is black."""
    identity = bytes(range(256))
    # of the corners of the CMYK cube, black's bit varies fastest, cyan's slowest; L* as 0…255, a* = b* = 0
    cube = b"".join(bytes([0 if i & 1 else 127 if i & 8 else 255, 128, 128]) for i in range(16))
    matrix = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + identity * 4 + cube + identity * 3
    size = 128 + 4 + 12 + len(table)
    header = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    header += bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)  # the D50 white of all profiles
    header += bytes(128 - len(header))
    return header + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def test_cmyk_by_its_profile(tmp_path):
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    pixel = np.asarray(read_photo(as_file(cyan, ".tif", tmp_path, icc_profile=cmyk_profile())))[4, 4]
    assert np.abs(pixel.astype(int) - 119).max() <= 3  # L* 50


@pytest.mark.parametrize("profile", [b"no profile" * 20, cmyk_profile()[:-300]])
def test_cmyk_with_a_broken_profile_is_converted_without_it(tmp_path, profile):
    image = Image.fromarray(picture()).convert("CMYK")
    path = as_file(image, ".jpg", tmp_path, icc_profile=profile, **LOSSY)
    assert_looks_like(read_photo(path), picture(), 4)


def gray(shape=(8, 32)) -> np.ndarray:
    return np.linspace(0, 255, shape[1]).round().astype(np.uint8)[None].repeat(shape[0], axis=0)


def in_rgb(levels: np.ndarray) -> np.ndarray:
    return np.stack([levels] * 3, axis=-1)


def test_gray(tmp_path):
    assert_looks_like(read_photo(as_file(gray(), ".png", tmp_path)), in_rgb(gray()), 0)
    assert_looks_like(read_photo(as_file(gray(), ".jpg", tmp_path)), in_rgb(gray()), 2)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("brightest", [65535, 20000, 200, 1])
def test_16_bit_gray(tmp_path, suffix, brightest):
    """Scaled by the format's 65535, however dark the photo is."""
    values = np.linspace(0, brightest, 32).round().astype(np.uint16)[None].repeat(8, axis=0)
    path = as_file(values, suffix, tmp_path)
    expected = (values / 257.0).round().astype(np.uint8)
    assert_looks_like(read_photo(path), in_rgb(expected), 0)


def test_16_bit_gray_big_endian(tmp_path):
    values = (gray().astype(">u2")) * 257
    image = Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes())
    assert_looks_like(read_photo(image), in_rgb(gray()), 0)


def test_16_bit_rgb(tmp_path):
    row = b"\0" + np.array([[65535, 32896, 0], [257, 514, 65535]], dtype=">u2").tobytes()
    result = np.asarray(read_photo(png(2, 2, 16, 2, row * 2)))
    assert np.abs(result[0].astype(int) - [[255, 128, 0], [1, 2, 255]]).max() <= 1


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_float_tiff(tmp_path, top):
    path = as_file(Image.fromarray((gray() / 255 * top).astype(np.float32)), ".tif", tmp_path)
    assert_looks_like(read_photo(path), in_rgb(gray()), 0)


def test_1_bit(tmp_path):
    image = Image.fromarray(gray()).convert("1", dither=Image.Dither.NONE)
    path = as_file(image, ".png", tmp_path)
    assert_looks_like(read_photo(path), in_rgb(np.where(gray() >= 128, 255, 0)), 0)


def test_palette(tmp_path):
    image = Image.fromarray(picture()).quantize(64, dither=Image.Dither.NONE)
    assert_looks_like(read_photo(as_file(image, ".png", tmp_path)), picture(), 5)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_parts_lie_on_white(mode):
    image = (
        Image.fromarray(picture()).convert("L").convert(mode)
        if mode != "RGBA"
        else Image.fromarray(picture()).convert(mode)
    )
    opaque = np.asarray(image.convert("RGB")).astype(float)
    alpha = np.zeros(picture().shape[:2], dtype=np.uint8)
    alpha[:, 8:16], alpha[:, 16:] = 128, 255  # nothing, half, all of the photo
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    assert_looks_like(read_photo(image), opaque * share + 255 * (1 - share), 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_in_files(tmp_path, mode):
    image = Image.new(mode, (4, 4), (10, 0) if mode == "LA" else (10, 20, 30, 0))
    assert_looks_like(read_photo(as_file(image, ".png", tmp_path)), np.full((4, 4, 3), 255), 0)


def test_palette_with_a_transparent_color(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 2, 4))
    result = np.asarray(read_photo(as_file(image, ".png", tmp_path, transparency=0)))
    assert result[0].tolist() == [[200, 100, 50]] * 2 + [[255, 255, 255]] * 2


def test_rgb_with_a_transparent_color(tmp_path):
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    image.paste((200, 100, 50), (0, 0, 2, 4))
    result = np.asarray(read_photo(as_file(image, ".png", tmp_path, transparency=(10, 20, 30))))
    assert result[0].tolist() == [[200, 100, 50]] * 2 + [[255, 255, 255]] * 2


# --- files that are no photos -------------------------------------------------------------------------------


def test_truncated(tmp_path):
    path = as_file(picture(), ".jpg", tmp_path, **LOSSY)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(PhotoError, match=r"^photo\.jpg: broken image file .*[Tt]runcated"):
        read_photo(path)


@pytest.mark.parametrize("content", [b"", b"dear diary\n" * 99, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
def test_no_image(tmp_path, content):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=r"^photo\.jpg: (not an|broken) image file"):
        read_photo(path)
    with pytest.raises(PhotoError, match=r"^the image: "):
        read_photo(content)


def test_decompression_bomb(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(20_000, 20_000, 1, 0, b"\0" * 2501 * 20_000))
    assert path.stat().st_size < 100_000
    with pytest.raises(PhotoError, match=r"^bomb\.png: too many pixels"):
        read_photo(path)


def test_folder_named_like_a_photo(tmp_path):
    (tmp_path / "photo.jpg").mkdir()
    with pytest.raises(PhotoError, match=r"^photo\.jpg: "):
        read_photo(tmp_path / "photo.jpg")


def test_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        read_photo(tmp_path / "none.jpg")


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on the damage
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_damage_of_any_kind_is_a_photo_error_or_harmless(tmp_path, suffix):
    """Whatever bytes are hurt, nothing but PhotoError comes out: one bad file must not stop a training."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {} if suffix == ".bmp" else {"exif": exif}
    whole = as_file(picture(), suffix, tmp_path, **options).read_bytes()
    random = np.random.default_rng(0)
    errors = 0
    for trial in range(60):
        data = bytearray(whole)
        for _ in range(4):
            data[random.integers(min(len(data), 300))] = random.integers(256)
        try:
            read_photo(bytes(data[: random.integers(len(data))] if trial % 2 else data))
        except PhotoError:
            errors += 1
    assert errors > 10


def test_files_are_closed(tmp_path):
    good = as_file(picture(), ".png", tmp_path)
    pages = as_file(picture(), ".tif", tmp_path, save_all=True, append_images=[Image.fromarray(picture())])
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(good.read_bytes()[:200])
    gc.collect()  # what other tests have left open is not ours
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        read_photo(good), read_photo(pages)
        with pytest.raises(PhotoError):
            read_photo(bad)
        gc.collect()
    assert [str(warning.message) for warning in caught if warning.category is ResourceWarning] == []


# --- picture and tensor -------------------------------------------------------------------------------------


def test_resize_is_pillows_bicubic_of_the_whole_photo():
    image = Image.fromarray(picture())
    result = resize_photo(image, 16)
    assert result.dtype == np.uint8 and result.shape == (16, 16, 3)
    assert np.array_equal(result, np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC)))
    corners = result[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int)
    assert np.abs(corners - picture()[[0, 0, -1, -1], [0, -1, 0, -1]]).max() < 12, "nothing is cropped away"


def test_to_tensor():
    tensor = to_tensor(picture())
    assert tensor.dtype == torch.float32 and tensor.shape == (3, 48, 32)
    assert torch.equal((tensor * 255).round().byte().permute(1, 2, 0), torch.from_numpy(picture()))
    assert to_tensor(np.array([[[0, 128, 255]]], dtype=np.uint8)).flatten().tolist() == pytest.approx([0, 128 / 255, 1])


def test_to_tensor_copies(tmp_path):
    array = np.asarray(Image.fromarray(picture()))  # read-only, as Pillow gives it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_tensor(array).zero_()
    assert np.array_equal(array, picture())


def test_bytes_are_what_a_file_holds():
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "PNG")
    assert_looks_like(read_photo(buffer.getvalue()), picture(), 0)


# --- colour profiles, opacity and size ----------------------------------------------------------------------


def rgb_profile(gamma: float, swapped: bool = False) -> bytes:
    """An ICC profile of a display with sRGB's primaries (or red and green swapped) and a plain gamma curve."""
    columns = {"r": (0.4361, 0.2225, 0.0139), "g": (0.3851, 0.7169, 0.0971), "b": (0.1431, 0.0606, 0.7141)}
    if swapped:
        columns["r"], columns["g"] = columns["g"], columns["r"]
    tags = {b"wtpt": struct.pack(">4sI3i", b"XYZ ", 0, 0xF6D6, 0x10000, 0xD32D)}
    for name, xyz in columns.items():
        tags[f"{name}XYZ".encode()] = struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in xyz))
        tags[f"{name}TRC".encode()] = struct.pack(">4sIIH2x", b"curv", 0, 1, round(gamma * 256))
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, place + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s", place + len(body), b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_an_rgb_profile_is_applied(tmp_path, suffix):
    options = {"quality": 100, "lossless": True} if suffix == ".webp" else LOSSY if suffix == ".jpg" else {}
    path = as_file(picture(), suffix, tmp_path, icc_profile=rgb_profile(2.2, swapped=True), **options)
    assert_looks_like(read_photo(path), picture()[..., [1, 0, 2]], 4)
    linear = as_file(picture(), suffix, tmp_path, icc_profile=rgb_profile(1.0), **options)
    light = picture() / 255
    expected = 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)
    assert_looks_like(read_photo(linear), expected, 4)


def test_scores_take_the_numbers_as_they_are(tmp_path):
    path = as_file(picture(), ".png", tmp_path, icc_profile=rgb_profile(2.2, swapped=True))
    assert_looks_like(read_photo(path, managed=False), picture(), 0)
    true = {}
    evaluate_model(
        lambda L: L.expand(-1, 2, -1, -1) * 0, [path], 32, progress=False, on_photo=lambda *a: true.update(a[1])
    )
    assert np.array_equal(true["true"], resize_photo(Image.fromarray(picture()), 32))


def test_a_profile_of_srgb_changes_no_bit(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_looks_like(read_photo(as_file(picture(), ".png", tmp_path, icc_profile=srgb)), picture(), 0)


@pytest.mark.parametrize("profile", [b"no profile" * 20, cmyk_profile()], ids=["broken", "of a printer"])
def test_a_profile_that_does_not_fit_is_left_out(tmp_path, profile):
    assert_looks_like(read_photo(as_file(picture(), ".png", tmp_path, icc_profile=profile)), picture(), 0)


def test_lab_file(tmp_path):
    lab = np.full((4, 4, 3), (119, 0, 0), np.uint8)  # L* 46.7 of 100 in 255 steps, no colour
    path = as_file(Image.frombytes("LAB", (4, 4), lab.tobytes()), ".tif", tmp_path)
    assert np.abs(np.asarray(read_photo(path)).astype(int) - 111).max() <= 2


def test_opacity_is_upright_and_none_where_all_is_opaque(tmp_path):
    alpha = np.linspace(0, 255, 48 * 32).reshape(48, 32).astype(np.uint8)
    image = Image.fromarray(picture()).convert("RGBA")
    assert read_alpha(image) is None and read_alpha(as_file(picture(), ".jpg", tmp_path)) is None
    image.putalpha(Image.fromarray(alpha))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = as_file(image, ".png", tmp_path, exif=exif)
    assert np.array_equal(np.asarray(read_alpha(path)), np.rot90(alpha, -1))
    palette = Image.new("P", (4, 4), 0)
    assert np.asarray(read_alpha(as_file(palette, ".png", tmp_path, transparency=0))).max() == 0


def test_hundred_megapixels_are_the_limit(tmp_path):
    """Just above Pillow's own warning, which would only alarm; nothing is decoded here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_image(png(10_000, 10_000, 8, 2, b"")) as image:
            assert image.size == (10_000, 10_000)
    with pytest.raises(PhotoError, match=r"10001×10000 px, the limit is 100 megapixels.*save it smaller"):
        read_photo(png(10_001, 10_000, 8, 2, b""))
