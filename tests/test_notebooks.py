"""The notebooks: saved outputs that are honest, and a run of all of them from fresh kernels in three layouts."""

import base64
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from PIL import Image

from colorlib.data import sample_photos
from colorlib.summary import LABELS, summarize
from tools import notebooks as tool

OVERLAY = tool.ROOT / ".venv" / "overlay-ipywidgets7"
NAMES = [notebook.stem for notebook in tool.NOTEBOOKS]


@pytest.fixture(params=tool.NOTEBOOKS, ids=NAMES)
def saved(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def test_all_are_there():
    assert NAMES == ["01_data_exploration", "02_model", "03_training", "04_evaluation", "05_demo", "report"]


def test_saved_outputs_are_those_of_one_run_from_top_to_bottom(saved):
    _, book = saved
    assert [cell.execution_count for cell in code_cells(book)] == list(range(1, len(code_cells(book)) + 1))
    outputs = [output for cell in code_cells(book) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert not [output for output in outputs if tool.WIDGET in output.get("data", {})]


def test_saved_files_hold_no_widget_state_and_no_path_of_a_machine(saved):
    path, book = saved
    assert "widgets" not in book.metadata
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1.5e6
    assert str(tool.ROOT) not in text
    assert not re.search(r"(?<![\w./])/(?:root|home|tmp|Users|work|var|mnt)/\w", text)


def test_form(saved):
    path, book = saved
    tags = [tag for cell in code_cells(book) for tag in cell.metadata.get("tags", [])]
    assert tags.count("bootstrap") == 1 and tags.count("parameters") == 1
    assert "bootstrap" in code_cells(book)[0].metadata.tags
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code_cells(book)[1:]]
    if path.parent.name == "notebooks":
        assert statistics.median(lengths) <= 8 and max(lengths) <= 15
        assert "## Exercises" in "\n".join(cell.source for cell in book.cells)


def test_badges_and_first_cells_agree_with_pyproject(saved, tmp_path, monkeypatch):
    path, book = saved
    copy = tmp_path / path.relative_to(tool.ROOT)
    copy.parent.mkdir()
    shutil.copy(path, copy)
    shutil.copy(tool.ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    tool.sync(copy)
    synced = nbformat.read(copy, as_version=4)
    assert [cell.source for cell in synced.cells] == [cell.source for cell in book.cells], "run `make sync`"


def test_a_set_address_reaches_badges_and_first_cell(tmp_path, monkeypatch):
    path = tmp_path / "notebooks" / "03_training.ipynb"
    path.parent.mkdir()
    shutil.copy(tool.ROOT / "notebooks" / path.name, path)
    text = (tool.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    address = "https://github.com/someone/colorlib"
    assert 'repository = "' in text
    (tmp_path / "pyproject.toml").write_text(re.sub(r'repository = ".*"', f'repository = "{address}"', text))
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    tool.sync(path)
    book = nbformat.read(path, as_version=4)
    page = "someone/colorlib/blob/main/notebooks/03_training.ipynb"
    assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/{page})" in book.cells[0].source
    assert f"(https://colab.research.google.com/github/{page})" in book.cells[0].source
    assert f'REPOSITORY, BRANCH = "{address}", "main"' in code_cells(book)[0].source


def test_clean_keeps_what_a_reader_sees():
    bar = "\repoch:  10%|█         | 1/10"
    text = f"{bar}\repoch: 100%|████| 10/10\r        \repoch 1 done\nnext\r\n{bar}"
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    dot = base64.b64encode(file.getvalue()).decode()
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=text),
        nbformat.v4.new_output("stream", name="stdout", text="more\n"),
        nbformat.v4.new_output("display_data", data={tool.WIDGET: {}, "text/plain": "VBox()"}),
        nbformat.v4.new_output("display_data", data={"image/png": dot}),
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    book.metadata["widgets"] = {"state": {}}
    tool.clean(book)
    assert [output.output_type for output in book.cells[0].outputs] == ["stream", "display_data"]
    assert book.cells[0].outputs[0].text == "epoch 1 done\nnext\nmore\n"
    assert book.cells[0].outputs[1].data == {"image/png": dot}, "a small figure stays as it is"
    assert "widgets" not in book.metadata


def test_clean_makes_jpegs_of_large_photos():
    file = io.BytesIO()
    with Image.open(sample_photos()[0]) as photo:
        photo.save(file, "PNG")
    data = {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": "figure"}
    output = nbformat.v4.new_output("display_data", data=data, metadata={"image/png": {"width": 600}})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[output])])
    tool.clean(book)
    (output,) = book.cells[0].outputs
    assert set(output.data) == {"image/jpeg", "text/plain"} and output.metadata == {"image/jpeg": {"width": 600}}
    assert Image.open(io.BytesIO(base64.b64decode(output.data["image/jpeg"]))).size == photo.size
    nbformat.validate(book)


