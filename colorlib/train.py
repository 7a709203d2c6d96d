"""The training loop, and its command line: ``python -m colorlib.train --preset seed --data DIR --run NAME``."""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from colorlib.checkpoint import (
    BEST,
    CheckpointError,
    check_same_run,
    describe_run,
    load_checkpoint,
    run_folder,
    save_checkpoint,
    save_model,
)
from colorlib.color import lab_to_rgb_image
from colorlib.config import PRESETS, Config
from colorlib.data import ColorizationDataset, find_images, get_dataloader, sample_photos, split_paths
from colorlib.environment import describe_environment, pick_device
from colorlib.files import replacing, write_text
from colorlib.losses import L1
from colorlib.model import UNet
from colorlib.plots import sample_grid

NO_NUMBER = "the loss is no longer a number: lower learning_rate, or use precision float32"

OnEpoch = Callable[[pd.DataFrame, Path], None]


def train_epoch(
    model: nn.Module,
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    precision: str = "float32",
    title: str = "",
) -> tuple[float, float]:
    """Take one optimiser step a batch, over all batches.

    loader: batches {"L": (B, 1, S, S), "ab": (B, 2, S, S)}. precision: "float32", or "bfloat16" for autocast.
    title: what the progress bar says. Returns the mean L1 loss over the photos and the speed in images a second.
    Raises `FloatingPointError` when the loss is no longer a number. Checked by tests/test_train.py: the loss falls.
    """
    device = next(model.parameters()).device
    loss_function = L1()
    total, count, start = 0.0, 0, time.perf_counter()
    model.train()
    with tqdm(loader, title, file=sys.stdout, leave=False, mininterval=0.5) as bar:
        for batch in bar:
            L, ab = batch["L"].to(device, non_blocking=True), batch["ab"].to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                predicted = model(L)
            loss = loss_function(predicted.float(), ab)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            total, count = total + loss.item() * len(L), count + len(L)
            if not math.isfinite(total):
                raise FloatingPointError(NO_NUMBER)
            speed = count / (time.perf_counter() - start)
            bar.set_postfix(loss=f"{total / count:.4f}", images_per_second=f"{speed:.0f}", refresh=False)
    return total / count, speed


@torch.no_grad()
def validate_epoch(model: nn.Module, loader: DataLoader, precision: str = "float32") -> tuple[float, float]:
    """The mean L1 loss over all photos of the loader: of the network, and of guessing gray (ab = 0) for comparison."""
    device = next(model.parameters()).device
    loss_function = L1()
    loss = gray_loss = 0.0
    model.eval()
    for batch in loader:
        L, ab = batch["L"].to(device), batch["ab"].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            predicted = model(L)
        loss += loss_function(predicted.float(), ab).item() * len(L)
        gray_loss += loss_function(torch.zeros_like(ab), ab).item() * len(L)
    count = len(loader.dataset)
    return loss / count, gray_loss / count


@torch.no_grad()
def save_some_examples(model: nn.Module, L: Tensor, ab: Tensor, path: str | os.PathLike) -> None:
    """Save a picture of three rows: the photos in gray, as the network colours them, and as they are.

    L: (B, 1, S, S), ab: (B, 2, S, S), scaled. path: of a PNG file.
    """
    device = next(model.parameters()).device
    model.eval()
    predicted = model(L.to(device)).float().cpu()
    rows = [
        [lab_to_rgb_image(*pair) for pair in zip(L, colors, strict=True)]
        for colors in (torch.zeros_like(ab), predicted, ab)
    ]
    with replacing(path) as temporary:
        Image.fromarray(sample_grid(rows)).save(temporary)


