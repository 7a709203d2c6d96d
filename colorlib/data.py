"""Photos: find them, split them, serve them as batches of L and ab on the device."""

import os
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from colorlib.augment import random_tone, random_view
from colorlib.cache import PhotoCache
from colorlib.color import encode_lab, rgb_to_lab
from colorlib.config import Config
from colorlib.download import find_coco
from colorlib.environment import free_memory
from colorlib.photo import PHOTO_SUFFIXES

COCO_NAME = re.compile(r"\d{12}\.jpg")  # 000000000139.jpg
COCO_TEST_PHOTOS = 100
LEVELS = 32767  # of a 16-bit number on either side of 0

SAMPLES = {
    "color": ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "grace_hopper.jpg", "hubble_deep_field.jpg",
              "retina.jpg", "ihc.png"),
    "gray": ("camera.png", "moon.png", "coins.png"),
}  # fmt: skip


def sample_photos(kind: str = "color") -> list[Path]:
    """Paths of the photographs that scikit-image and matplotlib bring along: no download, free licences.

    kind: "color" (eight photos) or "gray" (three real black-and-white ones); anything else raises `ValueError`.
    data/README.md names each one's author and licence. Checked by tests/test_data.py.
    """
    if kind not in SAMPLES:
        raise ValueError(f"kind must be one of {', '.join(SAMPLES)}, got {kind!r}")
    folders = [Path(skimage.data.__file__).parent, Path(matplotlib.get_data_path()) / "sample_data"]
    found = [folder / name for name in SAMPLES[kind] for folder in folders if (folder / name).is_file()]
    if len(found) < len(SAMPLES[kind]):
        missing = set(SAMPLES[kind]) - {path.name for path in found}
        raise FileNotFoundError(f"{', '.join(sorted(missing))} not in scikit-image or matplotlib: reinstall them")
    return found


