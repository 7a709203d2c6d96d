"""The loop: it learns, it counts right, it can be stopped anywhere and goes on bit for bit; its command line."""

import copy
import dataclasses
import functools
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from conftest import Constant
from PIL import Image
from test_data import straightforward
from torch import nn

from colorlib import checkpoint, train
from colorlib.checkpoint import BEST, LAST, load_checkpoint, load_model
from colorlib.config import PRESETS, TINY, Config
from colorlib.data import ColorizationDataset, get_dataloader, sample_photos, split_paths
from colorlib.losses import palette_nll
from colorlib.model import UNet
from colorlib.photo import read_photo, resize_photo
from colorlib.train import TrainState, epoch_line, main, train_epoch, validate_epoch

CPU = torch.device("cpu")
fit = functools.partial(train.fit, device="cpu")  # bit for bit is a promise for the CPU
FIELDS = dataclasses.fields(Config)
LOSSES = ["epoch", "train_loss", "val_loss", "gray_loss", "learning_rate"]  # what the clock has no part in
# of ten photos: 14 items an epoch, in batches of 4, 4, 4 and 2
EVERYTHING = Config(
    width=4, depth=4, dropout=0.5, palette=3, residual_blocks=1, image_size=32, photo_size=36, min_crop=0.4, flip=True,
    rotate=5.0, contrast=0.2, gamma=0.2, saturation=0.2, crops_per_photo=2, small_size=16, small_epochs=1,
    val_fraction=0.2, test_fraction=0.1, batch_size=4, loss="huber", palette_likelihood=0.05, learning_rate=2e-3,
    weight_decay=0.05, warmup=0.25, schedule="cosine", ema=0.8, epochs=3, precision="float32", num_workers=0,
    keep_every=1, samples=2, seed=3,
)  # fmt: skip


def batch_of(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    planes = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) - 0.5
    return {"L": 2 * planes[:, :1], "ab": planes[:, 1:]}


def state_of(config: Config, total_steps: int = 8, **changes) -> TrainState:
    torch.manual_seed(config.seed)
    return TrainState(config.replace(**{"precision": "float32"} | changes), CPU, total_steps)


def options_of(config: Config) -> list[str]:
    """The command line that asks for these settings."""
    options = []
    for field in FIELDS:
        name, value = field.name.replace("_", "-"), getattr(config, field.name)
        options.append(f"--{'' if value else 'no-'}{name}" if field.type is bool else f"--{name}={value}")
    return options


def validated(model: nn.Module, config: Config, photos: list[Path]) -> tuple[float, float]:
    """The losses of a network on a run's validation photos."""
    state = state_of(config, ema=0.0)
    state.train_model.load_state_dict(model.state_dict())
    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    return validate_epoch(state, get_dataloader(ColorizationDataset(split["val"], config), config.batch_size))


# --- a step and an epoch ------------------------------------------------------------------------------------


class DistanceToOne(nn.Module):
    """In place of VGG16: a term that wants ab of 1 everywhere."""

    def forward(self, L, predicted, true):
        return (predicted - 1).abs().mean()


@pytest.mark.parametrize(
    "options",
    [{}, {"loss": "huber"}, {"weight_decay": 0.5}, {"palette": 3, "palette_likelihood": 0.5}, {"perceptual": 2.0}],
    ids=str,
)
def test_epoch_equals_steps_by_hand(config, monkeypatch, options):
    """With dropout and batch statistics; the loss that is told is L1's, the mean over photos."""
    monkeypatch.setattr("colorlib.losses.Perceptual", DistanceToOne)
    state, batches, counts, total = state_of(config, **options), [batch_of(4, 1), batch_of(4, 2), batch_of(2, 3)], [], 0
    twin = copy.deepcopy(state.train_model).train()
    optimizer = torch.optim.AdamW(twin.parameters(), config.learning_rate, weight_decay=state.config.weight_decay)
    torch.manual_seed(5)
    state.train_model.eval()
    loss, speed = train_epoch(state, batches, after_step=lambda: counts.append((state.step, state.photos)))
    torch.manual_seed(5)
    for batch in batches:
        predicted, palette = twin.forward_with_palette(batch["L"])
        error = (predicted - batch["ab"]).abs()
        total += error.mean().item() * len(error)
        goal = torch.where(error < 0.1, error**2 / 0.2, error - 0.05).mean() if "loss" in options else error.mean()
        if palette:
            goal = goal + 0.5 * palette_nll(palette, batch["ab"])
        if "perceptual" in options:
            goal = goal + 2 * (predicted - 1).abs().mean()
        optimizer.zero_grad()
        goal.backward()
        optimizer.step()
    assert loss == pytest.approx(total / 10, rel=1e-5) and speed > 0 and counts == [(1, 4), (2, 8), (3, 10)]
    found, wanted = (
        {k: v for k, v in model.state_dict().items() if "palette" not in k or "anchors" in k}
        for model in (state.train_model, twin)
    )  # others' gradients are partly 0, but for rounding
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-3)


