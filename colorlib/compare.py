"""Is one method better than another on these photos, or was it luck? Paired differences and their intervals.

Checked by tests/test_compare.py.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

MAX = 255  # the highest level of an 8-bit channel


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


def compare_methods(metrics: pd.DataFrame, method: str = "model", other: str = "gray") -> pd.DataFrame:
    """By how much a method is ahead of another on the same photos, with 95 % bootstrap intervals.

    metrics: the table of `evaluation.evaluate_model`, with both methods for each image. Returns a row a metric
    (psnr, ssim, rmse, snr, ciede2000, colorfulness, pooled_psnr): metric, method's and other's mean, difference, low,
    high. Photos with an infinite value are left out of that metric. Raises `ValueError` if a method is missing.
    """
    for name in (method, other):
        if name not in set(metrics["method"]):
            raise ValueError(f"the table has no method {name!r}, only {sorted(set(metrics['method']))}")
    mine, theirs = (metrics[metrics["method"] == name].reset_index(drop=True) for name in (method, other))
    if list(mine["image"]) != list(theirs["image"]):
        raise ValueError(f"{method} and {other} were scored on different photos: score them together")
    rows = []
    for metric in ("psnr", "ssim", "rmse", "snr", "ciede2000", "colorfulness"):
        x, y = mine[metric].to_numpy(), theirs[metric].to_numpy()
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        rows.append([metric, x.mean(), y.mean(), *bootstrap_interval(lambda i, d=x - y: d[i].mean(), len(x))])
    x, y = mine["rmse"].to_numpy(), theirs["rmse"].to_numpy()
    interval = bootstrap_interval(lambda i: pooled_psnr(x[i]) - pooled_psnr(y[i]), len(x))
    rows.append(["pooled_psnr", pooled_psnr(x), pooled_psnr(y), *interval])
    table = pd.DataFrame(rows, columns=["metric", method, other, "low", "high"])
    table.insert(3, "difference", table[method] - table[other])
    return table
