"""Weights and run state on disk: written whole, read safely; where runs lie, and the one finder of a run."""

import dataclasses
import filecmp
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
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
from colorlib.system.atomic import remove_leftovers, replacing, write_text, write_whole
from colorlib.system.distributed import rank
from colorlib.system.environment import describe_environment, kaggle_input, outputs_dir, repository_dir

BEST, LAST, MACHINES = "best.safetensors", "last.pt", "environment.json"
SHIPPED = ("release",)  # runs that come with colorlib, the one to use first; no other run gets such a name
WEIGHTS = Path(__file__).resolve().parent / "weights"  # theirs, NAME.safetensors: they are installed with the package
TRIAL_SIDE = 16  # px, of the picture that loaded weights are tried on
RECORD = ("config.json", "split.json", MACHINES, "history.csv", "samples", "weights", BEST, LAST)  # what a run leaves
# what `train.TrainState.state_dict` gives
STATE = dict.fromkeys(("model", "ema_model", "optimizer", "schedule", "scaler", "random"), dict)
STATE |= {"epoch": int, "step": int, "loss_sum": float, "photos": int | float, "history": list}


class CheckpointError(ValueError):
    """A file that cannot be used as weights or as the state of a run; the message names it and says why."""


def save_checkpoint(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Write the state of a run, which is made of tensors, numbers, text, lists and dicts: whole or not at all."""
    try:
        # not into memory first: with Adam's two averages, it is three times the weights
        with replacing(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises RuntimeError, too, for a full disk
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
    write_whole(path, safetensors.torch.save(weights, metadata))


def load_model(run: str | os.PathLike, device: str | torch.device = "cpu") -> tuple[UNet, Config]:
    """Load a trained network, in evaluation mode and float32, together with the settings that its pictures need.

    It lies in the folder of a run, or in a .safetensors file that `save_model` wrote. `FileNotFoundError` if there are
    no weights, `CheckpointError` if the file is damaged, belongs to another network or gives no colors.
    """
    path = _weights_file(run)
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
            if name.endswith("running_var") and (weight < 0).any():  # its square root is taken
                raise ValueError(f"{name} is a variance, but holds negative values")
        model.load_state_dict(weights, assign=True)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path.name}: the weights do not fit their settings ({str(error)[:300]})") from error
    model = model.eval().float()
    # finite weights can still be so large that their products are not: NaN would be painted as black
    ramp = torch.linspace(-1, 1, TRIAL_SIDE**2).view(1, 1, TRIAL_SIDE, TRIAL_SIDE)
    with torch.no_grad():
        gives_colors = model(ramp).isfinite().all()
    if not gives_colors:
        message = f"{path.name}: the weights are too large, the colors are no numbers: copy or train it again"
        raise CheckpointError(message)
    return model.to(device), config


def _weights_file(run: str | os.PathLike) -> Path:
    """The file that holds a run's weights: in its folder, or, for a run that is shipped, in the package."""
    run = Path(run)
    is_shipped = run.name in SHIPPED and run.resolve() == _shipped_folder(run.name).resolve()
    if is_shipped and not (run / BEST).is_file():
        return WEIGHTS / f"{run.name}.safetensors"
    return run / BEST if run.is_dir() else run


def _shipped_folder(name: str) -> Path:
    """Where the record of a shipped run lies, if the repository is here, and where its scores go, if it is not."""
    repository = repository_dir()
    return (repository / "outputs" if repository else outputs_dir()) / name


def run_folder(run: str | os.PathLike) -> Path:
    """The folder of a run: a plain name lies in outputs/, a path with a separator is taken as it is."""
    if Path(run).name in ("", ".."):
        raise ValueError(f"a run needs a name of its own, got {str(run)!r}")
    return outputs_dir() / run if Path(run).name == str(run) else Path(run)


def find_start(run: Path, config: Config) -> Path:
    """The folder that a training in the folder `run` goes on from, if one of the two has been begun.

    That is `run` itself, or, if it has no last.pt, that of the same name among Kaggle's inputs: a session there ends
    after 12 hours, the next one begins with an empty folder, and the output of the one before can be attached. Of
    several, it is the one with the most epochs. `ValueError` if `run` holds weights that another training made.
    """
    for name in {run.name.lower(), run.resolve().name.lower()} & set(SHIPPED):
        raise ValueError(f"the run {name} comes with colorlib: give the new run another name, such as my-{name}")
    if (run / LAST).exists():
        return run
    if run.parent.resolve() == outputs_dir().resolve():
        found = [path.parent for path in _find_in_inputs(LAST) if path.parent.name == run.name]
        if found:
            return max(found, key=_count_epochs)
    if (run / BEST).exists() and not _is_first_epoch(run, config):
        what = f"{run} holds weights ({BEST}), but no {LAST} to continue their training"
        raise ValueError(f"{what}, which would write over them: give the new run another name, or move them away")
    return run


def _is_first_epoch(run: Path, config: Config) -> bool:
    """Whether a run's weights are of its first epoch, killed before last.pt was there: it makes the same ones again."""
    try:
        with safetensors.safe_open(run / BEST, framework="pt") as file:
            metadata = file.metadata() or {}
        return json.loads(metadata["notes"]).get("epoch") == 1 and Config.from_json(metadata["config"]) == config
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, AttributeError, RecursionError):
        return False


def _count_epochs(run: Path) -> int:
    history = run / "history.csv"  # without one, the first epoch has not ended
    return len(history.read_text(encoding="utf-8").splitlines()) if history.is_file() else 0