# --- fresh kernels in three layouts -------------------------------------------------------------------------------


@pytest.fixture
def hidden_install(tmp_path):
    """A folder for PYTHONPATH that takes the installed colorlib away, as on a machine that never had it."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if '__editable__' not in getattr(f, '__module__', '')]\n"
        f"sys.path[:] = [p for p in sys.path if p != {str(tool.ROOT)!r}]\n"
    )
    return folder


def attach(folder: Path) -> Path:
    """A copy of the repository, as a data set or a clone would hold it."""
    for name in ("colorlib", "outputs/release"):
        shutil.copytree(tool.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(tool.ROOT / "pyproject.toml", folder)
    return folder


def coco_like(folder: Path) -> Path:
    """130 small photos with COCO's names, cut from the sample photos."""
    folder.mkdir(parents=True)
    for n in range(130):
        with Image.open(sample_photos()[n % 5]) as photo:
            corner = 3 * n
            photo.convert("RGB").crop((corner, 0, corner + 60, 70)).save(folder / f"{7 * n + 139:012}.jpg")
    return folder


def execute_all(folder: Path, environment: dict, monkeypatch, bootstrap: str | None = None) -> dict:
    """Run copies of all notebooks in order, in `folder`; return the printed text of each."""
    folder.mkdir(parents=True, exist_ok=True)
    quick = {"COLORLIB_PRESET": "tiny", "COLORLIB_RUN": "quick", "COLORLIB_EPOCHS": "2", "COLORLIB_MOST": "4"}
    for name in [name for name in os.environ if name.startswith(("COLORLIB_", "KAGGLE_", "COLAB_"))]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # figures as in anyone's notebook
    for name, value in {**quick, **environment}.items():
        monkeypatch.setenv(name, str(value))
    printed = {}
    for notebook in tool.NOTEBOOKS:
        copy = folder / notebook.name
        book = nbformat.read(notebook, as_version=4)
        for cell in book.cells:
            if bootstrap and "bootstrap" in cell.metadata.get("tags", []):
                cell.source = bootstrap
        nbformat.write(book, copy)
        tool.execute(copy, copy)
        outputs = [output for cell in code_cells(nbformat.read(copy, as_version=4)) for output in cell.outputs]
        assert not [output.text for output in outputs if output.get("name") == "stderr"], notebook.stem
        printed[notebook.stem] = "".join(output.text for output in outputs if output.output_type == "stream")
    return printed


