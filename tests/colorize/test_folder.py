"""Whole folders: names, subfolders, interrupts, bad files and the contact sheet."""

import errno
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import Constant, blobs, files, small_disk
from PIL import Image

from colorlib.colorize import Colorizer, colorize_folder, contact_sheet, save_picture
from colorlib.colorize.folder import EARLIER, SHEET
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


def test_of_two_photos_with_one_name_each_has_a_result(album, tmp_path):
    """In two folders, with another suffix's letters, on a disk that takes A for a, or called as the sheet is."""
    other = tmp_path / "other"
    other.mkdir()
    for number, name in enumerate(("a.JPG", "a.jpg", "A.jpg", "a-2.jpg", "contact-sheet.jpg")):
        Image.fromarray(blobs(number + 5)).save(other / name, quality=95)
    sources = [album / "a.jpg", str(album / "trip"), other, other / "a.jpg", tmp_path / "album" / ".." / "other"]
    first = run(sources, tmp_path / "out")
    for photo, target in first.done.items():
        pair = [np.asarray(Image.open(path).convert("L")).ravel() for path in (photo, target)]
        assert np.corrcoef(pair)[0, 1] > 0.9, f"{target.name} is the result of {photo}"
    names = ["A-2-colorized.jpg", "a-2-2-colorized.jpg", "a-3-colorized.jpg", "a-4-colorized.jpg", "a-colorized.jpg"]
    names += ["contact-sheet-2-colorized.jpg", SHEET, "day 2/c-colorized.webp"]
    assert files(tmp_path / "out") == names and len(first.done) == 7 and not first.failed
    assert first.notes[other / "A.jpg"] == "its result is A-2-colorized.jpg, as A-colorized.jpg is another photo's"
    again = run(sources, tmp_path / "out")
    assert not again.done and again.skipped == first.done
    assert list(run(album / "trip", album).done.values()) == [album / "day 2" / "c-colorized.webp"]


def test_a_photo_that_comes_later_does_not_take_the_result_of_another(tmp_path):
    Image.fromarray(blobs(0)).save(tmp_path / "a.jpg")
    before = run(tmp_path, tmp_path / "out").done
    Image.fromarray(blobs(1)).save(tmp_path / "a.JPG", "JPEG")  # before it, in the order of letters
    later = run(tmp_path, tmp_path / "out")
    assert later.skipped == before and [path.name for path in later.done] == ["a.JPG"]


def test_ones_own_photo_that_is_called_like_a_result_is_colored_and_never_overwritten(album):
    """Results are known by the note in them."""
    own = album / "a-colorized.jpg"
    Image.fromarray(blobs(7)).save(own)
    content = own.read_bytes()
    for overwrite in (False, True):
        result = run(album, album, overwrite=overwrite)
        there = {path.name: target.name for path, target in (result.done | result.skipped).items()}
        assert there["a.jpg"] == "a-2-colorized.jpg" and there[own.name] == "a-colorized-colorized.jpg"
        assert own.read_bytes() == content and len(there) == 4
        assert result.left_out == {".txt": 1} | ({EARLIER: 5} if overwrite else {}), "each result, and the sheet"
    assert len(run(album / "a-2-colorized.jpg", album / "x").done) == 1, "a result that is all that is given"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".mp4"])
def test_results_of_every_kind_are_known(tmp_path, suffix):
    Image.fromarray(blobs(0)).save(tmp_path / "b.png")
    pictures = [Image.fromarray(blobs(number)) for number in range(2)]
    if suffix == ".mp4":
        pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    else:
        pictures[0].save(tmp_path / f"a{suffix}")
    assert len(run(tmp_path, tmp_path / "out").done) == 2
    result = run(tmp_path, tmp_path / "elsewhere")
    assert len(result.done) == 2 and result.left_out == {EARLIER: 3}


