"""Saved pictures: every format, whole or not at all, with what the original says about itself."""

import errno
import io
import os
import resource
import signal
import struct

import numpy as np
import pytest
from conftest import blobs
from PIL import ExifTags, Image, ImageCms

from colorlib.export import NOTE, SaveError, colorized_name, save_picture
from colorlib.photo import read_photo

BASE, EXIF, GPS = ExifTags.Base, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo


def photo_with_exif(path, orientation: int = 6, **options):
    """A photo with everything that a camera writes."""
    exif = Image.Exif()
    exif[BASE.Orientation], exif[BASE.Model], exif[BASE.Artist] = orientation, "Box camera", "A. Nonymous"
    exif[BASE.ImageDescription], exif[BASE.Software] = "The mill", "Scanner 1.0"
    exif[EXIF] = {BASE.DateTimeOriginal: "1931:05:02 10:00:00", BASE.MakerNote: b"secret", BASE.ExifImageWidth: 1}
    exif[GPS] = {1: "N", 2: (47.0, 30.0, 0.0)}
    Image.fromarray(blobs(0)).save(path, exif=exif.tobytes(), dpi=(300, 300), **options)
    return path


@pytest.mark.parametrize(
    ("suffix", "levels"),
    [(".jpg", 6), (".JPEG", 6), (".png", 0), (".webp", 16), (".tif", 0), (".tiff", 0), (".bmp", 0)],
)
def test_formats(tmp_path, suffix, levels):
    path = save_picture(tmp_path / "deep" / f"a{suffix}", blobs(1))
    assert path == tmp_path / "deep" / f"a{suffix}"
    with Image.open(path) as image:
        assert image.mode == "RGB" and np.abs(np.asarray(image).astype(int) - blobs(1)).max() <= levels
        if suffix != ".bmp":  # which holds pixels only
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)
            exif = image.getexif()
            assert exif[BASE.ImageDescription] == NOTE and exif[BASE.Software].startswith("colorlib ")
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("kind", ["path", "bytes", "image"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_what_the_original_says_is_kept_where_it_is_still_true(tmp_path, suffix, kind):
    source = photo_with_exif(tmp_path / f"a{suffix}")
    upright = np.asarray(read_photo(source))
    assert upright.shape == (48, 40, 3)
    handed = {"path": source, "bytes": source.read_bytes(), "image": Image.open(source)}[kind]
    path = save_picture(tmp_path / f"b{suffix}", upright, handed)
    assert np.abs(np.asarray(read_photo(path)).astype(int) - upright).mean() < 3, "it is not turned again"
    with Image.open(path) as image:
        exif = image.getexif()
        assert exif.get(BASE.Orientation, 1) == 1
        assert exif[BASE.Model] == "Box camera" and exif[BASE.Artist] == "A. Nonymous"
        assert exif[BASE.ImageDescription] == f"The mill {NOTE}" and exif[BASE.Software].startswith("colorlib ")
        assert dict(exif.get_ifd(EXIF)) == {BASE.DateTimeOriginal: "1931:05:02 10:00:00"}
        assert exif.get_ifd(GPS)[1] == "N"
        if suffix != ".webp":  # has no DPI
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        if suffix == ".tif":
            assert exif[BASE.Compression] == 1 and exif[BASE.ImageWidth] == 40


def test_the_thumbnail_is_dropped(tmp_path):
    """It shows the photo without its colours. Pillow writes none: here is one by hand."""
    thumbnail = io.BytesIO()
    Image.new("RGB", (8, 8)).save(thumbnail, "JPEG")
    first = struct.pack("<HHHII", 1, BASE.Orientation, 3, 1, 1)  # one entry of IFD0
    place = 8 + len(first) + 4 + 2 + 2 * 12 + 4
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, place, 0x0202, 4, 1, thumbnail.tell(), 0)
    block = b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + struct.pack("<I", 8 + len(first) + 4) + second
    Image.fromarray(blobs(0)).save(tmp_path / "a.jpg", exif=block + thumbnail.getvalue())
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif().get_ifd(ExifTags.IFD.IFD1)[0x0202] == thumbnail.tell()
    with Image.open(save_picture(tmp_path / "b.jpg", blobs(0), tmp_path / "a.jpg")) as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.IFD1)
    assert (tmp_path / "b.jpg").read_bytes().count(b"\xff\xd8\xff") == 1


def test_a_description_is_not_noted_twice(tmp_path):
    first = save_picture(tmp_path / "a.jpg", blobs(1), photo_with_exif(tmp_path / "x.jpg", 1))
    with Image.open(save_picture(tmp_path / "b.jpg", blobs(1), first)) as image:
        assert image.getexif()[BASE.ImageDescription] == f"The mill {NOTE}"


