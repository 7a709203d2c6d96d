"""The loop: it learns, it counts right, it can be stopped anywhere and continues bit for bit."""

import copy
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from conftest import Constant
from PIL import Image
from skimage.color import rgb2lab
from torch import nn

from colorlib import checkpoint, train
from colorlib.checkpoint import BEST, CheckpointError, load_checkpoint, load_model, run_folder
from colorlib.config import PRESETS, TINY, Config
from colorlib.data import ColorizationDataset, get_dataloader, split_paths
from colorlib.environment import describe_environment, pick_device, pick_precision
from colorlib.model import UNet
from colorlib.monitor import epoch_line, save_some_examples
from colorlib.photo import read_photo, resize_photo
from colorlib.state import Training
from colorlib.train import fit, main, train_epoch, validate_epoch

CPU = torch.device("cpu")
LOSSES = ["epoch", "train_loss", "val_loss", "gray_loss", "learning_rate"]  # what the clock has no part in


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Bit for bit is a promise for the CPU; a GPU adds up in another order each time."""
    monkeypatch.setattr(train, "pick_device", lambda name: pick_device(name or "cpu"))


def batch_of(count: int, side: int = 16, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    L = torch.rand(count, 1, side, side, generator=generator) * 2 - 1
    return {"L": L, "ab": torch.rand(count, 2, side, side, generator=generator) - 0.5}


def training_of(config: Config, **changes) -> Training:
    """A new training on the CPU, in float32 unless told otherwise."""
    return Training(config.replace(**{"precision": "float32"} | changes), CPU)


def guessing(config: Config, a: float, b: float) -> Training:
    """A training whose network guesses the same colour everywhere."""
    training = training_of(config)
    training.model = Constant(a, b)
    return training


# --- one epoch ----------------------------------------------------------------------------------------------


def test_loss_falls_until_one_batch_is_known_by_heart(config):
    x = torch.linspace(-1, 1, 16)
    L = torch.stack([x.expand(16, 16), x.expand(16, 16).T])[:, None]
    batch = {"L": L, "ab": torch.cat([0.5 * L, -0.5 * L], dim=1)}
    training = training_of(config, width=8, dropout=0.0, learning_rate=5e-3)
    losses = []
    for _ in range(60):
        training.new_epoch()
        losses.append(train_epoch(training, [batch])[0])
    assert losses[-1] < 0.15 * losses[0]
    assert F.l1_loss(training.model(L), batch["ab"]).item() < 0.05


def test_epoch_equals_steps_by_hand(config):
    batches = [batch_of(4, seed=1), batch_of(4, seed=2), batch_of(2, seed=3)]
    training = training_of(config, learning_rate=1e-3)
    twin = copy.deepcopy(training.model)
    training.model.eval()

    torch.manual_seed(5)
    loss, speed = train_epoch(training, batches)

    torch.manual_seed(5)
    twin.train()  # dropout and batch statistics
    optimizer = torch.optim.Adam(twin.parameters(), 1e-3, fused=True)
    total = 0.0
    for batch in batches:
        difference = (twin(batch["L"]) - batch["ab"]).abs().mean()
        for parameter in twin.parameters():
            parameter.grad = None
        difference.backward()
        optimizer.step()
        total += difference.item() * len(batch["L"])
    assert loss == pytest.approx(total / 10, rel=1e-6), "the mean over photos, not over batches"
    assert speed > 0 and training.model.training
    states = training.model.state_dict().values(), twin.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_huber_is_minimised_and_l1_is_told(config):
    """The weights are those of steps on Huber's loss by hand; the loss that is told is L1's."""
    batches = [batch_of(4, seed=1), batch_of(4, seed=2), batch_of(2, seed=3)]
    training, plain = training_of(config, dropout=0.0, loss="huber"), training_of(config, dropout=0.0)
    twin = copy.deepcopy(training.model)
    optimizer = torch.optim.Adam(twin.parameters(), config.learning_rate, fused=True)
    total = 0.0
    for batch in batches:
        error = (twin(batch["L"]) - batch["ab"]).abs()
        total += error.mean().item() * len(batch["L"])
        huber = torch.where(error < 0.1, error**2 / 0.2, error - 0.05).mean()
        optimizer.zero_grad()
        huber.backward()
        optimizer.step()
    loss, _ = train_epoch(training, batches)
    assert loss == pytest.approx(total / 10, rel=1e-5)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(training.model.state_dict()[name], value, atol=1e-5, rtol=1e-4)
    train_epoch(plain, batches)
    assert not torch.allclose(plain.model.final.weight, twin.final.weight, atol=1e-4)


def test_perceptual_term_is_minimised_and_l1_is_told(config, monkeypatch):
    """A term that wants ab of 1 everywhere; the loss that is told leaves it out."""
    seen = []

    class Ones(nn.Module):
        def forward(self, L, predicted, true):
            seen.append((L.shape, true.shape))
            return (predicted - 1).abs().mean()

    monkeypatch.setattr("colorlib.losses.Perceptual", Ones)
    batch = batch_of(2)
    training, plain = training_of(config, dropout=0.0, perceptual=50.0), training_of(config, dropout=0.0)
    losses = [train_epoch(one, [batch])[0] for one in (training, plain)]
    assert losses[0] == losses[1] and seen == [((2, 1, 16, 16), (2, 2, 16, 16))]
    for one in (training, plain):
        one.new_epoch()
        train_epoch(one, [batch] * 20)
    with torch.no_grad():
        assert training.model(batch["L"]).mean() > plain.model(batch["L"]).mean() + 0.1


def test_epoch_counts_and_calls_after_each_step(config):
    training, seen = training_of(config), []
    sizes = [4, 4, 2]
    batches = [batch_of(size) for size in sizes]
    train_epoch(training, batches, after_step=lambda: seen.append((training.step, training.photos)))
    assert seen == [(1, 4), (2, 8), (3, 10)]


def test_speed_of_a_continued_epoch_counts_its_own_photos(config, monkeypatch):
    """Four photos that an earlier process has trained on belong to the loss, not to the speed."""
    training = training_of(config)
    training.step, training.photos, training.loss_sum = 1, 4, torch.tensor(4 * 0.5)
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(train.time, "perf_counter", lambda: next(clock))
    calls = []
    loss, speed = train_epoch(training, [batch_of(4), batch_of(4)], "", lambda: calls.append(training.loss_sum.item()))
    seconds = next(clock) - 2
    assert loss == pytest.approx(calls[-1] / 12, rel=1e-6) and calls[0] > 2
    assert speed == pytest.approx(8 / seconds)


def test_epoch_in_bfloat16_keeps_the_weights_in_float32(config):
    training = training_of(config, dropout=0.0, precision="bfloat16")
    kinds = []
    training.model.final.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    loss, _ = train_epoch(training, [batch_of(2)])
    assert validate_epoch(training, get_loader([2]))[0] > 0
    assert kinds == [torch.bfloat16] * 2 and 0 < loss < 1
    assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}


def test_loss_that_is_no_number_stops_the_training(config):
    batch = batch_of(2)
    batch["ab"][0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="no longer a number: lower learning_rate"):
        train_epoch(training_of(config), [batch])


class Readings:
    """Counts how often a number is read from a tensor, which waits for the device."""

    def __init__(self, monkeypatch):
        self.count = 0
        for name in ("item", "tolist", "__float__", "__bool__", "cpu", "numpy"):
            original = getattr(torch.Tensor, name)

            def read(tensor, *rest, original=original):
                self.count += 1
                return original(tensor, *rest)

            monkeypatch.setattr(torch.Tensor, name, read)


def test_loss_is_not_read_while_a_quick_epoch_runs(config, monkeypatch):
    """Between two steps nothing waits for the device; only the end of the epoch does."""
    training, inside = training_of(config), []
    train_epoch(training, [batch_of(2)])
    monkeypatch.setattr(train.time, "perf_counter", lambda: 0.0 if len(inside) < 20 else 1.0)
    readings = Readings(monkeypatch)
    train_epoch(training, [batch_of(2)] * 20, "", lambda: inside.append(readings.count))
    assert inside == [0] * 20 and 1 <= readings.count <= 4


def test_loss_is_read_twice_a_second_for_the_bar(config, monkeypatch, capsys):
    """A slow epoch: a tenth of a second a step. A loss that is no number then ends it at once."""
    training, inside = training_of(config), []
    monkeypatch.setattr(train.time, "perf_counter", lambda: 0.1 * len(inside))
    readings = Readings(monkeypatch)
    train_epoch(training, [batch_of(2)] * 20, "epoch 1/1", lambda: inside.append(readings.count))
    assert 2 <= inside[-1] <= 6
    assert "epoch 1/1" in capsys.readouterr().out

    broken = batch_of(2)
    broken["ab"][:] = float("nan")
    inside.clear()
    with pytest.raises(FloatingPointError):
        train_epoch(training, [broken] * 20, "", lambda: inside.append(0))
    assert 5 <= len(inside) <= 7


def test_bar_goes_to_stdout_and_leaves_nothing(config, capsys):
    """A saved notebook shows stderr as an error."""
    train_epoch(training_of(config), [batch_of(2)], "epoch 1/1")
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.endswith("\r") and printed.out.split("\r")[-2].strip() == ""


def get_loader(sizes: list[int]):
    """Batches of these sizes with a `dataset` of as many photos, as a DataLoader has."""

    class Loader(list):
        dataset = range(sum(sizes))

    return Loader(batch_of(size, seed=seed) for seed, size in enumerate(sizes))


def test_validation_by_hand(config):
    """Photos count alike, also those of a smaller last batch."""
    batches = get_loader([4, 4, 1])
    batches[2]["ab"] += 0.4  # a photo whose loss is another one
    loss, gray_loss = validate_epoch(guessing(config, 0.25, -0.5), batches)
    ab = torch.cat([batch["ab"] for batch in batches])
    assert gray_loss == pytest.approx(ab.abs().mean().item(), rel=1e-5)
    by_hand = ((ab[:, 0] - 0.25).abs().mean() + (ab[:, 1] + 0.5).abs().mean()) / 2
    assert loss == pytest.approx(by_hand.item(), rel=1e-5)


def test_validation_is_that_of_the_running_average(config):
    training = training_of(config, ema=0.5)
    train_epoch(training, get_loader([2, 2, 2]))
    alone = training_of(config)
    alone.model.load_state_dict(training.result.state_dict())
    loss = validate_epoch(training, get_loader([2, 1]))[0]
    assert loss == validate_epoch(alone, get_loader([2, 1]))[0]
    alone.model.load_state_dict(training.model.state_dict())
    assert loss != validate_epoch(alone, get_loader([2, 1]))[0]
    nn.init.constant_(training.model.final.bias, 0.9)
    assert loss == validate_epoch(training, get_loader([2, 1]))[0]


def test_validation_tells_l1_whatever_is_minimised(config):
    losses = {validate_epoch(training_of(config, loss=name), get_loader([2, 1])) for name in ("l1", "huber")}
    assert len(losses) == 1


def test_validation_uses_no_dropout_and_leaves_no_trace(config):
    training = training_of(config, dropout=0.9)
    training.model.train()
    before = copy.deepcopy(training.state_dict())
    losses = {validate_epoch(training, get_loader([2, 2]))[0] for _ in range(2)}
    assert len(losses) == 1
    assert_same_state(training.state_dict(), before)
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_validation_reads_its_losses_once(config, monkeypatch):
    readings = Readings(monkeypatch)
    validate_epoch(training_of(config), get_loader([2] * 20))
    assert readings.count <= 3


# --- a run --------------------------------------------------------------------------------------------------


def assert_same_state(a, b) -> None:
    """Two states, or parts of them, are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for name in a:
            assert_same_state(a[name], b[name])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same_state(one, other)
    else:
        assert a == b