def test_palette_likelihood_lowers_palette_nll(config):
    batch, found = batch_of(2), []
    for weight in (0.0, 0.5):
        state = state_of(config, dropout=0.0, palette=4, palette_likelihood=weight, learning_rate=5e-3)
        train_epoch(state, [batch] * 60)
        found.append(palette_nll(state.eval_model.forward_with_palette(batch["L"])[1], batch["ab"]).item())
    assert found[1] < found[0] - 0.3


def test_loss_that_is_no_number_stops_the_epoch(config):
    batch = batch_of(2)
    batch["ab"][0, 0, 0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="no longer a number: lower learning_rate"):
        train_epoch(state_of(config), [batch])


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_precision_is_that_of_the_network_not_of_the_weights(config, precision):
    """And a state that is put away goes on to the bit, with float16's scale."""
    state, twin = (state_of(config, precision=precision, palette=3) for _ in range(2))
    kinds, batches = [], [batch_of(2, seed) for seed in range(3)]
    state.train_model.final.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    if precision == "float16":
        state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 512.0})
    train_epoch(state, batches)
    twin.load_state_dict(copy.deepcopy(state.state_dict()))
    saved = torch.get_rng_state()
    losses = [train_epoch(state, batches)[0], *validate_epoch(state, batches)]
    assert kinds == [getattr(torch, precision)] * 9 and all(0 < loss < 1 for loss in losses)
    assert {parameter.dtype for parameter in state.train_model.parameters()} == {torch.float32}
    torch.set_rng_state(saved)
    train_epoch(twin, batches)
    assert_same(twin.state_dict(), state.state_dict())


def test_overflow_in_float16_skips_the_step_and_halves_the_scale(config):
    """It is how the scaler finds its scale; a warning would look like a mistake of the reader's."""
    state = state_of(config, precision="float16")
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 2.0**40})
    before = copy.deepcopy(list(state.train_model.parameters()))
    with warnings.catch_warnings(action="error"):
        train_epoch(state, [batch_of(2)])
    assert_same(list(state.train_model.parameters()), before)
    assert state.scaler.get_scale() == 2.0**39


COSINE = [1, 0.9619, 0.8536, 0.6913, 0.5, 0.3087, 0.1464, 0.0381, 0]  # (1 + cos(π k/8))/2


@pytest.mark.parametrize(
    ("schedule", "warmup", "shares"),
    [
        ("constant", 0.0, [1] * 9),
        ("cosine", 0.1, COSINE),  # a warm-up of less than a step changes nothing
        ("cosine", 0.5, [0.25, 0.5 * COSINE[1], 0.75 * COSINE[2], *COSINE[3:]]),
        ("trapezoid", 0.25, [0.5, 1, 1, 1, 1, 1, 1, 0.5, 0]),
    ],
)
def test_learning_rate_of_each_step(config, schedule, warmup, shares):
    """Of eight steps, of the one that would come next, and of one more."""
    state, rates = state_of(config, schedule=schedule, warmup=warmup, learning_rate=0.01), []
    for _ in range(10):
        rates.append(state.optimizer.param_groups[0]["lr"])
        state.take_step(**batch_of(1))
    assert rates == pytest.approx([0.01 * share for share in [*shares, shares[-1]]], abs=1e-6)


