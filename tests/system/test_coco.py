"""COCO is found where it lies, and a download is whole or not there."""

import hashlib
import os
import shutil
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from colorlib.system import coco, download_coco, find_coco

PHOTOS = {f"{number:012}.jpg": bytes([number]) * 40_000 for number in range(10)}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """No COCO anywhere; data_dir() and Kaggle's inputs lie in tmp_path."""
    monkeypatch.setenv("COLORLIB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path / "input"))


def make_photos(folder: Path, suffix: str = ".jpg", count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:012}{suffix}").touch()
    return folder


def test_the_variable_comes_first_and_must_be_right(monkeypatch, tmp_path):
    make_photos(tmp_path / "input/val2017")
    photos = make_photos(tmp_path / "mine/val2017")
    for folder in ("mine", "mine/val2017"):
        monkeypatch.setenv("COLORLIB_COCO", str(tmp_path / folder))
        assert find_coco() == photos
    make_photos(tmp_path / "train2017")  # photos, but another split's
    for folder in ("nowhere", "train2017"):
        monkeypatch.setenv("COLORLIB_COCO", str(tmp_path / folder))
        with pytest.raises(FileNotFoundError, match=rf"COLORLIB_COCO.*{folder}"):
            find_coco()


@pytest.mark.parametrize(
    "place", ["coco-2017-dataset/coco2017", "datasets/awsaf49/coco-2017-dataset/coco2017", "my/own/copy", "val2017"]
)
def test_kaggle_then_a_download_then_nowhere(tmp_path, place):
    make_photos(tmp_path / "input" / place / "train2017", count=300)
    make_photos(tmp_path / "input/annotations/val2017", ".png")  # maps
    photos = make_photos(tmp_path / "input" / place / "val2017")
    downloaded = make_photos(tmp_path / "data/val2017")
    assert find_coco() == photos
    shutil.rmtree(photos)
    assert find_coco() == downloaded
    shutil.rmtree(downloaded)
    assert find_coco() is None


@pytest.fixture
def served(monkeypatch, tmp_path_factory):
    """The zip of ten photos that is offered at COCO's address: its path, from which it is served."""
    path = tmp_path_factory.mktemp("server") / "val2017.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in PHOTOS.items():
            zipped.writestr(f"val2017/{name}", content)
    checksum = f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"
    monkeypatch.setattr(coco, "COCO_SPLITS", {"val2017": (len(PHOTOS), path.stat().st_size, checksum)})
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=path.parent)) as server:
        monkeypatch.setattr(coco, "COCO_URL", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield path
        server.shutdown()


def assert_complete(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in (folder / "val2017").iterdir()} == PHOTOS
    assert os.listdir(folder) == ["val2017"], "neither the zip nor a temporary folder"


def test_download(served, tmp_path, capfd):
    assert download_coco() == tmp_path / "data/val2017"
    served.unlink()
    assert download_coco() == find_coco() == tmp_path / "data/val2017"
    assert_complete(tmp_path / "data")
    shown = capfd.readouterr()
    assert "val2017.zip: 100%" in shown.out and "10/10" in shown.out and shown.err == ""


def test_offline_or_damaged_leaves_nothing_and_says_what_to_do(served, tmp_path):
    content = served.read_bytes()
    served.unlink()
    with pytest.raises(ConnectionError, match=r"404.*switch on Internet.*awsaf49/coco-2017-dataset.*COLORLIB_COCO"):
        download_coco(tmp_path / "coco")
    served.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"val2017\.zip.*does not match"):
        download_coco(tmp_path / "coco")
    assert os.listdir(tmp_path / "coco") == []
    served.write_bytes(content)
    download_coco(tmp_path / "coco")
    assert_complete(tmp_path / "coco")


def test_no_room_or_an_unfinished_folder(served, tmp_path, monkeypatch):
    free = 2 * served.stat().st_size - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(OSError, match=r"0\.0 GB needed, 0\.0 GB free; make room"):
        download_coco(tmp_path)
    make_photos(tmp_path / "val2017")
    with pytest.raises(FileExistsError, match="2 files, expected 10 photos: move it away"):
        download_coco(tmp_path)
    assert len(os.listdir(tmp_path / "val2017")) == 2