def find_images(folder: str | os.PathLike) -> list[Path]:
    """All photos in a folder and the folders below it, sorted by path.

    By suffix: JPEG, PNG, WebP, BMP, TIFF; hidden files and folders are left out. Raises `FileNotFoundError` when the
    folder is missing, `NotADirectoryError` when it is a file, and `ValueError` when it holds no photo.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}: check the spelling, or unpack your photos there")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the folder that it lies in")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PHOTO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not found:
        raise ValueError(f"no photo in {folder}: put files that end in {', '.join(PHOTO_SUFFIXES)} there")
    return found


def find_photos(folder: str | os.PathLike = "") -> list[Path]:
    """The photos to work with: those of `folder`; else COCO val2017 if a copy is found; else the sample photos."""
    if folder:
        return find_images(folder)
    coco = find_coco()
    return find_images(coco) if coco else sample_photos()


def split_paths(
    paths: Iterable[str | os.PathLike], val_fraction: float = 0.05, test_fraction: float = 0.05, seed: int = 0
) -> dict[str, list[Path]]:
    """Split photos into "train", "val" and "test": every photo in exactly one, the same for the same seed.

    val_fraction, test_fraction: shares of the photos, at least one photo each if above 0. For COCO val2017 (all
    names are 12 digits) the test part is always its first 100 images in name order, so that scores stay comparable.
    Raises `ValueError` when nothing is left to train on. Checked by tests/test_data.py.
    """
    rest = sorted({Path(path) for path in paths})
    total = len(rest)
    if rest and all(COCO_NAME.fullmatch(path.name) for path in rest):
        rest.sort(key=lambda path: path.name)
        test, rest = rest[:COCO_TEST_PHOTOS], rest[COCO_TEST_PHOTOS:]
        random.Random(seed).shuffle(rest)
    else:
        random.Random(seed).shuffle(rest)
        count = max(1, round(total * test_fraction)) if test_fraction else 0
        test, rest = rest[:count], rest[count:]
    count = max(1, round(total * val_fraction)) if val_fraction else 0
    val, train = rest[:count], rest[count:]
    if not train:
        parts = f"{len(val)} of them to choose the best epoch, {len(test)} to test"
        raise ValueError(f"{total} photos are too few to split ({parts}, none to train on): add photos")
    return {"train": sorted(train), "val": sorted(val), "test": sorted(test)}


class ColorizationDataset(Dataset):
    """Photos as pairs of L and ab, scaled for the network, on the device that it computes on.

    paths: image files. config: `image_size` is the side of the result, `photo_size` that of the photos which random
    crops are taken from. augment: apply the config's augmentation, `crops_per_photo` times an epoch; else each photo
    comes once, whole. device: where L and ab come out. cache: folder of photo caches; None keeps the photos in memory.
    Item i is {"L": (1, S, S) in [−1, 1], "ab": (2, S, S) in (−1, 1)}, float32, and depends only on the seed, the epoch
    (`set_epoch`) and i; several numbers at once, an int64 tensor (B,), give a batch. `paths` names the photos,
    `skipped` the files that cannot be read, with the reason. Raises like `PhotoCache`. Where memory allows, Lab is
    computed once and kept on the device as 16-bit numbers (`resident`); its steps of 1/32767 are finer than an 8-bit
    photo's by far. Else each batch comes from the cache. Checked by tests/test_data.py.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        config: Config,
        augment: bool = False,
        device: str | torch.device = "cpu",
        cache: str | os.PathLike | None = None,
    ):
        self.config, self.device = config, torch.device(device)
        self.training, self.augment = augment, augment and config.augments
        self.copies = config.crops_per_photo if augment else 1
        side = config.photo_size if self.augment else config.image_size
        self.photos = PhotoCache(paths, side, cache, config.num_workers)
        self.paths, self.skipped = self.photos.paths, self.photos.skipped
        self.resident = len(self.paths) * side**2 * 6 < free_memory(self.device) / 2  # 3 planes of 2 bytes
        self.home = self.device if self.resident else torch.device("cpu")  # where photos and their numbers lie
        if self.resident:
            self.lab = torch.empty(len(self.paths), side, side, 3, dtype=torch.int16, device=self.device)
            for rows in torch.arange(len(self.paths)).split(16):
                lab = self._scaled_lab(self.photos[rows])
                self.lab[rows[0] : rows[-1] + 1] = (lab * LEVELS).round().permute(0, 2, 3, 1)
        self.set_epoch(0)

    def __len__(self) -> int:
        return len(self.paths) * self.copies

    def set_epoch(self, epoch: int) -> None:
        """Choose which random crops come next."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch + 1)
        self.chance = torch.rand(len(self), 8, generator=generator).to(self.home)  # 8 decisions for each item
        self.small = self.training and epoch < self.config.small_epochs

    def __getitem__(self, index: int | Tensor) -> dict[str, Tensor]:
        if not isinstance(index, Tensor):
            if not 0 <= index < len(self):  # what ends a `for` loop over the photos
                raise IndexError(f"there are {len(self)} items, from 0 on; got {index}")
            batch = self[torch.tensor([index], device=self.home)]
            return {name: planes[0] for name, planes in batch.items()}
        number = index % len(self.paths)
        if self.resident:
            lab = self.lab.index_select(0, number).permute(0, 3, 1, 2).float().mul_(1 / LEVELS)
        else:
            lab = self._scaled_lab(self.photos[number])
        if self.augment:
            chance = self._to_device(self.chance[index])
            lab = random_tone(random_view(lab, chance[:, :5], self.config), chance[:, 5:], self.config)
        if self.small:
            lab = F.interpolate(lab, (self.config.small_size, self.config.small_size), mode="area")
        return {"L": lab[:, :1], "ab": lab[:, 1:]}

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
    dataset: ColorizationDataset,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    first: int = 0,
    share: tuple[int, int] = (0, 1),
) -> DataLoader:
    """Batches {"L": (B, 1, S, S), "ab": (B, 2, S, S)} on the dataset's device; the last one may be smaller.

    shuffle: in an order that hangs on the seed alone. first: number of the batch to begin with. share: (k, n) gives the
    k-th of n parts of every batch, for n processes that work together; shuffled, that is for training, the parts are
    equally large, and up to n − 1 photos of the last batch are left out.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset), generator=generator) if shuffle else torch.arange(len(dataset))
    k, n = share
    batches = order.to(dataset.home).split(batch_size)
    if shuffle:
        batches = [batch[: len(batch) // n * n] for batch in batches]
    parts = [batch[k::n] for batch in batches if len(batch) > k]
    # with a generator of its own: a DataLoader draws a number when it starts, and dropout must not notice
    return DataLoader(dataset, batch_size=None, sampler=parts[first:], generator=generator)
