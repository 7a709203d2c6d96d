"""The project around the code: lists of dependencies that agree, and texts that name what is there."""

import json
import re
import shlex
import subprocess
import tomllib

import pandas as pd
import pytest
import yaml
from jupyter_server.serverapp import ServerApp
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from colorlib.data import SAMPLES
from colorlib.evaluation import count_wins, summarize
from tools import notebooks as tool

ROOT = tool.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch": "torch"}


def requirements(*extras):
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return {Requirement(line).name: Requirement(line).specifier for line in lines}


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a Git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_constraints_pin_every_dependency_within_its_range():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = [line.split("==") for line in text.splitlines() if line and not line.startswith("#")]
    tested = {canonicalize_name(name): Version(version) for name, version in pins}
    for name, allowed in requirements("notebooks", "test").items():
        assert tested[name] in allowed, f"constraints.txt has {name} {tested[name]}, pyproject.toml wants {allowed}"


def test_conda_environment_has_the_same_list():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *listed, by_pip = environment["dependencies"]
    conda = {CONDA_NAMES.get(Requirement(x).name, Requirement(x).name): Requirement(x).specifier for x in listed}
    assert conda.pop("pip") is not None and by_pip == {"pip": ["-e ."]}
    assert "3.11" in SpecifierSet(PROJECT["requires-python"])
    python = conda.pop("python")
    assert all(version in python for version in ("3.11", "3.12", "3.13"))
    assert conda == requirements("notebooks")


def test_ranges_admit_what_kaggle_and_colab_have():
    preinstalled = "torch==2.11 scikit-image==0.25.2 pandas==2.2.2 numpy==2.0.2 ipywidgets==7.7.1 ipywidgets==8.1.5"
    for name, version in (package.split("==") for package in preinstalled.split()):
        assert Version(version) in requirements()[name]


@pytest.mark.filterwarnings("ignore:.*dict-traits")  # the other way to say it makes the number a text
def test_make_lab_takes_uploads_of_more_than_ten_mebibytes():
    """An upload is one message of a websocket, and Tornado drops longer ones without a word to the sender."""
    show = ["make", "--dry-run", "--silent", "lab"]
    line = subprocess.check_output(show, cwd=ROOT, text=True).splitlines()[-1]
    program, action, *options = shlex.split(line)
    assert program.endswith("jupyter") and action == "lab" and options.pop() == "notebooks"
    server = ServerApp()
    server.parse_command_line(options)
    limit = server.tornado_settings["websocket_max_message_size"]
    assert 100 * 2**20 < limit <= server.max_buffer_size, "what the server reads at all"
    demo = json.loads((ROOT / "notebooks" / "05_demo.ipynb").read_text(encoding="utf-8"))
    advice = "jupyter lab " + line.partition("lab ")[2].removesuffix(" notebooks")
    assert any(advice + "\n" in cell["source"] for cell in demo["cells"]), advice


def test_every_sample_photo_has_its_license():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for name in [*SAMPLES["color"], *SAMPLES["gray"]]:
        assert re.search(rf"^\| {re.escape(name)} .*\|.*\|.*\| .+ \|$", text, flags=re.M), name


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", text) + re.findall(r'src="(?!http)([^"]+)"', text):
        assert (ROOT / target).exists(), f"README.md leads to {target}, which is not there"


def test_readme_and_report_tell_the_scores_of_the_release():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    metrics = pd.read_csv(ROOT / "outputs" / "release" / "metrics.csv")
    scores = summarize(metrics).set_index(["subset", "method", "metric"])["mean"]["in_color"]
    wins, photos = count_wins(metrics[metrics["in_color"]])
    rows = ("gray", "gray: no color at all", "–"), ("model", "this release", f"{wins} of {photos}")
    digits = {"psnr": 2, "ssim": 3, "rmse": 2, "snr": 2, "pooled_psnr": 2, "colorfulness": 1}
    for method, name, won in rows:
        row = " | ".join([name, *(f"{scores[method][metric]:.{n}f}" for metric, n in digits.items()), won])
        assert f"| {row} |" in readme, f"README.md's results should hold {row}"
    for name in ("report.ipynb", "report.html"):
        text = (ROOT / "report" / name).read_text(encoding="utf-8")
        assert f"{scores['model']['psnr']:.2f} dB" in text, f"{name}: run `make report`"


def test_exported_report_needs_no_network():
    text = (ROOT / "report" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text and "<link" not in text and "@import" not in text and "url(http" not in text
    assert all(source.startswith("data:") for source in re.findall(r'<img[^>]*\ssrc="([^"]*)"', text))
    assert "<math" in text and "$$" not in text


def test_no_file_names_a_machine_or_a_registry():
    registry = re.compile(r"https?://[\w.-]*(?:pypi\.|npmjs|pythonhosted|debian\.)", re.I)
    for path in tracked_files():
        if path.suffix in {".py", ".md", ".yml", ".toml", ".txt", ".ipynb", ".html", ".json", ".csv"} and path.exists():
            text = path.read_text(encoding="utf-8")
            assert not registry.search(text), path.name
            if path.parent.name != "tests":
                assert str(ROOT) not in text, path.name


def test_the_repository_stays_small():
    sizes = {path.name: path.stat().st_size for path in tracked_files() if path.exists()}
    assert sum(sizes.values()) < 40e6
    assert not [path.name for path in tracked_files() if path.suffix in {".pt", ".pth", ".ckpt", ".zip", ".tar"}]
