"""The notebooks: saved outputs that are honest, and a run of all of them from fresh kernels in three layouts."""

import html
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
import torch
from PIL import Image

from colorlib.checkpoint import BEST, WEIGHTS
from colorlib.config import Config
from colorlib.data import sample_photos
from colorlib.evaluation import summarize
from colorlib.metrics import METRICS
from colorlib.model import UNet
from tools import notebooks as tool
from tools.kaggle import write_dataset

OVERLAY = tool.ROOT / ".venv" / "overlay-ipywidgets7"
REPORT = tool.NOTEBOOKS[-1]
RELEASE = tool.ROOT / "outputs" / "release"


@pytest.fixture(params=tool.NOTEBOOKS, ids=lambda path: path.stem)
def saved(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def outputs_of(book):
    return [output for cell in code_cells(book) for output in cell.outputs]


def test_saved_outputs_are_those_of_one_run_without_noise_widget_state_or_a_machines_paths(saved):
    path, book = saved
    assert [cell.execution_count for cell in code_cells(book)] == list(range(1, len(code_cells(book)) + 1))
    outputs, text = outputs_of(book), path.read_text(encoding="utf-8")
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert not [output for output in outputs if tool.WIDGET in output.get("data", {})]
    assert "widgets" not in book.metadata and len(text) < 1.5e6 and str(tool.ROOT) not in text
    assert not re.search(r"(?<![\w./])/(?:root|home|tmp|Users|work|var|mnt)/\w", text)


def test_form(saved, tmp_path, monkeypatch):
    """Cells are short; badges and first cell are those of pyproject.toml."""
    path, book = saved
    code = code_cells(book)
    tags = [tag for cell in code for tag in cell.metadata.get("tags", [])]
    assert tags.count("bootstrap") == 1 and tags.count("parameters") == 1
    assert "bootstrap" in code[0].metadata.tags
    short = [cell for cell in code[1:] if "loop" not in cell.metadata.get("tags", [])]  # which is written by hand
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in short]
    assert path == REPORT or (statistics.median(lengths) <= 8 and max(lengths) <= 15)
    copy = tmp_path / path.relative_to(tool.ROOT)
    copy.parent.mkdir()
    shutil.copy(path, copy)
    shutil.copy(tool.ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    tool.sync(copy)
    synced = nbformat.read(copy, as_version=4)
    assert [cell.source for cell in synced.cells] == [cell.source for cell in book.cells], "run `make sync`"


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
        for cell in code_cells(book):
            if bootstrap and "bootstrap" in cell.metadata.get("tags", []):
                cell.source = bootstrap
        nbformat.write(book, copy)
        tool.execute(copy, copy)
        outputs = outputs_of(nbformat.read(copy, as_version=4))
        assert not [output.text for output in outputs if output.get("name") == "stderr"], notebook.stem
        printed[notebook.stem] = "".join(output.text for output in outputs if output.output_type == "stream")
    return printed


def snapshot(folder: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_project_layout(tmp_path, monkeypatch):
    outputs, project = tmp_path / "outputs", tmp_path / "project"
    write_dataset("some-one", project)
    before = snapshot(project / "outputs")
    environment = {"COLORLIB_OUTPUTS": outputs, "COLORLIB_DATA_DIR": tmp_path / "data", "COLORLIB_RUN": ""}
    printed = execute_all(project / "notebooks", environment, monkeypatch)
    assert "local" in printed["01_data_exploration"]
    assert json.loads((outputs / "tiny" / "config.json").read_text())["epochs"] == 2
    for name in ("split.json", "history.csv", "last.pt", "best.safetensors", "samples/epoch_001.png"):
        assert (outputs / "tiny" / name).is_file()
    assert "run release:" in printed["04_evaluation"] and "run release:" in printed["05_demo"]
    for name in ("metrics.csv", "metrics_summary.txt", "comparisons/comparison_000.png"):
        assert (outputs / "release-here" / name).is_file()
    assert before == snapshot(project / "outputs"), "the release stays as it was"


@pytest.mark.slow
def test_kaggle_layout(tmp_path, monkeypatch, hidden_install):
    inputs, working, temporary = (tmp_path / name for name in ("input", "working", "tmp"))
    temporary.mkdir()
    write_dataset("some-one", inputs / "colorlib")
    coco = inputs / "datasets" / "awsaf49" / "coco-2017-dataset" / "coco2017" / "val2017"
    coco.mkdir(parents=True)
    for n in range(130):  # small photos with COCO's names
        with Image.open(sample_photos()[n % 5]) as photo:
            photo.convert("RGB").crop((2 * n, 0, 2 * n + 90, 100)).save(coco / f"{7 * n + 139:012}.jpg")
    before = snapshot(inputs)
    environment = {
        "KAGGLE_KERNEL_RUN_TYPE": "Batch", "COLAB_RELEASE_TAG": "release", "COLORLIB_KAGGLE_INPUT": inputs,
        "COLORLIB_OUTPUTS": working / "outputs", "PYTHONPATH": hidden_install, "PYTHONDONTWRITEBYTECODE": "1",
        "COLORLIB_PROCESSES": 2, "TMPDIR": temporary,
    }  # fmt: skip
    printed = execute_all(working, environment, monkeypatch)
    assert snapshot(inputs) == before, "the inputs are read-only on Kaggle"
    training = printed["03_training"]
    assert "kaggle" in training
    assert training.count("done:") == 1, "two processes train, as on two GPUs, and one of them talks"
    assert "run quick has its 2 epochs already" in training
    assert any((temporary / "colorlib-cache").iterdir()), "not among the outputs, which Kaggle would keep"
    split = json.loads((working / "outputs" / "quick" / "split.json").read_text())
    assert len(split["test"]) == 100 and split["test"][0] == "000000000139.jpg"
    assert "000000000139.jpg" in printed["04_evaluation"]


@pytest.mark.slow
def test_colab_layout(tmp_path, monkeypatch, hidden_install):
    source, content = tmp_path / "repository", tmp_path / "content"
    write_dataset("some-one", source)
    git = ["git", "-C", str(source), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "--all", "--force"], ["commit", "-q", "-m", "copy"]):
        subprocess.run([*git, *command], check=True)
    path = os.pathsep.join([str(hidden_install), *([str(OVERLAY)] if OVERLAY.is_dir() else [])])
    environment = {"COLAB_RELEASE_TAG": "release", "PYTHONPATH": path}
    bootstrap = tool.BOOTSTRAP.format(repository=source.as_uri(), branch="main")
    printed = execute_all(content, environment, monkeypatch, bootstrap)
    assert "colab" in printed["01_data_exploration"]
    assert (content / "colorlib-clone" / "outputs" / "quick" / "best.safetensors").is_file()
    if OVERLAY.is_dir():
        assert re.search(r"ipywidgets\s+7\.7\.1", printed["05_demo"])


def test_without_colorlib_the_first_cell_says_what_to_do(tmp_path, hidden_install):
    environment = os.environ | {"PYTHONPATH": str(hidden_install), "COLORLIB_KAGGLE_INPUT": str(tmp_path / "none")}
    command = [sys.executable, "-c", tool.BOOTSTRAP.format(repository="", branch="main")]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and "colorlib is not here. Kaggle: Add Input" in result.stderr


# where the repository lies, as README.md words it, from the folder in which the notebook runs, and the variables there
PLACES = {
    "Kaggle: a data set": ("input/colorlib", "working", {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}),
    "Kaggle: a data set, as it is attached today": ("input/datasets/some-one/colorlib", "working", {}),
    "Colab: !git clone": ("content/colorlib", "content", {"COLAB_RELEASE_TAG": "x"}),
    "Colab: a clone of another name": ("content/my-copy", "content", {"COLAB_RELEASE_TAG": "x"}),
    "Colab: the folder's content beside the notebook": ("content", "content", {"COLAB_RELEASE_TAG": "x"}),
    "make lab": ("repository", "repository/notebooks", {}),
    "JupyterLab started in the repository": ("repository", "repository", {}),
}


@pytest.mark.parametrize("imported_before", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_first_cells_find_colorlib_where_the_readme_says(place, imported_before, tmp_path, hidden_install):
    """Imported before: Python has taken the clone's folder, whose name is colorlib, for the package itself."""
    repository, runs_in, variables = PLACES[place]
    package = tmp_path / repository / "colorlib"
    (package / "system").mkdir(parents=True)
    (package / "config.py").touch()
    (package / "__init__.py").touch()
    (package / "system" / "__init__.py").write_text("def print_environment(): print(__file__)", encoding="utf-8")
    (tmp_path / runs_in).mkdir(parents=True, exist_ok=True)
    first = {code_cells(nbformat.read(path, as_version=4))[0].source for path in tool.NOTEBOOKS}
    before = "try: import colorlib\nexcept ModuleNotFoundError: pass\n" if imported_before else ""
    there = {"PYTHONPATH": str(hidden_install), "COLORLIB_KAGGLE_INPUT": str(tmp_path / "input")}
    for cell in first:  # one, unless they differ
        command = [sys.executable, "-c", before + cell]
        environment = os.environ | variables | there
        done = subprocess.run(command, cwd=tmp_path / runs_in, env=environment, capture_output=True, text=True)
        assert done.stdout.splitlines() == [str(package / "system" / "__init__.py")], done.stderr


# --- the report: its numbers, words and references are those of the files ------------------------------------------


@pytest.fixture(scope="module")
def report():
    return nbformat.read(REPORT, as_version=4)


def prose(book):
    """What a reader sees, without markup: outputs and markdown, spaces single, minus signs and apostrophes plain."""
    texts = [output.data.get("text/html") or output.data.get("text/markdown", "") for output in outputs_of(book)[1:]]
    texts += [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    text = html.unescape(re.sub(r"<[^>]+>", " ", "\n".join(texts)))
    return re.sub(r"\s+", " ", text.replace("−", "-").replace("’", "'").replace("**", ""))


def assert_words_follow(text, metrics, history):
    """What the report says of scores and losses is what these tables hold; returns where it says "worse than …"."""
    scores = summarize(metrics).set_index(["subset", "metric", "method"])["mean"]["in_color"]
    claims = {"psnr": "mean PSNR is {} dB {}", "pooled_psnr": "pooled PSNR is {} dB {}", "rmse": "RMSE {} levels {}"}
    for name, words in claims.items():
        difference = scores[name]["model"] - scores[name]["gray"]
        assert words.format(f"{abs(difference):.2f}", "above" if difference > 0 else "below") in text
    claimed = {}
    for other in {*metrics["method"]} - {"model"}:
        claim = re.search(rf"worse than {'' if other == 'gray' else 'the '}{other} in (.*?)\.(?: |$)", text).group(1)
        labels = {name: re.escape(metric.label) for name, metric in METRICS.items()}
        claimed[other] = {n for n, label in labels.items() if re.search(rf"(?<!\w)(?<!Pooled ){label} \(", claim)}
        more = {name: scores[name]["model"] - scores[name][other] for name in METRICS}
        sign = {True: 1, False: -1, None: 0}  # of what is better
        assert claimed[other] == {n for n, metric in METRICS.items() if sign[metric.higher_is_better] * more[n] < 0}
    best = history.loc[history["val_loss"].idxmin()]
    share = best["val_loss"] / best["gray_loss"] - 1
    assert f"network is {100 * abs(share):.0f}% {'above' if share > 0 else 'below'} gray" in text
    assert f"lowest after epoch {best['epoch']:.0f}:" in text
    return claimed


def test_what_the_report_refers_to_is_there(report):
    """Figures and tables are numbered by their keys; sections, contents and references match."""
    shown = "\n".join(str(output.get("data", "")) for output in outputs_of(report))
    source = "\n".join(cell.source for cell in report.cells)
    typed = "\n".join(cell.source for cell in report.cells if cell.cell_type == "markdown")
    for word in ("Figure", "Table"):
        numbers = [int(number) for number in re.findall(rf"<b>{word} (\d+)\.</b>", shown)]
        assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 9
        assert not re.search(rf"{word}s? \d", source.replace("Figure 3", "", 1)), "use ref(key)"  # once, in a docstring
    assert set(re.findall(r'href="#(\w+)"', shown)) <= set(re.findall(r' id="(\w+)"', shown))
    headings = re.findall(r"^##+ (.+)$", typed, flags=re.M)
    assert set(re.findall(r"Sections?\s(\d\.\d)", source)) <= {heading.split()[0] for heading in headings}
    links = re.findall(r"^ *- \[(.+)\]\(#(.+)\)$", typed, flags=re.M)
    assert links == [(heading, heading.replace(" ", "-")) for heading in headings if heading != "Contents"]
    body, references = source.split("## References")
    cited = {n for group in re.findall(r"(?<![\w\"')\]])\[(\d+(?:, \d+)*)\]", body) for n in group.split(", ")}
    assert cited == set(re.findall(r"^(\d+)\. ", references, flags=re.M))


def test_the_reports_words_follow_from_the_files(report):
    assert_words_follow(prose(report), *(pd.read_csv(RELEASE / f"{name}.csv") for name in ("metrics", "history")))


def test_the_reports_receptive_field_is_that_of_the_gradient(report):
    config = Config.from_json((RELEASE / "config.json").read_text(encoding="utf-8"))
    model = UNet(width=1, depth=config.depth, residual_blocks=config.residual_blocks).double().eval()
    for weights in model.parameters():
        torch.nn.init.constant_(weights, 0.1)  # no ReLU blocks what comes in
    field = int(re.search(r"depends on a square of (\d+) input pixels", prose(report)).group(1))
    side = -(-2 * field // 2**config.depth) * 2**config.depth
    L, outputs = torch.ones(1, 1, side, side, dtype=torch.double, requires_grad=True), []
    model.bottleneck.register_forward_hook(lambda _, __, out: outputs.append(out))
    model(L)
    middle = side // 2 ** (config.depth + 1)
    outputs[0][0, 0, middle, middle].backward()
    assert (L.grad[0, 0].sum(dim=0) > 0).sum() == field


def test_the_printed_report_has_at_most_twenty_pages():
    assert 10 < len(re.findall(rb"/Type\s*/Page\b", REPORT.with_suffix(".pdf").read_bytes())) <= 20


@pytest.mark.slow
def test_changed_files_change_the_reports_numbers_and_words(tmp_path, monkeypatch):
    """Executed against a release that is worse than gray, the report says so."""
    release = tmp_path / "release"
    shutil.copytree(RELEASE, release)
    shutil.copyfile(WEIGHTS / "release.safetensors", release / BEST)  # a copy of the release is a run of its own
    metrics, history = (pd.read_csv(release / f"{name}.csv") for name in ("metrics", "history"))
    metrics.loc[metrics["method"] == "model", ["psnr", "ssim", "rmse", "ab_histogram"]] = 11.11, 0.5, 70.0, 0.05
    history["val_loss"] += 1
    metrics.to_csv(release / "metrics.csv", index=False)
    history.to_csv(release / "history.csv", index=False)
    monkeypatch.setenv("COLORLIB_RELEASE", str(release))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    tool.execute(REPORT, tmp_path / "report.ipynb")
    text = prose(nbformat.read(tmp_path / "report.ipynb", as_version=4))
    claimed = assert_words_follow(text, metrics, history)
    assert text.count("11.11") >= 3 and "no closer to the truth than gray" in text
    for other in {*claimed} - {"gray"}:
        assert f"dB behind the {other}; the interval excludes zero" in text
        assert {"psnr", "ssim"} <= claimed[other] and "ab_histogram" not in claimed[other]
