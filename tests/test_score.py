"""A tiny run scored on small photos: the files it leaves, and the photos it must not be judged on."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.color import rgb2lab

from colorlib.checkpoint import save_model
from colorlib.colorize import Colorizer, palette_strip
from colorlib.config import TINY
from colorlib.evaluation import evaluate_model, format_summary
from colorlib.model import UNet
from colorlib.photo import read_photo, resize_photo
from colorlib.score import main, mean_color, save_palettes, score_run, unseen

NAMES = ("astronaut", "camera", "chelsea")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in NAMES:
        Image.fromarray(getattr(data, name)()).resize((48, 36)).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in NAMES]


@pytest.fixture
def run(outputs):
    """An untrained network of width 8, as a run's folder."""
    torch.manual_seed(0)
    config = TINY.replace(width=8, depth=4, image_size=32)
    run = outputs / "tiny"
    run.mkdir()
    save_model(run / "best.safetensors", UNet(*config.network), config)
    return run


def test_a_run_gets_its_files(run, photos, capsys):
    metrics = score_run(run, photos, shown=photos[:2])
    files = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    assert files == [
        "best.safetensors",
        "comparisons/comparison_000.png",
        "comparisons/comparison_001.png",
        "failures.csv",
        "figures/examples.png",
        "figures/metrics_distribution.png",
        "metrics.csv",
        "metrics_summary.txt",
        "tones.csv",
    ]
    widths = {"comparisons": 840, "examples": 128 + 2 + 128 + 4, "metrics_distribution": 840}
    for picture in run.rglob("*.png"):
        with Image.open(picture) as image:
            image.load()
            assert image.width == widths.get(picture.stem) or image.width == widths[picture.parent.name]
    saved = pd.read_csv(run / "metrics.csv")
    pd.testing.assert_frame_equal(saved, metrics, check_exact=False)
    assert list(saved.columns) == [
        "image", "method", "psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness", "colorfulness_error", "ab_error",
        "ab_histogram", "true_colorfulness", "in_color",
    ]  # fmt: skip
    assert list(saved["image"]) == [f"{name}.png" for name in NAMES for _ in range(2)]
    assert (run / "metrics_summary.txt").read_text(encoding="utf-8") == format_summary(saved)
    assert capsys.readouterr().err == "", "progress belongs on stdout"


def test_the_scores_are_the_runs_own(run, photos):
    metrics = score_run(run, photos[:1])
    expected = evaluate_model(Colorizer.from_run(str(run)).predict_ab, photos[:1], progress=False)
    assert metrics["psnr"].to_numpy() == pytest.approx(expected["psnr"].to_numpy(), abs=0.01)
    assert abs(metrics["psnr"].diff().iloc[1]) > 1e-4, "the network's picture is not the gray one"


def test_results_can_go_elsewhere_and_replace_earlier_ones(run, photos, tmp_path):
    out = tmp_path / "elsewhere"
    before = sorted(run.iterdir())
    score_run(run, photos[:2], out=out)
    assert sorted(run.iterdir()) == before
    score_run(run, photos[:1], out=out)
    assert [path.name for path in (out / "comparisons").iterdir()] == ["comparison_000.png"]
    assert len(pd.read_csv(out / "metrics.csv")) == 2


def test_a_run_among_kaggles_inputs_is_scored_into_the_outputs(run, photos, outputs, tmp_path, monkeypatch):
    monkeypatch.setenv("COLORLIB_KAGGLE_INPUT", str(tmp_path))
    attached = tmp_path / "notebooks" / "someone" / "training" / "outputs" / "tiny"
    attached.parent.mkdir(parents=True)
    run.rename(attached)
    score_run("tiny", photos[:1])
    assert [path.name for path in attached.iterdir()] == ["best.safetensors"]
    assert (outputs / "tiny" / "metrics.csv").is_file()


def test_photos_of_training_and_validation_are_left_out(run, photos):
    assert unseen(run, photos) == photos, "a run without a split has seen nothing that we know of"
    split = {
        "train": ["astronaut.png", "elsewhere/chelsea.png"],
        "val": ["camera.png"],
        "test": [],
    }
    (run / "split.json").write_text(json.dumps(split), encoding="utf-8")
    assert [path.stem for path in unseen(run, photos)] == ["chelsea"]
    with pytest.raises(ValueError, match="all 2 photos"):
        unseen(run, photos[:2])


def test_the_command_line(run, photos, capsys, monkeypatch):
    (run / "split.json").write_text(json.dumps({"train": ["astronaut.png"], "val": [], "test": []}))
    samples = {"color": photos[:2], "gray": photos[:1]}
    monkeypatch.setattr("colorlib.score.sample_photos", lambda kind="color": samples[kind])
    main(["--run", "tiny", "--data", str(photos[0].parent), "--show-samples"])
    out = capsys.readouterr().out
    assert [path.name for path in (run / "comparisons").iterdir()] == ["comparison_000.png"], "camera alone is unseen"
    assert "2 photos to judge on; 1 left out" in out and "Photos in colour: 1" in out
    assert "astronaut.png" not in set(pd.read_csv(run / "metrics.csv")["image"])
    assert np.isfinite(pd.read_csv(run / "metrics.csv")["rmse"]).all()
    half, old = (np.asarray(Image.open(run / "figures" / f"{name}.png")) for name in ("palettes", "black_and_white"))
    assert half.shape == (262, 132, 3) and old.shape == (524, 264, 3)
    camera = np.asarray(Image.fromarray(resize_photo(read_photo(photos[1]), 256)).reduce(2)).astype(int)
    assert np.abs(half[2:130, 2:130] - camera).max() <= 1, "it is unseen"
    assert np.array_equal(old[4:260, 4:260], resize_photo(read_photo(photos[0]), 256)), "there is nothing to give away"


