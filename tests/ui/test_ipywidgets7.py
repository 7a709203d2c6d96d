"""Colab has ipywidgets 7.7.1: the tests of widgets once more, in a real kernel whose comms are that version's."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = ROOT / ".venv" / "overlay-ipywidgets7"
MAKE_OVERLAY = "pip install --target .venv/overlay-ipywidgets7 --no-deps ipywidgets==7.7.1 ipython-genutils==0.2.0"
FILES = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("controls", "demo")]
ARGUMENTS = ["-q", "--color=no", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore", *FILES]
CELLS = [
    "import ipywidgets\nassert ipywidgets.__version__ == '7.7.1', ipywidgets.__version__",
    "import colorlib\nfrom colorlib.ui import ColorizeDemo\nColorizeDemo(colorlib.load())",
    f"import pytest\nassert pytest.main({ARGUMENTS!r}) == 0",
]


@pytest.mark.slow
def test_widgets_in_a_kernel_with_ipywidgets_7(tmp_path, monkeypatch):
    if not (OVERLAY / "ipywidgets").is_dir():
        why = f"ipywidgets 7.7.1 is not there: {MAKE_OVERLAY}"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    paths = [str(OVERLAY), str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert "application/vnd.jupyter.widget-view+json" in outputs[0].data
    assert " passed" in "".join(output.get("text", "") for output in outputs)