def test_more_epochs_stretch_the_schedule_of_a_continued_run(config):
    short, longer = (state_of(config, steps, schedule="cosine") for steps in (4, 8))
    train_epoch(short, [batch_of(1)] * 3)
    longer.load_state_dict(short.state_dict())
    longer.take_step(**batch_of(1))
    assert longer.optimizer.param_groups[0]["lr"] == pytest.approx(config.learning_rate * 0.5)


def test_moving_average_by_hand(config):
    """Of all weights and of the batch norms' statistics: it starts as the first step's, and keeps 0.75 in each."""
    state, plain, wanted = state_of(config, ema=0.75), state_of(config), {}

    def average() -> None:
        for name, value in state.train_model.state_dict().items():
            wanted[name] = 0.75 * wanted[name] + 0.25 * value if state.step > 1 else value.clone()

    for one, after_step in ((state, average), (plain, None)):
        torch.manual_seed(1)
        train_epoch(one, [batch_of(2, seed) for seed in range(4)], after_step=after_step)
    for name, value in state.eval_model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, wanted[name], atol=1e-6, rtol=1e-5)
    assert_same(state.train_model.state_dict(), plain.train_model.state_dict())
    assert not torch.allclose(state.eval_model.final.weight, plain.eval_model.final.weight, atol=1e-4)


def test_validation_by_hand(config):
    """Photos count alike, also those of a smaller last batch; gray is ab of 0."""
    state, batches = state_of(config), [batch_of(4, 1), batch_of(4, 2), batch_of(1, 3)]
    batches[2]["ab"] += 0.4
    state.train_model = Constant(0.25, -0.5)
    ab = torch.cat([batch["ab"] for batch in batches])
    by_hand = ((ab[:, 0] - 0.25).abs().mean() + (ab[:, 1] + 0.5).abs().mean()) / 2
    assert validate_epoch(state, batches) == pytest.approx((by_hand.item(), ab.abs().mean().item()), rel=1e-5)


def test_validation_is_of_the_average_without_dropout_and_leaves_no_trace(config):
    state = state_of(config, ema=0.5, dropout=0.9)
    train_epoch(state, [batch_of(2)] * 3)
    before = copy.deepcopy(state.state_dict())
    loss = validate_epoch(state, [batch_of(2)])
    assert loss == validate_epoch(state, [batch_of(2)])
    assert_same(state.state_dict(), before)
    nn.init.constant_(state.train_model.final.bias, 0.9)
    assert loss == validate_epoch(state, [batch_of(2)])


@pytest.mark.slow
def test_compiled_steps_equal_plain_ones(config, monkeypatch):
    """torch.compile traces the network; only the machine code, which needs a C++ compiler, is left out."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    plain, compiled = (state_of(config, dropout=0.0, palette=3, compile=flag) for flag in (False, True))
    assert compiled.parallel_model is not compiled.train_model
    losses = [train_epoch(state, [batch_of(2)] * 2)[0] for state in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    plain.load_state_dict(compiled.state_dict())  # under the same names


def test_each_process_drops_other_features_and_the_sums_count_once(config, monkeypatch):
    first, drawn = state_of(config), set()
    train_epoch(first, [batch_of(2)] * 2)
    saved = first.state_dict()
    for number in range(3):
        monkeypatch.setattr(train.dist, "rank", lambda number=number: number)
        state = state_of(config)
        state.seed_epoch()
        drawn.add(tuple(torch.rand(3).tolist()))
        state.load_state_dict(copy.deepcopy(saved))
        drawn.add(tuple(torch.rand(3).tolist()))
        assert (state.step, state.photos, state.epoch_seed) == (2, 0 if number else 4, first.epoch_seed)
        assert state.loss_sum.item() == (0 if number else pytest.approx(saved["loss_sum"]))
    assert len(drawn) == 6


# --- a run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_run(photo_folder, tmp_path_factory):
    """`EVERYTHING` without interruption: its folder and history."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, fit(EVERYTHING, sorted(photo_folder.iterdir()), folder)


