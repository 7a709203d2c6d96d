"""Photos are decoded once, and nothing that happens to files, disk or process gives wrong pixels."""

import collections
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import blobs
from PIL import Image

from colorlib import cache
from colorlib.cache import PhotoCache
from colorlib.photo import read_photo, resize_photo

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork a process to kill")


def expected(paths, side: int = 16) -> torch.Tensor:
    """What the cache has to hold, made photo by photo."""
    return torch.from_numpy(np.stack([resize_photo(read_photo(path), side) for path in paths]))


def everything(photos: PhotoCache) -> torch.Tensor:
    return photos[torch.arange(len(photos))]


def files_in(folder: Path) -> set[str]:
    """Names of all files below a folder, hidden ones too."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


def save(number: int, path: Path, side: int = 12) -> None:
    Image.fromarray(blobs(number, side, side)).save(path)


def killed(work: Callable[[], object]) -> None:
    """Do some work in a child process that has to end by SIGKILL: nothing is tidied up."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop(*_) -> None:
    raise KeyboardInterrupt


class Reads(list):
    """Names of the files that are read, in turn; `at` lets something happen just before one of them."""

    number, action = -1, None

    def at(self, number: int, action: Callable[[], object] | None) -> None:
        self.clear()
        self.number, self.action = number, action

    def __call__(self, path: Path) -> Image.Image:
        if self.action and len(self) == self.number:
            self.action()
        self.append(path.name)
        return read_photo(path)


@pytest.fixture
def reads(monkeypatch):
    """A list of the names of the files that the cache reads."""
    spy = Reads()
    monkeypatch.setattr(cache, "read_photo", spy)
    return spy