def snapshot(folder: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_project_layout(tmp_path, monkeypatch):
    outputs = tmp_path / "outputs"
    project = attach(tmp_path / "project")
    before = snapshot(project / "outputs")
    data = tmp_path / "data"
    environment = {"COLORLIB_OUTPUTS": outputs, "COLORLIB_DATA_DIR": data, "COLORLIB_RUN": ""}
    printed = execute_all(project / "notebooks", environment, monkeypatch)
    assert "local" in printed["01_data_exploration"]
    written = {path.relative_to(outputs).as_posix() for path in outputs.rglob("*.*")}
    assert written >= {f"tiny/{name}" for name in (
        "config.json", "environment.json", "split.json", "history.csv", "last.pt", "best.safetensors",
        "samples/epoch_000.png", "samples/epoch_001.png",
    )}  # fmt: skip
    assert json.loads((outputs / "tiny" / "config.json").read_text())["epochs"] == 2
    assert "run release:" in printed["04_evaluation"] and "run release:" in printed["05_demo"]
    assert written >= {f"release-here/{name}" for name in (
        "metrics.csv", "metrics_summary.txt", "comparisons/comparison_000.png", "figures/metrics_distribution.png",
    )}  # fmt: skip
    assert before == snapshot(project / "outputs"), "the release stays as it was"


def test_kaggle_layout(tmp_path, monkeypatch, hidden_install):
    inputs, working = tmp_path / "kaggle" / "input", tmp_path / "kaggle" / "working"
    attach(inputs / "colorlib-source")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    coco_like(inputs / "datasets" / "awsaf49" / "coco-2017-dataset" / "coco2017" / "val2017")
    before = snapshot(inputs)
    environment = {
        "KAGGLE_KERNEL_RUN_TYPE": "Batch", "COLAB_RELEASE_TAG": "release", "COLORLIB_KAGGLE_INPUT": inputs,
        "COLORLIB_OUTPUTS": working / "outputs", "PYTHONPATH": hidden_install, "PYTHONDONTWRITEBYTECODE": "1",
        "COLORLIB_PROCESSES": 2, "TMPDIR": temporary,
    }  # fmt: skip
    printed = execute_all(working, environment, monkeypatch)
    assert snapshot(inputs) == before, "the inputs are read-only on Kaggle"
    assert "kaggle" in printed["03_training"]
    assert printed["03_training"].count("done:") == 1, "two processes train, as on two GPUs, and one of them talks"
    assert "run quick has its 2 epochs already" in printed["03_training"]
    assert list((temporary / "colorlib-cache").rglob("photos.npy")), "not among the outputs, which Kaggle would keep"
    split = json.loads((working / "outputs" / "quick" / "split.json").read_text())
    assert len(split["test"]) == 100 and split["test"][0] == "000000000139.jpg"
    assert "000000000139.jpg" in printed["04_evaluation"]


def test_colab_layout(tmp_path, monkeypatch, hidden_install):
    source = attach(tmp_path / "repository")
    git = ["git", "-C", str(source), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(source)], check=True)
    subprocess.run([*git, "add", "--all", "--force"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "copy"], check=True)
    content = tmp_path / "content"
    path = os.pathsep.join([str(hidden_install), *([str(OVERLAY)] if OVERLAY.is_dir() else [])])
    environment = {"COLAB_RELEASE_TAG": "release", "PYTHONPATH": path}
    bootstrap = tool.BOOTSTRAP.format(repository=source.as_uri(), branch="main")
    printed = execute_all(content, environment, monkeypatch, bootstrap)
    assert "colab" in printed["01_data_exploration"]
    assert (content / "colorlib-clone" / "outputs" / "quick" / "best.safetensors").is_file()
    if OVERLAY.is_dir():
        assert re.search(r"ipywidgets\s+7\.7\.1", printed["05_demo"])


def test_without_colorlib_the_first_cell_says_what_to_do(tmp_path, hidden_install):
    script = tmp_path / "cell.py"
    script.write_text(tool.BOOTSTRAP.format(repository="", branch="main"))
    environment = os.environ | {
        "PYTHONPATH": str(hidden_install),
        "COLORLIB_KAGGLE_INPUT": str(tmp_path / "none"),
    }
    result = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "colorlib is not here. Kaggle: Add Input" in result.stderr


def test_a_failing_notebook_is_named_with_its_error(tmp_path, monkeypatch, capsys):
    path = tmp_path / "notebooks" / "03_training.ipynb"
    path.parent.mkdir()
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('raise ValueError("begun otherwise")')]), path
    )
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "NOTEBOOKS", [path])
    for name in ("COLORLIB_PRESET", "COLORLIB_RUN"):
        monkeypatch.setenv(name, "tiny")
    assert tool.run() == 1
    assert "ValueError: begun otherwise" in capsys.readouterr().out
    assert (tmp_path / "outputs" / "notebooks" / "03_training.ipynb").is_file(), "its last cell says why"


