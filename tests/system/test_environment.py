"""Platform, folders, devices and the description of the environment."""

import json
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
import torch
from imitated_gpu import ImitatedGpu

from colorlib.system import environment

KAGGLE, COLAB = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "COLAB_RELEASE_TAG": "x"}, {"COLAB_RELEASE_TAG": "x"}
CUDA, CPU, MPS = (torch.device(name) for name in ("cuda", "cpu", "mps"))


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    """The package lies in a folder that is no repository yet, and no variable is set."""
    for name in ("OUTPUTS", "CACHE", "KAGGLE_INPUT", "DATA_DIR"):
        monkeypatch.delenv(f"COLORLIB_{name}", raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "colorlib/system/environment.py"))


TEMPORARY, PHOTOS = (Path(tempfile.gettempdir()) / name for name in ("colorlib-cache", "colorlib-data"))
FOLDERS = [  # function, its variable, then where: installed only; in a repository, there on Kaggle, there on Colab
    ("outputs_dir", "OUTPUTS", Path("outputs"), "outputs", Path("/kaggle/working/outputs"), "outputs"),
    ("data_dir", "DATA_DIR", Path("data"), "data", PHOTOS, "data"),
    ("cache_dir", "CACHE", TEMPORARY, "data/cache", TEMPORARY, TEMPORARY),
    ("kaggle_input", "KAGGLE_INPUT", *[Path("/kaggle/input")] * 4),
]


@pytest.mark.parametrize("folders", FOLDERS)
@pytest.mark.parametrize("marker", ["pyproject.toml", ".git"])
def test_platform_and_folders(monkeypatch, tmp_path, folders, marker):
    name, variable, installed, *inside = folders
    assert environment.repository_dir() is None and getattr(environment, name)() == installed
    (tmp_path / marker).touch()
    assert environment.repository_dir() == tmp_path
    for tag, variables, where in zip(("local", "kaggle", "colab"), [{}, KAGGLE, COLAB], inside, strict=True):
        with monkeypatch.context() as patch:
            for key, value in variables.items():
                patch.setenv(key, value)
            assert environment.platform_name() == tag
            assert getattr(environment, name)() == (tmp_path / where if isinstance(where, str) else where)
            patch.setenv("HOME", str(tmp_path))
            patch.setenv(f"COLORLIB_{variable}", "~/mine")
            assert getattr(environment, name)() == tmp_path / "mine"
    assert [path.name for path in tmp_path.iterdir()] == [marker], "no folder is made"


def test_colabs_module_and_a_repository_that_is_read_only(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "google.colab", object())
    assert environment.platform_name() == "colab"
    (tmp_path / ".git").touch()
    monkeypatch.setattr(environment.os, "access", lambda path, mode: False)
    assert environment.data_dir() == Path("data")


def test_describe_and_print_environment(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    described = environment.describe_environment()
    assert list(described) == ["platform", "python", "versions", "device", "cores", "commit"]
    assert json.loads(json.dumps(described)) == described and described["device"]
    assert described["python"] == platform.python_version() and 1 <= described["cores"] <= psutil.cpu_count()
    assert described["versions"] == {"numpy": np.__version__, "no-such-package": "not installed"}
    assert str(tmp_path) not in json.dumps(described) and socket.gethostname() not in described.values()
    environment.print_environment()
    assert f"numpy{' ' * 12}{np.__version__}" in capsys.readouterr().out.splitlines()


def test_commit(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert environment.describe_environment()["commit"] == "unknown", "no commit yet"
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
    assert environment.describe_environment()["commit"] == commit
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/pyproject.toml").touch()
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "copy/colorlib/system/environment.py"))
    assert environment.describe_environment()["commit"] == "unknown", "another project's repository"


def test_pick_device():
    assert environment.pick_device("cpu") == environment.pick_device(CPU) == CPU
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert environment.pick_device().type == best
    with pytest.raises(ValueError, match=r"'cuda:99' cannot be used here.*name another, such as cpu"):
        environment.pick_device("cuda:99")


NO_KERNEL = "CUDA error: no kernel image is available for execution on the device\nCompile with `TORCH_USE_CUDA_DSA`"


@pytest.mark.parametrize("failure", [RuntimeError(NO_KERNEL), RuntimeError("out of memory"), [torch.zeros(1)] * 9])
def test_a_gpu_that_is_there_and_cannot_compute(monkeypatch, capsys, failure):
    """PyTorch's wheels leave old GPUs out, which shows only when the first kernel is launched."""
    with ImitatedGpu():
        assert environment.pick_device() == torch.device("cuda:0") and not capsys.readouterr().out
        monkeypatch.setattr(torch.nn.functional, "conv2d", Mock(side_effect=failure))
        assert environment.pick_device() == CPU
        reason = str(failure).partition("\n")[0] if isinstance(failure, Exception) else "came out as 0"
        said = capsys.readouterr().out
        assert said.startswith("The cuda device cannot be used here (") and reason in said
        assert said.endswith("the CPU computes instead.\n") and said.count("\n") == 1
        with pytest.raises(ValueError, match=r"'cuda' cannot be used here: .*; name another") as caught:
            environment.pick_device("cuda")
        assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("device", "native", "flags", "precision"),
    [(CUDA, False, "avx512_bf16", "float16"), (CUDA, True, "", "bfloat16"), (MPS, True, "amx_bf16", "float32"),
     (CPU, True, "fpu avx512f", "float32"), (CPU, True, "avx512_bf16x", "float32"),
     (CPU, False, "fpu avx512_bf16", "bfloat16"), (CPU, False, "amx_bf16 amx_tile", "bfloat16")],
)  # fmt: skip
def test_pick_precision(monkeypatch, tmp_path, device, native, flags, precision):
    """A T4 (native: False) supports bfloat16 by PyTorch's own, emulated, account."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(f"vmx flags\t: amx_bf16\nflags\t\t: {flags}\n\nflags\t: amx_bf16\n")
    assert environment.pick_precision(device) == precision
    assert {environment.pick_precision(device, name) for name in ("float32", "float16")} == {"float32", "float16"}
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "none")  # no Linux
    assert environment.pick_precision(CPU) == "float32"


def test_memory(monkeypatch):
    assert environment.free_memory(CPU) == pytest.approx(psutil.virtual_memory().available, rel=0.2)
    before = environment.used_memory(CPU)
    held = np.ones(2**26, np.uint8)
    assert environment.used_memory(CPU) - before == pytest.approx(held.nbytes, rel=0.2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3)
    assert environment.free_memory(CUDA) == 5 and environment.used_memory(CUDA) == 3


@pytest.mark.parametrize(
    ("terminal", "notebook", "kaggle", "seconds"),
    [(True, False, "", 0.5), (False, False, "", 30), (False, True, "", 0.5), (False, True, "Interactive", 0.5),
     (False, True, "Batch", 30), (True, False, "Batch", 30)],
)  # fmt: skip
def test_progress_is_shown_often_where_somebody_watches(monkeypatch, terminal, notebook, kaggle, seconds):
    """What runs on Kaggle in the background is saved with every state of its bars."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    if kaggle:
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", kaggle)
    assert environment.progress_interval() == seconds
