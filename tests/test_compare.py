"""Comparisons: bootstrap intervals, pooled PSNR, wins and paired differences, by hand."""

import numpy as np
import pandas as pd
import pytest

from colorlib.compare import (
    bootstrap_interval,
    compare_methods,
    count_wins,
    permutation_test,
    pooled_psnr,
    wilcoxon_test,
)

METRICS = ["psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness"]

# intervals


def test_interval_of_two_photos_by_hand():
    """Of the draws of two, a quarter has the mean 0, half 1/2, a quarter 1."""
    values = np.array([0.0, 1.0])

    def mean(chosen):
        return values[chosen].mean()

    assert bootstrap_interval(mean, 2) == (0, 1)
    assert bootstrap_interval(mean, 2, level=0.4) == (0.5, 0.5)
    assert bootstrap_interval(mean, 2, level=0.6) == (0, 1)


def test_interval_of_one_photo_has_no_width():
    assert bootstrap_interval(lambda chosen: 7.5 + chosen.sum(), 1) == (7.5, 7.5)


def test_draws_are_the_numbers_of_photos_with_repeats():
    seen = []
    bootstrap_interval(lambda chosen: seen.append(chosen) or 0.0, photos=5, draws=40)
    assert len(seen) == 40 and all(chosen.shape == (5,) and chosen.dtype.kind == "i" for chosen in seen)
    assert set(np.concatenate(seen)) == {0, 1, 2, 3, 4}
    assert any(len(set(chosen)) < 5 for chosen in seen), "drawn with replacement"


def test_interval_of_a_mean_is_that_of_the_textbook():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    low, high = bootstrap_interval(lambda chosen: values[chosen].mean(), 400)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert type(low) is float and type(high) is float


def test_interval_holds_the_true_mean_about_as_often_as_it_says():
    chance = np.random.default_rng(2)
    held = 0
    for _ in range(100):
        values = chance.normal(5, 1, size=40)
        low, high = bootstrap_interval(lambda chosen, v=values: v[chosen].mean(), 40, level=0.9, draws=200)
        held += low <= 5 <= high
    assert 80 <= held <= 98


def test_a_higher_level_is_wider():
    values = np.random.default_rng(3).normal(size=50)
    widths = [np.subtract(*bootstrap_interval(lambda i: values[i].mean(), 50, level)[::-1]) for level in (0.5, 0.9, 1)]
    assert 0 < widths[0] < widths[1] < widths[2]


def test_one_seed_gives_one_interval():
    values = np.random.default_rng(4).normal(size=30)

    def interval(seed):
        return bootstrap_interval(lambda chosen: values[chosen].mean(), 30, draws=100, seed=seed)

    assert interval(0) == interval(0) and interval(0) != interval(1)
    assert interval(0) == bootstrap_interval(lambda chosen: values[chosen].mean(), 30, draws=100)


def test_no_photo_to_draw_from():
    with pytest.raises(ValueError, match="at least one photo"):
        bootstrap_interval(lambda chosen: 0.0, 0)


# pooled PSNR


def test_pooled_psnr_by_hand():
    expected = 10 * np.log10(255**2 / ((100 + 400 + 1600) / 3))
    for rmse in ([10, 20, 40], np.array([10.0, 20.0, 40.0]), pd.Series([10.0, 20.0, 40.0], index=[7, 1, 9])):
        assert pooled_psnr(rmse) == pytest.approx(expected)
    assert pooled_psnr([255]) == 0
    assert type(pooled_psnr(np.array([3.0]))) is float


def test_pooled_psnr_is_below_the_mean_of_psnrs():
    rmse = np.array([1.0, 60.0])
    assert pooled_psnr(rmse) < (20 * np.log10(255 / rmse)).mean()


def test_pooled_psnr_is_infinite_only_if_all_pictures_are_perfect():
    assert pooled_psnr([0, 0.0]) == np.inf
    assert pooled_psnr([0, 2]) == pytest.approx(10 * np.log10(255**2 / 2))


# wins


