"""Finding, splitting, reading and serving photos."""

import io
import itertools
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms
from torch.utils.data import Dataset

from colorlib import cache, data
from colorlib.color import encode_lab, rgb_to_lab
from colorlib.config import Config
from colorlib.data import (
    ColorizationDataset,
    find_images,
    find_photos,
    get_dataloader,
    sample_photos,
    split_paths,
)
from colorlib.photo import read_photo
from colorlib.state import Training

# --- find ---------------------------------------------------------------------------------------------------


def test_find_images_is_recursive_sorted_and_goes_by_suffix(tmp_path):
    wanted = ["a.jpg", "b.JPEG", "c.png", "d.webp", "e.bmp", "f.tif", "g.TIFF", "z/a.png", "z/y/b.Jpg"]
    unwanted = ["notes.txt", "movie.gif", "jpg", "x.jpg.part", ".hidden.jpg", ".cache/a.jpg", "z/.trash/b/c.png"]
    for name in random.Random(0).sample(wanted + unwanted, k=len(wanted + unwanted)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg" / "inside.png").write_bytes(b"")
    found = find_images(tmp_path)
    assert found == sorted(tmp_path / name for name in [*wanted, "folder.jpg/inside.png"])
    assert find_images(str(tmp_path)) == found


def test_find_images_in_a_folder_below_a_hidden_one(tmp_path):
    folder = tmp_path / ".home" / "photos"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"")
    assert find_images(folder) == [folder / "a.jpg"]


def test_find_images_without_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(NotADirectoryError, match=r"a\.jpg is a file"):
        find_images(tmp_path / "a.jpg")


def test_find_images_without_photos(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"no photo in .*\.jpg, \.jpeg, \.png"):
        find_images(tmp_path)


def test_find_photos_prefers_the_folder_then_coco_then_the_samples(tmp_path, photo_folder, photos, monkeypatch):
    monkeypatch.setattr("colorlib.data.find_coco", lambda: None)
    assert find_photos() == sample_photos() and find_photos(photo_folder) == list(photos)
    (tmp_path / "000000000139.jpg").write_bytes(b"")
    monkeypatch.setattr("colorlib.data.find_coco", lambda: tmp_path)
    assert find_photos("") == [tmp_path / "000000000139.jpg"]
    assert find_photos(str(photo_folder)) == list(photos)


# --- split --------------------------------------------------------------------------------------------------


def named(count: int, pattern: str = "photo {}.jpg") -> list[Path]:
    return [Path("folder") / pattern.format(number) for number in range(count)]


def test_split_is_complete_and_disjoint():
    paths = named(200)
    split = split_paths(paths, 0.1, 0.25, seed=1)
    assert list(split) == ["train", "val", "test"]
    assert [len(split[part]) for part in split] == [130, 20, 50]
    assert sorted(split["train"] + split["val"] + split["test"]) == sorted(paths)
    assert all(split[part] == sorted(split[part]) for part in split)


def test_split_depends_on_the_seed_alone():
    paths = named(50)
    shuffled = random.Random(0).sample(paths, k=50)
    split = split_paths(paths, 0.2, 0.2, seed=1)
    assert split_paths(map(str, shuffled + shuffled[:3]), 0.2, 0.2, seed=1) == split
    random.seed(99)
    assert split_paths(paths, 0.2, 0.2, seed=1) == split
    other = split_paths(paths, 0.2, 0.2, seed=2)
    assert other["val"] != split["val"] and other["test"] != split["test"]


def test_split_is_drawn_at_random():
    split = split_paths(named(200, "{:03d}.png"), 0.1, 0.1)
    assert split["test"] != named(200, "{:03d}.png")[:20] and split["val"] != split["train"][:20]


def test_split_does_not_depend_on_where_the_photos_lie():
    here = split_paths([Path("/a") / path for path in named(50)])
    there = split_paths([Path("/other/place") / path for path in named(50)])
    assert [path.name for path in here["test"]] == [path.name for path in there["test"]]


