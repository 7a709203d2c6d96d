"""The ablation: its rows differ in what they say and in nothing else, and the leak is of the test photos alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from benchmarks import ablation
from colorlib.checkpoint import load_model
from colorlib.config import SEED, Config
from colorlib.data import sample_photos

TINY = Config(
    width=4, depth=4, dropout=0.0, image_size=16, photo_size=16, batch_size=2, learning_rate=1e-3, epochs=2,
    val_fraction=0.25, test_fraction=0.0, num_workers=0, samples=1, precision="float32",
)  # fmt: skip
ROWS = {"original recipe": TINY, "+ palette": TINY.replace(palette=3, residual_blocks=1, ema=0.5, loss="huber")}


def test_names_of_the_runs():
    assert ablation.run_name("new recipe, Huber", 2) == "ablation-new-recipe-huber-2"
    assert ablation.run_name(ablation.LEAK_ROWS[1], 0) == "ablation-leak-other-coco-photos-in-their-place-0"
    rows = [*ablation.ROWS, *ablation.LEAK_ROWS]
    names = {ablation.run_name(row, seed) for row in rows for seed in range(3)}
    assert len(names) == 3 * len(rows), "no two runs share a folder"


def test_rows_differ_in_the_recipe_alone():
    """The same photos, equally often, at the same size, through a network of the same width: only then they compare."""
    shared = ("width", "depth", "image_size", "photo_size", "epochs", "crops_per_photo", "seed", "test_fraction")
    shared += ("val_fraction", "small_epochs", "perceptual", "flip_tta")
    for config in ablation.ROWS.values():
        assert [getattr(config, name) for name in shared] == [getattr(ablation.ORIGINAL, name) for name in shared]
    assert ablation.ORIGINAL.width == SEED.width // 2
    sides = [config.image_size / 2**config.depth for config in (SEED, ablation.ORIGINAL, ablation.LEAK)]
    assert sides == [2, 2, 1], "of the bottleneck; the leak's depth 6 has one more halving"


def test_leak_replaces_the_last_hundred_photos():
    photos = [Path("a") / f"{n:012d}.jpg" for n in range(5000)]
    test = [Path("b") / f"{n:012d}.jpg" for n in range(100)]
    others = [Path("c") / f"{n:012d}.jpg" for n in range(128)]
    leaked, clean = (ablation.leak_photos(photos, coco) for coco in (test, others))
    assert len(set(leaked)) == len(leaked) == len(set(clean)) == len(clean) == 1000
    assert leaked[:900] == clean[:900] and leaked[900:] == test and clean[900:] == others[:100]
    drawn = leaked[:900]
    quarters = np.histogram([int(path.stem) for path in drawn], bins=4, range=(0, 5000))[0]
    assert quarters.min() > 180 and drawn != sorted(drawn), "drawn evenly"
    torch.manual_seed(7)
    assert ablation.leak_photos(photos, others) == clean, "always the same ones"


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Six small sample photos to train on and two to judge, (the one folder, the other); rows of milliseconds."""
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    monkeypatch.setattr(ablation, "LEAK", TINY.replace(val_fraction=0.0))
    train, test = tmp_path / "train", tmp_path / "test"
    for number, path in enumerate(sample_photos()):
        folder = train if number < 6 else test
        folder.mkdir(exist_ok=True)
        Image.open(path).convert("RGB").resize((32, 32)).save(folder / f"photo {number}.jpg", quality=95)
    return train, test


def run_main(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["ablation.py", *map(str, arguments)])
    ablation.main()


@pytest.mark.slow
def test_rows_are_trained_and_scored(folders, outputs, monkeypatch):
    """From the command line: two seeds of one row, one of another, and the leak."""
    data = ("--data", folders[0], "--test", folders[1])
    trained = [("original recipe", 0), ("original recipe", 1), ("+ palette", 0), (ablation.LEAK_ROWS[0], 0)]
    for row, seed in trained:
        run_main(monkeypatch, "train", row, "--seed", seed, *data)
        config = ROWS.get(row, ablation.LEAK).replace(seed=seed)
        assert load_model(outputs / ablation.run_name(row, seed))[1] == config

    run_main(monkeypatch, "score", *data)
    table = pd.read_csv(outputs / "release" / "ablation.csv")
    rows = [*trained[:3], (ablation.FLIPS, 0), trained[3]]
    assert list(zip(table["row"], table["seed"], strict=True)) == rows
    assert (table["photos"] == 2).all() and table["wins"].between(0, 2).all()
    assert table["photos_seen"].tolist() == [8, 8, 8, 8, 16], "four photos, or all eight, in two epochs"
    assert table["psnr_all"].to_numpy() == pytest.approx(table["psnr"].to_numpy())
    for metric in ("psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness", "pooled_psnr"):
        gain = table[metric] - table[f"gray_{metric}"]
        assert table[f"{metric}_gain"].to_numpy() == pytest.approx(gain.to_numpy(), abs=2e-3), metric
        assert (table[f"{metric}_low"] <= table[f"{metric}_high"]).all()
        assert table[f"gray_{metric}"].nunique() == 1, "gray is the same beside each row"
    assert table["psnr"].nunique() == 5 and np.isfinite(table.drop(columns="row").to_numpy()).all()


@pytest.mark.parametrize("row", ablation.LEAK_ROWS)
def test_leak_trains_on_photos_that_are_named_as_in_coco(folders, outputs, row):
    """By their names, all of them would be kept for the test."""
    for folder in folders:
        for number, path in enumerate(sorted(folder.iterdir())):
            path.rename(folder / f"{number:012d}.jpg")
    ablation.train(row, 0, *folders)
    split = json.loads((outputs / ablation.run_name(row, 0) / "split.json").read_text())
    assert split == {"train": [f"photo_{number:04d}.jpg" for number in range(8)], "val": [], "test": []}


@pytest.mark.parametrize(
    ("row", "message"), [(ablation.FLIPS, "name the row to train"), ("better", "invalid choice: 'better'")]
)
def test_what_cannot_be_trained_is_refused(monkeypatch, capsys, outputs, row, message):
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "train", row)
    assert message in capsys.readouterr().err and not any(outputs.iterdir())