def assert_same_runs(a: Path, b: Path) -> None:
    """Two finished runs are equal bit for bit, but for the clock and the memory in use."""
    first, second = load_checkpoint(a / "last.pt"), load_checkpoint(b / "last.pt")
    pd.testing.assert_frame_equal(
        pd.DataFrame(first.pop("history"))[LOSSES], pd.DataFrame(second.pop("history"))[LOSSES], check_exact=True
    )
    assert len(first["optimizer"]["state"]) > 10
    assert_same_state(first, second)
    best, other = (safetensors.torch.load_file(run / BEST) for run in (a, b))
    assert all(torch.equal(best[name], other[name]) for name in best)
    pictures = sorted(path.name for path in (a / "samples").iterdir())
    assert pictures == sorted(path.name for path in (b / "samples").iterdir())
    assert all((a / "samples" / name).read_bytes() == (b / "samples" / name).read_bytes() for name in pictures)
    assert (a / "split.json").read_text() == (b / "split.json").read_text()
    configs = [Config.from_json((run / "config.json").read_text()) for run in (a, b)]
    assert configs[0] == configs[1].replace(**{name: getattr(configs[0], name) for name in checkpoint.MAY_CHANGE})


@pytest.fixture(scope="module")
def whole_run(photo_folder, tmp_path_factory):
    """A run of four epochs without interruption, with dropout and augmentation: (folder, history)."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    config = Config(
        width=4, depth=4, image_size=16, photo_size=24, min_crop=0.4, flip=True, rotate=5.0, contrast=0.2,
        saturation=0.2, val_fraction=0.2, test_fraction=0.1, batch_size=4, learning_rate=2e-3, epochs=4,
        num_workers=0, samples=2, seed=3,
    )  # fmt: skip
    return folder, fit(config, sorted(photo_folder.iterdir()), folder, device="cpu")


def test_run_leaves_every_file(whole_run, config, photos):
    run, _ = whole_run
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    assert files == sorted(
        ["config.json", "environment.json", "split.json", "history.csv", "last.pt", BEST]
        + [f"samples/epoch_{epoch:03d}.png" for epoch in range(4)]
    )
    assert Config.from_json((run / "config.json").read_text()) == config
    environment = json.loads((run / "environment.json").read_text())
    assert environment == describe_environment() | {"trained_on": "cpu", "precision": pick_precision(CPU)}
    split = json.loads((run / "split.json").read_text())
    expected = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    assert split == {part: [path.name for path in paths] for part, paths in expected.items()}
    assert [len(split[part]) for part in ("train", "val", "test")] == [7, 2, 1]
    model, settings = load_model(run)
    assert settings == config and model.depth == 4


def test_history(whole_run):
    run, history = whole_run
    columns = ["epoch", "train_loss", "val_loss", "gray_loss", "learning_rate", "images_per_second", "seconds"]
    columns += ["memory_gb"]
    assert list(history.columns) == columns
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["gray_loss"].nunique() == 1 and (history["learning_rate"] == 2e-3).all()
    assert (history[["images_per_second", "seconds", "train_loss", "val_loss"]] > 0).all(axis=None)
    assert history["memory_gb"].between(0.05, 50).all(), "PyTorch alone takes a part of a gigabyte"
    pd.testing.assert_frame_equal(pd.read_csv(run / "history.csv"), history)


def test_losses_in_the_history_are_those_of_the_saved_network(whole_run, config, photos):
    run, history = whole_run
    training = Training(config, CPU)
    training.model.load_state_dict(load_checkpoint(run / "last.pt")["model"])
    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    val_loss, gray_loss = validate_epoch(training, get_dataloader(ColorizationDataset(split["val"], config), 4))
    assert val_loss == pytest.approx(history["val_loss"].iloc[-1], rel=1e-5)
    assert gray_loss == pytest.approx(history["gray_loss"].iloc[-1], rel=1e-5)


def test_files_name_no_folder_of_this_computer(whole_run, photo_folder):
    run, _ = whole_run
    for path in run.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for place in (run.parent, photo_folder, Path.cwd(), Path.home()):
            assert str(place).encode() + b"/" not in content, path.name


def test_split_is_relative_to_the_photos_common_folder(tmp_path, photos, plain_config):
    for i, path in enumerate(photos):
        copied = tmp_path / "set" / ("a" if i % 2 else "b/c") / path.name
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    fit(plain_config.replace(epochs=1), sorted((tmp_path / "set").rglob("*.png")), tmp_path / "run")
    names = [name for part in json.loads((tmp_path / "run" / "split.json").read_text()).values() for name in part]
    assert sorted(names) == sorted(f"{'a' if i % 2 else 'b/c'}/{path.name}" for i, path in enumerate(photos))


def test_same_seed_same_curve(tmp_path, whole_run, config, photos):
    run, _ = whole_run
    torch.manual_seed(99), random.seed(9), np.random.seed(9)
    again = fit(config, list(reversed(photos)), tmp_path / "again")
    assert_same_runs(run, tmp_path / "again")
    other = fit(config.replace(seed=4, epochs=1), photos, tmp_path / "other")
    assert other["train_loss"][0] != again["train_loss"][0]


def test_epochs_differ(whole_run):
    _, history = whole_run
    assert history["train_loss"].nunique() == 4 and history["val_loss"].nunique() == 4


def test_each_epoch_has_its_own_crops_order_and_dropout(tmp_path, plain_config, photos, monkeypatch):
    seen = []

    def spy(training, loader, *rest):
        order = torch.cat([batch["L"] for batch in loader]).mean(dim=(1, 2, 3)).tolist()  # each photo's brightness
        seen.append((loader.dataset.chance, tuple(order), torch.initial_seed()))
        return 0.1, 1.0

    monkeypatch.setattr(train, "train_epoch", spy)
    fit(plain_config, photos, tmp_path / "run")
    chances, orders, seeds = zip(*seen, strict=True)
    dataset = ColorizationDataset(photos[:7], plain_config, augment=True)
    for epoch, chance in enumerate(chances):
        dataset.set_epoch(epoch)
        assert torch.equal(chance, dataset.chance)
    assert len({chance.sum().item() for chance in chances}) == len(set(orders)) == len(set(seeds)) == 4
    assert all(sorted(order) == sorted(orders[0]) for order in orders), "every photo once an epoch"


def test_number_of_samples_decides_nothing_about_the_weights(tmp_path, whole_run, config, photos):
    """Nor does it matter whether photos had to be read: for more samples than there are photos to validate on, some
    are read anew."""
    fit(config.replace(samples=50), photos, tmp_path / "run")
    first, second = (load_checkpoint(run / "last.pt") for run in (whole_run[0], tmp_path / "run"))
    assert_same_state(first["model"], second["model"])
    assert_same_state(first["optimizer"], second["optimizer"])


# --- the same curve as a plain and slow training ------------------------------------------------------------


def slow_curve(config: Config, photos: list[Path]) -> list[float]:
    """The training losses of each epoch, without any part of ours but the network: Pillow, scikit-image, Adam."""
    planes = []
    for path in split_paths(photos, config.val_fraction, config.test_fraction, config.seed)["train"]:
        photo = Image.open(path).convert("RGB").resize((config.image_size, config.image_size), Image.BICUBIC)
        planes.append(rgb2lab(np.asarray(photo)).transpose(2, 0, 1) / np.array([50, 128, 128]).reshape(3, 1, 1))
    lab = torch.from_numpy(np.stack(planes)).float() - torch.tensor([1.0, 0, 0]).view(3, 1, 1)
    torch.manual_seed(config.seed)
    model = UNet(config.width, config.depth, dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate, foreach=False, fused=False)
    losses = []
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
        order = torch.randperm(len(lab) * config.crops_per_photo, generator=generator) % len(lab)
        total = 0.0
        for numbers in order.split(config.batch_size):
            loss = (model(lab[numbers, :1]) - lab[numbers, 1:]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(numbers)
        losses.append(total / len(order))
    return losses


@pytest.mark.parametrize(("resident", "tolerance"), [(True, 1e-4), (False, 1e-6)])
def test_curve_equals_that_of_a_plain_training(tmp_path, plain_config, photos, monkeypatch, resident, tolerance):
    """The cache, the memory layout and fused steps change nothing; Lab as 16-bit numbers nothing that can be seen."""
    monkeypatch.setattr("colorlib.data.free_memory", lambda _: 10**9 * resident)
    config = plain_config.replace(precision="float32", epochs=10, crops_per_photo=2, learning_rate=5e-4)
    curve = fit(config, photos, tmp_path / "run")["train_loss"].tolist()
    assert curve == pytest.approx(slow_curve(config, photos), abs=tolerance)
    assert curve[-1] < 0.8 * curve[0]


def test_curve_in_bfloat16_differs_by_less_than_seeds_do(tmp_path, plain_config, photos):
    """The mean of the last three epochs. Each seed starts from other weights, with the same photos."""
    split = split_paths(photos, plain_config.val_fraction, plain_config.test_fraction, plain_config.seed)
    config = plain_config.replace(epochs=12, val_fraction=0.0, test_fraction=0.0, crops_per_photo=2)

    def level(seed: int, precision: str) -> float:
        run = tmp_path / f"{precision} {seed}"
        history = fit(config.replace(seed=seed, precision=precision), split["train"], run)
        return history["train_loss"].iloc[-3:].mean()

    exact = [level(seed, "float32") for seed in (3, 4, 5)]
    difference = abs(level(3, "bfloat16") - exact[0])
    assert 0 < difference < max(exact) - min(exact) and difference < 0.03 * exact[0]


# --- stopped and continued ----------------------------------------------------------------------------------


def test_continued_run_equals_an_uninterrupted_one(tmp_path, whole_run, config, photos, capsys):
    first = fit(config.replace(epochs=2), photos, tmp_path / "run")
    assert first["epoch"].tolist() == [1, 2]
    torch.rand(1000), torch.manual_seed(1), random.seed(2), np.random.seed(3)
    capsys.readouterr()
    second = fit(config, photos, tmp_path / "run")
    assert "continuing run after epoch 2 of 4" in capsys.readouterr().out
    assert second["epoch"].tolist() == [1, 2, 3, 4]
    assert_same_runs(whole_run[0], tmp_path / "run")


def test_finished_run_is_not_trained_again(tmp_path, config, photos, monkeypatch):
    history = fit(config.replace(epochs=1), photos, tmp_path / "run")
    before = (tmp_path / "run" / "last.pt").read_bytes()
    monkeypatch.setattr(train, "train_epoch", lambda *_: pytest.fail("there is nothing left to train"))
    pd.testing.assert_frame_equal(fit(config.replace(epochs=1), photos, tmp_path / "run"), history)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


class Interrupting:
    """A loader whose second batch never comes: the reader has pressed Ctrl-C."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        yield next(iter(self.loader))
        raise KeyboardInterrupt


