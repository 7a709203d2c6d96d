"""The demo, driven in plain Python by setting its values; test_ipywidgets7.py does it in ipywidgets 7.7.1, too."""

import io
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
import torch
from conftest import blobs
from PIL import Image

from colorlib.checkpoint import save_model
from colorlib.colorize import Colorizer, Hint
from colorlib.colorize.video import VIDEO_SUFFIXES
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.model import UNet
from colorlib.photo import PHOTO_SUFFIXES
from colorlib.ui import ColorizeDemo

CONFIG = Config(width=4, depth=4, image_size=32)
CHELSEA, COINS = sample_photos("color")[0], sample_photos("gray")[2]


def network(seed: int) -> UNet:
    torch.manual_seed(seed)
    model = UNet(4, 4)
    model.final.bias.data = torch.tensor([0.2, -0.3])  # colors that show
    return model


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer(network(0), CONFIG)


@pytest.fixture
def demo(colorizer, outputs, capfd):
    """A demo of two photos; at the end, nothing may have been printed."""
    yield ColorizeDemo(colorizer, [CHELSEA, COINS])
    assert capfd.readouterr() == ("", "")


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def shown(image: ipywidgets.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value))).astype(int)


def chroma(picture: np.ndarray) -> float:
    return np.ptp(picture, axis=2).mean()


def upload(button: ipywidgets.FileUpload, files: dict[str, bytes]) -> None:
    """What a browser's upload does to the value, in the format of the version that runs."""
    about = {"type": "image/png", "size": 1, "last_modified": datetime.now(UTC)}
    value = {name: about | {"name": name, "content": memoryview(content)} for name, content in files.items()}
    button.set_trait("value", value if ipywidgets.__version__.startswith("7.") else tuple(value.values()))


def everything_in(widget) -> list:
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in everything_in(child))]


def faces(demo) -> list[ipywidgets.Button]:
    return [card.children[1] for card in demo.gallery.children]


def choose(demo, name: str) -> ipywidgets.Button:
    """Press the gallery's button for a photo."""
    button = next(button for button in faces(demo) if button.tooltip == f"Color {name}")
    button.click()
    return button


def failed(demo, words: str) -> bool:
    return 'role="alert"' in demo.status.value and words in demo.status.value


def test_the_gallery_offers_the_samples(colorizer, outputs):
    demo = ColorizeDemo(colorizer)
    assert [face.photo for face in faces(demo)] == [*sample_photos("color"), *sample_photos("gray")]
    pictures = [w.value for w in everything_in(demo) if isinstance(w, ipywidgets.HTML) and "data:image" in w.value]
    assert len(pictures) == len(faces(demo)) and sum(map(len, pictures)) < 300_000  # thumbnails, not photos
    plain = {"Box", "VBox", "HTML", "Button", "Image", "FloatSlider", "FileUpload", "Text", "Dropdown"}
    plain |= {"Checkbox", "ColorPicker", "HBox", "Video"}
    assert {type(w).__name__ for w in everything_in(demo)} == plain | {"ColorizeDemo", "Status"}, "they work everywhere"


def test_another_photo_begins_without_what_was_set_for_the_last(demo, colorizer):
    assert "chelsea.png, 451×300 px, in color" in demo.status.value and "colored in " in demo.status.value
    assert np.abs(shown(demo.result) - colorizer.colorize(CHELSEA)).mean() < 2  # JPEG
    assert np.abs(shown(demo.truth) - np.asarray(Image.open(CHELSEA))).mean() < 2
    assert demo.palette_panel.layout.display == "none", "this network has none"
    before = demo.result.value
    demo.add.click()
    demo.reference_choice.value, demo.tone.value, demo.scale.value = "rocket.jpg", True, 2
    coins = choose(demo, "coins.png")
    assert "coins.png, 384×303 px, black-and-white" in demo.status.value and demo.hints == []
    assert [button for button in faces(demo) if button.button_style and button.icon] == [coins], "the chosen one"
    assert demo.truth_figure.layout.display == "none"  # there is no truth to compare with
    assert (demo.reference_choice.value, demo.tone.value, demo.scale.value) == ("none", False, 2)
    assert np.abs(demo.color - colorizer.colorize(COINS, render_size=64).astype(int)).mean() < 1
    demo.scale.value = 1
    assert choose(demo, "chelsea.png").button_style and not coins.button_style
    assert demo.truth_figure.layout.display is None and demo.result.value == before
    demo.tone.value = True
    assert np.abs(demo.color - colorizer.colorize(CHELSEA, restore=True).astype(int)).mean() < 1
    assert np.abs(shown(demo.truth) - np.asarray(Image.open(CHELSEA))).mean() < 2, "it stays as it was"


