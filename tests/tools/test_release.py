"""The release that is shipped, and the tool that makes it."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import colorlib
from colorlib.checkpoint import find_run, load_model, read_machines
from colorlib.colorize import palette_strip
from colorlib.config import RELEASE, Config
from colorlib.data import sample_photos
from colorlib.evaluation import count_wins, evaluate_model, format_summary
from colorlib.photo import read_photo, resize_photo
from tools import release as tool

FOLDER = tool.RELEASE


def test_everything_that_is_read_is_there():
    names = {path.name for path in FOLDER.iterdir()}
    assert names >= {*tool.RECORD, "recipe.json", "metrics.csv", "metrics_summary.txt", "ablation.csv", "MODEL_CARD.md"}
    assert names >= {"baseline.json", "failures.csv"}
    figures = {path.name for path in (FOLDER / "figures").iterdir()}
    assert figures == {"examples.png", "palettes.png", "black_and_white.png", "metrics_distribution.png"}


def test_weights_are_small_and_in_half_precision():
    assert tool.RELEASED_WEIGHTS.stat().st_size < tool.LIMIT
    with safe_open(tool.RELEASED_WEIGHTS, framework="pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 (not a dict)
    assert kinds <= {torch.float16, torch.int64}


def test_weights_are_those_of_the_preset_and_of_the_record():
    model, config = load_model(find_run("release"))
    assert config == Config.from_json((FOLDER / "config.json").read_text(encoding="utf-8")) == RELEASE
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in model.parameters())
    history = pd.read_csv(FOLDER / "history.csv")
    assert len(history) == config.epochs and history["val_loss"].min() < history["gray_loss"].min()


def test_scores_beat_gray_on_the_photos_in_color():
    metrics = pd.read_csv(FOLDER / "metrics.csv")
    colored = metrics[metrics["in_color"]]
    psnr = colored.groupby("method")["psnr"].mean()
    wins, photos = count_wins(colored)
    assert photos == 91 and psnr["model"] - psnr["gray"] > 0.5 and wins > photos / 2
    assert set(psnr.index) >= {"model", "original recipe", "mean color", "gray"}
    assert metrics.groupby("method")["image"].apply(list).map(tuple).nunique() == 1, "on the same photos"


def test_summary_and_card_are_those_of_the_scores():
    summary = format_summary(pd.read_csv(FOLDER / "metrics.csv"))
    assert (FOLDER / "metrics_summary.txt").read_text(encoding="utf-8") == summary
    card = tool.model_card(FOLDER)
    assert (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8") == card, "run `make release` again"
    assert not re.search(r"[{}]|\bnan\b", card) and card.count("\n| ") >= 9


def test_recipe_tells_what_the_history_tells():
    """Part by part: the epochs, the photos of each, the looks and the time; and the card has a row for each."""
    parts, history = json.loads((FOLDER / "recipe.json").read_text())["parts"], pd.read_csv(FOLDER / "history.csv")
    counts = [stage["photos"] for part in parts for stage in part["stages"] for _ in range(stage["epochs"])]
    assert counts == history["photos"].tolist() and [part["part"] for part in parts] == list(range(1, len(parts) + 1))
    for part in parts:
        rows = history[history["epoch"].between(*part["epochs"])]
        assert part["looks"] == rows["photos"].sum() and part["minutes"] == round(rows["seconds"].sum() / 60)
        assert len(rows) == sum(stage["epochs"] for stage in part["stages"])
        assert part.get("machine", 1) <= len(read_machines(FOLDER))
    card = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(f"\n| {part['part']} | {part['begins_with']} | " in card for part in parts)


def test_without_a_recipe_the_settings_tell_it(tmp_path):
    text = tool.recipe_text(tmp_path, RELEASE)
    assert text == (
        "The learning rate of 0.001 falls in the last quarter. "
        "All epochs are at 96 px, but for the first 28 epochs, at 64 px."
    )
    assert "at 256 px." in tool.recipe_text(tmp_path, Config())
    assert not re.search(r"part \d|\b(fourth|fifth|sixth)\b", tool.CARD), "no network's story is in the tool"


def test_weights_give_colors():
    """The committed weights, on the photos that come with the libraries: closer than gray, and colorful."""
    predict = colorlib.load("release", "cpu").predict_ab
    numbers = evaluate_model(predict, sample_photos()[:3], progress=False)
    numbers = numbers.groupby("method")[["psnr", "colorfulness"]].mean()
    assert numbers.loc["model", "psnr"] > numbers.loc["gray", "psnr"]
    assert numbers.loc["model", "colorfulness"] > 10


def test_large_weights_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "RELEASE", tmp_path)
    monkeypatch.setattr(tool, "RELEASED_WEIGHTS", tmp_path / "release.safetensors")
    monkeypatch.setattr(tool, "LIMIT", 1000)
    monkeypatch.setattr("sys.argv", ["release.py", str(FOLDER), "--data", str(tmp_path)])
    with pytest.raises(SystemExit):
        tool.main()
    assert "MB of weights: the repository stays small" in capsys.readouterr().err
    assert not list(tmp_path.iterdir()), "what is released stays as it is"


def test_palettes_are_shown_below_the_colored_photos(tmp_path):
    photos = sample_photos()[:2]
    tool.save_palettes(photos, tmp_path / "palettes.png")
    picture = np.asarray(Image.open(tmp_path / "palettes.png"))
    assert picture.shape == (2 * 260 + 4 + 28, 2 * 260 + 4, 3) and picture.dtype == np.uint8
    assert (picture[:4] == 255).all() and (picture[:, 260:264] == 255).all(), "white between them"
    for photo, left in zip(photos, (4, 264), strict=True):
        column, true = picture[:, left : left + 256], resize_photo(read_photo(photo), 256)
        palette = colorlib.load().palette(true)
        assert np.array_equal(column[4:260], true)
        assert np.array_equal(column[524:548], palette_strip(palette.colors[0], palette.shares[0], width=256))