def test_interrupt_in_the_third_epoch_loses_nothing(tmp_path, whole_run, config, photos, monkeypatch):
    def interrupted(training, loader, *rest, epochs=[]):  # noqa: B006 (counts the calls)
        epochs.append(1)
        return train_epoch(training, Interrupting(loader) if len(epochs) == 3 else loader, *rest)

    monkeypatch.setattr(train, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt, match="stopped in epoch 3; 2 epochs of run are safe: run this again"):
        fit(config, photos, tmp_path / "run")
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 2
    monkeypatch.setattr(train, "train_epoch", train_epoch)
    fit(config, photos, tmp_path / "run")
    assert_same_runs(whole_run[0], tmp_path / "run")


@pytest.mark.parametrize("function", ["validate_epoch", "save_some_examples", "save_model", "write_text"])
def test_interrupt_at_any_other_moment_loses_nothing(tmp_path, whole_run, config, photos, monkeypatch, function):
    original = getattr(train, function)

    def interrupted(*arguments, **options):
        if (tmp_path / "run" / "samples" / "epoch_000.png").exists() or function == "save_some_examples":
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(train, function, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(config, photos, tmp_path / "run")
    monkeypatch.setattr(train, function, original)
    fit(config, photos, tmp_path / "run")
    assert_same_runs(whole_run[0], tmp_path / "run")


SMALL_STEPS = {"batch_size": 2, "epochs": 3}  # 7 photos to train on: 4 steps an epoch


@pytest.fixture(scope="module")
def whole_run_in_small_steps(whole_run, photo_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "run"
    config = Config.from_json((whole_run[0] / "config.json").read_text()).replace(**SMALL_STEPS)
    fit(config, sorted(photo_folder.iterdir()), folder, device="cpu")
    return folder


@pytest.mark.parametrize("every", [1, 2, 3])
def test_stops_in_the_middle_of_epochs_lose_few_steps_and_change_nothing(
    tmp_path, whole_run_in_small_steps, config, photos, monkeypatch, capsys, every
):
    """One run, stopped again and again: after step 1, …; 4 and 8 are the last steps of an epoch, not yet validated."""
    config = config.replace(checkpoint_every=every, **SMALL_STEPS)
    run, starts = tmp_path / "run", []

    def stopped(training, loader, title, after_step):
        starts.append((len(training.history), training.step))

        def then():
            after_step()
            if len(training.history) * 4 + training.step == stop:
                raise KeyboardInterrupt

        return train_epoch(training, loader, title, then)

    monkeypatch.setattr(train, "train_epoch", stopped)
    for stop in (1, 2, 4, 5, 7, 8, 11):
        capsys.readouterr()
        with pytest.raises(KeyboardInterrupt, match=f"stopped in epoch {(stop - 1) // 4 + 1}"):
            fit(config, photos, run)
        torch.rand(stop), random.seed(2), np.random.seed(3)
        epoch = (stop - 1) // 4
        step = (stop - 4 * epoch) // every * every
        if (epoch, step) == (0, 0):
            assert not (run / "last.pt").exists()
            continue
        state = load_checkpoint(run / "last.pt")
        assert (state["epoch"], state["step"], len(state["history"])) == (epoch, step, epoch)
        assert state["photos"] == min(2 * step, 7)
    stop = 0
    history = fit(config, photos, run)
    assert f"continuing run after epoch 2 of 3, step {3 // every * every}" in capsys.readouterr().out
    assert starts[-1] == (2, 3 // every * every)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert_same_runs(whole_run_in_small_steps, run)


EXTRAS = {
    "palette": 3, "residual": 1, "loss": "huber", "weight_decay": 0.05, "warmup": 0.25, "schedule": "cosine",
    "ema": 0.8, "gamma": 0.2, "image_size": 32, "photo_size": 36, "small_size": 16, "small_epochs": 1, "batch_size": 4,
    "epochs": 3, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole_run_with_extras(whole_run, photo_folder, tmp_path_factory):
    """Everything that the original recipe lacks, without interruption: its folder, settings and history."""
    folder = tmp_path_factory.mktemp("extras") / "run"
    config = Config.from_json((whole_run[0] / "config.json").read_text()).replace(**EXTRAS, keep_every=1)
    return folder, config, fit(config, sorted(photo_folder.iterdir()), folder, device="cpu")


def test_stopped_run_with_every_extra_equals_an_uninterrupted_one(tmp_path, whole_run_with_extras, photos, monkeypatch):
    """Stopped in the warm-up, between small and large pictures, and in the middle of the last epoch."""
    whole, config, history = whole_run_with_extras
    run = tmp_path / "run"

    def stopped(training, loader, title, after_step):
        def then():
            after_step()
            if len(training.history) * 2 + training.step == stop:
                raise KeyboardInterrupt

        return train_epoch(training, loader, title, then)

    monkeypatch.setattr(train, "train_epoch", stopped)
    for stop in (1, 2, 5):
        with pytest.raises(KeyboardInterrupt):
            fit(config.replace(checkpoint_every=1), photos, run)
        torch.rand(stop)
    stop = 0
    fit(config.replace(checkpoint_every=1), photos, run)
    assert_same_runs(whole, run)
    state = load_checkpoint(run / "last.pt")
    assert state["running"] and not torch.equal(state["running"]["module.final.weight"], state["model"]["final.weight"])
    # six steps, of which 1.5 are warm-up; the last epoch's row holds the rate that would come next
    assert history["learning_rate"].iloc[-1] == 0 and history["learning_rate"].is_monotonic_decreasing


def test_running_average_is_validated_saved_and_shown(tmp_path, config, photos, monkeypatch):
    shown = []

    def show(model, *rest):
        shown.append(copy.deepcopy(model.state_dict()))
        save_some_examples(model, *rest)

    monkeypatch.setattr(train, "save_some_examples", show)
    run, config = tmp_path / "run", config.replace(ema=0.8, epochs=3, keep_every=1, precision="float32", batch_size=2)
    history = fit(config, photos, run)
    state = load_checkpoint(run / "last.pt")
    running = {name.removeprefix("module."): value for name, value in state["running"].items() if "." in name}
    assert_same_state(dict(shown[-1]), running)
    assert not torch.equal(running["final.weight"], state["model"]["final.weight"])
    for epoch, weights in enumerate(shown):
        kept = safetensors.torch.load_file(run / "weights" / f"epoch_{epoch:03d}.safetensors")
        assert all(torch.equal(kept[name], value) for name, value in weights.items())
    best = int(history["val_loss"].idxmin())
    model, _ = load_model(run)
    assert_same_state(dict(model.state_dict()), dict(shown[best]))
    training = training_of(config, ema=0.0)
    training.model.load_state_dict(model.state_dict())
    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    loss, _ = validate_epoch(training, get_dataloader(ColorizationDataset(split["val"], config), 2))
    assert loss == pytest.approx(history["val_loss"][best], rel=1e-5)


def test_first_epochs_of_a_run_are_small_and_its_validation_is_not(tmp_path, plain_config, photos, monkeypatch):
    sides = []

    def spy(function, name):
        def spied(training, loader, *rest):
            sides.append((name, {tuple(batch["ab"].shape[2:]) for batch in loader}))
            return function(training, loader, *rest)

        monkeypatch.setattr(train, function.__name__, spied)

    spy(train_epoch, "train"), spy(validate_epoch, "val")
    config = plain_config.replace(image_size=32, photo_size=32, small_size=16, small_epochs=2, epochs=3)
    fit(config, photos, tmp_path / "run")
    small, large = {(16, 16)}, {(32, 32)}
    assert sides == [("train", small), ("val", large)] * 2 + [("train", large), ("val", large)]
    with Image.open(tmp_path / "run" / "samples" / "epoch_000.png") as image:
        assert image.size == (2 * 36 + 4, 3 * 36 + 4), "examples are whole photos"


def test_losses_in_the_history_are_l1_whatever_is_minimised(tmp_path, plain_config, photos):
    """Of the first epoch, which is one step: the network is the same before it."""
    config = plain_config.replace(epochs=1, batch_size=10, precision="float32")
    rows = [fit(config.replace(loss=name), photos, tmp_path / name).iloc[0] for name in ("l1", "huber")]
    assert rows[0]["train_loss"] == rows[1]["train_loss"] and rows[0]["gray_loss"] == rows[1]["gray_loss"]
    assert rows[0]["val_loss"] != rows[1]["val_loss"], "they were trained otherwise"
    training = training_of(config)
    training.model.load_state_dict(load_checkpoint(tmp_path / "huber" / "last.pt")["model"])
    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    (batch,) = get_dataloader(ColorizationDataset(split["val"], config), 10)
    with torch.no_grad():
        error = (training.model.eval()(batch["L"]) - batch["ab"]).abs().mean().item()
    assert rows[1]["val_loss"] == pytest.approx(error, rel=1e-5)


def test_state_in_the_middle_of_an_epoch_is_only_written_when_asked_for(tmp_path, config, photos, monkeypatch):
    written = []
    monkeypatch.setattr(train, "save_checkpoint", lambda _, state: written.append((state["epoch"], state["step"])))
    config = config.replace(epochs=2, batch_size=2)
    fit(config, photos, tmp_path / "run")
    assert written == [(1, 0), (2, 0)]
    written.clear()
    fit(config.replace(checkpoint_every=2), photos, tmp_path / "other")
    assert written == [(0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0)]


def test_broken_weights_are_not_written_in_the_middle_of_an_epoch(tmp_path, config, photos, monkeypatch):
    """The state of the step before stays."""

    def breaking(training, loader, title, after_step):
        def then():
            if training.step == 3:
                training.loss_sum *= float("nan")
            after_step()

        return train_epoch(training, loader, title, then)

    monkeypatch.setattr(train, "train_epoch", breaking)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fit(config.replace(checkpoint_every=1, **SMALL_STEPS), photos, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "last.pt")["step"] == 2


def test_leftovers_of_a_killed_process_are_cleared_away(tmp_path, config, photos):
    run = tmp_path / "run"
    fit(config.replace(epochs=1), photos, run)
    dead = 99_999_999  # no system counts its processes that far
    names = (f".last.{dead}.pt", f".best.{dead}.safetensors", f"samples/.epoch_001.{dead}.png")
    leftovers = [run / name for name in names]
    for path in leftovers:
        path.write_bytes(b"half")
    (run / ".notes").write_text("the reader's own")
    fit(config.replace(epochs=2), photos, run)
    assert not any(path.exists() for path in leftovers) and (run / ".notes").exists()


def position(state: dict) -> tuple[int, int]:
    return state["epoch"], state["step"]


def check_files(run: Path) -> tuple[int, int]:
    """Every file of a run whose process was killed is whole; returns what last.pt holds: epochs, and steps beyond."""
    for path in run.rglob("*.json"):
        assert json.loads(path.read_text())
    for path in run.glob("samples/[!.]*.png"):
        with Image.open(path) as image:
            image.verify()
    epoch, step = position(load_checkpoint(run / "last.pt")) if (run / "last.pt").exists() else (0, 0)
    if (run / BEST).exists():
        load_model(run)
    if (run / "history.csv").exists():
        assert len(pd.read_csv(run / "history.csv")) in (epoch, epoch + 1), "written just before last.pt"
    else:
        assert epoch == 0
    assert len(list(run.glob("samples/[!.]*.png"))) in (epoch, epoch + 1)
    return epoch, step


def killed_twenty_times(run: str, config: str, photos: str) -> None:
    """Train in a child process that is killed at a random moment; look at its files; again. In a process of its own."""
    torch.set_num_threads(1)
    chance, run, config = random.Random(1), Path(run), Config.from_json(config)
    paths = sorted(Path(photos).iterdir())
    steps, found, middle = -(-7 * config.crops_per_photo // config.batch_size), (0, 0), 0
    for number in range(20):
        every = 2 * (number % 2)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            report_and_train(writer, config.replace(checkpoint_every=every), paths, run)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            lines = [pipe.readline().split()]
            while lines[-1][0] != ("begun", "done")[number // 2 % 2]:  # from the start on, or from the first step on
                lines.append(pipe.readline().split())
            time.sleep(chance.uniform(0.05, 0.5))
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it had ended before"
            lines += [line.split() for line in pipe]
        before, found = found, check_files(run)
        said = {word: [(int(a), int(b)) for kind, a, b in lines if kind == word] for word in ("saved", "done")}
        assert found >= max([before, *said["saved"]]), "what was said to be saved is there"
        done = max((epoch * steps + step for epoch, step in said["done"]), default=0)
        assert done - (found[0] * steps + found[1]) <= (every or steps), "no more is lost"
        middle += found[1] > 0
    assert found[0] >= 1 and middle >= 1, (found, middle)


def report_and_train(pipe: int, config: Config, paths: list[Path], run: Path) -> None:
    """Tell a pipe about each step and each state that is safe; never comes back."""
    save = train.save_checkpoint

    def saved(path, state):
        save(path, state)
        os.write(pipe, "saved {} {}\n".format(*position(state)).encode())

    def told(training, loader, title, after_step):
        def then():
            after_step()
            os.write(pipe, f"done {len(training.history)} {training.step}\n".encode())

        return train_epoch(training, loader, title, then)

    try:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (the process ends below)
        train.save_checkpoint, train.train_epoch = saved, told
        os.write(pipe, b"begun 0 0\n")
        fit(config, paths, run, device="cpu")
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_process_killed_at_twenty_moments_leaves_whole_files_and_continues(tmp_path, config, photos, photo_folder):
    """SIGKILL, without a warning. In the end the run is the same as one that nobody has touched."""
    run, config = tmp_path / "run", config.replace(epochs=100_000, crops_per_photo=8)
    script = "import sys, test_train; test_train.killed_twenty_times(*sys.argv[1:])"
    folders = [str(Path(train.__file__).parent.parent), str(Path(__file__).parent)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-c", script, str(run), config.to_json(), str(photo_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    goal = config.replace(epochs=load_checkpoint(run / "last.pt")["epoch"] + 1)
    fit(goal, photos, run)
    assert not [path.name for path in run.rglob(".*")]
    fit(goal, photos, tmp_path / "whole")
    assert_same_runs(tmp_path / "whole", run)


def test_ctrl_c_at_the_command_line(tmp_path, photo_folder, photos, config):
    """A real SIGINT to a real process; then the run goes on in this one."""
    endless = config.replace(epochs=10_000)
    options = []
    for field in dataclasses.fields(endless):
        value, name = getattr(endless, field.name), field.name.replace("_", "-")
        options += [f"--{'' if value else 'no-'}{name}"] if field.type is bool else [f"--{name}", str(value)]
    environment = os.environ | {
        "COLORLIB_OUTPUTS": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(Path(train.__file__).parent.parent),
    }  # fmt: skip
    command = [sys.executable, "-m", "colorlib.train", "--data", str(photo_folder), "--run", "long", "--device", "cpu"]
    command += options
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "long" / "samples" / "epoch_001.png").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()  # else its error channel would never end
                pytest.fail(f"it did not come to its third epoch: {process.communicate()[1].decode()}")
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped" in error.decode() and "Traceback" not in error.decode()
    done = len(load_checkpoint(tmp_path / "long" / "last.pt")["history"])
    assert done >= 1
    goal = endless.replace(epochs=done + 1)
    fit(goal, photos, tmp_path / "long")
    fit(goal, photos, tmp_path / "whole")
    assert_same_runs(tmp_path / "whole", tmp_path / "long")


CHANGES = {
    "width": 5, "depth": 5, "dropout": 0.1, "image_size": 17, "photo_size": 30, "min_crop": 0.5, "flip": False,
    "rotate": 1.0, "contrast": 0.1, "saturation": 0.1, "crops_per_photo": 2, "batch_size": 3, "learning_rate": 1e-3,
    "precision": "bfloat16", "schedule": "cosine", "palette": 3, "residual": 1, "gamma": 0.1, "small_size": 16,
    "loss": "huber", "perceptual": 0.1, "weight_decay": 0.1, "warmup": 0.1, "ema": 0.9,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_other_settings_are_refused_and_named(whole_run, config, photos, name):
    run, _ = whole_run
    before = (run / "config.json").read_text()
    old, new = getattr(config, name), CHANGES[name]
    with pytest.raises(ValueError, match=rf"begun otherwise \({name} was {old}, is {new}\).*another name"):
        fit(config.replace(**{name: new}), photos, run)
    assert (run / "config.json").read_text() == before


def test_all_other_settings_are_named_at_once(whole_run, config, photos):
    with pytest.raises(ValueError, match=r"width was 4, is 8; flip was True, is False; seed was 3, is 5"):
        fit(config.replace(width=8, flip=False, seed=5), photos, whole_run[0])
    with pytest.raises(ValueError, match=r"small_size was 0, is 16; small_epochs was 0, is 2"):
        fit(config.replace(small_size=16, small_epochs=2), photos, whole_run[0])


def test_settings_that_may_change():
    """Those that decide nothing about the weights; all others are refused."""
    fields = {field.name for field in dataclasses.fields(Config)}
    may_change = {"epochs", "compile", "num_workers", "checkpoint_every", "keep_every", "samples", "test_flips"}
    assert may_change == checkpoint.MAY_CHANGE
    assert fields - may_change == {*CHANGES, "small_epochs", "val_fraction", "test_fraction", "seed"}


def test_other_photos_are_refused(whole_run, config, photos):
    before = (whole_run[0] / "split.json").read_text()
    with pytest.raises(ValueError, match="begun with other photos"):
        fit(config, photos[:-1], whole_run[0])
    assert (whole_run[0] / "split.json").read_text() == before


def test_photos_may_move(tmp_path, whole_run, config, photos):
    """Another computer mounts the same folder elsewhere: the run goes on."""
    fit(config.replace(epochs=2), photos, tmp_path / "run")
    for path in photos:
        (tmp_path / "moved").mkdir(exist_ok=True)
        (tmp_path / "moved" / path.name).write_bytes(path.read_bytes())
    fit(config, sorted((tmp_path / "moved").iterdir()), tmp_path / "run")
    assert_same_runs(whole_run[0], tmp_path / "run")


def test_damaged_state_says_so(tmp_path, config, photos):
    fit(config.replace(epochs=1), photos, tmp_path / "run")
    (tmp_path / "run" / "last.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match=r"last\.pt is damaged"):
        fit(config, photos, tmp_path / "run")


def test_state_of_an_older_version_says_so(tmp_path, config, photos):
    """It cannot be continued to the bit; what to do is said, and nothing is touched."""
    run = tmp_path / "run"
    fit(config.replace(epochs=1), photos, run)
    state = load_checkpoint(run / "last.pt")
    torch.save({name: state[name] for name in ("model", "optimizer", "epoch", "history")}, run / "last.pt")
    before = {path.name: path.read_bytes() for path in run.glob("*.*")}
    with pytest.raises(
        CheckpointError, match=r"last\.pt of run run is not the state of a run: delete it to start anew"
    ):
        fit(config, photos, run)
    assert {path.name: path.read_bytes() for path in run.glob("*.*")} == before
    (run / "last.pt").unlink()
    assert fit(config, photos, run)["epoch"].tolist() == [1, 2, 3, 4]


def test_state_of_something_else_says_so(tmp_path, config, photos):
    fit(config.replace(epochs=1), photos, tmp_path / "run")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "run" / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        fit(config, photos, tmp_path / "run")


def test_weights_that_break_in_the_last_step_are_not_saved(tmp_path, config, photos, monkeypatch):
    """The training loss is still a number, the validation loss is none: the run must stay as it was."""
    fit(config.replace(epochs=1), photos, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}

    def broken(training, *rest):
        result = train_epoch(training, *rest)
        nn.init.constant_(training.model.final.bias, float("nan"))
        return result

    monkeypatch.setattr(train, "train_epoch", broken)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fit(config.replace(epochs=2), photos, tmp_path / "run")
    changed = {path.name for path in (tmp_path / "run").glob("*.*") if path.read_bytes() != before.get(path.name)}
    assert changed <= {"config.json", "environment.json"}


def scripted(monkeypatch, losses: list[float]) -> None:
    """Lets validation find these losses, one after the other."""
    left = iter(losses)
    monkeypatch.setattr(train, "validate_epoch", lambda *_: (next(left), 1.0))


def test_best_is_the_epoch_with_the_lowest_validation_loss(tmp_path, config, photos, monkeypatch):
    scripted(monkeypatch, [0.5, 0.3, 0.3, 0.4, 0.35, 0.2, 0.6])
    run = tmp_path / "run"
    fit(config.replace(epochs=4, keep_every=1), photos, run)

    def kept(epoch: int) -> bool:
        best, other = (
            safetensors.torch.load_file(p) for p in (run / BEST, run / f"weights/epoch_{epoch:03d}.safetensors")
        )
        return all(torch.equal(best[name], other[name]) for name in best)

    assert [kept(epoch) for epoch in range(4)] == [False, True, False, False], "the second, the first of two equals"
    fit(config.replace(epochs=5, keep_every=1), photos, run)
    assert kept(1), "a continued run remembers its best"
    fit(config.replace(epochs=7, keep_every=1), photos, run)
    assert kept(5) and not kept(6)
    with safetensors.safe_open(run / BEST, framework="pt") as file:
        assert json.loads(file.metadata()["notes"]) == {"epoch": 6, "val_loss": 0.2}


def test_keep_every(tmp_path, config, photos):
    fit(config.replace(keep_every=2), photos, tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run" / "weights")) == ["epoch_001.safetensors", "epoch_003.safetensors"]
    last = load_checkpoint(tmp_path / "run" / "last.pt")["model"]
    model, _ = load_model(tmp_path / "run" / "weights" / "epoch_003.safetensors")
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())


def test_on_epoch_gets_the_history_and_a_picture(tmp_path, config, photos, capsys):
    seen = []

    def on_epoch(history, picture):
        with Image.open(picture) as image:
            seen.append((history["epoch"].tolist(), picture.relative_to(tmp_path).as_posix(), image.size))
        state = load_checkpoint(tmp_path / "run" / "last.pt")
        assert (state["epoch"], state["step"]) == (len(history), 0), "the epoch is safe before anyone looks"

    fit(config.replace(epochs=2), photos, tmp_path / "run", on_epoch=on_epoch)
    size = (2 * 20 + 4, 3 * 20 + 4)  # two photos beside, three rows
    assert seen == [([1], "run/samples/epoch_000.png", size), ([1, 2], "run/samples/epoch_001.png", size)]
    assert "val" not in capsys.readouterr().out, "it stands for the line that is printed otherwise"


def test_line_is_printed_for_each_epoch(tmp_path, config, photos, capsys):
    history = fit(config.replace(epochs=2), photos, tmp_path / "run")
    lines = [line.split("\r")[-1] for line in capsys.readouterr().out.strip("\n").split("\n")]
    assert lines == [epoch_line(history[:1], 2), epoch_line(history, 2)]


def test_more_samples_than_validation_photos(tmp_path, config, photos):
    """Photos that are trained on fill the row, whole and behind those of validation."""
    fit(config.replace(epochs=1, samples=50), photos, tmp_path / "run")
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    shown = split["val"] + split["train"]
    with Image.open(tmp_path / "run" / "samples" / "epoch_000.png") as image:
        assert image.size == (len(shown) * 20 + 4, 3 * 20 + 4)
        bottom = np.asarray(image)[2 * 20 + 4 : 3 * 20]
    for column, name in enumerate(shown):
        photo = resize_photo(read_photo(photos[0].parent / name), 16).astype(int)
        assert np.abs(bottom[:, column * 20 + 4 : column * 20 + 20] - photo).max() <= 1


def test_broken_photos_do_not_take_the_samples_place(tmp_path, config, photo_folder):
    """The first training photos are unreadable: the next ones fill the picture, and each is named once."""
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    config = config.replace(epochs=1, samples=4)
    split = split_paths(folder.iterdir(), config.val_fraction, config.test_fraction, config.seed)
    for path in split["train"][:3]:
        path.write_bytes(b"")
    fit(config, sorted(folder.iterdir()), tmp_path / "run")
    shown = min(4, len(split["val"]) + len(split["train"]) - 3)
    with Image.open(tmp_path / "run" / "samples" / "epoch_000.png") as image:
        assert image.width == shown * 20 + 4


def test_test_photos_are_never_read(tmp_path, config, photos, monkeypatch):
    """Neither trained on nor used to choose the best epoch."""
    read = []

    class Spy(ColorizationDataset):
        def __init__(self, paths, config, augment=False, *rest, **options):
            read.append(([path.name for path in paths], augment))
            super().__init__(paths, config, augment, *rest, **options)

    monkeypatch.setattr(train, "ColorizationDataset", Spy)
    fit(config.replace(epochs=1), photos, tmp_path / "run")
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert read == [(split["train"], True), (split["val"], False)]


def test_plain_name_lies_in_the_outputs_folder(outputs, config, photos, tmp_path):
    assert run_folder("mine") == outputs / "mine"
    assert run_folder(tmp_path / "there") == tmp_path / "there"
    assert run_folder("here/mine") == Path("here/mine")
    fit(config.replace(epochs=1), photos, "mine")
    assert (outputs / "mine" / BEST).is_file()


# --- the command line ---------------------------------------------------------------------------------------


@pytest.fixture
def fitted(monkeypatch):
    """What `main` passes to `fit`, which does nothing here, on a computer without COCO."""
    calls = []
    monkeypatch.setattr("colorlib.data.find_coco", lambda: None)
    monkeypatch.setattr(
        train, "fit", lambda config, paths, run, device=None: calls.append((config, paths, run, device))
    )
    return calls


OTHER = {
    "width": 8, "depth": 5, "dropout": 0.1, "image_size": 32, "photo_size": 48, "val_fraction": 0.2,
    "test_fraction": 0.3, "min_crop": 0.5, "flip": False, "rotate": 3.5, "contrast": 0.15, "saturation": 0.25,
    "crops_per_photo": 3, "batch_size": 5, "learning_rate": 0.01, "epochs": 7, "precision": "bfloat16",
    "schedule": "cosine", "compile": True, "checkpoint_every": 9, "num_workers": 3, "keep_every": 2, "samples": 6,
    "seed": 11, "palette": 4, "residual": 2, "gamma": 0.3, "small_size": 32, "small_epochs": 2, "loss": "huber",
    "perceptual": 0.2, "weight_decay": 0.01, "warmup": 0.1, "ema": 0.99, "test_flips": True,
}  # fmt: skip


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_every_setting_is_an_option(fitted, field):
    value, option = OTHER[field.name], "--" + field.name.replace("_", "-")
    switch = {True: [option], False: [option.replace("--", "--no-")]}
    arguments = switch[value] if isinstance(value, bool) else [option, str(value)]
    others = {"small_size": 48} if field.name == "small_epochs" else {}  # which it needs
    arguments += [word for name, number in others.items() for word in (f"--{name.replace('_', '-')}", str(number))]
    assert main(["--preset", "tiny", *arguments]) == 0
    assert fitted[0][0] == TINY.replace(**{field.name: value}, **others) != TINY.replace(**others)


def test_switch_on(fitted):
    assert main(["--preset", "seed", "--flip"]) == 0 and main(["--preset", "release", "--no-flip"]) == 0
    assert [call[0].flip for call in fitted] == [True, False]


def test_presets_and_names(fitted, outputs, photo_folder, photos):
    for preset in PRESETS:
        assert main(["--preset", preset, "--data", str(photo_folder)]) == 0
        assert fitted[-1] == (PRESETS[preset], list(photos), outputs / preset, None)
    assert main(["--run", "mine", "--device", "cpu"]) == 0
    config, paths, run, device = fitted[-1]
    assert (config, len(paths), run, device) == (TINY, 8, outputs / "mine", "cpu")


def test_coco_is_trained_on_where_it_is_found(fitted, monkeypatch, photo_folder, photos):
    monkeypatch.setattr("colorlib.data.find_coco", lambda: photo_folder)
    assert main([]) == 0
    assert fitted[0][1] == list(photos)


def test_wrong_option(capsys):
    for arguments in (["--preset", "huge"], ["--width", "wide"], ["--colour", "1"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    assert "'huge'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--data", "nowhere"], "no folder nowhere"), (["--width", "0"], "width"), (["--precision", "int4"], "precision")],
)
def test_wrong_use_is_explained_without_a_traceback(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_device_that_is_not_there_is_explained_without_a_traceback(capsys, outputs, photo_folder, device):
    assert main(["--data", str(photo_folder), "--width", "4", "--depth", "4", "--device", device]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not outputs.exists() or os.listdir(outputs) == []


def test_name_of_a_run_must_be_one(config, photos):
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="name"):
            fit(config, photos, name)


def test_too_few_photos(capsys, tmp_path, photos):
    (tmp_path / "one.png").write_bytes(photos[0].read_bytes())
    assert main(["--data", str(tmp_path)]) == 2
    assert "too few" in capsys.readouterr().err


def test_no_number_and_interrupt_at_the_command_line(capsys, monkeypatch):
    cases = [
        (FloatingPointError("the loss is no longer a number"), 2, "error: the loss is no longer a number"),
        (KeyboardInterrupt("stopped in epoch 3"), 130, "stopped in epoch 3"),
        (KeyboardInterrupt(), 130, "stopped"),  # outside of an epoch, while photos are read
    ]
    for error, code, message in cases:

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(train, "fit", fail)
        assert main([]) == code
        assert capsys.readouterr().err.strip().startswith(message)


def test_command_line_trains(tmp_path, capsys, outputs, photo_folder):
    sizes = {"--width": 4, "--depth": 4, "--image-size": 16, "--photo-size": 16, "--epochs": 1, "--crops-per-photo": 1}
    options = [str(word) for pair in sizes.items() for word in pair]
    assert main(["--data", str(photo_folder), "--run", "mine", "--device", "cpu", *options]) == 0
    printed = capsys.readouterr()
    assert "epoch   1/1" in printed.out and f"done: {outputs / 'mine'}" in printed.out
    assert printed.err == "", "a saved notebook shows stderr as an error"
    assert load_model(outputs / "mine")[1].width == 4
