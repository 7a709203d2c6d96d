"""The sensitivity study: runs that differ in one setting, an equal time for all, and a table of their curves."""

import sys

import pandas as pd
import pytest
import torch

from benchmarks import ablation, sensitivity
from colorlib.config import Config
from colorlib.model import UNet

TINY = Config(
    width=4, depth=4, dropout=0.0, image_size=16, photo_size=16, batch_size=2, num_workers=0, precision="float32"
)  # fmt: skip


def run_main(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["sensitivity.py", *map(str, arguments)])
    sensitivity.main()


def test_runs_change_one_setting_of_the_original_recipe():
    ignored = {"photo_size": 64, "epochs": 50, "test_fraction": 0.0, "val_fraction": 0.0}
    assert sensitivity.BASE.replace(**ignored) == ablation.ORIGINAL.replace(**ignored)
    found = sensitivity.runs()
    assert [name for name, (setting, *_) in found.items() if setting == "base"] == ["base=0", "base=1"]
    for name, (setting, value, config) in found.items():
        changes = {"seed": config.seed} if setting == "base" else {setting: getattr(config, setting)}
        if setting == "image_size":
            changes |= {"depth": config.depth, "photo_size": config.image_size}
        assert sensitivity.BASE.replace(**changes) == config
        assert setting == "base" or (name == f"{setting}={value}" and config != sensitivity.BASE)


@pytest.mark.parametrize("size", [64, 128, 256])
def test_the_bottleneck_keeps_its_pixels(size):
    config = next(c for _, _, c in sensitivity.runs().values() if c.image_size == size).replace(width=4)
    model, seen = UNet(*config.network).eval(), []
    model.bottleneck.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape[2:])))
    with torch.no_grad():
        model(torch.zeros(1, 1, size, size))
    assert seen == [(2, 2)]


def test_all_batches_fit_into_the_time(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(sensitivity.time, "process_time", lambda: next(clock))
    batches = iter(range(10))
    assert list(sensitivity._until(batches, 2.0)) == [0, 1, 2]
    assert list(sensitivity._until(batches, 0.0)) == [3], "a batch that is longer than the time is taken whole"


def test_a_curve_and_its_score(photos, outputs):
    torch.manual_seed(9)
    curve = sensitivity.train(TINY, photos[:6], photos[6:], seconds=0.05)
    assert len(curve) == sensitivity.POINTS and (curve["photos"] == 6).all()
    assert curve["images"].is_monotonic_increasing and curve["seconds"].iloc[-1] >= 0.05
    assert curve["gray_loss"].nunique() == 1 and (curve["val_loss"] > 0).all()
    assert curve["psnr"].notna().tolist() == [False] * (sensitivity.POINTS - 1) + [True]
    last = curve.iloc[-1]
    assert last["val_photos"] == 4 and last["psnr"] - last["gray_psnr"] == pytest.approx(last["psnr_gain"])
    assert last["psnr_low"] <= last["psnr_gain"] <= last["psnr_high"]


def test_the_command_line(photo_folder, outputs, monkeypatch, capsys):
    rows = {"base=0": ("base", "seed 0", TINY), "width=8": ("width", "8", TINY.replace(width=8))}
    monkeypatch.setattr(sensitivity, "runs", lambda: rows)
    monkeypatch.setattr(sensitivity, "SECONDS", 0.02)
    folders = ["--data", photo_folder, "--val", photo_folder]
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "table")
    run_main(monkeypatch, "run", "width=8", *folders)
    run_main(monkeypatch, "run", *folders)
    printed = capsys.readouterr().out
    assert printed.count("width=8:") == printed.count("base=0:") == 1, "a finished run is not trained again"
    run_main(monkeypatch, "table")
    table = pd.read_csv(outputs / "release" / "sensitivity.csv")
    assert list(table.columns) == [
        "setting", "value", "parameters", "photos", "images", "seconds", "val_loss", "gray_loss", "val_photos", "psnr",
        "gray_psnr", "psnr_gain", "psnr_low", "psnr_high",
    ]  # fmt: skip
    assert table["setting"].tolist() == ["base"] * sensitivity.POINTS + ["width"] * sensitivity.POINTS
    assert table["psnr_gain"].notna().sum() == 2
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "run", "luck=1", *folders)
    assert "no run luck=1" in capsys.readouterr().err
