"""Finding, splitting, reading, augmenting and serving photos."""

import math
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import torch
from PIL import Image

from colorlib.color import decode_lab, encode_lab, lab_to_rgb, rgb_to_lab
from colorlib.config import Config
from colorlib.data import (
    ColorizationDataset,
    find_images,
    find_photos,
    get_dataloader,
    random_tone,
    random_view,
    sample_photos,
    split_paths,
)
from colorlib.photo import read_photo

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


def test_items(photos, config):
    dataset = ColorizationDataset(photos, config)
    assert len(dataset) == 10 and dataset.paths == list(photos) and dataset.skipped == []
    L = torch.stack([dataset[i]["L"] for i in range(10)])
    ab = torch.stack([dataset[i]["ab"] for i in range(10)])
    assert L.shape == (10, 1, 16, 16) and ab.shape == (10, 2, 16, 16)
    assert L.dtype == ab.dtype == torch.float32
    assert -1 <= L.min() < -0.3 and 0.3 < L.max() <= 1 and 0.2 < ab.abs().max() < 1
    assert set(dataset[0]) == {"L", "ab"}


def test_items_are_scikit_images_lab_of_the_photo_that_pillow_resizes(photos, config):
    dataset = ColorizationDataset(photos, config)
    for i in (0, 7):
        with Image.open(photos[i]) as image:
            small = image.resize((16, 16), Image.Resampling.BICUBIC)
        lab = skimage.color.rgb2lab(np.asarray(small)).transpose(2, 0, 1)
        assert np.abs(dataset[i]["L"].numpy() - (lab[:1] / 50 - 1)).max() < 1e-4
        assert np.abs(dataset[i]["ab"].numpy() - lab[1:] / 128).max() < 1e-4


def test_photos_are_read_once(tmp_path, photos, config):
    copy = tmp_path / "a.png"
    copy.write_bytes(photos[0].read_bytes())
    dataset = ColorizationDataset([copy], config)
    copy.unlink()
    assert torch.equal(dataset[0]["L"], ColorizationDataset(photos[:1], config)[0]["L"])
    assert dataset.photos.dtype == torch.uint8


def bomb(png: bytes) -> bytes:
    """A PNG file that says it were 20,000 × 20,000 pixels."""
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + png[24:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def test_bad_files_are_skipped_counted_and_named(tmp_path, photos, config, capsys):
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


def draw(rgb: torch.Tensor, config: Config, count: int) -> list[torch.Tensor]:
    """Random views, one a seed."""
    return [random_view(rgb, config, torch.Generator().manual_seed(seed)) for seed in range(count)]


def coordinates(side: int = 64) -> torch.Tensor:
    """A picture that says where it is seen: red is x and green is y, from 0 to 1."""
    centres = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)])


def test_switched_off_augmentation_changes_nothing(photos):
    plain, augmented = ColorizationDataset(photos, PLAIN), ColorizationDataset(photos, PLAIN, augment=True)
    for i in range(10):
        assert torch.equal(plain[i]["L"], augmented[i]["L"]) and torch.equal(plain[i]["ab"], augmented[i]["ab"])


def test_validation_is_never_augmented(photos, config):
    dataset = ColorizationDataset(photos, config.replace(crops_per_photo=5))
    before = dataset[0]["L"]
    dataset.set_epoch(9)
    assert len(dataset) == 10 and torch.equal(dataset[0]["L"], before)


def test_view_without_augmentation_is_the_photo():
    rgb = torch.rand(3, 32, 32)
    for view in draw(rgb, PLAIN, 5):
        torch.testing.assert_close(view, rgb, atol=1e-5, rtol=0)


def test_flip_mirrors_about_half_of_the_photos():
    rgb = torch.rand(3, 32, 32)
    mirrored = 0
    for view in draw(rgb, PLAIN.replace(flip=True), 60):
        changed = (view - rgb).abs().max() > 1e-4
        torch.testing.assert_close(view, rgb.flip(-1) if changed else rgb, atol=1e-4, rtol=0)
        mirrored += changed
    assert 15 < mirrored < 45


def test_crops_stay_inside_and_are_as_large_as_promised():
    config = PLAIN.replace(min_crop=0.25)
    lefts, tops, sides = [], [], []
    for view in draw(coordinates(), config, 80):
        x, y = view[0], view[1]
        step_x, step_y = x.diff(dim=1), y.diff(dim=0)
        assert step_x.min() > 0 and step_y.min() > 0, "neither mirrored nor reflected at the edge"
        torch.testing.assert_close(x, x[:1].expand(32, 32), atol=1e-4, rtol=0)
        side = step_x[:, 8:24].mean().item() * 32
        assert side == pytest.approx(step_y[8:24].mean().item() * 32, rel=1e-3), "a square stays a square"
        lefts.append(x[0, 16].item() - side * 16.5 / 32)
        tops.append(y[16, 0].item() - side * 16.5 / 32)
        sides.append(side)
    areas = np.square(sides)
    assert 0.249 < areas.min() < 0.3 and 0.9 < areas.max() < 1.001
    for starts in (np.array(lefts), np.array(tops)):
        ends = starts + sides
        assert starts.min() > -0.001 and ends.max() < 1.001
        assert starts.min() < 0.03 and ends.max() > 0.97, "every part of the photo is seen"
    assert abs(np.corrcoef(lefts, tops)[0, 1]) < 0.9, "left and top are drawn apart"


