"""Photos: find them, split them, serve them as batches of L and ab on the device, in random views."""

import errno
import functools
import math
import os
import random
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from colorlib.color import encode_lab, rgb_to_lab
from colorlib.config import Config
from colorlib.photo import PHOTO_SUFFIXES, PhotoError, read_photo, short_side
from colorlib.system import PhotoCache, find_coco, free_memory, rank

Paths, Device = Sequence[str | os.PathLike], str | torch.device
COCO_NAME = re.compile(r"\d{12}\.jpg")  # 000000000139.jpg
COCO_TEST_PHOTOS = 100
SHOWN_REASONS = 10  # why photos are left out: so many are told
LEVELS = 32767  # of a 16-bit number on either side of 0

SAMPLES = {
    "color": ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "grace_hopper.jpg", "hubble_deep_field.jpg",
              "retina.jpg", "ihc.png"),
    "gray": ("camera.png", "moon.png", "coins.png"),
}  # fmt: skip


def sample_photos(kind: str = "color") -> list[Path]:
    """Find the photographs that scikit-image and matplotlib bring along: no download, free licenses.

    The kind "color" has eight, "gray" three real black-and-white ones. data/README.md names their authors and licenses.
    """
    if kind not in SAMPLES:
        raise ValueError(f"kind must be one of {', '.join(SAMPLES)}, got {kind!r}")
    folders = [Path(skimage.data.__file__).parent, Path(matplotlib.get_data_path()) / "sample_data"]
    found = [folder / name for name in SAMPLES[kind] for folder in folders if (folder / name).is_file()]
    if missing := set(SAMPLES[kind]) - {path.name for path in found}:
        raise FileNotFoundError(f"{', '.join(sorted(missing))} not in scikit-image or matplotlib: reinstall them")
    return found


def find_files(folder: str | os.PathLike, on_error: Callable[[OSError], None]) -> list[Path]:
    """Find all files in a folder and the folders below it, sorted; hidden ones are left out.

    Linked folders are entered like others, but each folder only once. `on_error` gets a folder that
    cannot be read, and a link that leads to a folder above.
    """
    root = os.path.realpath(folder)
    above = {str(parent) for parent in Path(root).parents}
    found, seen, pending = [], set(), [str(folder)]
    while pending:  # links come last, so that what they lead to keeps its own name if it has one
        for place, folders, names in os.walk(pending.pop(0), onerror=on_error):
            real = os.path.realpath(place)
            if real in above:
                on_error(OSError(errno.ELOOP, "a link to a folder above, not entered", place))
            if real in above | seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [name for name in sorted(folders) if not name.startswith(".")]
            inside = [os.path.join(place, name) for name in folders]
            pending += [path for path in inside if os.path.islink(path)]
            found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def find_images(
    folder: str | os.PathLike,
    suffixes: Sequence[str] = PHOTO_SUFFIXES,
    on_error: Callable[[OSError], None] | None = None,
) -> list[Path]:
    """Find all photos in a folder and the folders below it, sorted, by their suffixes; hidden ones are left out.

    `on_error` gets each folder or file that cannot be read; by default, a warning tells of it. `OSError` if the folder
    is missing or a file, `ValueError` if it holds no photo.
    """
    if not os.fspath(folder):
        raise ValueError("the path of the folder is empty: give one, such as . for the working directory")
    folder = Path(os.path.expanduser(folder))
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}: check the spelling, or unpack your photos there")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the folder that it lies in")
    errors: list[OSError] = []
    found = []
    for path in find_files(folder, errors.append):
        if path.suffix.lower() in suffixes:
            try:
                if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait forever
                    raise OSError(errno.EINVAL, "a pipe, a socket or a device, no file", str(path))
                found.append(path)
            except OSError as error:
                errors.append(error)
    told = [f"{error.filename}: {error.strerror}" for error in errors]
    if not found:
        reason = f" ({told[0]})" if told else ""
        raise ValueError(f"no photo in {folder}{reason}: put files that end in {', '.join(suffixes)} there")
    for error, words in zip(errors, told, strict=True):
        if on_error:
            on_error(error)
        else:
            warnings.warn(f"left out: {words}", stacklevel=2)
    return found


def find_photos(folder: str | os.PathLike = "") -> list[Path]:
    """Find the photos to work with: those of `folder`; else COCO val2017 if a copy is found; else the sample photos."""
    chosen = folder or find_coco()
    return find_images(chosen) if chosen else sample_photos()