def test_split_gives_each_wanted_part_a_photo():
    split = split_paths(named(3), 0.05, 0.05)
    assert [len(split[part]) for part in split] == [1, 1, 1]


def test_split_parts_can_be_empty():
    split = split_paths(named(10), 0, 0)
    assert [len(split[part]) for part in split] == [10, 0, 0]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_split_of_too_few(count):
    with pytest.raises(ValueError, match=f"{count} photos are too few"):
        split_paths(named(count), 0.05, 0.05)


def test_coco_test_part_is_its_first_100_by_name():
    numbers = random.Random(0).sample(range(10**6), 400)
    # in two folders: the order of the names is not that of the paths
    paths = [Path("ab"[number % 2]) / f"{number:012d}.jpg" for number in numbers]
    first = sorted(paths, key=lambda path: path.name)[:100]
    for seed, fraction in ((0, 0.05), (7, 0.5)):
        split = split_paths(paths, 0.1, fraction, seed)
        assert set(split["test"]) == set(first)
        assert len(split["val"]) == 40 and len(split["train"]) == 260
    assert split_paths(paths, seed=0)["val"] != split_paths(paths, seed=1)["val"]


def test_coco_rule_wants_all_names_to_be_coco_s():
    paths = [*named(300, "{:012d}.jpg"), Path("folder/mine.jpg")]
    assert len(split_paths(paths, 0.1, 0.1)["test"]) == 30


def test_coco_with_no_more_than_the_test_photos():
    with pytest.raises(ValueError, match="100 to test"):
        split_paths(named(100, "{:012d}.jpg"))


# --- samples ------------------------------------------------------------------------------------------------


def saturation(path: Path) -> float:
    """Mean distance from gray, 0…255, of a small copy."""
    small = read_photo(path)
    small.thumbnail((64, 64))
    return float(np.ptp(np.asarray(small).astype(int), axis=-1).mean())


def test_sample_photos():
    color, gray = sample_photos(), sample_photos("gray")
    assert color == sample_photos("color")
    assert len(color) == 8 and len(gray) == 3 and not set(color) & set(gray)
    assert all(path.is_file() for path in color + gray)
    assert all(saturation(path) > 3 for path in color)  # the Hubble deep field: 4, most of it is black sky
    assert all(saturation(path) == 0 for path in gray)
    with pytest.raises(ValueError, match="color, gray, got 'sepia'"):
        sample_photos("sepia")


def test_sample_photos_that_are_not_installed(monkeypatch):
    monkeypatch.setattr("colorlib.data.SAMPLES", {"color": ("chelsea.png", "nobody.png")})
    with pytest.raises(FileNotFoundError, match=r"^nobody\.png not in"):
        sample_photos()


# --- the dataset without augmentation -----------------------------------------------------------------------


@pytest.fixture(params=["resident", "streamed"])
def keeping(request, monkeypatch):
    """Both ways to serve photos: Lab kept in memory, and, where memory is short, made from the cache each time."""
    if request.param == "streamed":
        monkeypatch.setattr(data, "free_memory", lambda device: 0)
    return request.param


def both(item: dict[str, torch.Tensor]) -> torch.Tensor:
    """L and ab of an item or a batch in one tensor."""
    return torch.cat([item["L"], item["ab"]], dim=-3)


def everything(dataset: ColorizationDataset) -> torch.Tensor:
    """All items, one by one."""
    return torch.stack([both(dataset[i]) for i in range(len(dataset))])


def straightforward(path: Path, side: int) -> np.ndarray:
    """L and ab of a photo without colorlib: Pillow resizes, scikit-image converts; float64 (3, side, side)."""
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        if b"Adobe RGB" in (profile := image.info.get("icc_profile", b"")):  # one of the sample photos
            rgb = ImageCms.profileToProfile(rgb, io.BytesIO(profile), ImageCms.createProfile("sRGB"))
    small = rgb.resize((side, side), Image.Resampling.BICUBIC)
    lab = skimage.color.rgb2lab(np.asarray(small)).transpose(2, 0, 1)
    return np.concatenate([lab[:1] / 50 - 1, lab[1:] / 128])


