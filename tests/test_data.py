"""Photos are found, split and served right: Lab as scikit-image has it, views as geometry has them, each photo once."""

import itertools
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import blobs
from PIL import Image
from scipy.ndimage import map_coordinates

from benchmarks.speed import PlainDataset
from colorlib import data
from colorlib.colorize import Colorizer
from colorlib.config import Config
from colorlib.data import ColorizationDataset, get_dataloader, random_tone, random_view, sample_photos, split_paths
from colorlib.model import UNet
from colorlib.photo import read_photo

PLAIN = Config(image_size=32, photo_size=32)
HALF_STEP = 0.5 / 32767  # of the 16-bit numbers that Lab is kept in


def both(item: dict[str, torch.Tensor]) -> torch.Tensor:
    """L and ab of an item or a batch in one tensor."""
    return torch.cat([item["L"], item["ab"]], dim=-3)


def everything(dataset: ColorizationDataset) -> torch.Tensor:
    return both(dataset.__getitems__(torch.arange(len(dataset))))


def assert_near(found: torch.Tensor, wanted: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=atol, rtol=0)


@pytest.fixture(params=["resident", "streamed"])
def keeping(request, monkeypatch):
    """Both ways to serve photos: Lab kept in memory, and, where memory is short, made from the cache each time."""
    if request.param == "streamed":
        monkeypatch.setattr(data, "free_memory", lambda device: 0)
    return request.param


# --- find and split -----------------------------------------------------------------------------------------


def test_find_images_is_recursive_sorted_and_goes_by_suffix(tmp_path):
    wanted = ["a.jpg", "b.JPEG", "c.png", "d.webp", "e.bmp", "f.tif", "g.gif", "z/a.png", "z/y/b.Jpg", "x.jpg/in.png"]
    unwanted = ["notes.txt", "movie.mp4", "jpg", "x.jpg.part", ".hidden.jpg", ".cache/a.jpg", "z/.trash/b/c.png"]
    folder = tmp_path / ".home"  # what lies above does not count
    for name in random.Random(0).sample(wanted + unwanted, k=len(wanted + unwanted)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert data.find_images(str(folder)) == sorted(folder / name for name in wanted)


@pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
def test_find_images_enters_linked_folders_once_and_warns_of_what_cannot_be_read(tmp_path):
    for name in ("photos/a/1.jpg", "elsewhere/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    folder = tmp_path / "photos"
    for name, target in {"0": "a", "b": "../elsewhere", "c": "../elsewhere", "up": "..", "3.jpg": "gone.jpg"}.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "4.jpg")
    with pytest.warns(UserWarning) as told:
        assert data.find_images(folder) == [folder / "a" / "1.jpg", folder / "b" / "2.jpg"]
    words = ["4.jpg: a pipe, a socket or a device, no file", "3.jpg: No such file or directory"]
    words += ["up: a link to a folder above, not entered"]
    assert sorted(str(warning.message) for warning in told) == sorted(f"left out: {folder / word}" for word in words)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.jpg").symlink_to("gone.jpg")
    with pytest.raises(ValueError, match=r"no photo in .*empty/a.jpg: No such file or directory"):
        data.find_images(tmp_path / "empty")


def test_find_photos_prefers_the_folder_then_coco_then_the_samples(tmp_path, photo_folder, photos, monkeypatch):
    monkeypatch.setattr(data, "find_coco", lambda: None)
    assert data.find_photos() == sample_photos() and data.find_photos(photo_folder) == photos
    (tmp_path / "000000000139.jpg").touch()
    monkeypatch.setattr(data, "find_coco", lambda: tmp_path)
    assert data.find_photos() == [tmp_path / "000000000139.jpg"] and data.find_photos(photo_folder) == photos


def test_sample_photos():
    for kind, count in (("color", 8), ("gray", 3)):
        paths = sample_photos(kind)
        assert len(set(paths)) == count
        for path in paths:
            small = np.asarray(read_photo(path).resize((64, 64))).astype(int)
            assert (np.ptp(small, axis=-1).mean() > 3) == (kind == "color"), path.name


def named(count: int, folder: str = "folder") -> list[Path]:
    return [Path(folder, f"photo {number}.jpg") for number in range(count)]


def test_split_is_complete_disjoint_and_depends_on_names_and_seed_alone():
    paths = named(200)
    split = split_paths(paths, 0.1, 0.25, seed=1)
    assert [(part, len(split[part])) for part in split] == [("train", 130), ("val", 20), ("test", 50)]
    assert sorted(split["train"] + split["val"] + split["test"]) == sorted(paths)
    random.seed(99)
    shuffled = random.sample(paths, k=200)
    assert split_paths(map(str, shuffled + shuffled[:3]), 0.1, 0.25, seed=1) == split
    moved = split_paths(named(200, folder="/other/place"), 0.1, 0.25, seed=1)
    assert [path.name for path in moved["test"]] == [path.name for path in split["test"]]
    other = split_paths(paths, 0.1, 0.25, seed=2)
    assert other["val"] != split["val"] and other["test"] != split["test"] != sorted(paths)[:50]
    assert [len(part) for part in split_paths(named(3), 0.05, 0.05).values()] == [1, 1, 1]
    assert [len(part) for part in split_paths(named(10), 0, 0).values()] == [10, 0, 0]
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"{count} photos are too few"):
            split_paths(named(count))


