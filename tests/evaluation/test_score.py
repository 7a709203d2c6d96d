"""A tiny run scored on small photos: the files it leaves, and the photos it must not be judged on."""

import json
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
from conftest import files
from PIL import Image
from skimage.color import rgb2lab

from colorlib.checkpoint import save_model
from colorlib.colorize import Colorizer
from colorlib.config import TINY
from colorlib.evaluation import evaluate_model, format_summary, score_run, unseen
from colorlib.evaluation.__main__ import main
from colorlib.evaluation.score import SHOWN
from colorlib.model import UNet
from colorlib.photo import read_photo, resize_photo


def new_run(folder, width=8, **split):
    """An untrained network as a run's folder; the names of the photos that it has seen."""
    torch.manual_seed(0)
    config = TINY.replace(width=width, depth=4, image_size=32)
    save_model(folder / "best.safetensors", UNet(**config.network), config)
    if split:
        (folder / "split.json").write_text(json.dumps(split))
    return folder


@pytest.fixture
def run(outputs):
    return new_run(outputs / "tiny")


def test_a_run_gets_its_files(run, photos, capsys):
    metrics = score_run(run, photos[:3], shown=photos[:2])
    assert files(run) == [
        "best.safetensors", "comparisons/comparison_000.png", "comparisons/comparison_001.png", "failures.csv",
        "figures/examples.png", "figures/metrics_distribution.png", "metrics.csv", "metrics_summary.txt",
    ]  # fmt: skip
    widths = {"comparisons": 840, "examples": 128 + 2 + 128 + 4, "metrics_distribution": 840}
    for picture in run.rglob("*.png"):
        with Image.open(picture) as image:
            image.load()
            assert image.width == widths.get(picture.stem) or image.width == widths[picture.parent.name]
    saved = pd.read_csv(run / "metrics.csv")
    pd.testing.assert_frame_equal(saved, metrics, check_exact=False)
    assert list(saved["image"]) == [path.name for path in photos[:3] for _ in range(2)]
    assert (run / "metrics_summary.txt").read_text(encoding="utf-8") == format_summary(saved)
    expected = evaluate_model(Colorizer.from_run("tiny").predict_ab, photos[:3], progress=False)
    assert metrics["rmse"].to_numpy() == pytest.approx(expected["rmse"].to_numpy(), abs=0.01)
    assert (metrics["rmse"].diff()[1::2].abs() > 1e-4).all(), "the network's picture is not the gray one"
    out, err = capsys.readouterr()
    assert err == "" and "there is no baseline.json" in out


def test_a_run_among_kaggles_inputs_is_scored_into_the_outputs(run, photos, outputs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path))
    attached = tmp_path / "notebooks" / "someone" / "training" / "outputs" / "tiny"
    attached.parent.mkdir(parents=True)
    run.rename(attached)
    for count in (2, 1):  # a second time, what is there is replaced
        score_run("tiny", photos[:count])
    assert [path.name for path in attached.iterdir()] == ["best.safetensors"]
    assert len(pd.read_csv(outputs / "tiny" / "metrics.csv")) == 2
    assert [path.name for path in (outputs / "tiny" / "comparisons").iterdir()] == ["comparison_000.png"]


def test_photos_of_training_and_validation_are_left_out(run, photos):
    assert unseen(run, photos) == photos, "a run without a split has seen nothing that we know of"
    folder = photos[0].parent.name
    new_run(run, train=["photo_00.png", "elsewhere/photo_01.png"], val=[f"{folder}/photo_02.png"])
    assert unseen(run, photos) == [photos[1], *photos[3:]]


def test_the_command_line(run, photos, capsys, tmp_path):
    new_run(run, train=[path.name for path in photos[:8]])
    out = tmp_path / "there"
    assert not main(["--run", "tiny", "--data", str(photos[0].parent), "--out", str(out)], photos[1:2])
    text = capsys.readouterr().out
    assert "2 photos to judge on; 8 left out" in text and "Photos in color: 2" in text
    assert [path.name for path in (out / "comparisons").iterdir()] == ["comparison_000.png"], "one alone is shown"
    assert set(pd.read_csv(out / "metrics.csv")["image"]) == {"photo_08.png", "photo_09.png"}
    assert not (run / "metrics.csv").exists()