def test_flipped_crops_come_from_the_same_place():
    crops, flipped = PLAIN.replace(min_crop=0.25), PLAIN.replace(min_crop=0.25, flip=True)
    rgb = torch.rand(3, 64, 64)
    pairs = list(zip(draw(rgb, crops, 20), draw(rgb, flipped, 20), strict=True))
    for plain, other in pairs:
        error = min((other - plain).abs().max(), (other - plain.flip(-1)).abs().max())
        assert error < 1e-4


def test_rotation_is_small_to_both_sides_and_without_black_corners():
    angles = []
    for view in draw(coordinates(), PLAIN.replace(rotate=10.0), 60):
        middle = view[0, 8:24, 8:24]
        angles.append(math.degrees(math.atan2(middle.diff(dim=0).mean(), middle.diff(dim=1).mean())))
        stretch = math.hypot(middle.diff(dim=0).mean(), middle.diff(dim=1).mean()) * 32
        assert stretch == pytest.approx(1, rel=0.01), "turned, not squeezed"
    assert -10.1 < min(angles) < -7 and 7 < max(angles) < 10.1
    white = torch.ones(3, 32, 32)
    assert all(view.min() > 0.999 for view in draw(white, PLAIN.replace(rotate=45.0), 10))


def test_mirrored_and_turned_views_keep_right_angles():
    for view in draw(coordinates(), PLAIN.replace(rotate=30.0, flip=True), 20):
        slopes = view[:2, 10:22, 10:22]
        along_x, along_y = slopes.diff(dim=2).mean(dim=(1, 2)) * 32, slopes.diff(dim=1).mean(dim=(1, 2)) * 32
        assert abs(along_x @ along_y) < 0.01, "not sheared"
        assert along_x.norm().item() == pytest.approx(1, rel=0.01) and along_y[1] > 0.8, "never upside down"


def test_view_has_the_networks_size():
    assert draw(torch.rand(3, 48, 48), PLAIN.replace(min_crop=0.5), 1)[0].shape == (3, 32, 32)


def test_contrast_changes_L_alone():
    L, ab = encode_lab(rgb_to_lab(torch.rand(3, 16, 16) * 0.5 + 0.25))
    factors = []
    for seed in range(60):
        new_L, new_ab = random_tone(L, ab, PLAIN.replace(contrast=0.3), torch.Generator().manual_seed(seed))
        assert torch.equal(new_ab, ab)
        assert new_L.mean().item() == pytest.approx(L.mean().item(), abs=1e-5)
        factor = ((new_L - L.mean()) * (L - L.mean())).sum() / (L - L.mean()).square().sum()
        torch.testing.assert_close(new_L, L.mean() + (L - L.mean()) * factor, atol=1e-5, rtol=0)
        factors.append(factor.item())
    assert 0.699 < min(factors) < 0.75 and 1.25 < max(factors) < 1.301


def test_saturation_changes_ab_alone():
    L, ab = encode_lab(rgb_to_lab(torch.rand(3, 16, 16) * 0.5 + 0.25))
    factors = []
    for seed in range(60):
        new_L, new_ab = random_tone(L, ab, PLAIN.replace(saturation=0.3), torch.Generator().manual_seed(seed))
        torch.testing.assert_close(new_L, L, atol=1e-6, rtol=0)
        factor = (new_ab / ab).median().item()
        torch.testing.assert_close(new_ab, ab * factor, atol=1e-5, rtol=0)
        factors.append(factor)
    assert 0.699 < min(factors) < 0.75 and 1.25 < max(factors) < 1.301


def test_tone_stays_in_range():
    L, ab = torch.tensor([-1.0, 0.5, 1.0]).view(1, 1, 3), torch.tensor([[-0.95, 0.9, 0.99]] * 2).view(2, 1, 3)
    for seed in range(20):
        both = random_tone(L, ab, PLAIN.replace(contrast=0.9, saturation=0.9), torch.Generator().manual_seed(seed))
        assert all(tensor.abs().max() <= 1 for tensor in both)


@pytest.fixture
def two_colors(tmp_path):
    """Left half red (L* 53), right half a darker blue (L* 32)."""
    image = Image.new("RGB", (48, 48), (255, 0, 0))
    image.paste((0, 0, 255), (24, 0, 48, 48))
    image.save(tmp_path / "two.png")
    return tmp_path / "two.png"


