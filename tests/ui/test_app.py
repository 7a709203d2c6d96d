"""The web page, without a browser: what its events do, its settings, and what it says when something is wrong."""

import asyncio
import http.client
import io
import os
import re
import runpy
import socket
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import blobs
from PIL import Image
from test_demo import CONFIG, network

from colorlib.checkpoint import save_model
from colorlib.colorize import Colorizer, Hint
from colorlib.colorize.video import VIDEO_SUFFIXES
from colorlib.data import sample_photos
from colorlib.photo import PHOTO_SUFFIXES
from colorlib.ui import Session
from colorlib.ui.session import SWATCHES

gr = pytest.importorskip("gradio", reason="the extra app is not installed")

from colorlib.ui import app  # noqa: E402 (it needs Gradio)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run whose colors show."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    save_model(folder / "best.safetensors", network(0), CONFIG)
    return folder


@pytest.fixture(scope="module")
def page(run):
    return app.build_app(str(run), "cpu")


def call(page, name: str, *values):
    """What the event handler `name` of the page returns; what it gives for components, by their ids or labels."""
    given = next(block.fn for block in page.fns.values() if block.name == name)(*values)
    if not isinstance(given, dict):
        return given
    named = {}
    for block, value in given.items():
        name = getattr(block, "elem_id", None) or getattr(block, "label", None) or getattr(block, "value", None)
        named[name if isinstance(name, str) else "session" if isinstance(value, Session) else block] = value
    return named


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def event(value) -> gr.SelectData:
    return gr.SelectData(None, {"index": value, "value": None})


def saved(button: gr.DownloadButton) -> Path:
    assert button.visible and button.label.startswith("Download ")
    return Path(button.value["path"] if isinstance(button.value, dict) else button.value)


def test_the_page_offers_all_samples_networks_and_formats_and_sends_nothing_elsewhere(page):
    gallery, file = (next(b for b in page.blocks.values() if isinstance(b, kind)) for kind in (gr.Gallery, gr.File))
    assert len(gallery.value) == len(sample_photos("color")) + len(sample_photos("gray"))
    assert set(file.file_types) == {*PHOTO_SUFFIXES, *VIDEO_SUFFIXES}
    networks = next(b for b in page.blocks.values() if isinstance(b, gr.Dropdown) and b.label == "Network")
    assert networks.value == "small" and {"small", "release"} <= {value for _, value in networks.choices}
    assert page.analytics_enabled is False
    assert all(isinstance(font, str) for font in app.FONTS), "names only: nothing is fetched for them"


def test_a_photo_is_opened_colored_by_all_options_and_saved(page, run):
    path, reference = map(str, sample_photos()[:2])
    opened = call(page, "open_chosen", event(0), [("", "", path)], Session(path))
    assert opened["hints"] == opened["palette"] == [] and not opened["Restore tone"] and opened["Colors of"] == "none"
    session, hint = opened["session"], [0.5, 0.5, "#ff0000"]
    options = session, "small", 2, 0.0, True, reference, [hint], []
    given = call(page, "show", 0.5, 1, None, *options)
    asked = {"render_size": 64, "hints": [Hint(*hint)], "reference": reference, "restore": True}
    expected = Colorizer.from_run(run, "cpu").colorize(path, 0.5, **asked)
    picture = given["picture"].value
    assert picture and given["picture"].alt_text == "chelsea.png, colored by the network"
    assert re.match(r"chelsea\.png, 451×300 px, in color.*: colored in \d+\.\d\d s\.", given["status"])
    assert given["palette"] == [] and given["Vividness"]["visible"] is False, "this network has none"
    with Image.open(saved(call(page, "save_photo", 0.5, *options))) as file:
        assert np.array_equal(np.asarray(file), expected) and Path(file.filename).name == "chelsea-colorized.png"


def test_the_colors_of_a_palette_are_changed_for_their_photo_alone(tmp_path):
    page, session = app.build_app("release", "cpu"), Session(str(sample_photos()[0]))
    settings = session, "release", 1, 0.4, False, "none", []
    swatches = call(page, "show", 1, 1, None, *settings, [])["palette"]
    assert len(swatches) == SWATCHES and re.fullmatch(r"[a-z]+, \d+% of the picture", swatches[0]["words"])
    before = session.ab
    swatches[0]["now"] = "#3050ff"
    assert call(page, "show", 1, 1, None, *settings, swatches)["palette"] == swatches
    assert (session.ab - before).abs().max() > 0.05
    other = Session(str(sample_photos()[1]))
    fresh = call(page, "show", 1, 1, None, other, *settings[1:], swatches)["palette"]
    assert all(swatch["now"] == swatch["was"] for swatch in fresh) and fresh[0]["was"] != swatches[0]["was"]