def test_photos_that_cannot_be_read_are_not_shown(run, photos, tmp_path):
    broken = [tmp_path / f"{number}.png" for number in range(SHOWN)]
    for path in broken:
        path.write_bytes(b"no photo")
    score_run(run, [*broken, photos[0]])
    assert [path.name for path in (run / "comparisons").iterdir()] == ["comparison_000.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [("--data nowhere", "there is no folder nowhere"), ("--data photos --run none", "no run 'none' in"),
     ("--data broken", "none of the 1 given can be read"), ("--data photos --out taken", "taken is a file: give a fol"),
     ("--data photos --beside none", "no run 'none' in"), ("--data photos --beside =a", "or RUN=LABEL; got '=a'"),
     ("--data photos --beside tiny=model", "'model' already names a row"),
     ("--data photos --beside tiny=gray", "'gray' already names a row"),
     ("--data photos --beside tiny=mean_color", "'mean color' already names a row"),
     ("--data photos --beside tiny=a --beside older=a", "two runs beside this one are called 'a'"),
     ("--data photos --beside older --beside older", "two runs beside this one are called 'older'"),
     ("--data photos --train nowhere", "there is no folder nowhere"), ("--data photos --train photos", "no split.json"),
     ("--data photos --run cut", "split.json is damaged"),
     ("--data photos --run odd", "split.json does not list photos"),
     ("--data photos --out spoiled", "baseline.json holds no mean color")],
)  # fmt: skip
def test_wrong_arguments_are_told_in_words(run, photos, outputs, tmp_path, capsys, monkeypatch, arguments, words):
    for name, split in (("older", None), ("cut", '{"train": ['), ("odd", '{"train": 7}')):
        new_run(outputs / name)
        if split:
            (outputs / name / "split.json").write_text(split)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(photos[0].parent)
    for file, content in (("broken/a.png", "no photo"), ("taken", ""), ("spoiled/baseline.json", '{"mean_ab": [1]}')):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
    assert main(["--run", "tiny", *(word.replace("_", " ") for word in arguments.split())]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and not (run / "metrics.csv").exists()


def test_ctrl_c_is_no_traceback(run, photos, capsys, monkeypatch):
    monkeypatch.setattr("colorlib.evaluation.__main__.score_run", Mock(side_effect=KeyboardInterrupt))
    assert main(["--run", "tiny", "--data", str(photos[0].parent)]) == 130
    assert "stopped" in capsys.readouterr().err


def test_baselines_and_other_runs_stand_beside(run, photos, outputs, capsys):
    """The mean color of the training photos, and another run; what either run has seen is left out."""
    new_run(run, train=["photo_00.png"])
    new_run(outputs / "older", width=6, train=[path.name for path in photos[1:9]])
    folder = str(photos[0].parent)
    assert not main(["--run", "tiny", "--data", folder, "--train", folder, "--beside", "older=original recipe"])
    metrics = pd.read_csv(run / "metrics.csv")
    assert list(metrics["method"]) == ["model", "original recipe", "mean color", "gray"]
    assert set(metrics["image"]) == {"photo_09.png"}
    saved = json.loads((run / "baseline.json").read_text())
    lab = rgb2lab(resize_photo(read_photo(photos[0]), 64) / 255)
    assert saved["mean_ab"] == pytest.approx(lab.mean(axis=(0, 1))[1:], abs=0.01) and saved["photos"] == 1
    older = evaluate_model(Colorizer.from_run("older", precision="float32").predict_ab, photos[9:], progress=False)
    assert metrics["psnr"][1] == pytest.approx(older["psnr"][0], abs=1e-3)
    assert "original recipe beats gray" in capsys.readouterr().out