def test_baselines_and_other_runs_stand_beside(run, photos, outputs, capsys):
    """The mean colour of the training photos, from the command line; another run, and what it has seen left out."""
    config = TINY.replace(width=4, depth=4, image_size=32)
    save_model(outputs / "older" / "best.safetensors", UNet(*config.network), config)
    (run / "split.json").write_text(json.dumps({"train": ["astronaut.png"], "val": [], "test": []}))
    (outputs / "older" / "split.json").write_text(json.dumps({"train": ["camera.png"], "val": [], "test": []}))
    folder = str(photos[0].parent)
    main(["--run", "tiny", "--data", folder, "--train", folder, "--beside", "older=original recipe"])
    metrics = pd.read_csv(run / "metrics.csv")
    assert list(metrics["method"]) == ["model", "original recipe", "mean colour", "gray"]
    assert set(metrics["image"]) == {"chelsea.png"}
    lab = rgb2lab(resize_photo(read_photo(photos[0]), 64) / 255)
    saved = json.loads((run / "baseline.json").read_text())
    assert saved["mean_ab"] == pytest.approx(lab.mean(axis=(0, 1))[1:], abs=0.01) and saved["photos"] == 1
    older = evaluate_model(Colorizer.from_run("older", precision="float32").predict_ab, photos[2:], progress=False)
    assert metrics["psnr"][1] == pytest.approx(older["psnr"][0], abs=1e-3)
    with pytest.raises(ValueError, match="none of the 1 photos is a training photo"):
        mean_color("tiny", photos[1:2], outputs)
    assert "original recipe beats gray" in capsys.readouterr().out


def test_without_a_mean_color_it_is_said(run, photos, capsys):
    score_run(run, photos[:1])
    assert "there is no baseline.json" in capsys.readouterr().out


def test_the_command_line_puts_everything_where_it_is_told(run, photos, tmp_path, monkeypatch, capsys):
    metrics, calls = evaluate_model(lambda L: torch.zeros(1, 2, 256, 256), photos[:1], progress=False), []
    monkeypatch.setattr("colorlib.score.score_run", lambda *arguments: calls.append(arguments) or metrics)
    monkeypatch.setattr("colorlib.score.save_palettes", lambda *arguments, **_: calls.append(arguments))
    monkeypatch.setattr("colorlib.score.sample_photos", lambda kind="color": [kind])
    options = ["--run", "tiny", "--data", str(photos[0].parent)]
    main([*options, "--out", str(tmp_path / "there"), "--show-samples"])
    figures = tmp_path / "there" / "figures"
    assert calls == [
        ("tiny", photos, tmp_path / "there", ["color"], {}, False),
        ("tiny", ["color"], figures / "palettes.png"), ("tiny", ["gray"], figures / "black_and_white.png"),
    ]  # fmt: skip
    calls.clear()
    main(options)
    assert calls == [("tiny", photos, run, None, {}, False)], "photos that are judged on are no one's samples"
    assert capsys.readouterr().out.count("All photos: 1") == 2


# --- palettes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("palette", [0, 4])
def test_palettes_are_shown_below_the_coloured_photos(outputs, photos, tmp_path, palette):
    """And these below the photos as they are; without a palette, the picture ends there."""
    config = TINY.replace(width=4, depth=4, image_size=32, palette=palette)
    save_model(outputs / "mine" / "best.safetensors", UNet(*config.network), config)
    save_palettes("mine", photos[:2], tmp_path / "deep" / "a.png")
    picture = np.asarray(Image.open(tmp_path / "deep" / "a.png"))
    assert picture.shape == (2 * 260 + 4 + (28 if palette else 0), 2 * 260 + 4, 3)
    colorizer = Colorizer.from_run("mine", precision="float32")
    for photo, left in zip(photos[:2], (4, 264), strict=True):
        column, true = picture[:, left : left + 256], resize_photo(read_photo(photo), 256)
        assert np.array_equal(column[4:260], true) and np.array_equal(column[264:520], colorizer.colorize(true))
        if palette:
            colors, shares = (values[0] for values in colorizer.palette(true))
            assert np.array_equal(column[524:548], palette_strip(colors, shares, width=256))
    frame = np.ones(len(picture), dtype=bool)
    frame[[*range(4, 260), *range(264, 520), *range(524, 548 if palette else 524)]] = False
    assert (picture[frame] == 255).all()
    save_palettes("mine", photos[:2], tmp_path / "b.png", reduce=2)
    with Image.open(tmp_path / "b.png") as half:
        assert half.size == (262, 276 if palette else 262)
    with pytest.raises(FileNotFoundError, match="no run 'none'"):
        save_palettes("none", photos, tmp_path / "c.png")


def test_what_is_not_there_is_named(run, photos, monkeypatch, tmp_path):
    monkeypatch.setenv("COLORLIB_OUTPUTS", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="no-such-run"):
        score_run("no-such-run", photos)
    with pytest.raises(FileNotFoundError, match="no folder"):
        main(["--run", str(run), "--data", str(tmp_path / "nowhere")])
