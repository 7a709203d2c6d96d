"""What the faces share: a photo at work, the networks that can be chosen, and what is drawn."""

import io

import numpy as np
import pytest
import tifffile
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.colorize import Colorizer, Hint, add_color, restore_tone
from colorlib.config import Config
from colorlib.palette import Palette
from colorlib.ui import Session, draw_hints, wipe
from colorlib.ui.session import PREVIEW, color_name, swatch_codes

CONFIG = Config(width=4, depth=4, image_size=32)


@pytest.fixture
def colorizer() -> Colorizer:
    return Colorizer(Constant(0.2, -0.3), CONFIG, precision="float32")


def test_a_photo_is_colored_shown_small_and_saved_whole(colorizer, tmp_path):
    file = io.BytesIO()
    Image.fromarray(blobs(0, 500, 900)).save(file, "JPEG")
    session = Session(file.getvalue(), "lake.jpg")
    assert session.image.size == (900, 500) and session.small.size == (PREVIEW, 356) and session.ab is None
    session.predict(colorizer)
    assert session.seconds > 0 and session.ab.shape == (1, 2, 32, 32) and session.swatches == []
    assert np.array_equal(session.preview(0.5), add_color(session.small, session.ab, 0.5))
    assert np.ptp(session.preview(0).astype(int), axis=2).max() <= 3
    before = session.ab
    session.predict(colorizer)
    assert session.ab is before, "nothing is new"  # test_demo.py has what is
    saved = session.save(tmp_path / "new", saturation=0.5)
    assert saved == tmp_path / "new" / "lake-colorized.jpg"
    with Image.open(saved) as picture:
        assert picture.format == "JPEG" and picture.size == (900, 500)
        assert np.abs(np.asarray(picture).astype(int) - add_color(session.image, session.ab, 0.5)).mean() < 4


def test_a_toned_print_is_no_photo_in_color_and_can_be_restored(colorizer, tmp_path):
    sepia = (blobs(0)[..., :1] / 255 * 120 + [90, 60, 20]).astype(np.uint8)
    session = Session(sepia, "print.png")
    assert session.toned and not session.in_color and "toned in one color, of which the network" in str(session)
    assert Session(blobs(0)).in_color and "black-and-white" in str(Session(sepia[..., 0]))
    session.predict(colorizer)
    for on, source in ((True, restore_tone(sepia)), (False, sepia)):
        session.predict(colorizer, restore=on)
        expected = add_color(source, colorizer.predict(source))
        assert np.array_equal(session.preview(), expected)
        assert np.array_equal(np.asarray(Image.open(session.save(tmp_path))), expected)
    Image.fromarray(sepia[..., 0].astype(np.uint16) * 200).save(tmp_path / "scan.tif")
    (scan := Session(tmp_path / "scan.tif")).predict(colorizer, restore=True)
    assert scan.preview().dtype == np.uint8 and tifffile.imread(scan.save(tmp_path / "out")).max() == 65535


def test_wipe():
    before, after = np.zeros((4, 10, 3), np.uint8), np.full((4, 10, 3), 200, np.uint8)
    assert np.array_equal(wipe(before, after, 0), before) and np.array_equal(wipe(before, after, 1), after)
    half = wipe(before, after, 0.5)
    assert (half[:, :4] == 200).all() and (half[:, 4:6] == 255).all() and not half[:, 6:].any()
    assert not before.any(), "it stays as it was"


def test_hints_are_drawn_where_they_are():
    picture = np.full((101, 201, 3), 128, dtype=np.uint8)
    drawn = draw_hints(picture, [Hint(0.25, 0.5, "#ff0000"), Hint(1, 1, (0, 255.0, 0))])
    assert drawn[50, 50].tolist() == [255, 0, 0] and drawn[100, 200].tolist() == [0, 255, 0]
    assert (drawn != picture).any(axis=2).mean() < 0.05 and (picture == 128).all()
    aimed = draw_hints(picture, [], Hint(0.25, 0.5, "#0000ff"))
    assert aimed[50, 50].tolist() == [0, 0, 255] and aimed[0, 50].tolist() == aimed[50, 200].tolist() == [255] * 3
    assert np.array_equal(draw_hints(picture, []), picture)


def test_swatches_show_the_most_used_colors():
    colors = torch.tensor([[[0.5, 0.3], [-0.3, 0.1], [0.0, 0.0]]])
    weights = torch.tensor([0.6, 0.3, 0.1]).log().view(1, 3, 1, 1).expand(1, 3, 2, 2)
    palette = Palette(colors, weights, torch.full((1, 3), 0.1))
    codes, shares = zip(*swatch_codes(palette), strict=True)
    assert shares == pytest.approx([0.6, 0.3, 0.1]) and len(set(codes)) == 3
    assert codes[2] == "#9e9e9e", "ab of 0 is a gray"
    assert swatch_codes(None) == []


def test_colors_have_names():
    colors = {"#9e9e9e": "gray", "#cd915c": "brown", "#8ea75c": "olive", "#5f9fd0": "blue", "#ff3030": "red"}
    assert {code: color_name(code) for code in colors} == colors
