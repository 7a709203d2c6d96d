"""Get the photos of COCO 2017 (Lin et al. 2014, arXiv:1405.0312): find a copy, or download one."""

import errno
import http.client
import os
import re
import shutil
import sys
import time
import zipfile
import zlib
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from .environment import kaggle_input, repository_dir

COCO_URL = "http://images.cocodataset.org/zips"
COCO_SPLITS = {"val2017": (815_585_330, 5_000), "train2017": (19_336_861_798, 118_287)}  # bytes, photos
PHOTO_ENDINGS = (".jpg", ".jpeg")  # all of COCO's photos; COCO's segmentation maps are .png
KAGGLE_PLACES = ("coco-2017-dataset/coco2017", "datasets/awsaf49/coco-2017-dataset/coco2017")
ATTEMPTS, PAUSE, TIMEOUT = 5, 2.0, 30.0  # connections a call, seconds between them, seconds of silence
OFFLINE = (
    "No internet? On Kaggle, switch on Internet in the notebook's settings or attach the dataset "
    "awsaf49/coco-2017-dataset; elsewhere, set COLORLIB_COCO to a folder that holds the photos."
)


def data_dir() -> Path:
    """Folder for downloaded photos; it is not created here.

    The variable COLORLIB_DATA_DIR, else `data` in the repository (unless that is read-only), else `data` in
    the current folder. Checked by tests/test_download.py::test_data_dir.
    """
    if chosen := os.environ.get("COLORLIB_DATA_DIR"):
        return Path(chosen).expanduser()
    repository = repository_dir()
    return (repository if repository and os.access(repository, os.W_OK) else Path()) / "data"


def find_coco(split: str = "val2017") -> Path | None:
    """Find a copy of COCO's photos: in COLORLIB_COCO, then Kaggle's inputs, then data_dir(); writes nothing.

    split: "val2017" or "train2017" (else ValueError). Returns the folder of .jpg files, or None; raises
    FileNotFoundError if COLORLIB_COCO is set to a folder without them. Checked by tests/test_download.py.
    """
    _check_split(split)
    if chosen := os.environ.get("COLORLIB_COCO"):
        folder = Path(chosen).expanduser()
        for candidate in (folder / split, folder):
            if _has_photos(candidate) and candidate.name not in COCO_SPLITS.keys() - {split}:
                return candidate
        where = f"neither in it nor in a folder {split} in it; correct or unset it"
        raise FileNotFoundError(f"COLORLIB_COCO is {chosen!r}, but the .jpg files of {split} are {where}")
    places = [kaggle_input() / place / split for place in KAGGLE_PLACES]
    mounted = next(filter(_has_photos, places), None) or _search(kaggle_input(), split)
    return mounted or _search(data_dir(), split, levels=1)


def download_coco(
    folder: str | Path | None = None,
    split: str = "val2017",
    base_url: str = COCO_URL,
    size: int | None = None,
    photos: int | None = None,
) -> Path:
    """Download and unzip COCO's photos, continuing where an earlier call stopped; folder/split is the result.

    folder: where to put it (default: data_dir()). split: "val2017" (0.8 GB) or "train2017" (19 GB).
    size (bytes of the zip) and photos (how many) are checked; COCO's own figures for COCO's own address.
    Raises ConnectionError (calling again continues), OSError (no room, an unfinished folder in the way) or
    ValueError (the zip is bad and was deleted). Checked by tests/test_download.py.
    """
    _check_split(split)
    if base_url.rstrip("/") == COCO_URL:
        size, photos = size or COCO_SPLITS[split][0], photos or COCO_SPLITS[split][1]
    folder = data_dir() if folder is None else Path(folder).expanduser()
    target, archive, part = folder / split, folder / f"{split}.zip", folder / f"{split}.zip.part"
    if target.is_dir() and any(target.iterdir()):
        count = sum(name.lower().endswith(PHOTO_ENDINGS) for name in os.listdir(target))
        if count and count == (photos or count):
            return target
        raise FileExistsError(f"{target} has {count:,} photos, expected {photos or 'some'}: move it away")
    folder.mkdir(parents=True, exist_ok=True)
    if not archive.exists():
        _fetch(f"{base_url.rstrip('/')}/{archive.name}", part, size)
        part.replace(archive)
    try:  # zipfile raises NotImplementedError for a kind of compression that it does not know
        _unzip(archive, target, photos)
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        archive.unlink()
        raise ValueError(f"{archive} is bad ({error}) and was deleted: call again for a new one") from error
    archive.unlink()
    return target


