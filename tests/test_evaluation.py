"""The metrics against hand and scikit-image, the evaluation against predictors whose score is known."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from colorlib.color import encode_lab, rgb_to_lab
from colorlib.compare import count_wins
from colorlib.evaluation import (
    calculate_ab_error,
    calculate_ab_histogram,
    calculate_ciede2000,
    calculate_colorfulness,
    calculate_psnr,
    calculate_rmse,
    calculate_snr,
    calculate_ssim,
    constant_color,
    evaluate_model,
    format_summary,
    score_pictures,
    summarize,
    verdict,
)
from colorlib.photo import read_photo, resize_photo, to_tensor

METRICS = (calculate_psnr, calculate_ssim, calculate_rmse, calculate_snr, calculate_ciede2000)


def flat(level, side=8):
    return np.full((side, side, 3), level, dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three photos in colour, a gray one, one that is broken."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "chelsea", "coffee", "camera"):
        Image.fromarray(getattr(data, name)()).resize((80, 60)).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def photos(folder):
    return [folder / f"{name}.png" for name in ("astronaut", "chelsea", "coffee", "camera")]


class Oracle:
    """A predictor that knows the photos and returns a share of their true colour; counts its calls."""

    def __init__(self, photos, size, saturation=1.0):
        pictures = [to_tensor(resize_photo(read_photo(path), size))[None] for path in photos]
        self.pairs = [encode_lab(rgb_to_lab(picture)) for picture in pictures]
        self.saturation = saturation

    def __call__(self, L):
        return next(ab for known, ab in self.pairs if torch.equal(known, L)) * self.saturation


def gray(L):
    return torch.zeros(1, 2, *L.shape[2:])


# the formulas


def test_metrics_by_hand():
    true, predicted = flat(100), flat(110)
    predicted[0, 0] = (100, 100, 100)  # 63 of 64 pixels are off by 10
    mse = 100 * 63 / 64
    assert calculate_rmse(true, predicted) == pytest.approx(mse**0.5)
    assert calculate_psnr(true, predicted) == pytest.approx(10 * np.log10(255**2 / mse))
    assert calculate_snr(true, predicted) == pytest.approx(10 * np.log10(100**2 / mse))


def test_error_of_one_channel_counts_a_third():
    true, predicted = flat(100), flat(100)
    predicted[..., 2] = 106
    assert calculate_rmse(true, predicted) == pytest.approx(12**0.5)


def test_differences_do_not_wrap_around():
    assert calculate_rmse(flat(0), flat(255)) == calculate_rmse(flat(255), flat(0)) == 255
    assert calculate_psnr(flat(0), flat(255)) == 0
    assert calculate_snr(flat(255), flat(0)) == 0


def test_identical_pictures():
    for level in (0, 77, 255):
        same = flat(level)
        assert calculate_psnr(same, same) == np.inf and calculate_snr(same, same) == np.inf
        assert calculate_rmse(same, same) == 0
        assert calculate_ssim(same, same) == pytest.approx(1)


def test_noise_on_a_black_photo_has_no_signal():
    assert calculate_snr(flat(0), flat(1)) == -np.inf


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_psnr_and_ssim_equal_those_of_scikit_image(name):
    true = getattr(data, name)()[40:200, 30:237]
    noise = np.random.default_rng(0).normal(0, 25, true.shape)
    for predicted in (
        np.clip(true + noise, 0, 255).astype(np.uint8),
        true // 2,
        np.repeat(true.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8),
    ):
        assert calculate_psnr(true, predicted) == pytest.approx(peak_signal_noise_ratio(true, predicted), abs=1e-9)
        expected = structural_similarity(true, predicted, channel_axis=2, data_range=255)
        assert calculate_ssim(true, predicted) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_the_smallest_picture_by_hand():
    true, predicted = flat(100, side=7), flat(120, side=7)  # no variance: only the first factor is left
    c1 = (0.01 * 255) ** 2
    assert calculate_ssim(true, predicted) == pytest.approx((2 * 100 * 120 + c1) / (100**2 + 120**2 + c1))


def test_colorfulness_by_hand():
    picture = np.zeros((1, 2, 3), dtype=np.uint8)
    picture[0, 0], picture[0, 1] = (255, 0, 0), (0, 0, 255)  # rg 255 and 0, yb 127.5 and −255
    spread = np.hypot(127.5, 191.25)
    assert calculate_colorfulness(picture) == pytest.approx(spread + 0.3 * np.hypot(127.5, -63.75))
    assert calculate_colorfulness(flat(90)) == 0


def test_ciede2000_of_grays_by_hand():
    """Without colour only the lightness term of CIE 142 is left: ΔL* over its weight S_L."""

    def lightness(level):
        return 116 * ((level / 255 + 0.055) / 1.055) ** (2.4 / 3) - 16

    for pair in ((100, 120), (40, 60), (200, 90)):
        x, y = map(lightness, pair)
        off = ((x + y) / 2 - 50) ** 2
        expected = abs(x - y) / (1 + 0.015 * off / (20 + off) ** 0.5)
        assert calculate_ciede2000(flat(pair[0]), flat(pair[1])) == pytest.approx(expected, abs=0.01)


def test_ciede2000_of_the_primaries():
    """The published differences of sRGB's corners."""
    red, green, blue = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    for pair, expected in (
        ((red, green), 86.61),
        ((red, blue), 52.88),
        ((green, blue), 83.19),
        (((255, 255, 255), (0, 0, 0)), 100),
    ):
        x, y = (np.full((4, 4, 3), color, dtype=np.uint8) for color in pair)
        assert calculate_ciede2000(x, y) == pytest.approx(expected, abs=0.02)
        assert calculate_ciede2000(y, x) == pytest.approx(expected, abs=0.02)