@pytest.mark.filterwarnings("ignore")  # Pillow's own remarks on the damage
@pytest.mark.parametrize("block", [b"Exif\0\0MM\0*\0\0\0\x08\0\x05garbage", b"Exif\0\0nonsense" * 20])
def test_broken_exif_is_left_behind(tmp_path, block):
    Image.fromarray(blobs(0)).save(tmp_path / "a.jpg", exif=block)
    with Image.open(save_picture(tmp_path / "b.jpg", blobs(0), tmp_path / "a.jpg")) as image:
        assert image.getexif()[BASE.ImageDescription] == NOTE


def test_exif_that_is_too_long_is_left_behind(tmp_path):
    exif = Image.Exif()
    exif[BASE.Artist] = "x" * 70_000
    Image.fromarray(blobs(0)).save(tmp_path / "a.png", exif=exif)
    with Image.open(save_picture(tmp_path / "b.jpg", blobs(0), tmp_path / "a.png")) as image:
        assert image.getexif()[BASE.ImageDescription] == NOTE


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


def test_opaque_alpha_is_no_transparency(tmp_path):
    Image.fromarray(blobs(0)).convert("RGBA").save(tmp_path / "a.png")
    assert Image.open(save_picture(tmp_path / "b.png", blobs(0), tmp_path / "a.png")).mode == "RGB"


@pytest.mark.parametrize("dpi", [(0, 0), (float("inf"), 1), (1e9, 300), "nonsense"])
def test_dpi_of_nonsense_is_left_behind(tmp_path, dpi):
    source = Image.fromarray(blobs(0))
    source.info["dpi"] = dpi
    with Image.open(save_picture(tmp_path / "b.png", blobs(0), source)) as image:
        assert "dpi" not in image.info


@pytest.mark.parametrize(
    ("name", "expected"),
    [("cat.jpg", "cat-colorized.jpg"), ("dir/Cat 1.PNG", "Cat 1-colorized.png"), ("a.b.tif", "a.b-colorized.tif"),
     ("upload", "upload-colorized.jpg"), ("cat.gif", "cat.gif-colorized.jpg")],
)  # fmt: skip
def test_names(name, expected):
    assert colorized_name(name) == expected


# --- what goes wrong ----------------------------------------------------------------------------------------


def assert_old_file_stays(path, save):
    path.write_bytes(b"old")
    with pytest.raises(SaveError) as caught:
        save()
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == [path.name]
    return str(caught.value)


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fill(self, path, **_):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill)
    words = assert_old_file_stays(tmp_path / "a.jpg", lambda: save_picture(tmp_path / "a.jpg", blobs(0)))
    assert (
        words
        == f"a.jpg cannot be written to {tmp_path}: the disk is full; make room, or choose a folder on another disk"
    )


def test_a_file_that_really_grows_too_large(tmp_path):
    """The system's own limit on a file's size, as far as Pillow's writers are concerned, is a disk that fills up."""
    picture = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif"):
            (tmp_path / suffix[1:]).mkdir()
            path = tmp_path / suffix[1:] / f"a{suffix}"
            words = assert_old_file_stays(path, lambda path=path: save_picture(path, picture))
            assert words.startswith(f"a{suffix} cannot be written to"), words
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(SaveError, match=r"a\.jpg cannot be written to .*out: a file has the folder's name"):
        save_picture(tmp_path / "out" / "a.jpg", blobs(0))


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Image.Image, "save", refuse)  # root may write anywhere
    with pytest.raises(SaveError, match=r"a\.jpg cannot be written to .*: no permission; choose a folder"):
        save_picture(tmp_path / "a.jpg", blobs(0))


def test_what_a_format_cannot_hold(tmp_path):
    wide = np.zeros((1, 17_000, 3), np.uint8)
    with pytest.raises(SaveError, match=r"a\.webp.*(WEBP cannot hold|cannot be written)"):
        save_picture(tmp_path / "a.webp", wide)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "picture", "words"),
    [("a.gif", blobs(0), r"saved as \.jpg, .*not as '\.gif'"), ("a", blobs(0), "not as 'nothing'"),
     ("a.png", blobs(0)[..., 0], r"expected a uint8 picture \(H, W, 3\), got uint8 \(40, 48\)"),
     ("a.png", blobs(0) / 255, "got float64"), ("a.png", blobs(0)[:0], r"got uint8 \(0, 48, 3\)")],
)  # fmt: skip
def test_wrong_arguments(tmp_path, name, picture, words):
    with pytest.raises(SaveError, match=words):
        save_picture(tmp_path / name, picture)


def test_a_source_of_another_size(tmp_path):
    source = Image.new("RGBA", (5, 5), (1, 2, 3, 99))
    with pytest.raises(
        SaveError, match=r"the photo that was coloured as the source, but it has 5×5 px, the picture 48×40"
    ):
        save_picture(tmp_path / "a.png", blobs(0), source)