def copy_record(source: Path, run: Path) -> None:
    """Copy what a run has left so far into a new folder, last.pt last: with it the copy is complete."""
    if (run / BEST).exists() and not ((source / BEST).exists() and filecmp.cmp(source / BEST, run / BEST, False)):
        raise ValueError(f"{run / BEST} is not of the run that {source} holds: move it away, or give another name")
    for name in RECORD:
        inside = sorted((source / name).rglob("*")) if (source / name).is_dir() else [source / name]
        for path in inside:
            if path.is_file():
                with replacing(run / path.relative_to(source)) as temporary:
                    shutil.copyfile(path, temporary)  # without its rights: Kaggle's inputs are read-only


def load_state(run: Path, config: Config, split: Mapping[str, Sequence[Path]]) -> dict[str, Any] | None:
    """Read what a run needs to go on, from its last.pt; None for a new run.

    `ValueError` if the run was begun with other photos, or with other settings than may change on the way, and
    `CheckpointError` if last.pt is something else.
    """
    if not (run / LAST).exists():
        return None
    state = load_checkpoint(run / LAST)
    is_state = isinstance(state, dict) and all(isinstance(state.get(name), kind) for name, kind in STATE.items())
    if not is_state or not _is_history(state["history"], state["epoch"]):
        raise CheckpointError(f"{LAST} of run {run.name} is not the state of a run: delete it to start anew")
    try:
        before = Config.from_json((run / "config.json").read_text(encoding="utf-8"))
        split_before = json.loads((run / "split.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # JSON that is too deep
        what = f"config.json or split.json of run {run.name} is missing or damaged ({error})"
        raise CheckpointError(f"{what}: copy them from a backup, or give the new run another name") from error
    fixed = [field.name for field in dataclasses.fields(Config) if not field.metadata.get("free")]
    pairs = [(name, getattr(before, name), getattr(config, name)) for name in fixed]
    if changed := [f"{name} was {old}, is {new}" for name, old, new in pairs if old != new]:
        raise ValueError(f"run {run.name} was begun otherwise ({'; '.join(changed)}): give the new run another name")
    if split_before != _relative(split):
        raise ValueError(f"run {run.name} was begun with other photos: give the new run another name")
    return state


def _is_history(rows: list, epochs: int) -> bool:
    """Whether these are the rows of so many epochs, with the numbers that the next epoch is compared with."""
    return len(rows) == epochs and all(isinstance(row, dict) and isinstance(row.get("val_loss"), float) for row in rows)


def read_machines(run: Path) -> list[dict[str, Any]]:
    """Read what a run was trained on, from its environment.json: one entry for each machine, the first one first."""
    path = run / MACHINES
    if not path.exists():
        return []
    try:
        machines = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{MACHINES} of run {run.name} is damaged ({error}): delete it") from error
    return machines if isinstance(machines, list) else [machines]  # an earlier version kept the last one only


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
            machines = read_machines(run) if state.history or state.step else []  # those before, of a continued run
            here = describe_environment() | {"trained_on": str(state.device), "precision": state.precision}
            if here not in machines:
                machines.append(here)
            write_text(run / MACHINES, json.dumps(machines, indent=2) + "\n")

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
    encoded = io.BytesIO()
    save_image(rgb, encoded, format="png", nrow=len(L), padding=4, pad_value=1)
    write_whole(path, encoded.getbuffer())


def find_runs() -> dict[str, Path]:
    """Find the folders of all trained runs, by name: the release first, then the newest one.

    Looks in the outputs folder, then among Kaggle's inputs, then in the repository's outputs; of two runs of one name,
    the first that is found counts. The runs that are shipped come last: their weights lie in the package.
    """
    runs: dict[str, Path] = {}
    for folder in _run_places():
        weights = _find_in_inputs(BEST) if folder == kaggle_input() else folder.glob(f"*/{BEST}")
        for path in sorted(weights, key=os.path.getmtime, reverse=True):
            runs.setdefault(path.parent.name, path.parent)
    for name in SHIPPED:
        if (WEIGHTS / f"{name}.safetensors").is_file():
            runs.setdefault(name, _shipped_folder(name))
    order = {name: number for number, name in enumerate(SHIPPED)}

    def place(run: tuple[str, Path]) -> tuple[int, float]:
        name, folder = run
        return order.get(name, len(order)), -os.path.getmtime(_weights_file(folder))

    return dict(sorted(runs.items(), key=place))


def _run_places() -> list[Path]:
    return [outputs_dir(), kaggle_input(), *([root / "outputs"] if (root := repository_dir()) else [])]


def _find_in_inputs(name: str) -> Iterator[Path]:
    """Files of runs among Kaggle's inputs: a data set made of a notebook's output may hold them a few levels deep."""
    for depth in range(1, 6):
        yield from kaggle_input().glob("*/" * depth + name)


def find_run(name: str | os.PathLike | None = None) -> Path:
    """Find the folder of a trained run by its name or path; without one, the release, or else the newest run.

    The folder of a shipped run need not exist where only the package is installed: `load_model` has its weights.
    `FileNotFoundError` if there is none; the message says where it looked.
    """
    if name:
        weights = _weights_file(name)
        if weights.is_file() and weights != Path(name):
            return Path(name)
    runs = find_runs()
    if runs and (not name or str(name) in runs):
        return runs[str(name)] if name else next(iter(runs.values()))
    wanted = f"run {str(name)!r}" if name else "trained run"
    places = " or ".join(dict.fromkeys(map(str, _run_places())))
    raise FileNotFoundError(f"no {wanted} in {places}: train one with notebook 03 or `python -m colorlib.train`")