def test_coco_test_part_is_its_first_100_by_name():
    numbers = random.Random(0).sample(range(10**6), 400)
    # in two folders: the order of the names is not that of the paths
    paths = [Path("ab"[number % 2]) / f"{number:012d}.jpg" for number in numbers]
    splits = [split_paths(paths, 0.1, fraction, seed) for seed, fraction in ((0, 0.05), (7, 0.5))]
    for split in splits:
        assert set(split["test"]) == set(sorted(paths, key=lambda path: path.name)[:100])
        assert len(split["val"]) == 40 and len(split["train"]) == 260
    assert splits[0]["val"] != splits[1]["val"]
    assert len(split_paths([*paths, Path("mine.jpg")], 0.1, 0.1)["test"]) == 40, "all names have to be COCO's"
    with pytest.raises(ValueError, match="100 to test"):
        split_paths(paths[:100])


def test_photos_for_a_training_are_split_as_before_if_all_can_be_used_and_are_opened_once(photos, config, monkeypatch):
    opened, read = [], data.short_side
    monkeypatch.setattr(data, "short_side", lambda path: opened.append(path) or read(path))
    data._read_short_side.cache_clear()
    split = data.split_photos(photos, config)
    assert split == split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    for part in ("train", "val"):
        ColorizationDataset(split[part], config)
    assert sorted(map(str, opened)) == sorted(map(str, photos))


def test_photos_that_cannot_be_used_are_left_out_before_the_split(tmp_path, photos, config, capsys):
    """Those are named; COCO's test part stays the first 100, whatever the size that is trained at."""
    config = config.replace(val_fraction=0.05, image_size=20)
    for number in range(120):
        side = 18 if number in (3, 110, 111) else 24
        Image.fromarray(blobs(number, side, 30)).save(tmp_path / f"{number:012d}.jpg")
    (tmp_path / f"{112:012d}.jpg").write_bytes(b"dear diary")
    paths = sorted(tmp_path.iterdir())
    split = data.split_photos(paths, config)
    assert split["test"] == paths[:100]
    assert sorted(split["train"] + split["val"]) == [*paths[100:110], *paths[113:]]
    told = capsys.readouterr().out
    assert told.startswith("left out: 3 of 120 files:\n  000000000110.jpg: smaller than 20 px\n")
    assert "000000000112.jpg: not an image file that can be read" in told
    small = config.replace(small_size=16, small_epochs=2)  # which uses small ones, too
    assert {paths[110], paths[111]} <= {
        path for part in ("train", "val") for path in data.split_photos(paths, small)[part]
    }
    with pytest.raises(ValueError, match=r"none of the 10 files can be used \(photo_00\.png: smaller than 64 px, …\)"):
        data.split_photos(photos, config.replace(image_size=64))


