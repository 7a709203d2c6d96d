"""Weights and run state on disk: written whole, read safely; where runs lie, and the one finder of a run."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.utils import save_image

from colorlib.color import decode_lab, lab_to_rgb
from colorlib.config import Config
from colorlib.model import UNet
from colorlib.system.atomic import remove_leftovers, replacing, write_text
from colorlib.system.distributed import rank
from colorlib.system.environment import describe_environment, kaggle_input, outputs_dir, repository_dir

BEST, LAST = "best.safetensors", "last.pt"
RELEASE_RUN = "release"  # the run that colorlib ships
STATE = {"model", "ema_model", "optimizer", "schedule", "scaler", "random"}  # what `train.TrainState.state_dict` gives
STATE |= {"epoch", "step", "loss_sum", "photos", "history"}


class CheckpointError(ValueError):
    """A file that cannot be used as weights or as the state of a run; the message names it and says why."""


def save_checkpoint(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Write the state of a run, which is made of tensors, numbers, text, lists and dicts: whole or not at all."""
    try:
        with replacing(path) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises RuntimeError for a full disk
        raise OSError(f"{path} could not be written ({error}): make room; what was there before is safe") from error


def load_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, onto the CPU, executing nothing; `CheckpointError` if it is damaged."""
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
    """Load a trained network, in evaluation mode and float32, together with the settings that its pictures need.

    It lies in the folder of a run, or in a .safetensors file that `save_model` wrote. `FileNotFoundError` if there are
    no weights, `CheckpointError` if the file is damaged or belongs to another network.
    """
    path = Path(run, BEST) if os.path.isdir(run) else Path(run)
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
        with torch.device("meta"):  # no memory is taken before the file has shown that it holds such a network
            model = UNet(**config.network)
        wanted = model.state_dict()
        for name, weight in weights.items():
            if name in wanted and weight.is_floating_point() != wanted[name].is_floating_point():
                raise ValueError(f"{name} is of type {weight.dtype}")
            if not weight.isfinite().all():
                raise ValueError(f"{name} holds NaN or infinite values")
        model.load_state_dict(weights, assign=True)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path.name}: the weights do not fit their settings ({str(error)[:300]})") from error
    return model.eval().float().to(device), config


def run_folder(run: str | os.PathLike) -> Path:
    """The folder of a run: a plain name lies in outputs/, a path with a separator is taken as it is."""
    if Path(run).name in ("", ".."):
        raise ValueError(f"a run needs a name of its own, got {str(run)!r}")
    return outputs_dir() / run if Path(run).name == str(run) else Path(run)


def load_state(run: Path, config: Config, split: Mapping[str, Sequence[Path]]) -> dict[str, Any] | None:
    """Read what a run needs to go on, from its last.pt; None for a new run.

    `ValueError` if the run was begun with other photos, or with other settings than may change on the way, and
    `CheckpointError` if last.pt is something else.
    """
    if not (run / LAST).exists():
        return None
    state = load_checkpoint(run / LAST)
    if not isinstance(state, dict) or STATE - state.keys():
        raise CheckpointError(f"{LAST} of run {run.name} is not the state of a run: delete it to start anew")
    try:
        before = Config.from_json((run / "config.json").read_text(encoding="utf-8"))
        split_before = json.loads((run / "split.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = f"config.json or split.json of run {run.name} is missing or damaged ({error})"
        raise CheckpointError(f"{what}: copy them from a backup, or give the new run another name") from error
    fixed = [field.name for field in dataclasses.fields(Config) if not field.metadata.get("free")]
    pairs = [(name, getattr(before, name), getattr(config, name)) for name in fixed]
    if changed := [f"{name} was {old}, is {new}" for name, old, new in pairs if old != new]:
        raise ValueError(f"run {run.name} was begun otherwise ({'; '.join(changed)}): give the new run another name")
    if split_before != _relative(split):
        raise ValueError(f"run {run.name} was begun with other photos: give the new run another name")
    return state


def _relative(split: Mapping[str, Sequence[Path]]) -> dict[str, list[str]]:
    """The paths of a split from the folder that holds them all: the same wherever that folder lies."""
    root = os.path.commonpath([path.absolute().parent for paths in split.values() for path in paths])
    return {part: [Path(os.path.relpath(path, root)).as_posix() for path in paths] for part, paths in split.items()}


class RunRecorder:
    """Writes what a training leaves in its folder; of several processes, only the first one writes.

    `state` is a `train.TrainState`, `examples` is the batch of the photos in the sample pictures.
    """

    def __init__(self, run: Path, state: Any, split: Mapping[str, Sequence[Path]], examples: dict[str, Tensor]):
        self.run, self.state, self.examples = run, state, examples
        if rank() == 0:
            remove_leftovers(run, below=True)
            write_text(run / "config.json", state.config.to_json())
            write_text(run / "split.json", json.dumps(_relative(split), indent=1) + "\n")
            environment = describe_environment() | {"trained_on": str(state.device), "precision": state.precision}
            write_text(run / "environment.json", json.dumps(environment, indent=2) + "\n")

    def save_state(self, every: int = 1) -> None:
        """Write last.pt if `every` divides the epoch's steps so far (0 once it has ended); 0: never."""
        if every and self.state.step % every == 0:
            saved = self.state.state_dict()  # all processes together
            if rank() == 0:
                save_checkpoint(self.run / LAST, saved)

    def after_epoch(self) -> Path:
        """Write sample picture, weights, history, and last.pt last: with it an epoch counts. Returns the picture."""
        model, config, history = self.state.eval_model, self.state.config, pd.DataFrame(self.state.history)
        picture = self.run / "samples" / f"epoch_{len(history) - 1:03d}.png"  # counted from 000
        if rank() == 0:
            notes = {"epoch": len(history), "val_loss": history["val_loss"].iloc[-1]}
            save_some_examples(model, **self.examples, path=picture)
            if history["val_loss"].idxmin() == len(history) - 1:
                save_model(self.run / BEST, model, config, **notes)
            if config.keep_every and len(history) % config.keep_every == 0:
                save_model(self.run / "weights" / f"{picture.stem}.safetensors", model, config, **notes)
            write_text(self.run / "history.csv", history.to_csv(index=False))
        self.save_state()
        return picture


