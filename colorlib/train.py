"""The training loop, and its command line: ``python -m colorlib.train --preset seed --data DIR --run NAME``."""

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from colorlib.checkpoint import BEST, LAST, describe_run, load_state, run_folder, save_checkpoint, save_model
from colorlib.config import PRESETS, Config
from colorlib.data import ColorizationDataset, find_photos, get_dataloader, split_paths
from colorlib.environment import cache_dir, describe_environment, pick_device, used_memory
from colorlib.files import remove_leftovers, write_text
from colorlib.losses import L1
from colorlib.monitor import epoch_line, save_some_examples
from colorlib.parallel import first_process_first, process_group, processes, rank, sum_over_processes, take_from_first
from colorlib.state import Training

NO_NUMBER = "the loss is no longer a number: lower learning_rate, or use precision float32"

OnEpoch = Callable[[pd.DataFrame, Path], None]


def train_epoch(
    training: Training,
    loader: Iterable[dict[str, Tensor]],
    title: str = "",
    after_step: Callable[[], None] | None = None,
) -> tuple[float, float]:
    """Take one optimiser step a batch, over all batches of the loader.

    training: the network and all that changes with it. loader: batches {"L": (B, 1, S, S), "ab": (B, 2, S, S)} on its
    device. title: what the progress bar says. after_step: called after each step. Returns the mean L1 loss over the
    photos of the epoch, and the speed in images a second, both of all processes together. Raises `FloatingPointError`
    when the loss is no longer a number. Checked by tests/test_train.py: the loss falls.
    """
    network, optimizer, scaler = training.network, training.optimizer, training.scaler
    l1 = L1()
    start = shown = time.perf_counter()
    already = training.photos
    network.train()
    with tqdm(loader, title, file=sys.stdout, leave=False, mininterval=0.5, disable=rank() > 0) as bar:
        for batch in bar:
            L, ab = batch["L"], batch["ab"]
            with training.autocast():
                predicted = network(L)
            loss = training.loss_function(L, predicted, ab)
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # the scaler does nothing unless the precision is float16
            scaler.step(optimizer)
            scaler.update()
            training.count_step(len(L))
            training.loss_sum += l1(predicted.detach().float(), ab) * len(L)  # stays on the device: nobody waits for it
            if after_step:
                after_step()
            if rank() == 0 and time.perf_counter() - shown > 0.5:  # reading the loss waits for the device
                shown = time.perf_counter()
                speed = (training.photos - already) * processes() / (shown - start)
                memory = f"{used_memory(training.device) / 1e9:.1f} GB"
                bar.set_postfix(loss=f"{_mean_loss(training):.4f}", images_per_second=f"{speed:.0f}", memory=memory)
    total, photos = sum_over_processes(training.loss_sum, training.photos, device=training.device)
    if not math.isfinite(total):
        raise FloatingPointError(NO_NUMBER)
    return total / photos, (training.photos - already) * processes() / (time.perf_counter() - start)


def _mean_loss(training: Training) -> float:
    mean = (training.loss_sum / training.photos).item()
    if not math.isfinite(mean):
        raise FloatingPointError(NO_NUMBER)
    return mean


@torch.no_grad()
def validate_epoch(training: Training, loader: Iterable[dict[str, Tensor]]) -> tuple[float, float]:
    """The mean L1 loss over all photos of the loader: of the network, and of guessing gray (ab = 0) for comparison."""
    loss_function = L1()
    sums = torch.zeros(3, device=training.device)  # of the network's loss, of gray's, and of photos
    take_from_first(training.result.eval().buffers())  # their batch statistics are those that are saved
    for batch in loader:
        L, ab = batch["L"], batch["ab"]
        with training.autocast():
            predicted = training.result(L)
        losses = loss_function(predicted.float(), ab), loss_function(torch.zeros_like(ab), ab), torch.ones_like(sums[0])
        sums += torch.stack(losses) * len(L)
    loss, gray_loss, photos = sum_over_processes(*sums, device=training.device)
    return loss / photos, gray_loss / photos