def test_items(photos, config, keeping):
    dataset = ColorizationDataset(photos, config)
    assert dataset.resident == (keeping == "resident")
    assert len(dataset) == 10 and dataset.paths == list(photos) and dataset.skipped == []
    L = torch.stack([dataset[i]["L"] for i in range(10)])
    ab = torch.stack([dataset[i]["ab"] for i in range(10)])
    assert L.shape == (10, 1, 16, 16) and ab.shape == (10, 2, 16, 16)
    assert L.dtype == ab.dtype == torch.float32 and L.device == ab.device == dataset.device == torch.device("cpu")
    assert -1 <= L.min() < -0.3 and 0.3 < L.max() <= 1 and 0.2 < ab.abs().max() < 1
    assert set(dataset[0]) == {"L", "ab"}


def test_items_end_where_the_photos_end(photos, config):
    dataset = ColorizationDataset(photos, config)
    for index in (10, -1):
        with pytest.raises(IndexError, match=f"there are 10 items, from 0 on; got {index}"):
            dataset[index]
    assert len(list(dataset)) == 10, "a for loop ends"
    assert torch.equal(dataset[np.int64(3)]["ab"], dataset[3]["ab"])


@pytest.mark.parametrize("augment", [False, True])
def test_switched_off_augmentation_is_pillows_and_scikit_images_work_for_every_sample_photo(keeping, augment):
    """What the fast path feeds to the network is what the straightforward one would."""
    paths = sample_photos("color") + sample_photos("gray")
    dataset = ColorizationDataset(paths, Config(image_size=48, photo_size=96), augment)
    found = both(dataset[torch.arange(11)]).numpy()
    for path, one in zip(paths, found, strict=True):
        assert np.abs(one - straightforward(path, 48)).max() < 1e-3, path.name


def test_items_are_scikit_images_lab_of_the_photo_that_pillow_resizes(photos, config, keeping):
    dataset = ColorizationDataset(photos, config)
    closeness = 2.5e-5 if keeping == "resident" else 1e-5  # half a 16-bit step is 1.5e-5
    for i in range(10):
        assert np.abs(both(dataset[i]).numpy() - straightforward(photos[i], 16)).max() < closeness


def test_the_most_extreme_colors_keep_their_numbers(tmp_path, keeping):
    """Corners of the RGB cube: 16-bit numbers neither overflow nor wrap, and L stays within its range."""
    corners = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    for number, color in enumerate(corners):
        Image.fromarray(np.full((16, 16, 3), color)).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    found = everything(ColorizationDataset(paths, Config(image_size=16)))
    for one, path in zip(found.numpy(), paths, strict=True):
        assert np.abs(one - straightforward(path, 16)).max() < 2.5e-5
    assert -1.00001 < found[:, 0].min() < -0.9999 and 0.9999 < found[:, 0].max() < 1.00001


def test_16_bits_lose_less_than_half_a_step(photos, config, monkeypatch):
    exact = torch.cat(encode_lab(rgb_to_lab(pixels(photos, 16))), dim=1)
    kept = ColorizationDataset(photos, config)
    assert kept.lab.dtype == torch.int16 and kept.lab.numel() == 10 * 16 * 16 * 3
    assert 1e-6 < (everything(kept) - exact).abs().max() < 0.51 / 32767
    monkeypatch.setattr(data, "free_memory", lambda device: 0)
    streamed = ColorizationDataset(photos, config)
    assert not hasattr(streamed, "lab")
    torch.testing.assert_close(everything(streamed), exact, atol=1e-6, rtol=0)


def pixels(paths, side: int) -> torch.Tensor:
    """Photos in [0, 1], (N, 3, side, side), resized by Pillow."""
    small = [np.asarray(read_photo(path).resize((side, side), Image.Resampling.BICUBIC)) for path in paths]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255


def test_lab_is_kept_where_it_fits_into_half_of_the_free_memory(photos, config, monkeypatch):
    asked = []
    for augment, side in ((False, 16), (True, 24)):
        needed = 10 * side * side * 6
        for free, resident in ((2 * needed, False), (2 * needed + 2, True)):
            monkeypatch.setattr(data, "free_memory", lambda device, free=free: asked.append(device) or free)
            assert ColorizationDataset(photos, config, augment).resident == resident
    assert asked == [torch.device("cpu")] * 4


