"""The tool that runs, cleans, exports and prints the notebooks."""

import base64
import io
import re
import shutil

import nbformat
import pytest
from PIL import Image

from colorlib.data import sample_photos
from tools import notebooks as tool


def test_a_set_address_reaches_badges_and_first_cell(tmp_path, monkeypatch):
    path = tmp_path / "notebooks" / "03_training.ipynb"
    path.parent.mkdir()
    shutil.copy(tool.ROOT / "notebooks" / path.name, path)
    project, address = (tool.ROOT / "pyproject.toml").read_text(encoding="utf-8"), "https://github.com/someone/colorlib"
    (tmp_path / "pyproject.toml").write_text(re.sub(r'repository = ".*"', f'repository = "{address}"', project))
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    tool.sync(path)
    title, first, *_ = nbformat.read(path, as_version=4).cells
    page = "someone/colorlib/blob/main/notebooks/03_training.ipynb"
    assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/{page})" in title.source
    assert f"(https://colab.research.google.com/github/{page})" in title.source
    assert f'REPOSITORY, BRANCH = "{address}", "main"' in first.source


def png(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_clean_keeps_what_a_reader_sees():
    bar = "\repoch:  10%|█         | 1/10"
    text = f"{bar}\repoch: 100%|████| 10/10\r        \repoch 1 done\nnext\r\n{bar}"
    dot, photo = png(Image.new("RGB", (8, 8), "red")), Image.open(sample_photos()[0])
    new = nbformat.v4.new_output
    outputs = [
        new("stream", name="stdout", text=text),
        new("stream", name="stdout", text="more\n"),
        new("display_data", data={tool.WIDGET: {}, "text/plain": "VBox()"}),
        new("display_data", data={"image/png": dot}),
        new("display_data", data={"image/png": png(photo)}, metadata={"image/png": {"width": 600}}),
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    book.metadata["widgets"] = {"state": {}}
    stream, small, large = tool.clean(book).cells[0].outputs
    assert stream.text == "epoch 1 done\nnext\nmore\n" and "widgets" not in book.metadata
    assert small.data == {"image/png": dot}, "a small figure stays as it is"
    assert set(large.data) == {"image/jpeg"} and large.metadata == {"image/jpeg": {"width": 600}}
    assert Image.open(io.BytesIO(base64.b64decode(large.data["image/jpeg"]))).size == photo.size
    nbformat.validate(book)


@pytest.mark.slow
def test_a_failing_notebook_is_named_with_its_error(tmp_path, monkeypatch, capsys, outputs):
    cell = nbformat.v4.new_code_cell('raise ValueError("begun otherwise")')
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "03_training.ipynb")
    monkeypatch.setattr(tool, "NOTEBOOKS", [tmp_path / "03_training.ipynb"])
    monkeypatch.setenv("COLORLIB_PRESET", "tiny")
    assert tool.run() == 1
    assert "ValueError: begun otherwise" in capsys.readouterr().out
    assert (outputs / "notebooks" / "03_training.ipynb").is_file(), "its last cell says why"


def test_export_needs_no_network(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# A title\n\nAn inline $x^2$ and\n\n$$y = \\frac{1}{2}$$"),
        nbformat.v4.new_code_cell("import colorlib", metadata={"tags": ["bootstrap"]}),
        nbformat.v4.new_code_cell("1 + 1"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    tool.export(tmp_path / "a.ipynb", tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<title>A title</title>" in text and text.count("<math") == 2 and "$" not in text
    assert "<summary>code</summary>" in text and "import colorlib" not in text
    assert "<script" not in text and "<link" not in text and "url(http" not in text


@pytest.mark.slow
def test_report_is_printed(tmp_path, monkeypatch, capsys):
    page = tmp_path / "a.html"
    page.write_text("<h1>Title</h1><p style='break-after: page'>One</p><p>Two</p>", encoding="utf-8")
    if any(map(shutil.which, tool.BROWSERS)):
        assert tool.print_pdf(page, tmp_path / "a.pdf")
        data = (tmp_path / "a.pdf").read_bytes()
        assert data.startswith(b"%PDF") and data.count(b"/Type /Page\n") == 2
    monkeypatch.delenv("COLORLIB_CHROMIUM", raising=False)
    monkeypatch.setattr(tool, "BROWSERS", ("no-such-browser",))
    assert tool.print_pdf(page, tmp_path / "b.pdf") is False
    assert "no b.pdf: printing needs playwright" in capsys.readouterr().out and not (tmp_path / "b.pdf").exists()