def test_ciede2000_is_the_mean_over_the_pixels():
    true, predicted = flat(100), flat(100)
    assert calculate_ciede2000(true, predicted) == 0
    predicted[:2] = (140, 90, 60)  # a quarter of the pixels
    everywhere = np.full_like(true, (140, 90, 60))
    assert calculate_ciede2000(true, predicted) == pytest.approx(calculate_ciede2000(true, everywhere) / 4)
    assert type(calculate_ciede2000(true, predicted)) is float


def test_ciede2000_weighs_as_the_eye_does():
    """The same step in RGB is seen more easily between grays than between strong blues, which RMSE cannot tell."""
    gray, blue = (np.full((4, 4, 3), color, dtype=np.uint8) for color in ((120, 120, 120), (20, 20, 200)))
    step = np.array([0, 0, 12], dtype=np.uint8)
    assert calculate_rmse(gray, gray + step) == calculate_rmse(blue, blue + step)
    assert calculate_ciede2000(gray, gray + step) > 1.5 * calculate_ciede2000(blue, blue + step)


def test_ab_error_and_histogram_by_hand():
    """Two colours of known Lab; a quarter of the pixels are of another one."""
    red, green = ((254, 0, 0), (0, 128, 0))  # L*a*b* 53, 80, 67 and 46, −52, 50
    true = np.full((8, 8, 3), red, dtype=np.uint8)
    predicted = true.copy()
    predicted[:2] = green
    assert calculate_ab_error(true, predicted) == pytest.approx((131.6 + 17.1) / 2 / 4, abs=0.2)
    assert calculate_ab_histogram(true, predicted) == pytest.approx(0.25)
    assert calculate_ab_error(true, true) == calculate_ab_histogram(true, true) == 0
    moved = true.copy()
    moved[:2], true[6:] = green, green
    assert calculate_ab_histogram(true, moved) == 0, "the same colours elsewhere"


def test_scores_of_a_pair_are_those_of_the_metrics():
    true, predicted = data.astronaut()[:40, :50], data.coffee()[:40, :50]
    assert score_pictures(true, predicted) == {
        "psnr": calculate_psnr(true, predicted),
        "ssim": calculate_ssim(true, predicted),
        "rmse": calculate_rmse(true, predicted),
        "snr": calculate_snr(true, predicted),
        "ciede2000": calculate_ciede2000(true, predicted),
        "colorfulness": calculate_colorfulness(predicted),
        "colorfulness_error": abs(calculate_colorfulness(predicted) - calculate_colorfulness(true)),
        "ab_error": calculate_ab_error(true, predicted),
        "ab_histogram": calculate_ab_histogram(true, predicted),
    }


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_no_pair_of_pictures_is_refused(metric):
    good = flat(9)
    for wrong, words in (
        (good / 255, "uint8.*float64"),
        (good.astype(np.int64), "uint8.*int64"),
        (torch.from_numpy(good), "uint8"),
        (good[..., 0], r"\(H, W, 3\).*\(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(H, W, 3\)"),
        (flat(9, side=9), "one size"),
    ):
        with pytest.raises(ValueError, match=words):
            metric(good, wrong)


def test_ssim_needs_a_window():
    with pytest.raises(ValueError, match="7×7"):
        calculate_ssim(flat(1, side=6), flat(2, side=6))


