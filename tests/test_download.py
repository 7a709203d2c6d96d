"""COCO's photos: found in all places, downloaded from a local server that behaves and misbehaves."""

import io
import os
import re
import shutil
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from colorlib import download
from colorlib.download import data_dir, download_coco, find_coco


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """No variable set, no Kaggle input, no copy, no pause."""
    for name in ("COLORLIB_COCO", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path / "input"))
    monkeypatch.setenv("COLORLIB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(download, "PAUSE", 0.0)


def make_photos(folder: Path, names=("000000000139.jpg", "000000000285.jpg")) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"photo " + name.encode())
    return folder


def make_zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return file.getvalue()


PHOTOS = {f"{number:012}.jpg": bytes([number]) * 40_000 for number in range(1, 11)}
ZIP = make_zip({"val2017/": b""} | {f"val2017/{name}": content for name, content in PHOTOS.items()})


class Handler(BaseHTTPRequestHandler):
    """Serves server.content at /val2017.zip; the first server.breaks answers end half-way."""

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        if server.status or self.path != "/val2017.zip":
            return self.send_error(server.status or 404)
        first, total = 0, len(server.content)
        if asked and server.honours_range:
            first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if first >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first + server.shift}-{total - 1}/{total}")
        else:
            self.send_response(200)
        body = server.content[first:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.ranges, server.breaks = ZIP, [], 0
        server.honours_range, server.status, server.shift = True, None, 0
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def assert_complete(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in (folder / "val2017").iterdir()} == PHOTOS
    assert [path.name for path in folder.iterdir()] == ["val2017"]  # no zip, no .part, no temporary folder


# find_coco


def test_data_dir(monkeypatch, tmp_path):
    assert data_dir() == tmp_path / "data"
    monkeypatch.delenv("COLORLIB_DATA_DIR")
    monkeypatch.setattr(download, "repository_dir", lambda: tmp_path)
    assert data_dir() == tmp_path / "data"
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # a repository attached read-only
    assert data_dir() == Path("data")
    monkeypatch.setattr(download, "repository_dir", lambda: None)
    assert data_dir() == Path("data")


def test_find_coco_nowhere(tmp_path):
    assert find_coco() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["", "val2017"])
def test_find_coco_variable(monkeypatch, tmp_path, below):
    make_photos(tmp_path / "data/val2017")
    photos = make_photos(tmp_path / "mine" / below)
    monkeypatch.setenv("COLORLIB_COCO", str(tmp_path / "mine"))
    assert find_coco() == photos