def rows(image: str, ours: float, base: float) -> list[dict]:
    """Two rows of an evaluation, with such RMSE."""
    found = []
    for method, rmse in (("model", ours), ("gray", base)):
        psnr = 20 * np.log10(255 / rmse) if rmse else np.inf
        numbers = {"psnr": psnr, "ssim": 1 - rmse / 100, "rmse": rmse, "snr": psnr - 6, "ciede2000": rmse / 2}
        found.append({"image": image, "method": method} | numbers | {"colorfulness": 20.0 + (method == "model") * ours})
    return found


@pytest.fixture
def table():
    """Three photos, two of one name: gray is perfect on the second (black-and-white), the model wins on the others."""
    return pd.DataFrame(rows("a", 10.0, 20.0) + rows("b", 4.0, 0.0) + rows("a", 30.0, 40.0))


def test_wins_pair_photos_of_one_name(table):
    assert count_wins(table) == (2, 3)
    assert count_wins(table.sample(frac=1, random_state=3).sort_values("method", kind="stable")[::-1])[1] == 3


def test_a_tie_is_no_win():
    assert count_wins(pd.DataFrame(rows("a", 5.0, 5.0) + rows("b", 0.0, 0.0) + rows("c", 4.0, 5.0))) == (1, 3)


def test_two_evaluations_in_one_table(table):
    other = table.replace({"method": {"model": "other"}})
    other.loc[other["method"] == "other", "psnr"] = 1.0
    both = pd.concat([table, other], ignore_index=True)
    assert count_wins(both, "model") == (2, 3) and count_wins(both, "other") == (0, 3)


# tests of paired differences


def test_p_values_of_four_photos_by_hand():
    """All up: of the 16 ways to set four signs, two are as extreme."""
    assert wilcoxon_test([1.0, 2.0, 3.0, 4.0]) == pytest.approx(2 / 16)
    assert permutation_test([1.0, 2.0, 3.0, 4.0]) == pytest.approx(2 / 16, abs=0.02)
    assert permutation_test([1.0, -1.0, 2.0, -2.0]) == 1
    assert wilcoxon_test([0.0, 0.0]) == permutation_test([0.0, 0.0]) == 1, "no difference at all"


def test_one_large_difference_moves_the_mean_and_not_the_ranks():
    values = np.array([-1.0] * 20 + [200.0])
    assert wilcoxon_test(values) < 0.01 < permutation_test(values)


def test_p_values_of_luck_are_spread_evenly():
    chance = np.random.default_rng(6)
    found = [(wilcoxon_test(d), permutation_test(d, draws=200)) for d in chance.normal(size=(100, 30))]
    assert all(0.25 < share < 0.75 for share in (np.array(found) < 0.5).mean(axis=0))


@pytest.mark.parametrize("test", [wilcoxon_test, permutation_test])
def test_no_difference_to_test(test):
    with pytest.raises(ValueError, match="expected paired differences"):
        test([])


# paired differences


@pytest.fixture
def five(table):
    """Two more photos, so that hardly any draw holds the black-and-white one alone."""
    return pd.concat([table, pd.DataFrame(rows("c", 12.0, 8.0) + rows("d", 24.0, 32.0))], ignore_index=True)


def test_comparison_by_hand(five):
    result = compare_methods(five)
    assert list(result.columns) == ["metric", "model", "gray", "difference", "low", "high", "wilcoxon", "permutation"]
    assert list(result["metric"]) == [*METRICS, "pooled_psnr"]
    result = result.set_index("metric")
    rmse = result.loc["rmse"]
    assert (rmse["model"], rmse["gray"], rmse["difference"]) == pytest.approx((16, 20, -4))
    differences = np.array([-10, 4, -10, 4, -8])
    expected = bootstrap_interval(lambda chosen: differences[chosen].mean(), 5)
    assert (rmse["low"], rmse["high"]) == pytest.approx(expected) and -10 <= rmse["low"] < -4 < rmse["high"] <= 4
    assert result.loc["ciede2000", "difference"] == pytest.approx(-2)
    assert result.loc["ssim", "difference"] == pytest.approx(0.04)
    color = result.loc["colorfulness"]
    assert (color["model"], color["gray"], color["difference"]) == pytest.approx((36, 20, 16))
    assert np.isfinite(result.to_numpy()).all()


