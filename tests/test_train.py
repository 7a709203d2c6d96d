"""The loop: it learns, it counts right, it can be stopped anywhere and goes on bit for bit; its command line."""

import contextlib
import copy
import dataclasses
import functools
import io
import json
import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch
from conftest import assert_same, files
from PIL import Image
from torch import nn

from benchmarks import speed
from colorlib import checkpoint, train
from colorlib.checkpoint import BEST, LAST, load_checkpoint, load_model
from colorlib.color import encode_lab, lab_to_rgb_image, rgb_to_lab
from colorlib.config import PRESETS, TINY, Config
from colorlib.data import ColorizationDataset, get_dataloader, sample_photos, split_paths
from colorlib.losses import palette_nll
from colorlib.model import UNet
from colorlib.photo import read_photo, resize_photo, to_tensor
from colorlib.train import TrainState, epoch_line, main, train_epoch, validate_epoch

CPU = torch.device("cpu")
fit = functools.partial(train.fit, device="cpu")  # bit for bit is a promise for the CPU
FIELDS = dataclasses.fields(Config)
LOSSES = ["epoch", "photos", "train_loss", "val_loss", "gray_loss", "learning_rate"]  # what the clock has no part in
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


# --- a step and an epoch ------------------------------------------------------------------------------------


class DistanceToOne(nn.Module):
    """In place of VGG16: a term that wants ab of 1 everywhere."""

    def forward(self, L, predicted, true):
        return (predicted - 1).abs().mean()