@pytest.mark.parametrize("augment", [False, True])
def test_a_batch_is_its_items_to_the_bit(photos, config, keeping, augment):
    dataset = ColorizationDataset(photos, config.replace(crops_per_photo=3), augment)
    items = everything(dataset)
    for numbers in ([4], [0, 9], [7, 7, 1, 7], list(range(10)), list(reversed(range(len(dataset))))):
        batch = dataset[torch.tensor(numbers)]
        assert batch["L"].shape == (len(numbers), 1, 16, 16) and batch["ab"].shape == (len(numbers), 2, 16, 16)
        assert torch.equal(both(batch), items[numbers])


def test_changing_a_batch_in_place_leaves_the_photos_as_they_are(photos, config, keeping):
    dataset = ColorizationDataset(photos, config)
    before = everything(dataset)
    batch = dataset[torch.arange(10)]
    batch["L"].zero_(), batch["ab"].fill_(1)
    dataset[2]["L"].fill_(-1)
    assert torch.equal(everything(dataset), before)


def test_photos_are_read_once(tmp_path, photos, config, keeping):
    copy = tmp_path / "a.png"
    copy.write_bytes(photos[0].read_bytes())
    dataset = ColorizationDataset([copy], config)
    copy.unlink()
    for _ in range(2):
        assert torch.equal(both(dataset[0]), both(ColorizationDataset(photos[:1], config)[0]))
    assert dataset.photos[torch.tensor([0])].dtype == torch.uint8


