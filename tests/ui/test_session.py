"""What the faces share: a photo at work, the networks that can be chosen, and what is drawn."""

import gc
import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from conftest import Constant, blobs
from PIL import Image

from colorlib.colorize import Colorizer, Hint, add_color, restore_tone
from colorlib.config import Config
from colorlib.palette import Palette
from colorlib.photo import PhotoError
from colorlib.ui import Session, draw_hints, wipe
from colorlib.ui.session import PREVIEW, WHOLE_PHOTOS, color_name, own_name, render_size, swatch_codes

CONFIG = Config(width=4, depth=4, image_size=32)


@pytest.fixture
def colorizer() -> Colorizer:
    return Colorizer(Constant(0.2, -0.3), CONFIG, precision="float32")


def test_a_photo_is_colored_shown_small_and_saved_whole(colorizer, tmp_path):
    file = io.BytesIO()
    Image.fromarray(blobs(0, 500, 900)).save(file, "JPEG")
    session = Session(file.getvalue(), "lake.jpg")
    assert session.size == (900, 500) and session.small.size == (PREVIEW, 356) and session.ab is None
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
        assert np.abs(np.asarray(picture).astype(int) - add_color(file.getvalue(), session.ab, 0.5)).mean() < 4


def test_only_the_last_photos_stay_in_memory_at_their_own_size(colorizer, tmp_path):
    sessions = []
    for number in range(WHOLE_PHOTOS + 2):
        Image.fromarray(blobs(number, 20, 700)).save(tmp_path / f"{number}.png")
        sessions.append(Session(tmp_path / f"{number}.png"))
        sessions[-1].predict(colorizer)
    for session in sessions:
        pictures = [kept for kept in vars(session).values() if hasattr(kept, "size")]
        assert max(max(np.shape(picture)) for picture in pictures) <= PREVIEW
    held = [kept for kept in gc.get_objects() if type(kept) is Image.Image and kept.size == (700, 20)]
    assert len(held) <= WHOLE_PHOTOS
    for session in sessions:  # read again
        saved = np.asarray(Image.open(session.save(tmp_path / "out")))
        assert np.array_equal(saved, colorizer.colorize(session.source))
    Image.fromarray(blobs(0, 30, 700)).save(sessions[0].source)
    with pytest.raises(PhotoError, match=r"0\.png: this file has another size .*: open it again"):
        sessions[0].save(tmp_path / "out")
    sessions[0].source.unlink()
    with pytest.raises(FileNotFoundError):
        sessions[0].save(tmp_path / "out")


def test_each_photo_has_a_result_of_its_own(tmp_path):
    taken = {}
    names = [("a.jpg", b"1"), ("a.jpg", b"2"), ("A.JPG", b"3"), ("a.jpg", b"1"), ("a (2).jpg", b"4")]
    given = [own_name(name, content, taken) for name, content in names]
    assert given == ["a.jpg", "a (2).jpg", "A (3).JPG", "a.jpg", "a (2) (2).jpg"]
    assert own_name("a.png", b"5", taken) == "a.png", "whose result is a PNG"
    assert own_name("a.jpg", "one/a.jpg", taken) == own_name("a.jpg", Path("one/a.jpg"), taken) == "a (4).jpg"
    (tmp_path / "copy.jpg").write_bytes(b"2")
    assert own_name("a.jpg", tmp_path / "copy.jpg", taken) == "a (2).jpg", "the same photo"
    assert own_name("a.gif", b"6", taken) == own_name("a.gif", b"7", taken, clip=True) == "a.gif"
    assert own_name("a.gif", b"8", taken, clip=True) == "a (2).gif"


def test_a_network_looks_at_its_own_size_or_at_a_multiple_of_32():
    own = {size: Colorizer(Constant(0.0, 0.0), Config(width=4, depth=4, image_size=size)) for size in (16, 96, 100)}
    sizes = {size: [render_size(colorizer, scale) for scale in (1, 2, 3.0, 4)] for size, colorizer in own.items()}
    assert sizes == {16: [16, 32, 64, 64], 96: [96, 192, 288, 384], 100: [100, 192, 288, 384]}


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