@torch.no_grad()
def save_some_examples(model: nn.Module, L: Tensor, ab: Tensor, path: str | os.PathLike) -> None:
    """Save a PNG of three rows: photos in gray, as the network colors them, and as they are.

    L is scaled lightness (B, 1, S, S), ab are the true scaled colors (B, 2, S, S).
    """
    predicted = model.eval()(L.to(next(model.parameters()).device)).float().cpu()
    L, ab = L.cpu(), ab.cpu()
    rgb = torch.cat([lab_to_rgb(decode_lab(L, colors)) for colors in (torch.zeros_like(ab), predicted, ab)])
    with replacing(path) as temporary:
        save_image(rgb, temporary, nrow=len(L), padding=4, pad_value=1)


def find_runs() -> dict[str, Path]:
    """Find the folders of all trained runs, by name: the release first, then the newest one.

    Looks in the outputs folder, then among Kaggle's inputs, then in the repository's outputs; of two runs of one name,
    the first that is found counts.
    """
    runs: dict[str, Path] = {}
    for folder in _run_places():
        # a data set made of a notebook's output may hold runs a few levels deep
        depths = range(1, 6) if folder == kaggle_input() else [1]
        weights = [path for depth in depths for path in folder.glob("*/" * depth + BEST)]
        for path in sorted(weights, key=os.path.getmtime, reverse=True):
            runs.setdefault(path.parent.name, path.parent)
    return dict(sorted(runs.items(), key=lambda run: (run[0] != RELEASE_RUN, -os.path.getmtime(run[1] / BEST))))


def _run_places() -> list[Path]:
    return [outputs_dir(), kaggle_input(), *([root / "outputs"] if (root := repository_dir()) else [])]


def find_run(name: str | os.PathLike | None = None) -> Path:
    """Find the folder of a trained run by its name or path; without one, the release, or else the newest run.

    `FileNotFoundError` if there is none; the message says where it looked.
    """
    if name and (Path(name) / BEST).is_file():
        return Path(name)
    runs = find_runs()
    if runs and (not name or str(name) in runs):
        return runs[str(name)] if name else next(iter(runs.values()))
    wanted = f"run {str(name)!r}" if name else "trained run"
    places = " or ".join(dict.fromkeys(map(str, _run_places())))
    raise FileNotFoundError(f"no {wanted} in {places}: train one with notebook 03 or `python -m colorlib.train`")