# --- photos, whole ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [False, True])
def test_training_is_fed_the_photos_lab_and_what_inference_is_fed(photos, tmp_path, keeping, augment):
    """Also if augmentation is off, for the corners of the RGB cube, Lab's most extreme colors, and for other shapes.

    The benchmark's straightforward way, with Pillow and scikit-image, gives the same.
    """
    corners = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    for number, color in enumerate(corners):
        Image.new("RGB", (48, 48), color).save(tmp_path / f"{number}.png")
    Image.fromarray(blobs(1, 301, 57)).save(tmp_path / "tall.png")
    photos = [*photos, *sorted(tmp_path.iterdir())]
    config = Config(width=4, depth=4, image_size=32, photo_size=64)
    dataset = ColorizationDataset([*photos, *sample_photos()[2:4], *sample_photos("gray")], config, augment)
    assert dataset.resident == (keeping == "resident") and dataset.skipped == []
    found, colorizer = everything(dataset), Colorizer(UNet(**config.network), config)
    assert found.shape == (24, 3, 32, 32) and found.dtype == torch.float32
    closeness = HALF_STEP + 1e-5 if dataset.resident else 1e-5  # of float32
    for path, one, plain in zip(dataset.paths, found, PlainDataset(dataset.paths, 32), strict=True):
        if path.stem != "rocket":  # which is in Adobe RGB: colorlib converts it
            assert_near(one, torch.cat(plain), closeness if path in photos else 1e-3)
        assert_near(one[:1], colorizer.network_input(path)[0].float(), HALF_STEP + 1e-6)
    assert found[:, :1].abs().max() < 1.00001


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_is_its_items_to_the_bit_and_belongs_to_the_caller(photos, config, keeping, augment):
    dataset = ColorizationDataset(photos, config.replace(crops_per_photo=3), augment)
    items = torch.stack([both(item) for item in dataset])
    assert len(items) == len(dataset) == (30 if augment else 10)
    for numbers in ([4], [7, 7, 1, 7], list(reversed(range(len(dataset))))):
        batch = dataset.__getitems__(torch.tensor(numbers))
        assert torch.equal(both(batch), items[numbers])
        batch["L"].zero_(), batch["ab"].fill_(1)
    with pytest.raises(IndexError, match="items, from 0 on; got -1"):
        dataset[-1]
    assert dataset[3]["L"].shape == (1, 16, 16) and dataset[3]["ab"].shape == (2, 16, 16)


def test_photos_too_small_for_a_size_are_left_out_of_it(photos, config, capsys):
    """They are 48×40 px; test_train.py has the first epochs, which use smaller ones."""
    large = [path for path in sample_photos() if path.suffix == ".png"][:2]
    config = config.replace(image_size=41)
    assert ColorizationDataset([*photos, *large], config).paths == large
    assert capsys.readouterr().out == "left out: 10 of 12 photos, which are smaller than 41 px\n"
    with pytest.raises(ValueError, match="no photo is 41 px high and wide: lower image_size"):
        ColorizationDataset(photos, config)


# --- random views and tones ---------------------------------------------------------------------------------


def plain_view(lab: np.ndarray, chance: list[float], config: Config, size: int) -> np.ndarray:
    """The view of one photo, pixel by pixel: mirror, turn, shrink, shift, and look up with the edges reflected."""
    crop, turn, mirror, x, y = chance
    side = math.sqrt(config.min_crop + (1 - config.min_crop) * crop)
    angle = math.radians(config.rotate * (2 * turn - 1))
    v, u = np.mgrid[0:size, 0:size] + 0.5 - size / 2
    if config.flip and mirror < 0.5:
        u = -u
    scale, (height, width) = side / size, lab.shape[1:]
    columns = (u * math.cos(angle) - v * math.sin(angle)) * scale + 0.5 + (1 - side) * (x - 0.5)
    rows = (u * math.sin(angle) + v * math.cos(angle)) * scale + 0.5 + (1 - side) * (y - 0.5)
    return np.stack(
        [map_coordinates(one, [rows * height - 0.5, columns * width - 0.5], order=1, mode="reflect") for one in lab]
    )


@pytest.mark.parametrize("options", [{}, {"min_crop": 0.3}, {"min_crop": 0.2, "flip": True, "rotate": 40.0}])
@pytest.mark.parametrize("size", [24, 48])
def test_views_are_those_of_a_plain_reference(options, size):
    labs, chance, config = torch.rand(40, 3, 48, 48), torch.rand(40, 5), PLAIN.replace(**options)
    found = random_view(labs, chance, config, size)
    for view, lab, row in zip(found, labs, chance, strict=True):
        assert_near(view, torch.from_numpy(plain_view(lab.numpy(), row.tolist(), config, size)), 1e-4)


def test_tones_are_those_of_their_definition():
    """Gamma and then contrast about the mean of L, saturation of ab; L of black and white may be just out of range."""
    labs, chance = torch.rand(20, 3, 8, 8) * 2 - 1, torch.rand(20, 3)
    labs[:, 0, 0, :2] = torch.tensor([-1.00001, 1.00001])
    config = PLAIN.replace(gamma=0.9, contrast=0.3, saturation=0.4)
    for lab, row, found in zip(labs.numpy(), chance.tolist(), random_tone(labs, chance, config), strict=True):
        gamma, contrast, saturation = (2 * share - 1 for share in row)
        L = 2 * ((lab[:1] + 1) / 2).clip(0, 1) ** math.exp(0.9 * gamma) - 1
        L = L.mean() + (L - L.mean()) * (1 + 0.3 * contrast)
        wanted = np.concatenate([L, lab[1:] * (1 + 0.4 * saturation)]).clip(-1, 1)
        assert_near(found, torch.from_numpy(wanted))
    neutral = torch.full((20, 3), 0.5)
    for found in (random_tone(labs, chance, PLAIN), random_tone(labs, neutral, config)):
        assert_near(found, labs, 2e-5)