def assert_same(a, b) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def assert_same_runs(a: Path, b: Path) -> None:
    """Two finished runs are equal bit for bit, but for the clock and the memory in use."""
    states = [load_checkpoint(run / LAST) for run in (a, b)]
    histories = [pd.DataFrame(state.pop("history"))[LOSSES] for state in states]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    assert len(states[0]["optimizer"]["state"]) > 10
    assert_same(*states)
    assert_same(*(safetensors.torch.load_file(run / BEST) for run in (a, b)))
    pictures = [{path.name: path.read_bytes() for path in (run / "samples").iterdir()} for run in (a, b)]
    assert pictures[0] == pictures[1] and len(pictures[0]) == len(histories[0])
    assert (a / "split.json").read_text() == (b / "split.json").read_text()
    assert not list(b.rglob(".*")), "no leftovers"


def test_run_leaves_every_file(whole_run, photos):
    run, history = whole_run
    wanted = {"config.json", "environment.json", "split.json", "history.csv", LAST, BEST}
    wanted |= {name for k in "012" for name in (f"samples/epoch_00{k}.png", f"weights/epoch_00{k}.safetensors")}
    assert {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()} == wanted
    assert Config.from_json((run / "config.json").read_text()) == EVERYTHING
    split = split_paths(photos, EVERYTHING.val_fraction, EVERYTHING.test_fraction, EVERYTHING.seed)
    assert json.loads((run / "split.json").read_text()) == {k: [path.name for path in v] for k, v in split.items()}
    assert list(history.columns) == [*LOSSES, "images_per_second", "seconds", "memory_gb"]
    assert history["epoch"].tolist() == [1, 2, 3] and history["gray_loss"].nunique() == 1
    assert history["learning_rate"].iloc[-1] == 0 and history["learning_rate"].is_monotonic_decreasing
    assert (history.drop(columns="learning_rate") > 0).all(axis=None) and history["train_loss"].nunique() == 3
    pd.testing.assert_frame_equal(pd.read_csv(run / "history.csv"), history)


def test_sample_picture_has_three_rows(whole_run, photos):
    """Of whole photos to validate on: in gray, in the network's colors, in their own."""
    picture = np.asarray(Image.open(whole_run[0] / "samples" / "epoch_002.png")).astype(int)
    assert picture.shape == (3 * 36 + 4, 2 * 36 + 4, 3)
    names = json.loads((whole_run[0] / "split.json").read_text())["val"]
    for column, name in enumerate(names):
        gray, predicted, true = (picture[y : y + 32, 36 * column + 4 : 36 * column + 36] for y in (4, 40, 76))
        assert np.ptp(gray, axis=-1).max() <= 1 < np.ptp(predicted, axis=-1).max()
        assert np.abs(true - resize_photo(read_photo(photos[0].parent / name), 32)).max() <= 1


def test_best_weights_are_those_of_the_best_epochs_moving_average(whole_run, photos):
    run, history = whole_run
    for epoch, row in history.iterrows():
        model, config = load_model(run / "weights" / f"epoch_{epoch:03d}.safetensors")
        losses = validated(model, config, photos)
        assert losses == pytest.approx((row["val_loss"], row["gray_loss"]), rel=1e-5)
    best = load_model(run / "weights" / f"epoch_{history['val_loss'].idxmin():03d}.safetensors")[0]
    assert_same(load_model(run)[0].state_dict(), best.state_dict())
    state = load_checkpoint(run / LAST)
    assert_same(model.final.weight.detach(), state["ema_model"]["module.final.weight"])
    assert not torch.equal(model.final.weight, state["model"]["final.weight"])


def test_best_of_a_continued_run_may_lie_before_the_break(tmp_path, config, photos, monkeypatch):
    losses, run = iter([0.5, 0.3, 0.3, 0.4]), tmp_path / "run"
    monkeypatch.setattr(train, "validate_epoch", lambda *_: (next(losses), 1.0))
    for epochs in (1, 3, 4):
        fit(config.replace(epochs=epochs, keep_every=2), photos, run)
    best, second = (load_model(run / name)[0].state_dict() for name in (BEST, "weights/epoch_001.safetensors"))
    assert_same(best, second)