# --- the report: its numbers are those of the files ---------------------------------------------------------------


def markdown_cells():
    book = nbformat.read(tool.ROOT / "report" / "report.ipynb", as_version=4)
    return [cell.source for cell in book.cells if cell.cell_type == "markdown"]


def test_report_has_no_typed_result():
    """No score of the release stands in the prose: PSNR, SSIM and the like of ours come from the files."""
    metrics = pd.read_csv(tool.ROOT / "outputs" / "release" / "metrics.csv")
    summary = summarize(metrics)
    numbers = {
        f"{value:.{LABELS[metric][1]}f}" for metric, value in zip(summary["metric"], summary["mean"], strict=True)
    }
    numbers = {number for number in numbers if len(number) >= 5}  # 23.45, 0.913
    for text in markdown_cells():
        typed = set(re.findall(r"(?<![\d.])\d+\.\d{2,4}(?!\d)", text)) & numbers
        assert not typed, text[:80]


def test_figures_and_tables_are_numbered_in_order_and_named_in_the_text():
    book = nbformat.read(tool.ROOT / "report" / "report.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in code_cells(book))
    text = "\n".join(cell.source for cell in book.cells)
    for word, call in (("Figure", "figure"), ("Table", "table")):
        used = [int(number) for number in re.findall(rf"\b{call}\(\s*(\d+),", code)]
        assert used == sorted(set(used))
        named = {int(n) for part in re.findall(rf"{word}s?\s+([\d to–,and]+)", text) for n in re.findall(r"\d+", part)}
        assert max(named) <= max(used) + 4, f"a {word} is named that is not there"


def test_a_changed_number_changes_the_report(tmp_path, monkeypatch):
    """Executed against other scores, the prose says other numbers, and files that are missing are named."""
    release = tmp_path / "release"
    shutil.copytree(tool.ROOT / "outputs" / "release", release)
    for name in ("sensitivity.csv", "failures.csv", "tones.csv"):
        (release / name).unlink(missing_ok=True)
    metrics = pd.read_csv(release / "metrics.csv")
    metrics.loc[metrics["method"] == "model", "psnr"] = 33.33
    metrics.to_csv(release / "metrics.csv", index=False)
    monkeypatch.setenv("COLORLIB_RELEASE", str(release))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    tool.execute(tool.ROOT / "report" / "report.ipynb", tmp_path / "report.ipynb")
    book = nbformat.read(tmp_path / "report.ipynb", as_version=4)
    outputs = [output for cell in code_cells(book) for output in cell.outputs if output.output_type == "display_data"]
    text = "\n".join(str(output.data) for output in outputs if "image/png" not in output.data)
    assert text.count("33.33") >= 3
    assert all(f"`{name}.csv` is not among the files" in text for name in ("sensitivity", "failures", "tones"))


def test_printing_needs_a_browser(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COLORLIB_CHROMIUM", raising=False)
    monkeypatch.setattr(tool, "BROWSERS", ("no-such-browser",))
    assert tool.print_pdf(tmp_path / "a.html", tmp_path / "a.pdf") is False
    assert "no a.pdf: printing needs playwright" in capsys.readouterr().out and not (tmp_path / "a.pdf").exists()


@pytest.mark.skipif(not any(map(shutil.which, tool.BROWSERS)), reason="no Chromium here")
def test_report_is_printed(tmp_path):
    pytest.importorskip("playwright")
    page = tmp_path / "a.html"
    page.write_text("<h1>Title</h1><p style='break-after: page'>One</p><p>Two</p>", encoding="utf-8")
    assert tool.print_pdf(page, tmp_path / "a.pdf")
    data = (tmp_path / "a.pdf").read_bytes()
    assert data.startswith(b"%PDF") and data.count(b"/Type /Page\n") == 2
