"""The photos of COCO 2017 (Lin et al. 2014, arXiv:1405.0312): find a copy, or download one."""

import errno
import os
import shutil
import sys
import zipfile
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import pooch
from requests import RequestException
from tqdm import tqdm

from .environment import data_dir, kaggle_input

COCO_URL = "http://images.cocodataset.org/zips"
COCO_SPLITS = {  # photos; bytes of the zip, and its checksum
    "val2017": (5_000, 815_585_330, "md5:442b8da7639aecaf257c1dceb8ba8c80"),
    "train2017": (118_287, 19_336_861_798, "md5:cced6f7f71b7629ddf16f17bbcfab6b2"),
}
OFFLINE = (
    "No internet? On Kaggle, switch on Internet in the notebook's settings or attach the dataset "
    "awsaf49/coco-2017-dataset; elsewhere, set COLORLIB_COCO to a folder that holds the photos."
)


def find_coco() -> Path | None:
    """Find COCO val2017's folder: COLORLIB_COCO, or among Kaggle's inputs, or in data_dir(); None: nowhere."""
    if chosen := os.environ.get("COLORLIB_COCO"):
        for folder in (Path(chosen).expanduser() / "val2017", Path(chosen).expanduser()):
            if any(folder.glob("*.jp*g")) and folder.name != "train2017":
                return folder
        where = "neither in it nor in a folder val2017 in it; correct or unset it"
        raise FileNotFoundError(f"COLORLIB_COCO is {chosen!r}, but the .jpg files of val2017 are {where}")
    inputs = (folder for depth in range(6) for folder in sorted(kaggle_input().glob("*/" * depth + "val2017")))
    places = chain(inputs, [data_dir() / "val2017"])
    return next((folder for folder in places if any(folder.glob("*.jp*g"))), None)  # COCO's maps are .png


def download_coco(folder: str | os.PathLike | None = None, split: str = "val2017") -> Path:
    """Download and unzip COCO's photos (val2017: 0.8 GB, train2017: 19 GB) into folder/split, unless they are there.

    `ConnectionError` if the download breaks off, `OSError` if there is no room or an unfinished folder is in the way,
    `ValueError` if what came is not COCO's zip; it is deleted.
    """
    if split not in COCO_SPLITS:
        raise ValueError(f"split must be one of {', '.join(COCO_SPLITS)}, got {split!r}")
    photos, size, checksum = COCO_SPLITS[split]
    folder = data_dir() if folder is None else Path(folder).expanduser()
    target, archive = folder / split, folder / f"{split}.zip"
    if target.is_dir():
        if (found := len(os.listdir(target))) != photos:
            raise FileExistsError(f"{target} has {found:,} files, expected {photos:,} photos: move it away")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 2 * size:  # the zip, then its photos, as large again
        message = f"{2 * size / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; make room or choose another place"
        raise OSError(errno.ENOSPC, message, str(folder))
    bar = tqdm(total=size, desc=archive.name, unit="B", unit_scale=True, file=sys.stdout)
    downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**20)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(f"{COCO_URL}/{archive.name}", checksum, archive.name, folder, downloader=downloader)
    except RequestException as error:
        raise ConnectionError(f"{archive.name} could not be downloaded ({error}). {OFFLINE}") from error
    with zipfile.ZipFile(archive) as zipped, TemporaryDirectory(dir=folder) as temporary:
        for member in tqdm(zipped.namelist(), f"unzip {archive.name}", unit="photo", file=sys.stdout):
            zipped.extract(member, temporary)  # whose name cannot lead out of the folder: zipfile sees to it
        (Path(temporary) / split).rename(target)
    archive.unlink()
    return target
