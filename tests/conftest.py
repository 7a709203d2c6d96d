"""What all tests share: a quiet, private surrounding, small photos, and settings that train in milliseconds."""

import contextlib
import os
import subprocess
import sys

os.environ.setdefault("MPLBACKEND", "Agg")  # before anything imports matplotlib: no window, ever

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from colorlib.config import Config

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def private_surrounding(monkeypatch, tmp_path_factory):
    """Runs and caches go to temporary folders; no variable of Kaggle, of Colab or of this computer reaches a test."""
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG", "COLORLIB_COCO", "COLORLIB_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
    monkeypatch.setenv("COLORLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path_factory.mktemp("input") / "none"))
    torch.manual_seed(0)


@pytest.fixture
def outputs(private_surrounding):
    """The folder that COLORLIB_OUTPUTS names in this test."""
    return Path(os.environ["COLORLIB_OUTPUTS"])


def blobs(number: int, height: int = 40, width: int = 48) -> np.ndarray:
    """A smooth, colorful picture, another one for each number: uint8 (height, width, 3)."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    phase = np.random.default_rng(number).uniform(0, 6, (3, 3))
    waves = [np.sin(5 * x + a) * np.cos(4 * y + b) + 0.4 * np.sin(3 * x - 2 * y + c) for a, b, c in phase]
    return ((np.stack(waves, axis=-1) / 2.8 + 0.5) * 255).round().astype(np.uint8)


def files(folder: Path) -> list[str]:
    """The names of all files in a folder and below it, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def assert_same(a, b) -> None:
    """Two states, of tensors, numbers, lists and dicts, are equal bit for bit."""
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@contextlib.contextmanager
def small_disk(limit: int):
    """Let no file grow beyond so many bytes, as on a full disk: the last write is cut short, the next one fails."""
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def torchrun(*arguments: str, folder: Path | None = None) -> str:
    """Start a script or module in two processes; return what they print. Nothing may come on stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # else torchrun warns that it sets it
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


class Constant(nn.Module):
    """Guesses the same color everywhere; has a parameter, as a network has."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.color = nn.Parameter(torch.tensor([a, b]).view(1, 2, 1, 1))

    def forward(self, L, vividness=0.0):
        return self.color.expand(len(L), 2, *L.shape[-2:])


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory):
    """Ten photos, 48×40, as PNG files photo_00.png … photo_09.png. Shared: tests only read it."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(10):
        Image.fromarray(blobs(number)).save(folder / f"photo_{number:02d}.png")
    return folder


@pytest.fixture(scope="session")
def photos(photo_folder):
    """The paths of the ten photos."""
    return sorted(photo_folder.iterdir())


@pytest.fixture
def config():
    """A network and a training of milliseconds, with dropout and every augmentation switched on."""
    return Config(
        width=4, depth=4, dropout=0.5, image_size=16, photo_size=24, min_crop=0.4, flip=True, rotate=5.0,
        contrast=0.2, saturation=0.2, val_fraction=0.2, test_fraction=0.1, batch_size=4, learning_rate=2e-3,
        epochs=4, num_workers=0, samples=2, seed=3,
    )  # fmt: skip
