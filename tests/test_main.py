"""`python -m colorlib`: the command line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs
from PIL import Image

import colorlib
from colorlib import __main__ as command
from colorlib.checkpoint import BEST, save_model
from colorlib.colorize import Colorizer
from colorlib.config import Config
from colorlib.model import UNet
from colorlib.steer import Hint

CONFIG = Config(width=4, depth=4, image_size=16)


@pytest.fixture
def photo(outputs, tmp_path):
    """A photo; the release is a tiny network."""
    save_model(outputs / "release" / BEST, UNet(4, 4), CONFIG)
    Image.fromarray(blobs(0)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_photo(photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main([str(photo), "-o", str(out)]) == 0
    expected = Colorizer.from_run().colorize(photo)
    assert np.array_equal(np.asarray(Image.open(out / "a-colorized.png")), expected)
    assert "1 coloured, 0 there already, 0 failed" in capsys.readouterr().out
    assert command.main([str(photo), "-o", str(out), "--saturation", "0"]) == 0
    assert "0 coloured, 1 there already" in capsys.readouterr().out
    assert command.main([str(photo), "-o", str(out), "--saturation", "0", "--overwrite"]) == 0
    assert np.ptp(np.asarray(Image.open(out / "a-colorized.png")).astype(int), axis=2).max() <= 1


def test_options(photo, outputs, tmp_path):
    save_model(outputs / "other" / BEST, UNet(4, 4), CONFIG)
    Image.new("RGB", (9, 9), (60, 70, 150)).save(tmp_path / "blue.png")
    options = ["--run", "other", "--render-size", "32", "--reference", str(tmp_path / "blue.png")]
    options += ["--hint", "0.5", "0.3", "#c03030", "--hint", "1", "1", "#808080"]
    assert command.main([str(photo), "--out", str(tmp_path / "out"), *options]) == 0
    hints = [Hint(0.5, 0.3, "#c03030"), Hint(1, 1, "#808080")]
    expected = Colorizer.from_run("other").colorize(photo, render_size=32, reference=tmp_path / "blue.png", hints=hints)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a-colorized.png")), expected)


def test_failures_are_listed_and_change_the_exit_status(photo, tmp_path, capsys):
    (tmp_path / "b.jpg").write_text("no photo")
    assert command.main([str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert "1 coloured, 0 there already, 1 failed" in out and "contact sheet: " in out
    assert f"failed:\n  {tmp_path / 'b.jpg'}: b.jpg: not an image file that can be read" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "there is no photo or folder 'nowhere'"),
        (["PHOTO", "--run", "none"], "no run 'none'"),
        (["PHOTO", "--saturation", "-1"], "saturation must be 0"),
        (["PHOTO", "--render-size", "5"], "render_size must be a whole number, 16 to 1024"),
        (["PHOTO", "--hint", "0.5", "2", "#c03030"], "a hint's x and y are shares"),
        (["PHOTO", "--hint", "left", "0", "#c03030"], "could not convert string to float: 'left'"),
        (["PHOTO", "--reference", "nowhere.jpg"], "there is no photo 'nowhere.jpg'"),
        (["EMPTY"], "no photo in"),
    ],
)
def test_what_cannot_begin_says_why(photo, tmp_path, capsys, arguments, words):
    (tmp_path / "empty").mkdir()
    names = {"PHOTO": str(photo), "EMPTY": str(tmp_path / "empty")}
    assert command.main([*(names.get(word, word) for word in arguments), "-o", str(tmp_path / "out")]) == 2
    assert f"error: {words}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_to_go_on(photo, tmp_path, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "colorize_folder", interrupt)
    assert command.main([str(photo), "-o", str(tmp_path / "out")]) == 130
    assert "the same command goes on where it stopped" in capsys.readouterr().err


def test_as_a_program(photo, outputs, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(colorlib.__file__).parents[1])}
    line = [sys.executable, "-m", "colorlib", "a.png", "missing.png", "-o", "out"]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and run.stderr == "error: there is no photo or folder 'missing.png': check the path\n"
