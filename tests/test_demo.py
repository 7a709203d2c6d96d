"""The demo, driven in plain Python by setting its values; tests/test_widgets.py does it in ipywidgets 7.7.1, too."""

import io
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

from colorlib.checkpoint import save_model
from colorlib.colorize import Colorizer
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.model import UNet
from colorlib.photo import PhotoError
from colorlib.steer import Hint
from colorlib.widgets import colorize_demo

CONFIG = Config(width=4, depth=4, image_size=32)


def network(seed: int, palette: int = 0) -> UNet:
    torch.manual_seed(seed)
    model = UNet(4, 4, palette=palette)
    if not palette:
        model.final.bias.data = torch.tensor([0.2, -0.3])  # colours that show
    return model


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer(network(0), CONFIG)


@pytest.fixture
def demo(colorizer, outputs, capfd):
    """A demo of two photos; at the end, nothing may have been printed."""
    yield colorize_demo(colorizer, [sample_photos("color")[0], sample_photos("gray")[2]])  # chelsea and coins
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def shown(image: ipywidgets.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value)))


def chroma(picture: np.ndarray) -> float:
    return np.ptp(picture.astype(int), axis=2).mean()


def upload(button: ipywidgets.FileUpload, files: dict[str, bytes]) -> None:
    """What a browser's upload does to the value, in the format of the version that runs."""
    if ipywidgets.__version__.startswith("7."):
        value = {name: {"metadata": {"name": name}, "content": content} for name, content in files.items()}
        button.set_trait("value", value)
    else:
        about = {"type": "image/png", "last_modified": datetime.now(UTC)}
        pairs = files.items()
        button.value = tuple(about | {"name": n, "size": len(c), "content": memoryview(c)} for n, c in pairs)


def everything_in(widget) -> list:
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in everything_in(child))]


def failed(demo) -> bool:
    return 'role="alert"' in demo.status.value


# --- a photo is chosen ---------------------------------------------------------------------------------------------


def test_the_demo_starts_with_the_first_photo(demo):
    assert isinstance(demo, ipywidgets.VBox)
    assert "chelsea.png, 451×300 px, in colour" in demo.status.value and "coloured in 0." in demo.status.value
    assert shown(demo.result).shape == (300, 451, 3)


def test_the_gallery_offers_the_samples(colorizer, outputs):
    demo = colorize_demo(colorizer)
    assert list(demo.source.choices) == [path.name for path in [*sample_photos("color"), *sample_photos("gray")]]
    assert all(button.tooltip for button in demo.source.choices.values())
    pictures = [w.value for w in everything_in(demo) if isinstance(w, ipywidgets.HTML) and "<img" in w.value]
    assert len(pictures) == len(demo.source.choices) and all('alt="' in picture for picture in pictures)
    assert sum(map(len, pictures)) < 300_000  # thumbnails, not photos


def test_choosing_a_sample_shows_it(demo):
    before = demo.result.value
    demo.source.choices["coins.png"].click()
    assert "coins.png, 384×303 px, black-and-white" in demo.status.value and demo.result.value != before
    assert demo.truth_figure.layout.display == "none"  # there is no truth to compare with
    demo.source.choices["chelsea.png"].click()
    assert demo.truth_figure.layout.display is None
    assert demo.result.value == before


def test_the_picture_is_the_colorizers(demo, colorizer):
    path = sample_photos()[0]
    assert np.abs(shown(demo.result).astype(int) - colorizer.colorize(path)).mean() < 2  # JPEG
    assert np.abs(shown(demo.truth).astype(int) - np.asarray(Image.open(path))).mean() < 2


def test_uploads(demo):
    upload(demo.source.upload, {"mine.png": png(noise(20, 30))})
    assert "mine.png, 30×20 px" in demo.status.value and not demo.source.upload.value
    assert shown(demo.result).shape == (20, 30, 3)
    good = demo.result.value
    upload(demo.source.upload, {"broken.png": png(noise(50, 50))[:2000]})
    assert failed(demo) and "broken.png: broken image file" in demo.status.value
    upload(demo.source.upload, {"<b>.txt": b"no photo"})
    assert "&lt;b&gt;.txt: not an image" in demo.status.value  # names are text, never markup
    assert demo.result.value == good  # what was shown stays
    upload(demo.source.upload, {"mine.png": png(noise(20, 30))})  # the same file again
    assert "mine.png, 30×20 px" in demo.status.value and len(demo.source.uploads) == 1


