"""Is one method better than another on these photos, or was it luck? Paired differences, their intervals and tests.

Checked by tests/test_compare.py.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

MAX = 255  # the highest level of an 8-bit channel
METRICS = ("psnr", "ssim", "rmse", "snr", "ciede2000", "ab_error", "ab_histogram", "lpips", "colorfulness",
           "colorfulness_error")  # fmt: skip


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], photos: int, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Where a number would lie had other photos of the same kind been drawn: a percentile bootstrap interval.

    statistic: from the numbers of photos, int (photos,), drawn with replacement, to the value. Returns the lower and
    the upper bound that hold `level` of `draws` draws. Efron 1979, doi:10.1214/aos/1176344552. Raises `ValueError`
    without photos.
    """
    if photos < 1:
        raise ValueError("expected at least one photo to draw from, got none")
    chance = np.random.default_rng(seed)
    values = [statistic(chance.integers(photos, size=photos)) for _ in range(draws)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def pooled_psnr(rmse: Sequence[float] | np.ndarray) -> float:
    """PSNR of the mean MSE of several pictures. rmse: of each, in 8-bit levels. Returns dB."""
    mse = np.mean(np.square(rmse))
    return float(10 * np.log10(MAX**2 / mse)) if mse else np.inf


def count_wins(metrics: pd.DataFrame, method: str = "model") -> tuple[int, int]:
    """Count the photos on which `method` has a higher PSNR than gray (a tie is no win), and all photos."""
    nth = metrics.groupby(["method", "image"]).cumcount()  # tells photos of one name apart
    psnr = metrics.assign(nth=nth).pivot(index=["image", "nth"], columns="method", values="psnr")
    return int((psnr[method] > psnr["gray"]).sum()), int(psnr[method].count())


def wilcoxon_test(differences: Sequence[float] | np.ndarray) -> float:
    """The p-value of paired differences by Wilcoxon's signed ranks, two-sided: are they as often up as down?

    Ranks do not care how large the largest is, so that a few photos cannot decide; 1 if all are zero. Wilcoxon 1945,
    doi:10.2307/3001968, by SciPy. Raises `ValueError` without differences.
    """
    differences = np.asarray(differences, dtype=float)
    if not differences.size:
        raise ValueError("expected paired differences to test, got none")
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def permutation_test(differences: Sequence[float] | np.ndarray, draws: int = 10_000, seed: int = 0) -> float:
    """The p-value of a mean of paired differences, two-sided, by swapping the two methods on each photo at random.

    If the methods were alike, a photo's difference could as well have the other sign: the share of `draws` swaps whose
    mean is as far from zero as the real one, which counts as a draw itself. Raises `ValueError` without differences.
    """
    differences = np.asarray(differences, dtype=float)
    if not differences.size:
        raise ValueError("expected paired differences to test, got none")
    chance, found = np.random.default_rng(seed), abs(differences.mean())
    signs = (chance.choice([-1.0, 1.0], size=len(differences)) for _ in range(draws))
    means = np.array([(sign * differences).mean() for sign in signs])
    return float((1 + (np.abs(means) >= found - 1e-12).sum()) / (draws + 1))


def compare_methods(metrics: pd.DataFrame, method: str = "model", other: str = "gray") -> pd.DataFrame:
    """By how much a method is ahead of another on the same photos: 95 % bootstrap intervals and paired tests.

    metrics: the table of `evaluation.evaluate_model`, with both methods for each image. Returns a row a metric (those
    of METRICS that the table has, and pooled_psnr): metric, method's and other's mean, difference, low, high, and the
    p-values wilcoxon and permutation (of pooled_psnr: of the squared errors). Photos with an infinite value are left
    out of that metric. Raises `ValueError` if a method is missing.
    """
    for name in (method, other):
        if name not in set(metrics["method"]):
            raise ValueError(f"the table has no method {name!r}, only {sorted(set(metrics['method']))}")
    mine, theirs = (metrics[metrics["method"] == name].reset_index(drop=True) for name in (method, other))
    if list(mine["image"]) != list(theirs["image"]):
        raise ValueError(f"{method} and {other} were scored on different photos: score them together")
    rows = []
    for metric in (metric for metric in METRICS if metric in metrics):
        x, y = mine[metric].to_numpy(), theirs[metric].to_numpy()
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        interval = bootstrap_interval(lambda i, d=x - y: d[i].mean(), len(x))
        rows.append([metric, x.mean(), y.mean(), *interval, wilcoxon_test(x - y), permutation_test(x - y)])
    x, y = mine["rmse"].to_numpy(), theirs["rmse"].to_numpy()
    interval = bootstrap_interval(lambda i: pooled_psnr(x[i]) - pooled_psnr(y[i]), len(x))
    tests = wilcoxon_test(x**2 - y**2), permutation_test(x**2 - y**2)
    rows.append(["pooled_psnr", pooled_psnr(x), pooled_psnr(y), *interval, *tests])
    table = pd.DataFrame(rows, columns=["metric", method, other, "low", "high", "wilcoxon", "permutation"])
    table.insert(3, "difference", table[method] - table[other])
    return table
