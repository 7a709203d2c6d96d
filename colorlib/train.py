"""The training loop, and its command line: ``python -m colorlib.train --preset seed --data DIR --run NAME``."""

import argparse
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from colorlib import checkpoint
from colorlib.checkpoint import LAST, SHIPPED, CheckpointError, RunRecorder, load_model, load_state, run_folder
from colorlib.config import PRESETS, Config
from colorlib.data import ColorizationDataset, Paths, find_photos, get_dataloader, split_photos
from colorlib.losses import ColorLoss
from colorlib.metrics import is_in_color
from colorlib.model import UNet, load_pretrained_encoder
from colorlib.system import PhotoCache
from colorlib.system import distributed as dist
from colorlib.system.environment import cache_dir, pick_device, pick_precision, progress_interval, used_memory
from colorlib.system.signals import stop_as_ctrl_c_does

LOOKED_AT = 100  # photos that tell whether a folder is one of gray photos
Batches = Iterable[dict[str, Tensor]]
OnEpoch = Callable[[pd.DataFrame, Path], None]


class TrainState:
    """All that changes while a network is trained: what a step needs, and what a continued run needs again.

    The optimizer changes `train_model`; `ema_model` is the moving average of its weights, None without one. `history`
    has a row for each finished epoch; of the epoch in progress, `step` batches are done. The learning rate follows its
    schedule over `total_steps`, the optimizer steps of the whole run.
    """

    def __init__(self, config: Config, device: torch.device, total_steps: int):
        self.config, self.device = config, device
        self.precision = pick_precision(device, config.precision)
        self.train_model = UNet(**config.network).to(device, memory_format=torch.channels_last)
        if config.palette and not config.palette_likelihood:  # nothing asks for the palette's spreads
            self.train_model.palette.spread.requires_grad_(False)
        if config.encoder:
            self.train_model.encoder.requires_grad_(config.encoder_rate > 0)
        self.ema_model: AveragedModel | None = None
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)
            self.ema_model = AveragedModel(self.train_model, multi_avg_fn=average, use_buffers=True)
        self.parallel_model: nn.Module = self.train_model  # what a step calls
        if dist.world_size() > 1:
            self.parallel_model = DistributedDataParallel(self.parallel_model)
        if config.compile:
            self.parallel_model = torch.compile(self.parallel_model)
        self.loss = ColorLoss(config.loss, config.palette_likelihood, config.perceptual).to(device)
        self.optimizer = torch.optim.AdamW(
            self._parameter_groups(), config.learning_rate, weight_decay=config.weight_decay,
            fused=device.type in ("cuda", "cpu"),  # all weights in one go
        )  # fmt: skip
        rise = max(1, config.warmup * total_steps)

        def factor(step: int) -> float:
            done = min(step / total_steps, 1)
            curves = {"constant": 1, "cosine": (1 + math.cos(math.pi * done)) / 2, "trapezoid": min(1, 4 * (1 - done))}
            return min(1, (step + 1) / rise) * curves[config.schedule]

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        half = torch.float16 if self.precision == "float16" else torch.bfloat16
        self.autocast = torch.autocast(device.type, half, enabled=self.precision != "float32")
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "float16")
        self.history: list[dict[str, float]] = []
        self.step, self.photos, self.loss_sum = 0, 0, torch.zeros((), device=device)
        self.parts = {  # what has a state of its own, by its name in last.pt
            "model": self.train_model, "ema_model": self.ema_model, "optimizer": self.optimizer,
            "schedule": self.schedule, "scaler": self.scaler,
        }  # fmt: skip

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """What learns, and how fast: a pretrained encoder has a learning rate of its own, or is frozen."""
        rate, model = self.config.learning_rate, self.train_model
        if not self.config.encoder:
            return [{"params": list(model.parameters()), "lr": rate}]
        pretrained = list(model.encoder.parameters())
        others = [parameter for parameter in model.parameters() if parameter not in set(pretrained)]
        groups = [{"params": others, "lr": rate}]
        if self.config.encoder_rate:
            groups.append({"params": pretrained, "lr": rate * self.config.encoder_rate})
        return groups

    @property
    def eval_model(self) -> nn.Module:
        """The network to validate and to keep: the moving average of the weights, or without one, `train_model`."""
        return self.ema_model.module if self.ema_model else self.train_model

    @property
    def epoch_seed(self) -> int:
        """What the order of the photos and the dropout of the epoch in progress start from."""
        return self.config.view_seed * 100_003 + len(self.history)

    def take_step(self, L: Tensor, ab: Tensor) -> None:
        """Change the weights once, by the gradient of the loss on a batch: L (B, 1, S, S) and true ab (B, 2, S, S)."""
        with self.autocast:
            predicted, palette = self.parallel_model(L, with_palette=True)
        loss = self.loss(L, predicted, ab, palette)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.ema_model:
            self.ema_model.update_parameters(self.train_model)
        self.step += 1
        self.photos += len(L)
        self.loss_sum += nn.functional.l1_loss(predicted.detach().float(), ab) * len(L)

    def start_from(self, run: str) -> None:
        """Take the weights of another run of the same network, found by `find_run`, in place of random ones."""
        model, config = load_model(checkpoint.find_run(run))
        theirs, mine = config.network | {"dropout": 0}, self.config.network | {"dropout": 0}  # which has no weights
        if theirs != mine:
            raise ValueError(f"start_from: run {run} has another network ({theirs}) than these settings ({mine})")
        self.train_model.load_state_dict(model.state_dict())  # the moving average begins as the first step's weights

    def end_epoch(self, row: dict[str, float]) -> None:
        """Note a finished epoch in the history, and get ready for the next one."""
        self.history.append(row)
        self.step, self.photos, self.loss_sum = 0, 0, torch.zeros((), device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """What continues the run from here; all processes have to call it together."""
        loss_sum, photos = dist.all_reduce_sum(self.loss_sum, self.photos, device=self.device)
        cuda = self.device.type == "cuda"
        return {
            **{name: part.state_dict() if part else {} for name, part in self.parts.items()},
            "random": {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if cuda else {}),
            "epoch": len(self.history),
            "step": self.step,
            "loss_sum": _number(loss_sum),  # before a broken network is written
            "photos": photos,
            "history": self.history,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, perhaps on another device or with another number of processes.

        `CheckpointError` if it is the state of something else.
        """
        try:
            self._load(saved)
        except torch.cuda.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:  # as its parts say it
            what = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{LAST} does not fit its settings ({what}): delete it to start anew") from error

    def _load(self, saved: dict[str, Any]) -> None:
        # as it is on this device, not on the device before; it also decides where Adam's step counts lie
        saved["optimizer"]["param_groups"][0]["fused"] = self.optimizer.param_groups[0]["fused"]
        for name, part in self.parts.items():
            may_be_empty = part is None or name == "scaler"  # without a moving average, without float16's scale
            if saved[name] or not may_be_empty:
                part.load_state_dict(saved[name])
        for weight, moments in self.optimizer.state.items():  # which the optimizer takes as they are
            if not moments["exp_avg"].shape == moments["exp_avg_sq"].shape == weight.shape:
                raise ValueError("the optimizer's averages have other shapes than the weights")
        self.history, self.step = saved["history"], saved["step"]
        if self.step < 0 or not isinstance(self.schedule.last_epoch, int):
            raise ValueError("its steps are not counted in whole numbers")
        if dist.rank() > 0:  # the sums and the random states are the first process's
            torch.manual_seed(self.epoch_seed + dist.rank() * 7919 + self.step)
            return
        self.photos = int(saved["photos"])
        self.loss_sum += saved["loss_sum"]
        torch.set_rng_state(saved["random"]["cpu"])
        if self.device.type == "cuda" and "cuda" in saved["random"]:
            torch.cuda.set_rng_state(saved["random"]["cuda"])


def train_epoch(
    state: TrainState, loader: Batches, title: str = "", after_step: Callable[[], None] | None = None
) -> tuple[float, float]:
    """Take one optimizer step a batch, and call `after_step` after it, over all batches of `get_dataloader`.

    Returns the mean L1 loss over the photos of the epoch, and the speed in images a second, of all processes together.
    """
    start = shown = time.perf_counter()
    before, interval = state.photos, progress_interval()
    state.train_model.train()
    often = {"mininterval": interval, "maxinterval": 30.0}  # tqdm itself would show it every 10 s
    with tqdm(loader, title, file=sys.stdout, leave=False, disable=dist.rank() > 0, **often) as bar:
        for batch in bar:
            state.take_step(batch["L"], batch["ab"])
            if after_step:
                after_step()
            if dist.rank() == 0 and time.perf_counter() - shown > interval:  # reading the loss waits for the device
                shown = time.perf_counter()
                speed = (state.photos - before) * dist.world_size() / (shown - start)
                loss, memory = _number(state.loss_sum.item()) / state.photos, used_memory(state.device) / 1e9
                told = {"loss": f"{loss:.4f}", "images_per_second": f"{speed:.0f}", "memory": f"{memory:.1f} GB"}
                bar.set_postfix(told, refresh=False)  # with the bar's next step
    total, photos = dist.all_reduce_sum(state.loss_sum, state.photos, device=state.device)
    return _number(total) / photos, (state.photos - before) * dist.world_size() / (time.perf_counter() - start)


@torch.no_grad()
def validate_epoch(state: TrainState, loader: Batches) -> tuple[float, float]:
    """Take the mean L1 loss over all photos of the loader: of the network, and of gray (ab = 0) for comparison."""
    model = state.eval_model.eval()
    sums = torch.zeros(3, device=state.device)  # of the network's loss, of gray's, and of photos
    dist.broadcast_from_main(model.buffers())  # the first process's batch statistics are those that are saved
    for batch in loader:
        L, ab = batch["L"], batch["ab"]
        with state.autocast:
            predicted = model(L)
        losses = nn.functional.l1_loss(predicted.float(), ab), ab.abs().mean(), torch.ones_like(sums[0])
        sums += torch.stack(losses) * len(L)
    loss, gray_loss, photos = dist.all_reduce_sum(*sums, device=state.device)
    return _number(loss) / photos, gray_loss / photos


def fit(
    config: Config, paths: Paths, run: str | os.PathLike, on_epoch: OnEpoch | None = None, device: str | None = None
) -> pd.DataFrame:
    """Train a network on photos; call it again with the same arguments to continue a run that was stopped or killed.

    On a CPU the same seed gives the same curve to the bit, stopped in between or not.

    Args:
        config: The settings.
        paths: The photos, all of them: they are split by `split_paths`.
        run: The folder of the run; a plain name means a folder in outputs/. On Kaggle, a run of that name among the
            inputs, such as an earlier session's output, is copied there and continued.
        on_epoch: Called after each epoch with the history and the path of the sample picture, in place of printing.
        device: "cuda", "cpu", …; None takes the best there is.

    Returns:
        A row an epoch, with the mean L1 losses of training, validation and of gray (ab = 0) on the validation photos.

    Raises:
        ValueError: If the run was begun with other settings or photos, or if its folder holds weights that it has not
            made.
        KeyboardInterrupt: After Ctrl-C or the stop button; finished epochs are safe.
    """
    run, device = run_folder(run), pick_device(device)
    if device.type == "cuda":  # all batches have one size: let it find its fastest convolutions once
        torch.backends.cudnn.benchmark = True
    if config.batch_size % dist.world_size():
        raise ValueError(f"batch_size {config.batch_size} cannot be shared evenly by {dist.world_size()} processes")
    source = checkpoint.find_start(run, config)
    split = split_photos(paths, config)
    saved = load_state(source, config, split)
    if source != run and dist.rank() == 0:
        print(f"{run.name} was begun in {source}: what it left there is copied to {run}")
        checkpoint.copy_record(source, run)
    if saved and saved["epoch"] >= config.epochs:
        _say(f"run {run.name} has its {saved['epoch']} epochs already: give it more, or another name to train anew")
        return pd.DataFrame(saved["history"])
    photos, val_photos = _serve_photos(split, config, device)
    share = (dist.rank(), dist.world_size())
    steps = {size: len(get_dataloader(served, config.batch_size, True, share=share)) for size, served in photos.items()}
    if not all(steps.values()):
        few = min(map(len, photos.values()))
        what = f"an epoch of {few} photos cannot be shared by {dist.world_size()} processes"
        raise ValueError(f"{what}: add photos, or start one process")
    val_loader = get_dataloader(val_photos, config.batch_size, share=share)
    torch.manual_seed(config.seed)
    state = TrainState(config, device, sum(steps[config.size_in(epoch)] for epoch in range(config.epochs)))
    if saved:
        state.load_state_dict(saved)
        _say(f"continuing {run.name} after epoch {saved['epoch']} of {config.epochs}, step {saved['step']}")
    elif config.start_from:
        state.start_from(config.start_from)
    elif config.encoder:
        load_pretrained_encoder(state.train_model, config.encoder_weights)
    # where validation photos are few, training photos fill the row of the sample pictures
    shown = [*val_photos.paths, *photos[config.image_size].paths][: config.samples]
    examples = get_dataloader(ColorizationDataset(shown, config, device=device), config.samples)
    recorder = RunRecorder(run, state, split, next(iter(examples)))
    save = partial(recorder.save_state, config.checkpoint_every)
    tell = on_epoch or (lambda history, _: print(epoch_line(history, config.epochs)))
    for epoch in range(len(state.history), config.epochs):
        start, served = time.perf_counter(), photos[config.size_in(epoch)]
        served.set_epoch(epoch)
        if state.step == 0:  # else the epoch goes on where it was stopped
            torch.manual_seed(state.epoch_seed + dist.rank() * 7919)
        loader = get_dataloader(served, config.batch_size, True, state.epoch_seed, state.step, share)
        try:
            train_loss, speed = train_epoch(state, loader, f"epoch {epoch + 1}/{config.epochs}", save)
        except KeyboardInterrupt:
            message = f"stopped in epoch {epoch + 1}; {epoch} epochs of {run.name} are safe: run this again to continue"
            raise KeyboardInterrupt(message) from None
        val_loss, gray_loss = validate_epoch(state, val_loader)
        row = {
            "epoch": epoch + 1, "photos": len(served), "train_loss": train_loss, "val_loss": val_loss,
            "gray_loss": gray_loss, "learning_rate": state.schedule.get_last_lr()[0], "images_per_second": speed,
            "seconds": time.perf_counter() - start, "memory_gb": used_memory(device) / 1e9,
        }  # fmt: skip
        state.end_epoch(row)
        picture = recorder.after_epoch()
        if dist.rank() == 0:
            tell(pd.DataFrame(state.history), picture)
        if epoch + 1 == config.small_epochs:
            served.lab = None  # make room for the larger photos
    return pd.DataFrame(state.history)


def _serve_photos(
    split: dict[str, list[Path]], config: Config, device: torch.device
) -> tuple[dict[int, ColorizationDataset], ColorizationDataset]:
    """The training photos at each size, px, that an epoch uses, and the photos to validate on."""
    if not split["val"]:
        _say("no photos to validate on: the training photos choose the best epoch")
    sizes = {config.size_in(epoch) for epoch in range(config.epochs)} | {config.image_size}
    with dist.main_process_first():  # it decodes the photos, the others find them in the cache
        photos = {size: ColorizationDataset(split["train"], config, True, device, cache_dir(), size) for size in sizes}
        val_photos = ColorizationDataset(split["val"] or split["train"], config, False, device, cache_dir())
    if dist.rank() == 0:
        _warn_of_gray(photos[config.image_size].photos)
    return photos, val_photos


def _warn_of_gray(photos: PhotoCache) -> None:
    """Say so if most photos are gray: a network that is trained on them learns to leave photos as they are."""
    every = -(-len(photos) // LOOKED_AT)
    rows = torch.arange(0, len(photos), every)
    gray = sum(not is_in_color(photos[row[None]][0].numpy()) for row in rows)
    if gray > len(rows) / 2:
        seen = f"{gray} of {len(rows)} training photos" + (" that were looked at" if every > 1 else "")
        print(f"note: {seen} are gray or nearly so: what they teach is gray; train on photos in color")


def epoch_line(history: pd.DataFrame, epochs: int) -> str:
    """Put the newest epoch of a run, from the table of `fit`, into a line."""
    row = history.iloc[-1]
    seconds = int(history["seconds"].mean() * (epochs - len(history)))
    best = "  best" if row["val_loss"] == history["val_loss"].min() else ""
    return (
        f"epoch {len(history):3d}/{epochs}  train {row['train_loss']:.4f}  val {row['val_loss']:.4f}  "
        f"(gray {row['gray_loss']:.4f})  {row['images_per_second']:.0f} img/s  {row['memory_gb']:.1f} GB  "
        f"{seconds // 60}:{seconds % 60:02d} min left{best}"
    )


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise FloatingPointError("the loss is no longer a number: lower learning_rate, or use precision float32")
    return value


def _say(text: str) -> None:
    if dist.rank() == 0:
        print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line; each setting of `Config` is an option. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m colorlib.train", description="Train a colorization network.")
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="where the settings start from")
    parser.add_argument("--data", metavar="DIR", help="folder of photos; default: COCO if found, else sample photos")
    # two names: torchrun takes --run for an option of its own
    name = "name in outputs/; default: the preset's, but my-release for that of the shipped release"
    parser.add_argument("--run", "--run-name", metavar="NAME", help=name)
    parser.add_argument("--device", help="cuda, cpu, …; default: the best there is")
    settings, fields = parser.add_argument_group("settings (defaults: the preset's)"), dataclasses.fields(Config)
    for field in fields:
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        kind |= {"choices": field.metadata["choices"]} if "choices" in field.metadata else {}
        settings.add_argument("--" + field.name.replace("_", "-"), help=field.metadata["help"], default=None, **kind)
    options = vars(parser.parse_args(arguments))
    stop_as_ctrl_c_does()
    given = {field.name: options[field.name] for field in fields if options[field.name] is not None}
    try:
        config = PRESETS[options["preset"]].replace(**given)
        paths = find_photos(options["data"] or "")
        preset = options["preset"]
        run = run_folder(options["run"] or (f"my-{preset}" if preset in SHIPPED else preset))
        with dist.process_group(options["device"]):
            fit(config, paths, run, device=options["device"])
            _say(f"done: {run}")
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped: run this again to continue'}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
