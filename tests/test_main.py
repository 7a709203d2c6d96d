"""`python -m colorlib`: the command line."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import blobs
from PIL import Image

import colorlib
from colorlib import __main__ as command
from colorlib import train
from colorlib.checkpoint import BEST, save_model
from colorlib.colorize import Colorizer, Hint
from colorlib.config import Config
from colorlib.model import UNet
from colorlib.system import replacing


@pytest.fixture
def photo(outputs, tmp_path):
    """A photo; the release and another run are tiny networks."""
    for run in ("release", "other"):
        save_model(outputs / run / BEST, UNet(4, 4), Config(width=4, depth=4, image_size=16))
    Image.fromarray(blobs(0)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_photo_twice_and_anew(photo, tmp_path, capsys):
    line, result = [str(photo), "-o", str(tmp_path / "out")], tmp_path / "out" / "a-colorized.png"
    assert command.main(line) == 0
    assert np.array_equal(np.asarray(Image.open(result)), Colorizer.from_run().colorize(photo))
    words = f"1 colored, 0 there already, 0 failed; the results are in {tmp_path / 'out'}\ncontact sheet: "
    assert words in capsys.readouterr().out
    assert command.main(line) == 0 and "0 colored, 1 there already" in capsys.readouterr().out
    assert command.main([*line, "--saturation", "0", "--overwrite"]) == 0
    assert np.ptp(np.asarray(Image.open(result)).astype(int), axis=2).max() <= 1


def test_options(photo, tmp_path):
    Image.new("RGB", (9, 9), (60, 70, 150)).save(tmp_path / "blue.png")
    options = ["--run", "other", "--render-size", "32", "--reference", str(tmp_path / "blue.png")]
    options += ["--hint", "0.5", "0.3", "#c03030", "--hint", "1", "1", "#808080"]
    assert command.main([str(photo), "--out", str(tmp_path / "out"), *options]) == 0
    hints = [Hint(0.5, 0.3, "#c03030"), Hint(1, 1, "#808080")]
    expected = Colorizer.from_run("other").colorize(photo, render_size=32, reference=tmp_path / "blue.png", hints=hints)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a-colorized.png")), expected)


def test_failures_are_listed_and_change_the_exit_status(photo, tmp_path, capsys):
    (tmp_path / "b.jpg").write_text("no photo")
    (tmp_path / "notes.\udcff").touch()  # a name of one byte that is no UTF-8
    assert command.main([str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert f"failed: {tmp_path / 'b.jpg'}: b.jpg: not an image file that can be read" in said.err
    assert r"left out, as no photos or clips: 1 .\udcff" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [("nowhere", "there is no photo or folder 'nowhere'"), ("a.png --run none", "no run 'none'"),
     ("a.png --saturation -1", "saturation must be 0"), ("a.png --hint left 0 #c03030", "could not convert string"),
     ("a.png --reference nowhere.jpg", "there is no photo 'nowhere.jpg'")],
)  # fmt: skip
def test_why_it_cannot_begin_is_said(photo, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert command.main([*arguments.split(), "-o", "out"]) == 2
    assert f"error: {words}" in capsys.readouterr().err and not Path("out").exists()


def test_ctrl_c_says_how_to_go_on(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("colorlib.colorize.colorize_folder", Mock(side_effect=KeyboardInterrupt))
    assert command.main([str(photo), "-o", str(tmp_path / "out")]) == 130
    assert "the same command goes on where it stopped" in capsys.readouterr().err


def test_without_a_folder_for_the_results_and_with_results_among_the_photos(photo, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(["?.png"]) == 0 and (tmp_path / "colorized" / "a-colorized.png").is_file()
    assert "expanded" not in capsys.readouterr().err
    assert command.main(["."]) == 0
    assert "1 there already" in (said := capsys.readouterr().out)
    assert "left out, as results of earlier calls: 2\n" in said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to stop")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    ("main", "where"), [(command.main, "colorlib.colorize.colorize_folder"), (train.main, "colorlib.train.fit")]
)
def test_a_request_to_end_is_as_ctrl_c(photo, tmp_path, monkeypatch, main, where, name):
    """Both programs leave nothing half written."""

    def interrupted(*_, **__):
        with replacing(tmp_path / "half.png") as temporary:
            temporary.touch()
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(10)

    monkeypatch.setattr(where, interrupted)
    if (child := os.fork()) == 0:
        status = 1
        try:
            signal.signal(getattr(signal, name), signal.SIG_DFL)  # in case that another test has begun a program
            status = main([str(photo)] if main == command.main else ["--run", "one"])
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.slow
def test_as_a_program(photo, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(colorlib.__file__).parents[1])}
    line = [sys.executable, "-m", "colorlib", "a.png", "missing.png", "-o", "out"]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 2 and run.stderr == "error: there is no photo or folder 'missing.png': check the path\n"