def test_several_uploads_at_once_join_the_gallery(demo, outputs):
    assert demo.save_all.layout.display == "none"
    files = {"one.png": png(noise(20, 30)), "broken.png": b"no photo", "two.png": png(noise(40, 30))}
    upload(demo.source.upload, files)
    assert failed(demo) and "broken.png: not an image" in demo.status.value
    assert demo.work.name == "one.png" and list(demo.source.uploads) == ["one.png", "two.png"]
    demo.source.choices["two.png"].click()
    assert "two.png, 30×40 px" in demo.status.value
    assert demo.save_all.layout.display is None
    demo.saturation.value = 0.5
    demo.save_all.click()
    assert "Saved one-colorized.png, two-colorized.png" in demo.status.value
    for name, content in demo.source.uploads.items():
        saved = Image.open(outputs / "demo" / f"{Path(name).stem}-colorized.png")
        assert np.array_equal(np.asarray(saved), demo.colorizer.colorize(content, 0.5))


def test_the_path_box(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(12, 34)).save("photo in quotes.png")
    demo.source.path.value = ' "photo in quotes.png" '
    demo.source.open_path.click()
    assert "photo in quotes.png, 34×12 px" in demo.status.value
    Path("notes.jpg").write_text("no photo")
    for text, words in {
        "": "type the path",
        "missing.png": "there is no photo",
        "notes.jpg": "not an image",
        ".": "folder",
    }.items():
        demo.source.path.value = text
        demo.source.open_path.click()
        assert failed(demo) and words in demo.status.value
        assert str(tmp_path) not in demo.status.value
    demo.source.path.value = "photo in quotes.png"
    demo.source.path._handle_custom_msg({"event": "submit"}, [])  # what a front end sends for Enter
    assert "34×12 px" in demo.status.value


def test_a_demo_without_photos_waits_for_one(colorizer, outputs):
    demo = colorize_demo(colorizer, [])
    assert demo.save.disabled and demo.amount.disabled and not demo.source.upload.disabled
    demo.detail.value, demo.view.value, demo.hints.x.value = 2, "Blend", 0.2
    assert not failed(demo) and demo.work is None
    upload(demo.source.upload, {"mine.png": png(noise(20, 30))})
    assert not demo.save.disabled and "mine.png" in demo.status.value


def test_a_broken_photo_in_the_gallery_is_named(colorizer, outputs, tmp_path):
    (tmp_path / "broken.jpg").write_text("no photo")
    with pytest.raises(PhotoError, match=r"broken\.jpg: not an image"):
        colorize_demo(colorizer, [tmp_path / "broken.jpg"])


# --- its colours are looked at -------------------------------------------------------------------------------------


def test_blend_moves_between_gray_and_colour(demo):
    demo.view.value = "Blend"
    strengths = []
    for demo.amount.value in (0, 0.25, 0.5, 1):
        strengths.append(chroma(shown(demo.result)))
    assert strengths[0] < 1 and strengths == sorted(strengths) and strengths[3] > 20
    assert strengths[2] == pytest.approx(strengths[3] / 2, rel=0.1)


def test_wipe_shows_both_side_by_side(demo):
    demo.amount.value = 0.5
    picture = shown(demo.result)
    assert chroma(picture[:, 240:]) < 1 and chroma(picture[:, :210]) > 20


def test_the_saturation_slider_scales_the_colours(demo, colorizer):
    normal = chroma(shown(demo.result))
    demo.saturation.value = 0
    assert chroma(shown(demo.result)) < 1
    demo.saturation.value = 0.5
    assert chroma(shown(demo.result)) < normal
    expected = colorizer.colorize(sample_photos()[0], 0.5)
    assert np.abs(shown(demo.result).astype(int) - expected).mean() < 2


def test_the_palette_is_shown_where_there_is_one(demo, colorizer, outputs):
    assert demo.palette_figure.layout.display == "none"
    config = CONFIG.replace(palette=4)
    demo = colorize_demo(Colorizer(network(0, palette=4), config), [sample_photos()[0]])
    assert demo.palette_figure.layout.display is None and demo.palette.value.count("background:#") == 4


# --- they are steered ----------------------------------------------------------------------------------------------


def test_hints(demo, colorizer):
    before = demo.result.value
    demo.hints.x.value, demo.hints.y.value, demo.hints.color.value = 0.25, 0.5, "#00ff00"
    aimed = shown(demo.result)
    assert aimed[150, 113, 1] > 200 > aimed[150, 113, 0] and aimed[10, 110:116].max() > 240, "a dot, and a cross"
    assert demo.hints.hints == [] and demo.hints.aim == Hint(0.25, 0.5, "#00ff00")
    demo.hints.add.click()
    assert demo.hints.hints == [Hint(0.25, 0.5, "#00ff00")] and "25%, 50%" in demo.hints.given.value
    expected = colorizer.colorize(sample_photos()[0], hints=demo.hints.hints)
    assert np.abs(demo.color.astype(int) - expected).mean() < 1
    assert demo.hints.aim is None
    demo.hints.x.value = 0.75
    demo.hints.add.click()
    assert len(demo.hints.hints) == 2
    demo.hints.undo.click()
    assert [hint.x for hint in demo.hints.hints] == [0.25]
    demo.hints.clear.click()
    assert demo.hints.hints == [] and demo.result.value == before and "none yet" in demo.hints.given.value


