"""The notebooks' widgets, driven in plain Python; all tests of widgets again in a kernel with ipywidgets 7.7.1."""

import io
import os
from pathlib import Path

import ipywidgets
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from colorlib.data import sample_photos
from colorlib.widgets import colorize_demo, lab_explorer

ROOT = Path(__file__).resolve().parent.parent
OVERLAY = ROOT / ".venv" / "overlay-ipywidgets7"
MAKE_OVERLAY = "pip install --target .venv/overlay-ipywidgets7 --no-deps ipywidgets==7.7.1 ipython-genutils==0.2.0"
FILES = [str(Path(__file__).with_name(name)) for name in ("test_widgets.py", "test_parts.py", "test_demo.py")]


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shown(image: ipywidgets.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value)))


def chroma(picture: np.ndarray) -> float:
    return np.ptp(picture.astype(int), axis=2).mean()


def test_the_demo_is_here_too():
    assert colorize_demo.__module__ == "colorlib.demo"


def test_lab_explorer_takes_only_widgets_that_work_everywhere():
    boxes, names = [lab_explorer(noise(9, 9))], set()
    while boxes:
        box = boxes.pop()
        names.add(type(box).__name__)
        boxes += getattr(box, "children", ())
    assert names == {"LabExplorer", "Box", "GridBox", "VBox", "HTML", "Image", "FloatSlider"}


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
    """Colab has 7.7.1: the tests of widgets once more, in a real kernel whose comms are ipywidgets 7's."""
    if not (OVERLAY / "ipywidgets").is_dir():
        why = f"ipywidgets 7.7.1 is not there: {MAKE_OVERLAY}"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    paths = [str(OVERLAY), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("COLORLIB_INSIDE_KERNEL", "1")
    arguments = ["-q", "--color=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", *FILES]
    cells = [
        "import ipywidgets\nassert ipywidgets.__version__ == '7.7.1', ipywidgets.__version__",
        "from colorlib.data import sample_photos\nfrom colorlib.widgets import lab_explorer\n"
        "lab_explorer(sample_photos()[0])",
        f"import pytest\nassert pytest.main({arguments!r}) == 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert "application/vnd.jupyter.widget-view+json" in outputs[0].data
    assert " passed" in "".join(output.get("text", "") for output in outputs)
