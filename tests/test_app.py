"""The web page, without a browser: what its events do, its settings, and what it says when something is wrong."""

import importlib
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.checkpoint import CheckpointError, save_model
from colorlib.colorize import Colorizer, add_color
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.model import UNet
from colorlib.steer import Hint
from colorlib.studio import Work

gr = pytest.importorskip("gradio", reason="the extra app is not installed")

from colorlib import app  # noqa: E402 (it needs Gradio)

CONFIG = Config(width=4, depth=4, image_size=32)


@pytest.fixture
def run(outputs) -> str:
    """The name of a run whose colours show."""
    torch.manual_seed(0)
    model = UNet(4, 4)
    model.final.bias.data = torch.tensor([0.2, -0.3])
    save_model(outputs / "small" / "best.safetensors", model, CONFIG)
    return "small"


@pytest.fixture
def page(run):
    return app.build_app(run, "cpu")


def call(page, name: str, *values):
    """What the event handler `name` of the page returns."""
    return next(block.fn for block in page.fns.values() if block.name == name)(*values)


WISHES = ([], 1.0, 1, "small", None)  # hints, saturation, render size, network, reference


def test_the_page_has_what_it_promises(page, run):
    kinds = [type(block).__name__ for block in page.blocks.values()]
    for kind in ("File", "Gallery", "ImageSlider", "ColorPicker", "DownloadButton", "HTML"):
        assert kind in kinds
    gallery = next(block for block in page.blocks.values() if isinstance(block, gr.Gallery))
    assert len(gallery.value) == len(sample_photos("color")) + len(sample_photos("gray"))
    networks = next(block for block in page.blocks.values() if isinstance(block, gr.Dropdown))
    assert networks.value == run and {run, "release"} <= {value for _, value in networks.choices}


def test_no_word_goes_out_and_nothing_comes_from_elsewhere(page):
    assert page.analytics_enabled is False
    assert all(isinstance(font, str) for font in app.FONTS), "names only: nothing is fetched for them"


def test_a_photo_is_opened_and_coloured(page, run):
    path = str(sample_photos()[0])
    work, hints = call(page, "open_file", path)
    pair, board, recolored, palette, words, *_ = call(page, "show", work, *WISHES)
    expected = Colorizer.from_run(run, "cpu").colorize(path)
    assert hints == [] and palette == ""
    for picture in (pair[1], board, recolored):
        assert np.abs(picture.astype(int) - expected).mean() < 1
    assert np.ptp(pair[0].astype(int), axis=2).max() <= 3, "gray"
    assert re.match(r"chelsea\.png, 451×300 px, in colour.*: coloured in \d+\.\d\d s\.", words)


def test_a_new_wish_runs_the_network_and_saturation_does_not(run, monkeypatch):
    networks, work, asked = app.Networks(run, "cpu"), Work(blobs(0), "sea.png"), []
    predict = Colorizer.predict
    monkeypatch.setattr(Colorizer, "predict", lambda *a, **wishes: asked.append(wishes) or predict(*a, **wishes))
    strong = networks.show(work, [], 1.0, 1, run, None)[0][1]
    gray = networks.show(work, [], 0.0, 1, run, None)[0][1]
    assert len(asked) == 1 and asked[0] == {"render_size": None, "hints": [], "reference": None}
    assert np.array_equal(strong, add_color(work.small, work.ab)) and np.ptp(gray.astype(int), axis=2).max() <= 3
    hint = Hint(0.5, 0.5, "#ff0000")
    board = networks.show(work, [hint], 1.0, 2, run, str(sample_photos()[1]))[1]
    assert asked[1] == {"render_size": 64, "hints": [hint], "reference": str(sample_photos()[1])}
    assert board[20, 24].tolist() == [255, 0, 0], "the hint is marked"


def test_a_click_becomes_a_hint(page):
    work = Work(blobs(0, 41, 51), "sea.png")
    event = gr.SelectData(None, {"index": [50, 0], "value": None})
    first = call(page, "add_hint", event, work, [], "rgba(255, 127.6, 0, 1)")
    assert first == [Hint(1, 0, "#ff8000")]
    event.index = [25, 20]
    assert call(page, "add_hint", event, work, first, "#0000ff") == [*first, Hint(0.5, 0.5, "#0000ff")]


def test_the_file_has_the_photos_size_and_format(tmp_path):
    path = tmp_path / "big.jpg"
    Image.fromarray(blobs(0, 800, 1000)).save(path)
    work = Work(path)
    work.guess(Colorizer(Constant(0.2, -0.3), CONFIG))
    button = app.save_full_size(work, 0.5)
    assert button.visible and button.label == "Download big-colorized.jpg"
    kept = Path(button.value["path"] if isinstance(button.value, dict) else button.value)
    assert kept.name == "big-colorized.jpg"
    with Image.open(kept) as picture:
        assert picture.size == (1000, 800) and picture.format == "JPEG"


def test_what_is_wrong_is_said_in_words(page, tmp_path):
    broken = tmp_path / "<b>.jpg"
    broken.write_text("no photo")
    with pytest.raises(gr.Error, match="not an image file") as caught:
        call(page, "open_file", str(broken))
    assert caught.value.message == "&lt;b&gt;.jpg: not an image file that can be read"


def test_a_reference_is_read_before_it_is_taken(page, tmp_path):
    path = str(sample_photos()[1])
    assert call(page, "take_reference", path) == path
    (tmp_path / "broken.jpg").write_text("no photo")
    with pytest.raises(gr.Error, match=r"broken\.jpg: not an image file"):
        call(page, "take_reference", str(tmp_path / "broken.jpg"))
    assert call(page, "take_sample", gr.SelectData(None, {"index": 1, "value": None})) == (path, None)


def test_before_a_photo_is_chosen_controls_do_nothing(page):
    assert all(value["__type__"] == "update" for value in call(page, "show", None, *WISHES))


def test_a_missing_or_damaged_run_is_said(outputs, capsys):
    with pytest.raises(FileNotFoundError, match="no run 'none'"):
        app.build_app("none")
    assert app.main(["--run", "none"]) == 1
    assert capsys.readouterr().err.startswith("error: no run 'none'")
    (outputs / "bad").mkdir()
    (outputs / "bad" / "best.safetensors").write_text("no weights")
    with pytest.raises(CheckpointError, match="damaged"):
        app.build_app("bad", "cpu")


def test_it_serves_this_machine_alone_unless_told_otherwise(run, monkeypatch, capsys):
    launched = {}

    def launch(page, **settings):
        page.local_url = "http://127.0.0.1:7860/"
        launched.update(settings)

    monkeypatch.setattr(gr.Blocks, "launch", launch)
    monkeypatch.setattr(gr.Blocks, "block_thread", lambda self: None)
    assert app.main(["--run", run, "--device", "cpu"]) == 0
    assert launched["server_name"] == "127.0.0.1" and launched["share"] is False
    assert launched["max_file_size"] == "50mb"
    assert "http://127.0.0.1:7860/" in capsys.readouterr().out
    app.main(["--run", run, "--device", "cpu", "--share", "--port", "7001", "--max-upload", "5"])
    assert launched["share"] is True and launched["server_port"] == 7001 and launched["max_file_size"] == "5mb"


def test_without_gradio_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "colorlib.app")
    with pytest.raises(SystemExit, match=r"needs Gradio.*: pip install '\.\[app\]'"):
        runpy.run_module("colorlib.app", run_name="__main__")
    with pytest.raises(ModuleNotFoundError, match=r"needs Gradio.*: pip install '\.\[app\]'"):
        importlib.import_module("colorlib.app")
