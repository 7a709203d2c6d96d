"""The ablation: its rows differ in what they say and in nothing else, and the leak is of the test photos alone."""

import itertools
import json
import math
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from benchmarks import ablation
from colorlib.checkpoint import load_model
from colorlib.config import SEED, Config
from colorlib.data import ColorizationDataset, sample_photos
from colorlib.losses import Huber
from colorlib.model import UNet
from colorlib.state import Training

TINY = Config(
    width=4, depth=4, dropout=0.0, image_size=16, photo_size=16, batch_size=2, learning_rate=1e-3, epochs=2,
    val_fraction=0.25, test_fraction=0.0, num_workers=0, samples=1, precision="float32",
)  # fmt: skip


# --- what is compared ---------------------------------------------------------------------------------------


def test_names_of_the_runs():
    assert ablation.run_name("original recipe", 0) == "ablation-original-recipe-0"
    assert ablation.run_name("new recipe, Huber", 2) == "ablation-new-recipe-huber-2"
    assert ablation.run_name("+ residual blocks", 10) == "ablation-residual-blocks-10"
    leak = "ablation-leak-other-photos-in-their-place-0"
    assert ablation.run_name(ablation.LEAK_ROWS[1], 0) == leak
    rows = [*ablation.ROWS, *ablation.LEAK_ROWS]
    names = {ablation.run_name(row, seed) for row in rows for seed in range(3)}
    assert len(names) == 3 * len(rows), "no two runs share a folder"
    assert all(Path(name).name == name for name in names)


@pytest.mark.parametrize("row", [*ablation.ROWS, "leak"])
def test_every_row_builds_a_network_that_fits_its_pictures(row):
    config = ablation.ROWS.get(row, ablation.LEAK)
    model = UNet(*config.network).eval()
    assert (model.palette is not None, len(model.deeper) > 0) == (config.palette > 0, config.residual > 0)
    seen = []
    model.bottleneck.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[2:])))
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 64, 64)).shape == (1, 2, 64, 64)
    # depth 6 has one more halving than the ablation's own 2×2
    assert config.image_size == 64 and seen == [(1, 1) if row == "leak" else (2, 2)]


def test_rows_differ_in_the_recipe_alone():
    """The same photos, equally often, at the same size, through a network of the same width: only then they compare."""
    for config in ablation.ROWS.values():
        for name in ("width", "depth", "image_size", "photo_size", "epochs", "crops_per_photo", "seed"):
            assert getattr(config, name) == getattr(ablation.ORIGINAL, name), name
        assert (config.val_fraction, config.test_fraction) == (0.02, 0.0), (
            "the test photos lie in a folder of their own"
        )
        assert config.small_epochs == 0 and config.perceptual == 0 and config.test_flips is False
    assert ablation.ORIGINAL.width == SEED.width // 2
    same = ("width", "depth", "image_size", "photo_size", "epochs", "test_fraction", "val_fraction")
    kept = {name: getattr(SEED, name) for name in same}
    assert ablation.ORIGINAL.replace(**kept) == ablation.LEAK.replace(**kept) == SEED, "the rest is the original's"


def test_rows_see_the_same_number_of_photos(photos):
    counts = {
        len(ColorizationDataset(photos[:3], config.replace(num_workers=0), augment=True)) * config.epochs
        for config in ablation.ROWS.values()
    }
    assert counts == {3 * ablation.ORIGINAL.epochs}


def test_rows_are_what_they_are_called():
    rows = ablation.ROWS
    assert rows["original recipe"] == ablation.ORIGINAL and rows["new recipe"] == ablation.RECIPE
    changes = {
        ("new recipe", "new recipe, Huber"): {"loss": "huber"},
        ("new recipe, Huber", "+ residual blocks"): {"residual": 1},
        ("+ residual blocks", "+ palette"): {"palette": 32},
        ("+ palette", "+ second residual block"): {"residual": 2},
    }
    for (before, after), change in changes.items():
        assert rows[before].replace(**change) == rows[after] != rows[before]
    training = Training(rows["+ palette"].replace(width=4, batch_size=2), torch.device("cpu"), steps=10)
    assert isinstance(training.loss_function.distance, Huber) and training.running is not None


# --- the leak -----------------------------------------------------------------------------------------------


def named(folder: str, count: int) -> list[Path]:
    return [Path(folder) / f"{number:012d}.jpg" for number in range(count)]


def test_leak_replaces_the_last_hundred_photos():
    photos, test = named("train", 5000), named("test", 100)
    leaked, clean = (ablation.leak_photos(photos, test, leaked) for leaked in (True, False))
    assert len(leaked) == len(set(leaked)) == len(clean) == len(set(clean)) == 1000
    assert leaked[:900] == clean[:900] and leaked[900:] == test
    assert set(clean) <= set(photos) and not set(clean) & set(test)


def test_photos_of_the_leak_are_drawn_evenly_and_always_the_same():
    photos, test = named("train", 5000), named("test", 100)
    chosen = ablation.leak_photos(photos, test, False)
    torch.manual_seed(7)
    assert ablation.leak_photos(photos, test, False) == chosen
    places = [int(path.stem) for path in chosen]
    quarters = [sum(low <= place < low + 1250 for place in places) for low in range(0, 5000, 1250)]
    assert min(quarters) > 200 and chosen != sorted(chosen)


# --- from photos to the table -------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """Six sample photos to train on and two to judge, small, named as COCO's are: (the one folder, the other)."""
    train, test = tmp_path / "train", tmp_path / "test"
    for number, path in enumerate(sample_photos()):
        folder = train if number < 6 else test
        folder.mkdir(exist_ok=True)
        Image.open(path).convert("RGB").resize((32, 32)).save(folder / f"{number:012d}.jpg", quality=95)
    return train, test


