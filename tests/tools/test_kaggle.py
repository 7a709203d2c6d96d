"""The folders that Kaggle's tool uploads: complete, by its rules, and found by a notebook where they are attached."""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import test_notebooks
from conftest import files

from tools import kaggle as tool

hidden_install = test_notebooks.hidden_install


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "kaggle"
    (out / "06_left_over").mkdir(parents=True)
    tool.write_folders("some-one", out)
    return out


def metadata(folder, kind):
    return json.loads((folder / f"{kind}-metadata.json").read_text(encoding="ascii"))


def test_dataset_is_complete_by_kaggles_rules(folders):
    dataset = folders / "dataset"
    copied = [f"{part}/{name}" for part in ("colorlib", "outputs/release") for name in files(tool.ROOT / part)]
    expected = {name for name in copied if "__pycache__" not in name}
    single = {"data/README.md", "pyproject.toml", "README.md", "LICENSE", "dataset-metadata.json"}
    assert set(files(dataset)) == expected | single and "colorlib/weights/release.safetensors" in expected
    told = metadata(dataset, "dataset")
    assert told["id"] == "some-one/colorlib" and 6 <= len(told["title"]) <= 50
    assert told["licenses"] == [{"name": "other"}] and "MIT" in told["description"], "MIT is not on Kaggle's list"


def test_each_notebook_is_a_kernel_by_kaggles_rules_and_nothing_is_left_over(folders):
    kernels = sorted(folders.glob("0*"))
    assert {kernel.name for kernel in kernels} == {path.stem for path in (tool.ROOT / "notebooks").glob("*.ipynb")}
    for kernel in kernels:
        told = metadata(kernel, "kernel")
        assert files(kernel) == [told["code_file"], "kernel-metadata.json"]
        name = re.sub(r"[^a-z0-9]+", "-", told["title"].lower())
        assert 5 <= len(told["title"]) <= 50 and told["id"] == f"some-one/{name}"
        assert (told["language"], told["kernel_type"], told["is_private"]) == ("python", "notebook", True)
        assert told["enable_gpu"] == bool(told["machine_shape"]) == (kernel.name == "03_training")
        on_coco = kernel.name in ("03_training", "04_evaluation")
        assert told["dataset_sources"] == ["some-one/colorlib"] + on_coco * ["awsaf49/coco-2017-dataset"]


@pytest.mark.slow
def test_first_cell_finds_package_and_release_in_an_owners_folder_too(folders, tmp_path, hidden_install):
    """Right below the inputs is where test_notebooks.py has them."""
    mount = tmp_path / "input" / "datasets" / "some-one" / "colorlib"
    shutil.copytree(folders / "dataset", mount)
    first = test_notebooks.code_cells(nbformat.read(folders / "05_demo" / "05_demo.ipynb", as_version=4))[0].source
    code = f"{first}\nfrom colorlib.checkpoint import find_run, repository_dir\nprint(repository_dir(), find_run())"
    kaggle = {"COLORLIB_KAGGLE_INPUT": str(tmp_path / "input"), "PYTHONPATH": str(hidden_install)}
    environment = os.environ | kaggle | {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True)
    assert printed.splitlines()[-1] == f"{mount} {mount / 'outputs' / 'release'}"


@pytest.mark.parametrize("said", [[], ["USER="], ["USER=Some One"], ["USER=some/one"]])
def test_a_bad_name_is_told_in_one_sentence(said):
    """Without USER=…, too: the login name, which every shell has as USER, is not taken for Kaggle's."""
    command = ["make", "--silent", "kaggle", f"PYTHON={sys.executable}", *said]
    done = subprocess.run(command, cwd=tool.ROOT, env=os.environ | {"USER": "login"}, capture_output=True, text=True)
    assert done.returncode and "say make kaggle USER=name" in done.stderr.splitlines()[0]
