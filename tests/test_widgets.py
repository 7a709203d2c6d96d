"""The widgets, driven in plain Python by setting their values; all of it again in a kernel with ipywidgets 7.7.1."""

import io
import os
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

from colorlib.colorize import Colorizer
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.model import UNet
from colorlib.photo import PhotoError
from colorlib.widgets import colorize_demo, lab_explorer, uploaded_files

ROOT = Path(__file__).resolve().parent.parent
OVERLAY = ROOT / ".venv" / "overlay-ipywidgets7"
MAKE_OVERLAY = "pip install --target .venv/overlay-ipywidgets7 --no-deps ipywidgets==7.7.1 ipython-genutils==0.2.0"


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    torch.manual_seed(0)
    model = UNet(4, 4)
    model.final.bias.data = torch.tensor([0.2, -0.3])  # colours that show
    return Colorizer(model, Config(width=4, depth=4, image_size=32))


@pytest.fixture
def demo(colorizer, capfd):
    """A demo of two photos; at the end, nothing may have been printed."""
    yield colorize_demo(colorizer, [sample_photos("color")[0], sample_photos("gray")[2]])  # chelsea and coins
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def shown(image: ipywidgets.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value)))


def chroma(picture: np.ndarray) -> float:
    return np.ptp(picture.astype(int), axis=2).mean()


def upload(demo, name: str, content: bytes) -> None:
    """What a browser's upload does to the value, in the format of the version that runs."""
    if ipywidgets.__version__.startswith("7."):
        metadata = {"name": name, "type": "image/png", "size": len(content), "lastModified": 0}
        demo.upload.set_trait("value", {name: {"metadata": metadata, "content": content}})
    else:
        file = {"name": name, "type": "image/png", "size": len(content), "last_modified": datetime.now(UTC)}
        demo.upload.value = ({**file, "content": memoryview(content)},)


def everything_in(widget) -> list:
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in everything_in(child))]


def test_the_demo_starts_with_the_first_photo(demo):
    assert isinstance(demo, ipywidgets.VBox)
    assert "chelsea.png, 451×300 px: coloured in" in demo.status.value
    assert shown(demo.result).shape == (300, 451, 3)


def test_the_gallery_offers_the_samples(colorizer):
    demo = colorize_demo(colorizer)
    assert list(demo.choices) == [path.name for path in [*sample_photos("color"), *sample_photos("gray")]]
    assert all(button.tooltip for button in demo.choices.values())
    pictures = [w.value for w in everything_in(demo) if isinstance(w, ipywidgets.HTML) and "<img" in w.value]
    assert len(pictures) == len(demo.choices) and all('alt="' in picture for picture in pictures)
    assert sum(map(len, pictures)) < 300_000  # thumbnails, not photos


def test_choosing_a_sample_shows_it(demo):
    before = demo.result.value
    demo.choices["coins.png"].click()
    assert "coins.png" in demo.status.value and demo.result.value != before
    assert demo.truth_figure.layout.display == "none"  # there is no truth to compare with
    demo.choices["chelsea.png"].click()
    assert demo.truth_figure.layout.display is None
    assert demo.result.value == before


def test_the_picture_is_the_colorizers(demo, colorizer):
    path = sample_photos()[0]
    assert np.abs(shown(demo.result).astype(int) - colorizer.colorize(path)).mean() < 2  # JPEG
    assert np.abs(shown(demo.truth).astype(int) - np.asarray(Image.open(path))).mean() < 2


def test_the_blend_slider_moves_between_gray_and_colour(demo):
    strengths = []
    for demo.blend.value in (0, 0.25, 0.5, 1):
        strengths.append(chroma(shown(demo.result)))
    assert strengths[0] < 1 and strengths == sorted(strengths) and strengths[3] > 20
    assert strengths[2] == pytest.approx(strengths[3] / 2, rel=0.1)