def split_paths(
    paths: Iterable[str | os.PathLike], val_fraction: float = 0.05, test_fraction: float = 0.05, seed: int = 0
) -> dict[str, list[Path]]:
    """Split photos into "train", "val" and "test": every photo in exactly one, the same for the same seed.

    "val" chooses the best epoch, "test" is never trained on; a fraction above 0 is one photo or more. Of COCO val2017
    (all names are 12 digits) the test part is always the first 100 in name order, so that scores stay comparable.
    """
    rest = sorted({Path(path) for path in paths})
    total, is_coco = len(rest), _is_coco(rest)
    test_count, val_count = (max(1, round(total * part)) if part else 0 for part in (test_fraction, val_fraction))
    if is_coco:
        rest.sort(key=lambda path: path.name)
        test, rest = rest[:COCO_TEST_PHOTOS], rest[COCO_TEST_PHOTOS:]
    random.Random(seed).shuffle(rest)
    if not is_coco:
        test, rest = rest[:test_count], rest[test_count:]
    val, train = rest[:val_count], rest[val_count:]
    if not train:
        parts = f"{len(val)} of them to choose the best epoch, {len(test)} to test"
        raise ValueError(f"{total} photos are too few to split ({parts}, none to train on): add photos")
    return {"train": sorted(train), "val": sorted(val), "test": sorted(test)}


def split_photos(paths: Iterable[str | os.PathLike], config: Config) -> dict[str, list[Path]]:
    """Split photos for a training as `split_paths` does, without those that it cannot use; it says which and why.

    Those are files that are no photos, and photos smaller than the smallest size of the training. What is broken
    further inside shows only when all of it is read: "train" and "val" are read until one photo of each can be used
    at the largest size, and if none can, the others are split again. The test part of COCO stays what it is.
    """
    paths = [Path(path) for path in paths]
    sizes = {config.size_in(epoch) for epoch in range(config.epochs)} | {config.image_size}
    by_name = sorted(set(paths), key=lambda path: path.name)
    fixed = set(by_name[:COCO_TEST_PHOTOS]) if _is_coco(paths) else set()
    reasons, left_out = {}, {}
    for path in dict.fromkeys(paths):
        why = "" if path in fixed else _why_useless(path, min(sizes))
        if why:
            reasons[path] = why
    while True:
        left_out |= reasons
        usable = [path for path in paths if path not in left_out]
        if reasons and rank() == 0:
            shown = sorted(reasons.values())[:SHOWN_REASONS]
            shown += ["…"] if len(reasons) > SHOWN_REASONS else []
            print(f"left out: {len(reasons)} of {len(paths)} files:", *shown, sep="\n  ")
        if paths and not usable:
            why = next(iter(reasons.values()))
            what = f"none of the {len(paths)} files can be used ({why}"
            raise ValueError(f"{what}, …): choose other photos, or a smaller image_size")
        split = split_paths(usable, config.val_fraction, config.test_fraction, config.seed)
        reasons = _useless_part(split, max(sizes))
        if not reasons:
            return split


def _useless_part(split: dict[str, list[Path]], size: int) -> dict[Path, str]:
    """Why none of the photos of "train", or none of "val", can be used; empty if one of each can."""
    for part in ("train", "val"):
        reasons = {}
        for path in split[part]:
            why = _why_useless(path, size, whole=True)
            if not why:  # as a rule, that is so for the first one
                break
            reasons[path] = why
        else:
            if reasons:
                return reasons
    return {}


def _why_useless(path: Path, size: int, whole: bool = False) -> str:
    """Why a file is no photo of at least so many px, or ""; `whole`: read all of it, not only its beginning."""
    side = _short_side(path)
    if side < size:
        return f"{path.name}: smaller than {size} px"
    if whole or side == math.inf:
        try:
            read_photo(path, whole=True)
        except (PhotoError, OSError) as error:
            return str(error)
    return ""


def _short_side(path: str | os.PathLike) -> float:
    """A photo's shorter side as `short_side` reads it, but once only, as long as the file stays as it is."""
    try:
        found = os.stat(path)
    except OSError:
        return math.inf  # whoever reads it will say why
    return _read_short_side(os.fspath(path), found.st_size, found.st_mtime_ns)


@functools.cache
def _read_short_side(path: str, size: int, modified: int) -> float:
    return short_side(path)