def _check_split(split: str) -> None:
    if split not in COCO_SPLITS:
        raise ValueError(f"split must be one of {', '.join(COCO_SPLITS)}, got {split!r}")


def _entries(folder: Path, most: int = 200) -> list[os.DirEntry]:
    """The first entries of a folder, enough to judge it by: listing 118,287 photos on a mount takes long."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return list(islice(entries, most))


def _has_photos(folder: Path) -> bool:
    return any(entry.name.lower().endswith(PHOTO_ENDINGS) for entry in _entries(folder))


def _search(root: Path, split: str, levels: int = 6) -> Path | None:
    """The folder named split, with photos in it, that lies nearest to root."""
    folders = [root]
    for _ in range(levels):
        folders = sorted(Path(entry) for folder in folders for entry in _entries(folder) if entry.is_dir())
        if found := next((f for f in folders if f.name == split and _has_photos(f)), None):
            return found
    return None


def _fetch(url: str, part: Path, size: int | None) -> None:
    """Bring url into the file part, adding to what is there."""
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE if attempt else 0)
        try:
            return _transfer(url, part, size)
        except (URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
            failure = error
            if isinstance(error, HTTPError) and error.code < 500:  # asking again would not help
                break
    raise ConnectionError(f"{url}: {failure}. What came is kept: call again to go on. {OFFLINE}") from failure


def _transfer(url: str, part: Path, size: int | None) -> None:
    """One connection: get the bytes that part lacks, add them; ConnectionError unless that makes it whole."""
    have = part.stat().st_size if part.exists() else 0
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416:
            error.close()
            raise
        response = error  # "range not satisfiable": the server's file ends where ours does, or before
    with response:
        span = re.fullmatch(r"bytes (\d+-\d+|\*)/(\d+)", response.headers.get("Content-Range", ""))
        if response.status == 200:  # the whole file: nothing was there yet, or the server ignores Range
            total = int(response.headers.get("Content-Length") or size or 0)
            start = have if have == total else 0
        elif span and (span[1].startswith(f"{have}-") or span[0] == f"bytes */{have}"):
            total, start = int(span[2]), have
        else:
            part.unlink(missing_ok=True)
            raise ConnectionError(f"what the server has does not follow byte {have:,}, starting again")
        if size and total != size:
            raise OSError(f"{url} has {total:,} bytes, expected {size:,}: it is not COCO's file. {OFFLINE}")
        if start and start == total:
            return
        _check_room(part.parent, 2 * total - start)  # the rest of the zip, then its photos, as large again
        bar = tqdm(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True, file=sys.stdout)
        with bar, part.open("ab" if start else "wb") as file:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                bar.update(len(chunk))
            if file.tell() < total:
                raise ConnectionError(f"it broke off after {file.tell():,} of {total:,} bytes")


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        message = f"{needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; make room or choose another place"
        raise OSError(errno.ENOSPC, message, str(folder))


def _unzip(archive: Path, target: Path, photos: int | None) -> None:
    """Unzip the photos below target's name into a temporary folder, and move them when they are whole."""
    with zipfile.ZipFile(archive) as zipped:
        for name in zipped.namelist():
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in name:
                raise ValueError(f"its member {name!r} would leave the folder")
        inside = [member for member in zipped.infolist() if member.filename.startswith(f"{target.name}/")]
        members = [member for member in inside if member.filename.lower().endswith(PHOTO_ENDINGS)]
        if not members or len(members) != (photos or len(members)):
            raise ValueError(f"{len(members):,} photos in it, expected {photos or 'some'}")
        _check_room(archive.parent, sum(member.file_size for member in members))
        with TemporaryDirectory(prefix=f"{target.name}.", dir=archive.parent) as temporary:
            for member in tqdm(members, desc=f"unzip {archive.name}", unit="photo", file=sys.stdout):
                zipped.extract(member, temporary)
            if target.exists():
                target.rmdir()  # download_coco saw that it is empty
            (Path(temporary) / target.name).rename(target)