def plain_curve(config: Config, photos: list[Path]) -> list[float]:
    """The training losses of each epoch, without any part of ours but the network: Pillow, scikit-image, Adam."""
    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    lab = torch.stack([straightforward(path, config.image_size) for path in split["train"]])
    torch.manual_seed(config.seed)
    model = UNet(config.width, config.depth, dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    losses = []
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
        order, total = torch.randperm(2 * len(lab), generator=generator) % len(lab), 0.0
        for numbers in order.split(config.batch_size):
            loss = F.l1_loss(model(lab[numbers, :1]), lab[numbers, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(numbers)
        losses.append(total / len(order))
    return losses


def test_loss_falls_as_in_a_plain_training(tmp_path, plain_config, photos):
    config = plain_config.replace(precision="float32", epochs=10, crops_per_photo=2, learning_rate=5e-4)
    curve = fit(config, photos, tmp_path / "run")["train_loss"].tolist()
    assert curve == pytest.approx(plain_curve(config, photos), abs=1e-4)
    assert curve[-1] < 0.8 * curve[0]


def test_same_seed_same_curve(tmp_path, whole_run, config, photos):
    """Whatever the order of the files, the state of other generators, and the number of samples."""
    torch.manual_seed(99), random.seed(9), np.random.seed(9)
    fit(EVERYTHING, photos[::-1], tmp_path / "again")
    assert_same_runs(whole_run[0], tmp_path / "again")
    runs = {"few": config, "many": config.replace(samples=50), "other": config.replace(seed=4)}
    few, many, other = (fit(c.replace(epochs=1), photos, tmp_path / name)["val_loss"][0] for name, c in runs.items())
    assert few == many != other
    with Image.open(tmp_path / "many" / "samples" / "epoch_000.png") as picture:
        assert picture.width == 9 * 20 + 4, "photos that are trained on fill the row"


def test_first_epochs_are_small(tmp_path, config, photos, monkeypatch):
    """They use photos that are too small for the others; the schedule still ends at 0, and validation never changes."""
    seen = []

    def spy(state, loader, *rest):
        (size,) = {batch["ab"].shape[-1] for batch in loader}
        seen.append((size, len(loader.dataset)))
        return originals[len(rest) > 0](state, loader, *rest)

    originals = validate_epoch, train_epoch
    monkeypatch.setattr(train, "train_epoch", spy), monkeypatch.setattr(train, "validate_epoch", spy)
    config = config.replace(image_size=44, photo_size=44, small_size=16, small_epochs=2, epochs=3, schedule="cosine")
    history = fit(config, [*photos, *sample_photos()[:5]], tmp_path / "run")
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    large, val = (sum(Path(path).name[:6] != "photo_" for path in split[part]) for part in ("train", "val"))
    assert seen == [(16, len(split["train"])), (44, val)] * 2 + [(44, large), (44, val)] and large < len(split["train"])
    assert history["learning_rate"].iloc[-1] == 0 < history["learning_rate"].iloc[-2]


def test_photos_to_test_on_are_never_read(tmp_path, config, photo_folder, capsys):
    folder = Path(shutil.copytree(photo_folder, tmp_path / "photos"))
    for path in split_paths(folder.iterdir(), config.val_fraction, config.test_fraction, config.seed)["test"]:
        path.write_bytes(b"")
    fit(config.replace(epochs=1), sorted(folder.iterdir()), tmp_path / "run")
    assert "skipped" not in capsys.readouterr().out


def test_on_epoch_stands_for_the_line_and_comes_when_the_epoch_is_safe(tmp_path, config, photos, capsys):
    def on_epoch(history: pd.DataFrame, picture: Path) -> None:
        assert picture == tmp_path / "run" / "samples" / f"epoch_{len(history) - 1:03d}.png" and picture.exists()
        assert load_checkpoint(tmp_path / "run" / LAST)["epoch"] == len(history)
        print(f"heard of {history['epoch'].tolist()}")

    fit(config.replace(epochs=2), photos, tmp_path / "run", on_epoch)
    lines = capsys.readouterr().out.strip("\n").split("\n")
    assert [line.split("\r")[-1] for line in lines] == ["heard of [1]", "heard of [1, 2]"]
    history = fit(config.replace(epochs=3), photos, tmp_path / "run")
    assert capsys.readouterr().out.split("\r")[-1] == epoch_line(history, 3) + "\n"


def test_line_of_an_epoch():
    names = ["train_loss", "val_loss", "gray_loss", "images_per_second", "seconds", "memory_gb"]
    rows = pd.DataFrame([[0.125, 0.11114, 0.15, 123.4, 40, 1.26], [0.125, 0.2, 0.15, 123.4, 20, 2]], columns=names)
    line = "epoch   1/10  train 0.1250  val 0.1111  (gray 0.1500)  123 img/s  1.3 GB  6:00 min left  best"
    assert epoch_line(rows[:1], 10) == line
    assert epoch_line(rows, 13).endswith("val 0.2000  (gray 0.1500)  123 img/s  2.0 GB  5:30 min left")


# --- stopped and continued ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "stops"), [(0, [1, 1]), (1, [2, 2, 3, 1]), (3, [1, 3])])
def test_stopped_run_equals_an_uninterrupted_one(tmp_path, photos, whole_run, monkeypatch, every, stops):
    """Stopped when it has written last.pt so many times: between epochs, or in the middle of them.

    The second row stops within the small epoch, behind its last step, within the next epoch, and there again.
    """
    left, save = [0], checkpoint.save_checkpoint

    def stopping(path, state):
        save(path, state)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_checkpoint", stopping)
    for left[0] in stops:
        with pytest.raises(KeyboardInterrupt):
            fit(EVERYTHING.replace(checkpoint_every=every), photos, tmp_path / "run")
        torch.rand(7), random.seed(2), np.random.seed(3)
    fit(EVERYTHING.replace(checkpoint_every=every), photos, tmp_path / "run")
    assert_same_runs(whole_run[0], tmp_path / "run")


def test_interrupt_says_what_is_safe_and_a_finished_run_stays_as_it_is(tmp_path, config, photos, monkeypatch, capsys):
    history = fit(config.replace(epochs=1), photos, tmp_path / "run")
    before = (tmp_path / "run" / LAST).read_bytes()
    pd.testing.assert_frame_equal(fit(config.replace(epochs=1), photos, tmp_path / "run"), history)
    assert (tmp_path / "run" / LAST).read_bytes() == before
    assert "run run has its 1 epochs already" in capsys.readouterr().out
    monkeypatch.setattr(TrainState, "take_step", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="stopped in epoch 2; 1 epochs of run are safe: run this again to cont"):
        fit(config, photos, tmp_path / "run")
    assert "continuing run after epoch 1 of 4, step 0" in capsys.readouterr().out


@pytest.mark.parametrize(("batch_size", "every", "step"), [(4, 1, 1), (14, 0, None)])
def test_broken_weights_are_not_saved(tmp_path, photos, batch_size, every, step):
    """A step so large that the second loss is no number: that of training, or, after one step, of validation."""
    config = EVERYTHING.replace(warmup=0.0, learning_rate=1e38, checkpoint_every=every, batch_size=batch_size)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        fit(config, photos, tmp_path / "run")
    assert step == (load_checkpoint(tmp_path / "run" / LAST)["step"] if step else None)
    assert (tmp_path / "run" / LAST).exists() == bool(step) and not (tmp_path / "run" / BEST).exists()


def test_other_settings_or_photos_are_refused_by_name(whole_run, photos):
    run, before = whole_run[0], {path: path.read_bytes() for path in whole_run[0].glob("*.*")}
    fixed = {field.name: getattr(OTHER, field.name) for field in FIELDS if not field.metadata.get("free")}
    with pytest.raises(ValueError, match=r"run run was begun otherwise \(.*\): give the new run another") as refusal:
        fit(EVERYTHING.replace(**fixed, samples=9), photos, run)
    changed = [f"{k} was {getattr(EVERYTHING, k)}, is {v}" for k, v in fixed.items() if getattr(EVERYTHING, k) != v]
    assert "; ".join(changed) in str(refusal.value) and len(changed) > 20 and "samples" not in str(refusal.value)
    with pytest.raises(ValueError, match="begun with other photos"):
        fit(EVERYTHING, photos[:-1], run)
    assert {path: path.read_bytes() for path in run.glob("*.*")} == before


def test_free_settings_may_change(tmp_path, whole_run, photos):
    shutil.copytree(whole_run[0], tmp_path / "run")
    free = {field.name: getattr(OTHER, field.name) for field in FIELDS if field.metadata.get("free")}
    history = fit(EVERYTHING.replace(**free | {"epochs": 4, "compile": False}), photos, tmp_path / "run")
    assert history["train_loss"].tolist()[:3] == whole_run[1]["train_loss"].tolist() and len(history) == 4


@pytest.mark.slow
def test_killed_run_equals_an_uninterrupted_one(tmp_path, photo_folder, photos, outputs):
    """Ctrl-C, then twice SIGKILL at a random moment: every file is whole, and the run goes on."""
    changes = {"schedule": "constant", "warmup": 0.0, "epochs": 9999, "keep_every": 0, "checkpoint_every": 2}
    config, run, chance = EVERYTHING.replace(**changes), outputs / "long", random.Random()
    command = [sys.executable, "-m", "colorlib.train", f"--data={photo_folder}", "--run=long", "--device=cpu"]
    for kill in (signal.SIGINT, signal.SIGKILL, signal.SIGKILL):
        safe = load_checkpoint(run / LAST)["epoch"] if (run / LAST).exists() else 0
        with subprocess.Popen([*command, *options_of(config)], stderr=subprocess.PIPE, text=True) as process:
            while not (run / "samples" / f"epoch_{safe:03d}.png").exists() and process.poll() is None:
                time.sleep(0.02)
            time.sleep(chance.uniform(0.05, 0.5))
            process.send_signal(kill)
            error = process.communicate(timeout=60)[1].strip()
        assert process.returncode == (130 if kill == signal.SIGINT else -kill), error
        assert "\n" not in error and ("safe: run this again" in error) == (kill == signal.SIGINT)
        state, (_, settings) = load_checkpoint(run / LAST), load_model(run)
        assert state["epoch"] >= safe + (kill == signal.SIGINT) and settings == config
        assert len(pd.read_csv(run / "history.csv")) in (state["epoch"], state["epoch"] + 1)
    goal = config.replace(epochs=state["epoch"] + 1)
    fit(goal, photos, run)
    fit(goal, photos, tmp_path / "whole")
    assert_same_runs(tmp_path / "whole", run)


# --- the command line ---------------------------------------------------------------------------------------

OTHER = Config(
    width=8, depth=5, dropout=0.1, palette=4, residual_blocks=2, image_size=32, photo_size=48, val_fraction=0.2,
    test_fraction=0.3, min_crop=0.5, flip=False, rotate=3.5, contrast=0.15, gamma=0.3, saturation=0.25,
    crops_per_photo=3, small_size=32, small_epochs=2, batch_size=5, loss="huber", palette_likelihood=0.5,
    perceptual=0.2, learning_rate=0.01, weight_decay=0.01, warmup=0.1, schedule="trapezoid", ema=0.99, epochs=7,
    precision="bfloat16", compile=True, num_workers=3, checkpoint_every=9, keep_every=2, samples=6, seed=11,
    flip_tta=True, vividness=0.4,
)  # fmt: skip


@pytest.fixture
def fitted(monkeypatch):
    """What `main` passes to `fit`, which does nothing here, on a computer without COCO."""
    calls = []
    monkeypatch.setattr("colorlib.data.find_coco", lambda: None)
    monkeypatch.setattr(train, "fit", lambda *arguments, device: calls.append((*arguments, device)))
    return calls


def test_every_setting_is_an_option_with_its_help(fitted, capsys):
    assert main(options_of(OTHER)) == 0 and fitted[0][0] == OTHER
    assert all(getattr(OTHER, field.name) != getattr(TINY, field.name) for field in FIELDS)
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for field in FIELDS:
        option = f"--{field.name.replace('_', '-')}"
        assert re.search(rf"{option}(, --no-\S+| \S+) {re.escape(field.metadata['help'])}", text), option


def test_presets_data_run_and_device(fitted, outputs, photo_folder, photos, capsys):
    for preset, config in PRESETS.items():
        assert main(["--preset", preset, "--data", str(photo_folder)]) == 0
        assert fitted[-1] == (config, photos, outputs / preset, None)
    assert main(["--run", "mine", "--device", "cpu", "--no-flip"]) == 0
    assert fitted[-1] == (TINY.replace(flip=False), sample_photos(), outputs / "mine", "cpu")
    assert capsys.readouterr().out.endswith(f"done: {outputs / 'mine'}\n")


@pytest.mark.parametrize("arguments", [["--preset=huge"], ["--width=wide"], ["--colors=1"], ["--precision=int4"]])
def test_unknown_options_and_values(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last and arguments[0].partition("=")[0] in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=nowhere"], "there is no folder nowhere"),
        (["--width=0"], "width must be 1 or more"),
        (["--device=quantum"], "device 'quantum' cannot be used here"),
        (["--run=.."], "a run needs a name of its own, got '..'"),
        (["--data=one"], "1 photos are too few to split"),
    ],
)
def test_what_cannot_be_is_explained_in_a_line(capsys, tmp_path, monkeypatch, outputs, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "one" / "a.png")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}") and not list(outputs.iterdir())


def test_batch_that_cannot_be_shared_evenly(tmp_path, config, photos, monkeypatch):
    monkeypatch.setattr(train.dist, "world_size", lambda: 3)
    with pytest.raises(ValueError, match="batch_size 4 cannot be shared evenly by 3 processes"):
        fit(config, photos, tmp_path / "run")


@pytest.mark.parametrize(("error", "code"), [(FloatingPointError, 2), (KeyboardInterrupt, 130)])
def test_exit_codes(capsys, monkeypatch, error, code):
    def fail(*_, **__):
        raise error("in epoch 3")

    monkeypatch.setattr(train, "fit", fail)
    assert main([]) == code and capsys.readouterr().err.strip() in ("error: in epoch 3", "in epoch 3")


def test_command_line_trains(capsys, outputs, photo_folder):
    config = EVERYTHING.replace(epochs=1, small_epochs=0)
    assert main([f"--data={photo_folder}", "--run=mine", "--device=cpu", *options_of(config)]) == 0
    printed = capsys.readouterr()
    assert "epoch   1/1" in printed.out and printed.err == "", "a saved notebook shows stderr as an error"
    assert load_model(outputs / "mine")[1] == config


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [0.0, 0.05])
def test_two_processes_train_a_palette_as_one_does(tmp_path, photos, outputs, likelihood):
    """Copies of one photo, so that the batch statistics of halves are those of whole batches."""
    folder, whole = tmp_path / "photos", {"min_crop": 1.0, "flip": False, "rotate": 0.0, "dropout": 0.0}
    folder.mkdir()
    for number in range(10):
        shutil.copy(photos[0], folder / f"{number}.png")
    config = EVERYTHING.replace(palette_likelihood=likelihood, contrast=0.0, gamma=0.0, saturation=0.0, **whole)
    alone = fit(config, sorted(folder.iterdir()), tmp_path / "alone")["train_loss"].tolist()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m"]
    command += ["colorlib.train", f"--data={folder}", "--run-name=two", "--device=cpu", *options_of(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.count("epoch   3/3") == 1, done.stderr
    together = pd.read_csv(outputs / "two" / "history.csv")["train_loss"].tolist()
    assert together == pytest.approx(alone, rel=1e-4) and len(set(together)) == 3