# verdicts


@pytest.mark.parametrize(
    ("metric", "value", "word"),
    [
        ("psnr", np.inf, "Excellent"),
        ("psnr", 40.1, "Excellent"),
        ("psnr", 40, "Good"),
        ("psnr", 30, "Good"),
        ("psnr", 29.9, "Acceptable"),
        ("pooled_psnr", 20, "Acceptable"),
        ("psnr", 19.9, "Poor"),
        ("ssim", 0.91, "Excellent"),
        ("ssim", 0.9, "Good"),
        ("ssim", 0.7, "Good"),
        ("ssim", 0.5, "Moderate"),
        ("ssim", -0.2, "Poor"),
        ("snr", 20.01, "Good"),
        ("snr", 20, "Below good"),
        ("snr", -np.inf, "Below good"),
        ("rmse", 0, "Excellent"),
        ("rmse", 2.54, "Excellent"),
        ("rmse", 2.56, "Good"),
        ("rmse", 8.06, "Good"),
        ("rmse", 8.07, "Acceptable"),
        ("rmse", 25.5, "Acceptable"),
        ("rmse", 25.6, "Poor"),
        ("psnr", np.nan, "n/a"),
        ("rmse", np.nan, "n/a"),
    ],
)
def test_verdict(metric, value, word):
    assert verdict(metric, value) == word


def test_rmse_and_psnr_agree():
    for off in (1, 2, 3, 7, 8, 9, 25, 26, 80):
        true, predicted = flat(100), flat(100 + off)
        assert verdict("rmse", calculate_rmse(true, predicted)) == verdict("psnr", calculate_psnr(true, predicted))


def test_a_metric_without_thresholds_is_refused():
    with pytest.raises(ValueError, match="colorfulness"):
        verdict("colorfulness", 40)


# the evaluation


def test_true_colours_win_nearly_perfectly(photos):
    metrics = evaluate_model(Oracle(photos, 64), photos, size=64, progress=False)
    assert list(metrics.columns) == [
        "image", "method", "psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness", "colorfulness_error", "ab_error",
        "ab_histogram", "true_colorfulness", "in_color",
    ]  # fmt: skip
    assert list(metrics["method"]) == ["model", "gray"] * 4
    assert list(metrics["image"][::2]) == [path.name for path in photos]
    assert list(metrics["in_color"][::2]) == [True, True, True, False]
    model, baseline = metrics[::2], metrics[1::2]
    assert (model["psnr"] > 50).all() and (model["ssim"] > 0.999).all()
    assert (baseline["psnr"][:3] < 35).all() and (baseline["colorfulness"] < 1).all()
    assert (model["ciede2000"] < 0.5).all() and (baseline["ciede2000"][:3] > 3).all(), "below what the eye sees"
    assert np.allclose(model["colorfulness"], model["true_colorfulness"], atol=0.5)
    assert count_wins(metrics[metrics["in_color"]]) == (3, 3)


def test_scores_are_those_of_the_rounded_pictures(photos):
    seen = {}
    metrics = evaluate_model(
        Oracle(photos, 48, saturation=0.5),
        photos[:2],
        size=48,
        method="half",
        progress=False,
        on_photo=lambda name, pictures, scores: seen.update({name: (pictures, scores)}),
    )
    assert list(seen) == ["astronaut.png", "chelsea.png"]
    pictures, scores = seen["chelsea.png"]
    expected = np.asarray(read_photo(photos[1]).resize((48, 48), Image.Resampling.BICUBIC))
    assert np.array_equal(pictures["true"], expected)
    assert pictures["predicted"].dtype == np.uint8
    row = metrics[(metrics["image"] == "chelsea.png") & (metrics["method"] == "half")].iloc[0]
    for method, picture in (("half", "predicted"), ("gray", "gray")):
        assert scores[method] == pytest.approx(score_pictures(expected, pictures[picture]), abs=1e-6)
    assert row["psnr"] == scores["half"]["psnr"] and row["ab_histogram"] == scores["half"]["ab_histogram"]


def test_gray_scores_the_same_as_the_baseline(photos):
    metrics = evaluate_model(gray, photos, size=32, progress=False)
    numbers = ["psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness"]
    assert np.array_equal(metrics[numbers][::2], metrics[numbers][1::2])
    assert metrics["psnr"][7] == np.inf, "the black-and-white photo is its own gray version"
    assert count_wins(metrics) == (0, 4), "a tie is no win"


