"""The web page, without a browser: what its events do, its settings, and what it says when something is wrong."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import blobs
from PIL import Image

from colorlib.checkpoint import save_model
from colorlib.colorize import Colorizer, Hint
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.model import UNet
from colorlib.ui import Session

gr = pytest.importorskip("gradio", reason="the extra app is not installed")

from colorlib.ui import app  # noqa: E402 (it needs Gradio)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of a run whose colors show."""
    model, folder = UNet(4, 4), tmp_path_factory.mktemp("runs") / "small"
    model.final.bias.data = torch.tensor([0.2, -0.3])
    save_model(folder / "best.safetensors", model, Config(width=4, depth=4, image_size=32))
    return folder


@pytest.fixture(scope="module")
def page(run):
    return app.build_app(str(run), "cpu")


def call(page, name: str, *values):
    """What the event handler `name` of the page returns."""
    return next(block.fn for block in page.fns.values() if block.name == name)(*values)


def test_the_page_offers_all_samples_and_networks_and_sends_nothing_elsewhere(page):
    gallery = next(block for block in page.blocks.values() if isinstance(block, gr.Gallery))
    assert len(gallery.value) == len(sample_photos("color")) + len(sample_photos("gray"))
    networks = next(block for block in page.blocks.values() if isinstance(block, gr.Dropdown))
    assert networks.value == "small" and {"small", "release"} <= {value for _, value in networks.choices}
    assert page.analytics_enabled is False
    assert all(isinstance(font, str) for font in app.FONTS), "names only: nothing is fetched for them"


def test_a_photo_is_opened_and_colored_by_all_options(page, run):
    path, reference = map(str, sample_photos()[:2])
    session, hints = call(page, "open_file", path)
    assert hints == []
    hint = Hint(0.5, 0.5, "#ff0000")
    options = "small", 2, [hint], reference, 0.5
    pair, board, recolored, palette, words, *_ = call(page, "show", session, *options)
    colorizer = Colorizer.from_run(run, "cpu")
    expected = colorizer.colorize(path, 0.5, render_size=64, hints=[hint], reference=reference)
    for picture in (pair[1], board, recolored):
        assert np.abs(picture.astype(int) - expected).mean() < 1
    assert np.ptp(pair[0].astype(int), axis=2).max() <= 3, "gray"
    assert board[150, 225].tolist() == [255, 0, 0], "the hint is marked"
    assert palette == "" and re.match(r"chelsea\.png, 451×300 px, in color.*: colored in \d+\.\d\d s\.", words)
    assert all(value["__type__"] == "update" for value in call(page, "show", None, *options)), "no photo: no change"
    button = app.save_full_size(session, 0.5)
    assert button.visible and button.label == "Download chelsea-colorized.png"
    with Image.open(button.value["path"] if isinstance(button.value, dict) else button.value) as picture:
        assert np.array_equal(np.asarray(picture), expected) and Path(picture.filename).name == "chelsea-colorized.png"


def test_clicks_become_a_reference_and_hints(page):
    session = Session(blobs(0, 41, 51), "sea.png")
    event, path = gr.SelectData(None, {"index": 1, "value": None}), str(sample_photos()[1])
    assert call(page, "take_sample", event) == (path, None) and call(page, "take_reference", path) == path
    event.index = [50, 0]
    first = call(page, "add_hint", event, session, [], "rgba(255, 127.6, 0, 1)")
    assert first == [Hint(1, 0, (255, 127.6, 0))]
    event.index = [25, 20]
    assert call(page, "add_hint", event, session, first, "#0000ff") == [*first, Hint(0.5, 0.5, "#0000ff")]


@pytest.mark.parametrize("event", ["open_file", "take_reference"])
def test_what_is_wrong_is_said_in_words(page, event, tmp_path):
    (tmp_path / "<b>.jpg").write_text("no photo")
    with pytest.raises(gr.Error) as caught:
        call(page, event, str(tmp_path / "<b>.jpg"))
    assert caught.value.message == "&lt;b&gt;.jpg: not an image file that can be read"


def test_a_missing_or_damaged_run_is_said(outputs, capsys):
    assert app.main(["--run", "none"]) == 1 and capsys.readouterr().err.startswith("error: no run 'none'")
    (outputs / "bad").mkdir()
    (outputs / "bad" / "best.safetensors").write_text("no weights")
    assert app.main(["--run", "bad", "--device", "cpu"]) == 1
    assert "damaged" in capsys.readouterr().err


def test_it_serves_this_machine_alone_unless_told_otherwise(page, monkeypatch, capsys):
    launched, command = {}, ["--run", "small", "--device", "cpu"]
    monkeypatch.setattr(app, "build_app", lambda run, device: page if (run, device) == ("small", "cpu") else None)

    def launch(page, **settings):
        page.local_url = "http://127.0.0.1:7860/"
        launched.update(settings)

    monkeypatch.setattr(gr.Blocks, "launch", launch)
    monkeypatch.setattr(gr.Blocks, "block_thread", lambda self: None)
    assert app.main(command) == 0
    expected = {"server_name": "127.0.0.1", "share": False, "max_file_size": "50mb"}
    assert {name: launched[name] for name in expected} == expected
    assert "http://127.0.0.1:7860/" in capsys.readouterr().out
    app.main([*command, "--share", "--port", "7001", "--max-upload", "5"])
    assert launched["share"] is True and launched["server_port"] == 7001 and launched["max_file_size"] == "5mb"


def test_without_gradio_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "colorlib.ui.app")
    with pytest.raises(SystemExit, match=r"needs Gradio.*: pip install '\.\[app\]'"):
        runpy.run_module("colorlib.ui.app", run_name="__main__")