def fit(
    config: Config,
    paths: Sequence[str | os.PathLike],
    run: str | os.PathLike,
    on_epoch: OnEpoch | None = None,
    device: str | torch.device | None = None,
) -> pd.DataFrame:
    """Train a network on photos; call it again with the same arguments to continue a run that was stopped.

    paths: the photos, all of them: they are split by `split_paths`. run: the folder of the run; a plain name means a
    folder in outputs/. on_epoch: called after each epoch with the history so far and the path of the sample picture.
    device: "cuda", "cpu", …; None takes the best there is. Returns the history, a row an epoch: epoch, train_loss,
    val_loss, gray_loss (guessing ab = 0 on the same photos), learning_rate, images_per_second, seconds.
    Raises `ValueError` when the run was begun with other settings or photos, and `KeyboardInterrupt` again after
    Ctrl-C or the stop button: finished epochs are safe. On a CPU the same seed gives the same curve to the bit, stopped
    in between or not. Checked by tests/test_train.py.
    """
    run = run_folder(run)
    device = pick_device(device)
    split = split_paths(paths, config.val_fraction, config.test_fraction, config.seed)
    state = load_checkpoint(run / "last.pt") if (run / "last.pt").exists() else None
    if state is not None:
        if not {"model", "optimizer", "history"} <= set(state):
            raise CheckpointError(f"last.pt of run {run.name} is not the state of a run: delete it to start anew")
        check_same_run(run, config, split)
        if len(state["history"]) >= config.epochs:
            print(f"run {run.name} has its {len(state['history'])} epochs already")
            return pd.DataFrame(state["history"])
    describe_run(run, config, split)

    torch.manual_seed(config.seed)
    model = UNet(config.width, config.depth, config.dropout).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    history: list[dict] = []
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history = state["history"]
        print(f"continuing {run.name} after epoch {len(history)} of {config.epochs}")

    train_photos = ColorizationDataset(split["train"], config, augment=True)
    if not split["val"]:
        print("no photos to validate on: the training photos choose the best epoch")
    val_photos = ColorizationDataset(split["val"] or split["train"], config)
    val_loader = get_dataloader(val_photos, config.batch_size)
    examples = [val_photos[i] for i in range(min(config.samples, len(val_photos)))]
    if missing := config.samples - len(examples):  # few photos to validate on: some that are trained on follow
        examples += ColorizationDataset(train_photos.paths[:missing], config)
    L, ab = (torch.stack([example[key] for example in examples]) for key in ("L", "ab"))
    environment = describe_environment() | {"trained_on": str(device)}
    write_text(run / "environment.json", json.dumps(environment, indent=2) + "\n")

    for epoch in range(len(history), config.epochs):
        start = time.perf_counter()
        # everything random in an epoch hangs on its number alone, so that a continued run repeats nothing
        seed = config.seed * 100_003 + epoch
        torch.manual_seed(seed)
        train_photos.set_epoch(epoch)
        loader = get_dataloader(train_photos, config.batch_size, True, seed, config.num_workers)
        try:
            title = f"epoch {epoch + 1}/{config.epochs}"
            train_loss, speed = train_epoch(model, loader, optimizer, config.precision, title)
        except KeyboardInterrupt:
            message = f"stopped in epoch {epoch + 1}; {epoch} epochs of {run.name} are safe: run this again to continue"
            raise KeyboardInterrupt(message) from None
        val_loss, gray_loss = validate_epoch(model, val_loader, config.precision)
        if not math.isfinite(val_loss):  # the last step broke the weights: keep the state of the epoch before
            raise FloatingPointError(NO_NUMBER)
        best = val_loss < min((row["val_loss"] for row in history), default=math.inf)
        history.append(
            {
                "epoch": epoch + 1, "train_loss": train_loss, "val_loss": val_loss, "gray_loss": gray_loss,
                "learning_rate": config.learning_rate, "images_per_second": speed,
                "seconds": time.perf_counter() - start,
            }
        )  # fmt: skip
        table = pd.DataFrame(history)
        picture = run / "samples" / f"epoch_{epoch:03d}.png"  # counted from 000, the history from 1
        save_some_examples(model, L, ab, picture)
        if best:
            save_model(run / BEST, model, config, epoch=epoch + 1, val_loss=val_loss)
        if config.keep_every and (epoch + 1) % config.keep_every == 0:
            save_model(run / "weights" / f"epoch_{epoch:03d}.safetensors", model, config, epoch=epoch + 1)
        write_text(run / "history.csv", table.to_csv(index=False))
        # last of all: an epoch counts once this file is there
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history}
        save_checkpoint(run / "last.pt", state)
        print(
            f"epoch {epoch + 1:3d}/{config.epochs}  train {train_loss:.4f}  val {val_loss:.4f}  "
            f"(gray {gray_loss:.4f})  {speed:.0f} img/s  {_time_left(table, config.epochs)}{'  best' if best else ''}"
        )
        if on_epoch:
            on_epoch(table, picture)
    return table


def _time_left(history: pd.DataFrame, epochs: int) -> str:
    seconds = int(history["seconds"].mean() * (epochs - len(history)))
    return f"{seconds // 60}:{seconds % 60:02d} min left"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line; each setting of `Config` is an option. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m colorlib.train", description="Train a colorization network.")
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="where the settings start from")
    parser.add_argument("--data", metavar="DIR", help="folder of photos; default: the bundled sample photos")
    parser.add_argument("--run", metavar="NAME", help="name of the run in outputs/; default: the preset's name")
    parser.add_argument("--device", help="cuda, cpu, …; default: the best there is")
    settings = parser.add_argument_group("settings (defaults: the preset's)")
    for field in dataclasses.fields(Config):
        kind = {"action": argparse.BooleanOptionalAction} if field.type is bool else {"type": field.type}
        settings.add_argument("--" + field.name.replace("_", "-"), default=None, **kind)
    options = vars(parser.parse_args(arguments))
    names = {field.name for field in dataclasses.fields(Config)}
    changes = {name: value for name, value in options.items() if name in names and value is not None}
    try:
        config = PRESETS[options["preset"]].replace(**changes)
        paths = find_images(options["data"]) if options["data"] else sample_photos()
        run = run_folder(options["run"] or options["preset"])
        fit(config, paths, run, device=options["device"])
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{str(stop) or 'stopped: run this again to continue'}", file=sys.stderr)
        return 130
    print(f"done: {run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