def test_several_uploads_at_once_join_the_gallery(demo):
    files = {"one.png": png(blobs(1)), "<b>.txt": b"no photo", "two.png": png(blobs(2, 600, 900))}
    upload(demo.upload, files)
    assert failed(demo, "&lt;b&gt;.txt: not an image"), "names are text, never markup"
    assert demo.session.name == "one.png" and list(demo.uploads) == ["one.png", "two.png"]
    for name in ("../two.png", "C:\\photos\\two.png"):  # the same file again; a name leads nowhere
        upload(demo.upload, {name: files["two.png"]})
    assert "two.png, 900×600 px" in demo.status.value and len(demo.uploads) == 2
    assert shown(demo.result).shape == shown(demo.truth).shape == (427, 640, 3), "small, for the browser"
    good = demo.result.value
    upload(demo.upload, {"broken.png": files["two.png"][:2000]})
    assert failed(demo, "broken.png: broken image file") and demo.result.value == good, "what was shown stays"
    demo.uploads["two.png"].children[-1].click()  # the "×"
    assert list(demo.uploads) == ["one.png"] and demo.result.value == good
    assert len(faces(demo)) == 3


def test_two_photos_of_one_name_are_two_all_along(demo, colorizer, outputs, tmp_path):
    pictures = [blobs(1), blobs(2, 30, 50), blobs(3, 20, 50)]
    upload(demo.upload, {"a.png": png(pictures[0])})
    demo.save.click()
    upload(demo.upload, {"A.PNG": png(pictures[1])})
    demo.save.click()
    Image.fromarray(pictures[2]).save(tmp_path / "a.png")
    demo.path.value = str(tmp_path / "a.png")
    demo.open_path.click()
    demo.save.click()
    assert "Saved a (3)-colorized.png" in demo.status.value
    names = ["a-colorized.png", "A (2)-colorized.png", "a (3)-colorized.png"]
    for name, picture in zip(names, pictures, strict=True):
        saved = np.asarray(Image.open(outputs / "demo" / name))
        assert np.array_equal(saved, colorizer.colorize(picture)), name
    assert list(demo.uploads) == ["a.png", "A (2).PNG"]
    assert {"a.png", "A (2).PNG"} <= set(demo.reference_choice.options)
    assert demo.references["A (2).PNG"] == png(pictures[1])
    upload(demo.upload, {"rocket.jpg": png(pictures[0])})  # the name of a sample
    assert demo.session.name == "rocket (2).jpg" and isinstance(demo.references["rocket.jpg"], Path)


def test_uploads_that_the_server_drops_are_spoken_of_before(demo):
    """The kernel hears nothing of them, in no version of ipywidgets."""
    words = [w.value for w in everything_in(demo) if isinstance(w, ipywidgets.HTML)]
    assert sum("Nothing happens after an upload?" in text and "type its path" in text for text in words) == 1


