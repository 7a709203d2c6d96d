"""Platform, folders and the description of the environment."""

import json
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from colorlib import environment


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """A computer that is neither Kaggle's nor Colab's and where no variable is set."""
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG", "COLORLIB_OUTPUTS", "COLORLIB_KAGGLE_INPUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)


@pytest.fixture
def package_in(monkeypatch):
    """Lets the package lie in another folder."""
    return lambda folder: monkeypatch.setattr(environment, "__file__", str(folder / "colorlib/environment.py"))


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_platform_name(monkeypatch):
    assert environment.platform_name() == "local"
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert environment.platform_name() == "colab"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")  # with Colab's variable beside it, as on Kaggle
    assert environment.platform_name() == "kaggle"


def test_platform_name_by_colabs_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", object())
    assert environment.platform_name() == "colab"


def test_kaggle_input(monkeypatch, tmp_path):
    assert environment.kaggle_input() == Path("/kaggle/input")
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path))
    assert environment.kaggle_input() == tmp_path


@pytest.mark.parametrize("marker", ["pyproject.toml", ".git"])
def test_repository_dir(tmp_path, package_in, marker):
    package_in(tmp_path)
    assert environment.repository_dir() is None
    (tmp_path / marker).touch()
    assert environment.repository_dir() == tmp_path


def test_outputs_dir(monkeypatch, tmp_path, package_in):
    package_in(tmp_path)
    assert environment.outputs_dir() == Path("outputs")
    (tmp_path / "pyproject.toml").touch()
    assert environment.outputs_dir() == tmp_path / "outputs"
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert environment.outputs_dir() == Path("/kaggle/working/outputs")
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(tmp_path / "mine"))
    assert environment.outputs_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


def test_describe_environment():
    described = environment.describe_environment()
    assert set(described) == {"platform", "python", "versions", "device", "cores", "commit"}
    assert json.loads(json.dumps(described)) == described
    assert described["python"] == platform.python_version()
    assert tuple(described["versions"]) == environment.PACKAGES
    assert described["versions"]["pillow"] != "not installed"
    assert described["device"] and 1 <= described["cores"] <= os.cpu_count()
    assert str(Path(environment.__file__).parent.parent) not in json.dumps(described)
    assert socket.gethostname() not in (*described.values(), *described["versions"].values())


def test_missing_package(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    versions = environment.describe_environment()["versions"]
    assert versions["no-such-package"] == "not installed" and versions["numpy"][0].isdigit()


def test_commit(tmp_path, package_in):
    git(tmp_path, "init", "-q")
    package_in(tmp_path)
    assert environment.describe_environment()["commit"] == "unknown"  # no commit yet
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    assert environment.describe_environment()["commit"] == git(tmp_path, "rev-parse", "--short", "HEAD")


def test_commit_is_not_that_of_a_repository_above(tmp_path, package_in):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/pyproject.toml").touch()
    package_in(tmp_path / "copy")
    assert environment.describe_environment()["commit"] == "unknown"


def test_commit_without_git(monkeypatch, tmp_path, package_in):
    (tmp_path / ".git").mkdir()
    package_in(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.describe_environment()["commit"] == "unknown"


def test_print_environment(capsys):
    environment.print_environment()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 + len(environment.PACKAGES)
    column = len("scikit-image") + 2  # the longest name
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
    assert any(line.split() == ["python", platform.python_version()] for line in lines)


def test_pick_device():
    assert environment.pick_device("cpu") == environment.pick_device(torch.device("cpu")) == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert environment.pick_device().type == expected
    with pytest.raises(ValueError, match="'cuda:99' cannot be used here"):
        environment.pick_device("cuda:99")