def test_several_methods_on_the_same_photos_in_batches(photos):
    """Beside each other, in the order they were given, and the same numbers as one by one."""
    methods = {"model": lambda L: L.repeat(1, 2, 1, 1) / 8, "mean colour": constant_color(3, 12)}
    table = evaluate_model(methods, photos, size=32, progress=False, batch=3)
    assert list(table["method"]) == ["model", "mean colour", "gray"] * 4
    assert list(table["image"][::3]) == [path.name for path in photos]
    for number, (name, predict) in enumerate(methods.items()):
        alone = evaluate_model(predict, photos, size=32, method=name, progress=False)
        columns = [name for name in table if name not in ("image", "method")]
        expected = alone[alone["method"] == name][columns].astype(float).to_numpy()
        assert table[number::3][columns].astype(float).to_numpy() == pytest.approx(expected, abs=1e-6)


def test_constant_color_is_in_units_of_lab():
    ab = constant_color(12.8, -64)(torch.zeros(2, 1, 3, 4))
    assert ab.shape == (2, 2, 3, 4) and ab[1, :, 2, 3].tolist() == pytest.approx([0.1, -0.5])


def test_metrics_of_ones_own(photos):
    extra = {"lpips": lambda true, predicted: torch.full((len(true),), 0.25)}
    table = evaluate_model(constant_color(5, 5), photos[:2], size=16, progress=False, batch=2, extra=extra)
    assert (table["lpips"] == 0.25).all() and "LPIPS" in format_summary(table)


def test_near_gray_photos_are_named_in_the_text(photos):
    text = format_summary(evaluate_model(gray, photos, size=32, progress=False))
    assert "Near-gray photos: 1" in text and "They are: camera.png" in text


def test_prediction_sees_nothing_but_the_lightness(photos):
    shapes = []

    def predict(L):
        shapes.append((tuple(L.shape), L.dtype))
        assert L.min() >= -1 and L.max() <= 1
        return gray(L)

    evaluate_model(predict, photos[:1], size=40, progress=False)
    assert shapes == [((1, 1, 40, 40), torch.float32)]


def test_unreadable_photos_are_named(photos, folder, capsys):
    metrics = evaluate_model(gray, [photos[0], folder / "broken.png"], size=16, progress=False)
    assert list(metrics["image"]) == ["astronaut.png"] * 2
    [(name, reason)] = metrics.attrs["skipped"]
    assert name == "broken.png" and "broken.png" in reason
    assert "Skipped 1 of 2 photos: broken.png" in capsys.readouterr().out
    assert "Skipped: broken.png" in format_summary(metrics)
    with pytest.raises(ValueError, match="none of the 1 given"):
        evaluate_model(gray, [folder / "broken.png"], size=16, progress=False)
    with pytest.raises(ValueError, match="none of the 0 given"):
        evaluate_model(gray, [], size=16, progress=False)
    with pytest.raises(FileNotFoundError):
        evaluate_model(gray, [folder / "missing.png"], size=16, progress=False)


def test_progress_goes_to_stdout(photos, capsys):
    evaluate_model(gray, photos[:1], size=16)
    out, err = capsys.readouterr()
    assert "evaluating" in out and err == ""