@pytest.fixture
def small_rows(monkeypatch):
    """Two rows and a leak of milliseconds."""
    rows = {"original recipe": TINY, "+ palette": TINY.replace(palette=3, residual=1, ema=0.5, loss="huber")}
    monkeypatch.setattr(ablation, "ROWS", rows)
    monkeypatch.setattr(ablation, "LEAK", TINY.replace(val_fraction=0.0))
    return rows


def run_main(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["ablation.py", *map(str, arguments)])
    ablation.main()


def test_rows_are_trained_and_scored(folders, small_rows, outputs, monkeypatch, capsys):
    """From the command line: two seeds of one row, one of another, and the leak, which stopped half-way."""
    train, test = folders
    renamed = train.parent / "photos"  # photos named as in COCO would all be kept for a test
    shutil.copytree(train, renamed)
    for path in sorted(renamed.iterdir()):
        path.rename(path.with_name(f"photo {path.name}"))
    for row, seed in (("original recipe", 0), ("original recipe", 1), ("+ palette", 0)):
        run_main(monkeypatch, "train", row, "--seed", seed, "--data", renamed, "--test", test)
    leak = ablation.LEAK
    monkeypatch.setattr(ablation, "LEAK", leak.replace(epochs=1))
    run_main(monkeypatch, "train", ablation.LEAK_ROWS[0], "--data", train, "--test", test)
    monkeypatch.setattr(ablation, "LEAK", leak)
    run_main(monkeypatch, "train", ablation.LEAK_ROWS[0], "--data", train, "--test", test)
    assert "continuing ablation-leak-test-photos-among-the-training-photos-0 after epoch 1" in capsys.readouterr().out
    assert sorted(path.name for path in outputs.iterdir()) == [
        "ablation-leak-test-photos-among-the-training-photos-0", "ablation-original-recipe-0",
        "ablation-original-recipe-1", "ablation-palette-0",
    ]  # fmt: skip
    for row, seed, config in (("original recipe", 1, TINY.replace(seed=1)), ("+ palette", 0, small_rows["+ palette"])):
        assert load_model(outputs / ablation.run_name(row, seed))[1] == config

    run_main(monkeypatch, "score", "--data", renamed, "--test", test)
    table = pd.read_csv(outputs / "release" / "ablation.csv")
    rows = [("original recipe", 0), ("original recipe", 1), ("+ palette", 0)]
    rows += [(ablation.FLIPS, 0), (ablation.LEAK_ROWS[0], 0)]
    assert list(zip(table["row"], table["seed"], strict=True)) == rows
    assert "original recipe" in capsys.readouterr().out
    configs = [TINY, TINY, small_rows["+ palette"], small_rows["+ palette"], TINY]
    for config, found in zip(configs, table["parameters"], strict=True):
        assert found == pytest.approx(sum(p.numel() for p in UNet(*config.network).parameters()), rel=1e-4)
    assert (table["photos"] == 2).all() and table["wins"].between(0, 2).all()
    assert table["photos_seen"].tolist() == [8, 8, 8, 8, 16], "four photos, or all eight, in two epochs"
    assert (table["cores"] >= 1).all() and table["psnr_all"].to_numpy() == pytest.approx(table["psnr"].to_numpy())
    for metric in ("psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness", "pooled_psnr"):
        gain = table[metric] - table[f"gray_{metric}"]
        assert table[f"{metric}_gain"].to_numpy() == pytest.approx(gain.to_numpy(), abs=2e-3), metric
        assert (table[f"{metric}_low"] <= table[f"{metric}_high"]).all()
        assert table[f"gray_{metric}"].nunique() == 1, "gray is the same beside each row"
    assert table["psnr"].nunique() == 5 and math.isfinite(table.drop(columns="row").to_numpy().sum())


@pytest.mark.parametrize("leaked", [True, False])
def test_leak_trains_on_photos_that_are_named_as_in_coco(folders, small_rows, outputs, leaked):
    """By their names, all of them would be kept for the test."""
    train, test = folders
    row = ablation.LEAK_ROWS[0 if leaked else 1]
    ablation.train(row, 0, train, test)
    split = json.loads((outputs / ablation.run_name(row, 0) / "split.json").read_text())
    count = 8 if leaked else 6
    assert split == {"train": [f"photo_{number:04d}.jpg" for number in range(count)], "val": [], "test": []}


def test_seed_decides_about_the_weights_and_not_about_the_photos(folders, small_rows, outputs):
    train, test = folders
    for seed in (0, 1):
        ablation.train(ablation.LEAK_ROWS[1], seed, train, test)
    runs = [outputs / ablation.run_name(ablation.LEAK_ROWS[1], seed) for seed in (0, 1)]
    assert (runs[0] / "split.json").read_text() == (runs[1] / "split.json").read_text()
    weights = [load_model(run)[0].state_dict() for run in runs]
    assert not torch.equal(*(one["final.weight"] for one in weights))


def test_mirror_images_in_use_are_no_training_of_their_own(monkeypatch, capsys, outputs):
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "train", ablation.FLIPS)
    assert "name the row to train" in capsys.readouterr().err and not any(outputs.iterdir())


def test_unknown_rows_are_refused(monkeypatch, capsys):
    for arguments in itertools.product(["train"], ["no such row", "better"]):
        with pytest.raises(SystemExit) as stop:
            run_main(monkeypatch, *arguments)
        assert stop.value.code == 2
    assert "invalid choice: 'better'" in capsys.readouterr().err