@pytest.mark.parametrize("folder", ["nowhere", "empty", "train2017"])
def test_find_coco_wrong_variable(monkeypatch, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    make_photos(tmp_path / "train2017")  # photos, but another split's
    make_photos(tmp_path / "data/val2017")
    monkeypatch.setenv("COLORLIB_COCO", str(tmp_path / folder))
    with pytest.raises(FileNotFoundError, match=rf"COLORLIB_COCO.*{folder}"):
        find_coco()


@pytest.mark.parametrize(
    "place",
    [
        "coco-2017-dataset/coco2017/val2017",
        "datasets/awsaf49/coco-2017-dataset/coco2017/val2017",
        "someone/elses/copy/of/val2017",
        "val2017/val2017",
    ],
)
def test_find_coco_kaggle(tmp_path, place):
    photos = make_photos(tmp_path / "input" / place)
    make_photos(tmp_path / "data/val2017")
    before = sorted(tmp_path.rglob("*"))
    assert find_coco() == photos
    assert sorted(tmp_path.rglob("*")) == before
    assert find_coco("train2017") is None


@pytest.mark.parametrize("place", download.KAGGLE_PLACES)
def test_find_coco_kaggle_without_a_search(monkeypatch, tmp_path, place):
    photos = make_photos(tmp_path / "input" / place / "val2017")
    monkeypatch.setattr(download, "_search", lambda *arguments: None)
    assert find_coco() == photos


def test_find_coco_passes_over_maps_and_labels(tmp_path):
    make_photos(tmp_path / "input/a/annotations/val2017", ["000000000139.png"])
    make_photos(tmp_path / "input/a/labels/val2017", ["000000000139.txt"])
    assert find_coco() is None


def test_find_coco_does_not_list_all_photos(monkeypatch, tmp_path):
    make_photos(tmp_path / "input/coco/train2017", [f"{number:012}.jpg" for number in range(1000)])
    wanted = make_photos(tmp_path / "input/coco/val2017", [f"{number:012}.jpg" for number in range(1000)])
    counted = []

    class Counting:
        def __init__(self, folder):
            self.entries = real(folder)

        def __enter__(self):
            return self

        def __exit__(self, *arguments):
            self.entries.close()

        def __iter__(self):
            for entry in self.entries:
                counted.append(entry.name)
                yield entry

    real = os.scandir
    monkeypatch.setattr(os, "scandir", Counting)
    assert find_coco() == wanted
    assert 0 < len(counted) < 500


def test_find_coco_local_copy(tmp_path):
    photos = make_photos(tmp_path / "data/val2017")
    assert find_coco() == photos


@pytest.mark.parametrize("function", [find_coco, lambda split: download_coco(split=split)])
@pytest.mark.parametrize("split", ["val2014", "../val2017"])
def test_unknown_split(function, split):
    with pytest.raises(ValueError, match="val2017, train2017"):
        function(split)


# download_coco


def test_download(server, tmp_path, capsys):
    make_photos(tmp_path / "input/other")
    inputs = sorted((tmp_path / "input").rglob("*"))
    assert download_coco(base_url=server.url) == tmp_path / "data/val2017"
    assert_complete(tmp_path / "data")
    assert server.ranges == [None]
    assert find_coco() == tmp_path / "data/val2017"
    assert sorted((tmp_path / "input").rglob("*")) == inputs
    shown = capsys.readouterr()
    assert "val2017.zip: 100%" in shown.out and "10/10" in shown.out and shown.err == ""


def test_download_returns_what_is_there(server, tmp_path):
    download_coco(tmp_path / "coco", base_url=server.url)
    assert download_coco(str(tmp_path / "coco"), base_url=server.url, photos=10) == tmp_path / "coco/val2017"
    assert len(server.ranges) == 1


def test_download_leaves_an_unfinished_folder_alone(server, tmp_path):
    make_photos(tmp_path / "val2017")
    with pytest.raises(FileExistsError, match="2 photos, expected 10"):
        download_coco(tmp_path, base_url=server.url, photos=10)
    assert len(list((tmp_path / "val2017").iterdir())) == 2 and server.ranges == []


def test_download_fills_an_empty_folder(server, tmp_path):
    (tmp_path / "coco/val2017").mkdir(parents=True)
    download_coco(tmp_path / "coco", base_url=server.url)
    assert_complete(tmp_path / "coco")


def test_download_asks_for_cocos_own_figures(monkeypatch, tmp_path):
    asked = []

    def fetch(url, part, size):
        asked.append((url, size))
        part.write_bytes(ZIP)

    monkeypatch.setattr(download, "_fetch", fetch)
    with pytest.raises(ValueError, match="10 photos in it, expected 5000"):
        download_coco(tmp_path)
    assert asked == [("http://images.cocodataset.org/zips/val2017.zip", 815_585_330)]


def test_download_goes_on_after_a_break(server, tmp_path):
    server.breaks = 2
    download_coco(tmp_path / "coco", base_url=server.url)
    assert_complete(tmp_path / "coco")
    half = len(ZIP) // 2
    assert server.ranges == [None, f"bytes={half}-", f"bytes={half + (len(ZIP) - half) // 2}-"]


def test_download_does_not_depend_on_the_progress_bar(server, monkeypatch, tmp_path):
    bar = download.tqdm
    monkeypatch.setattr(download, "tqdm", lambda *a, **options: bar(*a, **options, disable=True))
    download_coco(tmp_path / "coco", base_url=server.url)
    assert len(server.ranges) == 1
    assert_complete(tmp_path / "coco")


def test_download_gives_up_and_a_second_call_goes_on(server, monkeypatch, tmp_path):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    monkeypatch.setattr(download, "PAUSE", 7.0)
    server.breaks = download.ATTEMPTS
    with pytest.raises(ConnectionError, match=r"broke off.*call again"):
        download_coco(tmp_path / "coco", base_url=server.url)
    assert len(server.ranges) == download.ATTEMPTS and pauses == [0] + [7.0] * (download.ATTEMPTS - 1)
    kept = (tmp_path / "coco/val2017.zip.part").stat().st_size
    assert len(ZIP) // 2 < kept < len(ZIP) and not (tmp_path / "coco/val2017").exists()
    download_coco(tmp_path / "coco", base_url=server.url)
    assert server.ranges[-1] == f"bytes={kept}-"
    assert_complete(tmp_path / "coco")


@pytest.mark.parametrize("honours_range", [True, False])
@pytest.mark.parametrize("length", [1, 1000, len(ZIP)])
def test_download_with_a_partial_file(server, monkeypatch, tmp_path, capsys, honours_range, length):
    unzip, archives = download._unzip, []
    monkeypatch.setattr(download, "_unzip", lambda *a: (archives.append(a[0].read_bytes()), unzip(*a)))
    server.honours_range = honours_range
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/val2017.zip.part").write_bytes(ZIP[:length])
    download_coco(tmp_path / "coco", base_url=server.url, size=len(ZIP), photos=10)
    assert_complete(tmp_path / "coco")
    assert server.ranges == [f"bytes={length}-"]
    assert archives == [ZIP]  # a zip with something put before it would unzip as well
    assert capsys.readouterr().out.strip().startswith("unzip") == (length == len(ZIP))  # nothing fetched twice


def test_download_with_a_partial_file_that_is_too_long(server, tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/val2017.zip.part").write_bytes(ZIP + b"more")
    download_coco(tmp_path / "coco", base_url=server.url)
    assert server.ranges == [f"bytes={len(ZIP) + 4}-", None]
    assert_complete(tmp_path / "coco")


def test_download_from_a_server_that_sends_another_range(server, tmp_path):
    server.shift = 5
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/val2017.zip.part").write_bytes(ZIP[:1000])
    download_coco(tmp_path / "coco", base_url=server.url)
    assert server.ranges == ["bytes=1000-", None]
    assert_complete(tmp_path / "coco")


def test_download_of_a_file_of_another_size(server, tmp_path):
    server.content = b"<html>Please log in</html>"
    (tmp_path / "val2017.zip.part").write_bytes(ZIP[:1000])
    with pytest.raises(OSError, match=f"expected {len(ZIP):,}"):
        server.honours_range = False
        download_coco(tmp_path, base_url=server.url, size=len(ZIP))
    assert (tmp_path / "val2017.zip.part").read_bytes() == ZIP[:1000]


@pytest.mark.parametrize("status, times", [(404, 1), (503, download.ATTEMPTS)])
def test_download_refused_by_the_server(server, tmp_path, status, times):
    server.status = status
    with pytest.raises(ConnectionError, match=str(status)):
        download_coco(tmp_path, base_url=server.url)
    assert len(server.ranges) == times


def test_download_offline(server, tmp_path):
    server.server_close()  # nobody listens there any more
    with pytest.raises(ConnectionError) as caught:
        download_coco(tmp_path, base_url=server.url)
    for advice in ("switch on Internet", "awsaf49/coco-2017-dataset", "COLORLIB_COCO"):
        assert advice in str(caught.value)


def test_download_without_room(server, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9, 2 * len(ZIP) - 1))
    with pytest.raises(OSError, match="make room"):
        download_coco(tmp_path, base_url=server.url)
    assert list(tmp_path.iterdir()) == [] and len(server.ranges) == 1
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 0, 2 * len(ZIP)))
    download_coco(tmp_path, base_url=server.url)


