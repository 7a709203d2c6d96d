"""What the faces share: a photo at work, the runs that can be chosen, and what is drawn."""

import io
import re

import numpy as np
import pytest
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.checkpoint import save_model
from colorlib.colorize import Colorizer, add_color
from colorlib.config import Config
from colorlib.model import UNet
from colorlib.palette import Palette
from colorlib.photo import PhotoError
from colorlib.steer import Hint
from colorlib.studio import PREVIEW, Work, blend, describe_hints, draw_hints, find_runs, shrink, swatches, wipe

CONFIG = Config(width=4, depth=4, image_size=32)


@pytest.fixture
def colorizer() -> Colorizer:
    return Colorizer(Constant(0.2, -0.3), CONFIG, precision="float32")


def jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    return file.getvalue()


def test_a_photo_is_guessed_shown_small_and_saved_whole(colorizer, tmp_path):
    work = Work(jpeg(blobs(0, 500, 900)), "lake.jpg")
    assert work.image.size == (900, 500) and work.small.size == (PREVIEW, 356) and work.ab is None
    work.guess(colorizer)
    assert work.seconds > 0 and work.ab.shape[:2] == (1, 2)
    assert np.array_equal(work.preview(0.5), add_color(work.small, work.ab, 0.5))
    saved = work.save(tmp_path / "new", saturation=0.5)
    assert saved == tmp_path / "new" / "lake-colorized.jpg"
    with Image.open(saved) as picture:
        assert picture.format == "JPEG" and picture.size == (900, 500)
        assert np.abs(np.asarray(picture).astype(int) - add_color(work.image, work.ab, 0.5)).mean() < 4


def test_wishes_reach_the_network(colorizer, monkeypatch):
    asked = {}
    monkeypatch.setattr(colorizer, "predict", lambda photo, **wishes: asked.update(wishes))
    Work(blobs(0)).guess(colorizer, render_size=64, hints=[Hint(0, 0, "#ff0000")], reference=None)
    assert asked == {"render_size": 64, "hints": [Hint(0, 0, "#ff0000")], "reference": None}


def test_a_photo_with_and_without_colours():
    assert Work(blobs(0)).colorful and "in colour" in str(Work(blobs(0), "sea.png"))
    gray = Work(np.full((20, 30, 3), 77, dtype=np.uint8), "sea.png")
    assert not gray.colorful and str(gray) == "sea.png, 30×20 px, black-and-white"


def test_a_broken_photo_is_called_by_its_name(tmp_path):
    with pytest.raises(PhotoError, match=r"^mine\.jpg: not an image file"):
        Work(b"no photo", "mine.jpg")
    (tmp_path / "there.jpg").write_text("no photo")
    with pytest.raises(PhotoError, match=r"^there\.jpg: not an image file"):
        Work(tmp_path / "there.jpg")


def test_runs_are_found_where_find_run_finds_them(tmp_path, monkeypatch, outputs):
    kaggle = tmp_path / "input"
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(kaggle))
    for folder in (outputs / "mine", outputs / "release", kaggle / "notebook" / "outputs" / "theirs"):
        save_model(folder / "best.safetensors", UNet(4, 4), CONFIG)
    (outputs / "demo").mkdir()
    runs = find_runs()
    assert next(iter(runs)) == "release" and runs["release"] == outputs / "release"
    assert {"mine", "theirs"} <= set(runs) and "demo" not in runs
    assert runs["theirs"] == kaggle / "notebook" / "outputs" / "theirs"


def test_shrink_keeps_the_aspect_and_never_enlarges():
    photo = Image.fromarray(blobs(0, 40, 80))
    assert shrink(photo, 20).size == (20, 10) and shrink(photo, 100).size == (80, 40) and photo.size == (80, 40)


def test_wipe_and_blend():
    before, after = np.zeros((4, 10, 3), np.uint8), np.full((4, 10, 3), 200, np.uint8)
    for mix in (wipe, blend):
        assert np.array_equal(mix(before, after, 0), before) and np.array_equal(mix(before, after, 1), after)
    half = wipe(before, after, 0.5)
    assert (half[:, :4] == 200).all() and (half[:, 4:6] == 255).all() and not half[:, 6:].any()
    assert not before.any(), "it stays as it was"
    assert (blend(before, after, 0.25) == 50).all()


def test_hints_are_drawn_where_they_are():
    picture = np.full((101, 201, 3), 128, dtype=np.uint8)
    drawn = draw_hints(picture, [Hint(0.25, 0.5, "#ff0000"), Hint(1, 1, (0, 255.0, 0))])
    assert drawn[50, 50].tolist() == [255, 0, 0] and drawn[100, 200].tolist() == [0, 255, 0]
    assert (drawn != picture).any(axis=2).mean() < 0.05 and (picture == 128).all()
    aimed = draw_hints(picture, [], Hint(0.25, 0.5, "#0000ff"))
    assert aimed[50, 50].tolist() == [0, 0, 255] and aimed[0, 50].tolist() == aimed[50, 200].tolist() == [255] * 3
    assert np.array_equal(draw_hints(picture, []), picture)


def test_swatches_show_the_most_used_colours():
    colors, shares = torch.tensor([[[0.5, 0.3], [-0.3, 0.1], [0.0, 0.0]]]), torch.tensor([[0.6, 0.3, 0.1]])
    code = swatches(Palette(colors, shares), most=2)
    assert re.findall(r">(\d+%)<", code) == ["60%", "30%"]
    assert len(set(re.findall(r"background:(#[0-9a-f]{6})", code))) == 2
    assert "#9e9e9e, 10.0% of the picture" in swatches(Palette(colors, shares)), "ab of 0 is a gray"
    assert swatches(None) == ""


def test_hints_are_listed():
    assert "none yet" in describe_hints([])
    text = describe_hints([Hint(0.3, 0.5, "#123456"), Hint(1, 0, "#fedcba")])
    assert "30%, 50%" in text and "100%, 0%" in text and "background:#123456" in text