def test_infinite_values_are_left_out_of_both_methods(five):
    """Gray's PSNR and SNR of the black-and-white photo are infinite: that photo counts for neither there."""
    result = compare_methods(five).set_index("metric")
    ours, base = (20 * np.log10(255 / np.array(rmse)) for rmse in ([10, 30, 12, 24], [20, 40, 8, 32]))
    interval = bootstrap_interval(lambda chosen: (ours - base)[chosen].mean(), 4)
    for metric, offset in (("psnr", 0), ("snr", 6)):
        row = result.loc[metric]
        assert row["model"] == pytest.approx(ours.mean() - offset)
        assert row["gray"] == pytest.approx(base.mean() - offset)
        assert row["difference"] == pytest.approx((ours - base).mean())
        assert (row["low"], row["high"]) == pytest.approx(interval)


def test_pooled_psnr_of_both_methods_is_compared():
    ours, base = np.array([10.0, 4.0, 30.0, 12.0]), np.array([20.0, 5.0, 40.0, 8.0])
    pairs = zip("abcd", ours, base, strict=True)
    result = compare_methods(pd.DataFrame([row for pair in pairs for row in rows(*pair)])).iloc[-1]
    assert result["metric"] == "pooled_psnr"
    assert result["model"] == pytest.approx(10 * np.log10(255**2 / np.mean(ours**2)))
    assert result["gray"] == pytest.approx(10 * np.log10(255**2 / np.mean(base**2)))
    assert result["difference"] == pytest.approx(10 * np.log10(np.mean(base**2) / np.mean(ours**2)))
    low, high = bootstrap_interval(lambda i: 10 * np.log10(np.mean(base[i] ** 2) / np.mean(ours[i] ** 2)), 4)
    assert (result["low"], result["high"]) == pytest.approx((low, high))
    assert low < result["difference"] < high


def test_photos_are_paired():
    """Ahead by the same on each photo, however much the photos differ: the interval has no width."""
    table = pd.DataFrame([row for number in range(9) for row in rows(f"{number}", 3.0 + 7 * number, 5.0 + 7 * number)])
    row = compare_methods(table).set_index("metric").loc["rmse"]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((-2, -2, -2))


def test_luck_and_merit_are_told_apart():
    chance = np.random.default_rng(5)
    base = chance.uniform(10, 30, size=60)
    for gain, sure in ((0.0, False), (2.0, True)):
        ours = base - gain + chance.normal(0, 3, size=60)
        table = pd.DataFrame([row for i in range(60) for row in rows(f"{i}", ours[i], base[i])])
        result = compare_methods(table).set_index("metric")
        assert (result.loc["rmse", "wilcoxon"] < 0.01) == (result.loc["rmse", "permutation"] < 0.01) == sure
        assert (result.loc["rmse", "high"] < 0) == sure and (result.loc["psnr", "low"] > 0) == sure
        assert result.loc["rmse", "low"] < result.loc["rmse", "difference"] < result.loc["rmse", "high"]


def test_same_table_same_intervals(five):
    pd.testing.assert_frame_equal(compare_methods(five), compare_methods(five))


def test_other_methods_and_both_directions():
    table = pd.DataFrame(rows("a", 10.0, 20.0) + rows("b", 4.0, 9.0))
    table = table.replace({"method": {"model": "release", "gray": "seed"}})
    there, back = compare_methods(table, "release", "seed"), compare_methods(table, "seed", "release")
    assert list(there.columns) == ["metric", "release", "seed", "difference", "low", "high", "wilcoxon", "permutation"]
    assert np.allclose(there["difference"], -back["difference"])
    assert np.allclose(there["low"], -back["high"]) and np.allclose(there["high"], -back["low"])


def test_a_missing_method_is_named_with_those_there_are(table):
    with pytest.raises(ValueError, match=r"no method 'release', only \['gray', 'model'\]"):
        compare_methods(table, "release")
    with pytest.raises(ValueError, match="no method 'seed'"):
        compare_methods(table, "model", "seed")


def test_methods_of_different_photos_are_not_compared(table):
    renamed = table.copy()
    renamed.loc[3, "image"] = "c"
    for wrong in (renamed, table.drop(index=3)):
        with pytest.raises(ValueError, match="model and gray were scored on different photos"):
            compare_methods(wrong)