def test_color_moves_with_brightness(two_colors):
    """Whatever a crop, a mirror or a turn does to L, it does to ab."""
    config = PLAIN.replace(min_crop=0.5, flip=True, rotate=20.0, photo_size=48, crops_per_photo=40)
    dataset = ColorizationDataset([two_colors], config, augment=True)
    red_on_the_left = 0
    for i in range(len(dataset)):
        L, ab = dataset[i]["L"], dataset[i]["ab"]
        bright, blue = L[0] > -0.15, ab[1] < -0.3
        assert bright.any() and blue.any()
        assert (bright & blue).float().mean() < 0.01 and (~bright & ~blue).float().mean() < 0.04, "edges aside"
        # L is the L of the very picture that L and ab make together
        rgb = lab_to_rgb(decode_lab(L, ab))
        torch.testing.assert_close(encode_lab(rgb_to_lab(rgb))[0], L, atol=1e-3, rtol=0)
        red_on_the_left += bool(bright[:, 0].float().mean() > bright[:, -1].float().mean())
    assert 8 < red_on_the_left < 32


def test_items_get_the_tone_too(photos):
    plain = ColorizationDataset(photos, PLAIN)
    contrast = ColorizationDataset(photos, PLAIN.replace(contrast=0.5), augment=True)
    saturation = ColorizationDataset(photos, PLAIN.replace(saturation=0.5), augment=True)
    changes = [
        [(dataset[i][key] - plain[i][key]).abs().max().item() for i in range(10)]
        for dataset, key in ((contrast, "L"), (contrast, "ab"), (saturation, "ab"), (saturation, "L"))
    ]
    for does_change, does_not in (changes[:2], changes[2:]):
        assert sorted(does_change)[2] > 0.02 and max(does_not) < 1e-4


def everything(dataset: ColorizationDataset) -> torch.Tensor:
    return torch.stack([torch.cat([dataset[i]["L"], dataset[i]["ab"]]) for i in range(len(dataset))])


def test_items_depend_on_seed_epoch_and_index_alone(photos, config):
    dataset = ColorizationDataset(photos[:3], config.replace(crops_per_photo=2), augment=True)
    first = everything(dataset)
    torch.manual_seed(12), random.seed(5), np.random.seed(6)
    assert torch.equal(everything(dataset), first)
    again = ColorizationDataset(photos[:3], config.replace(crops_per_photo=2), augment=True)
    assert torch.equal(torch.stack([torch.cat(list(again[i].values())) for i in (5, 0, 3)]), first[[5, 0, 3]])

    dataset.set_epoch(1)
    second = everything(dataset)
    other_seed = everything(ColorizationDataset(photos[:3], config.replace(crops_per_photo=2, seed=4), augment=True))
    for other in (second, other_seed):
        assert ((other - first).abs().amax(dim=(1, 2, 3)) > 0.01).all()
    dataset.set_epoch(0)
    assert torch.equal(everything(dataset), first)


def test_drawing_leaves_the_global_generator_alone(photos, config):
    dataset = ColorizationDataset(photos[:1], config, augment=True)
    before = torch.get_rng_state()
    dataset[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_crops_per_photo(photos, config):
    dataset = ColorizationDataset(photos[:3], config.replace(crops_per_photo=4), augment=True)
    assert len(dataset) == 12
    views = everything(dataset)
    assert all((views[i] - views[i + 3]).abs().max() > 0.01 for i in range(9)), "each time another crop"
    plain = ColorizationDataset(photos[:3], PLAIN.replace(crops_per_photo=4), augment=True)
    assert len(plain) == 12 and torch.equal(plain[1]["ab"], plain[10]["ab"])


# --- batches ------------------------------------------------------------------------------------------------


def batches(dataset, **options) -> list[torch.Tensor]:
    return [torch.cat([batch["L"], batch["ab"]], dim=1) for batch in get_dataloader(dataset, 4, **options)]


def test_last_batch_is_smaller(photos, config):
    loader = get_dataloader(ColorizationDataset(photos, config), 4)
    assert [(tuple(batch["L"].shape), tuple(batch["ab"].shape)) for batch in loader] == [
        ((4, 1, 16, 16), (4, 2, 16, 16)), ((4, 1, 16, 16), (4, 2, 16, 16)), ((2, 1, 16, 16), (2, 2, 16, 16)),
    ]  # fmt: skip


def test_order(photos, config):
    dataset = ColorizationDataset(photos, config)
    in_order = torch.cat(batches(dataset))
    assert torch.equal(in_order, everything(dataset))
    shuffled = torch.cat(batches(dataset, shuffle=True, seed=1))
    torch.manual_seed(77)
    assert torch.equal(torch.cat(batches(dataset, shuffle=True, seed=1)), shuffled)
    assert not torch.equal(torch.cat(batches(dataset, shuffle=True, seed=2)), shuffled)
    order = [int(torch.nonzero((in_order == one).flatten(1).all(dim=1))[0]) for one in shuffled]
    assert sorted(order) == list(range(10)) and order != list(range(10))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker")  # on a computer with one core
def test_same_batches_for_any_number_of_workers(photos, config):
    dataset = ColorizationDataset(photos, config, augment=True)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        alone, helped = (batches(dataset, shuffle=True, seed=epoch, num_workers=n) for n in (0, 2))
        assert len(alone) == len(helped) == 3
        assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))
