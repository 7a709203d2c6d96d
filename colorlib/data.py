"""Photos: find them, split them, keep them in memory, serve them as batches of L and ab."""

import math
import os
import random
import re
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from colorlib.color import encode_lab, rgb_to_lab
from colorlib.config import Config
from colorlib.download import find_coco
from colorlib.photo import PHOTO_SUFFIXES, PhotoError, read_photo, resize_photo

COCO_NAME = re.compile(r"\d{12}\.jpg")  # 000000000139.jpg
COCO_TEST_PHOTOS = 100

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
    """Photos as pairs of L and ab, scaled for the network.

    paths: image files, read once and kept as uint8. config: `image_size` is the side of the result, `photo_size` that
    of the photos which random crops are taken from. augment: apply the config's augmentation, `crops_per_photo`
    times an epoch; else each photo comes once, whole. Item i is {"L": (1, S, S) in [−1, 1], "ab": (2, S, S) in (−1,
    1)}, float32, and depends only on the seed, the epoch (`set_epoch`) and i. Files that cannot be read are left
    out, printed, and listed in `skipped` with the reason; `paths` names the rest. Raises `ValueError` when none can
    be read.
    """

    def __init__(self, paths: Sequence[str | os.PathLike], config: Config, augment: bool = False):
        self.config, self.epoch = config, 0
        self.augment = augment and config.augments
        self.copies = config.crops_per_photo if augment else 1
        side = config.photo_size if self.augment else config.image_size
        self.photos = torch.empty(len(paths), side, side, 3, dtype=torch.uint8)
        self.paths: list[Path] = []
        self.skipped: list[tuple[Path, str]] = []

        def read(path: str | os.PathLike) -> Tensor | PhotoError | OSError:
            try:
                return torch.from_numpy(resize_photo(read_photo(path), side).copy())
            except (PhotoError, OSError) as error:
                return error

        with ThreadPoolExecutor() as pool:
            bar = tqdm(paths, "reading photos", file=sys.stdout, leave=False, disable=len(paths) < 100)
            for path, photo in zip(bar, pool.map(read, paths), strict=True):
                if isinstance(photo, Exception):
                    self.skipped.append((Path(path), str(photo)))
                else:
                    self.photos[len(self.paths)] = photo
                    self.paths.append(Path(path))
        self.photos = self.photos[: len(self.paths)]
        if self.skipped:
            reasons = "".join(f"\n  {why}" for _, why in self.skipped)
            print(f"skipped {len(self.skipped)} of {len(paths)} files:{reasons}")
        if not self.paths:
            raise ValueError(f"none of the {len(paths)} files could be read as a photo: choose another folder")

    def __len__(self) -> int:
        return len(self.paths) * self.copies

    def set_epoch(self, epoch: int) -> None:
        """Choose which random crops come next."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):  # what ends a `for` loop over the photos
            raise IndexError(f"there are {len(self)} items, from 0 on; got {index}")
        rgb = self.photos[index % len(self.paths)].permute(2, 0, 1).float() / 255
        if not self.augment:
            L, ab = encode_lab(rgb_to_lab(rgb))
        else:
            generator = torch.Generator().manual_seed(hash((self.config.seed, self.epoch, index)) % 2**63)
            rgb = random_view(rgb, self.config, generator)
            L, ab = random_tone(*encode_lab(rgb_to_lab(rgb)), self.config, generator)
        return {"L": L, "ab": ab}


def random_view(rgb: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Crop, mirror and turn a photo at random, in one resampling.

    rgb: (3, H, W). Returns (3, image_size, image_size): a random square of at least `min_crop` of the area, mirrored
    every second time if `flip`, turned by up to `rotate` degrees; what turns in from outside is a reflection of the
    photo.
    """
    crop, turn, mirror, x, y = torch.rand(5, generator=generator).tolist()
    side = math.sqrt(config.min_crop + (1 - config.min_crop) * crop)  # share of the photo's side
    angle = math.radians(config.rotate) * (2 * turn - 1)
    sign = -1 if config.flip and mirror < 0.5 else 1
    cos, sin = side * math.cos(angle), side * math.sin(angle)
    shift_x, shift_y = (1 - side) * (2 * x - 1), (1 - side) * (2 * y - 1)
    matrix = torch.tensor([[[sign * cos, -sin, shift_x], [sign * sin, cos, shift_y]]])
    grid = F.affine_grid(matrix, [1, 3, config.image_size, config.image_size], align_corners=False)
    return F.grid_sample(rgb[None], grid, padding_mode="reflection", align_corners=False)[0].clamp(0, 1)


def random_tone(L: Tensor, ab: Tensor, config: Config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Change the contrast of L about its mean and the saturation of ab, by up to the config's shares."""
    contrast, saturation = (2 * torch.rand(2, generator=generator) - 1).tolist()
    mean = L.mean()
    L = (mean + (L - mean) * (1 + config.contrast * contrast)).clamp(-1, 1)
    return L, (ab * (1 + config.saturation * saturation)).clamp(-1, 1)


def get_dataloader(
    dataset: ColorizationDataset, batch_size: int, shuffle: bool = False, seed: int = 0, num_workers: int = 0
) -> DataLoader:
    """Batches {"L": (B, 1, S, S), "ab": (B, 2, S, S)}, in an order that depends only on the seed.

    num_workers: processes that prepare them; the batches are the same for any number. The last batch may be smaller.
    """
    generator = torch.Generator().manual_seed(seed)
    pin_memory = torch.cuda.is_available()  # memory that a GPU can copy from while it computes
    return DataLoader(dataset, batch_size, shuffle, generator=generator, num_workers=num_workers, pin_memory=pin_memory)