def test_a_broken_predictor_is_told_so(photos):
    for predict, words in (
        (lambda L: torch.zeros(1, 2, 8, 8), r"\(1, 2, 16, 16\), got shape \(1, 2, 8, 8\)"),
        (lambda L: L, r"got shape \(1, 1, 16, 16\)"),
        (lambda L: torch.full((1, 2, 16, 16), torch.nan), "astronaut.png.*NaN"),
        (lambda L: torch.full((1, 2, 16, 16), torch.inf), "infinite"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate_model(predict, photos[:1], size=16, progress=False)
    with pytest.raises(ValueError, match="baseline"):
        evaluate_model(gray, photos[:1], method="gray", progress=False)


# the summary


@pytest.fixture
def table():
    """Three photos: gray is perfect on the second (black-and-white), the model wins on the others."""
    rows = []
    for image, ours, base, in_color in (
        ("a", 10.0, 20.0, True),
        ("b", 4.0, 0.0, False),
        ("a", 30.0, 40.0, True),
    ):
        for method, rmse in (("model", ours), ("gray", base)):
            psnr = 20 * np.log10(255 / rmse) if rmse else np.inf
            row = {"image": image, "method": method, "psnr": psnr, "ssim": 0.8, "rmse": rmse, "snr": psnr - 6}
            row |= {"ciede2000": rmse / 2, "colorfulness": 20.0}
            rows.append(row | {"true_colorfulness": 40.0 * in_color, "in_color": in_color})
    return pd.DataFrame(rows)


def entry(summary, subset, method, metric):
    chosen = (summary["subset"] == subset) & (summary["method"] == method) & (summary["metric"] == metric)
    [row] = summary[chosen].to_dict("records")
    return row


def test_infinite_values_are_counted_and_kept_out_of_means(table):
    summary = summarize(table)
    row = entry(summary, "all", "gray", "psnr")
    psnr = [20 * np.log10(255 / rmse) for rmse in (20, 40)]
    assert row["count"] == 3 and row["infinite"] == 1
    assert row["mean"] == pytest.approx(np.mean(psnr)) and row["std"] == pytest.approx(np.std(psnr))
    assert row["min"] == min(psnr) and row["max"] == max(psnr)
    assert row["verdict"] == "Poor"
    assert entry(summary, "all", "gray", "rmse")["mean"] == pytest.approx(20)
    assert entry(summary, "in_color", "gray", "psnr")["infinite"] == 0
    assert entry(summary, "in_color", "model", "psnr")["count"] == 2


def test_pooled_psnr_by_hand(table):
    summary = summarize(table)
    row = entry(summary, "all", "model", "pooled_psnr")
    assert row["mean"] == pytest.approx(10 * np.log10(255**2 / ((100 + 16 + 900) / 3)))
    assert row["mean"] < entry(summary, "all", "model", "psnr")["mean"] and row["infinite"] == 0
    row = entry(summary, "in_color", "gray", "pooled_psnr")
    assert row["mean"] == pytest.approx(10 * np.log10(255**2 / 1000))


def test_only_infinite_values_have_no_mean():
    numbers = {"psnr": np.inf, "ssim": 1.0, "rmse": 0.0, "snr": np.inf, "ciede2000": 0.0, "colorfulness": 0.0}
    numbers |= {"true_colorfulness": 0.0, "in_color": False}
    rows = [{"image": "a", "method": method, **numbers} for method in ("m", "gray")]
    summary = summarize(pd.DataFrame(rows))
    assert set(summary["subset"]) == {"all", "near_gray"}, "no photo is in colour"
    row = entry(summary, "all", "m", "psnr")
    assert np.isnan(row["mean"]) and row["infinite"] == 1 and row["verdict"] == "n/a"
    pooled = entry(summary, "all", "m", "pooled_psnr")
    assert pooled["mean"] == np.inf and pooled["infinite"] == 1
    assert "inf" in format_summary(pd.DataFrame(rows))


def test_ciede2000_has_a_row_and_no_verdict(table):
    summary = summarize(table)
    assert list(summary["metric"].unique()) == [
        "psnr", "ssim", "rmse", "snr", "pooled_psnr", "ciede2000", "colorfulness",
    ]  # fmt: skip
    row = entry(summary, "all", "model", "ciede2000")
    assert row["mean"] == pytest.approx(22 / 3) and row["std"] == pytest.approx(np.std([5, 2, 15]))
    assert (row["min"], row["max"], row["count"], row["infinite"], row["verdict"]) == (2, 15, 3, 0, "")
    assert entry(summary, "in_color", "gray", "ciede2000")["mean"] == 15


def test_text_shows_gray_beside_the_model(table):
    text = format_summary(table)
    assert "All photos: 3" in text and "Photos in colour: 2" in text
    assert "model beats gray, by PSNR, on 2 of 3 photos (66.7%)" in text
    assert "model beats gray, by PSNR, on 2 of 2 photos (100.0%)" in text
    assert "Colourfulness of the photos themselves: 40.0" in text
    lines = text.splitlines()
    i = next(i for i, line in enumerate(lines) if line.startswith("PSNR (dB)"))
    assert lines[i].split()[2] == "model" and lines[i + 1].split()[0] == "gray"
    assert lines[i + 1].split()[1:] == ["19.10", "3.01", "16.09", "22.11", "1", "Poor"]
    i = next(i for i, line in enumerate(lines) if line.startswith("CIEDE2000"))
    assert lines[i].split()[1:] == ["model", "7.33", "5.56", "2.00", "15.00", "0"]
    assert lines[i + 1].split() == ["gray", "10.00", "8.16", "0.00", "20.00", "0"]
    assert all(len(line) < 100 for line in lines)


def test_a_table_read_back_from_csv_gives_the_same_text(table, tmp_path):
    table.to_csv(tmp_path / "metrics.csv", index=False)
    assert format_summary(pd.read_csv(tmp_path / "metrics.csv")) == format_summary(table)