def test_items_depend_on_seed_epoch_and_number_alone(photos, config, keeping):
    config = config.replace(crops_per_photo=2, gamma=0.2)

    def items(config: Config, epoch: int) -> torch.Tensor:
        dataset = ColorizationDataset(photos[:3], config, augment=True)
        dataset.set_epoch(epoch)
        return everything(dataset)

    first = items(config, 0)
    torch.manual_seed(12), random.seed(5), np.random.seed(6)
    before = torch.get_rng_state()
    assert torch.equal(items(config, 0), first)
    for other in (items(config, 1), items(config, 2), items(config.replace(seed=4), 0), first.roll(3, 0)):
        assert ((other - first).abs().amax(dim=(1, 2, 3)) > 0.01).all()
    assert torch.equal(torch.get_rng_state(), before), "dropout must not notice"
    plain = ColorizationDataset(photos, config)
    whole = everything(plain)
    plain.set_epoch(9)
    assert torch.equal(everything(plain), whole), "validation photos stay as they are"


# --- batches ------------------------------------------------------------------------------------------------


class Numbers(list):
    """In place of photos: each item is its number."""

    home = torch.device("cpu")

    def __getitems__(self, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"numbers": numbers}


def served(count: int, *arguments, **options) -> list[list[int]]:
    """The numbers of each batch."""
    loader = get_dataloader(Numbers(range(count)), *arguments, **options)
    batches = [batch["numbers"].tolist() for batch in loader]
    assert len(loader) == len(batches)
    return batches


def flat(lists: list[list]) -> list:
    return list(itertools.chain.from_iterable(lists))


def test_order_and_first_batch():
    whole = served(20, 6, True, 3)
    assert served(20, 6)[1] == list(range(6, 12)) and [len(batch) for batch in whole] == [6, 6, 6, 2]
    assert sorted(flat(whole)) == list(range(20)) != flat(whole)
    assert served(20, 6, True, 4) != whole
    for first in range(5):
        torch.manual_seed(first)
        assert served(20, 6, True, 3, first) == whole[first:], "an epoch goes on where it was stopped"


@pytest.mark.parametrize("processes", [1, 2, 3, 6])
@pytest.mark.parametrize("count", [1, 5, 12, 23])
def test_shares_cover_every_photo_once(count, processes):
    """Validation misses none; training leaves out those of the last batch that cannot be shared evenly."""
    whole = served(count, 6, True, 2)
    shares = [served(count, 6, True, 2, share=(k, processes)) for k in range(processes)]
    assert len({tuple(map(len, share)) for share in shares}) == 1, "nobody waits for another's batch"
    for batch, *parts in zip(whole, *shares, strict=False):
        assert all(parts) and sorted(flat(parts)) == sorted(batch[: len(batch) // processes * processes])
    assert count - len(flat(flat(shares))) < processes
    shares = [served(count, 6, share=(k, processes)) for k in range(processes)]
    assert sorted(flat(flat(shares))) == list(range(count)) and all(flat(shares))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_serves_the_same(photos, config, keeping):
    here, there = (ColorizationDataset(photos, config, True, device) for device in ("cpu", "cuda"))
    for expected, batch in zip(get_dataloader(here, 4, True), get_dataloader(there, 4, True), strict=True):
        assert batch["L"].is_cuda and batch["ab"].is_cuda
        assert_near(both(batch).cpu(), both(expected), 1e-4)


def test_an_epoch_takes_at_most_so_many_photos_of_a_folder(tmp_path):
    for number in range(9):
        path = tmp_path / ("many" if number < 7 else "few") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), 25 * number, np.uint8)).save(path)
    config = Config(image_size=16, photo_size=16, flip=True, most_per_folder=3, num_workers=0)
    photos = ColorizationDataset(data.find_images(tmp_path), config, augment=True)
    drawn = set()
    for epoch in range(6):
        photos.set_epoch(epoch)
        names = [photos.paths[row].parent.name for row in photos.rows]
        assert (names.count("many"), names.count("few"), len(photos)) == (3, 2, 5)
        served = photos.__getitems__(torch.arange(5))["L"].mean(dim=(1, 2, 3))
        assert len(served.unique()) == 5  # five photos, each once
        drawn |= set(photos.rows.tolist())
    assert len(drawn) == 9  # another epoch draws others
    assert len(ColorizationDataset(data.find_images(tmp_path), config)) == 9  # validation takes all