def test_uploads_join_the_gallery_and_broken_ones_are_named(page, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(gr, "Warning", lambda words, **_: warnings.append(words))
    paths = [tmp_path / name for name in ("<b>.jpg", "sea.png", "more/sea.png", "clip.mp4")]
    for path, content in zip(paths[1:3], (blobs(0, 41, 51), blobs(1, 31, 51)), strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(content).save(path)
    for path in (paths[0], paths[3]):
        path.write_text("no photo")
    samples = [(str(path), path.stem, str(path)) for path in (*sample_photos("color"), *sample_photos("gray"))]
    given = call(page, "take_files", list(map(str, paths)), samples)
    assert warnings == ["&lt;b&gt;.jpg: not an image file that can be read"]
    known = next(value for value in given.values() if isinstance(value, list) and len(value) == len(samples) + 2)
    assert given["session"].name == "sea.png" and [name for _, name, _ in known[:2]] == ["sea", "sea"]
    assert given["photos"].selected_index == 0 and given["Upload photos or a clip"] is None, "it is emptied"
    assert given["Save all as ZIP"].visible
    options = given["session"], "small", 1, 0.0, False, "none", [[0.5, 0.5, "#ff0000"]], []
    twice = [known[0], *known]  # the same file was uploaded once more
    with zipfile.ZipFile(saved(call(page, "save_photos", twice, 1.0, *options))) as file:
        assert file.namelist() == ["sea-colorized.png", "sea (2)-colorized.png"]
        sizes = [Image.open(io.BytesIO(file.read(name))).size for name in file.namelist()]
    assert sizes == [(51, 41), (51, 31)]


def test_a_clip_is_colored_by_the_settings_of_the_page(page, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(gr, "Warning", lambda words, **_: told.append(words))

    def colorize_video(src, dst, colorizer, **options):
        options.pop("on_frame")(1, 2)
        options.pop("on_note")("<sea>.mov: it is interlaced")
        assert options == {
            "saturation": 0.5, "vividness": 0.2, "render_size": 64, "progress": False, "restore": True
        }  # fmt: skip
        dst.write_bytes(Path(src).read_bytes())
        return dst

    monkeypatch.setattr(app, "colorize_video", colorize_video)
    (tmp_path / "sea.mov").write_bytes(b"clip")
    clip, here, gone = str(tmp_path / "sea.mov"), Mock(session_hash="here"), Mock(session_hash="gone")
    call(page, "close", gone)
    video = call(page, "save_clip", clip, 0.5, "small", 2, 0.2, True, here)
    assert video.visible and video.label == "sea.mov, colored by the network"
    assert told == ["&lt;sea&gt;.mov: it is interlaced"]
    with pytest.raises(gr.Error, match="the page was closed"):
        call(page, "save_clip", clip, 0.5, "small", 2, 0.2, True, gone)


def test_a_new_photo_is_not_drawn_before_it_is_colored(page):
    assert call(page, "draw", Session(blobs(0)), [], 1.0, 1.0, None) == gr.skip()


def test_clicks_and_sliders_become_hints(page):
    first, aim = call(page, "add_clicked", event([50, 0]), [], "#ff8000", Session(blobs(0, 41, 51)))
    assert first == [[1, 0, "#ff8000"]] and aim is None
    assert call(page, "add_hint", first, "#0000ff", 0.25, 0.5)[0] == [*first, [0.25, 0.5, "#0000ff"]]


def test_what_is_wrong_is_said_in_words(page, tmp_path):
    (tmp_path / "<b>.jpg").write_text("no photo")
    shown = Session(sample_photos()[0])
    with pytest.raises(gr.Error) as caught:
        call(page, "open_chosen", event(0), [("", "", str(tmp_path / "<b>.jpg"))], shown)
    assert caught.value.message == "&lt;b&gt;.jpg: not an image file that can be read"
    with pytest.raises(gr.Error, match="after an hour: upload it again"):
        call(page, "open_chosen", event(0), [("", "", str(tmp_path / "gone.jpg"))], shown)
    with pytest.raises(gr.Error, match="none of the photos could be saved"):
        known = [("", "", str(tmp_path / "gone.jpg")), *([("", "", "")] * 11)]
        call(page, "save_photos", known, 1.0, shown, "small", 1, 0.2)


FORGETFUL = {  # handlers, and what they get from a page that the server has forgotten
    "open_chosen": [event(0), [("", "", "")], None],
    "add_clicked": [event([5, 5]), [], "#ff8000", None],
    "show": [1.0, 1.0, None, None, "small", 1, 0.2, False, "none", [], []],
    "save_photo": [1.0, None, "small", 1, 0.2],
    "save_photos": [[("", "", "")] * 12, 1.0, None, "small", 1, 0.2],
    "save_clip": [None, 1.0, "small", 1, 0.2, False, Mock()],
}


@pytest.mark.parametrize("name", FORGETFUL)
def test_a_page_that_was_forgotten_says_so(page, name):
    with pytest.raises(gr.Error, match="forgotten this photo: reload it"):
        call(page, name, *FORGETFUL[name])


def test_hints_beyond_measure_are_refused(page):
    session, hints = Session(blobs(0)), [[0.5, 0.5, "#ff0000"]] * 101
    options = session, "small", 1, 0.2, False, "none", hints, []
    with pytest.raises(gr.Error, match="at most 100 hints, got 101: remove some"):
        call(page, "show", 1.0, 1.0, None, *options)
    call(page, "show", 1.0, 1.0, None, *options[:-2], hints[1:], [])
    with pytest.raises(gr.Error, match="at most 100 hints, got 101: remove some"):
        call(page, "draw", session, hints, 1.0, 1.0, None)


def test_a_missing_or_damaged_run_is_said(outputs, capsys):
    assert app.main(["--run", "none"]) == 1 and capsys.readouterr().err.startswith("error: no run 'none'")
    (outputs / "bad").mkdir()
    (outputs / "bad" / "best.safetensors").write_text("no weights")
    assert app.main(["--run", "bad", "--device", "cpu"]) == 1
    assert "damaged" in capsys.readouterr().err


def test_it_serves_this_machine_alone_unless_told_otherwise(monkeypatch, capsys):
    served, command = Mock(local_url="http://127.0.0.1:7860/"), ["--run", "small", "--device", "cpu"]
    monkeypatch.setattr(app, "build_app", build := Mock(return_value=served))
    assert app.main(command) == 0 and "http://127.0.0.1:7860/" in capsys.readouterr().out
    build.assert_called_once_with("small", "cpu")
    settings = {"server_name": "127.0.0.1", "share": False, "max_file_size": "50mb"}
    assert settings.items() <= served.launch.call_args.kwargs.items()
    app.main([*command, "--share", "--port", "7001", "--max-upload", "5"])
    settings = {"share": True, "server_port": 7001, "max_file_size": "5mb"}
    assert settings.items() <= served.launch.call_args.kwargs.items()
    assert served.launch.call_args.kwargs["state_session_capacity"] <= 100, "or photos fill the memory"


BAD_ARGUMENTS = {
    "--port=99999": "a whole number from 1 to 65535, got '99999'",
    "--port=0": "a whole number from 1 to 65535, got '0'",
    "--port=http": "a whole number from 1 to 65535, got 'http'",
    "--max-upload=-5": "a whole number from 1 to 1000000, got '-5'",
    "--max-upload=0.5": "a whole number from 1 to 1000000, got '0.5'",
}


@pytest.mark.parametrize("argument", BAD_ARGUMENTS)
def test_what_is_no_port_or_size_is_said(argument, capsys):
    with pytest.raises(SystemExit) as ended:
        app.main([argument])
    assert ended.value.code == 2 and BAD_ARGUMENTS[argument] in capsys.readouterr().err


@pytest.mark.parametrize("host", ["", "256.1.1.1", "192.0.2.1", "[2001:db8::1]", "x" * 70])
def test_what_is_no_address_of_this_machine_is_said(host, capsys):
    assert app.main([f"--host={host}"]) == 1
    assert "error: --host: expected an address or name of this machine" in capsys.readouterr().err


REQUESTS = [  # what --host names, the request's host and origin, whether it is answered
    ("127.0.0.1", "127.0.0.1:7860", None, True),
    ("127.0.0.1", "localhost:7860", "http://localhost:7860", True),
    ("127.0.0.1", "LOCALHOST", "http://127.0.0.1:7860", True),
    ("127.0.0.1", "[::1]:7860", "http://[::1]:7860", True),
    ("127.0.0.1", "link.gradio.live", "https://link.gradio.live", True),
    ("127.0.0.1", "evil.example:7860", None, False),
    ("127.0.0.1", "evil.example:7860", "http://evil.example:7860", False),
    ("127.0.0.1", "localhost.evil.example", None, False),
    ("127.0.0.1", "evil@evil.example", None, False),
    ("127.0.0.1", "localhost:7860", "http://evil.example", False),
    ("127.0.0.1", "[::1]:7860", "http://evil.example", False),
    ("127.0.0.1", "localhost:7860", "null", False),
    ("127.0.0.1", "[", None, False),
    ("127.0.0.1", "", None, False),
    ("::1", "[::1]:7860", None, True),
    ("localhost", "localhost:7860", None, True),
    ("localhost", "192.168.1.5:7860", None, False),
    ("0.0.0.0", "192.168.1.5:7860", "http://192.168.1.5:7860", True),
    ("0.0.0.0", "desk.home:7860", None, True),
    ("0.0.0.0", "192.168.1.5:7860", "http://evil.example", False),
]


@pytest.mark.parametrize(("named", "host", "origin", "is_answered"), REQUESTS)
def test_only_the_pages_own_hosts_are_answered(named, host, origin, is_answered, monkeypatch):
    """Or a site that binds its name to 127.0.0.1 (DNS rebinding) reads what is on the page."""
    served = Mock(local_url="", share_url="https://link.gradio.live")
    monkeypatch.setattr(app, "build_app", lambda *_: served)
    monkeypatch.setattr(app, "_check_host", lambda host: None)  # not every machine has IPv6
    app.main([f"--host={named}"])
    (middleware,) = served.launch.call_args.kwargs["app_kwargs"]["middleware"]
    sent = []

    async def serve(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message) -> None:
        sent.append(message)

    names = {"host": host} | ({"origin": origin} if origin else {})
    headers = [(name.encode(), value.encode()) for name, value in names.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    asyncio.run(middleware.cls(serve, *middleware.args, **middleware.kwargs)(scope, None, send))
    assert sent[0]["status"] == (200 if is_answered else 403)


def test_a_served_page_needs_no_proxy_and_knows_its_host(page, monkeypatch, tmp_path, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers, kept = {}, tmp_path / "gradio"
    surrounding = {
        "http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "elsewhere",
        "ALL_PROXY": "socks5://127.0.0.1:9", "GRADIO_TEMP_DIR": str(kept),
    }  # fmt: skip
    for name, value in surrounding.items():
        monkeypatch.setenv(name, value)

    def ask(host: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/config", headers={"Host": host})
        status = connection.getresponse().status
        connection.close()
        return status

    def cut_off() -> Path:
        """Begin an upload, and give the file that holds what came of it."""
        before, boundary = set(kept.glob("tmp*")), "frontier"
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        head += f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n--{boundary}\r\n"
        head += 'Content-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + bytes(2000))
            wait_until(lambda: set(kept.glob("tmp*")) - before)
        (new,) = set(kept.glob("tmp*")) - before
        wait_until(lambda: new.stat().st_size == 2000)  # all is written
        return new

    def use_page() -> None:
        answers.update({host: ask(host) for host in ("localhost", f"127.0.0.1:{port}", "evil.example")})
        old = cut_off()
        os.utime(old, (0, 0))
        answers["new"], answers["old"] = cut_off().exists(), old.exists()

    monkeypatch.setattr(app, "build_app", lambda *_: page)
    monkeypatch.setattr(page, "block_thread", use_page)
    try:
        assert app.main([f"--port={port}"]) == 0
    finally:
        page.close()
    assert answers == {
        "localhost": 200, f"127.0.0.1:{port}": 200, "evil.example": 403, "new": True, "old": False
    }  # fmt: skip
    assert surrounding.items() <= os.environ.items(), "it is as before"
    assert "Traceback" not in capfd.readouterr().err


def test_a_link_for_sharing_keeps_the_proxies(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:80")
    monkeypatch.setenv("NO_PROXY", "intranet")
    seen = []
    served = Mock(local_url="", launch=lambda **_: seen.append(app.getproxies()))
    monkeypatch.setattr(app, "build_app", lambda *_: served)
    app.main(["--share", "--host=0.0.0.0"])
    assert seen[0]["https"] == "http://proxy:80"
    assert seen[0]["no"].split(",") == ["intranet", "0.0.0.0", "127.0.0.1", "::1", "localhost"]
    assert "no_proxy" not in os.environ and "https_proxy" not in os.environ


def test_without_gradio_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "colorlib.ui.app")
    with pytest.raises(SystemExit, match=r"needs Gradio.*: pip install '\.\[app\]'"):
        runpy.run_module("colorlib.ui.app", run_name="__main__")