@pytest.fixture
def own(tmp_path):
    """Six photos that a test may change, and the folder of caches beside them."""
    (tmp_path / "own").mkdir()
    paths = [tmp_path / "own" / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        save(number, path)
    return paths


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """300 tiny photos. Shared: tests only read them."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(300):
        Image.fromarray(blobs(number, 8, 9)).save(folder / f"{number:03d}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def many_pixels(many):
    return expected(many, 8)


# --- what comes out -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["in memory", "on disk"])
@pytest.mark.parametrize("side", [16, 64])
def test_photos_are_those_that_pillow_resizes_to_the_bit(photos, tmp_path, side, kept):
    for _ in range(2):  # made, and found
        photo_cache = PhotoCache(photos, side, tmp_path if kept == "on disk" else None)
        assert len(photo_cache) == 10 and photo_cache.paths == list(photos) and photo_cache.skipped == []
        found = everything(photo_cache)
        assert found.dtype == torch.uint8 and found.shape == (10, side, side, 3)
        assert torch.equal(found, expected(photos, side))


def test_in_memory_means_that_no_file_is_written(photos, tmp_path, monkeypatch, reads):
    monkeypatch.chdir(tmp_path)
    PhotoCache(photos, 16), PhotoCache(photos, 16)
    assert len(reads) == 20
    assert not files_in(tmp_path) and not files_in(Path(os.environ["COLORLIB_CACHE"]))


@pytest.mark.parametrize("folder", [None, "cache"])
def test_any_numbers_in_any_order_and_repeated(photos, tmp_path, folder):
    photo_cache = PhotoCache(photos, 16, folder and tmp_path / folder)
    numbers = torch.tensor([7, 0, 7, 9, 0, 0])
    assert torch.equal(photo_cache[numbers], expected(photos)[numbers])
    assert photo_cache[torch.tensor([], dtype=torch.int64)].shape == (0, 16, 16, 3)
    with pytest.raises(IndexError):
        photo_cache[torch.tensor([10])]


@pytest.mark.parametrize("folder", [None, "cache"])
def test_a_path_may_come_twice(photos, tmp_path, folder):
    paths = [photos[3], photos[1], photos[3], photos[3]]
    for _ in range(2):
        assert torch.equal(everything(PhotoCache(paths, 16, folder and tmp_path / folder)), expected(paths))


@pytest.mark.parametrize("folder", [None, "cache"])
def test_writing_to_a_batch_changes_neither_the_file_nor_later_batches(photos, tmp_path, folder, reads):
    folder = folder and tmp_path / folder
    photo_cache = PhotoCache(photos, 16, folder)
    photo_cache[torch.arange(10)].zero_()
    photo_cache[torch.tensor([4])].fill_(255)
    assert torch.equal(everything(photo_cache), expected(photos))
    reads.clear()
    if folder:
        assert torch.equal(everything(PhotoCache(photos, 16, folder)), expected(photos)) and reads == []


def test_reading_leaves_the_global_generator_alone(photos, tmp_path):
    before = torch.get_rng_state()
    for folder in (None, tmp_path, tmp_path):
        PhotoCache(photos, 16, folder)
    assert torch.equal(torch.get_rng_state(), before), "else a run's dropout hangs on whether its cache was there"


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")  # on a computer with one core
@pytest.mark.parametrize(("folder", "cores", "helpers"), [(None, 4, 2), ("cache", 2, 2), ("cache", 1, 1)])
def test_helper_processes_give_the_same_pixels(
    many, many_pixels, tmp_path, monkeypatch, capsys, folder, cores, helpers
):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"none")
    paths = [*many[:70], broken, *many[70:150]]
    log = tmp_path / "log"

    def read_and_tell(path):
        with open(log, "a") as file:
            file.write(f"{os.getpid()}\n")
        return read_photo(path)

    monkeypatch.setattr(cache, "read_photo", read_and_tell)
    monkeypatch.setattr(cache, "available_cores", lambda: cores)
    photo_cache = PhotoCache(paths, 8, folder and tmp_path / folder, num_workers=2)
    assert torch.equal(everything(photo_cache), many_pixels[:150])
    assert photo_cache.paths == many[:150] and [path for path, _ in photo_cache.skipped] == [broken]
    readers = log.read_text().split()
    assert len(readers) == 151 and len(set(readers)) == helpers and str(os.getpid()) not in readers
    out, err = capsys.readouterr()
    assert "reading photos" in out and "/151" in out and err == ""


def test_few_photos_are_read_by_this_process_without_a_progress_bar(many, monkeypatch, capsys, reads):
    PhotoCache(many[:99], 8, num_workers=2)
    assert len(reads) == 99, "what a helper process reads, this list does not see"
    assert capsys.readouterr() == ("", "")


def test_many_photos_show_a_progress_bar_on_stdout_the_first_time(many, many_pixels, tmp_path, capsys):
    assert torch.equal(everything(PhotoCache(many, 8, tmp_path)), many_pixels)
    out, err = capsys.readouterr()
    assert "reading photos" in out and "/300" in out and err == ""
    PhotoCache(many, 8, tmp_path)
    assert capsys.readouterr() == ("", "")


# --- used again ---------------------------------------------------------------------------------------------


def test_no_file_is_read_twice(photos, tmp_path, reads):
    PhotoCache(photos, 16, tmp_path)
    assert reads == [path.name for path in photos]
    for again in (photos, [str(path) for path in photos]):
        assert torch.equal(everything(PhotoCache(again, 16, str(tmp_path))), expected(photos))
    assert len(reads) == 10


def test_relative_and_absolute_paths_are_the_same_photos(own, tmp_path, monkeypatch, reads):
    monkeypatch.chdir(tmp_path)
    PhotoCache([path.relative_to(tmp_path) for path in own], 16, "cache")
    monkeypatch.chdir(own[0].parent)
    PhotoCache([path.name for path in own], 16, tmp_path / "cache")
    PhotoCache(own, 16, tmp_path / "cache")
    assert len(reads) == 6


def change_content(path: Path) -> None:
    save(99, path, side=13)


def change_size_alone(path: Path) -> None:
    before = path.stat()
    change_content(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size != before.st_size


def change_time_alone(path: Path) -> None:
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 1))  # older counts as well: another file moved here


@pytest.mark.parametrize("change", [change_content, change_size_alone, change_time_alone])
def test_a_changed_file_is_read_anew_and_no_other(own, tmp_path, reads, change):
    PhotoCache(own, 16, tmp_path)
    reads.clear()
    change(own[2])
    for _ in range(2):
        assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))
    assert reads == ["2.png"]


def test_a_file_that_changes_while_it_is_read_is_read_again_next_time(own, tmp_path, reads):
    reads.at(3, lambda: save(50, own[2]))  # number 2 has just been read
    PhotoCache(own, 16, tmp_path)
    reads.at(-1, None)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))
    assert reads == ["2.png"]


def test_each_side_and_each_list_has_a_cache_of_its_own(own, tmp_path, reads):
    uses = [(own, 16), (own, 8), (own[:5], 16), (own[::-1], 16), ([*own, own[0]], 16)]
    for number, (paths, side) in enumerate(uses, start=1):
        assert torch.equal(everything(PhotoCache(paths, side, tmp_path)), expected(paths, side))
        assert len(list(tmp_path.glob("*/photos.npy"))) == number
    reads.clear()
    for paths, side in uses:  # all of them are still there
        assert torch.equal(everything(PhotoCache(paths, side, tmp_path)), expected(paths, side))
    assert reads == []


def test_two_folders_with_the_same_names_sizes_and_times(tmp_path):
    for folder, shift in (("a", 0), ("b", 10)):
        (tmp_path / folder).mkdir()
        for number in range(3):
            save(number + shift, tmp_path / folder / f"{number}.bmp")
            os.utime(tmp_path / folder / f"{number}.bmp", ns=(10**18, 10**18))
    for folder in "abab":
        paths = [tmp_path / folder / f"{number}.bmp" for number in range(3)]
        assert torch.equal(everything(PhotoCache(paths, 16, tmp_path / "cache")), expected(paths))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
def test_names_that_are_not_unicode(own, tmp_path):
    path = Path(os.fsdecode(os.fsencode(own[0].parent) + b"/caf\xe9.png"))
    shutil.copy(own[0], path)
    for _ in range(2):
        assert torch.equal(everything(PhotoCache([path, own[1]], 16, tmp_path)), expected(own[:2]))


def test_only_two_files_lie_in_a_cache(own, tmp_path):
    PhotoCache(own, 16, tmp_path / "deep" / "cache")
    assert files_in(tmp_path / "deep") == {"photos.npy", "stamps.npy"}


# --- interrupted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photo", [0, 1, 4, 5])
def test_after_an_interrupt_no_finished_photo_is_read_again(own, tmp_path, reads, photo):
    reads.at(photo, stop)
    with pytest.raises(KeyboardInterrupt):
        PhotoCache(own, 16, tmp_path)
    reads.at(-1, None)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))
    assert reads == [path.name for path in own[photo:]]


def test_interrupted_again_and_again(own, tmp_path, reads):
    for photo in range(6):
        reads.at(1, stop)  # each time one more is done
        if photo < 5:
            with pytest.raises(KeyboardInterrupt):
                PhotoCache(own, 16, tmp_path)
        else:
            assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))
        assert reads == [own[photo].name]


def test_an_interrupt_among_changed_files_keeps_old_and_new_apart(own, tmp_path, reads):
    PhotoCache(own, 16, tmp_path)
    for number in (1, 3, 4):
        save(60 + number, own[number])
    reads.at(1, stop)
    with pytest.raises(KeyboardInterrupt):
        PhotoCache(own, 16, tmp_path)
    reads.at(-1, None)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))
    assert reads == ["3.png", "4.png"]


@needs_fork
@pytest.mark.parametrize("photo", [0, 1, 255, 256, 257, 299])
def test_a_killed_process_loses_no_more_than_the_photos_written_together(many, many_pixels, tmp_path, reads, photo):
    reads.at(photo, die)
    killed(lambda: PhotoCache(many, 8, tmp_path))
    reads.at(-1, None)
    assert torch.equal(everything(PhotoCache(many, 8, tmp_path)), many_pixels)
    assert reads == [path.name for path in many[photo // 256 * 256 :]]
    assert files_in(tmp_path) == {"photos.npy", "stamps.npy"}


@needs_fork
@pytest.mark.parametrize("name", ["photos.npy", "stamps.npy"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_the_files_are_made(own, tmp_path, monkeypatch, name, when):
    """Where there was a cache before, whose photos or stamps are gone."""
    PhotoCache(own, 16, tmp_path)
    next(tmp_path.rglob(name)).unlink()
    replace = os.replace

    def replace_and_die(*paths):
        if when == "after":
            replace(*paths)
        die()

    def work():
        monkeypatch.setattr(os, "replace", replace_and_die)
        PhotoCache(own, 16, tmp_path)

    killed(work)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))


@needs_fork
def test_killed_between_the_new_pixels_and_their_stamp_then_the_old_file_comes_back(own, tmp_path, reads):
    PhotoCache(own, 16, tmp_path)
    old = [(path.read_bytes(), path.stat()) for path in own]
    for number in (2, 4):
        save(70 + number, own[number])
    reads.at(1, die)
    killed(lambda: PhotoCache(own, 16, tmp_path))
    for path, (content, status) in zip(own, old, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    reads.at(-1, None)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))


def test_stamps_follow_the_pixels_to_the_disk(own, tmp_path, monkeypatch):
    """Else a computer that loses power could find stamps whose photos were never written."""
    flushed = []
    flush = np.memmap.flush

    def look(array):
        if array.dtype == np.uint8:
            stamps = np.load(next(tmp_path.rglob("stamps.npy")))
            flushed.append(((array.reshape(6, -1) > 0).any(axis=1).sum(), (stamps > 0).any(axis=1).sum()))
        flush(array)

    monkeypatch.setattr(np.memmap, "flush", look)
    monkeypatch.setattr(cache, "WRITTEN_TOGETHER", 2)
    PhotoCache(own, 16, tmp_path)
    assert flushed[:3] == [(2, 0), (4, 2), (6, 4)]


# --- several processes at once, and deleted caches ----------------------------------------------------------


def test_the_cache_may_be_deleted_while_it_is_made(own, tmp_path, reads):
    reads.at(3, lambda: shutil.rmtree(tmp_path / "cache"))
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path / "cache")), expected(own))
    reads.at(-1, None)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path / "cache")), expected(own)) and len(reads) == 6


def test_the_cache_may_be_deleted_while_it_is_used(own, tmp_path):
    photo_cache = PhotoCache(own, 16, tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache")
    assert torch.equal(everything(photo_cache), expected(own))


@pytest.mark.parametrize("finished", [True, False])
def test_another_process_makes_the_same_cache_anew_meanwhile(own, tmp_path, reads, finished):
    """It has seen no file when it started, and moves its own ones into place while this one reads."""

    def other_process():
        shutil.rmtree(tmp_path / "cache")
        reads.at(2, None if finished else stop)
        if finished:
            PhotoCache(own, 16, tmp_path / "cache")
        else:
            with pytest.raises(KeyboardInterrupt):
                PhotoCache(own, 16, tmp_path / "cache")
        reads.at(-1, None)

    reads.at(3, other_process)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path / "cache")), expected(own))
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path / "cache")), expected(own))


def test_another_process_goes_on_with_the_same_cache_meanwhile(own, tmp_path, reads):
    found = []

    def other_process():
        reads.at(-1, None)
        found.append(everything(PhotoCache(own, 16, tmp_path)))

    reads.at(3, other_process)
    found.append(everything(PhotoCache(own, 16, tmp_path)))
    assert all(torch.equal(one, expected(own)) for one in found) and len(found) == 2
    reads.clear()
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own)) and reads == []


def test_a_new_photos_file_takes_away_stamps_that_appear_while_it_is_made(own, tmp_path, monkeypatch):
    PhotoCache(own, 16, tmp_path)
    stamps = next(tmp_path.rglob("stamps.npy"))
    content = stamps.read_bytes()
    next(tmp_path.rglob("photos.npy")).unlink()
    claim = os.posix_fallocate

    def claim_and_stamp(file, start, length):
        claim(file, start, length)
        if length > 1000:  # the photos
            stamps.write_bytes(content)

    monkeypatch.setattr(os, "posix_fallocate", claim_and_stamp)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))


# --- damaged ------------------------------------------------------------------------------------------------


def pack(write: Callable, *arguments) -> bytes:
    buffer = io.BytesIO()
    write(buffer, *arguments)
    return buffer.getvalue()


DAMAGE = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "cut in the header": lambda content: content[:70],
    "header alone": lambda content: content[:128],
    "cut in half": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "garbage": lambda content: b"garbage " * 1000,
    "zeros": lambda content: bytes(len(content)),
    "broken header": lambda content: content.replace(b"}", b"{"),
    "a shape too large": lambda content: content.replace(b"(6, ", b"(9, "),
    "an enormous shape": lambda content: content.replace(b"(6, ", b"(9" + b"9" * 12 + b", ").replace(b" " * 12, b"", 1),
    "another shape": lambda content: pack(np.save, np.ones((5, 16, 16, 3), np.uint8)),
    "another type": lambda content: pack(np.save, np.ones((6, 16, 16, 3), np.int32)),
    "stamps of another type": lambda content: pack(np.save, np.ones((6, 2), np.uint8)),
    "objects": lambda content: pack(np.save, np.array([{}], dtype=object)),
    "an archive": lambda content: pack(np.savez, np.ones(3)),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["photos.npy", "stamps.npy"])
def test_a_damaged_file_is_made_anew(own, tmp_path, reads, name, damage):
    PhotoCache(own, 16, tmp_path)
    path = next(tmp_path.rglob(name))
    content = DAMAGE[damage](path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    reads.clear()
    for _ in range(2):
        assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))
    assert reads == [path.name for path in own], "all of them, once"
    assert files_in(tmp_path / path.parent.name) == {"photos.npy", "stamps.npy"}


def test_stamps_of_nothing_and_of_other_files_are_not_believed(own, tmp_path, reads):
    PhotoCache(own, 16, tmp_path)
    path = next(tmp_path.rglob("stamps.npy"))
    for foreign in (np.zeros((6, 2), np.int64), np.full((6, 2), -1), np.load(path)[::-1]):
        np.save(path, foreign)
        reads.clear()
        assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own)) and len(reads) == 6


# --- files that cannot be read ------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [None, "cache"])
def test_unreadable_files_are_skipped_named_and_printed(own, tmp_path, capsys, folder):
    own[1].write_bytes(b"dear diary")
    own[4].write_bytes(b"")
    gone = tmp_path / "gone.png"
    for _ in range(2):  # also when the others are there already
        photo_cache = PhotoCache([*own[:3], gone, *own[3:]], 16, folder and tmp_path / folder)
        good = [own[0], own[2], own[3], own[5]]
        assert photo_cache.paths == good and len(photo_cache) == 4
        assert torch.equal(everything(photo_cache), expected(good)), "each behind a bad one is still itself"
        assert [path for path, _ in photo_cache.skipped] == [own[1], gone, own[4]]
        reasons = dict(photo_cache.skipped)
        assert "1.png: not an image file" in reasons[own[1]] and "gone.png" in reasons[gone]
        out = capsys.readouterr().out
        assert out.startswith("skipped 3 of 7 files:\n") and all(reason in out for reason in reasons.values())


def test_a_bad_file_is_tried_again_and_becomes_part_when_it_is_mended(own, tmp_path, reads):
    whole = own[2].read_bytes()
    own[2].write_bytes(whole[: len(whole) // 2])
    own[5].unlink()
    assert len(PhotoCache(own, 16, tmp_path)) == 4
    reads.clear()
    assert len(PhotoCache(own, 16, tmp_path)) == 4 and reads == ["2.png", "5.png"]
    own[2].write_bytes(whole)
    save(5, own[5])
    photo_cache = PhotoCache(own, 16, tmp_path)
    assert photo_cache.skipped == [] and torch.equal(everything(photo_cache), expected(own))
    reads.clear()
    assert len(PhotoCache(own, 16, tmp_path)) == 6 and reads == []


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_file_that_goes_bad_is_left_out_and_costs_nothing_when_it_is_back(own, tmp_path, reads, spoil):
    """A disk that was not plugged in for a while, say."""
    content, status = own[3].read_bytes(), own[3].stat()
    PhotoCache(own, 16, tmp_path)
    spoil(own[3])
    photo_cache = PhotoCache(own, 16, tmp_path)
    assert photo_cache.paths == own[:3] + own[4:]
    assert torch.equal(everything(photo_cache), expected(photo_cache.paths))
    own[3].write_bytes(content)
    os.utime(own[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    reads.clear()
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own)) and reads == []


def test_an_empty_file_from_1970_is_no_photo(own, tmp_path):
    """Its size and time are what an unwritten stamp looks like."""
    own[0].write_bytes(b"")
    os.utime(own[0], ns=(0, 0))
    photo_cache = PhotoCache(own, 16, tmp_path)
    assert photo_cache.paths == own[1:] and torch.equal(everything(photo_cache), expected(own[1:]))


def test_a_photo_from_1970_is_one(own, tmp_path, reads):
    os.utime(own[0], ns=(0, 0))
    for _ in range(2):
        assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))
    assert len(reads) == 6


@pytest.mark.parametrize("folder", [None, "cache"])
def test_no_photo_at_all(tmp_path, folder):
    folder = folder and tmp_path / folder
    (tmp_path / "a.jpg").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(ValueError, match="none of the 2 files could be read"):
            PhotoCache([tmp_path / "a.jpg", tmp_path / "b.jpg"], 16, folder)
        with pytest.raises(ValueError, match="none of the 0 files"):
            PhotoCache([], 16, folder)


# --- full disks and forbidden folders -----------------------------------------------------------------------

Usage = collections.namedtuple("Usage", "total used free")


def fail_with(number: int) -> Callable:
    def fail(*_, **options):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("noticed", ["beforehand", "while the space is claimed"])
def test_a_full_disk_is_an_error_that_says_what_to_do(own, tmp_path, monkeypatch, reads, noticed):
    with monkeypatch.context() as full:
        free = 50_000_000 if noticed == "beforehand" else 200_000_000
        full.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - free, free))
        if noticed != "beforehand":
            full.setattr(os, "posix_fallocate", fail_with(errno.ENOSPC))
        with pytest.raises(OSError) as caught:
            PhotoCache(own, 2048, tmp_path / "cache")
    assert caught.value.errno == errno.ENOSPC
    message = str(caught.value)
    assert "No space left on device" in message and "photo_size" in message and "COLORLIB_CACHE" in message
    assert f"needs 0.08 GB, {free / 1e9:.2f} GB are free" in message
    assert str(tmp_path / "cache") in message
    assert reads == [] and not files_in(tmp_path / "cache"), "no half file, nothing temporary"
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path / "cache")), expected(own))


def test_a_disk_too_full_for_the_stamps(own, tmp_path, monkeypatch):
    claim = os.posix_fallocate
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", lambda *a: claim(*a) if a[2] > 1000 else fail_with(errno.ENOSPC)())
        with pytest.raises(OSError, match="COLORLIB_CACHE"):
            PhotoCache(own, 16, tmp_path)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))


def test_a_cache_that_is_there_needs_no_more_space(own, tmp_path, monkeypatch):
    PhotoCache(own, 16, tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 0))
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot claim space")
def test_all_space_is_claimed_before_the_first_photo_is_read(own, tmp_path, monkeypatch, reads):
    """A mapped file that finds the disk full later ends the process without a word."""
    claimed = []
    claim = os.posix_fallocate

    def claim_and_tell(file, start, length):
        assert reads == []
        claimed.append((start, length))
        claim(file, start, length)

    monkeypatch.setattr(os, "posix_fallocate", claim_and_tell)
    PhotoCache(own, 16, tmp_path)
    sizes = [next(tmp_path.rglob(name)).stat().st_size for name in ("photos.npy", "stamps.npy")]
    assert claimed == [(0, size) for size in sizes] and sizes[0] == 128 + 6 * 16 * 16 * 3


def test_a_system_that_cannot_claim_space(own, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path)), expected(own))


def test_stopped_while_the_space_is_claimed(own, tmp_path, monkeypatch):
    with monkeypatch.context() as stopped:
        stopped.setattr(os, "posix_fallocate", stop)
        with pytest.raises(KeyboardInterrupt):
            PhotoCache(own, 16, tmp_path / "cache")
    assert not files_in(tmp_path / "cache")


def test_a_folder_that_cannot_be_written_to(own, tmp_path, monkeypatch, reads):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            OSError, match=r"cannot make the photo cache \(.*choose a folder .*COLORLIB_CACHE"
        ) as caught:
            PhotoCache(own, 16, folder)
        assert str(folder) in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
    monkeypatch.setattr(Path, "mkdir", fail_with(errno.EROFS))  # Kaggle's inputs
    with pytest.raises(OSError, match=r"cannot make the photo cache \(Read-only file system.*COLORLIB_CACHE"):
        PhotoCache(own, 16, tmp_path / "cache")
    assert reads == []


def test_a_cache_file_that_may_not_be_opened(own, tmp_path, monkeypatch):
    """As when another user has made it."""
    PhotoCache(own, 16, tmp_path)
    monkeypatch.setattr(cache, "open_memmap", fail_with(errno.EACCES))
    with pytest.raises(PermissionError, match=r"cannot make the photo cache .*COLORLIB_CACHE"):
        PhotoCache(own, 16, tmp_path)


def test_what_a_killed_process_claimed_is_given_back(tmp_path, photos):
    """A file of gigabytes that was being made when its process was killed does not stay on the disk."""
    folder = tmp_path / "cache"
    PhotoCache(photos, 8, folder)
    (place,) = folder.iterdir()
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (place / f".photos.{child.stdout.strip()}.npy").touch()
    (place / "photos.npy").unlink()
    PhotoCache(photos, 8, folder)
    assert sorted(path.name for path in place.iterdir()) == ["photos.npy", "stamps.npy"]