def test_photos_come_from_the_cache_the_second_time(tmp_path, photos, config, keeping, monkeypatch):
    first = [everything(ColorizationDataset(photos, config, augment, cache=tmp_path)) for augment in (False, True)]
    monkeypatch.setattr(cache, "read_photo", lambda path: pytest.fail(f"{path} is read again"))
    second = [everything(ColorizationDataset(photos, config, augment, cache=tmp_path)) for augment in (False, True)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert len(list(tmp_path.glob("*/photos.npy"))) == 2, "one of each side: 16 px, and 24 px for the crops"


def test_the_config_says_how_many_processes_read(photos, config, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(data, "PhotoCache", lambda *arguments: calls.append(arguments) or cache.PhotoCache(*arguments))
    ColorizationDataset(photos, config.replace(num_workers=5), True, cache=tmp_path)
    assert calls == [(photos, 24, tmp_path, 5)]


def bomb(png: bytes) -> bytes:
    """A PNG file that says it were 20,000 × 20,000 pixels."""
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_bad_files_are_skipped_counted_and_named(tmp_path, photos, config, capsys, keeping):
    good = photos[0].read_bytes()
    jpeg = tmp_path / "whole.jpg"
    Image.open(photos[1]).save(jpeg)
    bad = {
        "cut.jpg": jpeg.read_bytes()[: jpeg.stat().st_size // 2],
        "empty.png": b"",
        "text.jpg": b"dear diary",
        "cut.png": good[: len(good) // 2],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "bomb.png").write_bytes(bomb(good))
    (tmp_path / "folder.jpg").mkdir()
    names = ["cut.jpg", "whole.jpg", "empty.png", "text.jpg", "cut.png", "bomb.png", "folder.jpg", "gone.jpg"]
    dataset = ColorizationDataset([*(tmp_path / name for name in names), photos[0]], config)
    assert dataset.paths == [jpeg, photos[0]] and len(dataset) == 2
    assert [path.name for path, _ in dataset.skipped] == [name for name in names if name != "whole.jpg"]
    assert all(path.name in reason for path, reason in dataset.skipped)
    assert "too many pixels" in dict(dataset.skipped)[tmp_path / "bomb.png"]
    printed = capsys.readouterr().out
    assert "skipped 7 of 9 files" in printed and all(name in printed for name in names if name != "whole.jpg")
    # the photos behind a bad one are still their own
    assert torch.equal(dataset[1]["ab"], ColorizationDataset(photos[:1], config)[0]["ab"])
    assert torch.equal(both(dataset[torch.tensor([1, 0])])[0], both(dataset[1]))


def test_nothing_is_printed_when_all_is_well(photos, config, capsys):
    ColorizationDataset(photos, config)
    assert capsys.readouterr() == ("", "")


def test_no_file_can_be_read(tmp_path, config):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 1 files could be read"):
        ColorizationDataset([tmp_path / "a.jpg"], config)
    with pytest.raises(ValueError, match="none of the 0 files"):
        ColorizationDataset([], config)


# --- augmentation -------------------------------------------------------------------------------------------

PLAIN = Config(image_size=32, photo_size=32)


def assert_near(found: torch.Tensor, wanted: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, atol=atol, rtol=0)


def test_switched_off_augmentation_changes_nothing(photos, keeping):
    plain, augmented = ColorizationDataset(photos, PLAIN), ColorizationDataset(photos, PLAIN, augment=True)
    assert torch.equal(everything(plain), everything(augmented))


def test_validation_is_never_augmented(photos, config, keeping):
    dataset = ColorizationDataset(photos, config.replace(crops_per_photo=5))
    before = everything(dataset)
    dataset.set_epoch(9)
    assert len(dataset) == 10 and torch.equal(everything(dataset), before)
    assert_near(before, everything(ColorizationDataset(photos, PLAIN.replace(image_size=16))), 0)


@pytest.fixture
def two_colors(tmp_path):
    """Left half red (L* 53), right half a darker blue (L* 32)."""
    image = Image.new("RGB", (48, 48), (255, 0, 0))
    image.paste((0, 0, 255), (24, 0, 48, 48))
    image.save(tmp_path / "two.png")
    return tmp_path / "two.png"


def test_color_moves_with_brightness(two_colors, keeping):
    """Whatever a crop, a mirror or a turn does to L, it does to ab."""
    config = PLAIN.replace(min_crop=0.5, flip=True, rotate=20.0, photo_size=48, crops_per_photo=40)
    views = both(ColorizationDataset([two_colors], config, augment=True)[torch.arange(40)])
    L, ab = views[:, :1], views[:, 1:]
    bright, blue = L[:, 0] > -0.15, ab[:, 1] < -0.3
    assert bright.any(dim=(1, 2)).all() and blue.any(dim=(1, 2)).all()
    assert (bright & blue).float().mean() < 0.02 and (~bright & ~blue).float().mean() < 0.04, "edges aside"
    # at the edge, too: as much of the way as L goes from blue's to red's, ab goes
    red, dark = torch.cat(encode_lab(rgb_to_lab(torch.eye(3)[[0, 2]].view(2, 3, 1, 1))), dim=1).unbind()
    way = (L - dark[0]) / (red[0] - dark[0])
    assert way.min() > -1e-3 and way.max() < 1.001
    assert_near(ab, dark[1:] + way * (red - dark)[1:], 1e-3)
    red_on_the_left = (bright[:, :, 0].float().mean(dim=1) > bright[:, :, -1].float().mean(dim=1)).sum()
    assert 8 < red_on_the_left < 32


def test_items_get_the_tone_too(photos, keeping):
    plain = everything(ColorizationDataset(photos, PLAIN))
    for change, changed, kept in (("gamma", [0], [1, 2]), ("contrast", [0], [1, 2]), ("saturation", [1, 2], [0])):
        dataset = ColorizationDataset(photos, PLAIN.replace(**{change: 0.5}), augment=True)
        changes = (everything(dataset) - plain).abs().amax(dim=(2, 3))
        assert changes[:, changed].amax(dim=1).sort().values[2] > 0.02 and changes[:, kept].max() < 1e-4


def test_each_item_is_decided_by_eight_numbers_of_its_own(photos, config, monkeypatch):
    """Else a large crop would always come with a strong contrast, say, or all photos of a batch be turned alike."""
    used = []
    for name in ("random_view", "random_tone"):
        function = getattr(data, name)
        monkeypatch.setattr(data, name, lambda lab, chance, c, f=function: used.append(chance) or f(lab, chance, c))
    dataset = ColorizationDataset(photos, config.replace(crops_per_photo=20), augment=True)
    dataset[torch.arange(200)]
    chance = torch.cat(used, dim=1)
    assert chance.shape == (200, 8) and chance.unique().numel() > 1590
    assert [one.shape[1] for one in used] == [5, 3], "of the view, and of the tone"
    assert 0 <= chance.min() < 0.01 and 0.99 < chance.max() < 1
    assert (chance.mean(dim=0) - 0.5).abs().max() < 0.1
    correlation = np.corrcoef(chance.T) - np.eye(8)
    assert np.abs(correlation).max() < 0.3


def test_items_depend_on_seed_epoch_and_index_alone(photos, config, keeping):
    config = config.replace(crops_per_photo=2)
    dataset = ColorizationDataset(photos[:3], config, augment=True)
    first = everything(dataset)
    torch.manual_seed(12), random.seed(5), np.random.seed(6)
    assert torch.equal(everything(dataset), first)
    again = ColorizationDataset(photos[:3], config, augment=True)
    assert torch.equal(torch.stack([both(again[i]) for i in (5, 0, 3)]), first[[5, 0, 3]])

    dataset.set_epoch(1)
    second = everything(dataset)
    dataset.set_epoch(2)
    third = everything(dataset)
    other_seed = everything(ColorizationDataset(photos[:3], config.replace(seed=4), augment=True))
    for one, other in ((first, second), (first, third), (second, third), (first, other_seed), (second, other_seed)):
        assert ((other - one).abs().amax(dim=(1, 2, 3)) > 0.01).all()
    dataset.set_epoch(0)
    assert torch.equal(everything(dataset), first)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 6, 12, 100])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_items_are_the_same_for_any_batch_size_and_share(photos, config, keeping, batch_size, processes):
    dataset = ColorizationDataset(photos[:6], config.replace(crops_per_photo=2), augment=True)
    dataset.set_epoch(3)
    items = everything(dataset)
    for k in range(processes):
        share = (k, processes)
        for shuffle in (False, True):
            numbers = list(get_dataloader(Numbers(12), batch_size, shuffle, 5, share=share))
            found = [both(batch) for batch in get_dataloader(dataset, batch_size, shuffle, 5, share=share)]
            assert len(numbers) == len(found)
            assert all(torch.equal(batch, items[rows]) for batch, rows in zip(found, numbers, strict=True))


def test_kept_and_streamed_photos_give_the_same_views(photos, config, monkeypatch):
    config = config.replace(crops_per_photo=8)
    found = []
    for free in (10**12, 0):
        monkeypatch.setattr(data, "free_memory", lambda device, free=free: free)
        dataset = ColorizationDataset(photos, config, augment=True)
        dataset.set_epoch(2)
        assert dataset.resident == bool(free)
        found.append(everything(dataset))
    assert not torch.equal(*found)
    assert_near(*found, 1e-4)


def test_the_global_generator_is_left_alone(photos, config, keeping, tmp_path):
    before = torch.get_rng_state()
    dataset = ColorizationDataset(photos, config, augment=True, cache=tmp_path)
    dataset.set_epoch(1)
    dataset[0]
    for shuffle in (False, True):
        list(get_dataloader(dataset, 4, shuffle))
    assert torch.equal(torch.get_rng_state(), before)


def test_crops_and_order_of_an_epoch_do_not_start_from_the_same_numbers(photos, config):
    """Else the first photo of an epoch, say, would always be cropped alike."""
    for seed, epoch in itertools.product((0, 1, 3), (0, 1, 7)):
        dataset = ColorizationDataset(photos, config.replace(seed=seed), augment=True)
        dataset.set_epoch(epoch)
        training = Training(config.replace(seed=seed), torch.device("cpu"))
        training.history = [{}] * epoch
        drawn = torch.rand(10, 8, generator=torch.Generator().manual_seed(training.epoch_seed))
        assert not (dataset.chance == drawn).any()


# --- small pictures first -----------------------------------------------------------------------------------


def test_first_epochs_are_small(photos, keeping):
    """Each pixel is the mean of the four that it stands for."""
    config = PLAIN.replace(small_size=16, small_epochs=2)
    dataset, whole = ColorizationDataset(photos, config, augment=True), everything(ColorizationDataset(photos, PLAIN))
    assert dataset.resident == (keeping == "resident")
    means = sum(whole[:, :, y::2, x::2] for y in (0, 1) for x in (0, 1)) / 4
    for epoch, wanted in ((0, means), (1, means), (2, whole), (9, whole), (1, means)):
        dataset.set_epoch(epoch)
        found = dataset[torch.arange(10)]
        assert found["L"].shape == (10, 1, *wanted.shape[2:]) and found["ab"].shape == (10, 2, *wanted.shape[2:])
        assert_near(both(found), wanted, 1e-6)
        assert torch.equal(both(dataset[3]), both(found)[3])


def test_small_pictures_are_small_versions_of_the_same_views(photos, config, keeping):
    config = config.replace(image_size=32, gamma=0.2, crops_per_photo=2)
    large = ColorizationDataset(photos[:4], config, augment=True)
    small = ColorizationDataset(photos[:4], config.replace(small_size=16, small_epochs=2), augment=True)
    for epoch in (0, 1):
        large.set_epoch(epoch), small.set_epoch(epoch)
        assert_near(everything(small), F.avg_pool2d(everything(large), 2), 1e-6)
    large.set_epoch(2), small.set_epoch(2)
    assert torch.equal(everything(small), everything(large))


def test_pictures_to_validate_on_are_never_small(photos, keeping):
    dataset = ColorizationDataset(photos, PLAIN.replace(small_size=16, small_epochs=5))
    assert torch.equal(everything(dataset), everything(ColorizationDataset(photos, PLAIN)))
    dataset.set_epoch(1)
    assert dataset[0]["L"].shape == (1, 32, 32)


def test_small_size_without_small_epochs_changes_nothing(photos):
    dataset = ColorizationDataset(photos, PLAIN.replace(small_size=16), augment=True)
    assert torch.equal(everything(dataset), everything(ColorizationDataset(photos, PLAIN)))


def test_crops_per_photo(photos, config, keeping):
    dataset = ColorizationDataset(photos[:3], config.replace(crops_per_photo=4), augment=True)
    assert len(dataset) == 12
    views = everything(dataset)
    assert all((views[i] - views[i + 3]).abs().max() > 0.01 for i in range(9)), "each time another crop"
    plain = ColorizationDataset(photos[:3], PLAIN.replace(crops_per_photo=4), augment=True)
    assert len(plain) == 12 and torch.equal(plain[1]["ab"], plain[10]["ab"])
    whole = everything(ColorizationDataset(photos[:3], PLAIN))
    assert torch.equal(both(plain[torch.arange(12)]), whole.repeat(4, 1, 1, 1)), "item i is photo i modulo 3"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_items(photos, config, keeping):
    for augment in (False, True):
        here, there = (ColorizationDataset(photos, config, augment, device) for device in ("cpu", "cuda"))
        assert here.resident == there.resident == (keeping == "resident")
        for expected, batch in zip(get_dataloader(here, 4, True), get_dataloader(there, 4, True), strict=True):
            assert batch["L"].is_cuda and batch["ab"].is_cuda
            assert_near(both(batch).cpu(), both(expected), 1e-4)


# --- batches ------------------------------------------------------------------------------------------------


class Numbers(Dataset):
    """In place of photos: each item is its number."""

    home = torch.device("cpu")

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        assert index.dtype == torch.int64 and index.ndim == 1
        return index


def numbers(count: int, *arguments, **options) -> list[list[int]]:
    """The numbers of each batch."""
    return [batch.tolist() for batch in get_dataloader(Numbers(count), *arguments, **options)]


def flat(lists: list[list]) -> list:
    return list(itertools.chain.from_iterable(lists))


def test_last_batch_is_smaller(photos, config):
    loader = get_dataloader(ColorizationDataset(photos, config), 4)
    assert len(loader) == 3
    assert [(tuple(batch["L"].shape), tuple(batch["ab"].shape)) for batch in loader] == [
        ((4, 1, 16, 16), (4, 2, 16, 16)), ((4, 1, 16, 16), (4, 2, 16, 16)), ((2, 1, 16, 16), (2, 2, 16, 16)),
    ]  # fmt: skip


def test_order(photos, config, keeping):
    dataset = ColorizationDataset(photos, config)

    def served(**options) -> torch.Tensor:
        return torch.cat([both(batch) for batch in get_dataloader(dataset, 4, **options)])

    in_order = served()
    assert torch.equal(in_order, everything(dataset))
    shuffled = served(shuffle=True, seed=1)
    torch.manual_seed(77)
    assert torch.equal(served(shuffle=True, seed=1), shuffled)
    assert not torch.equal(served(shuffle=True, seed=2), shuffled)
    order = [int(torch.nonzero((in_order == one).flatten(1).all(dim=1))[0]) for one in shuffled]
    assert sorted(order) == list(range(10)) and order != list(range(10))


def test_a_loader_gives_the_same_batches_each_time():
    loader = get_dataloader(Numbers(20), 6, shuffle=True, seed=3)
    assert [batch.tolist() for batch in loader] == [batch.tolist() for batch in loader] == numbers(20, 6, True, 3)


def test_shuffling_is_thorough():
    orders = torch.tensor([flat(numbers(50, 8, True, seed)) for seed in range(200)])
    assert (orders.sort(dim=1).values == torch.arange(50)).all(), "each photo once"
    assert (orders.double().mean(dim=0) - 24.5).abs().max() < 6, "every photo comes at any place"
    assert len({tuple(order) for order in orders.tolist()}) == 200


@pytest.mark.parametrize("share", [(0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("shuffle", [False, True])
def test_first_leaves_out_the_batches_before_and_changes_nothing_else(shuffle, share):
    whole = numbers(23, 4, shuffle, 7, share=share)
    assert len(whole) == 6
    for first in range(8):
        rest = get_dataloader(Numbers(23), 4, shuffle, 7, first, share)
        assert len(rest) == max(0, 6 - first)
        assert [batch.tolist() for batch in rest] == whole[first:]


@pytest.mark.parametrize("processes", [1, 2, 3, 6])
@pytest.mark.parametrize("count", [1, 5, 12, 23, 31])
def test_shares_of_a_training_epoch_are_equal_and_disjoint(count, processes):
    """So that no process waits for another's batch."""
    whole = numbers(count, 6, True, seed=2)
    shares = [numbers(count, 6, True, seed=2, share=(k, processes)) for k in range(processes)]
    assert len({tuple(map(len, share)) for share in shares}) == 1, "equal batches, and equally many"
    assert all(batch for share in shares for batch in share), "no empty batch"
    for wanted, *parts in zip(whole, *shares, strict=False):
        together = sorted(flat(parts))
        assert together == sorted(wanted[: len(wanted) // processes * processes]), "together the batch of one process"
    seen = flat(flat(shares))
    assert len(seen) == len(set(seen)) and count - len(seen) <= processes - 1
    lengths = {len(get_dataloader(Numbers(count), 6, True, share=(k, processes))) for k in range(processes)}
    assert lengths == {len(shares[0])}


@pytest.mark.parametrize("processes", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("count", [1, 5, 12, 23, 31])
def test_shares_of_a_validation_are_complete_and_disjoint(count, processes):
    shares = [numbers(count, 6, share=(k, processes)) for k in range(processes)]
    assert sorted(flat(flat(shares))) == list(range(count))
    assert all(batch for share in shares for batch in share), "no empty batch"
    for k, share in enumerate(shares):
        assert len(get_dataloader(Numbers(count), 6, share=(k, processes))) == len(share)
        for batch in share:
            assert len({number // 6 for number in batch}) == 1, "a part of one batch"
