"""Photos are decoded once, and a cache that is found holds the pixels of the files as they are now."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import blobs
from PIL import Image

from colorlib.photo import read_photo, resize_photo
from colorlib.system import PhotoCache, cache


def expected(paths, side: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.stack([resize_photo(read_photo(path), side) for path in paths]))


def everything(photos: PhotoCache) -> torch.Tensor:
    return photos[torch.arange(len(photos))]


def save(number: int, path: Path, side: int = 12) -> None:
    Image.fromarray(blobs(number, side, side)).save(path)


@pytest.fixture
def own(tmp_path):
    """Six photos that a test may change, with files of one size."""
    (tmp_path / "own").mkdir()
    paths = [tmp_path / "own" / f"{number}.bmp" for number in range(6)]
    for number, path in enumerate(paths):
        save(number, path)
    return paths


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that were decoded."""
    names = []
    monkeypatch.setattr(
        cache, "read_photo", lambda path, **options: names.append(path.name) or read_photo(path, **options)
    )
    return names


@pytest.mark.parametrize("folder", [None, "cache"])
@pytest.mark.parametrize("side", [8, 64])
def test_pixels_are_those_that_pillow_resizes(photos, tmp_path, folder, side, reads):
    paths = [*photos, photos[3]]  # one of them twice
    wanted, before = expected(paths, side), torch.get_rng_state()
    for _ in range(2):  # made, and found
        found = PhotoCache(paths, side, folder and tmp_path / folder)
        assert found.paths == paths and found.skipped == [] and len(found) == 11
        everything(found).zero_()  # a copy
        assert torch.equal(everything(found), wanted) and everything(found).dtype == torch.uint8
        assert torch.equal(found[torch.tensor([7, 0, 7])], wanted[[7, 0, 7]])
    assert len(reads) == (11 if folder else 22)
    assert torch.equal(torch.get_rng_state(), before), "dropout must not depend on whether the cache was there"


def same_time(path: Path) -> None:
    before = path.stat()
    save(99, path, side=13)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [lambda path: save(99, path), same_time, Path.unlink])
def test_a_changed_file_is_noticed(own, tmp_path, change):
    PhotoCache(own, 16, tmp_path / "cache")
    change(own[2])
    found = PhotoCache(own, 16, tmp_path / "cache")
    assert torch.equal(everything(found), expected(found.paths))
    assert found.paths == [path for path in own if path.exists()]


def test_each_list_and_side_has_a_cache_of_its_own(own, tmp_path, monkeypatch, reads):
    other = tmp_path / "other"
    shutil.copytree(own[0].parent, other)  # the same names, sizes and times
    save(99, other / "0.bmp")
    shutil.copystat(own[0], other / "0.bmp")
    uses = [(own, 16), (own, 8), (own[:5], 16), (own[::-1], 16), (sorted(other.iterdir()), 16)]
    for paths, side in uses * 2:
        assert torch.equal(everything(PhotoCache(paths, side, tmp_path / "cache")), expected(paths, side))
    monkeypatch.chdir(tmp_path)
    PhotoCache([path.relative_to(tmp_path) for path in own], 16, "cache")
    assert len(reads) == 4 * 6 + 5


@pytest.mark.parametrize("folder", [None, "cache"])
def test_files_that_cannot_be_read_are_named_each_time(own, tmp_path, capsys, folder):
    own[1].write_bytes(b"dear diary")
    own[4].unlink()
    for _ in range(2):
        found = PhotoCache(own, 16, folder and tmp_path / folder)
        assert found.paths == [own[0], own[2], own[3], own[5]]
        assert torch.equal(everything(found), expected(found.paths))
        assert [path for path, why in found.skipped if path.name in why] == [own[1], own[4]]
        assert capsys.readouterr().out == "\n  ".join(["skipped 2 of 6 files:", *dict(found.skipped).values()]) + "\n"
    with pytest.raises(ValueError, match=r"none of the 1 files .* choose another folder"):
        PhotoCache(own[1:2], 16, folder and tmp_path / folder)


def test_half_a_photo_is_not_trained_on(own):
    path = own[0].with_suffix(".jpg")
    Image.fromarray(blobs(0)).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert read_photo(path).size == (48, 40)
    [(skipped, reason)] = PhotoCache([*own, path], 16).skipped
    assert skipped == path and "truncated" in reason


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_after_an_interrupt_nothing_is_left(own, tmp_path, monkeypatch, error):
    def interrupted(path, whole):
        if path == own[3]:
            raise error
        return read_photo(path, whole=whole)

    monkeypatch.setattr(cache, "read_photo", interrupted)
    with pytest.raises(error):
        PhotoCache(own, 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    (tmp_path / "cache" / ".0123.99999999.bin").touch()  # of a killed process
    monkeypatch.undo()
    assert torch.equal(everything(PhotoCache(own, 16, tmp_path / "cache")), expected(own))
    for suffix in (".bin", ".json"):  # the two files of a cache, and one of them alone is none
        assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".bin", ".json"]
        next((tmp_path / "cache").glob(f"*{suffix}")).unlink()
        assert torch.equal(everything(PhotoCache(own, 16, tmp_path / "cache")), expected(own))


@pytest.mark.slow
def test_many_photos_are_read_by_helpers_behind_a_progress_bar(tmp_path, capsys):
    paths = [tmp_path / f"{number}.png" for number in range(cache.FEW)]
    for number, path in enumerate(paths[1:]):
        save(number, path)
    for folder in (None, tmp_path / "cache", tmp_path / "cache"):
        found = PhotoCache(paths, 8, folder, num_workers=2)
        assert torch.equal(everything(found), expected(paths[1:], 8)) and found.skipped[0][0] == paths[0]
    printed = capsys.readouterr()
    assert printed.out.count("reading photos:   0%") == 2 and printed.err == ""


def test_no_room(own, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6 * 16 * 16 * 3 - 1))
    with pytest.raises(OSError, match=r"it needs 0\.00 GB, 0\.00 GB are free.*COLORLIB_CACHE"):
        PhotoCache(own, 16, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=6 * 16 * 16 * 3))
    assert len(PhotoCache(own, 16, tmp_path / "cache")) == 6
    with pytest.raises(OSError, match=r"cannot make the photo cache \(.*COLORLIB_CACHE"):
        PhotoCache(own, 16, own[0] / "cache")  # a file is in the way