def test_hints_are_one_photos(demo):
    demo.hints.add.click()
    demo.source.choices["coins.png"].click()
    assert demo.hints.hints == [] and not failed(demo)


def test_hints_are_not_in_the_saved_picture(demo, outputs):
    demo.hints.add.click()
    demo.save.click()
    saved = np.asarray(Image.open(outputs / "demo" / "chelsea-colorized.png"))
    assert np.array_equal(saved, demo.colorizer.colorize(sample_photos()[0], hints=demo.hints.hints))


def test_a_reference(demo, colorizer):
    before = demo.result.value
    demo.reference.choice.value = "rocket.jpg"
    rocket = next(path for path in sample_photos() if path.name == "rocket.jpg")
    expected = colorizer.colorize(sample_photos()[0], reference=rocket)
    assert np.abs(demo.color.astype(int) - expected).mean() < 1
    assert 'alt="rocket.jpg"' in demo.reference.shown.value
    content = png(noise(30, 30))
    upload(demo.reference.upload, {"mine.png": content})
    assert demo.reference.choice.value == "mine.png" and demo.reference.reference == content
    assert np.abs(demo.color.astype(int) - colorizer.colorize(sample_photos()[0], reference=content)).mean() < 1
    upload(demo.reference.upload, {"broken.png": b"no photo"})
    assert failed(demo) and "broken.png: not an image" in demo.status.value
    assert demo.reference.choice.value == "mine.png"
    demo.reference.choice.value = "none"
    assert demo.result.value == before and demo.reference.shown.value == ""


def test_a_closer_look(demo, colorizer):
    demo.detail.value = 2
    expected = colorizer.colorize(sample_photos()[0], render_size=64)
    assert np.abs(demo.color.astype(int) - expected).mean() < 1


def test_another_run_colours_the_same_photo(colorizer, outputs):
    save_model(outputs / "other" / "best.safetensors", network(1), CONFIG)
    demo = colorize_demo(colorizer, [sample_photos()[0]], run="first")
    before = demo.result.value
    assert demo.network.options[0] == "first" and {"release", "other"} <= set(demo.network.options)
    demo.network.value = "other"
    assert demo.result.value != before and "chelsea.png" in demo.status.value
    expected = Colorizer.from_run(outputs / "other", device="cpu").colorize(sample_photos()[0])
    assert np.abs(demo.color.astype(int) - expected).mean() < 1
    demo.network.value = "first"
    assert demo.result.value == before and demo.colorizer is colorizer


def test_a_damaged_run_is_said(colorizer, outputs):
    (outputs / "bad").mkdir()
    (outputs / "bad" / "best.safetensors").write_text("no weights")
    demo = colorize_demo(colorizer, [sample_photos()[0]])
    demo.network.value = "bad"
    assert failed(demo) and "damaged" in demo.status.value


# --- and saved -----------------------------------------------------------------------------------------------------


def test_big_photos_are_scaled_down_for_the_browser_and_saved_at_full_size(demo, colorizer, outputs):
    photo = noise(600, 900)
    upload(demo.source.upload, {"big.png": png(photo)})
    assert shown(demo.result).shape == (427, 640, 3) and shown(demo.truth).shape == (427, 640, 3)
    demo.saturation.value = 0.5
    demo.save.click()
    saved = outputs / "demo" / "big-colorized.png"
    assert np.array_equal(np.asarray(Image.open(saved)), colorizer.colorize(photo, 0.5))
    assert "Saved big-colorized.png" in demo.status.value and str(outputs) not in demo.status.value
    assert [path.name for path in saved.parent.iterdir()] == ["big-colorized.png"]


def test_small_results_come_with_a_download_link(demo):
    upload(demo.source.upload, {'my "photo".png': png(noise(20, 30))})
    demo.save.click()
    assert 'download="my &quot;photo&quot;-colorized.png" href="data:' in demo.status.value


def test_saving_where_it_is_not_possible_is_said(demo, outputs, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("a file where the folder should be")
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(tmp_path / "file"))
    demo.save.click()
    assert failed(demo)


# --- anywhere ------------------------------------------------------------------------------------------------------


def test_errors_of_any_kind_reach_the_reader(demo):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    demo.colorizer = Colorizer(demo.colorizer.model, CONFIG)
    demo.colorizer.predict = fail
    demo.detail.value = 2
    assert "RuntimeError: out of memory" in demo.status.value


def test_only_widgets_that_work_everywhere(demo):
    made = {type(w).__name__ for w in everything_in(demo)}
    made -= {"ColorizeDemo", "PhotoPanel", "HintPanel", "ReferencePanel", "Panel", "Status"}
    plain = {"Box", "VBox", "HTML", "Button", "Image", "FloatSlider", "FileUpload", "Text"}
    assert made == plain | {"Dropdown", "ToggleButtons", "ColorPicker"}