def test_the_saturation_slider_scales_the_colours(demo, colorizer):
    normal = chroma(shown(demo.result))
    demo.saturation.value = 0
    assert chroma(shown(demo.result)) < 1
    demo.saturation.value = 0.5
    assert chroma(shown(demo.result)) < normal
    expected = colorizer.colorize(sample_photos()[0], 0.5)
    assert np.abs(shown(demo.result).astype(int) - expected).mean() < 2


def test_uploads(demo):
    upload(demo, "mine.png", png(noise(20, 30)))
    assert "mine.png, 30×20 px: coloured in" in demo.status.value
    assert shown(demo.result).shape == (20, 30, 3)
    good = demo.result.value
    upload(demo, "broken.png", png(noise(50, 50))[:2000])
    assert 'role="alert"' in demo.status.value and "broken.png: broken image file" in demo.status.value
    upload(demo, "<b>.txt", b"no photo")
    assert "&lt;b&gt;.txt: not an image" in demo.status.value  # names are text, never markup
    assert demo.result.value == good  # what was shown stays
    upload(demo, "mine.png", png(noise(20, 30)))  # the same file again
    assert "mine.png, 30×20 px: coloured in" in demo.status.value


def test_uploaded_files_in_both_formats():
    seven = {"a.png": {"metadata": {"name": "a.png", "type": "image/png"}, "content": b"123"}}
    eight = ({"name": "a.png", "type": "image/png", "size": 3, "content": memoryview(b"123")},)
    assert uploaded_files(seven) == uploaded_files(eight) == [("a.png", b"123")]
    assert uploaded_files({}) == uploaded_files(()) == []
    for name in ("../../a.png", "C:\\photos\\a.png"):
        assert uploaded_files(({"name": name, "content": b""},)) == [("a.png", b"")]


def test_the_path_box(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(12, 34)).save("photo in quotes.png")
    demo.path.value = ' "photo in quotes.png" '
    demo.open_path.click()
    assert "photo in quotes.png, 34×12 px" in demo.status.value
    Path("notes.jpg").write_text("no photo")
    for text, words in {
        "": "type the path",
        "missing.png": "there is no photo",
        "notes.jpg": "not an image",
        ".": "folder",
    }.items():
        demo.path.value = text
        demo.open_path.click()
        assert 'role="alert"' in demo.status.value and words in demo.status.value
        assert str(tmp_path) not in demo.status.value
    demo.path.value = "photo in quotes.png"
    demo.path._handle_custom_msg({"event": "submit"}, [])  # what a front end sends for Enter
    assert "34×12 px" in demo.status.value


def test_big_photos_are_scaled_down_for_the_browser_and_saved_at_full_size(demo, colorizer, outputs):
    photo = noise(400, 600)
    upload(demo, "big.jpg", png(photo))
    assert shown(demo.result).shape == (341, 512, 3) and shown(demo.truth).shape == (341, 512, 3)
    demo.saturation.value = 0.5
    demo.save.click()
    saved = outputs / "demo" / "big-colorized.png"
    assert np.array_equal(np.asarray(Image.open(saved)), colorizer.colorize(photo, 0.5))
    assert "Saved big-colorized.png" in demo.status.value and str(outputs) not in demo.status.value
    assert [path.name for path in saved.parent.iterdir()] == ["big-colorized.png"]


def test_small_results_come_with_a_download_link(demo, outputs):
    upload(demo, 'my "photo".png', png(noise(20, 30)))
    demo.save.click()
    assert 'download="my &quot;photo&quot;-colorized.png" href="data:image/png;base64,' in demo.status.value


def test_saving_where_it_is_not_possible_is_said(demo, outputs):
    outputs.write_text("a file where the folder should be")
    demo.save.click()
    assert 'role="alert"' in demo.status.value


def test_a_new_network_colours_the_same_photo_again(demo, colorizer):
    before = demo.result.value
    demo.colorizer = Colorizer(UNet(4, 4), colorizer.config)
    demo.colorize.click()
    assert demo.result.value != before and "chelsea.png" in demo.status.value