def fit(
    config: Config,
    paths: Sequence[str | os.PathLike],
    run: str | os.PathLike,
    on_epoch: OnEpoch | None = None,
    device: str | torch.device | None = None,
) -> pd.DataFrame:
    """Train a network on photos; call it again with the same arguments to continue a run that was stopped.

    paths: the photos, all of them: they are split by `split_paths`. run: the folder of the run; a plain name means a
    folder in outputs/. on_epoch: called after each epoch with the history so far and the path of the sample picture,
    in place of the printed line. device: "cuda", "cpu", …; None takes the best there is. Returns the history, a row an
    epoch: epoch, train_loss, val_loss, gray_loss (guessing ab = 0 on the same photos), learning_rate,
    images_per_second, seconds, memory_gb. Raises `ValueError` when the run was begun with other settings or photos, and
    `KeyboardInterrupt` again after Ctrl-C or the stop button: finished epochs are safe, and so are they when the
    process is killed. On a CPU the same seed gives the same curve to the bit, stopped in between or not.
    Checked by tests/test_train.py.
    """
    run, device = run_folder(run), pick_device(device)
    split = split_paths(paths, config.val_fraction, config.test_fraction, config.seed)
    if config.batch_size % processes():
        raise ValueError(f"batch_size {config.batch_size} cannot be shared evenly by {processes()} processes")
    state = load_state(run, config, split)
    if state and len(state["history"]) >= config.epochs:
        _say(f"run {run.name} has its {len(state['history'])} epochs already")
        return pd.DataFrame(state["history"])
    if rank() == 0:
        remove_leftovers(run)
        describe_run(run, config, split)

    with first_process_first():  # it decodes the photos, the others find them in the cache
        photos = ColorizationDataset(split["train"], config, True, device, cache_dir())
        if not split["val"]:
            _say("no photos to validate on: the training photos choose the best epoch")
        val_photos = ColorizationDataset(split["val"] or split["train"], config, False, device, cache_dir())
    share = (rank(), processes())
    val_loader = get_dataloader(val_photos, config.batch_size, share=share)
    examples = _examples(photos, val_photos)
    training = Training(config, device, steps=len(get_dataloader(photos, config.batch_size, True, share=share)))
    if state:
        training.load_state_dict(state)
        _say(f"continuing {run.name} after epoch {state['epoch']} of {config.epochs}, step {state['step']}")
    if rank() == 0:
        environment = describe_environment() | {"trained_on": str(device), "precision": training.precision}
        write_text(run / "environment.json", json.dumps(environment, indent=2) + "\n")

    def save_step() -> None:
        if config.checkpoint_every and training.step % config.checkpoint_every == 0:
            _save(run, training)

    for epoch in range(len(training.history), config.epochs):
        start = time.perf_counter()
        photos.set_epoch(epoch)
        loader = get_dataloader(photos, config.batch_size, True, training.epoch_seed, training.step, share)
        try:
            train_loss, speed = train_epoch(training, loader, f"epoch {epoch + 1}/{config.epochs}", save_step)
        except KeyboardInterrupt:
            message = f"stopped in epoch {epoch + 1}; {epoch} epochs of {run.name} are safe: run this again to continue"
            raise KeyboardInterrupt(message) from None
        val_loss, gray_loss = validate_epoch(training, val_loader)
        if not math.isfinite(val_loss):  # the last step broke the weights: keep the state of the epoch before
            raise FloatingPointError(NO_NUMBER)
        best = val_loss < min((row["val_loss"] for row in training.history), default=math.inf)
        training.history.append(
            {
                "epoch": epoch + 1, "train_loss": train_loss, "val_loss": val_loss, "gray_loss": gray_loss,
                "learning_rate": training.schedule.get_last_lr()[0], "images_per_second": speed,
                "seconds": time.perf_counter() - start, "memory_gb": used_memory(device) / 1e9,
            }
        )  # fmt: skip
        training.new_epoch()
        picture = run / "samples" / f"epoch_{epoch:03d}.png"  # counted from 000, the history from 1
        if rank() == 0:
            _write_epoch(run, training, picture, examples, best)
        _save(run, training)  # last of all: an epoch counts once this file is there
        if rank() == 0 and on_epoch:
            on_epoch(pd.DataFrame(training.history), picture)
        else:
            _say(epoch_line(pd.DataFrame(training.history), config.epochs))
    return pd.DataFrame(training.history)


def _examples(photos: ColorizationDataset, val_photos: ColorizationDataset) -> tuple[Tensor, Tensor]:
    """L and ab of the photos in the sample pictures: validation photos, and where those are few, training photos."""
    config, count = photos.config, min(photos.config.samples, len(val_photos))
    chosen = [val_photos[i] for i in range(count)]
    if missing := config.samples - count:
        chosen += ColorizationDataset(photos.paths[:missing], config, device=photos.device)
    return torch.stack([one["L"] for one in chosen]), torch.stack([one["ab"] for one in chosen])


def _write_epoch(run: Path, training: Training, picture: Path, examples: tuple[Tensor, Tensor], best: bool) -> None:
    """Write what an epoch leaves behind beside last.pt."""
    config, epoch, row = training.config, len(training.history), training.history[-1]
    save_some_examples(training.result, *examples, picture)
    if best:
        save_model(run / BEST, training.result, config, epoch=epoch, val_loss=row["val_loss"])
    if config.keep_every and epoch % config.keep_every == 0:
        save_model(run / "weights" / f"epoch_{epoch - 1:03d}.safetensors", training.result, config, epoch=epoch)
    write_text(run / "history.csv", pd.DataFrame(training.history).to_csv(index=False))


def _save(run: Path, training: Training) -> None:
    state = training.state_dict()
    if not math.isfinite(state["loss_sum"]):  # before a broken network is written
        raise FloatingPointError(NO_NUMBER)
    if rank() == 0:
        save_checkpoint(run / LAST, state)


def _say(text: str) -> None:
    if rank() == 0:
        print(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line; each setting of `Config` is an option. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m colorlib.train", description="Train a colorization network.")
    parser.add_argument("--preset", choices=PRESETS, default="tiny", help="where the settings start from")
    parser.add_argument("--data", metavar="DIR", help="folder of photos; default: COCO if found, else sample photos")
    # two names: torchrun takes --run for an option of its own
    parser.add_argument("--run", "--run-name", metavar="NAME", help="name in outputs/; default: the preset's name")
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
        paths = find_photos(options["data"] or "")
        run = run_folder(options["run"] or options["preset"])
        with process_group(options["device"]):
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