@pytest.mark.parametrize(
    "name",
    ["../escaped.jpg", "val2017/../../escaped.jpg", "/escaped.jpg", "C:\\escaped.jpg", "..\\escaped.jpg"],
)
def test_download_refuses_members_that_leave_the_folder(server, tmp_path, name):
    server.content = make_zip({"val2017/1.jpg": b"photo", name: b"bad"})
    with pytest.raises(ValueError, match="would leave the folder"):
        download_coco(tmp_path / "coco", base_url=server.url)
    assert list(tmp_path.rglob("*")) == [tmp_path / "coco"]
    assert not Path("/escaped.jpg").exists()


def test_download_unzips_only_photos(server, tmp_path):
    others = [
        "readme.txt",
        "1.jpg",
        "train2017/1.jpg",
        "val2017/run.py",
        "__MACOSX/val2017/1.jpg",
        "val2017x/1.jpg",
    ]
    members = {f"val2017/{photo}": content for photo, content in PHOTOS.items()}
    server.content = make_zip(members | dict.fromkeys(others, b"other"))
    download_coco(tmp_path / "coco", base_url=server.url)
    assert_complete(tmp_path / "coco")


def damaged() -> bytes:
    middle = len(ZIP) // 2
    return ZIP[:middle] + bytes(byte ^ 255 for byte in ZIP[middle : middle + 10]) + ZIP[middle + 10 :]


def unknown_method() -> bytes:
    content = bytearray(make_zip({"val2017/1.jpg": b"photo"}))
    content[8] = content[content.find(b"PK\1\2") + 10] = 99  # the compression method, in both headers
    return bytes(content)


BAD = [b"not a zip" * 100, ZIP[:-30], damaged(), unknown_method(), make_zip({"readme.txt": b""})]


@pytest.mark.parametrize("content", BAD, ids=["text", "truncated", "damaged", "method", "empty"])
def test_download_deletes_a_bad_zip(server, tmp_path, content):
    server.content = content
    with pytest.raises(ValueError, match="deleted: call again"):
        download_coco(tmp_path / "coco", base_url=server.url)
    assert list((tmp_path / "coco").iterdir()) == []
    server.content = ZIP
    download_coco(tmp_path / "coco", base_url=server.url)
    assert_complete(tmp_path / "coco")


def test_download_uses_a_whole_zip_that_is_there(server, tmp_path):
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco/val2017.zip").write_bytes(ZIP)
    download_coco(tmp_path / "coco", base_url=server.url)
    assert server.ranges == []
    assert_complete(tmp_path / "coco")
