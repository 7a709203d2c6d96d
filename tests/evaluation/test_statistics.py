"""Verdicts, summaries, wins and paired differences, by hand."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest

from colorlib.evaluation import compare_methods, count_wins, format_summary, summarize, verdict


def rows(image: str, ours: float, base: float, in_color: bool = True) -> list[dict]:
    """Two rows of an evaluation, with such RMSE."""
    found = []
    for method, rmse in (("model", ours), ("gray", base)):
        psnr = 20 * np.log10(255 / rmse) if rmse else np.inf
        row = {"image": image, "method": method, "psnr": psnr, "ssim": 1 - rmse / 100, "rmse": rmse, "snr": psnr - 6}
        row |= {"ciede2000": rmse / 2, "colorfulness": 20.0 + (method == "model") * ours}
        found.append(row | {"true_colorfulness": 40.0 * in_color, "in_color": in_color})
    return found


@pytest.fixture
def table():
    """Three photos, two of one name: gray is perfect on the second (black-and-white), the model wins on the others."""
    return pd.DataFrame(rows("a", 10.0, 20.0) + rows("b", 4.0, 0.0, in_color=False) + rows("a", 30.0, 40.0))


@pytest.mark.parametrize(
    ("metric", "words"),
    [("psnr", "inf 40.1 Excellent, 40 30 Good, 29.9 20 Acceptable, 19.9 Poor, nan n/a"), ("snr", "20.01 Good"),
     ("ssim", "0.91 Excellent, 0.9 0.7 Good, 0.69 0.5 Moderate, 0.49 -0.2 Poor"),
     ("pooled_psnr", "30 Good, 29 Acceptable"),
     ("rmse", "0 2.54 Excellent, 2.56 8.06 Good, 8.07 25.5 Acceptable, 25.6 Poor, nan n/a")],
)  # fmt: skip
def test_verdict(metric, words):
    for *values, word in (part.split() for part in words.split(", ")):
        assert [verdict(metric, float(value)) for value in values] == [word] * len(values)
    assert verdict("snr", 20) == verdict("snr", -np.inf) == "Below good"


# the summary


def entries(table):
    return summarize(table).set_index(["subset", "method", "metric"]).to_dict("index")


def test_infinite_values_are_counted_and_kept_out_of_means(table):
    summary = entries(table)
    metrics = ["psnr", "ssim", "rmse", "snr", "pooled_psnr", "ciede2000", "colorfulness"]
    assert [metric for subset, method, metric in summary if (subset, method) == ("all", "gray")] == metrics
    row = summary["all", "gray", "psnr"]
    psnr = [20 * np.log10(255 / rmse) for rmse in (20, 40)]
    assert (row["count"], row["infinite"], row["verdict"]) == (3, 1, "Poor")
    assert (row["mean"], row["std"]) == pytest.approx((np.mean(psnr), np.std(psnr)))
    assert (row["min"], row["max"]) == (min(psnr), max(psnr))
    assert summary["all", "gray", "rmse"]["mean"] == pytest.approx(20)
    assert summary["in_color", "gray", "psnr"]["infinite"] == 0
    assert summary["in_color", "model", "psnr"]["count"] == 2
    row = summary["all", "model", "ciede2000"]
    assert (row["min"], row["max"], row["verdict"]) == (2, 15, "") and row["mean"] == pytest.approx(22 / 3)
    row = summary["all", "model", "pooled_psnr"]  # that of the mean squared error
    assert row["mean"] == pytest.approx(10 * np.log10(255**2 / ((100 + 16 + 900) / 3))) and row["infinite"] == 0
    assert summary["in_color", "gray", "pooled_psnr"]["mean"] == pytest.approx(10 * np.log10(255**2 / 1000))
    assert summary["near_gray", "gray", "pooled_psnr"]["infinite"] == 1


def test_only_infinite_values_have_no_mean():
    table = pd.DataFrame(rows("a", 0.0, 0.0, in_color=False))
    summary = entries(table)
    assert {subset for subset, *_ in summary} == {"all", "near_gray"}, "no photo is in color"
    assert np.isnan(summary["all", "model", "psnr"]["mean"])
    assert summary["all", "model", "pooled_psnr"]["mean"] == np.inf
    assert "n/a" in format_summary(table) and "inf" in format_summary(table)


def test_text_shows_gray_below_the_model(table, tmp_path):
    text = format_summary(table)
    assert "All photos: 3" in text and "Photos in color: 2" in text and "Near-gray photos: 1" in text
    assert "model beats gray, by PSNR, on 2 of 3 photos (66.7%)" in text
    assert "Colorfulness of the photos themselves: 40.0" in text and "They are: b\n" in text
    lines = text.splitlines()
    i = next(i for i, line in enumerate(lines) if line.startswith("PSNR (dB)"))
    assert lines[i].split()[2] == "model"
    assert lines[i + 1].split() == ["gray", "19.10", "3.01", "16.09", "22.11", "1", "Poor"]
    i = next(i for i, line in enumerate(lines) if line.startswith("CIEDE2000"))
    assert lines[i].split()[1:] == ["model", "7.33", "5.56", "2.00", "15.00", "0"]
    assert all(len(line) < 100 for line in lines)
    table.to_csv(tmp_path / "metrics.csv", index=False)
    assert format_summary(pd.read_csv(tmp_path / "metrics.csv")) == text


def test_wins_pair_photos_of_one_name_and_a_tie_is_no_win(table):
    other = table[table["method"] == "model"].assign(method="other", psnr=1.0)
    both = pd.concat([table, other], ignore_index=True)
    assert count_wins(table) == count_wins(both) == (2, 3) and count_wins(both, "other") == (0, 3)
    assert count_wins(pd.DataFrame(rows("a", 5.0, 5.0) + rows("b", 0.0, 0.0) + rows("c", 4.0, 5.0))) == (1, 3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(lambda t: t.drop(columns="method"), "no column method"),
     (lambda t: t.drop(columns="in_color"), "no column in_color"),
     (lambda t: t.drop(columns="psnr"), "no column psnr"), (lambda t: t.assign(psnr="good"), "of psnr are no numbers"),
     (lambda t: t.assign(psnr=np.nan), "values of psnr are missing"), (lambda t: t[:0], "it has no rows"),
     (lambda t: t[t["method"] == "model"], "no method 'gray', only ..model"),
     (lambda t: pd.concat([t, t]), "rows are doubled, such as those of a: drop_duplicates"),
     (lambda t: pd.concat([t, t[:1]]), "of the photo a it has these rows: 2 of gray, 3 of model"),
     (lambda t: t[1:], "of the photo a it has these rows: 2 of gray, 1 of model")],
)  # fmt: skip
def test_what_is_no_table_of_an_evaluation_is_told_in_words(table, spoil, words):
    judged = 0
    for judge in (format_summary, summarize, count_wins, compare_methods):
        try:
            judge(spoil(table))
        except ValueError as error:
            judged += bool(re.search(words, str(error)))
    assert judged >= 2, "by all that need it"
    with pytest.raises(ValueError, match=words):
        format_summary(spoil(table))


# paired differences


def compare_rmse(pairs):
    """The comparison of RMSEs, (the model's, gray's) for each photo."""
    table = pd.DataFrame([row for number, pair in enumerate(pairs) for row in rows(f"{number}", *pair)])
    return compare_methods(table[["image", "method", "rmse"]]).set_index("metric")


def test_comparison_by_hand(table):
    five = pd.concat([table, pd.DataFrame(rows("c", 12.0, 8.0) + rows("d", 24.0, 32.0))], ignore_index=True)
    result = compare_methods(five)
    assert list(result.columns) == ["metric", "model", "gray", "difference", "low", "high", "wilcoxon", "permutation"]
    result = result.set_index("metric")
    rmse = result.loc["rmse"]
    assert (rmse["model"], rmse["gray"], rmse["difference"]) == pytest.approx((16, 20, -4))
    assert -10 <= rmse["low"] < -4 < rmse["high"] <= 4
    sums = [np.dot(signs, (10, 4, 10, 4, 8)) for signs in itertools.product((-1, 1), repeat=5)]
    assert rmse["permutation"] == np.mean(np.abs(sums) >= 20), "the sum of the five is −20"
    assert result.loc["ssim", "difference"] == pytest.approx(0.04)
    assert result.loc["colorfulness", "difference"] == pytest.approx(16)
    assert np.isfinite(result.to_numpy()).all()
    pd.testing.assert_frame_equal(compare_methods(five).set_index("metric"), result)  # the same seed every time


def test_pooled_psnr_of_both_methods_is_compared():
    ours, base = np.array([10.0, 4.0, 30.0, 12.0]), np.array([20.0, 5.0, 40.0, 8.0])
    pooled = compare_rmse(zip(ours, base, strict=True)).loc["pooled_psnr"]
    assert pooled["model"] == pytest.approx(10 * np.log10(255**2 / np.mean(ours**2)))
    assert pooled["difference"] == pytest.approx(10 * np.log10(np.mean(base**2) / np.mean(ours**2)))
    chance = np.random.default_rng(0)
    draws = [chance.integers(4, size=4) for _ in range(2000)]
    gains = [10 * np.log10(np.mean(base[drawn] ** 2) / np.mean(ours[drawn] ** 2)) for drawn in draws]
    assert pooled[["low", "high"]].tolist() == pytest.approx(np.quantile(gains, [0.025, 0.975]))


def test_photos_are_paired():
    """Ahead by the same on each photo, however much the photos differ: the interval has no width."""
    rmse = compare_rmse((3.0 + 7 * i, 5.0 + 7 * i) for i in range(9)).loc["rmse"]
    assert rmse[["difference", "low", "high"]].tolist() == pytest.approx([-2, -2, -2])
    assert rmse[["wilcoxon", "permutation"]].tolist() == pytest.approx([2 / 2**9, 2 / 2**9])
    alike = compare_rmse((3.0 + i, 3.0 + i) for i in range(9))
    assert (alike[["wilcoxon", "permutation"]] == 1).all(axis=None)


def test_a_few_large_differences_move_the_mean_and_not_the_ranks():
    rmse = compare_rmse([(4.0, 5.0)] * 20 + [(205.0, 5.0)]).loc["rmse"]
    assert rmse["wilcoxon"] < 0.01 < rmse["permutation"]


def test_other_methods_both_directions_and_chosen_metrics():
    table = pd.DataFrame(rows("a", 10.0, 20.0) + rows("b", 4.0, 9.0))
    table = table.replace({"method": {"model": "release", "gray": "seed"}})[["image", "method", "psnr"]]
    there, back = compare_methods(table, "release", "seed"), compare_methods(table, "seed", "release")
    assert list(there["metric"]) == ["psnr"] and list(there.columns[:4]) == ["metric", "release", "seed", "difference"]
    assert np.allclose(there["difference"], -back["difference"])
    assert np.allclose(there["low"], -back["high"]) and np.allclose(there["high"], -back["low"])
