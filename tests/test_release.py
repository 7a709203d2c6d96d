"""The release that is shipped, and the tool that makes it."""

import re

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from colorlib.checkpoint import BEST, find_run, load_model
from colorlib.colorize import Colorizer
from colorlib.compare import count_wins
from colorlib.config import RELEASE, Config
from colorlib.data import sample_photos
from colorlib.evaluation import evaluate_model
from tools import release as tool

FOLDER = tool.RELEASE


def test_everything_that_is_read_is_there():
    names = {path.name for path in FOLDER.iterdir()}
    assert names >= {*tool.RECORD, BEST, "metrics.csv", "metrics_summary.txt", "ablation.csv", "MODEL_CARD.md"}
    assert names >= {"baseline.json", "failures.csv", "tones.csv", "sensitivity.csv"}
    figures = {path.name for path in (FOLDER / "figures").iterdir()}
    assert figures == {"examples.png", "palettes.png", "black_and_white.png", "metrics_distribution.png"}


def test_weights_are_small_and_in_half_precision():
    assert (FOLDER / BEST).stat().st_size < tool.LIMIT
    with safe_open(FOLDER / BEST, framework="pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 (not a dict)
    assert kinds <= {torch.float16, torch.int64}


def test_weights_are_those_of_the_preset_and_of_the_record():
    model, config = load_model(find_run("release"))
    assert config == Config.from_json((FOLDER / "config.json").read_text(encoding="utf-8")) == RELEASE
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in model.parameters())
    history = pd.read_csv(FOLDER / "history.csv")
    assert len(history) == config.epochs and history["val_loss"].min() < history["gray_loss"].min()


def test_beats_gray_on_the_photos_in_colour():
    metrics = pd.read_csv(FOLDER / "metrics.csv")
    colored = metrics[metrics["in_color"]]
    psnr = colored.groupby("method")["psnr"].mean()
    wins, photos = count_wins(colored)
    assert photos == 91 and psnr["model"] - psnr["gray"] > 0.5 and wins > photos / 2


def test_baselines_stand_beside_it_on_the_same_photos():
    metrics = pd.read_csv(FOLDER / "metrics.csv")
    assert set(metrics["method"]) >= {"model", "original recipe", "mean colour", "gray"}
    assert metrics.groupby("method")["image"].apply(list).map(tuple).nunique() == 1


def test_weights_give_colors():
    """The committed weights, on the photos that come with the libraries: closer than gray, and colourful."""
    photos = sample_photos()[:5]
    metrics = evaluate_model(Colorizer.from_run("release", "cpu", "float32").predict_ab, photos, progress=False)
    numbers = metrics.groupby("method")[["psnr", "colorfulness"]].mean()
    assert numbers.loc["model", "psnr"] > numbers.loc["gray", "psnr"]
    assert numbers.loc["model", "colorfulness"] > 10


def test_card_is_that_of_the_files():
    assert (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8") == tool.model_card(FOLDER), "run `make release` again"


def test_card_holds_no_empty_place():
    card = tool.model_card(FOLDER)
    assert not re.search(r"[{}]|\bnan\b|BIASES", card)
    assert card.count("\n| ") >= 9


def test_large_weights_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "RELEASE", tmp_path)
    monkeypatch.setattr(tool, "LIMIT", 1000)
    monkeypatch.setattr("sys.argv", ["release.py", str(FOLDER), "--data", str(tmp_path)])
    with pytest.raises(SystemExit):
        tool.main()
    assert "MB of weights: the repository stays small" in capsys.readouterr().err
