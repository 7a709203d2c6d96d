"""COCO is found where it lies, and a download is whole or not there."""

import hashlib
import os
import shutil
import threading
import zipfile
from collections import namedtuple
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from colorlib.system import coco, download_coco, find_coco

PHOTOS = {f"{number:012}.jpg": bytes([number]) * 40_000 for number in range(10)}


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    """No COCO anywhere; data_dir() and Kaggle's inputs lie in tmp_path."""
    monkeypatch.delenv("COLORLIB_COCO", raising=False)
    monkeypatch.setenv("COLORLIB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path / "input"))


def make_photos(folder: Path, suffix: str = ".jpg", count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:012}{suffix}").touch()
    return folder


@pytest.mark.parametrize("below", ["", "val2017"])
def test_the_variable_comes_first(monkeypatch, tmp_path, below):
    make_photos(tmp_path / "data/val2017")
    photos = make_photos(tmp_path / "mine" / below)
    monkeypatch.setenv("COLORLIB_COCO", str(tmp_path / "mine"))
    assert find_coco() == photos


@pytest.mark.parametrize("folder", ["nowhere", "data", "train2017"])
def test_a_wrong_variable(monkeypatch, tmp_path, folder):
    make_photos(tmp_path / "train2017")  # photos, but another split's
    make_photos(tmp_path / "input/val2017")
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


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def offer(monkeypatch, tmp_path_factory):
    """Offers a zip at COCO's address, with these members; returns its path, from which it is served."""
    folder = tmp_path_factory.mktemp("server")

    def offer(members: dict[str, bytes]) -> Path:
        with zipfile.ZipFile(folder / "val2017.zip", "w") as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
        content = (folder / "val2017.zip").read_bytes()
        numbers = len(members), len(content), f"md5:{hashlib.md5(content).hexdigest()}"
        monkeypatch.setattr(coco, "COCO_SPLITS", {"val2017": numbers})
        return folder / "val2017.zip"

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        monkeypatch.setattr(coco, "COCO_URL", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield offer
        server.shutdown()


@pytest.fixture
def served(offer):
    """The zip that is offered, of ten photos."""
    return offer({f"val2017/{name}": content for name, content in PHOTOS.items()})


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


@pytest.mark.parametrize("lost", [0, 1])
def test_a_zip_that_is_there_is_used_if_it_is_whole(served, tmp_path, lost):
    content = served.read_bytes()
    (tmp_path / "val2017.zip").write_bytes(content[: len(content) - lost])
    if not lost:
        served.unlink()
    download_coco(str(tmp_path))
    assert_complete(tmp_path)


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


@pytest.mark.parametrize("name", ["../escaped.jpg", "val2017/../../escaped.jpg", "/escaped.jpg"])
def test_no_member_leaves_the_folder(offer, tmp_path, name):
    offer({"val2017/1.jpg": b"photo", name: b"bad"})
    folder = download_coco(tmp_path / "coco")
    assert [path for path in tmp_path.rglob("escaped.jpg") if path.parent != folder] == []
    assert not Path("/escaped.jpg").exists() and os.listdir(tmp_path / "coco") == ["val2017"]


def test_no_room_or_an_unfinished_folder(served, tmp_path, monkeypatch):
    free = 2 * served.stat().st_size - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(free))
    with pytest.raises(OSError, match=r"0\.0 GB needed, 0\.0 GB free; make room"):
        download_coco(tmp_path)
    make_photos(tmp_path / "val2017")
    with pytest.raises(FileExistsError, match="2 files, expected 10 photos: move it away"):
        download_coco(tmp_path)
    assert len(os.listdir(tmp_path / "val2017")) == 2