@pytest.mark.parametrize("go_on", ["choose", "open"])
def test_the_upload_button_is_made_anew(demo, go_on):
    """One whose files the server dropped sends no others, so JupyterLab 4.6 with ipywidgets 8.1."""
    buttons = [demo.upload]
    for _ in range(2):
        choose(demo, "coins.png") if go_on == "choose" else demo.open_path.click()
        buttons.append(demo.upload)
    in_place = [w for w in everything_in(demo) if isinstance(w, ipywidgets.FileUpload)]
    assert in_place == buttons[2:] and len(set(buttons)) == 3
    assert buttons[0].comm is None, "it was closed"
    for button, name in ((buttons[1], "late.png"), (buttons[2], "next.png")):
        upload(button, {name: png(blobs(1))})
        assert demo.session.name == name


def test_all_photos_and_clips_can_be_chosen(demo):
    assert set(demo.upload.accept.split(",")) == {*PHOTO_SUFFIXES, *VIDEO_SUFFIXES}


def test_the_path_box(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(blobs(0, 12, 34)).save("photo in quotes.png")
    Path("notes.jpg").write_text("no photo")
    bad = {"": "type the path", "missing.png": "there is no photo", "notes.jpg": "notes.jpg: not an image"}
    for demo.path.value, words in bad.items():
        demo.open_path.click()
        assert failed(demo, words) and str(tmp_path) not in demo.status.value
    demo.path.value = ' "photo in quotes.png" '
    demo.path._handle_custom_msg({"event": "submit"}, [])  # what a front end sends for Enter
    assert "photo in quotes.png, 34×12 px" in demo.status.value


def test_a_demo_without_photos_waits_for_one(colorizer, outputs):
    demo = ColorizeDemo(colorizer, [])
    assert demo.columns.layout.display == "none", "nothing to steer"
    demo.scale.value, demo.left.value = 2, 0.2
    assert demo.status.value == "" and demo.session is None
    demo.show_photo(blobs(0), "mine.png")
    assert demo.columns.layout.display is None and "mine.png" in demo.status.value


def test_hints(demo, colorizer, outputs):
    before = demo.result.value
    demo.left.value, demo.top.value, demo.hint_color.value = 0.25, 0.5, "#00ff00"
    aimed = shown(demo.result)
    assert aimed[150, 113, 1] > 200 > aimed[150, 113, 0] and aimed[10, 110:116].max() > 240, "a dot, and a cross"
    assert demo.hints == [] and demo.aim == Hint(0.25, 0.5, "#00ff00")
    demo.add.click()
    assert demo.hints == [Hint(0.25, 0.5, "#00ff00")] and demo.aim is None
    demo.save.click()
    saved = np.asarray(Image.open(outputs / "demo" / "chelsea-colorized.png"))
    assert np.array_equal(saved, colorizer.colorize(CHELSEA, hints=demo.hints)), "without the dots"
    demo.left.value, demo.hint_color.value = 0.75, "reddd"
    demo.add.click()
    assert len(demo.hints) == 1 and "got &#x27;reddd&#x27;" in demo.hint_status.value, "said beside the hints"
    demo.hint_color.value = "3060c0"
    assert demo.hint_status.value == "" and demo.hint_picker.value == "#3060c0"
    demo.hint_picker.value = "#ff0000"
    demo.add.click()
    assert [chip.description for chip in demo.given.children] == ["25%, 50%", "75%, 50%"]
    demo.given.children[0].click()
    assert demo.hints == [Hint(0.75, 0.5, "#ff0000")]
    demo.given.children[0].click()
    assert demo.hints == [] and demo.result.value == before and demo.given.children == ()


def test_clips_are_colored_as_files_and_shown(demo, outputs, tmp_path, monkeypatch):
    asked, said = [], []

    def colorize_video(src, dst, colorizer, *, on_frame, on_note, **options):  # the real one has tests of its own
        on_note("film.mov: it is interlaced")
        asked.append((src.read_bytes(), colorizer, options))
        on_frame(1, 2)
        said.append(demo.status.value)
        dst.parent.mkdir(exist_ok=True)
        dst.write_bytes(b"colored")
        return dst

    monkeypatch.setattr("colorlib.ui.demo.colorize_video", colorize_video)
    demo.saturation.value, demo.scale.value = 0.5, 2
    upload(demo.upload, {"film.mov": b"film", "one.png": png(blobs(1))})
    options = {"saturation": 0.5, "vividness": demo.vividness.value, "render_size": 64, "progress": False}
    options["restore"] = False
    assert asked == [(b"film", demo.networks["the one given"], options)] and "film.mov: frame 1 of 2" in said[0]
    assert demo.session.name == "one.png" and list(demo.uploads) == ["one.png"]
    assert "Saved film.mov-colorized.mp4" in demo.status.value and "<a download" in demo.status.value
    assert "film.mov: it is interlaced." in demo.status.value
    assert demo.clip.value == b"colored" and demo.clip.layout.display is None
    choose(demo, "coins.png")
    assert demo.clip.layout.display == "none"
    upload(demo.upload, {"film.mov": b"film", "bad.jpg": b"no photo"})
    assert failed(demo, "bad.jpg: not an image") and "film.mov-colorized.mp4" in demo.status.value, "it was saved"
    monkeypatch.setattr("colorlib.ui.demo.CLIP_BYTES", 3)
    demo.path.value = str(tmp_path / "film.mov")
    Path(demo.path.value).write_bytes(b"film")
    demo.open_path.click()
    assert "Saved film.mov-colorized.mp4" in demo.status.value and demo.clip.layout.display == "none", "it is too large"
    Path(demo.path.value).write_bytes(b"another film")
    demo.open_path.click()
    assert "Saved film (2).mov-colorized.mp4" in demo.status.value, "the first one's result stays"


def test_a_reference_and_a_closer_look(demo, colorizer):
    before, files = demo.result.value, {"mine.png": png(blobs(3))}
    rocket = next(path for path in sample_photos() if path.name == "rocket.jpg")
    demo.reference_choice.value = "rocket.jpg"
    assert np.abs(demo.color - colorizer.colorize(CHELSEA, reference=rocket).astype(int)).mean() < 1
    upload(demo.upload, files)
    choose(demo, "chelsea.png")
    demo.reference_choice.value, demo.scale.value = "mine.png", 2
    expected = colorizer.colorize(CHELSEA, reference=files["mine.png"], render_size=64)
    assert np.abs(demo.color - expected.astype(int)).mean() < 1
    demo.reference_choice.value, demo.scale.value = "none", 1
    assert demo.result.value == before


def test_other_runs_color_the_same_photo(colorizer, outputs):
    save_model(outputs / "other" / "best.safetensors", network(1), CONFIG)
    save_model(outputs / "painter" / "best.safetensors", UNet(4, 4, palette=4), CONFIG.replace(palette=4))
    demo = ColorizeDemo(colorizer, [CHELSEA], run="first")
    before = demo.result.value
    demo.network.value = "other"
    expected = Colorizer.from_run(outputs / "other", device="cpu").colorize(CHELSEA)
    assert np.abs(demo.color - expected.astype(int)).mean() < 1
    demo.network.value = "painter"
    assert demo.palette_panel.layout.display is None and len(demo.pickers) == 4
    demo.vividness.value = 0.9
    painter = Colorizer.from_run(outputs / "painter", device="cpu")
    assert np.abs(demo.color - painter.colorize(CHELSEA, vividness=0.9).astype(int)).mean() < 1
    before_change, (code, picker) = demo.result.value, demo.pickers[0]
    picker.value = "#ff0000"
    expected = painter.colorize(CHELSEA, vividness=0.9, recolor=[(code, "#ff0000")])
    assert np.abs(demo.color - expected.astype(int)).mean() < 1 and demo.result.value != before_change
    assert demo.pickers[0][1] is picker, "the picker that was opened stays"
    demo.reset.click()
    assert demo.result.value == before_change and picker.value == code
    picker.value = "#ff0000"  # it is of no use to another network
    demo.network.value = "first"
    assert demo.result.value == before
