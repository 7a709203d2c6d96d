"""Write the folders that Kaggle's own command-line tool uploads: the package as a dataset, each notebook as a kernel.

python tools/kaggle.py NAME     NAME: whose account, as in kaggle.com/NAME

writes build/kaggle/dataset/ and a folder for each notebook, such as build/kaggle/03_training/. Uploads nothing, and
needs nothing but Python. README.md has the commands that come after it.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "kaggle"
CONTENT = ("colorlib", "outputs/release", "data/README.md", "pyproject.toml", "README.md", "LICENSE")
COCO = "awsaf49/coco-2017-dataset"
WITH_COCO = ("03_training", "04_evaluation")
WITH_GPU = ("03_training",)
TWO_T4 = "NvidiaTeslaT4"  # Kaggle's word for them


def write_folders(user: str, out: Path) -> None:
    """Write all folders into `out`, which is emptied first."""
    if out.exists():
        shutil.rmtree(out)
    write_dataset(user, out / "dataset")
    for notebook in sorted((ROOT / "notebooks").glob("0*.ipynb")):
        write_kernel(user, notebook, out / notebook.stem)


def write_dataset(user: str, folder: Path) -> None:
    """Copy the package and the release as they lie in the repository, so that both are found where this is attached."""
    for name in CONTENT:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    metadata = {
        "title": "colorlib",
        "id": f"{user}/colorlib",
        "description": "Image colorization in PyTorch: the package and its trained weights. MIT license, see LICENSE.",
        "licenses": [{"name": "other"}],  # Kaggle's list has no MIT: "other" is named in the description
    }
    (folder / "dataset-metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def write_kernel(user: str, notebook: Path, folder: Path) -> None:
    """Copy a notebook as it is (Kaggle's tool uploads none of its outputs) and say what it needs."""
    folder.mkdir(parents=True)
    shutil.copy(notebook, folder)
    title = f"colorlib {notebook.stem.replace('_', ' ')}"
    gpu = notebook.stem in WITH_GPU
    metadata = {
        "title": title,
        "id": f"{user}/{title.replace(' ', '-')}",  # Kaggle wants the title with hyphens, nothing else
        "code_file": notebook.name,
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": gpu,
        "machine_shape": TWO_T4 if gpu else "",
        "enable_internet": False,  # everything is attached
        "dataset_sources": [f"{user}/colorlib", *([COCO] if notebook.stem in WITH_COCO else [])],
        "competition_sources": [],
        "kernel_sources": [],
        "model_sources": [],
    }
    (folder / "kernel-metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def main() -> None:
    """Read the command line and write the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("user", help="whose account, as in kaggle.com/NAME")
    user = parser.parse_args().user
    if not re.fullmatch(r"[A-Za-z0-9_-]+", user):
        sys.exit(f"{user!r} is no Kaggle name: say make kaggle USER=name, with the name in the address kaggle.com/name")
    write_folders(user, OUT)
    print(f"wrote {OUT.relative_to(ROOT)}/: dataset and {len(list(OUT.glob('0*')))} notebooks (README.md, On Kaggle)")


if __name__ == "__main__":
    main()