@pytest.mark.parametrize(
    "options",
    [{}, {"loss": "huber"}, {"weight_decay": 0.5}, {"palette": 3, "palette_likelihood": 0.5}, {"perceptual": 2.0},
     {"ema": 0.75}],
    ids=str,
)  # fmt: skip
def test_epoch_equals_steps_by_hand(config, monkeypatch, options):
    """With dropout and batch statistics; the loss that is told is L1's, the mean over photos.

    The moving average is of all weights and of the batch norms' statistics; it starts as the first step's.
    """
    monkeypatch.setattr("colorlib.losses.Perceptual", DistanceToOne)
    state, batches, counts, total = state_of(config, **options), [batch_of(4, 1), batch_of(4, 2), batch_of(2, 3)], [], 0
    kept, average = options.get("ema", 0), {}
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
        for name, value in twin.state_dict().items():
            if value.is_floating_point():
                average[name] = kept * average.get(name, value) + (1 - kept) * value
    assert loss == pytest.approx(total / 10, rel=1e-5) and speed > 0 and counts == [(1, 4), (2, 8), (3, 10)]
    for model, wanted in ((state.train_model, twin.state_dict()), (state.eval_model, average)):
        for name, value in model.state_dict().items():  # a palette's other gradients are partly 0, but for rounding
            if value.is_floating_point() and ("palette" not in name or "anchors" in name):
                torch.testing.assert_close(value, wanted[name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_pretrained_encoder_is_frozen_or_learns_more_slowly(config, rate):
    state = state_of(config, encoder="tf_efficientnet_lite0", depth=5, encoder_rate=rate)
    before = copy.deepcopy(state.train_model.state_dict())
    state.train_model.train()
    state.take_step(**batch_of(4))
    moved = {}
    for name, value in state.train_model.state_dict().items():
        part = "encoder" if name.startswith("encoder.") else "decoder"
        change = (value - before[name]).abs().max().item()
        if "running" not in name and "num_batches" not in name:
            moved[part] = max(moved.get(part, 0), change)  # Adam's first step is the learning rate
        elif part == "encoder":
            assert bool(change) == bool(rate)  # a frozen encoder keeps its batch norms' statistics
    assert moved["decoder"] == pytest.approx(config.learning_rate, rel=1e-2)
    assert moved["encoder"] == pytest.approx(rate * config.learning_rate, rel=1e-2)


def test_training_begins_with_the_pretrained_weights(tmp_path, config, photos):
    torch.manual_seed(1)
    weights = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    encoder = {"encoder": "tf_efficientnet_lite0", "depth": 5, "encoder_weights": str(tmp_path / "weights.pth")}
    fit(config.replace(epochs=1, ema=0.5, **encoder), photos, tmp_path / "run")
    trained = load_model(tmp_path / "run")[0].encoder.state_dict()
    torch.testing.assert_close(trained["blocks.6.0.bn3.weight"], weights["blocks.6.0.bn3.weight"])


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


COSINE = [1, 0.9619, 0.8536, 0.6913, 0.5, 0.3087, 0.1464, 0.0381, 0]  # (1 + cos(π k/8))/2


@pytest.mark.parametrize(
    ("schedule", "warmup", "shares"),  # a warm-up of less than a step changes nothing
    [("constant", 0.0, [1] * 9), ("cosine", 0.1, COSINE), ("trapezoid", 0.25, [0.5, 1, 1, 1, 1, 1, 1, 0.5, 0]),
     ("cosine", 0.5, [0.25, 0.5 * COSINE[1], 0.75 * COSINE[2], *COSINE[3:]])],
)  # fmt: skip
def test_learning_rate_of_each_step(config, schedule, warmup, shares):
    """Of eight steps, of the one that would come next, and of one more."""
    state, rates = state_of(config, schedule=schedule, warmup=warmup, learning_rate=0.01), []
    for _ in range(10):
        rates.append(state.optimizer.param_groups[0]["lr"])
        state.take_step(**batch_of(1))
    assert rates == pytest.approx([0.01 * share for share in [*shares, shares[-1]]], abs=1e-6)


def test_validation_by_hand(config):
    """Of the average, without dropout, leaving no trace; all photos count alike, also those of a smaller last batch."""
    state, batches = state_of(config, ema=0.5, dropout=0.9), [batch_of(4, 1), batch_of(4, 2), batch_of(1, 3)]
    batches[2]["ab"] += 0.4
    train_epoch(state, batches)
    model, before = copy.deepcopy(state.ema_model.module).eval(), copy.deepcopy(state.state_dict())
    L, ab = (torch.cat([batch[name] for batch in batches]) for name in ("L", "ab"))
    with torch.no_grad():
        by_hand = (model(L) - ab).abs().mean().item(), ab.abs().mean().item()
    assert validate_epoch(state, batches) == pytest.approx(by_hand, rel=1e-5)
    assert_same(state.state_dict(), before)
    nn.init.constant_(state.train_model.final.bias, 0.9)
    assert validate_epoch(state, batches) == pytest.approx(by_hand, rel=1e-5)


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
    first, drawn = state_of(config), []
    train_epoch(first, [batch_of(2)] * 2)
    for number, photos in enumerate((4, 0)):
        monkeypatch.setattr(train.dist, "rank", lambda number=number: number)
        state = state_of(config)
        state.load_state_dict(copy.deepcopy(first.state_dict()))
        drawn.append(torch.rand(3).tolist())
        assert (state.step, state.photos, state.loss_sum) == (2, photos, first.loss_sum if photos else 0)
    assert drawn[0] != drawn[1]


# --- a run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_run(photo_folder, tmp_path_factory):
    """`EVERYTHING` by the command line, without interruption: its folder and history."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with contextlib.redirect_stderr(io.StringIO()) as error:
        assert main([f"--data={photo_folder}", f"--run={folder}", "--device=cpu", *options_of(EVERYTHING)]) == 0
    assert error.getvalue() == "", "a saved notebook shows stderr as an error"
    return folder, pd.read_csv(folder / "history.csv")


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
    assert set(files(run)) == wanted
    assert Config.from_json((run / "config.json").read_text()) == EVERYTHING
    split = split_paths(photos, EVERYTHING.val_fraction, EVERYTHING.test_fraction, EVERYTHING.seed)
    assert json.loads((run / "split.json").read_text()) == {k: [path.name for path in v] for k, v in split.items()}
    assert list(history.columns) == [*LOSSES, "images_per_second", "seconds", "memory_gb"]
    assert history["epoch"].tolist() == [1, 2, 3] and history["gray_loss"].nunique() == 1
    assert history["learning_rate"].iloc[-1] == 0 and history["learning_rate"].is_monotonic_decreasing
    assert (history.drop(columns="learning_rate") > 0).all(axis=None) and history["train_loss"].nunique() == 3
    model, picture = load_model(run / "weights/epoch_002.safetensors")[0], Image.open(run / "samples/epoch_002.png")
    picture = np.asarray(picture)
    assert picture.shape == (3 * 36 + 4, 2 * 36 + 4, 3)
    for column, path in enumerate(split["val"]):  # below each other: in gray, in the network's colors, in their own
        L, ab = encode_lab(rgb_to_lab(to_tensor(resize_photo(read_photo(path), 32))[None]))
        shown = picture[4:, 36 * column + 4 : 36 * column + 36].reshape(3, 36, 32, 3)[:, :32].astype(int)
        assert np.abs(shown - [lab_to_rgb_image(L, colors) for colors in (0 * ab, model(L), ab)]).max() <= 1


def test_best_weights_are_those_of_the_best_epochs_moving_average(whole_run, photos):
    run, history = whole_run
    state = state_of(EVERYTHING, ema=0.0)
    split = split_paths(photos, EVERYTHING.val_fraction, EVERYTHING.test_fraction, EVERYTHING.seed)
    loader = get_dataloader(ColorizationDataset(split["val"], EVERYTHING), EVERYTHING.batch_size)
    for epoch, row in history.iterrows():
        model, config = load_model(run / "weights" / f"epoch_{epoch:03d}.safetensors")
        state.train_model.load_state_dict(model.state_dict())
        assert validate_epoch(state, loader) == pytest.approx((row["val_loss"], row["gray_loss"]), rel=1e-5)
        assert config == EVERYTHING
    assert history["val_loss"].idxmin() == 1, "not the last one, so that a continued run has to know the best so far"
    assert_same(load_model(run)[0].state_dict(), load_model(run / "weights/epoch_001.safetensors")[0].state_dict())
    state = load_checkpoint(run / LAST)
    assert_same(model.final.weight.detach(), state["ema_model"]["module.final.weight"])
    assert not torch.equal(model.final.weight, state["model"]["final.weight"])


def test_loss_falls_as_in_a_plain_training(tmp_path, photos):
    """The benchmark's: Pillow, scikit-image, Adam, and no part of ours but the network."""
    config = Config(
        width=4, depth=4, dropout=0.0, image_size=16, crops_per_photo=2, val_fraction=0.2, batch_size=7,
        learning_rate=5e-4, epochs=10, precision="float32", num_workers=0,
    )  # fmt: skip
    split = split_paths(photos, config.val_fraction, config.test_fraction, config.seed)
    L, ab = map(torch.stack, zip(*speed.PlainDataset(split["train"], config.image_size), strict=True))
    torch.manual_seed(config.seed)
    model = UNet(**config.network)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    losses = []
    for epoch in range(config.epochs):
        generator = torch.Generator().manual_seed(config.seed * 100_003 + epoch)
        order = torch.randperm(2 * len(L), generator=generator) % len(L)
        batches = [(L[numbers], ab[numbers]) for numbers in order.split(config.batch_size)]
        losses.append(speed.plain_training(model, optimizer, batches, CPU) / len(batches))
    assert fit(config, photos, tmp_path / "run")["train_loss"].tolist() == pytest.approx(losses, abs=1e-4)
    assert losses[-1] < 0.8 * losses[0]


def test_training_starts_from_the_weights_of_a_run(tmp_path, whole_run, photos):
    run, config = whole_run[0], EVERYTHING.replace(start_from=str(whole_run[0]))
    assert config.view_seed != EVERYTHING.view_seed == EVERYTHING.seed, "other views than before"
    fit(config.replace(epochs=1, learning_rate=1e-12), photos, tmp_path / "more")
    before, after = (load_model(folder)[0].named_parameters() for folder in (run, tmp_path / "more"))
    for (name, old), (_, new) in zip(before, after, strict=True):
        torch.testing.assert_close(new, old, atol=1e-6, rtol=0, msg=name)
    with pytest.raises(ValueError, match="has another network"):
        fit(config.replace(width=5), photos, tmp_path / "other")


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


def test_first_epochs_are_small(tmp_path, config, photo_folder, monkeypatch):
    """They use photos that are too small for the others; the schedule still ends at 0."""
    seen = []

    def spy(state, loader, *rest):
        seen.append((next(iter(loader))["ab"].shape[-1], len(loader.dataset)))
        return train_epoch(state, loader, *rest)

    monkeypatch.setattr(train, "train_epoch", spy)
    config = config.replace(image_size=44, photo_size=44, small_size=16, small_epochs=2, epochs=3, schedule="cosine")
    folder = Path(shutil.copytree(photo_folder, tmp_path / "photos"))
    for path in sample_photos()[:5]:
        shutil.copy(path, folder)
    history = fit(config, list(folder.iterdir()), tmp_path / "run")
    names = json.loads((tmp_path / "run" / "split.json").read_text())["train"]
    large = sum(Path(name).name[:6] != "photo_" for name in names)
    assert seen == [(16, len(names))] * 2 + [(44, large)] and large < len(names)
    assert history["learning_rate"].iloc[-1] == 0 < history["learning_rate"].iloc[-2]


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
    row = {"val_loss": [0.11, 0.2], "train_loss": 0.125, "gray_loss": 0.15}
    row |= {"images_per_second": 123.4, "seconds": [40, 20], "memory_gb": 1}
    line = epoch_line(pd.DataFrame(row), 13)
    assert line == "epoch   2/13  train 0.1250  val 0.2000  (gray 0.1500)  123 img/s  1.0 GB  5:30 min left"


@pytest.mark.parametrize("broken", [b"dear diary", "cut off", "too small"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_photo_that_cannot_be_used_ends_no_training(tmp_path, config, photos, capsys, part, broken):
    """Though it is the only one of its part: the others are split without it. It is named, with the reason."""
    config = config.replace(epochs=1, val_fraction=0.3, test_fraction=0.0)
    paths = [Path(shutil.copy(path, tmp_path)) for path in photos[:3]]
    shares = {"train": {"val_fraction": 0.6}, "val": {}}[part]
    config = config.replace(**shares)
    split = split_paths(paths, config.val_fraction, config.test_fraction, config.seed)
    (path,) = split[part]
    if broken == "too small":
        Image.open(path).resize((40, 15)).save(path)
    else:
        path.write_bytes(broken if isinstance(broken, bytes) else path.read_bytes()[:2000])
    fit(config, paths, tmp_path / "run")
    printed = capsys.readouterr().out
    assert printed.startswith("left out: 1 of 3 files:\n  " + path.name) and "no photos to validate" not in printed
    told = json.loads((tmp_path / "run" / "split.json").read_text())
    assert sorted(told["train"] + told["val"]) == sorted({other.name for other in paths} - {path.name})
    fit(config.replace(epochs=2), paths, tmp_path / "run")
    assert "continuing run after epoch 1 of 2" in capsys.readouterr().out, "the split is the same again"


@pytest.mark.parametrize(("gray", "words"), [(10, "note: 8 of 8 training photos are gray"), (4, ""), (0, "")])
def test_a_folder_of_gray_photos_is_told(tmp_path, config, photos, capsys, gray, words):
    for number, path in enumerate(photos):
        Image.open(path).convert("L" if number < gray else "RGB").save(tmp_path / path.name)
    fit(config.replace(epochs=1, test_fraction=0.0), sorted(tmp_path.iterdir()), tmp_path / "run")
    printed = capsys.readouterr().out
    assert words in printed and ("note: " in printed) == bool(words)


def test_fewer_photos_than_processes(tmp_path, config, photos, monkeypatch):
    monkeypatch.setattr(train.dist, "world_size", lambda: 2)
    monkeypatch.setattr(train.dist, "main_process_first", contextlib.nullcontext)
    with pytest.raises(ValueError, match=r"an epoch of 1 photos cannot be shared by 2 processes: add photos"):
        fit(config.replace(test_fraction=0.0, val_fraction=0.5), photos[:2], tmp_path / "run")


def test_a_gpu_finds_its_fastest_convolutions_once(tmp_path, config, photos, monkeypatch):
    """In notebooks, too: all batches have one size. A CPU's process keeps its setting."""

    def stop(*_):
        raise InterruptedError

    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(train, "load_state", stop)
    for kind in ("cpu", "cuda"):
        monkeypatch.setattr(train, "pick_device", lambda name, kind=kind: torch.device(kind))
        with pytest.raises(InterruptedError):
            train.fit(config, photos, tmp_path / "run")
        assert torch.backends.cudnn.benchmark == (kind == "cuda")


def test_where_nobody_watches_the_progress_bar_is_rarely_written(config, monkeypatch, capsys):
    """A saved notebook and a log keep every state of it: an hour of them was two megabytes."""
    now = [0.0]
    monkeypatch.setattr(train.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    lengths = []
    for interval in (0.5, 30.0):
        monkeypatch.setattr(train, "progress_interval", lambda interval=interval: interval)
        state = state_of(config)

        def steps():
            for number in range(600):  # ten minutes
                now[0] += 1
                yield batch_of(1, number)

        monkeypatch.setattr(state, "take_step", lambda L, ab, state=state: setattr(state, "photos", state.photos + 1))
        train_epoch(state, steps(), "epoch 1/1")
        printed = capsys.readouterr().out
        assert "loss=0.0000" in printed and "images_per_second=1" in printed
        lengths.append(len(printed))
    assert lengths[1] < 5_000 < lengths[0]


# --- stopped and continued ----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
@pytest.mark.parametrize(("every", "kills"), [(0, [1, -2, 1]), (1, [2, 2, -3, 1]), (3, [-1, 3])])
def test_killed_run_equals_an_uninterrupted_one(tmp_path, photos, whole_run, monkeypatch, every, kills):
    """Killed behind the nth time that it writes last.pt, or (-n) before: between epochs, or in the middle of them.

    The second row is killed within the small epoch, behind its last step, within the next epoch, and there again.
    """
    config, save = EVERYTHING.replace(checkpoint_every=every), checkpoint.save_checkpoint

    def saving(path, state):
        calls.append(path)
        if len(calls) != -kill:
            save(path, state)
        if len(calls) == abs(kill):
            os.kill(os.getpid(), signal.SIGKILL)

    for kill in kills:  # noqa: B007 (`saving` reads it)
        calls = []
        if (child := os.fork()) == 0:
            monkeypatch.setattr(checkpoint, "save_checkpoint", saving)
            fit(config, photos, tmp_path / "run")
            os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    fit(config, photos, tmp_path / "run")
    assert_same_runs(whole_run[0], tmp_path / "run")


def test_interrupt_says_what_is_safe_and_a_finished_run_stays_as_it_is(tmp_path, config, photos, monkeypatch, capsys):
    history = fit(config.replace(epochs=1), photos, tmp_path / "run")
    before = (tmp_path / "run" / LAST).read_bytes()
    pd.testing.assert_frame_equal(fit(config.replace(epochs=1), photos, tmp_path / "run"), history)
    assert (tmp_path / "run" / LAST).read_bytes() == before
    assert "run run has its 1 epochs already" in capsys.readouterr().out
    monkeypatch.setattr(TrainState, "take_step", lambda *_: signal.raise_signal(signal.SIGINT))
    assert main([f"--data={photos[0].parent}", f"--run={tmp_path / 'run'}", "--device=cpu", *options_of(config)]) == 130
    printed = capsys.readouterr()
    assert "stopped in epoch 2; 1 epochs of run are safe: run this again to continue" in printed.err
    assert "continuing run after epoch 1 of 4, step 0" in printed.out


@pytest.mark.parametrize(("batch_size", "every", "step"), [(4, 1, 1), (14, 0, None)])
def test_broken_weights_are_not_saved(tmp_path, photo_folder, capsys, batch_size, every, step):
    """A step so large that the second loss is no number: that of training, or, after one step, of validation."""
    config = EVERYTHING.replace(warmup=0.0, learning_rate=1e38, checkpoint_every=every, batch_size=batch_size)
    assert main([f"--data={photo_folder}", f"--run={tmp_path / 'run'}", "--device=cpu", *options_of(config)]) == 2
    assert "error: the loss is no longer a number: lower learning_rate" in capsys.readouterr().err
    assert step == (load_checkpoint(tmp_path / "run" / LAST)["step"] if step else None)
    assert (tmp_path / "run" / LAST).exists() == bool(step) and not (tmp_path / "run" / BEST).exists()


def test_free_settings_may_change_others_and_photos_are_refused_by_name(tmp_path, whole_run, photos):
    run, before = whole_run[0], {path: path.read_bytes() for path in whole_run[0].glob("*.*")}
    free, fixed = (
        {field.name: getattr(OTHER, field.name) for field in FIELDS if bool(field.metadata.get("free")) == kind}
        for kind in (True, False)
    )
    with pytest.raises(ValueError, match=r"run run was begun otherwise \(.*\): give the new run another") as refusal:
        fit(EVERYTHING.replace(**fixed, samples=9), photos, run)
    changed = [f"{k} was {getattr(EVERYTHING, k)}, is {v}" for k, v in fixed.items() if getattr(EVERYTHING, k) != v]
    assert "; ".join(changed) in str(refusal.value) and len(changed) > 20 and "samples" not in str(refusal.value)
    assert {path: path.read_bytes() for path in run.glob("*.*")} == before
    shutil.copytree(run, tmp_path / "run")
    changes = free | {"epochs": 5, "compile": False, "keep_every": 3}
    history = fit(EVERYTHING.replace(**changes), photos, tmp_path / "run")
    assert history["train_loss"].tolist()[:3] == whole_run[1]["train_loss"].tolist() and len(history) == 5
    assert history["learning_rate"][3] == pytest.approx(1.9098e-4, rel=1e-3), "step 16 of 20: the cosine is stretched"
    assert not (tmp_path / "run" / "weights" / "epoch_003.safetensors").exists(), "of epochs 3, 6, 9 … only"


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A session on Kaggle: its empty outputs folder, and the folder of its inputs."""
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(tmp_path / "working" / "outputs"))
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path / "input"))
    return tmp_path / "working" / "outputs", tmp_path / "input"


def test_the_next_session_goes_on_with_the_output_of_the_one_before(kaggle, photos, whole_run, capsys):
    """Of 12 hours each: attached as an input, it is found by the run's name, copied, and continued to the bit."""
    outputs, inputs = kaggle
    attached = inputs / "training" / "outputs"

    def stop_after_two(history, _):
        if len(history) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(EVERYTHING, photos, "mine", stop_after_two)
    shutil.copytree(outputs / "mine", attached / "mine")
    before = {name: (attached / "mine" / name).read_bytes() for name in files(attached / "mine")}
    shutil.rmtree(outputs)
    with pytest.raises(ValueError, match="run mine was begun otherwise"):
        fit(EVERYTHING.replace(seed=9), photos, "mine")
    assert not outputs.exists()
    fit(EVERYTHING, photos, "mine")
    printed = capsys.readouterr().out
    assert f"mine was begun in {attached / 'mine'}: what it left there is copied to {outputs / 'mine'}" in printed
    assert "continuing mine after epoch 2 of 3" in printed
    assert_same_runs(whole_run[0], outputs / "mine")
    assert {name: (attached / "mine" / name).read_bytes() for name in files(attached / "mine")} == before
    shutil.rmtree(outputs)
    fit(EVERYTHING.replace(epochs=1), photos, "other")
    assert "was begun in" not in capsys.readouterr().out, "only a run of the same name"


@pytest.mark.parametrize("name", ["release", "run"])
def test_no_training_writes_over_weights_that_it_has_not_made(outputs, config, photos, name):
    """The shipped release, and any folder of weights without the state that would continue their training."""
    checkpoint.save_model(outputs / name / BEST, UNet(**config.network), config, epoch=12)
    before = {path: (outputs / path).read_bytes() for path in files(outputs)}
    with pytest.raises(ValueError, match="give the new run another name"):
        fit(config, photos, name)
    assert {path: (outputs / path).read_bytes() for path in files(outputs)} == before


# --- the command line ---------------------------------------------------------------------------------------

OTHER = Config(
    width=8, depth=5, dropout=0.1, palette=4, residual_blocks=2, image_size=32, photo_size=48, val_fraction=0.2,
    test_fraction=0.3, min_crop=0.5, flip=False, rotate=3.5, contrast=0.15, gamma=0.3, saturation=0.25,
    crops_per_photo=3, small_size=32, small_epochs=2, batch_size=5, loss="huber", palette_likelihood=0.5,
    perceptual=0.2, learning_rate=0.01, weight_decay=0.01, warmup=0.1, schedule="trapezoid", ema=0.99, epochs=7,
    precision="bfloat16", compile=True, num_workers=3, checkpoint_every=9, keep_every=2, samples=6, seed=11,
    flip_tta=True, vividness=0.4, start_from="release", encoder_weights="weights.pth", encoder_rate=0.1,
    most_per_folder=50, render_size=160,
)  # fmt: skip
PRETRAINED = TINY.replace(encoder="resnet18")  # which cannot have residual blocks beside it


@pytest.fixture
def fitted(monkeypatch):
    """What `main` passes to `fit`, which does nothing here, on a computer without COCO."""
    calls = []
    monkeypatch.setattr("colorlib.data.find_coco", lambda: None)
    monkeypatch.setattr(train, "fit", lambda *arguments, device: calls.append((*arguments, device)))
    return calls


def test_every_setting_is_an_option_with_its_help(fitted, capsys):
    assert main(options_of(OTHER)) == 0 and fitted[0][0] == OTHER
    assert main(options_of(PRETRAINED)) == 0 and fitted[1][0] == PRETRAINED
    changed = {field.name for field in FIELDS if getattr(OTHER, field.name) != getattr(TINY, field.name)}
    assert changed | {"encoder"} == {field.name for field in FIELDS}
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert [field.name for field in FIELDS if field.metadata["help"] not in text] == []


def test_presets_data_run_and_device(fitted, outputs, photo_folder, photos, capsys):
    for preset, config in PRESETS.items():
        assert main(["--preset", preset, "--data", str(photo_folder)]) == 0
        name = "my-release" if preset == "release" else preset  # what is shipped is not overwritten
        assert fitted[-1] == (config, photos, outputs / name, None)
    assert main(["--run", "mine", "--device", "cpu", "--no-flip"]) == 0
    assert fitted[-1] == (TINY.replace(flip=False), sample_photos(), outputs / "mine", "cpu")
    assert capsys.readouterr().out.endswith(f"done: {outputs / 'mine'}\n")


def test_what_cannot_be_is_explained_in_a_line(capsys, tmp_path, monkeypatch, outputs, photo_folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "one" / "a.png")
    wrong = {"--data=nowhere": "there is no folder nowhere", "--data=one": "1 photos are too few to split"}
    wrong |= {"--width=0": "width must be 1 or more", "--run=..": "a run needs a name of its own, got '..'"}
    wrong |= {"--device=quantum": "device 'quantum' cannot be used here", "--run=release": "the run release comes with"}
    wrong |= {f"--data={photo_folder}": "none of the 10 files can be used (photo_00.png: smaller than 64 px"}
    for option, message in wrong.items():
        assert main([option]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {message}") and not list(outputs.iterdir())
    monkeypatch.setattr(train.dist, "world_size", lambda: 3)
    assert main(["--batch-size=4"]) == 2 and "batch_size 4 cannot be shared evenly by 3 pro" in capsys.readouterr().err
