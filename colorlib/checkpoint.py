"""Weights and run state on disk: written whole, read safely."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from colorlib.config import Config
from colorlib.environment import kaggle_input, outputs_dir, repository_dir
from colorlib.files import replacing, write_text
from colorlib.model import UNet

BEST, LAST = "best.safetensors", "last.pt"
RELEASE_RUN = "release"  # the run that colorlib ships
# settings that may change without making a continued run another run
MAY_CHANGE = {"epochs", "compile", "num_workers", "checkpoint_every", "keep_every", "samples", "test_flips"}
# what `state.Training.state_dict` gives
STATE = {"model", "running", "optimizer", "schedule", "scaler", "random"}
STATE |= {"epoch", "step", "loss_sum", "photos", "history"}


class CheckpointError(ValueError):
    """A file that cannot be used as weights or as the state of a run; the message names it and says why."""


def save_checkpoint(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Write the state of a run (tensors, numbers, text, lists and dicts of them), whole or not at all."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU; nothing in the file is ever executed.

    Raises `CheckpointError` for a damaged or foreign file, `FileNotFoundError` for a missing one.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # torch.load raises many kinds for files that are not its own
        raise CheckpointError(f"{Path(path).name} is damaged or no checkpoint: delete it to start anew") from error


def save_model(path: str | os.PathLike, model: UNet, config: Config, **notes: Any) -> None:
    """Write a network's weights as safetensors; the settings, and notes such as the epoch, go into its metadata."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"config": config.to_json(), "notes": json.dumps(notes)}
    with replacing(path) as temporary:
        safetensors.torch.save_file(weights, temporary, metadata=metadata)


def load_model(run: str | os.PathLike, device: str | torch.device = "cpu") -> tuple[UNet, Config]:
    """Load a trained network together with the settings that its pictures need.

    run: the folder of a run, or a .safetensors file that `save_model` wrote. Returns the network in evaluation mode,
    float32, on `device`, and its `Config`. Raises `FileNotFoundError` when there are no weights, and
    `CheckpointError` when the file is damaged or belongs to another network. Checked by tests/test_checkpoint.py.
    """
    path = Path(run)
    path = path / BEST if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no trained weights at {path}: train with notebook 03 or `python -m colorlib.train`")
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except safetensors.SafetensorError as error:
        message = f"{path.name} is damaged or no safetensors file ({error}): copy or train it again"
        raise CheckpointError(message) from error
    if "config" not in metadata:
        raise CheckpointError(f"{path.name} holds no settings: it was not written by colorlib")
    try:
        config = Config.from_json(metadata["config"])
        model = UNet(*config.network)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path.name}: the weights do not fit their settings ({error})") from error
    return model.eval().to(device), config


def run_folder(run: str | os.PathLike) -> Path:
    """The folder of a run: a plain name lies in outputs/, a path with a separator is taken as it is."""
    if Path(run).name in ("", ".."):
        raise ValueError(f"a run needs a name of its own, got {str(run)!r}")
    return outputs_dir() / run if Path(run).name == str(run) else Path(run)


def describe_run(run: Path, config: Config, split: Mapping[str, Sequence[Path]]) -> None:
    """Write what a run is made from: config.json, and split.json, which names the photos of each part."""
    write_text(run / "config.json", config.to_json())
    write_text(run / "split.json", json.dumps(_relative(split), indent=1) + "\n")


def load_state(run: Path, config: Config, split: Mapping[str, Sequence[Path]]) -> dict[str, Any] | None:
    """What a run needs to go on, from its last.pt; None for a new run.

    Raises `ValueError` when the run was begun with other photos, or other settings than may change on the way, and
    `CheckpointError` when last.pt is something else.
    """
    if not (run / LAST).exists():
        return None
    state = load_checkpoint(run / LAST)
    if not isinstance(state, dict) or STATE - state.keys():
        raise CheckpointError(f"{LAST} of run {run.name} is not the state of a run: delete it to start anew")
    before = dataclasses.asdict(Config.from_json((run / "config.json").read_text(encoding="utf-8")))
    now = dataclasses.asdict(config)
    changed = [f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]]
    changed = [change for change in changed if change.split()[0] not in MAY_CHANGE]
    if changed:
        raise ValueError(f"run {run.name} was begun otherwise ({'; '.join(changed)}): give the new run another name")
    if json.loads((run / "split.json").read_text(encoding="utf-8")) != _relative(split):
        raise ValueError(f"run {run.name} was begun with other photos: give the new run another name")
    return state


def _relative(split: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
    """The paths of a split from the folder that holds them all: the same wherever that folder lies."""
    root = os.path.commonpath([path.absolute().parent for paths in split.values() for path in paths])
    return {part: [Path(os.path.relpath(path, root)).as_posix() for path in paths] for part, paths in split.items()}


def find_run(name: str | None = None) -> Path:
    """Find the folder of a trained run.

    name: a run's name, or the path of its folder; empty: the release, or where there is none, the newest run. Looks in
    the outputs folder, then among Kaggle's inputs, then in the repository's outputs. Raises `FileNotFoundError` that
    says where it looked.
    """
    if name and (Path(name) / BEST).is_file():
        return Path(name)
    folders = [outputs_dir(), kaggle_input()]
    if repository := repository_dir():
        folders.append(repository / "outputs")
    # a run lies directly in outputs/; a data set made of a notebook's output may hold it a few levels deeper
    deep = ["*", "*/*", "*/*/*", "*/*/*/*", "*/*/*/*/*"]
    for chosen in [name] if name else [RELEASE_RUN, "*"]:
        for folder in folders:
            depths = deep if folder == kaggle_input() else ["*"]
            runs = [path.parent for depth in depths for path in folder.glob(f"{depth}/{BEST}")]
            if runs := [run for run in runs if chosen in ("*", run.name)]:
                return max(runs, key=lambda run: (run / BEST).stat().st_mtime)
    wanted = f"run {name!r}" if name else "trained run"
    places = " or ".join(dict.fromkeys(str(folder) for folder in folders))
    raise FileNotFoundError(f"no {wanted} in {places}: train one with notebook 03 or `python -m colorlib.train`")
