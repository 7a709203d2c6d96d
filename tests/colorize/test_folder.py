"""Whole folders: names, subfolders, interrupts, bad files and the contact sheet."""

import shutil

import numpy as np
import pytest
import tifffile
from conftest import Constant, blobs, files
from PIL import Image

from colorlib.colorize import Colorizer, colorize_folder, contact_sheet, save_picture
from colorlib.colorize.folder import SHEET
from colorlib.config import Config

COLORIZER = Colorizer(Constant(0.1, -0.1), Config(width=4, depth=4, image_size=16), "float32")
RESULTS = ["a-colorized.jpg", "b-colorized.png", SHEET, "trip/day 2/c-colorized.webp"]


def run(src, dst, **options):
    return colorize_folder(src, dst, COLORIZER, progress=False, **options)


@pytest.fixture
def album(tmp_path):
    """Three photos, one of them in a subfolder, and three files that are none."""
    root = tmp_path / "album"
    (root / "trip" / "day 2").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.png", "trip/day 2/c.webp")):
        Image.fromarray(blobs(number)).save(root / name)
    (root / "broken.jpg").write_bytes((root / "a.jpg").read_bytes()[:300])
    (root / "notes.jpg").write_text("no photo")
    (root / "readme.txt").write_text("not even called one")
    return root


def test_a_folder_with_bad_files(album, tmp_path, capsys):
    result = colorize_folder(album, tmp_path / "out", COLORIZER)
    assert "5/5" in capsys.readouterr().err, "a bar"
    assert files(tmp_path / "out") == RESULTS
    assert [path.name for path in result.done] == ["a.jpg", "b.png", "c.webp"] and not result.skipped
    assert [path.name for path in result.failed] == ["broken.jpg", "notes.jpg"]
    assert result.failed[album / "notes.jpg"] == "notes.jpg: not an image file that can be read"
    assert np.array_equal(np.asarray(Image.open(result.done[album / "b.png"])), COLORIZER.colorize(blobs(1)))
    assert result.sheet == tmp_path / "out" / SHEET


def test_finished_photos_are_skipped_also_after_an_interrupt_and_overwritten_only_if_asked(
    album, tmp_path, monkeypatch
):
    out, done = tmp_path / "out", []

    def save(target, *rest):
        if done:
            raise KeyboardInterrupt
        done.append(target)
        return save_picture(target, *rest)

    monkeypatch.setattr("colorlib.colorize.folder.save_picture", save)
    with pytest.raises(KeyboardInterrupt):
        run(album, out)
    assert files(out) == ["a-colorized.jpg"]
    monkeypatch.undo()
    shutil.copy(album / "a.jpg", out / "a-colorized.jpg")
    before = (out / "a-colorized.jpg").read_bytes()
    result = run(album, out)
    assert [path.name for path in result.skipped] == ["a.jpg"] and len(result.done) == 2 and files(out) == RESULTS
    assert len(run(album, out).skipped) == 3 and (out / "a-colorized.jpg").read_bytes() == before
    assert len(run(album, out, overwrite=True).done) == 3 and (out / "a-colorized.jpg").read_bytes() != before


@pytest.mark.parametrize("where", ["album", "album/out"])
def test_results_within_the_folder_are_not_colored_again(album, tmp_path, where):
    first = run(album, tmp_path / where)
    before = files(album)
    second = run(album, tmp_path / where)
    assert len(first.done) == 3 and not second.done and len(second.skipped) == 3
    assert files(album) == before


def test_several_sources_and_names_that_collide(album, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.jpg", "contact-sheet.jpg"):
        shutil.copy(album / "b.png", other / name)
    result = run([album / "a.jpg", str(album / "trip"), other], tmp_path / "out")
    assert files(tmp_path / "out") == ["a-colorized.jpg", SHEET, "day 2/c-colorized.webp"]
    assert list(result.failed) == [other / "a.jpg", other / "contact-sheet.jpg"]
    assert "is already the result of the contact sheet" in result.failed[other / "contact-sheet.jpg"]
    assert list(run(album / "trip", album).done.values()) == [album / "day 2" / "c-colorized.webp"]


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError()])
def test_whatever_happens_to_one_photo_the_others_go_on(album, tmp_path, error):
    fails = iter([False, True])  # the options are tried first, then comes a.jpg

    class Failing(Colorizer):
        def colorize(self, photo, *args, **options):
            if next(fails, False):
                raise error
            return super().colorize(photo, *args, **options)

    result = colorize_folder(album, tmp_path / "out", Failing(COLORIZER.model, COLORIZER.config), progress=False)
    assert len(result.done) == 2 and result.failed[album / "a.jpg"] in ("out of memory", "MemoryError")


def test_contact_sheet_shows_before_beside_after(album, tmp_path):
    result = run(album, tmp_path / "out")
    pairs = list(result.done.items())
    sheet = contact_sheet(pairs[:2])
    assert sheet.dtype == np.uint8 and sheet.shape == (8 + 200, 8 + 2 * 392, 3)
    shown = [album / "a.jpg", result.done[album / "a.jpg"], album / "b.png", result.done[album / "b.png"]]
    for path, left in zip(shown, (8, 200, 400, 592), strict=True):
        photo = Image.open(path).convert("RGB").resize((192, 160))  # 48 × 40
        assert np.abs(sheet[24:184, left : left + 192].astype(int) - photo).mean() < 2
    Image.new("RGB", (900, 2)).save(thin := tmp_path / "thin.png")
    assert contact_sheet([*pairs[1:], *pairs * 2, (thin, thin)]).shape == (3 * 200 + 8, 3 * 392 + 8, 3)


def test_clips_pages_and_other_files(tmp_path):
    """A clip becomes an MP4, of pages the first is colored, 16 bits stay 16, and what is no picture is counted."""
    pictures = [Image.fromarray(blobs(number)) for number in range(3)]
    for name in ("pages.tif", "moving.gif"):
        pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:])
    Image.fromarray(np.full((8, 8), 30_000, np.uint16)).save(tmp_path / "scan.tif")
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    result = run(tmp_path, tmp_path / "out", steadiness=0.5)
    names = ["contact-sheet-colorized.jpg", "moving.gif-colorized.mp4", "pages-colorized.tif", "scan-colorized.tif"]
    assert files(tmp_path / "out") == names and result.left_out == {".txt": 1}
    assert tifffile.imread(result.done[tmp_path / "scan.tif"]).dtype == np.uint16
    assert result.notes == {tmp_path / "pages.tif": "it holds 3 pictures, of which the first one was colored"}
    assert list(result.failed) == [tmp_path / "broken.mp4"]
    with pytest.raises(NotADirectoryError, match="give a folder"):
        run(tmp_path, tmp_path / "notes.txt")