def test_the_sheet_shows_the_photos_in_their_order_after_an_interrupt_too(album, tmp_path):
    whole = run(album, tmp_path / "out")
    sheet = np.asarray(Image.open(whole.sheet))
    (tmp_path / "out" / "b-colorized.png").unlink()
    assert np.array_equal(np.asarray(Image.open(run(album, tmp_path / "out").sheet)), sheet)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_what_a_killed_call_left_is_deleted_and_nothing_else(album, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr("os.replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    for source in (album / "a.jpg", album / "trip"):
        if (child := os.fork()) == 0:
            try:
                run(source, out)
            finally:
                os._exit(1)  # if it was not killed
        os.waitpid(child, 0)
    monkeypatch.undo()
    assert len(list(out.rglob(".*-colorized.*"))) == 2
    (out / ".my notes.2023.txt").touch()  # named as a file that is being written
    run([album / "a.jpg", album / "trip"], out)
    assert files(out) == [".my notes.2023.txt", "a-colorized.jpg", SHEET, "day 2/c-colorized.webp"]


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
def test_odd_files_and_folders_stop_nothing_and_are_named(album, tmp_path, monkeypatch):
    """All that may lie in a folder; who runs tests may be allowed everything, so a folder's lock is imitated."""
    shutil.copytree(album / "trip", tmp_path / "linked")
    (album / "link").symlink_to(tmp_path / "linked")
    (album / "same").symlink_to(album / "trip")
    (album / "up").symlink_to("..")
    (album / "nowhere.jpg").symlink_to("missing.jpg")
    (album / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(album / "pipe.jpg")
    long = f"{'ü' * 121}.jpg"
    for name in (long, ".hidden.jpg", ".hidden.txt", ".trash/a.jpg", ".trash/a.txt", "locked/a.jpg", "listed/a.jpg"):
        (album / name).parent.mkdir(exist_ok=True)
        shutil.copy(album / "a.jpg", album / name)
    scandir, stat = os.scandir, os.stat

    def locked(ask, path, *rest, **options):
        if Path(path) == album / "locked" or Path(path).parent == album / "listed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return ask(path, *rest, **options)

    monkeypatch.setattr("os.scandir", lambda path=".": locked(scandir, path))
    monkeypatch.setattr("os.stat", lambda path, **options: locked(stat, path, **options))
    result = run(album, tmp_path / "out")
    done = ["a.jpg", "b.png", "link/day 2/c.webp", "trip/day 2/c.webp"]
    assert [path.relative_to(album).as_posix() for path in result.done] == done
    failed = {path.relative_to(album).as_posix(): words for path, words in result.failed.items()}
    assert "File name too long" in failed.pop(long) and failed.keys() > {"broken.jpg", "notes.jpg"}
    assert failed | {"broken.jpg": "", "notes.jpg": ""} == {
        "broken.jpg": "",
        "notes.jpg": "",
        "circle.jpg": "Too many levels of symbolic links",
        "listed/a.jpg": "Permission denied",
        "locked": "Permission denied",
        "nowhere.jpg": "No such file or directory",
        "pipe.jpg": "a pipe, a socket or a device, no file",
        "up": "a link to a folder above, not entered",
    }
    assert result.left_out == {".txt": 1}, "what is hidden is not spoken of"


def test_one_question_to_the_disk_that_fails_does_not_end_the_run(album, tmp_path, monkeypatch):
    is_file = Path.is_file

    def ask(path):
        if path.name == "a-colorized.jpg":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", ask)
    result = run(album, tmp_path / "out")
    assert result.failed[album / "a.jpg"] == "Permission denied" and len(result.done) == 2


def test_wildcards_are_expanded_unless_a_file_has_that_name(album, tmp_path, monkeypatch):
    shutil.copy(album / "a.jpg", album / "photo[1].jpg")
    shutil.copy(album / "a.jpg", album / "~photo.jpg")
    monkeypatch.chdir(album)
    result = run([album / "[ab].*", "photo[1].jpg", "~photo.jpg", "**/c.webp", "tri?"], tmp_path / "out")
    names = ["a.jpg", "b.png", "photo[1].jpg", "~photo.jpg", "c.webp"]  # which two of them find
    assert [path.name for path in result.done] == names


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_contact_sheet_on_a_full_disk_is_a_failure(album, tmp_path):
    """The photos' results are there, the sheet has no room: it is not left broken."""
    sheet = tmp_path / "out" / SHEET
    first = run(album, tmp_path / "out")
    sheet.unlink()
    with small_disk(5000):
        result = run(album, tmp_path / "out")
    assert len(first.done) == len(result.skipped) == 3 and result.sheet is None
    assert "make room" in result.failed[sheet] and not sheet.exists()


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


def test_notes_on_clips_are_told_and_typescript_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("colorlib.colorize.folder.colorize_video", noted)
    (tmp_path / "app.ts").write_text("let answer = 42;")
    (tmp_path / "film.ts").write_bytes(bytes(188))
    result = run(tmp_path, tmp_path / "out")
    assert [path.name for path in result.done] == ["film.ts"] and not result.failed
    assert result.notes == {tmp_path / "film.ts": "it is interlaced"} and result.left_out == {".ts": 1}


def noted(src, dst, colorizer, on_note, **options):
    """What `colorize_video` says of a clip."""
    on_note(f"{src.name}: it is interlaced")
