"""Platform, folders and the description of the environment."""

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from colorlib import environment


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """A computer that is neither Kaggle's nor Colab's and where no variable is set."""
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("COLORLIB_OUTPUTS", "COLORLIB_CACHE", "COLORLIB_KAGGLE_INPUT"):
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


def test_cache_dir_in_a_repository(tmp_path, package_in):
    package_in(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert environment.cache_dir() == tmp_path / "data" / "cache"
    assert not (tmp_path / "data").exists(), "it is not created here"


@pytest.mark.parametrize(
    "variables", [{"KAGGLE_KERNEL_RUN_TYPE": "Batch", "COLAB_RELEASE_TAG": "x"}, {"COLAB_RELEASE_TAG": "x"}]
)
def test_cache_dir_on_kaggle_and_colab(tmp_path, package_in, monkeypatch, variables):
    """Kaggle would keep what lies in the repository's folder as the notebook's output: gigabytes."""
    package_in(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    folder = environment.cache_dir()
    assert folder.parent == Path(tempfile.gettempdir()) and folder.name == "colorlib-cache"
    assert not folder.is_relative_to(tmp_path)


def test_cache_dir_without_a_repository(tmp_path, package_in, monkeypatch):
    package_in(tmp_path / "site-packages")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert environment.cache_dir() == tmp_path / "temporary" / "colorlib-cache"


@pytest.mark.parametrize("tag", ["KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG", "ELSEWHERE"])
def test_cache_dir_that_is_chosen(tmp_path, monkeypatch, tag):
    monkeypatch.setenv(tag, "x")
    monkeypatch.setenv("COLORLIB_CACHE", str(tmp_path / "mine"))
    assert environment.cache_dir() == tmp_path / "mine" and not (tmp_path / "mine").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLORLIB_CACHE", "~/photos")
    assert environment.cache_dir() == tmp_path / "photos"


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


CUDA, CPU, MPS = (torch.device(name) for name in ("cuda", "cpu", "mps"))


@pytest.fixture
def hardware(monkeypatch):
    """Pretends to be a computer whose GPU has bfloat16, or imitates it, and whose processor has some flags."""

    def pretend(native: bool = False, flags: str = ""):
        def is_bf16_supported(including_emulation: bool = True) -> bool:  # PyTorch's own says yes for a T4
            return native or including_emulation

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
        monkeypatch.setattr(environment, "_cpu_flags", lambda: set(flags.split()))

    return pretend


def test_precision_of_a_gpu(hardware):
    hardware(native=False, flags="avx512_bf16")  # a T4 beside a new processor
    assert environment.pick_precision(CUDA) == "float16"
    hardware(native=True)  # Ampere and later
    assert environment.pick_precision(CUDA) == environment.pick_precision(torch.device("cuda:1"), "auto") == "bfloat16"


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("", "float32"), ("fpu sse2 avx2 avx512f avx512_vnni", "float32"), ("fpu amx_tile amx_int8", "float32"),
     ("fpu avx512f avx512_bf16", "bfloat16"), ("fpu amx_bf16 amx_tile", "bfloat16"), ("avx512_bf16x", "float32")],
)  # fmt: skip
def test_precision_of_a_processor(hardware, flags, precision):
    hardware(native=True, flags=flags)
    assert environment.pick_precision(CPU) == precision


def test_precision_of_a_mac(hardware):
    hardware(native=True, flags="avx512_bf16 amx_bf16")
    assert environment.pick_precision(MPS) == "float32"


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("native", [False, True])
def test_a_precision_that_is_asked_for_is_taken(hardware, wanted, native):
    hardware(native=native, flags="avx512_bf16" if native else "")
    assert {environment.pick_precision(device, wanted) for device in (CUDA, CPU, MPS)} == {wanted}


def test_flags_of_the_processor(monkeypatch):
    text = "processor\t: 0\nmodel name\t: A\nflags\t\t: fpu avx2 amx_bf16\nvmx flags\t: vnmi\n\nflags\t\t: other\n"
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    monkeypatch.setattr(Path, "read_text", lambda path, **options: text)
    assert {"fpu", "avx2", "amx_bf16"} <= environment._cpu_flags() and "other" not in environment._cpu_flags()
    monkeypatch.setattr(Path, "read_text", lambda path, **options: "processor\t: 0\nFeatures\t: fp asimd\n")  # ARM
    assert environment._cpu_flags() == set()
    monkeypatch.setattr(Path, "is_file", lambda path: False)  # no Linux
    assert environment._cpu_flags() == set() and environment.pick_precision(CPU) == "float32"


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="needs Linux")
def test_precision_here_is_that_of_this_processor():
    words = Path("/proc/cpuinfo").read_text().split()
    native = "avx512_bf16" in words or "amx_bf16" in words
    assert environment.pick_precision(CPU) == ("bfloat16" if native else "float32")


def test_free_memory_of_the_computer():
    free = environment.free_memory(CPU)
    assert type(free) is int and 2**20 < free <= psutil.virtual_memory().total
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    assert environment.free_memory(MPS) == pytest.approx(free, rel=0.2), "a Mac's GPU shares the computer's memory"


def test_used_memory_grows_with_what_this_process_holds():
    before = environment.used_memory(CPU)
    assert type(before) is int and before == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    held = np.ones(2**26, np.uint8)
    assert environment.used_memory(CPU) - before == pytest.approx(held.nbytes, rel=0.2)


def test_memory_of_a_gpu_is_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9) if device == CUDA else None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 if device == CUDA else None)
    assert environment.free_memory(CUDA) == 5 and environment.used_memory(CUDA) == 3
