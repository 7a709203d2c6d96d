"""Where the code runs: Kaggle, Colab or a computer of one's own, with which versions and which device."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "scikit-image",
    "matplotlib",
    "pandas",
    "safetensors",
    "ipywidgets",
)


def platform_name() -> str:
    """Tell the platform: "kaggle", "colab" or "local".

    Kaggle is asked for first: its image is built on Colab's and sets COLAB_RELEASE_TAG too.
    Checked by tests/test_environment.py::test_platform_name.
    """
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):
        return "kaggle"
    if os.environ.get("COLAB_RELEASE_TAG") or "google.colab" in sys.modules:
        return "colab"
    return "local"


def kaggle_input() -> Path:
    """Folder of Kaggle's read-only inputs: the variable COLORLIB_KAGGLE_INPUT, else /kaggle/input.

    Checked by tests/test_environment.py::test_kaggle_input.
    """
    return Path(os.environ.get("COLORLIB_KAGGLE_INPUT") or "/kaggle/input")


def repository_dir() -> Path | None:
    """Folder of the repository that this package lies in, or None where only the package is installed.

    Checked by tests/test_environment.py::test_repository_dir.
    """
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() or (folder / ".git").exists() else None


def outputs_dir() -> Path:
    """Folder that holds one folder for each run; it is not created here.

    The variable COLORLIB_OUTPUTS, else /kaggle/working/outputs on Kaggle, else `outputs` in the repository,
    else `outputs` in the current folder. Checked by tests/test_environment.py::test_outputs_dir.
    """
    if chosen := os.environ.get("COLORLIB_OUTPUTS"):
        return Path(chosen).expanduser()
    if platform_name() == "kaggle":
        return Path("/kaggle/working/outputs")
    return (repository_dir() or Path()) / "outputs"


def cache_dir() -> Path:
    """Folder of the photo caches, which can be deleted at any time; it is not created here.

    The variable COLORLIB_CACHE, else data/cache in the repository; on Kaggle and Colab, and without a repository, in
    the system's folder for temporary files. Checked by tests/test_environment.py.
    """
    if chosen := os.environ.get("COLORLIB_CACHE"):
        return Path(chosen).expanduser()
    repository = repository_dir()
    if repository and platform_name() == "local":
        return repository / "data" / "cache"
    return Path(tempfile.gettempdir()) / "colorlib-cache"


def available_cores() -> int:
    """How many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def describe_environment() -> dict:
    """Describe what a result was made with, ready for JSON and free of paths and host names.

    Returns a dict with "platform", "python", "versions" (package → version or "not installed"), "device"
    (the first CUDA device's name, or the CPU's model), "cores" (that this process may use) and "commit"
    (short hash or "unknown"). Checked by tests/test_environment.py::test_describe_environment.
    """
    return {
        "platform": platform_name(),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "device": _device_name(),
        "cores": available_cores(),
        "commit": _commit(),
    }


def print_environment() -> None:
    """Print describe_environment() as aligned lines; tests/test_environment.py::test_print_environment."""
    lines = describe_environment()
    lines |= lines.pop("versions")
    for name, value in lines.items():
        print(f"{name:<{max(map(len, lines))}}  {value}")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _device_name() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return next(filter(None, models), platform.processor() or platform.machine())


def _commit() -> str:
    folder = repository_dir()
    if not folder or not (folder / ".git").exists():  # git itself would look in the folders above, too
        return "unknown"
    command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, no commit yet, or someone else's folder
        return "unknown"


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device to compute on: the one named, or the best that PyTorch finds here ("cuda", "mps", else "cpu").

    Raises `ValueError` for a device that cannot be used here. Checked by tests/test_environment.py.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # no such device, or no such part in this PyTorch
        raise ValueError(f"device {str(name)!r} cannot be used here: {error}") from error


def pick_precision(device: torch.device, wanted: str = "auto") -> str:
    """The arithmetic for a device: "bfloat16" where it is native, else "float16" on CUDA, else "float32".

    wanted: "auto", or one of the three, which is taken as it is. Native means more than possible: a T4 only imitates
    bfloat16, and so does a processor without AVX-512's or AMX's instructions for it. Checked by
    tests/test_environment.py.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if device.type == "cpu" and {"avx512_bf16", "amx_bf16"} & _cpu_flags() else "float32"


def _cpu_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else ""
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device (for the CPU: in the computer)."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def used_memory(device: torch.device) -> int:
    """Bytes in use: on CUDA the most that PyTorch has held so far, else all of this process at the moment."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