def _is_coco(paths: Sequence[Path]) -> bool:
    return all(COCO_NAME.fullmatch(path.name) for path in paths)


def random_view(lab: Tensor, chance: Tensor, config: Config, size: int) -> Tensor:
    """Crop, mirror and turn each photo at random, scaled L and ab together: (B, 3, H, W) → (B, 3, size, size).

    The chance (B, 5), uniform in [0, 1), decides, within the config's `min_crop`, `flip` and `rotate`.
    """
    crop, turn, mirror, x, y = chance.unbind(dim=1)
    side = (config.min_crop + (1 - config.min_crop) * crop).sqrt()  # share of the photo's side
    angle = math.radians(config.rotate) * (2 * turn - 1)
    sign = 1 - 2 * (mirror < 0.5).float() * config.flip
    cos, sin = side * angle.cos(), side * angle.sin()
    shift_x, shift_y = (1 - side) * (2 * x - 1), (1 - side) * (2 * y - 1)
    matrix = torch.stack([sign * cos, -sin, shift_x, sign * sin, cos, shift_y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, [len(lab), 3, size, size], align_corners=False)
    return F.grid_sample(lab, grid, padding_mode="reflection", align_corners=False)


def random_tone(lab: Tensor, chance: Tensor, config: Config) -> Tensor:
    """Change the gamma and the contrast of each photo's L, and the saturation of ab, at random: scaled (B, 3, H, W).

    The chance (B, 3), uniform in [0, 1), decides; `gamma`, `contrast` and `saturation` of the config are the largest
    changes.
    """
    gamma, contrast, saturation = (2 * chance - 1).view(-1, 3, 1, 1, 1).unbind(dim=1)  # (B, 1, 1, 1) each
    L, ab = lab[:, :1], lab[:, 1:]
    if config.gamma:
        L = 2 * ((L + 1) / 2).clamp(0, 1) ** torch.exp(config.gamma * gamma) - 1
    mean = L.mean(dim=(2, 3), keepdim=True)
    L = mean + (L - mean) * (1 + config.contrast * contrast)
    return torch.cat([L, ab * (1 + config.saturation * saturation)], dim=1).clamp(-1, 1)


class ColorizationDataset(Dataset):
    """Photos as pairs of L and ab, scaled for the network, on the device that it computes on.

    Item i depends only on the seed, the epoch (`set_epoch`) and i. Where memory allows, Lab is computed once and kept
    on the device as 16-bit numbers, whose steps of 1/32767 are finer than an 8-bit photo's by far.

    Args:
        paths: Image files; `paths` names those that are served, `skipped` those that cannot be read, with the reason.
        config: `photo_size` / `image_size` says how much larger than a view the photos are kept.
        augment: Serve random views, `crops_per_photo` of each photo an epoch; else each photo once, whole.
        device: Where L and ab come out.
        cache: Folder of photo caches; None keeps the photos in memory.
        size: Side S of what comes out, px (None: `config.image_size`); photos of a shorter side are left out.
    """

    def __init__(
        self, paths: Paths, config: Config, augment: bool = False, device: Device = "cpu", cache: Path | None = None,
        size: int | None = None,
    ):  # fmt: skip
        self.config, self.device, self.size = config, torch.device(device), size or config.image_size
        self.augment = augment and config.augments
        self.copies = config.crops_per_photo if augment else 1
        side = round(self.size * config.photo_size / config.image_size) if self.augment else self.size
        large = [path for path in paths if _short_side(path) >= self.size]
        if len(large) < len(paths):
            print(f"left out: {len(paths) - len(large)} of {len(paths)} photos, which are smaller than {self.size} px")
        if paths and not large:
            raise ValueError(f"no photo is {self.size} px high and wide: lower image_size, or add larger photos")
        self.photos = PhotoCache(large, side, cache, config.num_workers)
        self.paths, self.skipped = self.photos.paths, self.photos.skipped
        self.lab: Tensor | None = None  # of all photos, (N, side, side, 3), from the first batch on
        self.resident = len(self.paths) * side**2 * 6 < free_memory(self.device) / 2  # 3 planes of 2 bytes
        self.home = self.device if self.resident else torch.device("cpu")  # where photos and their numbers lie
        self.set_epoch(0)

    def __len__(self) -> int:
        """Items of an epoch."""
        return len(self.rows) * self.copies

    def set_epoch(self, epoch: int) -> None:
        """Choose the photos of an epoch, and their random views."""
        generator = torch.Generator().manual_seed(self.config.view_seed * 1_000_003 + epoch + 1)
        self.rows = self._draw_rows(generator).to(self.home)
        self.chance = torch.rand(len(self), 8, generator=generator).to(self.home)  # 8 decisions for each item

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """One photo: {"L": (1, S, S) in [−1, 1], "ab": (2, S, S) in (−1, 1)}, float32."""
        if not 0 <= number < len(self):  # what ends a `for` loop over the photos
            raise IndexError(f"there are {len(self)} items, from 0 on; got {number}")
        batch = self.__getitems__(torch.tensor([number], device=self.home))
        return {name: planes[0] for name, planes in batch.items()}

    def __getitems__(self, numbers: Tensor) -> dict[str, Tensor]:
        """Several photos, by their numbers (B,), int64: {"L": (B, 1, S, S), "ab": (B, 2, S, S)}."""
        if self.resident and self.lab is None:
            self._keep_lab()
        rows = self.rows[numbers % len(self.rows)]
        if self.resident:
            lab = self.lab.index_select(0, rows).permute(0, 3, 1, 2).float().mul_(1 / LEVELS)
        else:
            lab = self._scaled_lab(self.photos[rows])
        if self.augment:
            chance = self._to_device(self.chance[numbers])
            lab = random_tone(random_view(lab, chance[:, :5], self.config, self.size), chance[:, 5:], self.config)
        return {"L": lab[:, :1], "ab": lab[:, 1:]}

    def _draw_rows(self, generator: torch.Generator) -> Tensor:
        """The numbers of the photos that an epoch uses: while training, at most so many of a folder."""
        most = self.config.most_per_folder
        if not (self.augment and most):
            return torch.arange(len(self.paths))
        folders: dict[Path, list[int]] = {}
        for row, path in enumerate(self.paths):
            folders.setdefault(path.parent, []).append(row)
        drawn = []
        for rows in folders.values():
            order = torch.randperm(len(rows), generator=generator)
            drawn.append(torch.tensor(rows)[order[:most]])
        return torch.cat(drawn)

    def _keep_lab(self) -> None:
        side = self.photos[torch.tensor([0])].shape[1]
        self.lab = torch.empty(len(self.paths), side, side, 3, dtype=torch.int16, device=self.device)
        for rows in torch.arange(len(self.paths)).split(16):
            lab = self._scaled_lab(self.photos[rows])
            self.lab[rows[0] : rows[-1] + 1] = (lab * LEVELS).round().permute(0, 2, 3, 1)

    def _scaled_lab(self, photos: Tensor) -> Tensor:
        """uint8 (B, H, W, 3) from the cache → L and ab together, (B, 3, H, W), on the device."""
        photos = self._to_device(photos).permute(0, 3, 1, 2)
        # a CPU takes them one by one: a photo stays in its cache from one operation to the next, a batch does not
        parts = photos.contiguous().split(1 if self.device.type == "cpu" else len(photos))
        return torch.cat([torch.cat(encode_lab(rgb_to_lab(part.float() / 255)), dim=1) for part in parts])

    def _to_device(self, values: Tensor) -> Tensor:
        if self.device.type == "cuda" and not values.is_cuda:
            values = values.pin_memory()  # memory that the GPU copies from by itself, while this process goes on
        return values.to(self.device, non_blocking=self.device.type == "cuda")


def get_dataloader(
    dataset: ColorizationDataset, batch_size: int, shuffle: bool = False, seed: int = 0, first: int = 0,
    share: tuple[int, int] = (0, 1),
) -> DataLoader:  # fmt: skip
    """Serve batches {"L": (B, 1, S, S), "ab": (B, 2, S, S)} on the dataset's device; the last one may be smaller.

    The order of shuffled photos depends only on the seed; `first` is the number of the batch to begin with. A share
    (k, n) gives the k-th of n parts of every batch, for n processes that work together. Shuffled, that is for training,
    the parts are equally large, and up to n − 1 photos of the last batch are left out.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator) if shuffle else torch.arange(len(dataset))
    k, n = share
    batches = order.to(dataset.home).split(batch_size)
    if shuffle:
        batches = [batch[: len(batch) // n * n] for batch in batches]
    parts = [batch[k::n] for batch in batches if len(batch) > k]
    # with a generator of its own: a DataLoader draws a number when it starts, and dropout must not notice
    return DataLoader(dataset, batch_sampler=parts[first:], collate_fn=dict, generator=generator)
