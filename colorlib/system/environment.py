"""Where the code runs: Kaggle, Colab or a computer of one's own, with which folders, versions and device."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import torch

PACKAGES = "torch torchvision numpy pillow scikit-image matplotlib pandas safetensors ipywidgets".split()  # noqa: SIM905
CPUINFO = Path("/proc/cpuinfo")  # Linux only


def platform_name() -> str:
    """Tell the platform: "kaggle", "colab" or "local"."""
    if os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):  # asked for first: Kaggle's image sets COLAB_RELEASE_TAG too
        return "kaggle"
    return "colab" if os.environ.get("COLAB_RELEASE_TAG") or "google.colab" in sys.modules else "local"


def kaggle_input() -> Path:
    """Folder of Kaggle's read-only inputs: the variable COLORLIB_KAGGLE_INPUT, else /kaggle/input."""
    return _folder("COLORLIB_KAGGLE_INPUT", "/kaggle/input")


def repository_dir() -> Path | None:
    """Folder of the repository that this package lies in, or None where only the package is installed."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() or (folder / ".git").exists() else None


def outputs_dir() -> Path:
    """Folder of the runs: COLORLIB_OUTPUTS, else /kaggle/working/outputs on Kaggle, else the repository's outputs/."""
    here = "/kaggle/working" if platform_name() == "kaggle" else repository_dir() or "."
    return _folder("COLORLIB_OUTPUTS", Path(here, "outputs"))


def data_dir() -> Path:
    """Folder of downloaded photos: COLORLIB_DATA_DIR, else data/ in the repository.

    Where the repository is read-only, it is data/ in the working folder. On Kaggle it is a temporary
    folder, since what lies in /kaggle/working is saved as the notebook's output.
    """
    if platform_name() == "kaggle":
        return _folder("COLORLIB_DATA_DIR", Path(tempfile.gettempdir(), "colorlib-data"))
    repository = repository_dir()
    here = repository if repository and os.access(repository, os.W_OK) else "."
    return _folder("COLORLIB_DATA_DIR", Path(here, "data"))


def cache_dir() -> Path:
    """Folder of photo caches, which may be deleted: COLORLIB_CACHE, else the repository's data/cache or a temporary."""
    repository = repository_dir() if platform_name() == "local" else None  # Kaggle would keep gigabytes of it
    temporary = Path(tempfile.gettempdir(), "colorlib-cache")
    return _folder("COLORLIB_CACHE", repository / "data" / "cache" if repository else temporary)


def available_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_environment() -> dict:
    """Describe what a result was made with, ready for JSON: no paths, no host names; "versions" by package."""
    installed = importlib.metadata.distributions
    processor = _cpuinfo("model name") or platform.processor() or platform.machine()
    return {
        "platform": platform_name(),
        "python": platform.python_version(),
        "versions": {name: next((d.version for d in installed(name=name)), "not installed") for name in PACKAGES},
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else processor,
        "cores": available_cores(),
        "commit": _commit(),
    }


def print_environment() -> None:
    """Print describe_environment() as aligned lines."""
    lines = describe_environment()
    lines |= lines.pop("versions")
    for name, value in lines.items():
        print(f"{name:<{max(map(len, lines))}}  {value}")


def pick_device(name: str | torch.device | None = None) -> torch.device:
    """The device named, or the best that works here: "cuda", "mps", else "cpu".

    Where no device was named and the best one cannot compute, the CPU takes its place, and a
    sentence says so. `ValueError` if the device that was named cannot be used.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    best = next(kind for kind, is_here in found.items() if is_here)
    try:
        return _try_device(best if name is None else name)
    except (RuntimeError, AssertionError) as error:  # no such device, or no such part in this PyTorch
        reason = str(error).partition("\n")[0]  # CUDA adds advice for its developers
        if name is not None:
            raise ValueError(
                f"device {str(name)!r} cannot be used here: {reason}; name another, such as cpu"
            ) from error
    print(f"The {best} device cannot be used here ({reason}): the CPU computes instead.")
    return torch.device("cpu")


def _try_device(name: str | torch.device) -> torch.device:
    """Compute a little on a device: a GPU may be there, and this PyTorch hold no kernels for it."""
    ones = torch.ones(1, 1, 4, 4, device=name)
    # a GPU does its work later: only reading the result tells whether it went well
    total = torch.nn.functional.conv2d(ones, ones).sum().item()
    if total != ones.numel():
        raise RuntimeError(f"the sum of sixteen ones came out as {total}")
    return ones.device


def pick_precision(device: torch.device, wanted: str = "auto") -> str:
    """The arithmetic wanted; for "auto", bfloat16 where it is native (a T4 imitates it), else float16 or float32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    native = {"avx512_bf16", "amx_bf16"} & set(_cpuinfo("flags").split())
    return "bfloat16" if device.type == "cpu" and native else "float32"


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device (for the CPU: in the computer)."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def used_memory(device: torch.device) -> int:
    """Bytes in use: on CUDA the most that PyTorch has held so far, else all of this process at the moment."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def progress_interval() -> float:
    """Seconds between two states of a progress bar: many where somebody looks; a log keeps every one of them."""
    watched = sys.stdout.isatty() or "ipykernel" in sys.modules
    return 0.5 if watched and os.environ.get("KAGGLE_KERNEL_RUN_TYPE") != "Batch" else 30.0


def _folder(variable: str, default: str | Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser()


def _cpuinfo(key: str) -> str:
    lines = CPUINFO.read_text(errors="replace").splitlines() if CPUINFO.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def _commit() -> str:
    folder = Path(__file__).resolve().parents[2] / ".git"  # named, or git would look in the folders above, too
    command = ["git", f"--git-dir={folder}", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or no commit yet
        return "unknown"