def test_errors_of_any_kind_reach_the_reader(demo):
    def fail(photo):
        raise RuntimeError("out of memory")

    demo.colorizer = Colorizer(demo.colorizer.model, demo.colorizer.config)
    demo.colorizer.network_input = fail
    demo.colorize.click()
    assert "RuntimeError: out of memory" in demo.status.value


def test_a_demo_without_photos_waits_for_one(colorizer):
    demo = colorize_demo(colorizer, [])
    assert demo.save.disabled and demo.blend.disabled and not demo.upload.disabled
    upload(demo, "mine.png", png(noise(20, 30)))
    assert not demo.save.disabled and "mine.png" in demo.status.value


def test_a_broken_photo_in_the_gallery_is_named(colorizer, tmp_path):
    (tmp_path / "broken.jpg").write_text("no photo")
    with pytest.raises(PhotoError, match=r"broken\.jpg: not an image"):
        colorize_demo(colorizer, [tmp_path / "broken.jpg"])


def test_only_widgets_that_work_everywhere(demo):
    names = {type(w).__name__ for w in everything_in(demo) + everything_in(lab_explorer(noise(9, 9)))}
    names -= {"ColorizeDemo", "LabExplorer"}
    assert names == {"Box", "GridBox", "VBox", "HTML", "Button", "Image", "FloatSlider", "FileUpload", "Text"}


def test_lab_explorer_shows_one_colour():
    explorer = lab_explorer(noise(40, 60))
    explorer.lightness.value, explorer.a.value, explorer.b.value = 100, 0, 0
    assert "sRGB (255, 255, 255) = #ffffff" in explorer.patch.value and "inside sRGB" in explorer.patch.value
    explorer.lightness.value, explorer.a.value, explorer.b.value = 53.24, 80.09, 67.20  # sRGB's red
    assert "#ff0000" in explorer.patch.value and "inside sRGB" in explorer.patch.value
    explorer.b.value = -100
    assert "outside sRGB" in explorer.patch.value and "inside sRGB" not in explorer.patch.value


def test_lab_explorer_shows_a_photos_planes():
    photo = np.asarray(Image.open(sample_photos()[0]))
    explorer = lab_explorer(photo)
    together, L, a, b = explorer.pictures.values()
    assert shown(together).shape == (213, 320, 3)
    assert chroma(shown(L)) < 1 < chroma(shown(a))
    assert shown(b).astype(int)[..., 2].mean() < shown(b)[..., 0].mean() - 10  # a warm photo: little blue in b*
    before = [picture.value for picture in (together, L, a, b)]
    explorer.strength.value = 0
    assert all(chroma(shown(picture)) < 1 for picture in (together, L, a, b))
    assert "0.0% of the pixels" in explorer.note.value
    explorer.strength.value = 2
    assert float(explorer.note.value.partition("%")[0]) > 1
    explorer.strength.value = 1
    assert [picture.value for picture in (together, L, a, b)] == before


@pytest.mark.skipif("COLORLIB_INSIDE_KERNEL" in os.environ, reason="this is the kernel that the test started")
def test_all_of_this_in_a_kernel_with_ipywidgets_7(tmp_path, monkeypatch):
    """Colab has 7.7.1: the tests of this file once more, in a real kernel whose comms are ipywidgets 7's."""
    if not (OVERLAY / "ipywidgets").is_dir():
        why = f"ipywidgets 7.7.1 is not there: {MAKE_OVERLAY}"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    paths = [str(OVERLAY), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("COLORLIB_INSIDE_KERNEL", "1")
    arguments = ["-q", "--color=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", str(Path(__file__))]
    cells = [
        "import ipywidgets\nassert ipywidgets.__version__ == '7.7.1', ipywidgets.__version__",
        "from colorlib.data import sample_photos\nfrom colorlib.widgets import lab_explorer\n"
        "lab_explorer(sample_photos()[0])",
        f"import pytest\nassert pytest.main({arguments!r}) == 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert "application/vnd.jupyter.widget-view+json" in outputs[0].data
    assert " passed" in "".join(output.get("text", "") for output in outputs)
